"""Fleets of unequal replicas: the ladder by hand, stock, conservation of work, and the plain replay as a special case."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from autoscaling.replay import harness, mixed, reference
from autoscaling.replay.baselines.hysteresis import Hysteresis
from autoscaling.replay.fleet import Option, View
from autoscaling.replay.loads import Load, load
from autoscaling.replay.mixed import Count, Type, Work
from autoscaling.replay.shipped import GOALS, Shipped
from bench.autoscaling.calibration import DATA

FAST = Type(Option("fast", 1.0, 80_000, 1.0), 120.0, 8)
WIDE = Type(Option("wide", 0.8, 64_000, 0.6), 180.0, 2)
SMALL = Type(Option("small", 0.25, 20_000, 0.2), 90.0, 3)
TYPES = (FAST, WIDE, SMALL)  # cost per work 1, 0.75, 0.8


@pytest.fixture(scope="module")
def code() -> Load:
    return load("code1", DATA, 0)


def names(types: list[Type]) -> list[str]:
    return [t.option.name for t in types]


@pytest.mark.parametrize(
    ("missing", "by_work", "wanted"),
    [
        (0.2, True, ["small"]),  # 0.2 covers it; 0.6 and 1 would, too
        (0.3, True, ["wide"]),  # one small is too little; 0.6 is cheaper than 1
        (1.7, True, ["wide", "fast"]),  # the least cost per work, then what covers 0.9 alone
        (3.0, True, ["wide", "wide", "small", "small", "fast"]),  # 1.4 are left after two, 0.9 after three smalls' worth of 0.25 each
        (4.0, False, ["wide", "wide", "small", "small"]),  # counted, every device is one
        (99.0, True, ["wide"] * 2 + ["small"] * 3 + ["fast"] * 8),  # no more than there are
    ],
)
def test_more_is_the_cheapest_that_has_stock(missing: float, by_work: bool, wanted: list[str]) -> None:
    assert names(mixed.more(TYPES, {}, missing, by_work=by_work)) == wanted


def test_what_drains_holds_its_stock() -> None:
    assert names(mixed.more(TYPES, {"wide": 2, "small": 3}, 0.2, by_work=True)) == ["fast"]


def test_less_is_the_dearest_work_that_is_not_needed() -> None:
    serving = {"fast": 2, "wide": 1, "small": 2}
    assert names(mixed.less(TYPES, serving, 1.9, by_work=True)) == ["fast", "small", "small"]
    assert names(mixed.less(TYPES, serving, 0.9, by_work=True)) == ["small", "small"]
    assert names(mixed.less(TYPES, serving, 2.0, by_work=False)) == ["fast", "fast"]


@pytest.mark.parametrize("policy", ["work", "count"])
def test_the_stock_is_never_exceeded_and_every_request_is_served_once(code: Load, policy: str) -> None:
    starts = tuple((t.option.name, t.cold_start_s) for t in TYPES)
    asked = Work(Shipped(GOALS["code1"], 120.0, starts=starts)) if policy == "work" else Count(Hysteresis(0.6, 120.0))
    found = mixed.run(code, asked, TYPES, seed=0)
    assert all(found.most[t.option.name] <= t.stock for t in TYPES)
    assert found.most["wide"] == 2
    assert len(found.result.ttft) == len(code.arrival)
    assert (found.result.ttft > 0.0).all()
    # what the types cost by their hours is what the run cost, but for the last part of a tick
    cost = sum(found.hours[t.option.name] * t.option.hourly_cost for t in TYPES)
    assert found.result.cost == pytest.approx(cost, rel=0.01)
    assert sum(found.hours.values()) == pytest.approx(found.result.replica_hours, rel=0.01)


def test_no_type_does_more_work_than_its_speed_allows(code: Load) -> None:
    """Work is conserved: what arrived fits into the hours of the types at their speeds."""
    found = mixed.run(code, Work(Shipped(GOALS["code1"], 120.0)), (SMALL, WIDE, FAST), seed=0)
    possible = 3600.0 * sum(found.hours[t.option.name] * t.option.speed for t in TYPES)
    assert float(code.work.sum()) < possible


def test_one_type_is_the_plain_replay_to_the_last_bit(code: Load) -> None:
    one = (Type(Option(), 120.0, harness.MOST),)
    found = mixed.run(code, Work(Shipped(GOALS["code1"], 120.0)), one, seed=1).result
    plain = harness.run(code, Shipped(GOALS["code1"], 120.0), cold_start_s=120.0, seed=1)
    assert (found, found.ttft.tolist()) == (plain, plain.ttft.tolist())
    known = mixed.clairvoyant(code, one, bin_s=30.0, use=0.7, seed=1).result
    assert known == reference.clairvoyant(code, bin_s=30.0, use=0.7, cold_start_s=120.0, seed=1)


def test_equal_types_are_one(code: Load) -> None:
    two = (Type(Option("a"), 120.0, 20), Type(Option("b"), 120.0, 20))
    found = mixed.run(code, Count(Hysteresis(0.6, 120.0)), two, seed=1).result
    plain = harness.run(code, Hysteresis(0.6, 120.0), cold_start_s=120.0, seed=1)
    assert (found, found.ttft.tolist()) == (plain, plain.ttft.tolist())


@dataclass(slots=True)
class Asks:
    """Asks for work by the clock, and keeps what it saw."""

    plan: dict[float, float]
    tick_s: float = 10.0
    began: float = 0.0
    by_work: bool = True
    views: list[View] = field(default_factory=list)

    def __call__(self, view: View) -> tuple[float, bool]:
        self.views.append(view)
        return next(work for at, work in sorted(self.plan.items(), reverse=True) if view.now >= at), True


def test_what_is_asked_for_stays_covered(code: Load) -> None:
    asks = Asks({0.0: 2.0, 300.0: 3.1, 900.0: 1.3})
    mixed.run(code, asks, TYPES, seed=0)
    for view in asks.views:
        if view.now in (290.0, 890.0, 1500.0):
            there = sum(seen.option.speed for seen in view.replicas if str(seen.state) in ("Ready", "Loading"))
            wanted = {290.0: 2.0, 890.0: 3.1, 1500.0: 1.3}[view.now]
            assert wanted <= there < wanted + 1.0
