"""What more or less of something may change, on seeded tiny fleets in the general form: stock, options, quotas, demand, priorities, lower
ranks, prices, and the order of the input. The optimum is exact here (gap 0), so bound and value are the same number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

import placement
from placement import _solver, general
from placement.problem import Problem, build, unmet_price
from placement.share import share
from placement.snapshot import demand_by_model, normalised
from placement.types import Demand, Effort, Model, ModelDemand, Node, Option, Plan, ReplicaState, Snapshot, Stock
from placement.value import Value, better, value
from tests.unit.placement.fleet import applied
from tests.unit.placement.instances import wide

SEEDS = range(20_000, 20_040)
LIMITS = _solver.Limits(2000, 0.0, 60.0)
COLUMNS = Effort(exact_size=0)
TIE = 0.04  # of money, for the tie-breaks


def solved(snapshot: Snapshot, demand: Demand, solver: str = "HiGHS") -> tuple[Problem, general.Counts, Value]:
    snapshot = normalised(snapshot)
    problem = build(snapshot, demand_by_model(snapshot, demand))
    counts = general.solve(problem, _solver.solver(solver), LIMITS)
    return problem, counts, value(problem, counts.starts, counts.stops)


def worse(after: Value, before: Value) -> bool:
    """Later in the order of goals, or dearer by more than the tie-breaks with the same goals."""
    return better(before, after, 1e-5) and not (
        all(abs(a - b) <= 1e-5 * max(1.0, a) for a, b in zip(after.tiers, before.tiers, strict=True)) and after.money <= before.money + TIE
    )


def empty_fleets() -> Iterator[tuple[int, Snapshot, Demand]]:
    """Nothing runs yet, so that what is lost and what is moved plays no part."""
    for seed in SEEDS:
        snapshot, demand = wide(seed)
        yield seed, replace(snapshot, replicas=()), demand


def test_more_of_anything_never_raises_the_bound() -> None:
    """A node, an option that is as good as the median one, room in every quota."""
    for seed, snapshot, demand in empty_fleets():
        _, _, before = solved(snapshot, demand)
        for name, more in (("node", one_node(snapshot)), ("option", one_option(snapshot, seed)), ("quota", wider(snapshot))):
            if more is not None:
                _, _, after = solved(more, demand)
                assert not worse(after, before), f"seed {seed}, one more {name}: {after} after {before}"


def one_node(snapshot: Snapshot) -> Snapshot | None:
    known = [c for c in snapshot.cells if c.stock is Stock.KNOWN and c.per_node]
    if not known:
        return None
    size = known[0].per_node or 1
    return replace(snapshot, nodes=(*snapshot.nodes, Node("zz", known[0].name, size, size, 0)))


def one_option(snapshot: Snapshot, seed: int) -> Snapshot | None:
    """A copy of a model's only option under another name, allowed in every pool: the model's typical work per device, by which its loss is
    counted, stays where it is."""
    rng = random.Random(seed)
    single = [o for o in snapshot.options if sum(x.model == o.model for x in snapshot.options) == 1]
    if not single:
        return None
    chosen: Option = rng.choice(single)
    return replace(snapshot, options=(*snapshot.options, replace(chosen, id=chosen.id + "+", pools=(), excluded_pools=())))


def wider(snapshot: Snapshot) -> Snapshot | None:
    """Only where nothing is lent: a quota that lends less is not a smaller set of plans, it is another order of tenants."""
    quotas = snapshot.policy.quotas
    if not quotas or any(q.borrow for q in quotas):
        return None
    more = tuple(replace(q, devices=q.devices + 2) for q in quotas)
    return replace(snapshot, policy=replace(snapshot.policy, quotas=more))


def test_less_demand_never_raises_the_bound() -> None:
    for seed, snapshot, demand in empty_fleets():
        _, _, before = solved(snapshot, demand)
        less = Demand(tuple(half(d) for d in demand.models))
        _, _, after = solved(snapshot, less)
        assert not worse(after, before), f"seed {seed}"


def half(asked: ModelDemand) -> ModelDemand:
    return replace(asked, work_per_s=asked.work_per_s / 2, bucket_work=tuple(x / 2 for x in asked.bucket_work), kv_floor=asked.kv_floor / 2)


def served(problem: Problem, counts: general.Counts, name: str) -> tuple[float, float]:
    """(replicas up to the minimum, share of the demand) of one model, the better of both goals being what its rank fights for."""
    m = next(i for i, x in enumerate(problem.models) if x.name == name)
    count, supply = 0, dict[object, int]()
    for w in problem.ways:
        if w.model == m:
            count += counts.starts[w.index]
            kind = problem.kind(w.option, w.cell)
            supply[kind] = supply.get(kind, 0) + counts.starts[w.index]
    for i in problem.groups_of[m]:
        g = problem.groups[i]
        left = len(g.ids) - counts.stops[i]
        count += left
        found = problem.kind_of(g)
        if found is not None:
            supply[found] = supply.get(found, 0) + left
    want = problem.wants[m]
    loss = 2.0 * want.smallest * max(0, want.minimum - count)
    return loss, want.need * unmet_price(1.0 - share(want.needs, supply))  # type: ignore[arg-type]


def test_a_higher_priority_never_lowers_what_the_model_gets() -> None:
    for seed in SEEDS:
        snapshot, demand = wide(seed)
        if any(q.borrow for q in snapshot.policy.quotas):
            continue  # a lender comes first whatever the priorities
        low = min(snapshot.models, key=lambda m: (m.priority, m.name))
        problem, counts, _ = solved(snapshot, demand)
        raised = replace(snapshot, models=tuple(replace(m, priority=99) if m.name == low.name else m for m in snapshot.models))
        problem2, counts2, _ = solved(raised, demand)
        before, after = sum(served(problem, counts, low.name)), sum(served(problem2, counts2, low.name))
        assert after <= before + 1e-5, f"seed {seed}, {low.name}: lacks {after} after {before}"


def test_without_the_lower_ranks_a_higher_one_gets_no_more() -> None:
    """What lower ranks hold stands in nobody's way: the first rank's goals are as good with them as without."""
    checked = 0
    for seed in range(20_000, 20_300):
        snapshot, demand = wide(seed)
        highest = max(m.priority for m in snapshot.models)
        lower = {m.name for m in snapshot.models if m.priority < highest}
        if not lower or not lends_nothing(snapshot, lower):
            continue
        checked += 1
        alone = replace(
            snapshot,
            models=tuple(m for m in snapshot.models if m.name not in lower),
            options=tuple(o for o in snapshot.options if o.model not in lower),
            replicas=tuple(r for r in snapshot.replicas if r.model not in lower),
        )
        _, _, without = solved(alone, Demand(tuple(d for d in demand.models if d.model not in lower)))
        _, _, among = solved(snapshot, demand)
        assert among.tiers[:2] == pytest.approx(without.tiers[:2], abs=1e-5), f"seed {seed}"
    assert checked >= 20


def lends_nothing(snapshot: Snapshot, lower: set[str]) -> bool:
    """Lower ranks may be stopped everywhere, and what they leave is known: no quota that lends, no hold, no unknown or misread stock."""
    models: dict[str, Model] = {m.name: m for m in snapshot.models}
    cells = {c.name: c for c in snapshot.cells}
    nodes = {n.name: n for n in snapshot.nodes}
    theirs = [r for r in snapshot.replicas if r.model in lower]
    return (
        snapshot.policy.preemption
        and not any(q.borrow for q in snapshot.policy.quotas)
        and all(models[name].preemptable and not models[name].hold for name in lower)
        and all(cells[nodes[r.node].cell].stock is Stock.KNOWN for r in theirs)
        and all(cells[nodes[r.node].cell].align_to == 1 and r.state is not ReplicaState.DRAINING for r in theirs)
        and all(sum(r.devices for r in snapshot.replicas if r.node == n.name) + n.held_by_others <= n.allocatable for n in snapshot.nodes)
    )


def test_prices_times_a_constant_leave_the_value() -> None:
    for seed in range(20_000, 20_020):
        snapshot, demand = wide(seed)
        dear = replace(
            snapshot,
            cells=tuple(replace(c, cost_per_device_hour=c.cost_per_device_hour * 8) for c in snapshot.cells),
            models=tuple(replace(m, max_hourly_cost=None if m.max_hourly_cost is None else m.max_hourly_cost * 8) for m in snapshot.models),
            policy=replace(
                snapshot.policy,
                max_hourly_cost=None if snapshot.policy.max_hourly_cost is None else snapshot.policy.max_hourly_cost * 8,
            ),
        )
        _, _, one = solved(snapshot, demand)
        _, _, other = solved(dear, demand)
        assert other.tiers == pytest.approx(one.tiers, abs=1e-5), f"seed {seed}"
        assert other.hourly + other.change == pytest.approx(8 * (one.hourly + one.change), abs=8 * TIE), f"seed {seed}"


def test_another_solver_gives_the_same_value() -> None:
    for seed in range(20_000, 20_020):
        snapshot, demand = wide(seed)
        _, _, one = solved(snapshot, demand, "HiGHS")
        _, _, other = solved(snapshot, demand, "CBC")
        assert other.tiers == pytest.approx(one.tiers, abs=1e-4), f"seed {seed}"
        assert other.money == pytest.approx(one.money, abs=TIE), f"seed {seed}"


def test_a_plan_of_every_rule_that_came_true_changes_nothing() -> None:
    """Applied and planned again: nobody starts, nobody stops. Not asked where moves are left over for the next hour, nor of replicas whose
    option serves nothing that is known: they go once they are surplus."""
    for seed in range(20_000, 20_060):
        snapshot, demand = wide(seed)
        unknown = any(not any(o.bucket_work or (o.work_per_s or 0.0,)) or not o.eligible for o in snapshot.options)
        if snapshot.policy.max_moves is not None or unknown or any(r.option is None for r in snapshot.replicas):
            continue
        plan, _ = placement.plan(snapshot, demand, solvers=["HiGHS"])
        assert plan.solver == "HiGHS", plan.message
        for solver in ("HiGHS", "CBC"):
            again, _ = placement.plan(applied(snapshot, plan), demand, solvers=[solver])
            assert (again.starts, again.stop) == ((), ()), f"seed {seed}, {solver}"


def test_solved_again_from_the_old_plan_the_value_never_rises() -> None:
    """By columns, where no optimum is promised: the plan has come true, and perhaps a node joins: the next plan lacks no more in the
    order of ranks, and the goals and the money in one number are no more."""
    compared = 0
    for seed in range(20_000, 20_060):
        snapshot, demand = wide(seed)
        if any(r.option is None for r in snapshot.replicas) or snapshot.policy.max_moves is not None:
            continue
        plan, warm = placement.plan(snapshot, demand, effort=COLUMNS)
        came_true = applied(snapshot, plan)
        for later in (came_true, one_node(came_true) or came_true):
            after, _ = placement.plan(later, demand, effort=COLUMNS, warm=warm)
            lacked, lacks = lacking(snapshot, plan), lacking(snapshot, after)
            assert lacks <= lacked, f"seed {seed}: lacks {lacks} after {lacked}"
            assert after.objective <= plan.objective + TIE, f"seed {seed}"
            compared += bool(plan.starts)
    assert compared >= 20


def lacking(snapshot: Snapshot, plan: Plan) -> list[tuple[int, float]]:
    """Per rank, the highest first: replicas below the minimum, and unmet shares in sum."""
    rank = {m.name: m.priority for m in snapshot.models}
    found = []
    for priority in sorted(set(rank.values()), reverse=True):
        mine = [s for s in plan.shortfalls if rank[s.model] == priority]
        found.append((sum(s.replicas for s in mine), round(sum(s.unmet_share for s in mine), 4)))
    return found


def test_greedy_obeys_every_rule() -> None:
    for seed in range(20_000, 20_100):
        snapshot, demand = wide(seed)
        plan, _ = placement.plan(snapshot, demand, solvers=[])
        assert plan.outcome.value == "Greedy", f"seed {seed}: {plan.message}"
        assert placement.check(snapshot, demand, plan) == (), f"seed {seed}"
