"""Plans that a caller is told of on the way: each may be the one to live with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import placement
from placement import _solver
from placement.types import Demand, Effort, ModelDemand, Outcome, Plan, Snapshot
from tests.unit.placement.fleet import applied, cell, got, model, node, option, snap
from tests.unit.placement.instances import instance

COLUMNS = Effort(exact_size=0)


def told(snapshot: Snapshot, demand: Demand) -> tuple[list[Plan], Plan]:
    found: list[Plan] = []
    last, _ = placement.plan(snapshot, demand, effort=COLUMNS, report=found.append)
    return found, last


def test_a_plan_on_the_way_obeys_every_rule_and_says_what_is_missing() -> None:
    short = 0
    for seed in range(25):
        snapshot, demand = instance(seed)
        for plan in told(snapshot, demand)[0]:
            assert placement.check(snapshot, demand, plan) == ()
            assert all(s.reasons for s in plan.shortfalls)
            short += bool(plan.shortfalls)
    assert short  # the instances have some that cannot serve all


def test_of_an_empty_fleet_the_first_plan_that_is_told_places_what_fits() -> None:
    placed = 0
    for seed in range(25):
        snapshot, demand = instance(seed)
        empty = replace(snapshot, replicas=())
        found, last = told(empty, demand)
        if last.starts:
            # "Nothing runs" is what the caller knows already.
            assert found
            assert all(plan.starts and plan.outcome is not Outcome.KEPT_OLD for plan in found)
            placed += 1
    assert placed


def test_who_listens_gets_the_same_plan() -> None:
    for seed in range(10):
        snapshot, demand = instance(seed)
        deaf, _ = placement.plan(snapshot, demand, effort=COLUMNS)
        heard = told(snapshot, demand)[1]
        # The message may say of a plan on the way that the check refused it; who does not listen has fewer checked.
        assert replace(heard, message="") == replace(deaf, message="")


def test_a_small_fleet_has_a_plan_before_any_solver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first plan may take a solver its whole time, and a hung one for ever. What was told before places all that fits: 4 of 5 replicas
    of four devices on two nodes of eight. Of a fleet that runs the caller knows what to live with, so nothing is told."""
    asked: list[int] = []
    real = _solver.ENGINES["HiGHS"].solve

    def watched(form: Any, objective: Any, limits: Any) -> Any:
        asked.append(len(found))
        return real(form, objective, limits)

    monkeypatch.setitem(_solver.ENGINES, "HiGHS", replace(_solver.ENGINES["HiGHS"], solve=watched))
    where = cell("h100")
    snapshot = snap([where], [node("n1", where, 8), node("n2", where, 8)], [model("a", 5)], [option("a", "h100", 4)])
    demand = Demand((ModelDemand("ns/a"),))
    found: list[Plan] = []
    last, _ = placement.plan(snapshot, demand, report=found.append)
    assert (asked[0], found[0].outcome, got(found[0], "a"), found[0].shortfalls[0].replicas) == (1, Outcome.GREEDY, 4, 1)
    assert placement.check(snapshot, demand, found[0]) == ()
    assert found[-1] == last
    asked.clear()
    found.clear()
    placement.plan(applied(snapshot, last), demand, report=found.append)
    assert (asked[0], len(found)) == (0, 1)
