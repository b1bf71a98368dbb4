"""Knative's pod autoscaler on requests in flight: a stable window of 60 s, and a panic window of 6 s.

Panic begins when the short window asks for twice the ready pods and ends 60 s after it last did; in panic nothing goes down. Rates are
bounded by 1000 up and 2 down per decision. No data changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from autoscaling.replay.baselines.signals import SLOTS, Window, in_flight, serving
from autoscaling.replay.fleet import View

STABLE_S, PANIC_S = 60.0, 6.0
PANIC = 2.0
UP, DOWN = 1000.0, 2.0


@dataclass(slots=True)
class Kpa:
    """`share` of a replica's slots is the target."""

    share: float
    tick_s: float = 2.0
    stable: Window = field(default_factory=lambda: Window(STABLE_S))
    panic: Window = field(default_factory=lambda: Window(PANIC_S))
    panicked: float | None = None  # when the short window last asked for so much
    highest: int = 0

    def base(self, view: View) -> int:
        """Pods that the demand is compared with."""
        return max(1, len(serving(view)))

    def __call__(self, view: View) -> int:
        known = [value for value in map(in_flight, serving(view)) if value is not None]
        if not known:
            return view.wanted
        held = view.gateway.waiting if view.gateway is not None and view.gateway.waiting is not None else 0.0
        self.stable.add(view.now, sum(known) + held)
        self.panic.add(view.now, sum(known) + held)
        base, target = self.base(view), self.share * SLOTS
        low, high = base // DOWN, ceil(base * UP)
        stable = min(max(ceil(self.stable.mean() / target - 1e-9), low), high)
        panic = min(max(ceil(self.panic.mean() / target - 1e-9), low), high)
        if panic / base >= PANIC:
            self.panicked = view.now
        elif self.panicked is not None and view.now - self.panicked >= STABLE_S:
            self.panicked, self.highest = None, 0
        if self.panicked is None:
            return int(stable)
        self.highest = max(self.highest, int(panic), int(stable), base)
        return self.highest
