"""The Horizontal Pod Autoscaler on requests in flight, by its documented algorithm and default behaviour.

desired = ceil(ratio × ready); within a tolerance of 0.1 nothing changes. Pods without a value count at the target when that lowers the
answer and as 0 when it raises it; pods that are not ready count as 0 when scaling up; neither may turn the direction round. Going down
takes the highest recommendation of 300 s; going up is bounded by 4 pods or 100 % per 15 s, whichever is more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from autoscaling.replay.baselines.signals import SLOTS, Window, in_flight, serving
from autoscaling.replay.fleet import View
from autoscaling.types import ReplicaState

TOLERANCE = 0.1
STABILISATION_S = 300.0


@dataclass(slots=True)
class Hpa:
    """`share` of a replica's slots is the target per pod."""

    share: float
    tick_s: float = 15.0
    recommended: Window = field(default_factory=lambda: Window(STABILISATION_S))

    def __call__(self, view: View) -> int:
        return self.settled(view, self.recommend(view))

    def settled(self, view: View, wanted: int) -> int:
        """With the default behaviour: at once up within the bounds of a period, down to the highest of the window."""
        self.recommended.add(view.now, float(wanted))
        if wanted > view.wanted:
            return min(wanted, view.wanted + max(4, view.wanted))
        return min(view.wanted, int(self.recommended.highest()))

    def recommend(self, view: View) -> int:
        target = self.share * SLOTS
        known = [value for value in map(in_flight, serving(view)) if value is not None]
        missing, unready = len(serving(view)) - len(known), view.count(ReplicaState.LOADING)
        if not known:
            return view.wanted  # no value at all: an error, and the size stays
        ratio = sum(known) / (target * len(known))
        if not missing and (not unready or ratio <= 1.0):
            return view.wanted if abs(ratio - 1.0) <= TOLERANCE else ceil(ratio * len(known) - 1e-9)
        total, pods = sum(known), float(len(known) + missing)
        if ratio < 1.0:
            total += target * missing
        else:
            pods += unready
        again = total / (target * pods)
        if abs(again - 1.0) <= TOLERANCE or (again - 1.0) * (ratio - 1.0) < 0:
            return view.wanted
        size = ceil(again * pods - 1e-9)
        return max(size, view.wanted) if ratio > 1.0 else min(size, view.wanted)
