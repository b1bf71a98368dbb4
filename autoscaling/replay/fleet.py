"""The simulated fleet as its owner handles it: starts replicas, drains them, reads them as a scraper would."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autoscaling.replay.compiled import floats, whole
from autoscaling.replay.engine import (
    BOUNDS, BUCKETS, COST, DECODING, DONE, DRAINING, FREE, HELD, HELD_FIRST, KV_TOKENS, LAST, LOADING, NEXT, PREFILLING, READY, SECONDS,
    SEQUENCES, TOLD, State, advance, close,
)  # fmt: skip
from autoscaling.replay.loads import Load
from autoscaling.types import Gateway, Histogram, ReplicaState, Sample

_PHASES = {LOADING: ReplicaState.LOADING, READY: ReplicaState.READY, DRAINING: ReplicaState.DRAINING}
_ENDS = (*BOUNDS, math.inf)


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

    def __init__(self, load: Load, most: int) -> None:
        slots = 2 * most + 24
        self.requests = len(load.arrival)
        self._prompts = np.concatenate(([0], np.cumsum(load.prompt)))
        self._options = [Option()] * slots
        self._names = [""] * slots
        self._since = [0.0] * slots
        self._serial = 0
        self.state = State(
            floats(load.arrival), whole(load.prompt), whole(load.output), floats(self.requests, -1.0), whole(self.requests, -1),
            phase=whole(slots), created=floats(slots), price=floats(slots), speed=floats(slots, 1.0), room=whole(slots), event=floats(slots, math.inf),
            start=floats(slots), step=floats(slots, 1.0), kind=whole(slots), count=whole(slots), iteration=whole(slots), filling=whole(slots, -1),
            rest=whole(slots), decoding=whole(slots), ends=whole(slots * SEQUENCES), who=whole(slots * SEQUENCES), begun=whole(slots),
            inside=whole(slots), reserved=whole(slots), queue_first=whole(slots, -1), queue_last=whole(slots, -1), queued=whole(slots),
            owed=whole(slots), load=floats(slots, math.inf), came=whole(slots), went=whole(slots), prompts=whole(slots),
            outputs=whole(slots), latency=floats(slots), histogram=whole(slots * BUCKETS), bounds=floats(BOUNDS), counts=whole(8),
            sums=floats(8),
        )  # fmt: skip

    def advance(self, until: float) -> None:
        advance(self.state, until)

    @property
    def done(self) -> bool:
        return int(self.state.counts[DONE]) == self.requests

    def start(self, now: float, ready_at: float, option: Option | None = None) -> None:
        """A replica that costs from `now` on and serves from `ready_at` on."""
        s, option = self.state, option or Option()
        slot = next(place for place, phase in enumerate(s.phase) if phase == FREE)
        self._serial += 1
        self._names[slot], self._options[slot], self._since[slot] = f"r{self._serial:05d}", option, now
        for row in (s.decoding, s.iteration, s.begun, s.inside, s.reserved, s.queued, s.owed, s.came, s.went, s.prompts, s.outputs, s.count):
            row[slot] = 0
        for place in range(slot * BUCKETS, (slot + 1) * BUCKETS):
            s.histogram[place] = 0
        s.latency[slot], s.filling[slot], s.kind[slot], s.load[slot] = 0.0, -1, 0, math.inf
        s.created[slot], s.price[slot], s.speed[slot], s.room[slot] = now, option.hourly_cost / 3600.0, option.speed, option.kv_tokens
        s.phase[slot], s.event[slot] = LOADING, ready_at
        if ready_at <= now:
            self.advance(now)

    def stop(self, now: float, *, serving: bool = False) -> None:
        """One replica less: the youngest that loads, which ends at once, else the one with the least outstanding work, which drains.
        `serving`: none of those that load."""
        s = self.state
        loading = [] if serving else [(-s.created[slot], self._names[slot], slot) for slot in self._in(LOADING)]
        if loading:
            close(s, min(loading)[2], now)
            return
        ready = [(s.owed[slot] / s.speed[slot], self._names[slot], slot) for slot in self._in(READY)]
        if not ready:
            return
        slot = min(ready)[2]
        if s.event[slot] == math.inf:
            close(s, slot, now)
            return
        s.phase[slot], s.load[slot], self._since[slot] = DRAINING, math.inf, now

    def _in(self, phase: int) -> list[int]:
        return [slot for slot, found in enumerate(self.state.phase) if found == phase]

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
        return Gateway(now, float(arrived), float(self._prompts[arrived]), float(held), float(tokens))

    def told(self) -> tuple[float, float]:
        return float(self.state.counts[DONE]), float(self.state.sums[TOLD])

    def seen(self, now: float) -> tuple[Seen, ...]:
        found = []
        for slot, phase in enumerate(self.state.phase):
            if phase != FREE:
                state = _PHASES[int(phase)]
                since = float(self.state.created[slot])
                sample = None if state is ReplicaState.LOADING else self._sample(slot, now)
                found.append(Seen(self._names[slot], self._options[slot], state, since, self._since[slot], sample))
        return tuple(found)

    def _sample(self, slot: int, now: float) -> Sample:
        s = self.state
        kind, decoding = int(s.kind[slot]), int(s.decoding[slot])
        made = 0  # iterations of the present run that are over
        if kind in (DECODING, PREFILLING):
            made = max(0, min(int((now - s.start[slot]) / s.step[slot] + 1e-9), int(s.count[slot])))
        generated = decoding * (int(s.iteration[slot]) + made + 1) - int(s.begun[slot])
        filling = int(s.filling[slot])
        filled = int(s.prompt[filling]) - int(s.rest[slot]) if filling >= 0 else 0
        counts, total = [], 0
        for place in range(slot * BUCKETS, (slot + 1) * BUCKETS):
            total += int(s.histogram[place])
            counts.append(float(total))
        # Output of completed requests is a sum of what was generated, so the two parts are one counter that never goes back.
        return Sample(
            now,
            arrived=float(s.came[slot]),
            finished=float(s.went[slot]),
            running=float(decoding + (filling >= 0)),
            waiting=float(s.queued[slot]),
            prompt_tokens=float(s.prompts[slot]),
            output_tokens=float(s.outputs[slot] + generated),
            kv_used=min(1.0, (int(s.inside[slot]) + generated + filled) / int(s.room[slot])),
            kv_capacity=float(s.room[slot]),
            ttft=Histogram(_ENDS, tuple(counts), float(s.latency[slot])),
        )

    def spent(self) -> tuple[float, float]:
        """Replica-hours and cost up to the completion of the last request."""
        s = self.state
        end = float(s.sums[LAST])
        seconds, cost = float(s.sums[SECONDS]), float(s.sums[COST])
        for slot, phase in enumerate(s.phase):
            if phase != FREE:
                seconds += end - float(s.created[slot])
                cost += (end - float(s.created[slot])) * float(s.price[slot])
        return seconds / 3600.0, cost
