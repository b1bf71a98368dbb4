"""llm-d's workload variant autoscaler: its two saturation analysers, with one variant.

V1 looks at spare cache and spare queue of replicas that are not saturated (below a KV threshold and five waiting), adds one replica when
the spare is small and none is pending, and takes one away when those who stay would keep the spare. V2 compares the demand in tokens with
what replicas can hold, the lesser of 0.8 of the cache and a learned bound, and closes the whole gap, pending replicas counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from autoscaling.replay.baselines.signals import Arrivals, read, serving
from autoscaling.replay.fleet import View
from autoscaling.types import ReplicaState, Sample

QUEUE = 5.0
SPARE_KV, SPARE_QUEUE = 0.1, 3.0
HELD = 0.8  # of the cache, V2
DOWN = 0.7  # V2: goes down only to this use


def _samples(view: View) -> list[Sample]:
    return [sample for sample in map(read, serving(view)) if sample is not None and sample.kv_used is not None]


@dataclass(slots=True)
class V1:
    """`threshold`: use of the cache from which a replica is saturated."""

    threshold: float
    tick_s: float = 30.0

    def __call__(self, view: View) -> int:
        samples = _samples(view)
        if not samples or view.count(ReplicaState.LOADING):
            return view.wanted
        free = [s for s in samples if (s.kv_used or 0.0) < self.threshold and (s.waiting or 0.0) < QUEUE]
        if not free:
            return view.wanted + 1
        used, queued = sum(s.kv_used or 0.0 for s in free), sum(s.waiting or 0.0 for s in free)
        if self.threshold - used / len(free) < SPARE_KV or QUEUE - queued / len(free) < SPARE_QUEUE:
            return view.wanted + 1
        rest = len(free) - 1
        if rest >= 1 and len(free) == len(samples) and self.threshold - used / rest >= SPARE_KV and QUEUE - queued / rest >= SPARE_QUEUE:
            return view.wanted - 1
        return view.wanted


@dataclass(slots=True)
class V2:
    """`up`: share of the capacity in tokens that demand may take."""

    up: float
    tick_s: float = 30.0
    bound: float | None = None  # learned: tokens that a replica held when its queue was full
    mix: Arrivals | None = None

    def __call__(self, view: View) -> int:
        self.mix = self.mix or Arrivals()
        self.mix.work(view)
        samples = _samples(view)
        if not samples:
            return view.wanted
        held = [(s.kv_used or 0.0) * (s.kv_capacity or 0.0) for s in samples]
        for tokens, s in zip(held, samples, strict=True):
            if (s.waiting or 0.0) >= QUEUE and tokens > 0:
                self.bound = tokens if self.bound is None else 0.9 * self.bound + 0.1 * tokens
        each = HELD * (samples[0].kv_capacity or 0.0)
        each = each if self.bound is None else min(each, self.bound)
        demand = sum(held) + sum(s.waiting or 0.0 for s in samples) * self.mix.prompt
        lacking = demand / self.up - view.size * each
        if lacking > 0:
            return view.size + ceil(lacking / each - 1e-9)
        spare = view.size * each - demand / min(DOWN, self.up)
        return view.size - max(0, floor(spare / each + 1e-9)) if spare > 0 and not view.count(ReplicaState.LOADING) else view.wanted
