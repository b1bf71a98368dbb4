"""Like Kthena's autoscaler: Knative's two windows, but pods that are not ready yet are in the denominator, and going down waits 300 s."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoscaling.replay.baselines.knative import Kpa
from autoscaling.replay.baselines.signals import Window
from autoscaling.replay.fleet import View


class _Counting(Kpa):
    def base(self, view: View) -> int:
        return max(1, view.size)


@dataclass(slots=True)
class Kthena:
    """`share` of a replica's slots is the target."""

    share: float
    tick_s: float = 15.0
    inner: Kpa = field(init=False)
    asked: Window = field(default_factory=lambda: Window(300.0))

    def __post_init__(self) -> None:
        self.inner = _Counting(self.share)

    def __call__(self, view: View) -> int:
        self.asked.add(view.now, float(self.inner(view)))
        return int(self.asked.highest())
