"""Whether a value satisfies a JSON schema, for the part of the standard that constrained decoding uses. Pure.

No library: it would be a dependency of the operator for one yes or no. A keyword that is not known here gives no judgement instead of a
wrong one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

_NOTES = {"$schema", "$id", "title", "description", "default", "examples", "format", "$comment"}
_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
}
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)```\s*", re.DOTALL)


class _UnknownError(Exception):
    """The schema uses something that is not known here."""


def satisfies(text: str, schema: Mapping[str, Any]) -> bool | None:
    """Whether the answer `text` is JSON that satisfies the schema (a Markdown fence around it is allowed). None = cannot be judged."""
    fenced = _FENCE.fullmatch(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return False
    try:
        return _valid(value, schema)
    except (_UnknownError, TypeError, re.error, RecursionError):
        return None


def _valid(value: Any, schema: Any) -> bool:
    if isinstance(schema, bool):
        return schema
    unknown = [k for k in schema if k not in _CHECKS and k not in _NOTES]
    if unknown:
        raise _UnknownError(unknown[0])
    return all(_CHECKS[key](value, wanted, schema) for key, wanted in schema.items() if key in _CHECKS)


def _kind(value: Any, wanted: Any, _: Any) -> bool:
    names = wanted if isinstance(wanted, list) else [wanted]
    if any(n not in _KINDS for n in names):
        raise _UnknownError(str(wanted))
    return any(_KINDS[n](value) for n in names)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _properties(value: Any, wanted: Any, _: Any) -> bool:
    return not isinstance(value, dict) or all(_valid(value[k], s) for k, s in wanted.items() if k in value)


def _additional(value: Any, wanted: Any, schema: Any) -> bool:
    known = schema.get("properties", {})
    return not isinstance(value, dict) or all(_valid(v, wanted) for k, v in value.items() if k not in known)


def _number(compare: Callable[[float, float], bool]) -> Callable[[Any, Any, Any], bool]:
    return lambda value, wanted, _: not _KINDS["number"](value) or (math.isfinite(value) and compare(value, wanted))


def _size(kind: type[list[Any]] | type[str], least: bool) -> Callable[[Any, Any, Any], bool]:
    return lambda value, wanted, _: not isinstance(value, kind) or (len(value) >= wanted if least else len(value) <= wanted)


_CHECKS: Mapping[str, Callable[[Any, Any, Any], bool]] = {
    "type": _kind,
    "enum": lambda value, wanted, _: any(_same(value, w) for w in wanted),
    "const": lambda value, wanted, _: _same(value, wanted),
    "properties": _properties,
    "additionalProperties": _additional,
    "required": lambda value, wanted, _: not isinstance(value, dict) or all(k in value for k in wanted),
    "items": lambda value, wanted, _: not isinstance(value, list) or all(_valid(v, wanted) for v in value),
    "minItems": _size(list, True),
    "maxItems": _size(list, False),
    "minLength": _size(str, True),
    "maxLength": _size(str, False),
    "pattern": lambda value, wanted, _: not isinstance(value, str) or re.search(wanted, value) is not None,
    "minimum": _number(lambda v, w: v >= w),
    "maximum": _number(lambda v, w: v <= w),
    "exclusiveMinimum": _number(lambda v, w: v > w),
    "exclusiveMaximum": _number(lambda v, w: v < w),
    "anyOf": lambda value, wanted, _: any(_valid(value, s) for s in wanted),
    "allOf": lambda value, wanted, _: all(_valid(value, s) for s in wanted),
    "oneOf": lambda value, wanted, _: sum(_valid(value, s) for s in wanted) == 1,
}
