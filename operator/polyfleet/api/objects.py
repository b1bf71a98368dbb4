"""Parses a whole object (apiVersion, kind, metadata, spec, status) into the model of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from polyfleet.api.kinds import API_VERSION, BY_NAME
from polyfleet.api.types import Model


class ObjectError(ValueError):
    """An object that is not one of ours, or does not fit its schema: every finding with its field."""


def parse_object(value: Mapping[str, Any]) -> Model:
    """The model of the object's kind; metadata is not looked at. Rules in CEL are the API server's part."""
    kind = BY_NAME.get(str(value.get("kind")))
    if kind is None or value.get("apiVersion") != API_VERSION:
        known = ", ".join(sorted(BY_NAME))
        raise ObjectError(f"{value.get('apiVersion')}/{value.get('kind')} is no kind of polyfleet; known in {API_VERSION}: {known}")
    name = (value.get("metadata") or {}).get("name", "?")
    try:
        return kind.model.parse({key: value[key] for key in ("spec", "status") if key in value})
    except ValidationError as error:
        raise ObjectError(f"{kind.name} {name}: {describe(error)}") from error


def describe(error: ValidationError, prefix: str = "") -> str:
    """One line per finding: the field's path in API spelling and what is wrong."""
    parts = []
    for item in error.errors(include_url=False):
        path = prefix + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"])
        got = "" if item["type"] in ("missing", "extra_forbidden") else f" (got {str(item['input'])[:80]!r})"
        parts.append(f"{path.lstrip('.')}: {item['msg']}{got}")
    return "; ".join(parts)
