"""The placer equals full enumeration, with both solvers, on seeded tiny instances."""

from __future__ import annotations

import os

import numpy as np
import pytest

import placement
from placement import _solver, general
from placement.bind import bind
from placement.finish import How, finish
from placement.problem import build
from placement.snapshot import demand_by_model, normalised, validated
from placement.types import DEFAULT, Demand, Outcome, Snapshot
from placement.value import value
from tests.unit.placement.exhaustive import Choice, World
from tests.unit.placement.instances import instance, wide

BLOCK = 50
# 500 instances pass; a run of the suite takes the first 200, a nightly run sets more.
INSTANCES = int(os.environ.get("POLYFLEET_EXACT", "200"))
# Tie-breaks of the objective (problem.EPS_*) are worth less than this in sum; prices here are whole numbers and moves cost a tenth of them.
TIE = 0.04


@pytest.mark.parametrize("first", range(0, INSTANCES, BLOCK))
def test_equals_enumeration(first: int) -> None:
    """Same shortfalls per rank, same disruption, same money as the best of all plans; `check` finds nothing."""
    for seed in range(first, first + BLOCK):
        snapshot, demand = instance(seed)
        world = World(snapshot, demand)
        best = world.optima()
        for solver in ("HiGHS", "CBC"):
            plan, _ = placement.plan(snapshot, demand, solvers=[solver])
            at = f"seed {seed}, {solver}"
            assert plan.solver == solver, f"{at}: {plan.message}"
            assert placement.check(snapshot, demand, plan) == (), at
            found = world.of_plan(plan)
            assert any(same(found, one) for one in best), f"{at}: {found}, best {best}"


@pytest.mark.parametrize(("first", "solver"), [(s, "HiGHS") for s in range(0, 60, 30)] + [(s, "CBC") for s in range(0, 30, 30)])
def test_every_rule_equals_enumeration(first: int, solver: str) -> None:
    """With length buckets, KV floors, roles, strict spread, quotas that lend, start prices, moves and young replicas: the general form
    finds the best of all plans, `value` says of it what the enumeration says, and `check` finds nothing."""
    for seed in range(first, first + 30):
        snapshot, demand = wide(seed)
        validated(snapshot, demand)
        world, at = World(snapshot, demand), f"seed {seed}, {solver}"
        found = exact(world, snapshot, demand, solver, at)
        assert any(same(found, best) for best in world.optima()), f"{at}: {found}, best {world.optima()}"


def exact(world: World, snapshot: Snapshot, demand: Demand, solver: str, at: str) -> tuple[tuple[float, ...], float]:
    """What the general form's plan is worth to the enumeration; `value` and `check` agree with it."""
    problem = build(normalised(snapshot), demand_by_model(normalised(snapshot), demand))
    counts = general.solve(problem, _solver.solver(solver), _solver.Limits(1000, 0.0, 60.0))
    plan = finish(problem, bind(problem, counts.starts, counts.stops, counts.slots), How(Outcome.OPTIMAL, solver, "General"), DEFAULT)
    assert placement.check(snapshot, demand, plan) == (), at
    got = value(problem, counts.starts, counts.stops)
    tiers, money = raw(world, plan)
    assert got.tiers == pytest.approx(tiers, abs=1e-5), at
    assert got.hourly + got.change == pytest.approx(money, abs=1e-6), at
    return world.of_plan(plan)


def same(found: tuple[tuple[float, ...], float], best: tuple[tuple[float, ...], float]) -> bool:
    return found[0] == pytest.approx(best[0], abs=1e-4) and found[1] == pytest.approx(best[1], abs=TIE)


def raw(world: World, plan: placement.Plan) -> tuple[list[float], float]:
    """Tiers and money of a plan as the enumeration counts them, with what no plan can avoid."""
    total = np.zeros(2 * len(world.ranks) + 1)
    for m in world.models:
        mine = {r.id for r in world.running(m.name)}
        starts = tuple((s.option, s.node) for s in plan.starts if s.model == m.name)
        rank = world.ranks.index(m.priority)
        total[[2 * rank, 2 * rank + 1, -1]] += world.value(m, Choice(tuple(i for i in plan.stop if i in mine), starts))
    return [float(x) for x in total[:-1]], float(total[-1])


@pytest.mark.parametrize(("seed", "solver"), [(1588, "HiGHS"), (36, "CBC")])
def test_a_solver_that_denies_a_feasible_program_is_asked_again(seed: int, solver: str) -> None:
    """Both say "infeasible" of a program that has a solution (HiGHS 1.16.0 with presolve, CBC 2.10.3 with preprocessing)."""
    snapshot, demand = wide(seed)
    problem = build(normalised(snapshot), demand_by_model(normalised(snapshot), demand))
    counts = general.solve(problem, _solver.solver(solver), _solver.Limits(1000, 0.0, 60.0))
    assert counts.goals_proven
