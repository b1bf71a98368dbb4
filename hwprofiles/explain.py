"""Turns a schema error into sentences for whoever wrote the file: the field, the value, what is allowed, what to write instead."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from hwprofiles.schema import DATE_PATTERN, DECIMAL_PATTERN, DURATION_PATTERN, QUANTITY_PATTERN

# What a pattern means, in words; by pattern.
_FORMS = {
    DECIMAL_PATTERN: 'a non-negative decimal string such as "2.20"',
    DURATION_PATTERN: "a duration of ms, s, m and h such as 250ms or 1h30m (no d)",
    QUANTITY_PATTERN: "a number with Ki, Mi, Gi or Ti such as 64Gi (not GB, not Ei)",
    DATE_PATTERN: '"YYYY-MM" or "YYYY-MM-DD" in quotes',
}


def explain(error: ValidationError, prefix: str = "") -> list[str]:
    """One sentence per finding, in the order of the fields."""
    return list(_sentences(error, prefix))


def _sentences(error: ValidationError, prefix: str) -> Iterator[str]:
    for item in error.errors(include_url=False):
        path = (prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"])).lstrip(".")
        kind, value = item["type"], item["input"]
        if kind == "missing":
            yield f"{path}: missing; it is required"
        elif kind == "extra_forbidden":
            yield f"{path}: unknown field; see kubectl explain hwp.spec or docs/reference/hardwareprofile.md"
        else:
            yield f"{path}: {_what(kind, item.get('ctx', {}), item['msg'])} (got {_shown(value)}){_hint(kind, value)}"


def _what(kind: str, ctx: dict[str, Any], message: str) -> str:
    if kind == "string_pattern_mismatch":
        return f"must be {_FORMS.get(str(ctx.get('pattern')), 'of the pattern ' + str(ctx.get('pattern')))}"
    if kind == "string_type":
        return "must be a string"
    return message[:1].lower() + message[1:]


def _hint(kind: str, value: object) -> str:
    if kind != "string_type":
        return ""
    if isinstance(value, bool):
        return "; write it in quotes"
    if isinstance(value, float) and value != value:
        return "; what is not known is left out"
    if isinstance(value, int | float):
        return f'; a float loses digits, write it in quotes: "{value}"'
    if isinstance(value, datetime.date):
        return f'; YAML reads an unquoted date as a date, write it in quotes: "{value}"'
    return ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
