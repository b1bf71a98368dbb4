"""Observed states to plain JSON values and back, by their annotations. Unknown fields and wrong kinds are named with their place.

The placer has a codec of its own for its values; this one also knows mappings and raw subtrees, which observed objects hold.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class FormError(ValueError):
    """A document that does not have the form of its kind: place, value, what is allowed."""


def encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(part) for key, part in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [encode(part) for part in value]
    return value


def decode(kind: type[T], value: Any, at: str) -> T:
    return _decode(kind, value, at)  # type: ignore[no-any-return]


def _decode(kind: Any, value: Any, at: str) -> Any:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        arms = get_args(kind)
        if value is None and type(None) in arms:
            return None
        return _decode(next(arm for arm in arms if arm is not type(None)), value, at)
    if origin is tuple:
        if not isinstance(value, list):
            raise FormError(f"{at}: {_shown(value)}, must be a list")
        return tuple(_decode(get_args(kind)[0], part, f"{at}[{index}]") for index, part in enumerate(value))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise FormError(f"{at}: {_shown(value)}, must be an object")
        return {key: _decode(get_args(kind)[1], part, f"{at}.{key}") for key, part in value.items()}
    if is_dataclass(kind):
        return _record(kind, value, at)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise FormError(f"{at}: {_shown(value)}, must be {kind.__name__}")
    return value


@lru_cache(maxsize=64)
def _shape(kind: Any) -> tuple[Mapping[str, Any], frozenset[str]]:
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return get_type_hints(kind), frozenset(needed)


def _record(kind: Any, value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise FormError(f"{at}: {_shown(value)}, must be an object")
    hints, needed = _shape(kind)
    if unknown := sorted(set(value) - set(hints)):
        raise FormError(f"{at}: unknown field {unknown[0]!r}")
    if missing := sorted(needed - set(value)):
        raise FormError(f"{at}: field {missing[0]!r} is missing")
    return kind(**{key: _decode(hints[key], part, f"{at}.{key}") for key, part in value.items()})


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _NotFinite(float):
    """Marks a number that JSON does not have, so that its place can be told."""


def read_json(text: str, name: str) -> Any:
    """A JSON document; NaN and Infinity, which Python would let pass, are refused with their place."""
    try:
        body = json.loads(text, parse_constant=lambda word: _NotFinite(word.replace("Infinity", "inf")))
    except json.JSONDecodeError as error:
        raise FormError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise FormError("it is nested too deeply") from error
    if (found := _not_finite(body, name)) is not None:
        raise FormError(f"{found}, must be a finite number")
    return body


def _not_finite(value: Any, at: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{at}: {value}"
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if (found := _not_finite(part, f"{at}.{key}" if isinstance(key, str) else f"{at}[{key}]")) is not None:
            return found
    return None
