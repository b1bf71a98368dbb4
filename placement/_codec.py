"""Frozen dataclasses to plain JSON values and back, by their annotations. Unknown keys and wrong kinds are named, not ignored."""

from __future__ import annotations

import types as _types
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from placement.types import PlacementError

T = TypeVar("T")


def encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    return value


def decode(kind: type[T], value: Any, at: str) -> T:
    return _decode(kind, value, at)  # type: ignore[no-any-return]


def _decode(kind: Any, value: Any, at: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, _types.UnionType):
        arms = get_args(kind)
        if value is None and type(None) in arms:
            return None
        return _decode(next(a for a in arms if a is not type(None)), value, at)
    if origin is tuple:
        if not isinstance(value, list):
            raise PlacementError(f"{at}: {value!r}, must be a list")
        return tuple(_decode(get_args(kind)[0], v, f"{at}[{i}]") for i, v in enumerate(value))
    if is_dataclass(kind):
        return _record(kind, value, at)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise PlacementError(f"{at}: {value!r}, allowed {', '.join(str(k.value) for k in kind)}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise PlacementError(f"{at}: {value!r}, must be {kind.__name__}")
    return value


def _record(kind: Any, value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise PlacementError(f"{at}: {value!r}, must be an object")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise PlacementError(f"{at}: unknown field {unknown[0]!r}")
    try:
        return kind(**{k: _decode(hints[k], v, f"{at}.{k}") for k, v in sorted(value.items())})
    except TypeError as error:
        raise PlacementError(f"{at}: {error}") from error
