"""One question about performance and the refusals that it may get: the values, the allowed range, and the command that measures it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwprofiles.entries import Point, Reading, describe_cover
from hwprofiles.estimate import values
from hwprofiles.estimate.hardware import Hardware
from hwprofiles.estimate.refusals import no_data
from hwprofiles.estimate.values import Load, Refusal, Slo, bench_command
from hwprofiles.model import Layout
from hwprofiles.shape import Shape

# From the most trusted.
EVIDENCE = ("Measured", "Published", "Estimated")


@dataclass(frozen=True, slots=True)
class Asked:
    """The question, as far as entries and messages need it."""

    profile: str
    hardware: Hardware
    model_id: str
    shape: Shape | None
    precision: str | None
    engine: str
    version: str | None
    layout: Layout
    load: Load | None
    slo: Slo

    def __str__(self) -> str:
        size = f"{self.layout.devices} units" if self.layout.devices > 1 else "1 unit"
        return f"{self.model_id} ({self.precision or 'any precision'}, {self.engine}, {size}) on {self.profile}"


def distance(point: Point, load: Load | None) -> float:
    """How far the entry's lengths are from the load's: sum of the logarithms of the ratios; 0 without a load."""
    if load is None:
        return 0.0
    pairs = ((point.entry.input_tokens, load.input_tokens), (point.entry.output_tokens, load.output_tokens))
    return sum(abs(math.log(wanted / own)) for own, wanted in pairs if own)


def entries_too_slow(reading: Reading, asked: Asked) -> Refusal:
    at = "" if reading.concurrency is None else f" at concurrency {reading.concurrency}"
    itl = reading.token_s
    told = [
        f"time to first token {reading.ttft_s:.3g} s, allowed {asked.slo.ttft_s:g} s"
        if reading.ttft_s is not None and asked.slo.ttft_s is not None and reading.ttft_s > asked.slo.ttft_s
        else "",
        f"time between tokens {itl * 1e3:.3g} ms, allowed {asked.slo.itl_s * 1e3:g} ms"
        if itl is not None and asked.slo.itl_s is not None and itl > asked.slo.itl_s
        else "",
    ]
    broken = " and ".join(one for one in told if one)
    return Refusal(
        values.SLO_UNREACHABLE,
        f"{asked}: throughput[{reading.nearest.index}]{at} has {broken}",
        f"relax spec.slo, or measure what it does within it: {bench(asked, slo=True)}",
    )


def load_outside(points: Sequence[Point], load: Load, asked: Asked) -> Refusal:
    nearest = sorted(points, key=lambda one: (distance(one, load), -(one.concurrency or 0), one.index))[:3]
    at = "" if load.concurrency is None else f" at concurrency {load.concurrency}"
    more = "" if len(points) <= len(nearest) else f" (and {len(points) - len(nearest)} more entries)"
    return Refusal(
        values.LOAD_OUTSIDE_RANGE,
        f"{asked}: input {load.input_tokens}, output {load.output_tokens} tokens{at} is outside every entry:"
        f" {'; '.join(describe_cover(point) for point in nearest)}{more}",
        f"measure it: {bench(asked)}; or widen validFor of an entry that you know to hold: kubectl edit hwp/{asked.profile}",
    )


def too_weak(points: Sequence[Point], min_evidence: str, asked: Asked) -> Refusal:
    best = min((point.entry.evidence for point in points), key=EVIDENCE.index, default="an estimate")
    return Refusal(
        values.NO_PERFORMANCE_DATA,
        f"{asked}: the best that is known is {best}; FleetPolicy spec.profiles.minEvidence asks for {min_evidence} or better",
        f"measure it: {bench(asked)}; or lower minEvidence",
    )


def nothing_known(asked: Asked) -> Refusal:
    """No entry and no shape: what of the device is missing counts first, since a shape would not help there."""
    hardware = asked.hardware
    bandwidth, peak = hardware.bandwidth is not None, bool(hardware.peaks)
    if not (bandwidth and peak):
        return no_data(hardware, asked.precision, asked.model_id, asked.load, bandwidth=bandwidth, peak=peak)
    return Refusal(
        values.MODEL_SHAPE_UNKNOWN,
        f"{asked}: no entry speaks about it and the model's shape is unknown, so nothing can be estimated",
        f"set spec.model.shape (polyfleet model show --config config.json reads it from the model), or measure: {bench(asked)}",
    )


def bench(asked: Asked, *, slo: bool = False) -> str:
    """The command that measures exactly this."""
    parts = [bench_command(asked.profile, asked.model_id, asked.load), f"--engine {asked.engine}"]
    if asked.precision is not None:
        parts.append(f"--precision {asked.precision}")
    sizes = (("tensor", asked.layout.tensor), ("pipeline", asked.layout.pipeline), ("data", asked.layout.data))
    parts += [f"--{name} {size}" for name, size in sizes if size > 1]
    if slo:
        parts.append("--until-slo")
    return " ".join(parts)
