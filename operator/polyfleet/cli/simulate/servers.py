"""The replicas of the simulated model that serve requests: the engine model of the replay, with replicas that are named and may die.

What a request meets is exact to the iteration (`autoscaling.replay.engine`): continuous batching of the benchmarks' replica, made faster or
slower until a replica of an option does as many mean requests per second as the option is planned with. Latencies follow from that shape;
they are no measurement of the device.
"""

from __future__ import annotations

import math

import numpy as np

from autoscaling.replay.engine import DRAINING, FREE, HELD, LOADING, NEXT, SEQUENCES, close
from autoscaling.replay.fleet import Fleet, Option
from autoscaling.replay.loads import COSTS, Load
from autoscaling.types import Costs
from polyfleet.cli.simulate.trace import Trace


def speed_of(work_per_s: float, costs: Costs, mean: tuple[float, float]) -> float:
    """Of the engine model's replica, 1 = as in the benchmarks, so that both do the same number of mean requests per second."""
    return work_per_s * COSTS.of(*mean) / costs.of(*mean)


class Servers(Fleet):
    """At most `most` replicas at once may serve or load."""

    def __init__(self, trace: Trace, most: int) -> None:
        super().__init__(Load(trace.name, trace.arrival, trace.prompt, trace.output), most)
        self.lost: set[int] = set()

    def enter(self, name: str, now: float, ready_at: float, option: Option) -> None:
        """A replica called `name` begins to load, or serves at once with `ready_at <= now`."""
        slot = next((place for place in range(len(self._names)) if self._phase(place) == FREE), None)
        if slot is None:
            raise RuntimeError(f"no slot is left for {name}: {len(self._names)} replicas are there")
        self.start(now, ready_at, option)
        self._names[slot] = name

    def leave(self, name: str, now: float) -> None:
        """It takes no new request and ends with its last one; while it loads it ends at once."""
        slot = self._slot(name)
        if slot is None:
            return
        s = self.state
        if self._phase(slot) == LOADING or s.event[slot] == math.inf:
            close(s, slot, now)
        else:
            s.slots[slot].phase, s.load[slot], self._since[slot] = DRAINING, math.inf, now

    def die(self, name: str, now: float) -> int:
        """It is gone at once. How many requests were in flight there; they are lost."""
        slot = self._slot(name)
        if slot is None:
            return 0
        s = self.state
        record = s.slots[slot]
        gone = [int(s.who[slot * SEQUENCES + place]) for place in range(int(record.decoding))]
        if int(record.filling) >= 0:
            gone.append(int(record.filling))
        request = int(record.queue_first)
        for _ in range(int(record.queued)):
            gone.append(request)
            request = int(s.following[request])
        self.lost.update(gone)
        close(s, slot, now)
        return len(gone)

    def phases(self) -> dict[str, int]:
        """Of every replica that is there, by name."""
        return {self._names[slot]: int(record.phase) for slot, record in enumerate(self.state.slots) if record.phase != FREE}

    def inside(self) -> int:
        """Requests that have arrived and are neither complete nor lost."""
        return self.arrived() - self.completed() - len(self.lost)

    def arrived(self) -> int:
        return int(self.state.counts[NEXT])

    def held(self) -> int:
        """Requests that wait at the gateway because nothing serves."""
        return int(self.state.counts[HELD])

    def completed(self) -> int:
        return int(self.told()[0])

    def ttft(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Seconds to the first token of every request, in the order of arrival; inf = none came, or the request was lost."""
        first = np.asarray(self.state.first, dtype=np.float64)
        found = np.where(first >= 0.0, first - np.asarray(self.state.arrival, dtype=np.float64), np.inf)
        if self.lost:
            found[sorted(self.lost)] = np.inf
        return found

    def queued(self) -> int:
        """Requests that wait at a replica."""
        return sum(int(record.queued) for record in self.state.slots if record.phase != FREE)

    def _phase(self, slot: int) -> int:
        return int(self.state.slots[slot].phase)

    def _slot(self, name: str) -> int | None:
        return next((slot for slot, known in enumerate(self._names) if known == name and self._phase(slot) != FREE), None)
