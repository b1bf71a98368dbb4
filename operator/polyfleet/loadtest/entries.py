"""From measured stages to throughput entries, with a source that says how. Pure.

`Measured` is a claim about what ran: without a model, an engine and its version there is no entry. Where nobody could check that the
endpoint runs on the profile (an address in place of a replica of a cluster), the source says who stated it and the confidence is at
most Medium.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwprofiles.model import Confidence, Layout, Throughput
from polyfleet.loadtest.measure import Settings, Stage
from polyfleet.loadtest.workload import Lengths

HIGH_PERCENT, MEDIUM_PERCENT = 3.0, 10.0  # half width of the interval from which on confidence falls
CLOSE = 0.03
_MOST_SOURCE = 1024


@dataclass(frozen=True, slots=True)
class Subject:
    """What was measured. `verified`: a cluster's node and pod say that it is this profile. `place` is for people."""

    profile: str
    model: str
    precision: str | None
    engine: str
    engine_version: str
    layout: Layout
    place: str
    verified: bool


def entries(subject: Subject, stages: Sequence[Stage], settings: Settings, lengths: Lengths, today: str) -> list[Throughput]:
    """One entry per usable stage, by concurrency (of two at one concurrency the later). Rates and times are as measured, times rounded up.

    All have one pair of lengths, because a planner interpolates only between entries that differ in nothing but the concurrency: the
    aimed ones where the endpoint counted within 3 % of them (a repeated test then replaces its own entries), else the ones counted. The
    source states the counted ones.
    """
    usable = {stage.concurrency: stage for stage in stages if not stage.unusable}
    seen = _seen([usable[key] for key in sorted(usable)], lengths)
    return [_entry(subject, usable[key], settings, lengths, seen, today) for key in sorted(usable)]


def _seen(stages: Sequence[Stage], lengths: Lengths) -> tuple[float, float]:
    """Mean input and output tokens of all stages, each request counting once; the aimed ones where nothing was counted."""
    found = []
    for name, aimed in (("input_tokens", lengths.input_tokens), ("output_tokens", lengths.output_tokens)):
        pairs = [(getattr(s.held, name), s.held.requests) for s in stages if s.held.requests and getattr(s.held, name) is not None]
        total = sum(count for _, count in pairs)
        found.append(math.fsum(value * count for value, count in pairs) / total if total else float(aimed))
    return found[0], found[1]


def _length(seen: float, aimed: int) -> int:
    return aimed if abs(seen - aimed) <= CLOSE * aimed else max(1, round(seen))


def _entry(subject: Subject, stage: Stage, settings: Settings, lengths: Lengths, seen: tuple[float, float], today: str) -> Throughput:
    held, waits = stage.held, stage.waits
    error = None if held.relative is None else 100 * held.relative
    return Throughput(
        model=subject.model,
        precision=subject.precision,
        engine=subject.engine,
        engine_version=subject.engine_version,
        parallelism=subject.layout,
        input_tokens=_length(seen[0], lengths.input_tokens),
        output_tokens=_length(seen[1], lengths.output_tokens),
        concurrency=stage.concurrency,
        output_tokens_per_second=_decimal(held.tokens_per_s),
        error_percent=None if error is None else f"{error:.2f}",
        ttft=_duration(waits.ttft_s),
        itl=_duration(waits.itl_s),
        evidence="Measured",
        confidence=_confidence(subject.verified, error),
        source=_source(subject, stage, settings, lengths, seen)[:_MOST_SOURCE],
        date=today,
    )


def _confidence(verified: bool, error: float | None) -> Confidence:
    if error is None or error > MEDIUM_PERCENT:
        return "Low"
    return "High" if verified and error <= HIGH_PERCENT else "Medium"


def _source(subject: Subject, stage: Stage, settings: Settings, lengths: Lengths, seen: tuple[float, float]) -> str:
    held, waits = stage.held, stage.waits
    percent = settings.goal.percentile
    parts = [f"polyfleet bench on {subject.place}"]
    if not subject.verified:
        parts.append("profile as stated by who ran it")
    parts.append(f"closed loop for {held.seconds:.0f} s, {held.requests} requests, {held.batches} batches")
    if waits is held:
        kept = f", because {stage.rate:.2f} random arrivals/s could not be kept up with" if stage.overloaded else ""
        parts.append(f"ttft and itl p{percent} of the closed loop{kept}")
    else:
        parts.append(f"ttft and itl p{percent} under {stage.rate:.2f} Poisson arrivals/s ({waits.in_flight:.1f} in flight)")
    if waits.itl_of == "requests":
        parts.append("itl is the mean of a request, because pieces hold several tokens")
    parts.append(lengths.describe() + ("" if held.counted_by == "pieces" else f", counted {seen[0]:.1f} and {seen[1]:.1f}"))
    if held.counted_by == "pieces":
        parts.append("the endpoint counts no tokens: output counted in pieces of the stream, input as aimed at")
    return "; ".join(parts)


def _decimal(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _duration(value: float | None) -> str | None:
    return None if value is None else f"{max(1, math.ceil(value * 1000))}ms"
