"""From the readings of one tick to the arrival work per second, as an interval [low, high] of what it may be.

Fully read, both ends are the same number. A replica that is not read counts with its own last rate at the low end (up to `OWN_VALUE_S`,
then nothing) and at its target at the high end, so that doubt neither raises nor lowers: a level moves only to the nearest end of the
interval. With fewer than `FRESH_SHARE` of the replicas read, the high end is open and nothing can fall.

Arrivals are counted at the gateway if it counts them, else by the engines: prompt tokens processed plus the growth of what waits. A loaded
model whose replicas all read zero in one poll is not believed at once (some exporters fill gaps with zeros): it is unknown until a second
poll finds nothing running, and as long as counters stand lower than they did.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from autoscaling import mix as mixes
from autoscaling.counters import Door, Front, Late, Part, Reading, knock, serves, step
from autoscaling.mix import Mix
from autoscaling.policy import DEFAULT_TTFT_S, FRESH_SHARE, GAP_TICKS, OWN_VALUE_S
from autoscaling.types import Look, MetricState, Replica, ReplicaState, Settings, Slice


@dataclass(frozen=True, slots=True)
class Windows:
    """What is kept between ticks."""

    at: float  # of the last look
    readings: tuple[Reading, ...] = ()  # by id
    front: Front | None = None
    mix: Mix = Mix()  # noqa: RUF009 - immutable
    loaded: bool = False  # something arrived or ran at the last poll that was believed
    doubted: bool = False  # the last poll was zero all at once
    ghosts: tuple[Reading, ...] = ()  # baselines since counters stood lower all at once, not believed yet


@dataclass(frozen=True, slots=True)
class Measured:
    """One tick. Work in reference work-seconds (per second); None = unknown."""

    state: MetricState  # Value | Zero | Partial | Unknown
    seconds: float  # since the last tick, believed
    low: float = 0.0  # work/s that arrives at least
    high: float = inf
    gap: bool = False  # too long since the last tick, or the clock went back
    fresh: float = 0.0  # share of the serving replicas that were read
    failed: bool = False  # a poll was due and nothing was learned of the load
    backlog: float | None = None  # work that waits
    wake: bool = False  # somebody waits, or asked, at the gateway
    inside: float = 0.0  # requests in flight that are known
    kv_tokens: float = 0.0
    kv_room: float = 0.0  # tokens of all serving replicas that were read
    parts: tuple[Part, ...] = ()
    ttft: Late = Late()  # noqa: RUF009 - immutable
    itl: Late = Late()  # noqa: RUF009 - immutable
    saved: float = 0.0  # prompt work per second that the prefix caches save
    requests: float = 0.0

    @property
    def known(self) -> bool:
        return self.state in (MetricState.VALUE, MetricState.ZERO, MetricState.PARTIAL)


def measure(windows: Windows | None, look: Look, ordered: tuple[Replica, ...], shrunk: float) -> tuple[Windows, Measured]:
    """The next windows and what is measured. `ordered` are the look's replicas by id; `shrunk` (0 to 1) is the share of the capacity
    that would stay after one replica less, for the check of the token latency."""
    settings, now = look.settings, look.now
    tick = settings.tick_s
    first = windows is None
    if windows is None:
        windows = Windows(now, mix=Mix(first_prompt=settings.prompt_tokens, first_output=settings.output_tokens))
    passed = now - windows.at
    gap = not first and (passed < 0.0 or passed > GAP_TICKS * tick + 1.0)
    believe = not first and not gap
    seconds = passed if believe else 0.0
    itl = settings.slo.itl_s
    limits = (settings.slo.ttft_s or DEFAULT_TTFT_S, itl * shrunk if itl is not None else None)
    readings, parts = _read(windows.readings, ordered, now, tick, believe, limits)
    front, door = knock(windows.front, look.gateway, now, tick, believe)
    if parts and look.gateway is not None and look.gateway.only_at_zero:
        door = Door(waiting=door.waiting, waiting_prompt=door.waiting_prompt)  # its counter stands still beside those who serve
    ghosts: tuple[Reading, ...] = ()
    doubted = False
    if windows.ghosts:
        later, seen = _read(windows.ghosts, ordered, now, tick, believe, limits)
        if not any(p.reset for p in parts):
            pass  # the old counters are back, or other replicas serve: go on from the old baseline
        elif any(p.fresh and p.rates is not None and (not p.rates.flat or p.rates.running > 0.0) for p in seen):
            readings, parts = later, seen  # they move: a true restart
        else:
            ghosts, doubted = later, True
    elif windows.loaded and _all_zero(parts, door):
        if any(p.reset for p in parts):
            ghosts, doubted = readings, True
        elif not windows.doubted:
            doubted = True
    if doubted:
        readings = windows.readings  # the baseline stays, so that nothing is lost if the zeros were false
        parts = tuple(replace(p, rates=None, fresh=False, waiting=None, inside=None, kv=None) for p in parts)
    mix = mixes.follow(windows.mix, [p.rates for p in parts if p.fresh and p.rates is not None], seconds)
    measured = _measured(look, mix, parts, door, seconds, gap, doubted, first)
    loaded = windows.loaded
    if measured.known and measured.fresh > 0.0:
        loaded = measured.low > 0.0 or measured.inside > 0.0
    return Windows(now, readings, front, mix, loaded, doubted, ghosts), measured


def _read(
    kept: tuple[Reading, ...],
    ordered: tuple[Replica, ...],
    now: float,
    tick: float,
    believe: bool,
    limits: tuple[float | None, float | None],
) -> tuple[tuple[Reading, ...], tuple[Part, ...]]:
    known = {r.id: r for r in kept}
    readings: list[Reading] = []
    parts: list[Part] = []
    for replica in ordered:
        if serves(replica):
            reading, part = step(known.get(replica.id), replica, now, tick, believe, limits, OWN_VALUE_S)
            readings.append(reading)
            parts.append(part)
        else:
            readings.append(Reading(replica.id, replica.since, None))
    return tuple(readings), tuple(parts)


def _all_zero(parts: tuple[Part, ...], door: Door) -> bool:
    """Whether everything that was read says that nothing arrives and nothing is inside."""
    read = [p for p in parts if p.span > 0.0 or p.reset]
    if not read or (door.requests or 0.0) > 0.0 or (door.waiting or 0.0) > 0.0:
        return False
    return all((p.inside or 0.0) == 0.0 and (p.reset or p.rates is None or p.rates.flat) for p in read)


def _measured(look: Look, mix: Mix, parts: tuple[Part, ...], door: Door, seconds: float, gap: bool, doubted: bool, first: bool) -> Measured:
    settings = look.settings
    values = [_value(look, mix, p) for p in parts]
    told = [p.fresh and value is not None for p, value in zip(parts, values, strict=True)]
    fresh = sum(told) / len(parts) if parts else 1.0
    targets = [p.replica.work_per_s for p in parts if p.replica.work_per_s is not None]
    most = max(targets, default=inf)
    low = high = 0.0
    inside = 0.0
    still = bool(parts)  # everything was read, is flat and empty
    for p, value, now in zip(parts, values, told, strict=True):
        target = p.replica.work_per_s if p.replica.work_per_s is not None else most
        low += value or 0.0
        high += value if now and value is not None else max(value or 0.0, target)
        inside += p.inside or 0.0
        still = still and p.fresh and p.inside == 0.0 and p.rates is not None and p.rates.flat
    at_door = _at_door(settings, look, mix, door)
    waits = (door.waiting or 0.0) > 0.0
    counted = any(told)
    if at_door is not None and (at_door > 0.0 or low <= 0.0):
        low = high = at_door
    elif not counted:
        high = inf  # nothing was read at all: what was read before says nothing of now
    if fresh < FRESH_SHARE or doubted:
        high = inf
    learned_something = counted or at_door is not None
    if doubted or not learned_something:
        state = MetricState.UNKNOWN
    elif fresh < 1.0:
        state = MetricState.PARTIAL
    elif low == 0.0 and high == 0.0 and not waits and (still if parts else at_door == 0.0) and (not door.read or door.requests == 0.0):
        state = MetricState.ZERO
    else:
        state = MetricState.VALUE
    baseline = first and any(p.inside is not None for p in parts)  # read, but nothing to compare with yet
    loading_only = bool(look.replicas) and all(r.state in (ReplicaState.LOADING, ReplicaState.CANDIDATE) for r in look.replicas)
    return Measured(
        state, seconds, low, high, gap, fresh,
        failed=state is MetricState.UNKNOWN and not (loading_only and look.gateway is None) and not gap and not baseline,
        backlog=_backlog(look, mix, parts, door),
        wake=waits or (door.requests or 0.0) > 0.0,
        inside=inside + (door.waiting or 0.0),
        kv_tokens=sum((p.kv or 0.0) * (_capacity(p) or 0.0) for p in parts),
        kv_room=sum(_capacity(p) or 0.0 for p in parts if p.kv is not None),
        parts=parts,
        ttft=Late(sum(p.ttft.seen for p in parts), sum(p.ttft.late for p in parts)),
        itl=Late(sum(p.itl.seen for p in parts), sum(p.itl.late for p in parts)),
        saved=look.costs.prompt * (1.0 - mix.missed) * sum(p.rates.prompt or 0.0 for p in parts if p.rates is not None),
        requests=door.requests if door.requests is not None else sum(p.rates.requests or 0.0 for p in parts if p.rates is not None),
    )  # fmt: skip


def _capacity(part: Part) -> float | None:
    return part.replica.sample.kv_capacity if part.replica.sample is not None else None


def _value(look: Look, mix: Mix, part: Part) -> float | None:
    """Load of one replica in work/s, by the metric that the user chose; None = not known."""
    settings = look.settings
    if settings.metric != "Work" and settings.target_per_replica:
        if settings.metric == "InFlight":
            return part.inside / settings.target_per_replica if part.inside is not None else None
        if settings.metric == "KVCacheUse":
            return part.kv * (part.replica.work_per_s or 0.0) / settings.target_per_replica if part.kv is not None else None
        counted = part.rates.requests if part.rates is not None else None
        return counted / settings.target_per_replica if counted is not None else None
    if part.rates is None:
        return None
    r = part.rates
    if r.requests is None:  # by what was computed, which the capacity bounds; what waits beyond it is the backlog's
        return look.costs.of(r.prompt or 0.0, r.output or 0.0) if look.role is Slice.WHOLE else None
    prompt = r.prompt
    if prompt is not None:
        prompt = max(0.0, prompt + r.waiting * (mix.mean_prompt or 0.0))
    return mix.work(look.costs, look.role, r.requests, prompt, r.output)


def _at_door(settings: Settings, look: Look, mix: Mix, door: Door) -> float | None:
    if door.requests is None:
        return None
    if settings.metric == "Work" or not settings.target_per_replica:
        return mix.work(look.costs, look.role, door.requests, door.prompt)
    return door.requests / settings.target_per_replica if settings.metric == "RequestRate" else None


def _backlog(look: Look, mix: Mix, parts: tuple[Part, ...], door: Door) -> float | None:
    waiting = [p.waiting for p in parts if p.waiting is not None]
    if not waiting and door.waiting is None:
        return None
    total = mix.work(look.costs, look.role, sum(waiting), None)
    held = mix.work(look.costs, look.role, door.waiting or 0.0, door.waiting_prompt)
    return None if total is None or held is None else total + held
