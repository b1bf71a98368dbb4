"""Proposals to move running replicas: the case of the list, orders by hand, and the fewest moves against exhaustive search."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

import placement
from placement.defragment import Defragment, proposal
from placement.types import Cell, Demand, Model, ModelDemand, Node, Option, Replica, Snapshot
from tests.unit.placement.fleet import cell, model, node, option, planned, replica, snap


def fleet(sizes: Sequence[Sequence[int]], wants: int, *, per_node: int = 8, where: Cell | None = None) -> Snapshot:
    """Nodes n1, n2, ... that hold running replicas of these sizes (one model per size), and model ns/a that wants one of `wants`."""
    where = where or cell("h100")
    used = sorted({k for here in sizes for k in here})
    options = {k: option(f"x{k}", where.profile, k) for k in used}
    nodes = [node(f"n{i + 1}", where, per_node) for i in range(len(sizes))]
    count = {k: sum(list(here).count(k) for here in sizes) for k in used}
    models: list[Model] = [model("a", 1), *(model(f"x{k}", count[k]) for k in used)]
    running: list[Replica] = []
    for i, here in enumerate(sizes):
        running += [replica(f"r{i + 1}-{j}-{k}", options[k], f"n{i + 1}") for j, k in enumerate(here)]
    asked: list[Option] = [option("a", where.profile, wants), *options.values()]
    return snap([where], nodes, models, asked, running)


def proposed(snapshot: Snapshot, **more: str) -> Defragment | None:
    demand = Demand(tuple(ModelDemand(m.name) for m in snapshot.models))
    return proposal(snapshot, demand, planned(snapshot), **more)  # type: ignore[arg-type]


def holds(snapshot: Snapshot, found: Defragment) -> list[str]:
    """Faults when the moves are made one after the other, counted in plain devices. What must stop early has stopped before any move."""
    devices = {o.id: o.devices for o in snapshot.options}
    room = {n.name: n.allocatable - n.held_by_others for n in snapshot.nodes}
    early = {m.replica for m in found.moves if not m.make_before_break}
    at = {r.id: r.node for r in snapshot.replicas if r.id not in early}
    size = {r.id: r.devices for r in snapshot.replicas}
    faults: list[str] = []

    def free(name: str) -> int:
        return room[name] - sum(size[i] for i, where in at.items() if where == name)

    for m in found.moves:
        if m.make_before_break and at[m.replica] != m.source:
            faults.append(f"{m.replica} is not on {m.source}")
        if free(m.target) < m.devices:
            faults.append(f"{m.target} has no {m.devices} for {m.replica}")
        at[m.replica] = m.target
    names = found.node.split(",")
    return faults + [f"{found.model} does not fit {n}" for n in names if free(n) < devices[found.option] // len(names)]


@pytest.mark.parametrize("solver", ["HiGHS", "CBC"])
def test_scattered_devices_need_exactly_two_moves(solver: str) -> None:
    """OC-012: n1 {4,2,1}, n2 {4,2}, n3 {4,2,1}, a 4 is wanted. One move is impossible, three are never proposed."""
    snapshot = fleet([(4, 2, 1), (4, 2), (4, 2, 1)], 4)
    found = proposed(snapshot, solver=solver)
    assert found is not None
    assert len(found.moves) == 2
    assert holds(snapshot, found) == []
    assert all(m.make_before_break for m in found.moves)
    assert (found.model, found.cell) == ("ns/a", "h100")
    # One of the 4-device replicas goes without: 2 * 4 device-equivalents at 100 median prices each; two moves of 3 devices at 5 %.
    assert found.gain == pytest.approx(800 * 2.5)
    assert found.price == pytest.approx(3 * 2.5 * 0.05)
    assert found.reason.startswith("ns/a needs 4 devices on one node of h100; largest free 2 of 4; 2 moves make room on n")


def test_the_plan_itself_moves_nobody() -> None:
    plan = planned(fleet([(4, 2, 1), (4, 2), (4, 2, 1)], 4))
    assert (plan.stop, plan.starts) == ((), ())


def test_one_move_where_one_is_enough() -> None:
    """n1 {2, 4}: 2 free, n2 {6}: 2 free. The 2 of n1 goes to n2."""
    snapshot = fleet([(2, 4), (6,)], 4)
    found = proposed(snapshot)
    assert found is not None
    assert [(m.source, m.target, m.devices) for m in found.moves] == [("n1", "n2", 2)]


def test_nothing_to_propose() -> None:
    assert proposed(fleet([(4, 2, 1), (4, 2)], 4)) is None  # 3 free in all
    assert proposed(fleet([(4,), (4, 2)], 4)) is None  # nothing is short
    assert proposed(fleet([(5,), (5,)], 4)) is None  # 6 free, but no 5 fits beside the other


def test_a_size_that_is_asked_for() -> None:
    """Nothing is short, but somebody asks whether one more 8 of ns/a could fit: a model with room to grow."""
    where = cell("h100")
    a, b = option("a", "h100", 8), option("b", "h100", 4)
    models = [model("a", 0, max_replicas=1), model("b", 2)]
    snapshot = snap([where], [node("n1", where, 8), node("n2", where, 8)], models, [a, b], [replica("r1", b, "n1"), replica("r2", b, "n2")])
    assert proposed(snapshot) is None
    found = proposed(snapshot, model="ns/a")
    assert found is not None
    assert len(found.moves) == 1
    assert holds(snapshot, found) == []


def test_a_chain_of_moves_is_put_in_order() -> None:
    """Nodes of 6: n1 {3, 2}, n2 {4, 1}. The 2 of n1 fits n2 only after the 1 has left it, and then n1 is as full as before: no proposal.
    With n2 {4} the 2 goes there and a 3 fits n1."""
    where = cell("h100", per_node=None)
    x4, x3, x2, x1 = (option(f"x{k}", "h100", k) for k in (4, 3, 2, 1))
    a = option("a", "h100", 3)
    nodes = [node("n1", where, 6), node("n2", where, 6)]
    base = [replica("p", x3, "n1"), replica("q", x2, "n1"), replica("s", x4, "n2")]
    models = [model("a", 1), model("x4", 1), model("x3", 1), model("x2", 1)]
    one = proposed(snap([where], nodes, models, [a, x4, x3, x2], base))
    assert one is not None
    assert [m.replica for m in one.moves] == ["q"]
    full = snap([where], nodes, [*models, model("x1", 1)], [a, x4, x3, x2, x1], [*base, replica("t", x1, "n2")])
    assert proposed(full) is None


def with_young(snapshot: Snapshot, *sizes: int) -> Snapshot:
    return replace(snapshot, replicas=tuple(replace(r, resident=r.devices in sizes) for r in snapshot.replicas))


def test_young_replicas_do_not_move_and_a_swap_breaks_before_it_makes() -> None:
    """n1 {2, 4}, n2 {6} of 8, a 4 wants in. Without the 2 the only way is that 4 and 6 change places (n1 {2, 6}, n2 {4} and the new 4):
    no node has room for both, so the smaller one stops first. Without the 6 as well nothing helps."""
    snapshot = fleet([(2, 4), (6,)], 4)
    found = proposed(with_young(snapshot, 2))
    assert found is not None
    assert [(m.devices, m.target, m.make_before_break) for m in found.moves] == [(6, "n1", True), (4, "n2", False)]
    assert holds(snapshot, found) == []
    assert "r1-1-4 must stop before the new replica starts" in found.reason
    assert proposed(with_young(snapshot, 2, 6)) is None


def test_more_moves_than_are_left_are_not_proposed() -> None:
    snapshot = fleet([(4, 2, 1), (4, 2), (4, 2, 1)], 4)
    for left, moves in ((1, None), (2, 2)):
        policy = placement.Policy(max_moves=left)
        found = proposed(replace(snapshot, policy=policy))
        assert (None if found is None else len(found.moves)) == moves


def test_cards_move_as_whole_cards() -> None:
    """910C nodes of 4 dies: n1 {2} and n2 {1, 1}: two single dies may break both cards of n2, so blocks are asked, not dies."""
    where = cell("910c", per_node=4, sizes=(1, 2, 4))
    x2, x1, a = option("x2", "910c", 2), option("x1", "910c", 1), option("a", "910c", 4)
    nodes = [Node("n1", where.name, 4, 4, 0), Node("n2", where.name, 4, 4, 0, free_blocks=1)]
    running = [replica("p", x2, "n1"), replica("q", x1, "n2"), replica("s", x1, "n2")]
    snapshot = snap([where], nodes, [model("a", 1), model("x2", 1), model("x1", 2)], [a, x2, x1], running)
    found = proposed(snapshot)
    # n2 has one whole card free and q, s share the other: p goes there, and n1 is whole.
    assert found is not None
    assert [(m.replica, m.source, m.target) for m in found.moves] == [("p", "n1", "n2")]
    assert found.node == "n1"


def test_a_replica_over_two_nodes_empties_two() -> None:
    """Three nodes of 8, each with a 1: two moves to one node free two whole nodes."""
    where = cell("h100")
    x1, a = option("x1", "h100", 1), option("a", "h100", 16, span=2)
    nodes = [node(f"n{i}", where, 8) for i in range(3)]
    snapshot = snap([where], nodes, [model("a", 1), model("x1", 3)], [a, x1], [replica(f"r{i}", x1, f"n{i}") for i in range(3)])
    found = proposed(snapshot)
    assert found is not None
    assert (len(found.moves), len(found.node.split(","))) == (2, 2)
    assert holds(snapshot, found) == []


def fewest(sizes: Sequence[Sequence[int]], wants: int, per_node: int) -> int | None:
    """Over all ways to put every replica on any node: the fewest that are not where they were, so that `wants` fits."""
    items = [(i, k) for i, here in enumerate(sizes) for k in here]
    best: int | None = None
    for places in product(range(len(sizes)), repeat=len(items)):
        free = [per_node] * len(sizes)
        for (_, k), n in zip(items, places, strict=True):
            free[n] -= k
        if min(free) >= 0 and max(free) >= wants:
            moved = sum(1 for (i, _), n in zip(items, places, strict=True) if i != n)
            best = moved if best is None else min(best, moved)
    return best


@pytest.mark.parametrize("block", range(4))
def test_the_fewest_moves_of_all(block: int) -> None:
    """Tiny cells of 2 or 3 nodes against exhaustive search, sizes that are no chain among them."""
    helped = 0
    for seed in range(block * 40, block * 40 + 40):
        rng = random.Random(seed)
        per_node = rng.choice((4, 5, 6, 8))
        sizes: list[list[int]] = []
        for _ in range(rng.choice((2, 3))):
            here: list[int] = []
            while len(here) < 3 and rng.random() < 0.85:
                k = rng.choice((1, 1, 2, 2, 3, 4))
                if sum(here) + k <= per_node:
                    here.append(k)
            sizes.append(here)
        free = [per_node - sum(here) for here in sizes]
        if max(free) >= min(sum(free), per_node):
            continue
        wants = rng.randint(max(free) + 1, min(sum(free), per_node))
        snapshot = fleet(sizes, wants, per_node=per_node, where=cell("h100", per_node=per_node))
        found = proposed(snapshot)
        assert (None if found is None else len(found.moves)) == fewest(sizes, wants, per_node), (
            f"seed {seed}: {sizes}, {wants} of {per_node}"
        )
        if found is not None:
            helped += 1
            assert holds(snapshot, found) == [], f"seed {seed}: {sizes}, {wants} of {per_node}: {found.moves}"
    assert helped >= 3
