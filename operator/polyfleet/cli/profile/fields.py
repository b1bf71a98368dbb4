"""What the schema says of one field: its names, its allowed values in words, the nearest name to a typing error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError

from hwprofiles import HardwareProfileSpec
from hwprofiles.schema import DATE_PATTERN, DECIMAL_PATTERN, DURATION_PATTERN, QUANTITY_PATTERN
from polyfleet.cli.failure import listed, nearest

Loc = Sequence[int | str]

_PATTERNS = {
    DECIMAL_PATTERN: 'a decimal number in quotes, for example "2.20"',
    DURATION_PATTERN: "a duration of ms, s, m and h, for example 250ms or 1h30m",
    QUANTITY_PATTERN: "a number with Ki, Mi, Gi or Ti, for example 64Gi",
    DATE_PATTERN: 'YYYY-MM or YYYY-MM-DD in quotes, for example "2026-11-24"',
}


@lru_cache(maxsize=8)
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True)


def faults(error: ValidationError, model: type[BaseModel] = HardwareProfileSpec, at: str = "spec") -> list[tuple[str, str]]:
    """(path, message) per finding: the value, what is allowed, and for an unknown field the name that was meant. `model`: whose schema was
    broken; `at`: where it stands in its object."""
    return [_fault(model, at, item["loc"], str(item["type"]), str(item["msg"]), item["input"]) for item in error.errors(include_url=False)]


def _fault(model: type[BaseModel], at: str, loc: Loc, kind: str, message: str, value: object) -> tuple[str, str]:
    path = at + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part != "[key]")
    path = path.lstrip(".")
    if kind == "extra_forbidden":
        known = names(loc[:-1], model)
        near = nearest(str(loc[-1]), known, 1)
        return path, f"unknown field; {f'did you mean {near[0]}?' if near else f'known here: {listed(known, 12)}'}"
    allowed = allowed_text(_node(loc, model)) or message
    if kind == "missing":
        return path, f"missing; it must be {allowed}"
    return path, f"{_shown(value)} is not allowed; it must be {allowed}"


def names(loc: Loc, model: type[BaseModel] = HardwareProfileSpec) -> list[str]:
    """The fields that may stand at this place."""
    return sorted(_node(loc, model).get("properties", {}))


def _node(loc: Loc, model: type[BaseModel]) -> Mapping[str, Any]:
    """The part of the schema at a place; {} where the schema does not know it."""
    whole = _schema(model)
    node: Mapping[str, Any] = _resolved(whole, whole)
    for part in loc:
        if part == "[key]":
            break
        if isinstance(part, int):
            node = _resolved(node.get("items", {}), whole)
        elif part in node.get("properties", {}):
            node = _resolved(node["properties"][part], whole)
        else:
            more = node.get("additionalProperties")
            patterns = list(node.get("patternProperties", {}).values())
            node = _resolved(more if isinstance(more, Mapping) else patterns[0] if patterns else {}, whole)
    return node


def _resolved(node: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follows references, and of `X or null` takes X."""
    for _ in range(8):
        if "$ref" in node:
            node = whole["$defs"][str(node["$ref"]).rsplit("/", 1)[-1]]
        elif "anyOf" in node:
            node = next((arm for arm in node["anyOf"] if arm.get("type") != "null"), {})
        else:
            break
    return node


def allowed_text(node: Mapping[str, Any]) -> str:
    """The allowed values in words; "" if the schema says nothing that helps."""
    if "enum" in node:
        return "one of " + ", ".join(map(str, node["enum"]))
    if "const" in node:
        return str(node["const"])
    kind = node.get("type")
    if kind in ("integer", "number"):
        low, high = node.get("minimum"), node.get("maximum")
        return f"a whole number from {low} to {high}" if low is not None and high is not None else "a number"
    if kind == "boolean":
        return "true or false"
    if kind == "array":
        low, high = node.get("minItems", 0), node.get("maxItems")
        return f"a list of {low} to {high} items" if high is not None else "a list"
    if kind == "object":
        return "an object" + (f" with {listed(sorted(node['properties']), 12)}" if node.get("properties") else "")
    if kind == "string":
        pattern = node.get("pattern")
        if pattern in _PATTERNS:
            return _PATTERNS[pattern]
        most = f" of at most {node['maxLength']} signs" if "maxLength" in node else ""
        return f"a text{most}" + (f" that matches {pattern}" if pattern else "")
    return ""


def _shown(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 60 else words[:57] + "..."
