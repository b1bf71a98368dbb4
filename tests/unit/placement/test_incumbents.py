"""Plans that a caller is told of on the way: each may be the one to live with."""

from __future__ import annotations

from dataclasses import replace

import placement
from placement.types import Demand, Effort, Outcome, Plan, Snapshot
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
