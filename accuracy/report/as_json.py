"""A report as JSON and back, without loss: every float is written so that it reads back as the same bits.

Keys are those of the values, in camelCase. Beside them stand a few that are only for readers of the file and are left out when it is
read: `kind`, `verdict`, `reason`, and per sample `violation`. JSON has no infinity and no NaN; they are the strings "inf", "-inf", "nan".
"""

from __future__ import annotations

import gzip
import json
import math
import types
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from accuracy.report.model import VERSION, Report
from accuracy.suspects import violates
from accuracy.types import Cost, Sample

KIND = "PolyfleetAccuracyReport"
MOST_BYTES = 64 << 20  # of a file, unpacked; a run of 2000 prompts takes about 2 MB
_WORDS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_FOR_READERS = ("kind", "verdict", "reason")


class ReportError(ValueError):
    """A file that is no report: the place, the value, what is allowed."""


def dumps(report: Report, *, indent: int | None = 1) -> str:
    """The whole report. `indent=None` is the shortest form, on one line."""
    body = _encode(report)
    verdict = report.decision.verdict
    head = {"kind": KIND, "verdict": None if verdict is None else str(verdict), "reason": str(report.decision.reason)}
    for sample, written in zip(report.samples, body["samples"], strict=True):
        written["violation"] = violates(sample, report.policy)
    separators = (",", ":") if indent is None else None
    return json.dumps(head | body, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators) + "\n"


def loads(content: bytes | str) -> Report:
    """A report out of a file's content, gzip or plain. Raises ReportError."""
    body = _object(content)
    if body.get("kind") != KIND:
        raise ReportError(f"kind: {_shown(body.get('kind'))}, must be {KIND!r}: it is not a report of an accuracy run")
    version = body.get("version")
    if version != VERSION:
        raise ReportError(f"version: {_shown(version)}, must be {VERSION}: it was written by another version of polyfleet")
    body.setdefault("rules", 1)  # the first ones had no number
    rows = body.get("samples")
    if isinstance(rows, list):
        body["samples"] = [{k: v for k, v in row.items() if k != "violation"} if isinstance(row, dict) else row for row in rows]
    report: Report = _decode(Report, {key: value for key, value in body.items() if key not in _FOR_READERS}, "")
    told = body.get("verdict"), body.get("reason")
    meant = report.decision.verdict, report.decision.reason
    if told != meant:
        raise ReportError(f"verdict: {told[0]} ({told[1]}), but decision says {meant[0]} ({meant[1]}): the file was edited")
    return report


def _object(content: bytes | str) -> dict[str, Any]:
    if isinstance(content, bytes):
        if content[:2] == b"\x1f\x8b":
            content = _unpacked(content)
        if len(content) > MOST_BYTES:
            raise ReportError(f"size: {len(content)} bytes, must be at most {MOST_BYTES}")
        try:
            content = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ReportError(f"byte {error.start}: not UTF-8: it is not a report of an accuracy run") from error
    try:
        body = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"not JSON: {str(error)[:120]}") from error
    if not isinstance(body, dict):
        raise ReportError(f"{_shown(body)}, must be an object: it is not a report of an accuracy run")
    return body


def _unpacked(content: bytes) -> bytes:
    unpack = zlib.decompressobj(wbits=31)
    try:
        out = unpack.decompress(content, MOST_BYTES + 1)
    except zlib.error as error:
        raise ReportError(f"not gzip: {error}") from error
    if len(out) <= MOST_BYTES and not unpack.eof:
        raise ReportError("gzip: the file is cut short")
    return out


def plain(values: Sequence[Sample] | Sequence[Cost]) -> list[Any]:
    """Samples or costs as plain values, for a state that is kept beside a run."""
    return [_encode(value) for value in values]


def samples(values: Any) -> tuple[Sample, ...]:
    """What `plain` gave, again. Raises ReportError."""
    found: tuple[Sample, ...] = _decode(tuple[Sample, ...], values, "samples")
    return found


def costs(values: Any) -> tuple[Cost, Cost]:
    """The same of the two costs. Raises ReportError."""
    found: tuple[Cost, Cost] = _decode(tuple[Cost, Cost], values, "spent")
    return found


def pack(report: Report) -> bytes:
    """The shortest form, compressed; the same bytes for the same report."""
    return gzip.compress(dumps(report, indent=None).encode(), 9, mtime=0)


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


# ---- values by their annotations


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {camel(field.name): _encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _encode(part) for key, part in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [_encode(part) for part in value]
    if isinstance(value, frozenset | set):
        return [_encode(part) for part in sorted(value)]
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


@lru_cache(maxsize=64)
def _shape(kind: Any) -> tuple[dict[str, tuple[str, Any]], frozenset[str]]:
    """Key -> (field, annotation), and the keys that must be there."""
    hints = get_type_hints(kind)
    used = [field for field in fields(kind) if field.init]
    needed = {camel(f.name) for f in used if f.default is MISSING and f.default_factory is MISSING}
    return {camel(field.name): (field.name, hints[field.name]) for field in used}, frozenset(needed)


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _decode(kind: Any, value: Any, at: str) -> Any:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        arms = get_args(kind)
        if value is None and type(None) in arms:
            return None
        rest = [arm for arm in arms if arm is not type(None)]
        return _decode(rest[0], value, at)
    if origin is tuple:
        return _tuple(get_args(kind), value, at)
    if origin is frozenset:
        return frozenset(_tuple((get_args(kind)[0], ...), value, at))
    if origin is Literal:
        if value not in get_args(kind):
            raise ReportError(f"{at}: {_shown(value)}, must be one of {', '.join(map(str, get_args(kind)))}")
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise ReportError(f"{at}: {_shown(value)}, must be an object")
        return {key: _decode(get_args(kind)[1], part, f"{at}.{key}") for key, part in value.items()}
    if is_dataclass(kind):
        return _record(kind, value, at)
    return _plain(kind, value, at)


def _plain(kind: Any, value: Any, at: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError:
            raise ReportError(f"{at}: {_shown(value)}, must be one of {', '.join(kind)}") from None
    if kind is float:
        if isinstance(value, str) and value in _WORDS:
            return _WORDS[value]
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ReportError(f"{at}: {_shown(value)}, must be {_NAMES.get(kind, kind.__name__)}")
    return value


_NAMES = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}


def _tuple(parts: tuple[Any, ...], value: Any, at: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ReportError(f"{at}: {_shown(value)}, must be a list")
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_decode(parts[0], part, f"{at}[{index}]") for index, part in enumerate(value))
    if len(parts) != len(value):
        raise ReportError(f"{at}: a list of {len(value)}, must have {len(parts)} parts")
    return tuple(_decode(kind, part, f"{at}[{index}]") for index, (kind, part) in enumerate(zip(parts, value, strict=True)))


def _record(kind: Any, value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise ReportError(f"{at}: {_shown(value)}, must be an object")
    known, needed = _shape(kind)
    if unknown := sorted(set(value) - set(known)):
        raise ReportError(f"{at or 'report'}: unknown field {unknown[0]!r}")
    if missing := sorted(needed - set(value)):
        raise ReportError(f"{at or 'report'}: field {missing[0]!r} is missing")
    dot = f"{at}." if at else ""
    made = {known[key][0]: _decode(known[key][1], part, f"{dot}{key}") for key, part in value.items()}
    try:
        return kind(**made)
    except ValueError as error:  # a value that its own class refuses
        raise ReportError(f"{at or 'report'}: {error}") from error


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, dict | list) else type(value).__name__
    return text if len(text) <= 60 else text[:59] + "…"
