"""Ladder and fast steps: each is a legal act by itself (the independent check says so), in the stated order, within the rules."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

import placement
from placement.ladder import apply, downs, fast_step, ups
from placement.live import Live
from placement.types import (
    Assignment,
    Demand,
    LadderStep,
    Model,
    ModelDemand,
    Option,
    Plan,
    Quota,
    Replica,
    RowPrice,
    Snapshot,
    Spread,
    Start,
)
from tests.unit.placement.fleet import cell, model, node, option, planned, replica, snap
from tests.unit.placement.instances import instance

H100 = cell("h100")
DIES = cell("910c")
PPU = cell("ppu")


def live_of(snapshot: Snapshot, demand: Demand | None = None, plan: Plan | None = None) -> Live:
    asked = demand or Demand(tuple(ModelDemand(m.name) for m in snapshot.models))
    return Live.of(snapshot, asked, plan or planned(snapshot, asked))


def names(steps: Sequence[LadderStep]) -> list[tuple[int, str, str]]:
    return [(s.delta, s.option.split("|")[1], s.node) for s in steps]


def growing(name: str, most: int = 9, **changes: object) -> Model:
    return replace(model(name, 1, **changes), max_replicas=most)


def test_the_soonest_comes_first_then_the_cheapest() -> None:
    """PPU serves after 200 s, H100 after 60 s, 910C after 60 s and cheaper: 910C, and H100 once 910C is full."""
    options = [
        option("a", "ppu", 1, start_seconds=200.0),
        option("a", "h100", 1, start_seconds=60.0),
        option("a", "910c", 1, start_seconds=60.0),
    ]
    nodes = [node("n1", H100, 8), node("n2", DIES, 1, total=16), node("n3", PPU, 16)]
    live = live_of(snap([H100, DIES, PPU], nodes, [growing("a")], options, start_price=0.0))
    steps = ups(live, "ns/a")
    assert names(steps) == [(1, "910c", "n2"), (2, "h100", "n1")]
    assert [(s.eta_seconds, s.hourly_cost) for s in steps] == [(60.0, 0.75), (60.0, 2.5)]
    unknown = replace(options[2], start_seconds=None)
    late = live_of(snap([H100, DIES, PPU], nodes, [growing("a")], [options[0], unknown], start_price=0.0))
    assert names(ups(late, "ns/a", 1)) == [(1, "ppu", "n3")]


def test_ups_obey_every_rule_but_the_reserve() -> None:
    a = option("a", "ppu", 2, start_seconds=10.0)
    node1 = node("n1", PPU, 16)

    def steps(where: placement.Cell, m: Model, **policy: object) -> int:
        return len(ups(live_of(snap([where], [node1], [m], [a], **policy)), "ns/a", 3))

    assert steps(PPU, growing("a")) == 3
    assert steps(PPU, growing("a", 2)) == 1  # one runs, two are allowed
    assert steps(replace(PPU, limit_devices=4), growing("a")) == 1
    assert steps(replace(PPU, reserve_devices=14), growing("a")) == 3
    assert steps(PPU, growing("a", max_hourly_cost=3.0)) == 1
    assert steps(PPU, growing("a"), max_hourly_cost=4.2) == 2
    assert steps(PPU, growing("a", max_vendor_share_percent=50)) == 0
    assert steps(PPU, growing("a", hold=True)) == 0
    assert steps(PPU, growing("a", tenant="t"), quotas=(Quota("t", 4),)) == 1
    zoned = replace(PPU, failure_domain="z1")
    assert steps(zoned, growing("a", spread=Spread.STRICT)) == 0
    assert ups(live_of(snap([PPU], [node1], [growing("a")], [replace(a, eligible=False)])), "ns/a") == []


def test_a_group_step_names_all_its_nodes() -> None:
    wide = replace(PPU, sizes=(16,))
    nodes = [node(f"n{i}", wide, 16) for i in range(4)] + [node("n9", wide, 15)]
    snapshot = snap([wide], nodes, [replace(model("a", 0), max_replicas=3)], [option("a", "ppu", 32, span=2)])
    assert [s.node for s in ups(live_of(snapshot), "ns/a", 3)] == ["n0,n1", "n2,n3"]


def test_downs_take_the_dearest_work_and_stop_at_the_minimum_and_the_demand() -> None:
    """Three on H100 at 2.50, two on PPU at 0.70, all of 2 work/s; 5 work/s are asked: two may go, both on H100."""
    h, p = option("a", "h100", 1, work_per_s=2.0), option("a", "ppu", 1, work_per_s=2.0)
    running = [*(replica(f"h{i}", h, "n1") for i in range(3)), *(replica(f"p{i}", p, "n2") for i in range(2))]
    base = snap([H100, PPU], [node("n1", H100, 8), node("n2", PPU, 16)], [Model("ns/a", min_replicas=1, max_replicas=9)], [h, p], running)
    kept = _keep(base)

    def went(work: float, least: int = 1, **asked: object) -> list[str]:
        demand = Demand((ModelDemand("ns/a", work, **asked),))  # type: ignore[arg-type]
        snapshot = replace(base, models=(replace(base.models[0], min_replicas=least),))
        return [s.replica for s in downs(live_of(snapshot, demand, kept), "ns/a", 9)]

    assert went(5.0) == ["h0", "h1"]
    assert went(10.0) == []
    assert went(0.0, 3) == ["h0", "h1"]
    assert went(1.0) == ["h0", "h1", "h2", "p0"]
    assert went(5.0, may_shrink=False) == []


def test_downs_keep_a_spread_that_holds() -> None:
    h, p = option("a", "h100", 1), option("a", "ppu", 1)
    running = [replica("h0", h, "n1"), replica("p0", p, "n2"), replica("p1", p, "n2")]
    two = replace(model("a", 1, min_vendors=2), max_replicas=9)
    base = snap([H100, PPU], [node("n1", H100, 8), node("n2", PPU, 16)], [two], [h, p], running)
    assert [s.replica for s in downs(live_of(base, plan=_keep(base)), "ns/a", 2)] == ["p0", "h0"]


def _keep(snapshot: Snapshot) -> Plan:
    """Everything stays, whatever the demand."""
    found, _ = placement.plan(replace(snapshot, models=tuple(replace(m, hold=True) for m in snapshot.models)), Demand())
    assert found.stop == ()
    return found


def test_a_fast_step_is_the_prepared_one_while_it_fits() -> None:
    options = [option("a", "h100", 1, start_seconds=60.0), option("a", "ppu", 1, start_seconds=200.0)]
    nodes = [node("n1", H100, 1, total=8), node("n2", PPU, 16)]
    snapshot = snap([H100, PPU], nodes, [Model("ns/a", min_replicas=0, max_replicas=9)], [replace(o, work_per_s=1.0) for o in options])
    before = Demand((ModelDemand("ns/a", 0.0),))
    plan = planned(snapshot, before)
    plan = replace(plan, ladder=tuple(ups(live_of(snapshot, before, plan), "ns/a")))
    assert [s.node for s in plan.ladder] == ["n1", "n2"]
    more = Demand((ModelDemand("ns/a", 2.0),))
    live = live_of(snapshot, more, plan)
    first = fast_step(snapshot, more, plan, "ns/a", live=live)
    assert first == plan.ladder[0]
    apply(live, first)
    # n1 is full now: the next is a single change at the rows' prices.
    second = fast_step(snapshot, more, plan, "ns/a", live=live)
    assert second is not None
    assert (second.node, second.hourly_cost) == ("n2", 0.7)
    apply(live, second)
    assert fast_step(snapshot, more, plan, "ns/a", live=live) is None


def test_a_fast_step_looks_at_the_prices_of_the_rows() -> None:
    """PPU is cheaper by 1.80 per hour, but its last place of 1 is worth 5 to others: H100."""
    options = [option("a", "h100", 1, work_per_s=1.0), option("a", "ppu", 1, work_per_s=1.0)]
    nodes = [node("n1", H100, 8), node("n2", PPU, 16)]
    snapshot = snap([H100, PPU], nodes, [Model("ns/a", min_replicas=0, max_replicas=9)], options)
    plan = replace(planned(snapshot, Demand((ModelDemand("ns/a", 0.0),))), ladder=(), rows=())
    more = Demand((ModelDemand("ns/a", 1.0),))
    cheap = fast_step(snapshot, more, plan, "ns/a")
    dear = fast_step(snapshot, more, replace(plan, rows=(RowPrice("bins/ppu/1", 0.0, 5.0),)), "ns/a")
    assert [s.node if s else "" for s in (cheap, dear)] == ["n2", "n1"]


def test_a_fast_step_down_when_less_is_asked() -> None:
    h = option("a", "h100", 1, work_per_s=2.0)
    snapshot = snap(
        [H100], [node("n1", H100, 8)], [Model("ns/a", min_replicas=1, max_replicas=9)], [h], [replica(f"h{i}", h, "n1") for i in range(3)]
    )
    less = Demand((ModelDemand("ns/a", 3.0),))
    step = fast_step(snapshot, less, _keep(snapshot), "ns/a")
    assert step is not None
    assert (step.delta, step.replica, step.node) == (-1, "h0", "n1")


def _taken(snapshot: Snapshot, demand: Demand, plan: Plan, steps: Sequence[LadderStep]) -> list[str]:
    """What the independent check says of the plan with these steps; the reserve is left out, ladder steps may use it."""
    devices: dict[str, Option] = {o.id: o for o in snapshot.options}
    gone = {s.replica for s in steps if s.delta < 0}
    starts = (*plan.starts, *(Start(s.model, s.option, s.cell, s.node, _after(snapshot, plan, s.node)) for s in steps if s.delta > 0))
    count: dict[tuple[str, str, str, str], int] = {(a.model, a.option, a.cell, a.node): a.replicas for a in plan.assignments}
    for s in steps:
        key = (s.model, s.option, s.cell, s.node)
        count[key] = count.get(key, 0) + (1 if s.delta > 0 else -1)
    cost = plan.hourly_cost + sum(s.hourly_cost * (1 if s.delta > 0 else -1) for s in steps)
    changed = replace(
        plan,
        assignments=tuple(Assignment(*k, replicas=n) for k, n in sorted(count.items()) if n),
        keep=tuple(k for k in plan.keep if k not in gone),
        stop=(*plan.stop, *sorted(gone)),
        starts=starts,
        hourly_cost=cost,
        routes=(),
    )
    assert all(s.option in devices for s in steps)
    open_ = replace(snapshot, cells=tuple(replace(c, reserve_devices=0) for c in snapshot.cells))
    return [x for x in placement.check(open_, demand, changed) if "shortfall says" not in x]


def _after(snapshot: Snapshot, plan: Plan, place: str) -> tuple[str, ...]:
    """A start behind everything that leaves its nodes."""
    leaving: list[Replica] = [r for r in snapshot.replicas if r.id in plan.stop or r.state is placement.ReplicaState.DRAINING]
    return tuple(sorted(r.id for r in leaving if r.node == place))


@pytest.mark.parametrize("block", range(4))
def test_every_step_is_legal_on_random_fleets(block: int) -> None:
    """The ladder of 160 fleets, and a random walk of fast steps on each: the recount finds no device, rule or budget broken."""
    steps_seen = 0
    for seed in range(20_000 + 40 * block, 20_040 + 40 * block):
        snapshot, demand = instance(seed)
        rng = random.Random(seed)
        wider = tuple(replace(m, max_replicas=m.max_replicas + 3) for m in snapshot.models)
        snapshot = placement.snapshot.normalised(replace(snapshot, models=wider, policy=replace(snapshot.policy, max_moves=None)))
        plan, _ = placement.plan(snapshot, demand, solvers=["HiGHS"])
        live = Live.of(snapshot, demand, plan)
        for m in snapshot.models:
            up, down = ups(live, m.name), downs(live, m.name)
            assert _taken(snapshot, demand, plan, up) == [], f"seed {seed}, {m.name} up"
            assert _taken(snapshot, demand, plan, down) == [], f"seed {seed}, {m.name} down"
            steps_seen += len(up) + len(down)
        walked: list[LadderStep] = []
        for _ in range(6):
            found = ups(live, rng.choice(snapshot.models).name, 1)
            for step in found:
                apply(live, step)
                walked.append(step)
        assert _taken(snapshot, demand, plan, walked) == [], f"seed {seed}, walk"
    assert steps_seen > 40
