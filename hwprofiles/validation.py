"""Checks of one profile that go beyond types: what the CEL rules check, and that every number says where it comes from.

A finding that the API server refuses too has `fatal` set; the others make a profile `Calibrated=False`. What planning leaves out
because of a finding is decided in `hwprofiles.trust`. Pure; returns values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from hwprofiles.claims import date_fault, entry_key, numbers
from hwprofiles.model import HardwareProfileSpec
from hwprofiles.schema import decimal, quantity_bytes

# A share cannot exceed 1.
_SHARES = ("unit.usableFraction", "efficiency.mfu", "efficiency.mbu")
# Quantities for which 0 would be a way to say unknown. A price or an overhead may be 0.
_POSITIVE = (*_SHARES, "unit.memory", "topology", "peakTflops", "bandwidthTBps", "assume", "derate")
# Beyond what any device has, by one to two orders: (path begins, ceiling, in words, the unit that was probably meant). A slip of a unit is
# a factor of a thousand, and believed it would put every right entry in doubt.
_CEILINGS = (
    (("bandwidthTBps", "assume.bandwidthTBps"), 50, "50 TB/s", "is this GB/s?"),
    (("peakTflops", "assume.peakTflops"), 50_000, "50000 TFLOPS, dense, of one device", "is this GFLOPS?"),
    (("unit.memory",), 2 << 40, "2Ti of one device", "is this MiB, or the memory of a node?"),
    (("topology",), 10_000, "10000 GB/s, one way, of one device", "is this MB/s?"),
    (("cost.perDeviceHour",), 10_000, "10000 per device and hour", "is this the price of the device?"),
)
_EDIT = "correct it with kubectl edit hwp, or in the file and polyfleet profile validate"


@dataclass(frozen=True, slots=True)
class Finding:
    """One objection. `message` is a whole sentence that names value, allowed range and next step; the last three are for tables."""

    reason: str  # SizeMisaligned, PrecisionUnsupported, SizeNotAllowed, ProvenanceMissing, PatternInvalid, AssumptionMissing, ...
    field: str
    message: str
    fatal: bool
    value: str = ""
    allowed: str = ""
    next_step: str = _EDIT


def validate(spec: HardwareProfileSpec, *, today: str | None = None) -> list[Finding]:
    """All findings, in a fixed order; empty = nothing to object to. `today` (YYYY-MM-DD) adds the check of dates in the future."""
    return [
        *_allocation(spec),
        *_throughput(spec, today),
        *_patterns(spec),
        *_ranges(spec),
        *_unknowns(spec),
        *_provenance(spec, today),
    ]


def _allocation(spec: HardwareProfileSpec) -> Iterator[Finding]:
    rule, full = spec.allocation, spec.unit.per_node
    step = f"1 or a multiple of {rule.align_to}"
    for size in rule.sizes:
        if size > 1 and size % rule.align_to:
            text = f"size {size} is not a multiple of alignTo {rule.align_to}; allowed: {step}"
            yield Finding("SizeMisaligned", "allocation.sizes", text, True, str(size), step)
        if full is not None and size > full:
            text = f"size {size} exceeds unit.perNode {full}; allowed: 1 to {full}"
            yield Finding("SizeNotAllowed", "allocation.sizes", text, True, str(size), f"1 to {full}")
    if full is not None and full % rule.align_to:
        text = f"alignTo {rule.align_to} does not divide unit.perNode {full}; allowed: a divisor of {full}"
        yield Finding("SizeMisaligned", "allocation.alignTo", text, True, str(rule.align_to), f"a divisor of {full}")
    if spec.unit.kind == "slice" and rule.sizes != (1,):
        text = "a slice profile has sizes [1]; slices are never combined"
        yield Finding("SizeNotAllowed", "allocation.sizes", text, True, str(list(rule.sizes)), "[1]")
    if rule.whole_node_schedulers and full is None:
        text = "wholeNodeSchedulers needs unit.perNode, else no whole node is known"
        yield Finding("SizeNotAllowed", "unit.perNode", text, False, "absent", "1 to 1024")


def _throughput(spec: HardwareProfileSpec, today: str | None) -> Iterator[Finding]:
    dtypes = spec.dtypes or {}
    sizes = ", ".join(map(str, sorted(spec.allocation.sizes)))
    seen = Counter(entry_key(entry) for entry in spec.throughput)
    for index, entry in enumerate(spec.throughput):
        where = f"throughput[{index}]"
        if entry.precision is not None and dtypes.get(entry.precision) == "Unsupported":
            able = ", ".join(sorted(name for name, support in dtypes.items() if support != "Unsupported")) or "none stated"
            text = f"{entry.model}: precision {entry.precision} is Unsupported in dtypes; allowed: {able}"
            yield Finding("PrecisionUnsupported", f"{where}.precision", text, True, entry.precision, able)
        per_pod, rest = divmod(entry.parallelism.devices, entry.parallelism.span)
        if rest or per_pod not in spec.allocation.sizes:
            text = (
                f"{entry.model}: {entry.parallelism.devices} devices over {_nodes(entry.parallelism.span)};"
                f" allowed per node (allocation.sizes): {sizes}"
            )
            yield Finding("SizeNotAllowed", f"{where}.parallelism", text, True, f"{entry.parallelism.devices} devices", sizes)
        if entry.output_tokens_per_second is not None and decimal(entry.output_tokens_per_second) <= 0:
            text = f"{entry.model}: outputTokensPerSecond is 0, which says nothing; allowed: above 0, or leave the field out"
            yield Finding("OutOfRange", f"{where}.outputTokensPerSecond", text, False, entry.output_tokens_per_second, "above 0")
        for name, limits in (("inputTokens", "input_tokens"), ("outputTokens", "output_tokens"), ("concurrency", "concurrency")):
            span = getattr(entry.valid_for, limits, None)
            if span is not None and span.min > span.max:
                text = f"{entry.model}: min {span.min} is above max {span.max}, so it applies to no load; allowed: min up to max"
                yield Finding("OutOfRange", f"{where}.validFor.{name}", text, False, f"{span.min} to {span.max}", f"min up to {span.max}")
        if entry.evidence == "Measured" and len(entry.date) < len("YYYY-MM-DD"):
            text = f"{entry.model}: Measured needs the day, date is {entry.date}; allowed: YYYY-MM-DD"
            yield Finding("ProvenanceMissing", f"{where}.date", text, False, entry.date, "YYYY-MM-DD")
        yield from _date(entry.date, f"{where}.date", f"{entry.model}: ", today)
        if not entry.source.strip():
            text = f"{entry.model}: source is empty; name whose figure it is"
            yield Finding("ProvenanceMissing", f"{where}.source", text, False, repr(entry.source), "a text")
        if seen[entry_key(entry)] > 1:
            same = [i for i, other in enumerate(spec.throughput) if entry_key(other) == entry_key(entry)]
            others = ", ".join(f"throughput[{i}]" for i in same if i != index)
            text = f"{entry.model}: the same model, precision, engine, layout, load, latency and evidence as {others}; keep one of them"
            yield Finding("DuplicateEntry", where, text, False, entry.output_tokens_per_second or "", "one entry per key and evidence")


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _patterns(spec: HardwareProfileSpec) -> Iterator[Finding]:
    for index, entry in enumerate(spec.match):
        for key, pattern in sorted((entry.label_patterns or {}).items()):
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                where = f"match[{index}].labelPatterns[{key}]"
                text = f"{pattern!r} is not a regular expression: {error}; it fits no node"
                yield Finding("PatternInvalid", where, text, False, pattern, "a regular expression")


def _ranges(spec: HardwareProfileSpec) -> Iterator[Finding]:
    """Numbers that no device can have. Unknown is absence: a 0 is not a way to say so."""
    for path, text in sorted(numbers(spec).items()):
        if not path.startswith((*_POSITIVE, "cost.perDeviceHour")):
            continue
        value = quantity_bytes(text) if path == "unit.memory" else decimal(text)
        for paths, most, words, question in _CEILINGS:
            if path.startswith(paths) and value > most:
                yield Finding("OutOfRange", path, f"{path} is {text}; allowed: up to {words}; {question}", False, text, f"up to {words}")
        if not path.startswith(_POSITIVE):
            continue
        share = path in _SHARES
        allowed = "above 0, up to 1" if share else "above 0"
        if value <= 0 or (share and value > 1):
            message = f"{path} is {text}; allowed: {allowed}; what is not known is left out"
            yield Finding("OutOfRange", path, message, False, text, allowed)


def _unknowns(spec: HardwareProfileSpec) -> Iterator[Finding]:
    if spec.throughput:
        return  # there is data; what lies outside of it is a matter of the model, not of the profile
    assume = spec.assume
    if spec.bandwidth_tbps is None and (assume is None or assume.bandwidth_tbps is None):
        text = "unknown: nothing can be estimated (NoPerformanceData); state assume.bandwidthTBps or measure"
        yield Finding("AssumptionMissing", "bandwidthTBps", text, False, "absent", "above 0", "polyfleet bench")
    if not spec.peak_tflops and (assume is None or not assume.peak_tflops):
        text = "unknown: nothing can be estimated (NoPerformanceData); state assume.peakTflops or measure"
        yield Finding("AssumptionMissing", "peakTflops", text, False, "absent", "above 0", "polyfleet bench")


def _provenance(spec: HardwareProfileSpec, today: str | None) -> Iterator[Finding]:
    covered: list[str] = []
    for index, entry in enumerate(spec.provenance):
        found = list(_date(entry.date, f"provenance[{index}].date", "", today))
        yield from found
        if entry.evidence == "Measured" and len(entry.date) < len("YYYY-MM-DD"):
            text = f"Measured needs the day, date is {entry.date}; allowed: YYYY-MM-DD"
            yield Finding("ProvenanceMissing", f"provenance[{index}].date", text, False, entry.date, "YYYY-MM-DD")
        # A source whose date cannot be is no source.
        covered += [] if found or not entry.source.strip() else entry.fields
    for path, text in sorted(numbers(spec).items()):
        if not any(path == field or path.startswith((f"{field}.", f"{field}[")) for field in covered):
            message = f"{path} has no provenance; add an entry with evidence, source and date that covers it"
            yield Finding("ProvenanceMissing", path, message, False, text, "covered by one entry of provenance")


def _date(date: str, where: str, who: str, today: str | None) -> Iterator[Finding]:
    fault = date_fault(date, today)
    if fault is not None:
        reason, allowed = fault
        text = f"{who}date is {date}; allowed: {allowed}"
        yield Finding(reason, where, text, False, date, allowed)
