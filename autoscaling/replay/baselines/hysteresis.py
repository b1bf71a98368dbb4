"""Plain hysteresis on arrival work: the core of the autoscaling design's §4.2 (steps 1, 6 and 7) without trend, floor and budgets.

It is the yardstick of §2.4, whose figures it must meet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, exp

from autoscaling.replay.baselines.signals import Arrivals, Window
from autoscaling.replay.fleet import View
from autoscaling.types import ReplicaState

LEVEL_S = 60.0
BAND = 0.92


@dataclass(slots=True)
class Hysteresis:
    """`utilization`: highest work/s per replica. Unknown load changes nothing."""

    utilization: float
    cold_start_s: float
    tick_s: float = 10.0
    arrivals: Arrivals = field(default_factory=Arrivals)
    level: float | None = None
    needs: Window = field(init=False)
    first: float | None = None

    def __post_init__(self) -> None:
        self.needs = Window(max(180.0, 1.5 * (self.cold_start_s + 10.0)))

    def __call__(self, view: View) -> int:
        work = self.arrivals.work(view)
        if work is None:
            return view.wanted
        self.first = view.now if self.first is None else self.first
        # A mean of all that was seen until there is a time constant's worth of it, so that the beginning is no ramp from nothing.
        weight = max(1.0 - exp(-self.tick_s / LEVEL_S), self.tick_s / (view.now - self.first + self.tick_s))
        self.level = work if self.level is None else self.level + weight * (work - self.level)
        self.needs.add(view.now, self.level)
        size = view.size
        if self.level > self.utilization * size:
            return max(size, ceil(self.level / (self.utilization * BAND) - 1e-9))
        if view.now - self.first < self.needs.span_s or view.count(ReplicaState.LOADING):
            return max(size, view.wanted)
        fits = ceil(self.needs.highest() / (self.utilization * BAND) - 1e-9)
        return min(size, max(fits, view.least))
