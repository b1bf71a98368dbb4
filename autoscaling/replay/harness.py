"""Runs one policy over one load: ticks, cold starts, drains, and the figures that policies are compared by (§2.2 of the design).

A replica costs from its creation to the end of its drain. Every cold start is drawn uniformly within ±20 % of the stated one. A run
ends with the last completion. All policies begin with the same number of ready replicas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from autoscaling.replay.fleet import Fleet, Option, View
from autoscaling.replay.loads import START, Load
from autoscaling.types import ReplicaState

TICK_S = 10.0
SPREAD = 0.2
LEAST, MOST = 1, 40


class Policy(Protocol):
    """Called at every tick, the first at 0 s: how many replicas are to serve or load. The harness clamps it to the bounds."""

    @property
    def tick_s(self) -> float: ...

    def __call__(self, view: View) -> int: ...


class Distortion(Protocol):
    """Changes what is seen, as an outage of the metrics does."""

    def __call__(self, view: View) -> View: ...


@dataclass(frozen=True, slots=True)
class Tick:
    """One line of the run's record. `reason` is what the policy said of itself, if it says anything."""

    at: float
    wanted: int
    ready: int
    loading: int
    draining: int
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """Attainments are fractions of all requests; hours are replica-hours."""

    load: str
    attainment_2s: float
    attainment_10s: float
    replica_hours: float
    events: int
    starts: int
    cost: float
    ticks: tuple[Tick, ...] = ()
    ttft: Any = field(default=None, repr=False, compare=False)  # s, in the order of arrival

    def attainment(self, within_s: float) -> float:
        return self.attainment_10s if within_s > 2.0 else self.attainment_2s


def result(load: Load, fleet: Fleet, events: int, starts: int, ticks: tuple[Tick, ...] = ()) -> Result:
    """The figures of a fleet that has completed every request."""
    ttft = np.asarray(fleet.state.first) - load.arrival
    hours, cost = fleet.spent()
    met = [float(np.mean(ttft <= load.limits(within))) for within in (2.0, 10.0)]
    return Result(load.name, met[0], met[1], hours, events, starts, cost, ticks, ttft)


class ColdStarts:
    """Draws the seconds of every cold start, in order, from the seed alone."""

    def __init__(self, seconds: float, seed: int) -> None:
        self._seconds, self._dice = seconds, np.random.default_rng([seed, 20])

    def draw(self) -> float:
        return float(self._seconds * self._dice.uniform(1.0 - SPREAD, 1.0 + SPREAD))


def begin(load: Load, start: int, most: int, option: Option | None = None, epoch: float = 0.0) -> Fleet:
    """A fleet with `start` ready replicas at 0 s, which is `epoch` by the clock of its stamps."""
    fleet = Fleet(load, most, epoch)
    for _ in range(start):
        fleet.start(0.0, 0.0, option)
    return fleet


def run(
    load: Load,
    policy: Policy,
    *,
    cold_start_s: float,
    seed: int,
    start: int | None = None,
    least: int = LEAST,
    most: int = MOST,
    option: Option | None = None,
    distortion: Distortion | None = None,
    record: bool = False,
) -> Result:
    """The policy over the whole load. `start` None: the load's own first size, else 1. `record`: keep a line per tick."""
    cold = ColdStarts(cold_start_s, seed)
    wanted = START.get(load.name, 1) if start is None else start
    fleet = begin(load, wanted, most, option, getattr(policy, "began", 0.0))
    events = starts = number = 0
    ticks: list[Tick] = []
    while True:
        now = number * policy.tick_s
        fleet.advance(now)
        if fleet.done:
            break
        view = View(now, fleet.seen(now), fleet.gateway(now), fleet.told(), wanted, least, most)
        asked = min(max(policy(distortion(view) if distortion else view), least), most)
        events += asked != wanted
        wanted = asked
        size = fleet.size
        for _ in range(wanted - size):
            fleet.start(now, now + cold.draw(), option)
            starts += 1
        for _ in range(size - wanted):
            fleet.stop(now)
        if record:
            ready, loading, draining = (view.count(state) for state in (ReplicaState.READY, ReplicaState.LOADING, ReplicaState.DRAINING))
            ticks.append(Tick(now, wanted, ready, loading, draining, getattr(policy, "reason", ""), getattr(policy, "message", "")))
        number += 1
    return result(load, fleet, events, starts, tuple(ticks))
