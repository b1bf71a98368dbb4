"""What one replica does under a load, by order of trust: measured, published, estimated by somebody, estimated by us, or a reason why not.

Measured entries of this installation come first, then published ones, then estimated entries of the profile, then the closed form on its
lower bound. Where entries exist for exactly this model, precision, engine and layout but none speaks for the load, the answer is a refusal:
a load is never clamped into a range and a range never stretched, not even where the closed form would have an opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwprofiles.entries import Point, Reading, answers, as_it_is, at_other, between, covers, points_for
from hwprofiles.estimate.doors import ELSEWHERE_MARGIN, IN_NODE_MARGIN, estimate
from hwprofiles.estimate.formats import support
from hwprofiles.estimate.hardware import Hardware, hardware_of
from hwprofiles.estimate.layouts import layout_class
from hwprofiles.estimate.refusals import precision_unsupported
from hwprofiles.estimate.terms import NO_LIMITS
from hwprofiles.estimate.values import SLO_UNREACHABLE, LayoutClass, Load, Refusal, Slo
from hwprofiles.model import HardwareProfileSpec, Layout
from hwprofiles.schema import decimal_float
from hwprofiles.shape import Shape
from hwprofiles.unanswered import EVIDENCE, Asked, distance, entries_too_slow, load_outside, nothing_known, too_weak

_CONFIDENCE = ("High", "Medium", "Low")
_LOWER_CONFIDENCE = {"High": "Medium", "Medium": "Low", "Low": "Low"}
# Taken, and named as assumed, where a model states no load: a question with some context and a short answer.
ASSUMED_LOAD = Load(1024, 256)


@dataclass(frozen=True, slots=True)
class Performance:
    """What a planner may count on, and how far to trust it. Tokens/s of the whole replica, seconds."""

    output_tokens_per_s: float  # to plan with: the value of a Measured or Published entry, the lower bound of anything Estimated
    point: float  # the value itself
    lower: float | None
    upper: float | None
    ttft_s: float | None
    itl_s: float | None
    concurrency: int | None
    evidence: str
    confidence: str
    source: str
    date: str | None
    entry: int | None  # place in spec.throughput; None = closed form
    assumptions: tuple[str, ...]


def performance(
    profile: str,
    spec: HardwareProfileSpec,
    *,
    model_id: str,
    shape: Shape | None,
    precision: str | None,
    engine: str,
    engine_version: str | None,
    layout: Layout,
    load: Load | None,
    slo: Slo = NO_LIMITS,
    min_evidence: str = "Estimated",
    hardware: Hardware | None = None,
) -> Performance | Refusal:
    """What `model_id` does on this profile in this layout under `load` within `slo`.

    `load` None: the best entry as it is, whatever load it was taken at; without entries the closed form at `ASSUMED_LOAD`.
    `min_evidence` leaves weaker data out. `hardware` = `hardware_of(spec, engine, profile=profile)` where the caller keeps it.
    Raises ValueError for an unknown `min_evidence` or a load below 1.
    """
    if min_evidence not in EVIDENCE:
        raise ValueError(f"min_evidence is {min_evidence!r}; allowed: {', '.join(EVIDENCE)}")
    known = hardware if hardware is not None else hardware_of(spec, engine, profile=profile)
    asked = Asked(profile, known, model_id, shape, precision, engine, engine_version, layout, load, slo)
    if support(precision, known.dtypes) == "Unsupported":
        return precision_unsupported(known, precision, model_id)
    allowed = EVIDENCE[: EVIDENCE.index(min_evidence) + 1]
    points = points_for(spec.throughput, model_id=model_id, precision=precision, engine=engine, layout=layout)
    usable = [point for point in points if point.entry.evidence in allowed]
    too_slow: list[Reading] = []
    for evidence in allowed:
        of_class = [point for point in usable if point.entry.evidence == evidence]
        reading = _read(_of_version(of_class, engine_version), load, slo, too_slow)
        if reading is not None:
            return _from_entries(reading, asked)
    firm = [reading for reading in too_slow if not _is_estimate(reading)]
    if firm:
        return entries_too_slow(firm[0], asked)
    if too_slow:
        return _instead_of(too_slow[0], asked)
    if usable and load is not None:
        return load_outside(usable, load, asked)
    if "Estimated" not in allowed:
        return too_weak(points, min_evidence, asked)
    return _closed_form(asked)


def _of_version(points: Sequence[Point], version: str | None) -> list[Point]:
    """Entries of this engine version; those of another one only where there is none. No version named on a side = fits."""
    same = [point for point in points if _fits(point, version)]
    return same or list(points)


def _fits(point: Point, version: str | None) -> bool:
    return version is None or point.entry.engine_version in (None, version)


def _read(points: Sequence[Point], load: Load | None, slo: Slo, too_slow: list[Reading]) -> Reading | None:
    """What these entries of one evidence say about the load; readings that break the SLO are put aside in `too_slow`."""
    readings: list[Reading] = []
    if load is None:
        readings = [as_it_is(point) for series in _series(points) for point in series]
    else:
        for series in _series([point for point in points if _lengths_fit(point, load)]):
            readings += _in_series(series, load)
    fine = [reading for reading in readings if not _breaks(reading, slo)]
    too_slow += [reading for reading in readings if _breaks(reading, slo)]
    if not fine:
        return None
    return min(fine, key=lambda one: (distance(one.nearest, load), -one.rate, one.nearest.index))


def _lengths_fit(point: Point, load: Load) -> bool:
    return covers(point.entry, Load(load.input_tokens, load.output_tokens))


def _series(points: Sequence[Point]) -> list[list[Point]]:
    """Entries that differ in concurrency only, ascending in it; of several at the same concurrency the latest, of one day the slowest."""
    groups: dict[tuple[object, ...], list[Point]] = {}
    for point in points:
        entry = point.entry
        key = (entry.precision, entry.engine_version, entry.input_tokens, entry.output_tokens, entry.accepted_length)
        groups.setdefault(key, []).append(point)
    made = []
    for group in groups.values():
        latest: dict[int | None, Point] = {}
        for point in sorted(group, key=lambda one: (one.entry.date, -one.rate, -one.index)):
            latest[point.concurrency] = point
        made.append(sorted(latest.values(), key=lambda one: (one.concurrency is None, one.concurrency or 0)))
    return made


def _in_series(series: list[Point], load: Load) -> list[Reading]:
    """Readings of one series at the load's concurrency: exact, between two neighbours that both allow it, or one entry that covers it."""
    wanted = load.concurrency
    if wanted is None:
        return [as_it_is(point) for point in series]
    placed = [(point.concurrency, point) for point in series if point.concurrency is not None]
    below = [point for concurrency, point in placed if concurrency <= wanted]
    above = [point for concurrency, point in placed if concurrency >= wanted]
    if below and above and below[-1] is not above[0] and _allows(below[-1], wanted) and _allows(above[0], wanted):
        return [between(below[-1], above[0], wanted)]
    # The next entry of higher concurrency, or of lower that says for itself that it reaches this far; then one that does not state its own.
    for point in (*above[:1], *below[-1:], *(point for point in series if point.concurrency is None)):
        if answers(point, wanted):
            return [at_other(point, wanted)]
    return []


def _allows(point: Point, concurrency: int) -> bool:
    """Whether an end of an interpolation may be used for it: its `validFor` does not say otherwise. The default range does not count."""
    stated = point.entry.valid_for
    return stated is None or stated.concurrency is None or answers(point, concurrency)


def _is_estimate(reading: Reading) -> bool:
    return reading.nearest.entry.evidence == "Estimated"


def _breaks(reading: Reading, slo: Slo) -> bool:
    """A known latency is above its limit; an unknown one breaks nothing. Of an estimate the one that follows from its own numbers counts as
    known: there is something to put in its place."""
    itl = reading.token_s if _is_estimate(reading) else reading.itl_s
    return (slo.ttft_s is not None and reading.ttft_s is not None and reading.ttft_s > slo.ttft_s) or (
        slo.itl_s is not None and itl is not None and itl > slo.itl_s
    )


def _instead_of(reading: Reading, asked: Asked) -> Performance | Refusal:
    """An estimate of somebody is too slow for the SLO. It was made for one concurrency, mostly the largest that its own limit allowed, so
    it proves nothing for fewer requests: the closed form looks for the concurrency that keeps the SLO."""
    found = _closed_form(asked)
    if isinstance(found, Refusal):
        return found if found.reason == SLO_UNREACHABLE else entries_too_slow(reading, asked)
    note = f"throughput[{reading.nearest.index}] (Estimated) is too slow for the SLO, the closed form stands in"
    return replace(found, assumptions=(*found.assumptions, note))


def _from_entries(reading: Reading, asked: Asked) -> Performance:
    entries = [point.entry for point in reading.points]
    entry = reading.nearest.entry
    confidence: str = max((one.confidence for one in entries), key=_CONFIDENCE.index)
    notes = reading.notes
    if not all(_fits(point, asked.version) for point in reading.points):
        confidence = _LOWER_CONFIDENCE[confidence]
        notes = (*notes, f"entry of {asked.engine} {entry.engine_version}, not {asked.version}")
    if reading.scaled:
        confidence = _LOWER_CONFIDENCE[confidence]
    if asked.slo.itl_s is not None and reading.itl_s is None and (follows := reading.token_s or 0.0) > asked.slo.itl_s:
        known = f"concurrency and rate make it {follows * 1e3:.3g} ms, the SLO is {asked.slo.itl_s * 1e3:g} ms"
        notes = (*notes, f"throughput[{reading.nearest.index}] states no itl: {known}")
    lower, upper = _bounds(reading, asked)
    upper = None if reading.scaled else upper
    planned = lower if entry.evidence == "Estimated" and lower is not None else reading.rate
    return Performance(
        output_tokens_per_s=planned,
        point=reading.rate,
        lower=lower,
        upper=upper,
        ttft_s=reading.ttft_s,
        itl_s=reading.itl_s,
        concurrency=reading.concurrency,
        evidence=entry.evidence,
        confidence=confidence,
        source=" and ".join(dict.fromkeys(one.source for one in entries)),
        date=min(one.date for one in entries),
        entry=reading.nearest.index,
        assumptions=notes,
    )


def _bounds(reading: Reading, asked: Asked) -> tuple[float | None, float | None]:
    """Measured: its confidence interval, where stated. Published: none. Estimated: the margins of the closed form."""
    entry = reading.nearest.entry
    if entry.evidence == "Estimated":
        kind, derate = _class_of(asked)
        if kind is LayoutClass.IN_NODE:
            return reading.rate / IN_NODE_MARGIN, reading.rate * IN_NODE_MARGIN
        return min(reading.rate / IN_NODE_MARGIN, reading.rate / derate / ELSEWHERE_MARGIN), None
    errors = [decimal_float(point.entry.error_percent) for point in reading.points if point.entry.error_percent is not None]
    if len(errors) < len(reading.points):
        return None, None
    width = min(max(errors) / 100.0, 1.0)
    return reading.rate * (1.0 - width), reading.rate * (1.0 + width)


def _class_of(asked: Asked) -> tuple[LayoutClass, float]:
    if asked.shape is not None:
        return layout_class(asked.shape, asked.layout, asked.hardware)
    kind = LayoutClass.CROSS_NODE if asked.layout.span > 1 else LayoutClass.IN_NODE
    return kind, asked.hardware.derate[kind]


def _closed_form(asked: Asked) -> Performance | Refusal:
    """The estimator's answer, on its lower bound."""
    load = asked.load or _assumed_load(asked.shape)
    if asked.shape is None:
        return nothing_known(asked)
    found = estimate(asked.shape, asked.hardware, asked.layout, asked.precision, load, asked.slo, model=asked.model_id)
    if isinstance(found, Refusal):
        return found
    notes = found.assumptions
    if asked.load is None:
        notes = (*notes, f"load of {load.input_tokens} + {load.output_tokens} tokens per request assumed")
    return Performance(
        output_tokens_per_s=found.lower,
        point=found.output_tokens_per_s,
        lower=found.lower,
        upper=found.upper,
        ttft_s=found.ttft_s,
        itl_s=found.itl_s,
        concurrency=found.concurrency,
        evidence="Estimated",
        confidence="Low",
        source="closed form (docs/estimator.md)",
        date=None,
        entry=None,
        assumptions=notes,
    )


def _assumed_load(shape: Shape | None) -> Load:
    """Shorter where the model's context is."""
    total = ASSUMED_LOAD.input_tokens + ASSUMED_LOAD.output_tokens
    if shape is None or shape.max_context is None or shape.max_context >= total:
        return ASSUMED_LOAD
    output = max(1, shape.max_context * ASSUMED_LOAD.output_tokens // total)
    return Load(max(1, shape.max_context - output), output)
