"""What is remembered of every scaled model between ticks, and what the cycle is told: only what changed, and only when it means something.

A decision is made at every tick; a cycle runs only if the work, the bounds, `mayShrink`, what is known of the load, or what is told of it
changed. The last three move with noise, so they are told late: a burst warning and an obstacle must have lasted for `STEADY_S`, an outage
for `UNREAD_S`, its end for one more poll; a cold start must differ by a tenth. A hold for no other reason than that all is well is no news
at all: the last decision goes on being told. So constant load tells nothing, and causes no write.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from autoscaling.memory import Memory
from autoscaling.season import Season
from autoscaling.types import Decision, Demand, Direction, MetricState, Why
from polyfleet.scaling import stuck
from polyfleet.scaling.force import Exhausted, Force, Reference, Told
from polyfleet.scaling.starts import Starts
from polyfleet.scaling.stuck import stamp

STEADY_S = 60.0
UNREAD_S = 30.0
AGAIN_S = 10.0  # an outage is over with the second poll that tells something
KNOWN = (MetricState.VALUE, MetricState.ZERO, MetricState.PARTIAL)
# A surplus is there and something keeps it: what a person may want to know, unlike the window that every scale-down waits for.
OBSTACLES = (Why.EVENT_BUDGET, Why.CONSOLIDATION, Why.TOO_FEW_FRESH, Why.LOADING, Why.UNKNOWN_STOCK)
_NEWS = frozenset(str(why) for why in (*OBSTACLES, Why.UNKNOWN_LOAD, Why.FALLBACK, Why.MAXIMUM))
_START_BAND = 0.1
_DIGITS = re.compile(r"[0-9]+")
NOBODY: Mapping[str, float] = MappingProxyType({})
_CACHE_BAND = 0.01


@dataclass(slots=True)
class Entry:
    """One model. `memory` is `decide`'s; None = no knowledge."""

    uid: str
    memory: Memory | None = None
    unit: Reference | None = None
    starts: Starts = field(default_factory=Starts)
    force: Force | None = None
    latest: Demand | None = None  # of the last tick, with live numbers: for metrics only
    ready: bool = False  # what was learned before is read, or known not to be there
    fresh: bool = True  # nothing of it was looked at yet
    stored: Mapping[str, object] | None = None  # as it was written last
    stored_at: float = float("-inf")
    changed: bool = False  # learned state moved since
    season: Season = Season()  # noqa: RUF009 - immutable; of earlier days, beside the memory: it is no part of a decision
    season_mark: Season = Season()  # noqa: RUF009 - immutable; of what was written last
    season_due: bool = False  # the season has moved since
    exhausted: tuple[Exhausted, ...] = ()
    conflict: str = ""
    cache: dict[str, float] = field(default_factory=dict)  # option -> least KV cache that a replica of it has said to have, tokens
    _waits: dict[str, tuple[object, float]] = field(default_factory=dict)  # what is to be told -> (value, since when)

    def cached(self, option: str, tokens: float | None) -> None:
        """Replicas of an option differ by a few blocks, so the least of them counts, and a hundredth is no difference."""
        if tokens and tokens < self.cache.get(option, float("inf")) * (1.0 - _CACHE_BAND):
            self.cache[option] = tokens

    def lasted(self, what: str, value: object, told: object, now: float, steady_s: float = STEADY_S) -> bool:
        """Whether a value other than the told one has lasted long enough to be told."""
        if value == told:
            self._waits.pop(what, None)
            return False
        before = self._waits.get(what)
        if before is None or before[0] != value:
            before = self._waits[what] = (value, now)
        if now - before[1] < steady_s:
            return False
        self._waits.pop(what, None)
        return True


class Board:
    """Keys are namespace/name of a ModelDeployment."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._shown: Mapping[str, Force] | None = None

    def entry(self, key: str, uid: str) -> Entry:
        """A model that was deleted and made again is another model."""
        found = self.entries.get(key)
        if found is None or found.uid != uid:
            found = self.entries[key] = Entry(uid)
            self._shown = None
        return found

    def forces(self) -> Mapping[str, Force]:
        """What every model's cycle is told; the same object until something changes."""
        if self._shown is None:
            self._shown = {key: entry.force for key, entry in sorted(self.entries.items()) if entry.force is not None}
        return self._shown

    def changed(self) -> None:
        """An entry's `force` was replaced."""
        self._shown = None

    def keep(self, keys: Collection[str]) -> bool:
        """Forgets every model but these; True if one was forgotten."""
        gone = [key for key in self.entries if key not in keys]
        for key in gone:
            del self.entries[key]
        if gone:
            self._shown = None
        return bool(gone)

    def tell(
        self,
        key: str,
        decision: Decision,
        now: float,
        *,
        starts: Sequence[tuple[str, float]] = (),
        wake: tuple[float | None, str] = (None, ""),
        slowest: float | None = None,
        stale: bool = False,
        second: bool = False,
        busy: Mapping[str, float] = NOBODY,
    ) -> bool:
        """Takes up one decision; True if the cycle has to know. `starts`, `wake`, `slowest`: as the look had them; `stale`: some replica
        was read once; `second`: some reading is of Prometheus; `busy`: requests in flight by pod uid."""
        entry = self.entries[key]
        memory = decision.memory
        assert isinstance(memory, Memory)
        entry.memory, entry.latest = memory, decision.demand
        entry.changed = entry.changed or decision.learned_changed
        entry.exhausted = stuck.merged(entry.exhausted, (), now)
        force = _force(entry, decision.demand, now, tuple(starts), wake, slowest, stale, second, busy)
        if force == entry.force:
            return False
        entry.force, self._shown = force, None
        return True


def _force(
    entry: Entry,
    found: Demand,
    now: float,
    starts: tuple[tuple[str, float], ...],
    wake: tuple[float | None, str],
    slowest: float | None,
    stale: bool,
    second: bool,
    busy: Mapping[str, float],
) -> Force:
    before = entry.force
    at = stamp(now)
    moved = before is None or _asked(found) != _asked(before.demand)
    demand = found if before is None or moved or _group(found) != _group(before.demand) else before.demand
    shown = _shown_starts(before.starts if before is not None else (), starts)
    metrics, text = _metrics(entry, found, now)
    return Force(
        demand=demand,
        since=at if before is None or moved else before.since,
        told=_told(entry, found, now),
        metrics=metrics,
        metrics_text=text,
        stale=stale if before is None or metrics is not before.metrics else before.stale,
        second=second if before is None or entry.lasted("second", second, before.second, now) else before.second,
        too_fast=_too_fast(entry, found, now),
        reference=entry.unit,
        exhausted=entry.exhausted,
        starts=shown,
        cache=tuple(sorted(entry.cache.items())),
        busy=before.busy if before is not None and not moved else tuple(sorted(busy.items())) if found.direction is Direction.DOWN else (),
        wake_s=before.wake_s if before is not None and _near(before.wake_s, wake[0]) else wake[0],
        slowest_s=before.slowest_s if before is not None and _near(before.slowest_s, slowest) else slowest,
        awake=_awake(entry, found, now),
        wake_fault=before.wake_fault if before is not None and before.wake_fault and wake[1] else wake[1],
        conflict=entry.conflict,
    )


def _asked(demand: Demand) -> tuple[object, ...]:
    return (demand.work_per_s, demand.bucket_work, demand.min_replicas, demand.max_replicas, demand.may_shrink, demand.kv_floor)


def _group(demand: Demand) -> str:
    return "Known" if demand.metrics in KNOWN else str(demand.metrics)


def _told(entry: Entry, found: Demand, now: float) -> Told | None:
    before = entry.force.told if entry.force is not None else None
    new = Told(str(found.direction), str(found.reason), found.message, stamp(now))
    if found.direction is not Direction.HOLD:
        entry.lasted("told", None, None, now)
        # One decision is told once: a direction that goes on without moving the number is the same decision.
        same = before is not None and entry.force is not None and _asked(found) == _asked(entry.force.demand)
        return before if same and before is not None and before.direction == new.direction else new
    if before is None:
        return replace(new, first=True)
    told = before.reason if not before.first and before.direction == Direction.HOLD and before.reason in _NEWS else ""
    return new if entry.lasted("told", new.reason if new.reason in _NEWS else "", told, now) else before


def _metrics(entry: Entry, found: Demand, now: float) -> tuple[MetricState | None, str]:
    before, text = (entry.force.metrics, entry.force.metrics_text) if entry.force is not None else (None, "")
    state = MetricState.VALUE if found.metrics in KNOWN else found.metrics
    if (before is None and state is not MetricState.UNKNOWN) or (state is MetricState.FALLBACK) != (before is MetricState.FALLBACK):
        return state, found.message
    if before is not state and state is MetricState.VALUE and found.direction is Direction.DOWN:
        entry.lasted("metrics", state, state, now)
        return state, found.message  # "nothing shrinks meanwhile" must not stand beside a decision to shrink
    steady = UNREAD_S if state is MetricState.UNKNOWN else AGAIN_S
    return (state, found.message) if entry.lasted("metrics", state, before, now, steady) else (before, text)


def _too_fast(entry: Entry, found: Demand, now: float) -> str:
    before = entry.force.too_fast if entry.force is not None else ""
    return found.too_fast if entry.lasted("too fast", bool(found.too_fast), bool(before), now) else before


def _awake(entry: Entry, found: Demand, now: float) -> str:
    """A reading that fails once is no news, nor is another number in the same sentence."""
    before = entry.force.awake if entry.force is not None else ""
    new, old = (_DIGITS.sub("", text) for text in (found.awake, before))
    return found.awake if entry.lasted("awake", new, old, now) else before


def _shown_starts(before: tuple[tuple[str, float], ...], now: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    old = dict(before)
    return tuple((option, old[option] if option in old and _near(old[option], took) else took) for option, took in now)


def _near(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is now
    return abs(now - before) <= _START_BAND * before
