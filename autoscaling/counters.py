"""One replica's counters, from one reading to the next: rates where both readings can be believed, else unknown.

A reading is judged by its own stamp: older than `STALE_S` or from the future, it is not used. A counter that went back, a stamp that went
back and a pause longer than `STALE_S` make a new baseline and leave the interval unknown. A number that is not finite or is negative is
not known, never zero. The accuracy checker's own requests are taken off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite
from operator import attrgetter
from typing import NamedTuple

from autoscaling.policy import LATE, STALE_S
from autoscaling.types import Gateway, Histogram, Replica, ReplicaState, Sample

_SERVED = frozenset({ReplicaState.READY, ReplicaState.DRAINING})


class Rates(NamedTuple):
    """Per second, over one interval. None = the engine does not say."""

    requests: float | None  # that arrived
    prompt: float | None  # prompt tokens processed
    output: float | None  # tokens generated
    finished: float | None
    running: float  # growth of the requests that run
    waiting: float  # growth of the requests that wait
    cached: float
    queried: float

    @property
    def flat(self) -> bool:
        """Whether nobody came. An engine that counts no requests says so by its tokens."""
        return self.requests == 0.0 if self.requests is not None else self.prompt == 0.0 and self.output == 0.0


@dataclass(frozen=True, slots=True)
class Late:
    """Observations of a latency in an interval, and how many were later than the goal."""

    seen: float = 0.0
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What is kept of a replica. `sample` is the baseline of the next interval; None = it was seen before it served, and starts at 0."""

    id: str
    since: float  # when it entered its state, as told then
    sample: Sample | None
    rates: Rates | None = None  # of the last interval that could be believed
    rates_at: float = 0.0  # stamp of its end
    back: bool = False  # its counters went back and have not moved since: flat means nothing, it may be filled with zeros


@dataclass(frozen=True, slots=True)
class Part:
    """One serving replica at one tick."""

    replica: Replica
    rates: Rates | None  # this interval's, or its own last ones if they are no older than `OWN_VALUE_S`
    fresh: bool  # this interval's
    waiting: float | None
    inside: float | None
    kv: float | None
    reset: bool = False  # a counter went back
    span: float = 0.0  # of this interval, s; 0 = none
    queued: float = 0.0  # requests that waited at both ends of the interval
    ttft: Late = Late()
    itl: Late = Late()


def known(value: float | None) -> float | None:
    """The number, or None unless it is finite and not negative."""
    return value if value is not None and isfinite(value) and value >= 0.0 else None


def usable(at: float, now: float, slack: float) -> bool:
    """Whether a stamp is neither too old nor from the future by more than `slack` seconds."""
    return isfinite(at) and now - STALE_S <= at <= now + slack


def cleaned(sample: Sample) -> Sample:
    """The sample without numbers that cannot be."""
    bad: dict[str, None] = {}
    for name, value in zip(_NUMBERS, _GET(sample), strict=True):
        if value is not None and not 0.0 <= value < inf:  # NaN is neither
            bad[name] = None
    return replace(sample, **bad) if bad else sample  # type: ignore[arg-type]


_COUNTERS = ("arrived", "finished", "prompt_tokens", "output_tokens", "cached_tokens", "queried_tokens")
_CHECKER = ("checker_requests", "checker_prompt_tokens", "checker_output_tokens")
_NUMBERS = (*_COUNTERS, "running", "waiting", "kv_used", "kv_capacity", *_CHECKER)
_GET = attrgetter(*_NUMBERS)


def went_back(old: Sample, new: Sample) -> bool:
    """Whether a counter is lower than it was."""
    for name in _COUNTERS:
        before, after = getattr(old, name), getattr(new, name)
        if before is not None and after is not None and after < before:
            return True
    return False


def _grown(old: float | None, new: float | None, off_old: float | None = None, off_new: float | None = None) -> float | None:
    """Growth of a counter less the growth of what is taken off it, at least 0."""
    if old is None or new is None:
        return None
    return max(0.0, (new - old) - max(0.0, (off_new or 0.0) - (off_old or 0.0)))


def _ended(sample: Sample) -> float | None:
    if sample.finished is not None:
        return sample.finished
    inside = sample.inside
    return None if sample.arrived is None or inside is None else max(0.0, sample.arrived - inside)


ZERO = Sample(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, uncounted=True)


def between(old: Sample, new: Sample, span: float) -> Rates | None:
    """Rates over `span` seconds; None if it is not known how many requests came, nor, where the engine never counts them, their tokens."""
    requests = _grown(old.counted, new.counted, old.checker_requests, new.checker_requests)
    prompt = _grown(old.prompt_tokens, new.prompt_tokens, old.checker_prompt_tokens, new.checker_prompt_tokens)
    output = _grown(old.output_tokens, new.output_tokens, old.checker_output_tokens, new.checker_output_tokens)
    if requests is None and not (old.uncounted and new.uncounted and prompt is not None and output is not None):
        return None
    finished = _grown(_ended(old), _ended(new), old.checker_requests, new.checker_requests)
    return Rates(
        None if requests is None else requests / span,
        None if prompt is None else prompt / span,
        None if output is None else output / span,
        None if finished is None else finished / span,
        ((new.running or 0.0) - (old.running or 0.0)) / span if new.running is not None and old.running is not None else 0.0,
        ((new.waiting or 0.0) - (old.waiting or 0.0)) / span if new.waiting is not None and old.waiting is not None else 0.0,
        (_grown(old.cached_tokens, new.cached_tokens) or 0.0) / span,
        (_grown(old.queried_tokens, new.queried_tokens) or 0.0) / span,
    )


def over(histogram: Histogram, limit: float) -> tuple[float, float]:
    """(observations, of them certainly later than `limit`: those above the first bound that is not below it). Since the start."""
    if not histogram.counts:
        return 0.0, 0.0
    seen = histogram.counts[-1]
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        if bound >= limit:
            return seen, max(0.0, seen - count)
    return seen, 0.0


def late(old: Histogram | None, new: Histogram | None, limit: float | None) -> Late:
    """Of the observations between two readings, those later than `limit`; nothing if one is missing or counts went back."""
    if old is None or new is None or limit is None or old.bounds != new.bounds:
        return Late()
    seen_old, late_old = over(old, limit)
    seen_new, late_new = over(new, limit)
    seen, past = seen_new - seen_old, late_new - late_old
    return Late(seen, min(seen, max(0.0, past))) if isfinite(seen) and isfinite(past) and seen > 0.0 else Late()


def serves(replica: Replica) -> bool:
    """Whether its load counts: it takes requests, or ends those it has."""
    return replica.state in _SERVED


def step(reading: Reading | None, replica: Replica, now: float, slack: float, believe: bool, limits: tuple[float | None, float | None],
         own_s: float) -> tuple[Reading, Part]:  # fmt: skip
    """The next reading and part of a replica that serves. `believe` False: the pause since the last tick is no measure, make a baseline.
    `limits` are the goals for TTFT and ITL, s."""
    old = reading
    sample = replica.sample
    if sample is None or not usable(sample.at, now, slack):
        kept = old if old is not None else Reading(replica.id, replica.since, None, None, 0.0)
        return kept, Part(replica, _own(kept, now, own_s), False, None, None, None)
    sample = cleaned(sample)
    gauges = (sample.waiting, sample.inside, sample.kv_used)
    base = old.sample if old is not None else None
    if base is None and old is not None and old.sample is None and old.since >= 0.0 and replica.since > max(old.since, sample.at - STALE_S):
        # Seen before it served, so it starts at zero. What came to it is spread over a whole tick, as the rates of the others are: an
        # empty replica takes all new requests for a while, which are no larger load for that. One that has served unread for longer than
        # a reading lasts is as any other after an outage: its counter says nothing of now.
        base = replace(ZERO, at=min(replica.since, sample.at - max(slack, 1.0)))
    if old is None or base is None or not believe:
        kept = Reading(replica.id, replica.since, sample, old.rates if old else None, old.rates_at if old else 0.0)
        return kept, Part(replica, _own(kept, now, own_s) if believe else None, False, *gauges)
    span = sample.at - base.at
    if span == 0.0:  # not read since
        quiet = replica.failed == "" and now - sample.at <= max(2.0 * slack, LATE * (known(sample.every) or 0.0))
        return old, Part(replica, _own(old, now, own_s), quiet and old.rates is not None and old.rates_at == sample.at, *gauges)
    if span < 0.0 or span > STALE_S or went_back(base, sample):
        kept = Reading(replica.id, replica.since, sample, old.rates, old.rates_at, old.back or went_back(base, sample))
        return kept, Part(replica, _own(kept, now, own_s), False, *gauges, reset=went_back(base, sample))
    rates = between(base, sample, span)
    if rates is None and base.counted is None and sample.counted is not None:  # they have appeared: from here on there is a measure
        return replace(old, sample=sample), Part(replica, _own(old, now, own_s), False, *gauges)
    if rates is None:  # counters are missing: the baseline stays, so that nothing is lost when they are back
        return old, Part(replica, _own(old, now, own_s), False, *gauges)
    if old.back and rates.flat and not sample.inside and replica.since <= old.since:
        kept = replace(old, sample=sample)
        return kept, Part(replica, _own(kept, now, own_s), False, *gauges)
    queued = min(base.waiting or 0.0, sample.waiting or 0.0)
    part = Part(
        replica, rates, True, *gauges, span=span, queued=queued,
        ttft=late(base.ttft, sample.ttft, limits[0]), itl=late(base.itl, sample.itl, limits[1]),
    )  # fmt: skip
    return Reading(replica.id, replica.since, sample, rates, sample.at), part


def _own(reading: Reading, now: float, own_s: float) -> Rates | None:
    return reading.rates if reading.rates is not None and now - reading.rates_at <= own_s else None


@dataclass(frozen=True, slots=True)
class Front:
    """What is kept of the gateway's counters."""

    at: float
    arrived: float
    prompt: float | None
    back: bool = False  # it went back and has not moved since: flat means nothing


@dataclass(frozen=True, slots=True)
class Door:
    """The gateway at one tick. Rates per second; None = not known."""

    requests: float | None = None
    prompt: float | None = None
    waiting: float | None = None
    waiting_prompt: float | None = None
    read: bool = False


def knock(front: Front | None, gateway: Gateway | None, now: float, slack: float, believe: bool) -> tuple[Front | None, Door]:
    """The gateway's rates since the last reading, under the same rules as a replica's."""
    if gateway is None or not usable(gateway.at, now, slack):
        return front, Door()
    arrived, prompt = known(gateway.arrived), known(gateway.prompt_tokens)
    waiting, waiting_prompt = known(gateway.waiting), known(gateway.waiting_prompt_tokens)
    if arrived is None:
        return front, Door(None, None, waiting, waiting_prompt)
    fresh = Front(gateway.at, arrived, prompt)
    if front is None or not believe:
        return fresh, Door(None, None, waiting, waiting_prompt)
    span = gateway.at - front.at
    if span == 0.0:
        return front, Door(None, None, waiting, waiting_prompt)
    if span < 0.0 or span > STALE_S:
        return fresh, Door(None, None, waiting, waiting_prompt)
    if arrived < front.arrived or (prompt is not None and front.prompt is not None and prompt < front.prompt):
        return replace(fresh, back=True), Door(None, None, waiting, waiting_prompt)
    if front.back and arrived == front.arrived:
        return replace(fresh, back=True), Door(None, None, waiting, waiting_prompt)
    tokens = (prompt - front.prompt) / span if prompt is not None and front.prompt is not None else None
    return fresh, Door((arrived - front.arrived) / span, tokens, waiting, waiting_prompt, True)
