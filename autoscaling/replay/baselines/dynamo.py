"""NVIDIA Dynamo's planner: its load loop on cache use alone, and the SLA planner with a throughput floor.

Easy: one more replica when any of them holds more cache than a share, one less when all are below six tenths of it. SLA: every 180 s a
floor for the arrival work just seen; every 5 s one more only if every engine would miss the time to the first token, one less if the rest
would keep it within 80 %. Both only watch while a replica is on its way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from autoscaling.replay.baselines.signals import Arrivals, kv, serving, waiting
from autoscaling.replay.engine import BASE_S, CHUNK, PREFILL_S
from autoscaling.replay.fleet import View
from autoscaling.types import ReplicaState

LOW = {1.0: 0.6, 0.4: 0.1}  # documented pairs: throughput and latency; others in the proportion of the first
FLOOR_S = 180.0
AT_SLA = 0.75  # work/s that a replica serves within the SLA by its profile
KEEP = 0.8
FULL = 0.95


@dataclass(slots=True)
class Easy:
    """`high`: share of the cache, with what waits for it, that adds a replica."""

    high: float
    tick_s: float = 5.0
    mix: Arrivals = field(default_factory=Arrivals)

    def __call__(self, view: View) -> int:
        self.mix.work(view)
        if view.count(ReplicaState.LOADING):
            return view.wanted
        shares = []
        for seen in serving(view):
            used, queued = kv(seen), waiting(seen)
            if used is None or queued is None:
                return view.wanted
            shares.append(used + queued * self.mix.prompt / seen.option.kv_tokens)
        if not shares:
            return view.wanted
        if max(shares) > self.high:
            return view.wanted + 1
        return view.wanted - 1 if max(shares) < LOW.get(self.high, 0.6 * self.high) else view.wanted


@dataclass(slots=True)
class Sla:
    """`ttft_s`: the time to the first token that engines are held to."""

    ttft_s: float
    tick_s: float = 5.0
    mix: Arrivals = field(default_factory=Arrivals)
    floor: int = 1
    seen_from: float = 0.0
    works: list[float] = field(default_factory=list)

    def __call__(self, view: View) -> int:
        work = self.mix.work(view)
        if work is not None:
            self.works.append(work)
        if view.now - self.seen_from >= FLOOR_S and self.works:
            self.floor = ceil(sum(self.works) / len(self.works) / AT_SLA - 1e-9)
            self.seen_from, self.works = view.now, []
        if view.count(ReplicaState.LOADING):
            return view.wanted
        waits = [waiting(seen) for seen in serving(view)]
        caches = [kv(seen) for seen in serving(view)]
        if not waits or any(value is None for value in (*waits, *caches)):
            return max(view.wanted, self.floor)
        prompt = max(1.0, self.mix.prompt)
        each = prompt * PREFILL_S + max(1.0, prompt / CHUNK) * BASE_S
        predicted = [((queued or 0.0) + 1.0) * each for queued in waits]
        size = view.wanted
        if min(predicted) > self.ttft_s:
            size += 1
        elif len(waits) > 1:
            more = len(waits) / (len(waits) - 1.0)
            if max(predicted) * more <= KEEP * self.ttft_s and max(used or 0.0 for used in caches) * more < FULL * KEEP:
                size -= 1
        return max(size, self.floor)
