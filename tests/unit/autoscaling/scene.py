"""A small fleet under a stated load, tick by tick, in round numbers: what the tests of the decision look at.

A request has 1,000 prompt and 200 output tokens and costs one reference work-second, so work/s is requests/s. Requests are spread
evenly over the ready replicas; what they cannot serve waits at them. The placer is the one of a one-option fleet.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from math import ceil, sqrt

from autoscaling.decide import decide
from autoscaling.memory import Memory
from autoscaling.types import Costs, Demand, Gateway, Look, Replica, ReplicaState, Sample, Settings, Slo

COSTS = Costs(prompt=0.0005, output=0.0025)
PROMPT, OUTPUT = 1000.0, 200.0
LIVES_S = 4.0  # a request runs so long
BEGIN = 1_000_000.0


def settings(least: int = 1, most: int = 40, **more: object) -> Settings:
    return Settings(least, most, Slo(2.0, None, 95.0), **more)  # type: ignore[arg-type]


@dataclass
class Pod:
    id: str
    state: ReplicaState
    since: float
    ready_at: float
    arrived: float = 0.0
    served: float = 0.0
    waiting: float = 0.0

    def sample(self, now: float, running: float) -> Sample:
        return Sample(
            now, self.arrived, None, running, self.waiting, self.served * PROMPT, self.served * OUTPUT, kv_used=0.1, kv_capacity=80_000.0
        )


Distort = Callable[[Replica], Replica]


@dataclass
class Scene:
    """`unit`: work/s of a replica. `follow`: the fleet does what the demand says, after `cold` seconds."""

    count: int = 8
    cold: float = 120.0
    settings: Settings = field(default_factory=settings)
    unit: float = 1.0
    follow: bool = True
    noise: random.Random | None = None
    now: float = BEGIN
    memory: Memory | None = None
    pods: list[Pod] = field(default_factory=list)
    said: list[Demand] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    serial: int = 0
    gateway: bool = False
    knocked: float = 0.0
    at_door: float = 0.0
    stock_known: bool = True

    def __post_init__(self) -> None:
        for _ in range(self.count):
            self.start(self.now - 1000.0, 0.0)

    def start(self, now: float, cold: float) -> None:
        state = ReplicaState.LOADING if cold > 0.0 else ReplicaState.READY
        self.pods.append(Pod(f"p{self.serial:04d}", state, now, now + cold))
        self.serial += 1

    @property
    def size(self) -> int:
        return len(self.pods)

    def arrive(self, load: float, seconds: float) -> None:
        ready = [p for p in self.pods if p.state is ReplicaState.READY]
        total = load * seconds
        if self.noise is not None:
            total = max(0.0, self.noise.gauss(total, sqrt(total)))
        self.knocked += total
        if not ready:
            self.at_door += total
            return
        total, self.at_door = total + self.at_door, 0.0
        for pod in ready:
            pod.arrived += total / len(ready)
            done = min(pod.waiting + total / len(ready), self.unit * seconds)
            pod.waiting += total / len(ready) - done
            pod.served += done

    def tick(self, load: float, distort: Distort | None = None, *, look: Callable[[Look], Look] | None = None) -> Demand:
        seconds = self.settings.tick_s
        self.arrive(load, seconds)
        self.now += seconds
        seen: list[Replica] = []
        ready = sum(p.state is ReplicaState.READY for p in self.pods)
        for pod in self.pods:
            if pod.state is ReplicaState.LOADING and pod.ready_at <= self.now:
                pod.state, pod.since = ReplicaState.READY, self.now
            serves = pod.state is ReplicaState.READY
            running = min(load / ready, self.unit) * LIVES_S if ready else 0.0
            sample = pod.sample(self.now, running) if serves else None
            replica = Replica(pod.id, "o", pod.state, self.unit, pod.since, None if serves else pod.ready_at, sample)
            seen.append(distort(replica) if distort is not None else replica)
        counted, waits = (self.knocked, self.knocked * PROMPT), (self.at_door, self.at_door * PROMPT)
        door = Gateway(self.now, *counted, *waits, holds_s=600.0) if self.gateway else None
        what = Look(self.now, "a/m", self.settings, COSTS, tuple(seen), door, start_s=(("o", self.cold),), stock_known=self.stock_known)
        decision = decide(self.memory, look(what) if look is not None else what)
        assert isinstance(decision.memory, Memory)
        self.memory = decision.memory
        self.said.append(decision.demand)
        if self.follow:
            self.obey(decision.demand)
        self.sizes.append(self.size)
        return decision.demand

    def obey(self, demand: Demand) -> None:
        wanted = placed(demand, self.size, self.unit)
        while self.size < wanted:
            self.start(self.now, self.cold)
        while self.size > wanted:
            self.pods.remove(max(self.pods, key=lambda p: (p.state is ReplicaState.LOADING, p.id)))

    def run(self, load: float, seconds: float, distort: Distort | None = None) -> Demand:
        demand = None
        for _ in range(round(seconds / self.settings.tick_s)):
            demand = self.tick(load, distort)
        assert demand is not None
        return demand


@cache
def _rested(load: float, count: int, wants: Settings) -> Scene:
    scene = Scene(count=count, settings=wants)
    scene.run(load, 4200.0)
    return scene


def steady(load: float = 5.5, count: int = 8, **more: object) -> Scene:
    """A fleet that has served a steady load for seventy minutes and came to rest."""
    return deepcopy(_rested(load, count, settings(**more)))  # type: ignore[arg-type]


def placed(demand: Demand, size: int, unit: float = 1.0) -> int:
    """What the placer of a one-option fleet makes of a demand."""
    wanted = min(max(ceil(demand.work_per_s / unit - 1e-9), demand.min_replicas), demand.max_replicas)
    return wanted if demand.may_shrink else min(max(wanted, size), max(demand.max_replicas, size))
