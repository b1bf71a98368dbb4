"""From what a foreign file says and what the user says to a throughput entry.

A file knows numbers and often not what they were measured on: precision, layout and engine are seldom in it. What a file does not say has
to be given, and the refusal names the flag. What a file does say is not overruled silently: a flag that contradicts it is refused, except
for the name of the model, which tools know only as a path or a served name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from pydantic import ValidationError

from hwprofiles.model import Layout, Throughput
from polyfleet.profiledata.fields import ReadError, whole

_DAY = re.compile(r"^([0-9]{4})-?([0-9]{2})-?([0-9]{2})")
_FLAGS = {
    "model": "--model NAME (as in its URI: Qwen/Qwen3-32B)",
    "precision": "--precision WORD (bf16, fp8, w8a8, ...)",
    "engine": "--engine WORD (vllm, sglang, mindie, ...)",
    "layout": "--tensor N (and --pipeline, --data, --expert, --span; --tensor 1 for one device)",
    "input_tokens": "--input-tokens TOKENS",
    "output_tokens": "--output-tokens TOKENS",
    "concurrency": "--concurrency N",
    "date": "--date YYYY-MM-DD",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says. None = not said. `file` is its base name, for the entry's source."""

    file: str
    model: str | None = None
    precision: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    layout: Layout | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    concurrency: int | None = None
    date: str | None = None
    confidence: str | None = None
    source: str | None = None
    accelerator: str | None = None  # which of a file's accelerators
    measured_here: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says of one load. Seconds, tokens, output tokens per second of the whole replica."""

    rate: float
    model: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    concurrency: float | None = None
    ttft_s: float | None = None
    itl_s: float | None = None
    date: str | None = None
    accepted_length: float | None = None
    how: str = ""  # what was derived, and from what
    derived: bool = False  # by a formula of the tool, not observed


@dataclass(frozen=True, slots=True)
class Imported:
    entries: tuple[Throughput, ...] = ()
    price: Price | None = None
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Price:
    per_device_hour: float
    source: str
    date: str | None
    confidence: str


def build(tool: str, readings: list[Reading], given: Given) -> tuple[Throughput, ...]:
    return tuple(_entry(tool, reading, given) for reading in readings)


def _entry(tool: str, reading: Reading, given: Given) -> Throughput:
    evidence = _evidence(reading, given)
    body = {
        "model": given.model or reading.model or _missing("model", tool),
        "precision": given.precision or _missing("precision", tool),
        "engine": _agreed("engine", given.engine, reading.engine) or _missing("engine", tool),
        "engineVersion": _agreed("engine_version", given.engine_version, reading.engine_version),
        "parallelism": (given.layout or _missing("layout", tool)).dump_set(),
        "inputTokens": _count("input_tokens", given.input_tokens, reading.input_tokens, tool),
        "outputTokens": _count("output_tokens", given.output_tokens, reading.output_tokens, tool),
        "concurrency": _count("concurrency", given.concurrency, reading.concurrency, tool),
        "outputTokensPerSecond": decimal_text(reading.rate),
        "acceptedLength": decimal_text(reading.accepted_length) if reading.accepted_length is not None else None,
        "ttft": milliseconds(reading.ttft_s),
        "itl": milliseconds(reading.itl_s),
        "evidence": evidence,
        "confidence": given.confidence or ("Medium" if evidence == "Measured" else "Low"),
        "source": source_of(tool, given, reading.how),
        "date": date_of(tool, given, reading.date),
    }
    try:
        return Throughput.parse(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise ReadError(f"field {at} of the entry", f"{str(first['input'])[:80]!r}: {first['msg']}") from error


def _evidence(reading: Reading, given: Given) -> str:
    """A file is somebody's figure, unless the user says that it was measured on this fleet; a fitted formula is neither."""
    if reading.derived:
        return "Estimated"
    return "Measured" if given.measured_here else "Published"


def _missing(name: str, tool: str) -> NoReturn:
    raise ReadError(f"the {tool} file does not say the {name.replace('_', ' ')}", "an entry without it fits no load", f"add {_FLAGS[name]}")


def _agreed(name: str, given: str | None, read: str | None) -> str | None:
    if given and read and given != read:
        flag = f"--{name.replace('_', '-')}"
        raise ReadError(f"{flag} {given} contradicts the file", f"the file says {read}", f"leave {flag} out, or give the right file")
    return given or read


def _count(name: str, given: int | None, read: float | None, tool: str) -> int:
    if read is None:
        return given if given is not None else _missing(name, tool)
    count = whole(read, name)
    if given is not None and abs(given - count) > max(1, 0.05 * count):
        flag = _FLAGS[name].split()[0]
        raise ReadError(f"{flag} {given} contradicts the file", f"the file says {count}", f"leave {flag} out, or give the right file")
    return given if given is not None else count


def source_of(tool: str, given: Given, how: str = "") -> str:
    said = given.source or f"{tool} file {given.file}"
    return f"{said}; {how}" if how else said


def date_of(tool: str, given: Given, read: str | None) -> str:
    return given.date or read or _missing("date", tool)


def day(value: object) -> str | None:
    """YYYY-MM-DD of an ISO time or of vLLM's 20261124-101500; None if it is neither."""
    found = _DAY.match(value) if isinstance(value, str) else None
    return f"{found[1]}-{found[2]}-{found[3]}" if found else None


def decimal_text(value: float) -> str:
    """Four significant figures, which is more than a benchmark knows, and never an exponent."""
    digits = 4 - len(str(int(value))) if value >= 1 else 4
    rounded = f"{value:.{max(0, min(9, digits))}f}"
    return rounded.rstrip("0").rstrip(".") if "." in rounded else rounded


def milliseconds(seconds: float | None) -> str | None:
    """A duration; below half a millisecond it is not known with this resolution."""
    if seconds is None or round(seconds * 1000) < 1:
        return None
    return f"{round(seconds * 1000)}ms"
