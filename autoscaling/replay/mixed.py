"""Fleets of unequal replicas: types of their own speed, cost, cold start and limited stock under one load.

What is asked for is work per second, or a number of replicas that takes every device for one. Either is filled from the same ladder:

    more    a number: from the type with the least cost per work that has stock. Work: the same, but the last piece by the replica with
            the least cost that covers it
    less    the type with the highest cost per work first, as long as what is asked for stays covered; a type that is equal in all but
            its name is the same type

Everything else is as in `harness`: with one type, or equal ones, a run is the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autoscaling.replay.engine import DRAINING, LOADING, READY
from autoscaling.replay.fleet import Fleet, Option, View
from autoscaling.replay.harness import LEAST, ColdStarts, Policy, Result, result
from autoscaling.replay.loads import START, Load
from autoscaling.replay.reference import spans
from autoscaling.replay.shipped import Shipped

_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Type:
    """`stock`: so many replicas at most at one time, those that drain among them."""

    option: Option
    cold_start_s: float
    stock: int

    @property
    def price(self) -> float:
        """Cost per work."""
        return self.option.hourly_cost / self.option.speed

    @property
    def rank(self) -> tuple[float, float, str]:
        return self.price, self.cold_start_s, self.option.name

    def equals(self, other: Type) -> bool:
        a, b = self.option, other.option
        mine, theirs = (a.speed, a.kv_tokens, a.hourly_cost, self.cold_start_s), (b.speed, b.kv_tokens, b.hourly_cost, other.cold_start_s)
        return mine == theirs


class Asked(Protocol):
    """What a policy asks for at a tick: (how much, whether less than there is counts)."""

    @property
    def tick_s(self) -> float: ...

    @property
    def began(self) -> float: ...

    @property
    def by_work(self) -> bool: ...

    def __call__(self, view: View) -> tuple[float, bool]: ...


@dataclass(slots=True)
class Work:
    """The shipped decision: work per second."""

    policy: Shipped
    by_work: bool = True

    @property
    def tick_s(self) -> float:
        return self.policy.tick_s

    @property
    def began(self) -> float:
        return self.policy.began

    def __call__(self, view: View) -> tuple[float, bool]:
        demand = self.policy.demand(view)
        return demand.work_per_s * self.policy.share, demand.may_shrink


@dataclass(slots=True)
class Count:
    """A policy that counts replicas, every device as one."""

    policy: Policy
    by_work: bool = False
    began: float = 0.0

    @property
    def tick_s(self) -> float:
        return self.policy.tick_s

    def __call__(self, view: View) -> tuple[float, bool]:
        return float(self.policy(view)), True


@dataclass(frozen=True, slots=True)
class Mixed:
    """A run, and the replica-hours of each type by its name."""

    result: Result
    hours: dict[str, float]
    most: dict[str, int]  # of each type at one time


def more(types: Sequence[Type], held: Mapping[str, int], missing: float, *, by_work: bool) -> list[Type]:
    """What to start, in order, so that `missing` is covered as far as the stock goes. `held`: devices in use, draining ones included."""
    left = {t.option.name: t.stock - held.get(t.option.name, 0) for t in types}
    found: list[Type] = []
    while missing > _SLACK:
        open_ = sorted((t for t in types if left[t.option.name] > 0), key=lambda t: t.rank)
        if not open_:
            break
        enough = [t for t in open_ if by_work and t.option.speed >= missing - _SLACK]
        chosen = min(enough, key=lambda t: (t.option.hourly_cost, *t.rank)) if enough else open_[0]
        left[chosen.option.name] -= 1
        found.append(chosen)
        missing -= chosen.option.speed if by_work else 1.0
    return found


def less(types: Sequence[Type], serving: Mapping[str, int], spare: float, *, by_work: bool) -> list[Type]:
    """What to stop, in order, so that no more than `spare` goes."""
    left = dict(serving)
    found: list[Type] = []
    while True:
        size = {t.option.name: t.option.speed if by_work else 1.0 for t in types}
        there = [t for t in types if left.get(t.option.name, 0) > 0 and size[t.option.name] <= spare + _SLACK]
        if not there:
            return found
        chosen = max(there, key=lambda t: (t.price, t.option.speed, t.rank))
        left[chosen.option.name] -= 1
        found.append(chosen)
        spare -= size[chosen.option.name]


def first(types: Sequence[Type], load: Load, start: float | None = None) -> list[Type]:
    """The fleet that every policy begins with: the load's first size in work."""
    return more(types, {}, float(START.get(load.name, 1)) if start is None else start, by_work=True)


def run(load: Load, policy: Asked, types: Sequence[Type], *, seed: int, start: float | None = None, least: int = LEAST) -> Mixed:
    """The policy over the whole load."""
    most = sum(t.stock for t in types)
    cold = ColdStarts(1.0, seed)
    fleet = Fleet(load, most, policy.began)
    for t in first(types, load, start):
        fleet.start(0.0, 0.0, t.option)
    keeper = _Keeper(types, fleet)
    events = starts = number = 0
    wanted = fleet.size
    while True:
        now = number * policy.tick_s
        fleet.advance(now)
        keeper.note(now)
        if fleet.done:
            break
        view = View(now, fleet.seen(now), fleet.gateway(now), fleet.told(), wanted, least, most)
        asked, may_shrink = policy(view)
        serving = fleet.counts(LOADING, READY)
        have = sum(serving.get(t.option.name, 0) * (t.option.speed if policy.by_work else 1.0) for t in types)
        if not policy.by_work:
            asked = min(max(asked, float(least)), float(most))
        plus = more(types, fleet.counts(LOADING, READY, DRAINING), asked - have, by_work=policy.by_work)
        minus = [] if plus or not may_shrink else less(types, serving, have - asked, by_work=policy.by_work)
        minus = minus[: max(0, fleet.size - least)]
        events += bool(plus or minus)
        for t in plus:
            fleet.start(now, now + t.cold_start_s * cold.draw(), t.option)
            starts += 1
        for t in minus:
            fleet.stop(now, among={other.option.name for other in types if other.equals(t)})
        wanted = fleet.size
        keeper.note(now)
        number += 1
    return Mixed(result(load, fleet, events, starts), keeper.hours(), keeper.most)


class _Keeper:
    """Counts devices by type; hours between two looks are those of the first, so exact to a tick."""

    def __init__(self, types: Sequence[Type], fleet: Fleet) -> None:
        self.names, self.fleet = [t.option.name for t in types], fleet
        self.at, self.spent, self.most = 0.0, dict.fromkeys(self.names, 0.0), dict.fromkeys(self.names, 0)
        self.there: dict[str, int] = {}

    def note(self, now: float) -> None:
        for name in self.names:
            self.spent[name] += self.there.get(name, 0) * (now - self.at)
        self.at, self.there = now, self.fleet.counts(LOADING, READY, DRAINING)
        for name in self.names:
            self.most[name] = max(self.most[name], self.there.get(name, 0))

    def hours(self) -> dict[str, float]:
        return {name: seconds / 3600.0 for name, seconds in self.spent.items()}


def clairvoyant(load: Load, types: Sequence[Type], *, bin_s: float, use: float, seed: int, start: float | None = None) -> Mixed:
    """As `reference.clairvoyant`: knows the work of every bin, and has the cheapest devices for `use` of it ready when the bin begins. It
    fills the ladder by cost per work, each place of it whenever that much is needed."""
    bins = int(load.arrival[-1] // bin_s) + 1
    work = np.bincount((load.arrival // bin_s).astype(int), weights=load.work, minlength=bins) / bin_s / use
    ladder = [t for t in sorted(types, key=lambda t: t.rank) for _ in range(t.stock)]
    there = first(types, load, start)
    cold = ColdStarts(1.0, seed)
    actions: list[tuple[float, int, float, int]] = []
    below = 0.0
    for place, t in enumerate(ladder):
        ready = t in there
        if ready:
            there.remove(t)
        needed = (work > below + _SLACK) | (place < LEAST)
        actions += [(at, up, when, place) for at, up, when in spans(needed, ready, bin_s, cold, t.cold_start_s)]
        below += t.option.speed
    fleet = Fleet(load, len(ladder))
    keeper = _Keeper(types, fleet)
    for t in first(types, load, start):
        fleet.start(0.0, 0.0, t.option)
    starts = 0
    for at, up, when, place in sorted(actions):
        fleet.advance(at)
        keeper.note(at)
        if fleet.done:
            break
        if up:
            fleet.start(at, when, ladder[place].option)
            starts += 1
        else:
            fleet.stop(at, serving=True, among={ladder[place].option.name})
        keeper.note(at)
    fleet.advance(math.inf)
    keeper.note(max(keeper.at, float(fleet.state.sums[2])))
    return Mixed(result(load, fleet, len({action[0] for action in actions}), starts), keeper.hours(), keeper.most)
