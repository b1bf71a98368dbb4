"""A fleet that costs more than it may, and in which somebody is short: it moves to where it may grow again, and nobody is served less."""

from __future__ import annotations

from dataclasses import replace

import pytest

from placement.types import Model, Snapshot
from tests.unit.placement.fleet import applied, cell, got, model, node, option, planned, replica, short, snap

BOTH = pytest.mark.parametrize("solver", ["HiGHS", "CBC"])
DEAR, CHEAP = cell("h100", "dear", cost_per_device_hour=50.0), cell("h100", "cheap", cost_per_device_hour=1.0)
A, B = option("a", "h100", 1), option("b", "h100", 1)


def fleet(budget: float | None, *, room: int = 8, models: tuple[Model, ...] = (model("a", 4),)) -> Snapshot:
    """Three replicas of a at 50 per hour each; the fourth is missing. `room` devices at 1 per hour are free."""
    running = [replica(f"r{i}", A, "n1") for i in range(3)]
    made = snap([DEAR, CHEAP], [node("n1", DEAR, 4), node("n2", CHEAP, room)], models, [A, B][: len(models)], running)
    return replace(made, policy=replace(made.policy, max_hourly_cost=budget))


@BOTH
def test_over_its_budget_a_fleet_moves_to_where_it_ends_below_and_then_grows(solver: str) -> None:
    """150 per hour run, 100 are allowed, so the fourth may not start: the three move, and the next plan starts it."""
    first = planned(fleet(100.0), solvers=[solver])
    assert (len(first.stop), got(first, "a"), first.hourly_cost) == (3, 3, 3.0)
    assert short(first, "a").replicas == 1
    second = planned(applied(fleet(100.0), first), solvers=[solver])
    assert (second.stop, got(second, "a"), second.hourly_cost, second.shortfalls) == ((), 4, 4.0, ())


@BOTH
def test_below_its_budget_nobody_moves_for_money_while_somebody_is_short(solver: str) -> None:
    """The same fleet within its budget: 9 free devices for 10 replicas, one of them is missing, and nobody moves."""
    within = planned(fleet(250.0, models=(model("a", 4), model("b", 9))), solvers=[solver])
    assert (within.stop, got(within, "a") + got(within, "b")) == ((), 12)


@BOTH
@pytest.mark.parametrize(("budget", "stops", "cost"), [(52.0, 2, 52.0), (51.0, 0, 150.0)])
def test_moves_that_do_not_end_below_the_budget_are_not_made(solver: str, budget: float, stops: int, cost: float) -> None:
    """There is room for two: 50 + 2 = 52 per hour is the least without a loss."""
    plan = planned(fleet(budget, room=2), solvers=[solver])
    assert (len(plan.stop), got(plan, "a"), plan.hourly_cost) == (stops, 3, cost)


@BOTH
def test_over_its_own_maximum_a_model_moves_and_the_others_stay(solver: str) -> None:
    both = (model("a", 4, max_hourly_cost=100.0), model("b", 1))
    standing = fleet(None, models=both)
    standing = replace(standing, replicas=(*standing.replicas, replica("s", B, "n1")))
    plan = planned(standing, solvers=[solver])
    assert plan.stop == ("r0", "r1", "r2")
    assert (got(plan, "a"), got(plan, "b")) == (3, 1)


@BOTH
def test_moves_that_are_left_bind_here_too(solver: str) -> None:
    """One move is left: it would end at 101 per hour, above the budget, so it is not made; two end at 52."""
    one, two = (replace(fleet(60.0), policy=replace(fleet(60.0).policy, max_moves=n)) for n in (1, 2))
    assert planned(one, solvers=[solver]).stop == ()
    assert len(planned(two, solvers=[solver]).stop) == 2
