"""KEDA on the number of waiting requests (the default trigger of vLLM's production stack): above zero it is the HPA on an average value.

Empty and NaN answers read as zero, which is KEDA's default; the fallback counts errors only, so that such a zero never reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from autoscaling.replay.baselines.hpa import TOLERANCE, Hpa
from autoscaling.replay.baselines.signals import serving, waiting
from autoscaling.replay.fleet import View


@dataclass(slots=True)
class Keda:
    """`target`: waiting requests per replica."""

    target: float
    tick_s: float = 30.0
    hpa: Hpa = field(default_factory=lambda: Hpa(1.0))

    def __call__(self, view: View) -> int:
        ready = serving(view)
        if any(seen.failed.startswith("HTTP") for seen in ready):
            return view.wanted  # an error is not a zero: the HPA keeps the size
        total = sum(waiting(seen) or 0.0 for seen in ready)
        ratio = total / (self.target * max(1, view.wanted))
        size = view.wanted if abs(ratio - 1.0) <= TOLERANCE else ceil(total / self.target - 1e-9)
        return self.hpa.settled(view, max(size, view.least))
