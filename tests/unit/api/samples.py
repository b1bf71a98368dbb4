"""Objects with every field set, made from the CRDs' schemas: what the API server keeps of them is what it knows."""

from __future__ import annotations

import re
from typing import Any

from polyfleet.api import API_VERSION, BY_NAME, Kind

from tools.gen_crds import root_schema

Schema = dict[str, Any]

# A string for each pattern that the models use.
_STRINGS = ("word", "1.5", "5m", "64Gi", "2026-11", "hf://Org/Model", "USD", "example.com/key", "NAME", "50%")


def full_spec(kind: str) -> Any:
    return sample(root_schema(BY_NAME[kind])["properties"]["spec"], f"{kind}.spec")


def full_status(kind: str) -> Any:
    return sample(root_schema(BY_NAME[kind])["properties"]["status"], f"{kind}.status")


def wrap(kind: Kind, name: str, spec: Any, namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if kind.namespaced and namespace else {})}
    return {"apiVersion": API_VERSION, "kind": kind.name, "metadata": metadata, "spec": spec}


def sample(schema: Schema, where: str) -> Any:
    """A value that uses every property, map and list below."""
    if schema.get("x-kubernetes-int-or-string"):
        return 1
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"anything": {"goes": True}}
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema["type"]
    if kind == "object":
        if "properties" in schema:
            return {name: sample(child, f"{where}.{name}") for name, child in schema["properties"].items()}
        return {"key": sample(schema["additionalProperties"], f"{where}.key")}
    if kind == "array":
        return [sample(schema["items"], f"{where}[]")]
    if kind == "integer":
        return int(schema.get("minimum", 1))
    if kind == "boolean":
        return True
    assert kind == "string", where
    return _string(schema, where)


def _string(schema: Schema, where: str) -> str:
    if schema.get("format") == "date-time":
        return "2026-11-24T10:12:00Z"
    for text in _STRINGS:
        fits = re.search(schema["pattern"], text) is not None if "pattern" in schema else True
        if fits and len(text) <= schema.get("maxLength", 1000):
            return text.ljust(schema.get("minLength", 0), ".")
    raise AssertionError(f"{where}: no sample fits {schema}")
