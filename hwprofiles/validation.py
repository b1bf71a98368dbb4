"""Checks of one profile that go beyond types: what the CEL rules check, and that every number says where it comes from.

A finding that the API server refuses too has `fatal` set; the others make a profile `Calibrated=False`. Pure; returns values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hwprofiles.model import HardwareProfileSpec

# Blocks whose leaves are claims about silicon or money. Rules of identity (match, resources, engines, pod) claim no quantity.
_QUANTITIES = ("unit", "allocation", "topology", "peakTflops", "bandwidthTBps", "assume", "efficiency", "derate", "cost")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti)?")


@dataclass(frozen=True, slots=True)
class Finding:
    reason: str  # SizeMisaligned, PrecisionUnsupported, SizeNotAllowed, ProvenanceMissing, PatternInvalid, AssumptionMissing
    field: str
    message: str
    fatal: bool


def validate(spec: HardwareProfileSpec) -> list[Finding]:
    """All findings, in a fixed order; empty = nothing to object to."""
    return [*_allocation(spec), *_throughput(spec), *_patterns(spec), *_unknowns(spec), *_provenance(spec)]


def _allocation(spec: HardwareProfileSpec) -> Iterator[Finding]:
    rule, full = spec.allocation, spec.unit.per_node
    for size in rule.sizes:
        if size > 1 and size % rule.align_to:
            text = f"size {size} is not a multiple of alignTo {rule.align_to}"
            yield Finding("SizeMisaligned", "allocation.sizes", text, True)
        if full is not None and size > full:
            yield Finding("SizeNotAllowed", "allocation.sizes", f"size {size} exceeds unit.perNode {full}", True)
    if full is not None and full % rule.align_to:
        yield Finding("SizeMisaligned", "allocation.alignTo", f"alignTo {rule.align_to} does not divide unit.perNode {full}", True)
    if spec.unit.kind == "slice" and rule.sizes != (1,):
        yield Finding("SizeNotAllowed", "allocation.sizes", "a slice profile has sizes [1]; slices are never combined", True)
    if rule.whole_node_schedulers and full is None:
        yield Finding("SizeNotAllowed", "unit.perNode", "wholeNodeSchedulers needs unit.perNode, else no whole node is known", False)


def _throughput(spec: HardwareProfileSpec) -> Iterator[Finding]:
    dtypes = spec.dtypes or {}
    for index, entry in enumerate(spec.throughput):
        where = f"throughput[{index}]"
        if entry.precision is not None and dtypes.get(entry.precision) == "Unsupported":
            text = f"{entry.model}: precision {entry.precision} is Unsupported in dtypes"
            yield Finding("PrecisionUnsupported", f"{where}.precision", text, True)
        per_pod, rest = divmod(entry.parallelism.devices, entry.parallelism.span)
        if rest or per_pod not in spec.allocation.sizes:
            text = (
                f"{entry.model}: {entry.parallelism.devices} devices over {entry.parallelism.span} nodes;"
                f" allowed per node: {', '.join(map(str, sorted(spec.allocation.sizes)))}"
            )
            yield Finding("SizeNotAllowed", f"{where}.parallelism", text, True)
        if entry.evidence == "Measured" and len(entry.date) < len("YYYY-MM-DD"):
            yield Finding("ProvenanceMissing", f"{where}.date", f"{entry.model}: Measured needs the day, YYYY-MM-DD", False)


def _patterns(spec: HardwareProfileSpec) -> Iterator[Finding]:
    for index, entry in enumerate(spec.match):
        for key, pattern in sorted((entry.label_patterns or {}).items()):
            try:
                re.compile(pattern)
            except re.error as error:
                where = f"match[{index}].labelPatterns[{key}]"
                yield Finding("PatternInvalid", where, f"{pattern!r} is not a regular expression: {error}", False)


def _unknowns(spec: HardwareProfileSpec) -> Iterator[Finding]:
    if spec.throughput:
        return  # there is data; what lies outside of it is a matter of the model, not of the profile
    assume = spec.assume
    if spec.bandwidth_tbps is None and (assume is None or assume.bandwidth_tbps is None):
        text = "unknown: nothing can be estimated (NoPerformanceData); state assume.bandwidthTBps or measure"
        yield Finding("AssumptionMissing", "bandwidthTBps", text, False)
    if not spec.peak_tflops and (assume is None or not assume.peak_tflops):
        text = "unknown: nothing can be estimated (NoPerformanceData); state assume.peakTflops or measure"
        yield Finding("AssumptionMissing", "peakTflops", text, False)


def _provenance(spec: HardwareProfileSpec) -> Iterator[Finding]:
    covered = [field for entry in spec.provenance for field in entry.fields]
    dumped = spec.dump_set()
    for block in _QUANTITIES:
        for path in _numbers(dumped.get(block), block):
            if not any(path == field or path.startswith((f"{field}.", f"{field}[")) for field in covered):
                text = f"{path} has no provenance; add an entry with evidence, source and date that covers it"
                yield Finding("ProvenanceMissing", path, text, False)


def _numbers(value: object, path: str) -> Iterator[str]:
    """Paths of all numbers below, lists as one path."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _numbers(value[key], f"{path}.{key}")
    elif isinstance(value, list | tuple):
        if any(_is_number(item) for item in value):
            yield path
    elif _is_number(value):
        yield path


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)
