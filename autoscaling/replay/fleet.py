"""The simulated fleet as its owner handles it: starts replicas, drains them, reads them as a scraper would."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, make_dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from autoscaling.replay.compiled import column, floats, plain, records, values, whole
from autoscaling.replay.engine import (
    BOUNDS,
    BUCKETS,
    COST,
    DECODING,
    DONE,
    DRAINING,
    FLOAT,
    FREE,
    HELD,
    HELD_FIRST,
    KV_TOKENS,
    LAST,
    LOADING,
    NEXT,
    PREFILLING,
    READY,
    SECONDS,
    SEQUENCES,
    TOLD,
    USED,
    WHOLE,
    Slot,
    State,
    advance,
    close,
)
from autoscaling.replay.loads import Load
from autoscaling.types import Gateway, Histogram, ReplicaState, Sample

_PHASES = {LOADING: ReplicaState.LOADING, READY: ReplicaState.READY, DRAINING: ReplicaState.DRAINING}
_ENDS = (*BOUNDS, math.inf)
_FIELDS = (*WHOLE, *FLOAT)
_Read: Any = make_dataclass("_Read", _FIELDS, frozen=False, slots=True)  # the fields of the engine's record


@dataclass(frozen=True, slots=True)
class Option:
    """A kind of replica. `speed` 1 is the reference; `kv_tokens` the size of its cache; cost per hour."""

    name: str = "reference"
    speed: float = 1.0
    kv_tokens: int = KV_TOKENS
    hourly_cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica as it is seen at a tick. `sample` None: it does not serve yet, or could not be read (`failed` says why)."""

    id: str
    option: Option
    state: ReplicaState
    created: float
    since: float  # when it entered the state
    sample: Sample | None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What a policy sees at a tick. `gateway` None and `told` None: not known (an outage). `told`: completed requests, and the output
    tokens that they had, counted since the beginning."""

    now: float
    replicas: tuple[Seen, ...]
    gateway: Gateway | None
    told: tuple[float, float] | None
    wanted: int
    least: int
    most: int

    def count(self, state: ReplicaState) -> int:
        return sum(seen.state is state for seen in self.replicas)

    @property
    def size(self) -> int:
        """Replicas that serve or will."""
        return self.count(ReplicaState.READY) + self.count(ReplicaState.LOADING)


class Fleet:
    """Slots of `engine.State`; at most `most` replicas serve or load, and as many again and more may drain."""

    def __init__(self, load: Load, most: int, epoch: float = 0.0) -> None:
        """`epoch`: the clock of stamps at the beginning of the load, s."""
        self.epoch = epoch
        slots = 2 * most + 24
        self.requests = len(load.arrival)
        self._prompts = np.concatenate(([0], np.cumsum(load.prompt)))
        self._options = [Option()] * slots
        self._names = [""] * slots
        self._since = [0.0] * slots  # when it began to drain
        self._ready = [0.0] * slots
        self._serial = 0
        self.state = State(
            floats(load.arrival), whole(load.prompt), whole(load.output), floats(self.requests, -1.0), whole(self.requests, -1),
            slots=records(Slot, WHOLE, FLOAT, slots), event=floats(slots, math.inf), load=floats(slots, math.inf),
            ends=whole(slots * SEQUENCES), who=whole(slots * SEQUENCES), histogram=whole(slots * BUCKETS), bounds=floats(BOUNDS),
            counts=whole(8), sums=floats(8),
        )  # fmt: skip

    def advance(self, until: float) -> None:
        advance(self.state, until)

    @property
    def done(self) -> bool:
        return int(self.state.counts[DONE]) == self.requests

    def start(self, now: float, ready_at: float, option: Option | None = None) -> None:
        """A replica that costs from `now` on and serves from `ready_at` on."""
        s, option = self.state, option or Option()
        slot = next(place for place, record in enumerate(s.slots) if record.phase == FREE)
        self._serial += 1
        self._names[slot], self._options[slot], self._ready[slot] = f"r{self._serial:05d}", option, ready_at
        s.counts[USED] = max(int(s.counts[USED]), slot + 1)
        record = s.slots[slot]
        for name in (*WHOLE, *FLOAT):
            setattr(record, name, 0)
        for place in range(slot * BUCKETS, (slot + 1) * BUCKETS):
            s.histogram[place] = 0
        record.phase, record.filling, record.created, record.step = LOADING, -1, now, 1.0
        record.price, record.speed, record.room = option.hourly_cost / 3600.0, option.speed, option.kv_tokens
        s.load[slot], s.event[slot] = math.inf, ready_at
        if ready_at <= now:
            self.advance(now)

    def stop(self, now: float, *, serving: bool = False, among: Collection[str] | None = None) -> None:
        """One replica less: the youngest that loads, which ends at once, else the one with the least outstanding work, which drains.
        `serving`: none of those that load; `among`: only of options with these names."""
        s = self.state
        loading = [] if serving else [(-s.slots[slot].created, self._names[slot], slot) for slot in self._of(LOADING, among)]
        if loading:
            close(s, min(loading)[2], now)
            return
        ready = [(s.slots[slot].owed / s.slots[slot].speed, self._names[slot], slot) for slot in self._of(READY, among)]
        if not ready:
            return
        slot = min(ready)[2]
        if s.event[slot] == math.inf:
            close(s, slot, now)
            return
        s.slots[slot].phase, s.load[slot], self._since[slot] = DRAINING, math.inf, now

    def _phases(self) -> list[int]:
        return column(self.state.slots, "phase", int(self.state.counts[USED]))

    def _in(self, phase: int) -> list[int]:
        return [slot for slot, found in enumerate(self._phases()) if found == phase]

    def _of(self, phase: int, among: Collection[str] | None) -> list[int]:
        return [slot for slot in self._in(phase) if among is None or self._options[slot].name in among]

    def counts(self, *phases: int) -> dict[str, int]:
        """Replicas in these phases by the name of their option."""
        return dict(Counter(self._options[slot].name for phase in phases for slot in self._in(phase)))

    @property
    def size(self) -> int:
        return len(self._in(LOADING)) + len(self._in(READY))

    @property
    def ready(self) -> int:
        return len(self._in(READY))

    def gateway(self, now: float) -> Gateway:
        counts = self.state.counts
        arrived, held, tokens = int(counts[NEXT]), int(counts[HELD]), 0
        request = int(counts[HELD_FIRST])
        for _ in range(held):
            tokens += int(self.state.prompt[request])
            request = int(self.state.following[request])
        return Gateway(self.epoch + now, float(arrived), float(self._prompts[arrived]), float(held), float(tokens), holds_s=math.inf)

    def told(self) -> tuple[float, float]:
        return float(self.state.counts[DONE]), float(self.state.sums[TOLD])

    def seen(self, now: float) -> tuple[Seen, ...]:
        found = []
        for slot, phase in enumerate(self._phases()):
            if phase != FREE:
                state = _PHASES[phase]
                record = _Read(*values(self.state.slots, slot, _FIELDS))
                sample = None if state is ReplicaState.LOADING else self._sample(slot, record, now)
                since = self._since[slot] if state is ReplicaState.DRAINING else record.created if sample is None else self._ready[slot]
                found.append(Seen(self._names[slot], self._options[slot], state, record.created, since, sample))
        return tuple(found)

    def _sample(self, slot: int, r: Any, now: float) -> Sample:
        made = 0  # iterations of the present run that are over
        if r.kind in (DECODING, PREFILLING):
            made = max(0, min(int((now - r.start) / r.step + 1e-9), r.count))
        generated = r.decoding * (r.iteration + made + 1) - r.begun
        filled = int(self.state.prompt[r.filling]) - r.rest if r.filling >= 0 else 0
        counts = accumulate(map(float, plain(self.state.histogram[slot * BUCKETS : (slot + 1) * BUCKETS])))
        # Output of completed requests is a sum of what was generated, so the two parts are one counter that never goes back.
        return Sample(
            self.epoch + now,
            arrived=float(r.came),
            finished=float(r.went),
            running=float(r.decoding + (r.filling >= 0)),
            waiting=float(r.queued),
            prompt_tokens=float(r.prompts),
            output_tokens=float(r.outputs + generated),
            kv_used=min(1.0, (r.inside + generated + filled) / r.room),
            kv_capacity=float(r.room),
            ttft=Histogram(_ENDS, tuple(counts), float(r.latency)),
        )

    def spent(self) -> tuple[float, float]:
        """Replica-hours and cost up to the completion of the last request."""
        s = self.state
        end = float(s.sums[LAST])
        seconds, cost = float(s.sums[SECONDS]), float(s.sums[COST])
        for record in s.slots:
            if record.phase != FREE:
                seconds += end - float(record.created)
                cost += (end - float(record.created)) * float(record.price)
        return seconds / 3600.0, cost
