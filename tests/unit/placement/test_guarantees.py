"""The ten guarantees of the placer, each by name, on small fleets and by both engines: the general form, and columns (`exact_size=0`)."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

import placement
import placement.bind
from placement import _solver
from placement.types import (
    Demand,
    Effort,
    Model,
    ModelDemand,
    Option,
    Outcome,
    Plan,
    Quota,
    ReplicaState,
    Snapshot,
    Spread,
    Stock,
)
from placement.whatif import smallest_fix
from tests.unit.placement.exhaustive import World
from tests.unit.placement.fleet import applied, cell, got, model, node, nodes_of, option, planned, reason, replica, short, snap
from tests.unit.placement.instances import instance

H100 = cell("h100")
DIES = cell("910c")
PPU = cell("ppu")
COLUMNS = Effort(exact_size=0)
both = pytest.mark.parametrize("effort", [placement.DEFAULT, COLUMNS], ids=["general", "columns"])


def fleet(seed: int) -> tuple[Snapshot, Demand]:
    """12 nodes of three vendors in two zones, 6 models of two ranks that ask for work; about as much as there is."""
    rng = random.Random(seed)
    cells = [cell(p, f"{p}-{z}", pool=p, failure_domain=z) for p in ("h100", "910c", "ppu") for z in ("z1", "z2")]
    nodes = [node(f"n{i:02d}", c, rng.choice((c.per_node or 8, c.per_node or 8, 3)), total=c.per_node) for i, c in enumerate(cells * 2)]
    models, options, asked = [], [], []
    for m in range(6):
        name = f"m{m:02d}"
        models.append(Model(f"ns/{name}", priority=rng.choice((0, 100)), min_replicas=1, max_replicas=40))
        for profile in rng.sample(("h100", "910c", "ppu"), 2):
            size = rng.choice((1, 2, 4))
            rate = size * rng.uniform(0.6, 1.6) * (2.0 if profile == "h100" else 1.0)
            options.append(option(name, profile, size, work_per_s=round(rate, 3), start_seconds=60.0))
        asked.append(ModelDemand(f"ns/{name}", round(rng.uniform(5.0, 30.0), 2)))
    return snap(cells, nodes, models, options), Demand(tuple(asked))


def plan_of(snapshot: Snapshot, demand: Demand, effort: Effort) -> Plan:
    return planned(snapshot, demand, effort=effort)


def work_of(snapshot: Snapshot, plan: Plan) -> Counter[str]:
    rates = {o.id: o.work_per_s or 0.0 for o in snapshot.options}
    work: Counter[str] = Counter()
    for a in plan.assignments:
        work[a.model] += a.replicas * rates.get(a.option, 0.0)  # type: ignore[assignment]
    return work


@both
def test_guarantee_1_nothing_is_exceeded_and_every_replica_has_a_node(effort: Effort) -> None:
    """Counted by hand: devices per node at most what is free there, whole dies and cards; every start names a node that may take it."""
    for seed in range(4):
        snapshot, demand = fleet(seed)
        plan = plan_of(snapshot, demand, effort)
        devices = {o.id: o.devices for o in snapshot.options}
        used: Counter[str] = Counter()
        for s in plan.starts:
            used[s.node] += devices[s.option]
        nodes = {n.name: n for n in snapshot.nodes}
        assert plan.starts
        for name, count in used.items():
            assert count <= nodes[name].allocatable - nodes[name].held_by_others
        tight = replace(snapshot, cells=tuple(replace(c, limit_devices=20, reserve_devices=3) for c in snapshot.cells))
        limited = plan_of(replace(tight, policy=replace(tight.policy, max_hourly_cost=60.0)), demand, effort)
        pools: Counter[str] = Counter()
        for s in limited.starts:
            pools[s.cell.split("-")[0]] += devices[s.option]
        assert max(pools.values()) <= 20
        assert limited.hourly_cost <= 60.0 + 1e-6


@both
def test_guarantee_1_no_quota_and_no_hard_spread_is_exceeded(effort: Effort) -> None:
    """Counted by hand in a fleet that wants more than each of them: a quota of 12 devices, at most half of a strict model in one zone,
    at most 60 % of it on one vendor (`Model`: n <= 1 - a + a * all)."""
    for seed in range(2):
        snapshot, demand = fleet(seed)
        demand = Demand(tuple(replace(d, work_per_s=2.5 * d.work_per_s) for d in demand.models))
        models = tuple(
            replace(m, tenant="ab"[i % 2], spread=Spread.STRICT, max_vendor_share_percent=60) for i, m in enumerate(snapshot.models)
        )
        limited = replace(snapshot, models=models, policy=replace(snapshot.policy, quotas=(Quota("a", 12),)))
        plan = plan_of(limited, demand, effort)
        options, zone = {o.id: o for o in limited.options}, {c.name: c.failure_domain for c in limited.cells}
        theirs = sum(options[s.option].devices for s in plan.starts if s.model in {m.name for m in models if m.tenant == "a"})
        assert 0 < theirs <= 12
        for m in models:
            mine = [s for s in plan.starts if s.model == m.name]
            zones, vendors = Counter(zone[s.cell] for s in mine), Counter(options[s.option].vendor for s in mine)
            assert all(n <= 0.5 + 0.5 * len(mine) for n in zones.values()), f"seed {seed}, {m.name}: {zones}"
            assert all(n <= 0.4 + 0.6 * len(mine) + 1e-9 for n in vendors.values()), f"seed {seed}, {m.name}: {vendors}"


def test_guarantee_1_a_lowered_limit_only_lets_shrink() -> None:
    a = option("a", "h100", 2)
    limited = replace(H100, limit_devices=2)
    running = [replica(f"r{i}", a, "n1") for i in range(3)]
    plan = planned(snap([limited], [node("n1", limited, 8)], [model("a", 4)], [a], running))
    assert (len(plan.keep), plan.stop, plan.starts) == (3, (), ())


@both
def test_guarantee_2_there_is_always_an_answer(effort: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    """No nodes, more than everything, solvers that fail: a checked plan with what is missing, never an exception."""
    snapshot, demand = fleet(0)
    none = plan_of(replace(snapshot, nodes=()), demand, effort)
    assert (none.starts, len(none.shortfalls)) == ((), 6)
    huge = Demand(tuple(replace(d, work_per_s=1e7) for d in demand.models))
    assert len(plan_of(snapshot, huge, effort).shortfalls) == 6
    greedy = planned(snapshot, demand, effort=effort, solvers=[])
    assert (greedy.outcome, bool(greedy.starts)) == (Outcome.GREEDY, True)

    def dies(*args: Any, **more: Any) -> Any:
        raise _solver.SolverError("died")

    for name in _solver.NAMES:
        monkeypatch.setitem(_solver.ENGINES, name, replace(_solver.ENGINES[name], solve=dies))
    plan = planned(snapshot, demand, effort=placement.DEFAULT)
    assert plan.starts


@both
def test_guarantee_3_unknown_freezes_zero_blocks_and_no_rate_is_no_variable(effort: Effort) -> None:
    unknown = replace(H100, stock=Stock.UNKNOWN)
    a, b = option("a", "h100", 1, work_per_s=1.0), option("b", "h100", 1, work_per_s=1.0)
    running = [replica(f"a{i}", a, "n1") for i in range(3)] + [replica(f"b{i}", b, "n1") for i in range(4)]
    grow = [Model("ns/a", min_replicas=1, max_replicas=9), Model("ns/b", min_replicas=1, max_replicas=9)]
    asked = Demand((ModelDemand("ns/a", 5.0), ModelDemand("ns/b", 1.0)))
    frozen = plan_of(snap([unknown], [node("n1", unknown, 8)], grow, [a, b], running), asked, effort)
    assert (got(frozen, "a"), got(frozen, "b"), frozen.starts, frozen.stop) == (3, 4, (), ())
    assert reason(frozen, "a") == "InventoryUnknown"
    empty = plan_of(snap([H100], [node("n1", H100, 0)], grow[:1], [a]), Demand(asked.models[:1]), effort)
    assert (empty.starts, reason(empty, "a")) == ((), "DevicesUnavailable")
    dead = replace(a, work_per_s=0.0)
    zero = plan_of(snap([H100], [node("n1", H100, 8)], [replace(grow[0], min_replicas=0)], [dead]), Demand(asked.models[:1]), effort)
    assert (zero.starts, len(zero.shortfalls)) == ((), 1)


@both
def test_guarantee_4_no_rank_is_short_for_a_lower_one(effort: Effort) -> None:
    """Without the lower rank at all no model of the higher one is served better (as a sum over the rank, in parts of their work)."""
    for seed in range(4):
        snapshot, demand = fleet(seed)
        demand = Demand(tuple(replace(d, work_per_s=2.5 * d.work_per_s) for d in demand.models))
        high = {m.name for m in snapshot.models if m.priority == 100}
        alone = replace(
            snapshot,
            models=tuple(m for m in snapshot.models if m.name in high),
            options=tuple(o for o in snapshot.options if o.model in high),
        )
        mine = Demand(tuple(d for d in demand.models if d.model in high))
        together = _missing(plan_of(snapshot, demand, effort), high)
        apart = _missing(plan_of(alone, mine, effort), high)
        assert together <= apart + 0.01, f"seed {seed}"
        assert plan_of(snapshot, demand, effort).shortfalls


@both
def test_guarantee_4_five_ranks_are_served_in_their_order(effort: Effort) -> None:
    """More ranks than one pass of the columns weighs: five models that want 8 devices each, as 4 replicas of 2, on 20 devices. The first
    two get all, the third the 4 devices that are left, though a lower one would earn more work with each device."""
    names = ["m4", "m1", "m3", "m0", "m2"]  # neither sorted by rank nor by name
    models = [Model(f"ns/{n}", priority=100 - 10 * int(n[1]), min_replicas=0, max_replicas=9) for n in names]
    options = [option(n, "h100", 2, work_per_s=1.0 + int(n[1])) for n in names]
    asked = Demand(tuple(ModelDemand(f"ns/{n}", 4.0 * (1.0 + int(n[1]))) for n in names))
    nodes = [node("n1", H100, 8), node("n2", H100, 8), node("n3", H100, 4)]
    plan = plan_of(snap([H100], nodes, models, options), asked, effort)
    assert [got(plan, f"m{i}") for i in range(5)] == [4, 4, 2, 0, 0]


def _missing(plan: Plan, names: set[str]) -> float:
    return sum(s.unmet_share for s in plan.shortfalls if s.model in names)


@both
def test_guarantee_5_an_unchanged_input_and_noise_move_nothing(effort: Effort) -> None:
    """The plan comes true, the load wavers by 5 % around what was planned: no start, no stop."""
    rng = random.Random(5)
    for seed in range(3):
        snapshot, demand = fleet(seed)
        plan, warm = placement.plan(snapshot, demand, effort=effort)
        true = applied(snapshot, plan)
        again, warm = placement.plan(true, demand, warm=warm, effort=effort)
        assert (again.starts, again.stop) == ((), ()), f"seed {seed}"
        for _ in range(3):
            noisy = Demand(tuple(replace(d, work_per_s=d.work_per_s * rng.uniform(0.95, 1.05)) for d in demand.models))
            later, warm = placement.plan(true, noisy, warm=warm, effort=effort)
            assert (later.starts, later.stop, later.moves) == ((), (), 0), f"seed {seed}"


def test_guarantee_5_a_move_must_earn_its_price() -> None:
    """0.75 to 0.70 saves 6.7 %: taken at 5 %, not at 10 %."""
    a, b = option("a", "910c", 1), option("a", "ppu", 1)
    snapshot = snap([DIES, PPU], [node("n1", DIES, 16), node("n2", PPU, 16)], [model("a", 1)], [a, b], [replica("r0", a, "n1")])
    for percent, place in ((5.0, "n2"), (10.0, "n1")):
        plan = planned(replace(snapshot, policy=replace(snapshot.policy, min_saving_percent=percent)))
        assert nodes_of(plan, "a") == {place: 1}


@both
def test_guarantee_6_all_counts_of_a_plan_change_together(effort: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole counts of one solve cover the demand together; where they cannot be realised the plan that leaves is another whole one."""
    for seed in range(3):
        snapshot, demand = fleet(seed)
        plan = plan_of(snapshot, demand, effort)
        lacking = {s.model for s in plan.shortfalls}
        work = work_of(snapshot, plan)
        for d in demand.models:
            assert d.model in lacking or work[d.model] >= d.work_per_s * (1 - 1e-6)
    real = placement.bind.bind

    def broken(problem: Any, starts: Any, *more: Any, **words: Any) -> Any:
        if any(starts):
            raise placement.bind.BindError("no node")
        return real(problem, starts, *more, **words)

    a = option("a", "h100", 2)
    old = snap([H100], [node("n1", H100, 8)], [model("a", 3)], [a], [replica("r0", a, "n1")])
    monkeypatch.setattr("placement.engine.bind", broken)
    kept = planned(old, effort=effort)
    assert (kept.keep, kept.starts, kept.stop, kept.outcome) == (("r0",), (), (), Outcome.KEPT_OLD)


def test_guarantee_7_the_bound_holds_for_all_plans() -> None:
    """On tiny fleets: bound <= money of the best plan that full enumeration finds, gap = distance to it; the pool gap is another field."""
    seen = 0
    for seed in range(30_000, 30_040):
        snapshot, demand = instance(seed)
        plan, _ = placement.plan(snapshot, demand)
        if plan.bound is None or plan.gap is None:
            continue
        seen += 1
        assert plan.bound <= plan.objective + 1e-6
        assert plan.gap >= 0.0
        assert (plan.outcome is Outcome.OPTIMAL) <= (plan.gap <= 1e-4)
        tiers, money = World(snapshot, demand).optimum()
        if not plan.shortfalls and not any(tiers):
            assert plan.bound <= money + 0.05, f"seed {seed}"
    assert seen > 20
    snapshot, demand = fleet(0)
    columns, _ = placement.plan(snapshot, demand, effort=replace(COLUMNS, deep_rounds=4, neighbourhoods=20))
    exact, _ = placement.plan(snapshot, demand)
    assert columns.bound is not None
    assert columns.bound <= exact.objective * (1 + 1e-6)


@both
def test_guarantee_8_steps_decide_and_not_seconds(effort: Effort) -> None:
    """Ten times the watchdog's time: the same bytes; and nobody says that a deadline decided."""
    snapshot, demand = fleet(1)
    texts = set()
    for seconds in (60.0, 600.0, 60.0):
        plan, _ = placement.plan(replace(snapshot, policy=replace(snapshot.policy, time_limit_s=seconds)), demand, effort=effort)
        assert plan.decided_by == "Effort"
        texts.add(placement.to_json(plan))
    assert len(texts) == 1


@both
def test_guarantee_9_only_options_with_a_verdict_carry_demand(effort: Effort) -> None:
    """A pair without a verdict costs a tenth and is free: nothing starts there, and a model that has nothing else stays short."""
    cheap = replace(H100, cost_per_device_hour=0.01)
    blocked: list[Option] = [option("a", "h100", 1, work_per_s=9.0, eligible=False), option("b", "h100", 1, work_per_s=9.0, eligible=False)]
    options = [*blocked, option("a", "ppu", 1, work_per_s=1.0)]
    models = [Model(f"ns/{n}", min_replicas=1, max_replicas=9) for n in "ab"]
    asked = Demand((ModelDemand("ns/a", 3.0), ModelDemand("ns/b", 3.0)))
    plan = plan_of(snap([cheap, PPU], [node("n1", cheap, 8), node("n2", PPU, 16)], models, options), asked, effort)
    assert (nodes_of(plan, "a"), got(plan, "b"), reason(plan, "b")) == ({"n2": 3}, 0, "NoOption")
    assert {w.reason for w in plan.why if w.profile == "h100"} == {"NotEligible"}


@both
def test_guarantee_10_every_shortfall_has_reason_rows_and_a_verified_fix(effort: Effort) -> None:
    """A scarce fleet: reasons with numbers and a next command, rows that bind with prices, and the fix holds when it is planned again."""
    snapshot, demand = fleet(2)
    demand = Demand(tuple(replace(d, work_per_s=2.5 * d.work_per_s) for d in demand.models))
    plan = plan_of(snapshot, demand, effort)
    assert plan.shortfalls
    for s in plan.shortfalls:
        assert s.reasons
        assert all(r.message and r.hint for r in s.reasons)
    assert any(row.price > 0 and row.name.startswith(("bins/", "limit/")) for row in plan.rows)
    name = min(s.model for s in plan.shortfalls)
    fix = smallest_fix(snapshot, demand, plan, name, solve_plan=lambda s, d: plan_of(s, d, effort))
    assert fix is not None
    assert fix.snapshot is not None
    after = plan_of(fix.snapshot, demand, effort)
    mine = next((s for s in after.shortfalls if s.model == name), None)
    before = short(plan, name.removeprefix("ns/"))
    assert mine is None or (mine.replicas, mine.unmet_share) < (before.replicas, before.unmet_share)
    assert got(after, name.removeprefix("ns/")) > got(plan, name.removeprefix("ns/"))
    assert all(r.state is not ReplicaState.DRAINING for r in snapshot.replicas)
