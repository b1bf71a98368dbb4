"""Polish: against exhaustive search (everything free, and some models free), never worse, and the cases of preemption through it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

import placement
from placement import _solver, greedy
from placement.bind import Binding, bind
from placement.general import Counts
from placement.neighbourhood import choose, improve, polish
from placement.problem import Problem, build
from placement.snapshot import demand_by_model, normalised
from placement.types import Demand, Effort, Model, ModelDemand, Outcome, Plan, Quota, Snapshot
from placement.value import value
from tests.unit.placement.exhaustive import Choice, World
from tests.unit.placement.fleet import cell, model, node, option, replica, snap
from tests.unit.placement.instances import instance

LIMITS = _solver.Limits(nodes=2000, relative_gap=0.0, seconds=60.0)
TIE = 0.04  # as in test_exact: tie-breaks are worth less, money differs by more


def problem_of(snapshot: Snapshot, demand: Demand | None = None) -> Problem:
    snapshot = normalised(snapshot)
    return build(snapshot, demand_by_model(snapshot, demand or Demand()))


def counts_of(starts: Sequence[int], stops: Sequence[int], slots: dict[int, dict[str, dict[int, int]]]) -> Counts:
    return Counts(tuple(starts), tuple(stops), slots, (), 0.0, False, False, None, False)


def by_greedy(problem: Problem, *, keep_only: bool = False) -> Counts:
    return counts_of(*greedy.place(problem, keep_only=keep_only))


def bound(problem: Problem, counts: Counts) -> Binding:
    return bind(problem, counts.starts, counts.stops, counts.slots)


def faults(snapshot: Snapshot, demand: Demand, problem: Problem, counts: Counts) -> list[str]:
    """What the independent check says of these counts as a plan; shortfalls are published by others, so those lines are left out."""
    b = bound(problem, counts)
    plan = replace(as_plan(b), hourly_cost=value(problem, counts.starts, counts.stops).hourly)
    return [fault for fault in placement.check(snapshot, demand, plan) if "shortfall says" not in fault]


def as_plan(b: Binding) -> Plan:
    return Plan(b.assignments, b.keep, b.stop, b.starts, (), (), Outcome.FEASIBLE, "HiGHS", 0.0, 0.0, None, None)


@pytest.mark.parametrize("first", range(0, 90, 30))
def test_with_everything_free_the_enumerated_optimum_is_reached(first: int) -> None:
    for seed in range(first, first + 30):
        snapshot, demand = instance(seed)
        problem = problem_of(snapshot, demand)
        found, _ = polish(problem, by_greedy(problem), _solver.solver("HiGHS"), LIMITS, Effort(neighbourhoods=8))
        world = World(snapshot, demand)
        tiers, money = world.optimum()
        got_tiers, got_money = world.of_plan(as_plan(bound(problem, found)))
        assert got_tiers == pytest.approx(tiers, abs=1e-4), f"seed {seed}"
        assert got_money == pytest.approx(money, abs=TIE), f"seed {seed}"
        assert faults(snapshot, demand, problem, found) == [], f"seed {seed}"


class HeldWorld(World):
    """The same search with all models but one at what a plan gives them: the same stops, and starts in the same cells on any node."""

    def __init__(self, snapshot: Snapshot, demand: Demand, plan: Binding, free: str) -> None:
        super().__init__(snapshot, demand)
        self.plan, self.free = plan, free

    def choices(self, model: Model) -> list[Choice]:
        every = super().choices(model)
        if model.name == self.free:
            return every
        mine = {r.id for r in self.running(model.name)}
        stops = tuple(sorted(i for i in self.plan.stop if i in mine))
        starts = sorted((s.option, s.cell) for s in self.plan.starts if s.model == model.name)
        return [c for c in every if tuple(sorted(c.stops)) == stops and sorted((o, self.nodes[n].cell) for o, n in c.starts) == starts]


@pytest.mark.parametrize("first", range(500, 560, 30))
def test_one_free_model_reaches_the_optimum_with_the_others_held(first: int) -> None:
    """From the greedy plan, each model alone: the best of all plans that differ in it only, and never a worse one."""
    gained = 0
    for seed in range(first, first + 30):
        snapshot, demand = instance(seed)
        problem = problem_of(snapshot, demand)
        start = by_greedy(problem)
        for m, free in enumerate(problem.models):
            world = HeldWorld(snapshot, demand, bound(problem, start), free.name)
            before = world.of_plan(as_plan(bound(problem, start)))
            found = improve(problem, start, [m], _solver.solver("HiGHS"), LIMITS)
            at = f"seed {seed}, {free.name}"
            tiers, money = world.optimum()
            after = before if found is None else world.of_plan(as_plan(bound(problem, found)))
            assert after[0] == pytest.approx(tiers, abs=1e-4), at
            assert after[1] == pytest.approx(money, abs=TIE), at
            if found is not None:
                gained += 1
                assert faults(snapshot, demand, problem, found) == [], at
                held = [g.index for g in problem.groups if g.model != m]
                assert [found.stops[g] for g in held] == [start.stops[g] for g in held], at
    assert gained >= 3


def test_random_neighbourhoods_never_make_a_plan_worse() -> None:
    """60 seeded instances, random sets from legal plans: the value never rises, and `check` never finds a fault."""
    for seed in range(700, 760):
        rng = random.Random(seed)
        snapshot, demand = instance(seed)
        problem = problem_of(snapshot, demand)
        world = World(snapshot, demand)
        counts = by_greedy(problem, keep_only=rng.random() < 0.5)
        if faults(snapshot, demand, problem, counts):  # more runs than a lowered maximum allows
            continue
        for _ in range(3):
            models = sorted(rng.sample(range(len(problem.models)), rng.randint(1, len(problem.models))))
            found = improve(problem, counts, models, _solver.solver("HiGHS"), LIMITS)
            if found is None:
                continue
            before, after = (world.of_plan(as_plan(bound(problem, c))) for c in (counts, found))
            served_before, served_after = (not any(x > 1e-6 for x in t[0]) for t in (before, after))
            if served_after and served_before:
                assert after[1] <= before[1] + TIE, f"seed {seed}"
            elif not served_after:
                assert not served_before, f"seed {seed}"
                assert [round(x, 4) for x in after[0]] <= [round(x, 4) for x in before[0]], f"seed {seed}"
            assert faults(snapshot, demand, problem, found) == [], f"seed {seed}"
            counts = found


def test_small_stops_of_one_node_add_up() -> None:
    """OC-101: a node of 4: 1 free, a low 1, a high 2. A high 2 takes the free device and one eviction; the waiting low gets none."""
    where = cell("h100", per_node=4)
    low, high = option("low", "h100", 1), option("high", "h100", 2)
    x, y = option("x", "h100", 2), option("y", "h100", 1)
    models = [model("low", 1), model("y", 1), model("high", 1, priority=5), model("x", 1, priority=5)]
    problem = problem_of(
        snap([where], [node("n1", where, 4)], models, [low, high, x, y], [replica("l", low, "n1"), replica("h", high, "n1")])
    )
    found, used = polish(problem, by_greedy(problem, keep_only=True), _solver.solver("HiGHS"), LIMITS, Effort())
    b = bound(problem, found)
    assert b.stop == ("l",)
    assert [(s.model, s.node, s.after) for s in b.starts] == [("ns/x", "n1", ("l",))]
    assert used >= 1


def four_nodes(*wanted: tuple[str, int]) -> Problem:
    """OC-014: four nodes of 8, on each 6 devices of high priority and 2 of low."""
    where = cell("h100")
    high, low = option("high", "h100", 6), option("low", "h100", 1)
    models = [model("high", 4, priority=5), model("low", 8), *(model(name, 1, priority=5) for name, _ in wanted)]
    running = [replica(f"h{i}", high, f"n{i}") for i in range(4)]
    running += [replica(f"l{i}{j}", low, f"n{i}") for i in range(4) for j in range(2)]
    options = [high, low, *(option(name, "h100", k) for name, k in wanted)]
    return problem_of(snap([where], [node(f"n{i}", where, 8) for i in range(4)], models, options, running))


def test_nobody_is_evicted_for_what_fits_nowhere_and_one_for_what_fits() -> None:
    """OC-014: a high 8 gets nothing and evicts nobody (at most 2 devices come free per node); a high 1 evicts exactly one low."""
    problem = four_nodes(("big", 8))
    found, _ = polish(problem, by_greedy(problem, keep_only=True), _solver.solver("HiGHS"), LIMITS, Effort())
    assert (sum(found.starts), sum(found.stops)) == (0, 0)
    problem = four_nodes(("big", 8), ("small", 1))
    found, _ = polish(problem, by_greedy(problem, keep_only=True), _solver.solver("HiGHS"), LIMITS, Effort())
    b = bound(problem, found)
    assert [s.model for s in b.starts] == ["ns/small"]
    assert len(b.stop) == 1
    assert b.stop[0].startswith("l")


def crowd(extra: int) -> tuple[Snapshot, Demand]:
    """A high model needs 4 of h100, which low1 fills. low1 could run on ppu, which low2 (lower still) fills; low2 has nowhere to go. Beside
    them `extra` models that need nothing of it, so that not everything can be free at once."""
    h, p, other = cell("h100", per_node=4), cell("ppu", per_node=4, sizes=(1, 2, 4)), cell("910c", per_node=4, sizes=(1, 2, 4))
    high, low1, low1p, low2 = option("high", "h100", 4), option("low1", "h100", 4), option("low1", "ppu", 4), option("low2", "ppu", 4)
    models = [model("high", 1, priority=9), model("low1", 1, priority=5), model("low2", 1)]
    options = [high, low1, low1p, low2]
    nodes = [node("nh", h, 4, total=4), node("np", p, 4, total=4)]
    running = [replica("r1", low1, "nh"), replica("r2", low2, "np")]
    for i in range(extra):
        o = option(f"z{i:03d}", "910c", 4)
        models.append(model(f"z{i:03d}", 1))
        options.append(o)
        nodes.append(node(f"x{i:03d}", other, 4, total=4))
        running.append(replica(f"q{i:03d}", o, f"x{i:03d}"))
    return snap([h, p, other], nodes, models, options, running), Demand()


def test_preemption_goes_across_types_in_one_neighbourhood() -> None:
    """120 models: the short one, whom it pushes out, and whom that one pushes out in turn are free together, and the rest is held."""
    problem = problem_of(*crowd(120))
    names = {m.name: i for i, m in enumerate(problem.models)}
    start = by_greedy(problem, keep_only=True)
    first = choose(problem, start, 0, 1)
    assert first is not None
    assert {names["ns/high"], names["ns/low1"], names["ns/low2"]} <= set(first)
    assert len(first) < 20
    found, _ = polish(problem, start, _solver.solver("HiGHS"), LIMITS, Effort())
    b = bound(problem, found)
    assert sorted(b.stop) == ["r1", "r2"]
    assert sorted((s.model, s.cell) for s in b.starts) == [("ns/high", "h100"), ("ns/low1", "ppu")]


def test_the_sets_of_a_round() -> None:
    """Each once, sorted, the same for the same seed; the last is followed by None. Small fleets begin with everything."""
    snapshot, demand = crowd(120)
    problem = problem_of(snapshot, demand)
    start = by_greedy(problem, keep_only=True)
    sets: list[list[int]] = []
    while (models := choose(problem, start, len(sets), 3)) is not None:
        sets.append(models)
    assert len({frozenset(s) for s in sets}) == len(sets)
    assert all(s == sorted(set(s)) for s in sets)
    assert sets == [choose(problem, start, i, 3) for i in range(len(sets))]
    small = problem_of(*crowd(3))
    assert choose(small, by_greedy(small, keep_only=True), 0, 3) == list(range(6))


def test_polish_stops_when_a_round_brings_nothing_and_obeys_its_effort() -> None:
    problem = problem_of(*crowd(120))
    done, _ = polish(problem, by_greedy(problem, keep_only=True), _solver.solver("HiGHS"), LIMITS, Effort(neighbourhoods=50))
    again, used = polish(problem, done, _solver.solver("HiGHS"), LIMITS, Effort(neighbourhoods=50))
    assert again == done
    assert used < 50
    none, used = polish(problem, by_greedy(problem, keep_only=True), _solver.solver("HiGHS"), LIMITS, Effort(neighbourhoods=0))
    assert (used, sum(none.starts), sum(none.stops)) == (0, 0, 0)


def test_moves_of_held_models_count_against_the_moves_that_are_left() -> None:
    """Two models that would each save by moving to the cheap pool, one move left in this hour: once a has it, b stays, even alone."""
    dear, cheap = cell("h100", "dear", cost_per_device_hour=10.0), cell("h100", "cheap", cost_per_device_hour=1.0)
    a, b = option("a", "h100", 4), option("b", "h100", 4)
    running = [replica("ra", a, "n1"), replica("rb", b, "n1")]
    snapshot = snap(
        [dear, cheap], [node("n1", dear, 8), node("n2", cheap, 8)], [model("a", 1), model("b", 1)], [a, b], running, max_moves=1
    )
    problem = problem_of(snapshot)
    start = by_greedy(problem, keep_only=True)
    first = improve(problem, start, [0], _solver.solver("HiGHS"), LIMITS)
    assert first is not None
    assert bound(problem, first).stop == ("ra",)
    assert improve(problem, first, [1], _solver.solver("HiGHS"), LIMITS) is None


def test_what_is_borrowed_does_not_grow_while_a_held_lender_is_short() -> None:
    """8 devices, quotas of 4 each, tenant b may borrow. b's model of higher priority could take all 8, but a's is short of its own 4: freed
    alone, b starts one replica of 4 and no second; freed together, each has 4, whatever the ranks."""
    where = cell("h100")
    a, b = option("a", "h100", 4), option("b", "h100", 4)
    models = [model("a", 1, tenant="ta"), model("b", 2, tenant="tb", priority=9)]
    quotas = (Quota("ta", 4, borrow=True), Quota("tb", 4, borrow=True))
    problem = problem_of(snap([where], [node("n", where, 8)], models, [a, b], [replica("rb", b, "n")], quotas=quotas))
    start = by_greedy(problem, keep_only=True)
    assert improve(problem, start, [1], _solver.solver("HiGHS"), LIMITS) is None
    both = improve(problem, start, [0, 1], _solver.solver("HiGHS"), LIMITS)
    assert both is not None
    assert [(s.model, s.node) for s in bound(problem, both).starts] == [("ns/a", "n")]
    assert bound(problem, both).stop == ()


def test_ways_that_the_problem_lacks_are_added_only_if_they_are_used() -> None:
    problem = problem_of(*crowd(120))
    start = by_greedy(problem, keep_only=True)
    problem.ways.clear()
    bare = counts_of((), start.stops, {})
    names = {m.name: i for i, m in enumerate(problem.models)}
    assert improve(problem, bare, [names["ns/low2"]], _solver.solver("HiGHS"), LIMITS) is None
    assert problem.ways == []
    found = improve(problem, bare, [names["ns/high"], names["ns/low1"]], _solver.solver("HiGHS"), LIMITS)
    assert found is not None
    assert [(w.index, problem.models[w.model].name) for w in problem.ways] == [(0, "ns/high")]
    assert found.starts == (1,)


def test_a_solver_that_fails_changes_nothing() -> None:
    def broken(*_: object) -> _solver.Answer:
        raise _solver.NoSolutionError("none")

    problem = problem_of(*crowd(1))
    assert improve(problem, by_greedy(problem, keep_only=True), [0, 1, 2], broken, LIMITS) is None


def test_work_in_buckets_is_improved_for_money() -> None:
    """Load of 10 and 10 in two buckets. Option s serves only the first at 5, l both at 5: two s and two l cost 2 + 8 and
    four l cost 16; exact: 2 s + 2 l = 10."""
    where = cell("h100", sizes=(1, 2, 4, 8), cost_per_device_hour=1.0)
    s = option("a", "h100", 1, bucket_work=(5.0, 0.0))
    large = option("a", "h100", 4, bucket_work=(5.0, 5.0))
    a = model("a", 1, max_replicas=20)
    demand = Demand((ModelDemand("ns/a", 20.0, (10.0, 10.0), reason="Load"),))
    nodes = [node(f"n{i}", where, 8) for i in range(3)]
    problem = problem_of(snap([where], nodes, [a], [s, large], relative_gap=0.0), demand)
    start = counts_of((0,) * len(problem.ways), (), {})
    found = improve(problem, start, [0], _solver.solver("HiGHS"), LIMITS)
    assert found is not None
    assert value(problem, found.starts, found.stops).hourly == pytest.approx(10.0)
