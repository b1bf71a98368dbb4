"""The placer equals full enumeration, with both solvers, on 500 seeded tiny instances."""

from __future__ import annotations

import pytest

import placement
from tests.unit.placement.exhaustive import World
from tests.unit.placement.instances import instance

BLOCK = 50
# Tie-breaks of the objective (problem.EPS_*) are worth less than this in sum; prices here are whole numbers and moves cost a tenth of them.
TIE = 0.04


@pytest.mark.parametrize("first", range(0, 500, BLOCK))
def test_equals_enumeration(first: int) -> None:
    """Same shortfalls per rank, same disruption, same money as the best of all plans; `check` finds nothing."""
    for seed in range(first, first + BLOCK):
        snapshot, demand = instance(seed)
        world = World(snapshot, demand)
        tiers, money = world.optimum()
        for solver in ("HiGHS", "CBC"):
            plan, _ = placement.plan(snapshot, demand, solvers=[solver])
            at = f"seed {seed}, {solver}"
            assert plan.solver == solver, f"{at}: {plan.message}"
            assert placement.check(snapshot, demand, plan) == (), at
            found_tiers, found_money = world.of_plan(plan)
            assert found_tiers == pytest.approx(tiers, abs=1e-4), at
            assert found_money == pytest.approx(money, abs=TIE), at
