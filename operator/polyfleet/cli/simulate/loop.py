"""The simulated day: every tick the servers serve, the autoscaler decides, and where its demand or the fleet changed the placer plans.

The same functions as in the operator: `autoscaling.decide.decide` and `placement.plan`. What `decide` sees is what a scraper would see of
the engines, and the gateway's counters. The record has what the report shows, nothing is worked out twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autoscaling import seasonal
from autoscaling.replay.fleet import View
from autoscaling.season import Season
from autoscaling.types import Decision, Demand, Direction, Look, MetricState, Replica, ReplicaState, Slice, Why
from autoscaling.usage import Holding, Interval
from placement.types import ReplicaState as Stand
from polyfleet.cli.simulate.faults import Fault
from polyfleet.cli.simulate.servers import Servers
from polyfleet.cli.simulate.subject import Subject
from polyfleet.cli.simulate.trace import Trace
from polyfleet.cli.simulate.world import Change, Unit, World, told

TICK_S = 10.0
TAIL_S = 1800.0  # after the last arrival the rest is served for at most so long
P90 = 1.16  # of a cold start that is uniform within ±20 %

Decide = Callable[[Any, Look], Decision]
Count = Callable[[View], int]


@dataclass(frozen=True, slots=True)
class Policy:
    """One of three: `decide` as the operator's, `fixed` replicas whatever the load, or `count`: another autoscaler's number."""

    name: str
    decide: Decide | None = None
    fixed: int | None = None
    count: Count | None = None
    tick_s: float = TICK_S


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick. Work in work/s; counts of replicas by profile."""

    at: float
    load: float  # work that arrived since the last tick, by the lengths of the trace
    asked: float  # that the placer covers
    level: float | None  # as measured by the autoscaler
    ready: tuple[tuple[str, float], ...]  # profile -> work/s
    pending: tuple[tuple[str, float], ...]
    replicas: tuple[tuple[str, int, int], ...]  # profile, ready, pending
    waiting: int
    hourly_cost: float


@dataclass(frozen=True, slots=True)
class Event:
    """A decision or something that happened: one line of the report."""

    at: float
    what: str  # Up | Down | Hold | Fault | Restored | Plan
    reason: str
    text: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    subject: Subject
    trace: Trace
    policy: str
    seed: int
    tick_s: float
    end: float  # s, when the last request was served or given up
    ticks: tuple[Tick, ...]
    events: tuple[Event, ...]
    intervals: tuple[Interval, ...]
    ttft: Any  # s, by request; inf = none
    lost: int
    unserved: int
    ups: int
    downs: int
    starts: int
    solves: int
    short_s: float  # how long devices were missing

    @property
    def met(self) -> float:
        """Share of all requests whose first token came within the goal."""
        return float(np.mean(self.ttft <= self.subject.goal[0]))

    @property
    def reached(self) -> bool:
        return self.met * 100.0 >= self.subject.settings(self.subject.base).slo.percentile

    @property
    def cost(self) -> float:
        return sum(item.hourly_cost * interval.seconds / 3600 for interval in self.intervals for item in interval.holdings)


def run(subject: Subject, trace: Trace, policy: Policy, faults: Sequence[Fault], *, seed: int) -> Run:
    """The whole trace, in ticks of the policy. Deterministic by its arguments."""
    return _Loop(subject, trace, policy, faults, seed).run()


class _Loop:
    def __init__(self, subject: Subject, trace: Trace, policy: Policy, faults: Sequence[Fault], seed: int) -> None:
        self.subject, self.trace, self.policy, self.seed, self.tick_s = subject, trace, policy, seed, policy.tick_s
        limits = subject.settings(subject.base)
        there = sum(1 for row in subject.snapshot.replicas if row.model == subject.model)
        self.servers = Servers(trace, max(limits.max_replicas, policy.fixed or 0, there) + 8)
        self.world = World(subject, self.servers, trace.mean, seed)
        self.pending = sorted(faults, key=lambda item: item.begin)
        self.active: list[Fault] = []
        self.memory: Any = None
        self.season = Season()
        self.demand: Demand | None = None
        self.ticks: list[Tick] = []
        self.events: list[Event] = []
        self.intervals: list[Interval] = []
        self.ups = self.downs = self.starts = 0
        self.short_s = 0.0
        self.last: tuple[str, str, int] | None = None
        edges = np.arange(0.0, trace.span_s + 2 * self.tick_s, self.tick_s)
        work = subject.costs.prompt * trace.prompt + subject.costs.output * trace.output
        self.arriving = np.histogram(trace.arrival, bins=edges, weights=work)[0] / self.tick_s

    def run(self) -> Run:
        number = 0
        while True:
            now = number * self.tick_s
            self.servers.advance(now)
            self.world.settle(now)
            changed = self._faults(now)
            over = now > self.trace.span_s and (not self.servers.inside() or now > self.trace.span_s + TAIL_S)
            if over:
                break
            self._decide(now, changed)
            self._record(now, number)
            number += 1
        ttft = self.servers.ttft()
        lost = len(self.servers.lost)
        return Run(
            self.subject, self.trace, self.policy.name, self.seed, self.tick_s, now, tuple(self.ticks), tuple(self.events),
            tuple(self.intervals), ttft, lost, int(np.sum(np.isinf(ttft))) - lost, self.ups, self.downs, self.starts, self.world.solves,
            self.short_s,
        )  # fmt: skip

    # ---- one tick

    def _faults(self, now: float) -> bool:
        """What fails or comes back by now; whether the fleet changed."""
        changed = False
        for fault in [item for item in self.active if item.end <= now]:
            self.active.remove(fault)
            if fault.kind != "metrics":
                self.world.restore(fault)
                changed = True
            self.events.append(Event(now, "Restored", fault.kind, f"{fault.text} is back"))
        while self.pending and self.pending[0].begin <= now:
            fault = self.pending.pop(0)
            self.active.append(fault)
            done = Change()
            if fault.kind != "metrics":
                done = self.world.strike(fault, now)
                changed = True
            text = f"{fault.text} fails" + (f"; {done.lost} requests in flight are lost" if done.lost else "")
            self.events.append(Event(now, "Fault", fault.kind, text, told(done.stopped.items(), "-")))
        return changed

    def _decide(self, now: float, changed: bool) -> None:
        before, first = self.demand, self.demand is None
        demand = self._demand(now, first)
        self.demand = demand
        asked = _key(demand) != _key(before) if before is not None else True
        if first and any(unit.row.state is Stand.SERVING for unit in self.world.mine()):
            first = False  # what runs serves; only a model that does not run yet is put there for the beginning
        done = Change(missing=self.world.missing)
        if asked or changed or (self.world.missing and self.world.freed):
            done = self.world.replan(demand, now, at_once=first)
            self.starts += sum(done.started.values()) if not first else 0
        self.ups += demand.direction is Direction.UP
        self.downs += demand.direction is Direction.DOWN
        text = demand.message
        if done.missing:
            text += f"; {done.missing} more have no room" + (f": {done.why}" if done.why else "")
        change = ", ".join(part for part in (told(done.started.items(), "+"), told(done.stopped.items(), "-")) if part)
        # A decision that repeats the last one and moves nothing is no news: a shortage of an hour would fill the page.
        news = (str(demand.direction), str(demand.reason), done.missing)
        quiet = demand.direction is Direction.HOLD and demand.reason is Why.WITHIN_BAND and bool(self.events) and not done.missing
        if change or (news != self.last and not quiet):
            self.events.append(Event(now, str(demand.direction), str(demand.reason), text, change))
        if not quiet:
            self.last = news
        if self.world.missing:
            self.short_s += self.tick_s

    def _demand(self, now: float, first: bool) -> Demand:
        """Of the policy. The first of a model that does not run yet is its minimum, so that there is something to look at."""
        settings = self.subject.settings(self.subject.base + now)
        if self.policy.fixed is not None:
            return _fixed(self.subject.model, self.policy.fixed, self.policy.fixed)
        if first and not self.world.mine():
            return _fixed(self.subject.model, settings.min_replicas, settings.max_replicas)
        if self.policy.count is not None:
            return self._counted(self.policy.count, now)
        assert self.policy.decide is not None
        look = seasonal.given(self.season, self._look(now))
        decision = self.policy.decide(self.memory, look)
        self.memory, self.season = decision.memory, seasonal.fed(self.season, look, decision.demand)
        return decision.demand

    def _counted(self, count: Count, now: float) -> Demand:
        """Another autoscaler's number as a demand without work, clamped to the bounds as its own object would be."""
        settings = self.subject.settings(self.subject.base + now)
        before = self.demand.min_replicas if self.demand is not None else len(self.world.mine())
        blind = any(fault.kind == "metrics" for fault in self.active)
        seen = self.servers.seen(now)
        if blind:
            seen = tuple(replace(item, sample=None, failed="no answer") for item in seen)
        gateway, told_ = (None, None) if blind else (self.servers.gateway(now), self.servers.told())
        asked = count(View(now, seen, gateway, told_, before, settings.min_replicas, settings.max_replicas))
        size = min(max(asked, settings.min_replicas), settings.max_replicas)
        moved = Direction.HOLD if size == before else Direction.UP if size > before else Direction.DOWN
        why = {Direction.HOLD: Why.WITHIN_BAND, Direction.UP: Why.NEED_ABOVE_CAPACITY, Direction.DOWN: Why.NEED_BELOW_CAPACITY}[moved]
        demand = _fixed(self.subject.model, size, size)
        return replace(demand, direction=moved, reason=why, message=f"{size} replicas are asked for, {before} were")

    def _look(self, now: float) -> Look:
        base = self.subject.base
        blind = any(fault.kind == "metrics" for fault in self.active)
        seen = {item.id: item for item in self.servers.seen(now)}
        replicas: list[Replica] = []
        for unit in self.world.mine():
            name = unit.row.id
            sample = seen[name].sample if name in seen and not blind else None
            replicas.append(
                Replica(
                    name,
                    unit.option,
                    _STATES[unit.row.state],
                    self.subject.rates.get(unit.option),
                    base + unit.since,
                    self._eta(unit, base),
                    replace(sample, at=base + now) if sample is not None else None,
                    "" if sample is not None else "no answer",
                    unit.price,
                )
            )
        gateway = None if blind else replace(self.servers.gateway(now), at=base + now)
        starts = tuple(sorted((option, self._p90(option)) for option in self.subject.rates))
        step = self.world.plan.ladder if self.world.plan is not None else ()
        less = next((row.work_per_s for row in step if row.model == self.subject.model and row.delta == -1 and row.work_per_s > 0), None)
        return Look(
            base + now, self.subject.model, self.subject.settings(base + now), self.subject.costs, tuple(replicas), gateway,
            start_s=starts, smallest_stop=less,
        )  # fmt: skip

    def _p90(self, option: str) -> float:
        """As measured in this run where it was, as the operator does; before that the expectation that the simulation draws from."""
        known = self.world.starts.p90(option)
        return known if known is not None else self.subject.starts[option].seconds * P90

    def _eta(self, unit: Unit, base: float) -> float | None:
        if unit.row.state is not Stand.STARTING:
            return None
        return base + unit.created + self._p90(unit.option)

    def _record(self, now: float, number: int) -> None:
        assert self.demand is not None
        ready: dict[str, float] = {}
        pending: dict[str, float] = {}
        count: dict[str, list[int]] = {}
        holdings: list[Holding] = []
        for unit in self.world.mine():
            rate = self.subject.rates.get(unit.option, 0.0)
            serves = unit.row.state is Stand.SERVING
            if serves:
                ready[unit.profile] = ready.get(unit.profile, 0.0) + rate
            elif unit.row.state in (Stand.STARTING, Stand.PENDING):
                pending[unit.profile] = pending.get(unit.profile, 0.0) + rate
            if unit.row.state is not Stand.DRAINING:
                count.setdefault(unit.profile, [0, 0])[0 if serves else 1] += 1
            if unit.ready_at is not None:
                able = rate if serves else 0.0
                holdings.append(Holding(self.subject.model, unit.vendor, unit.profile, unit.pool, 1, unit.row.devices, unit.price, able))
        load = float(self.arriving[number]) if number < len(self.arriving) else 0.0
        cost = sum(item.hourly_cost for item in holdings)
        waiting = self.servers.held() + self.servers.queued()
        self.ticks.append(
            Tick(
                now, load, self.demand.work_per_s, self.demand.now_work, tuple(sorted(ready.items())), tuple(sorted(pending.items())),
                tuple((name, found[0], found[1]) for name, found in sorted(count.items())), waiting, cost,
            )
        )  # fmt: skip
        self.intervals.append(Interval(self.tick_s, tuple(holdings), ((self.subject.model, load),)))


_STATES = {
    Stand.PENDING: ReplicaState.LOADING,
    Stand.STARTING: ReplicaState.LOADING,
    Stand.SERVING: ReplicaState.READY,
    Stand.DRAINING: ReplicaState.DRAINING,
}


def _key(demand: Demand | None) -> object:
    """What the placer is asked."""
    if demand is None:
        return None
    return (demand.work_per_s, demand.bucket_work, demand.min_replicas, demand.max_replicas, demand.may_shrink, demand.kv_floor)


def _fixed(model: str, least: int, most: int) -> Demand:
    """A size as a demand without work. Whatever the size was before, it is this one now."""
    return Demand(
        model, Slice.WHOLE, 0.0, (), least, most, True, 0.0, Direction.HOLD, Why.MINIMUM, f"a fixed size of {least}", MetricState.UNKNOWN,
        None, None, 0.0, 0.0, 0.0, None, 0.0,
    )  # fmt: skip
