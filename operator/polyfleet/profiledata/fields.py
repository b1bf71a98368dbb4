"""Typed access to the numbers of a foreign document: every refusal names the field, what stands there, what is allowed, what to do.

Documents come from other people's tools, so nothing about them is trusted: a missing key, a NaN, a negative rate, a list where a number
should be, or a file of a hundred megabytes ends in a `ReadError` and never in a traceback. A number that nobody asks for may be anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MOST_MIB = 64  # `vllm bench serve --save-detailed` of ten thousand requests stays below
MOST_YAML_MIB = 4  # YAML is read a hundred times slower than JSON


class ReadError(ValueError):
    """A document that cannot be imported: `what` (with the field), `why` (value and allowed range), `next` (what to do)."""

    def __init__(self, what: str, why: str, next_: str = "") -> None:
        super().__init__(f"{what}: {why}")
        self.what, self.why, self.next = what, why, next_


def parse_json(text: str, tool: str) -> list[Any]:
    """The JSON documents of a file: one, or one per line (tools append). NaN and Infinity become floats, refused where they are used."""
    _bounded(text, MOST_MIB)
    try:
        return [json.loads(text)]
    except json.JSONDecodeError as error:
        first = error
    except RecursionError as error:
        raise ReadError(f"this is no {tool} file", "it is nested too deeply") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        try:
            return [json.loads(line) for line in lines]
        except (json.JSONDecodeError, RecursionError):
            pass  # not one document per line either: the first error tells more
    cut = " (the file ends early: was it copied whole?)" if text.rstrip()[-1] not in "}]" else ""
    where = f"line {first.lineno}, column {first.colno}: {first.msg}{cut}"
    raise ReadError(f"this is no {tool} file", f"not JSON: {where}") from first


def parse_yaml(text: str, tool: str) -> list[Any]:
    """The documents of a YAML (or JSON) file, empty ones left out."""
    _bounded(text, MOST_YAML_MIB)
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return [item for item in yaml.load_all(text, Loader=loader) if item is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ReadError(f"this is no {tool} file", f"not YAML: {' '.join(str(error).split())[:200]}") from error


def _bounded(text: str, mib: int) -> None:
    if len(text) > mib << 20:
        raise ReadError(
            "this file is too large", f"{len(text) / (1 << 20):.0f} MiB, at most {mib} MiB", "import the summary file of the run"
        )
    if not text.strip():
        raise ReadError("this file is empty", "it holds no document")


def mapping(value: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ReadError(f"field {at}", f"{shown(value)}, must be an object")
    return value


def dig(body: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None where a part of it is missing. A part that is no object ends the search."""
    value: Any = body
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def number(body: Mapping[str, Any], path: str, *, least: float = 0.0, above: bool = False) -> float | None:
    """A finite number at a dotted path, at least (or above) `least`; None where it is absent or null."""
    return as_number(dig(body, path), path, least=least, above=above)


def as_number(value: Any, at: str, *, least: float = 0.0, above: bool = False) -> float | None:
    if value is None:
        return None
    allowed = f"must be a number {'above' if above else 'of at least'} {least:g}"
    if isinstance(value, str):  # WVA and old genai-perf files hold numbers as strings
        try:
            value = float(value)
        except ValueError:
            raise ReadError(f"field {at}", f"{shown(value)}, {allowed}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReadError(f"field {at}", f"{shown(value)}, {allowed}")
    if not math.isfinite(value) or value < least or (above and value <= least):
        raise ReadError(f"field {at}", f"{value}, {allowed}")
    return float(value)


def needed(body: Mapping[str, Any], path: str, tool: str, *, above: bool = True) -> float:
    """A number without which there is no entry."""
    found = number(body, path, above=above)
    if found is None:
        keys = ", ".join(sorted(map(str, body))[:8]) or "nothing"
        raise ReadError(f"field {path} is missing", f"{'an' if tool[0] in 'aeiou' else 'a'} {tool} file has it; this one has: {keys}")
    return found


def text(body: Mapping[str, Any], path: str) -> str | None:
    """A text at a dotted path; of a list its only element."""
    value = dig(body, path)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or isinstance(value, str):
        return value or None
    raise ReadError(f"field {path}", f"{shown(value)}, must be a text")


def whole(value: float, at: str) -> int:
    """A count that must be at least one after rounding."""
    count = round(value)
    if count < 1:
        raise ReadError(f"field {at}", f"{value:g}, must be at least 1")
    return count


def shown(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else words[:57] + "..."
