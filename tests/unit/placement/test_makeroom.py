"""`policy.defragment`: moves that make room are part of the plan, within every rule, and only where somebody gets more by them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

import placement
from placement.defragment import proposal
from placement.snapshot import from_json, to_json
from placement.types import DEFAULT, Demand, Effort, ModelDemand, Outcome, Plan, Snapshot
from tests.unit.placement.fleet import applied, cell, got, model, node, nodes_of, option, planned, replica, short, snap
from tests.unit.placement.test_defragment import fleet

OC_012 = [(4, 2, 1), (4, 2), (4, 2, 1)]
LARGE = replace(DEFAULT, exact_size=0)  # by columns


def on(snapshot: Snapshot, **policy: object) -> Snapshot:
    return replace(snapshot, policy=replace(snapshot.policy, defragment=True, **policy))  # type: ignore[arg-type]


def room(sizes: Sequence[Sequence[int]], wants: int, **policy: object) -> Plan:
    return planned(on(fleet(sizes, wants), **policy))


@pytest.mark.parametrize("effort", [DEFAULT, LARGE], ids=["general", "columns"])
@pytest.mark.parametrize("solvers", [["HiGHS"], ["CBC"]])
def test_oc_012_two_moves_are_part_of_the_plan(solvers: list[str], effort: Effort) -> None:
    """n1 {4,2,1}, n2 {4,2}, n3 {4,2,1}; a 4 is wanted. Exactly two moves, each into what is free now; the 4 waits for those two alone."""
    snapshot = on(fleet(OC_012, 4))
    plan = planned(snapshot, solvers=solvers, effort=effort)
    assert (plan.moves, len(plan.stop), len(plan.starts)) == (2, 2, 3)
    assert got(plan, "a") == 1
    assert plan.shortfalls == ()
    own = next(s for s in plan.starts if s.model == "ns/a")
    assert set(own.after) == set(plan.stop)
    others = [s for s in plan.starts if s.model != "ns/a"]
    free = {"n1": 1, "n2": 2, "n3": 1}
    size = {o.id: o.devices for o in snapshot.options}
    assert all(not s.after and size[s.option] <= free[s.node] for s in others)
    assert (got(plan, "x1"), got(plan, "x2"), got(plan, "x4")) == (2, 3, 3)
    assert plan.message == f"ns/a needs 4 devices on one node of h100; largest free 2 of 4; 2 moves make room on {own.node}"


def test_a_plan_that_moves_for_an_equal_priority_claims_no_bound() -> None:
    """Without the moves a 4 is missing and the plan is proven; the bound of that proof is above the objective of the plan with them."""
    without, plan = planned(fleet(OC_012, 4)), room(OC_012, 4)
    assert without.bound is not None
    assert plan.objective < without.bound
    assert (plan.outcome, plan.bound, plan.gap) == (Outcome.FEASIBLE, None, None)


def test_off_by_default_and_without_a_solver() -> None:
    assert planned(fleet(OC_012, 4)).stop == ()
    assert planned(on(fleet(OC_012, 4)), solvers=[]).stop == ()


def test_once_it_has_come_true_nothing_moves() -> None:
    snapshot = on(fleet(OC_012, 4))
    after = planned(applied(snapshot, planned(snapshot)))
    assert (after.stop, after.starts, after.shortfalls) == ((), (), ())


def test_nothing_moves_where_nothing_becomes_placeable() -> None:
    """Three free in all for a 4; six free for a 5, but no 5 fits beside the other; and nobody short."""
    for sizes, wants in (([(4, 2, 1), (4, 2)], 4), ([(5,), (5,)], 5)):
        plan = room(sizes, wants)
        assert (plan.stop, plan.starts, plan.message) == ((), (), "")
        assert short(plan, "a").replicas == 1
    served = room([(4,), (4, 2)], 4)
    assert (served.stop, len(served.starts)) == ((), 1)


@pytest.mark.parametrize(("left", "moves"), [(0, 0), (1, 0), (2, 2), (None, 2)])
def test_the_moves_that_are_left_in_this_hour_are_enough_or_none_is_made(left: int | None, moves: int) -> None:
    assert room(OC_012, 4, max_moves=left).moves == moves


def test_young_held_and_protected_replicas_stay() -> None:
    base = on(fleet(OC_012, 4))
    young = replace(base, replicas=tuple(replace(r, resident=r.devices < 4) for r in base.replicas))
    held = replace(base, models=tuple(replace(m, hold=m.name in ("ns/x1", "ns/x2")) for m in base.models))
    protected = replace(base, models=tuple(replace(m, preemptable=m.name == "ns/a") for m in base.models))
    for snapshot in (young, held, protected):
        plan = planned(snapshot)
        assert (plan.stop, got(plan, "a")) == ((), 0)


def test_what_may_not_start_anew_does_not_move() -> None:
    """The 1s and 2s lost their verdict: they go on, and could not be made on another node."""
    base = on(fleet(OC_012, 4))
    lost = replace(base, options=tuple(replace(o, eligible=o.devices == 4) for o in base.options))
    assert planned(lost).stop == ()


def test_a_move_that_must_wait_for_another_is_not_made() -> None:
    """n1 {3, 2}, n2 {4, 1}, n3 {5} of 6 devices each: the 2 of n1 fits n2 only after the 1 has gone to n3. Two moves in a row are a
    proposal; the plan makes none, because every moved replica must have its place before any other leaves."""
    where = cell("h100", per_node=None)
    x = {k: option(f"x{k}", "h100", k) for k in (5, 4, 3, 2, 1)}
    a = option("a", "h100", 3)
    running = [
        replica("p", x[3], "n1"),
        replica("q", x[2], "n1"),
        replica("s", x[4], "n2"),
        replica("t", x[1], "n2"),
        replica("u", x[5], "n3"),
    ]
    nodes = [node(f"n{i}", where, 6) for i in (1, 2, 3)]
    snapshot = snap([where], nodes, [model("a", 1), *(model(f"x{k}", 1) for k in x)], [a, *x.values()], running)
    asked = Demand(tuple(ModelDemand(m.name) for m in snapshot.models))
    found = proposal(snapshot, asked, planned(snapshot))
    assert found is not None
    assert [m.replica for m in found.moves] == ["t", "q"]
    assert planned(on(snapshot)).stop == ()


def test_room_is_made_for_one_after_the_other() -> None:
    """Four nodes {4, 2}: 2 free on each. Two 4s are wanted: one move each."""
    base = on(fleet([(4, 2)] * 4, 4))
    two = replace(base, models=tuple(replace(m, min_replicas=2, max_replicas=2) if m.name == "ns/a" else m for m in base.models))
    plan = planned(two)
    assert (plan.moves, got(plan, "a"), plan.shortfalls) == (2, 2, ())
    assert plan.message.count("1 move makes room") == 2
    only = planned(on(two, max_moves=1))
    assert (only.moves, got(only, "a"), short(only, "a").replicas) == (1, 1, 1)


def test_a_limit_or_quota_that_binds_is_no_reason_to_move() -> None:
    """Room could be made, but the pool's limit lets nobody start."""
    base = on(fleet(OC_012, 4))
    full = replace(base, cells=tuple(replace(c, limit_devices=20) for c in base.cells))
    plan = planned(full)
    assert (plan.stop, got(plan, "a")) == ((), 0)


def test_whole_cards_are_counted() -> None:
    """Two A3-like nodes of 8 dies in cards of 2, each with a 4 and a 2: 2 free on each. The 2 (a card) goes, a 4 fits."""
    where = cell("910c", per_node=8)
    x4, x2, a = option("x4", "910c", 4), option("x2", "910c", 2), option("a", "910c", 4)
    running = [replica("p", x4, "n1"), replica("q", x2, "n1"), replica("s", x4, "n2"), replica("t", x2, "n2")]
    nodes = [node(n, where, 8) for n in ("n1", "n2")]
    plan = planned(on(snap([where], nodes, [model("a", 1), model("x4", 2), model("x2", 2)], [a, x4, x2], running)))
    assert (plan.moves, got(plan, "a")) == (1, 1)
    (home,) = nodes_of(plan, "a")
    assert nodes_of(plan, "x2") == {"n2" if home == "n1" else "n1": 2}


def test_the_policy_is_part_of_the_written_snapshot() -> None:
    snapshot = on(fleet(OC_012, 4))
    again, _ = from_json(to_json(snapshot))
    assert again.policy.defragment
    assert placement.check(again, Demand(tuple(ModelDemand(m.name) for m in again.models)), planned(again)) == ()


def test_on_random_fleets_somebody_gets_more_and_nobody_less() -> None:
    """60 fleets of three nodes, one more request each. What moves for room goes at once into what is free; nobody else changes."""
    draw = random.Random(12)
    moved = 0
    for _ in range(60):
        sizes = []
        for _ in range(3):
            here: list[int] = []
            while (k := draw.choice((1, 1, 2, 2, 4))) + sum(here) <= draw.choice((5, 6, 7)):
                here.append(k)
            sizes.append(here)
        base = fleet(sizes, draw.choice((2, 4)))
        before, after = planned(base), planned(on(base))
        if before.shortfalls == () or not after.stop:
            assert (after.stop, after.starts) == (before.stop, before.starts)
            continue
        moved += 1
        assert got(after, "a") == got(before, "a") + 1
        assert all(
            got(after, m.name.removeprefix("ns/")) == got(before, m.name.removeprefix("ns/")) for m in base.models if m.name != "ns/a"
        )
        free = {n.name: n.allocatable - sum(r.devices for r in base.replicas if r.node == n.name) for n in base.nodes}
        size = {o.id: o.devices for o in base.options}
        for s in after.starts:
            if not s.after:
                free[s.node] -= size[s.option]
        assert min(free.values()) >= 0
    assert moved >= 5
