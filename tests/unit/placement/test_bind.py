"""Each promise of the node choice: which node, in which order, what a start waits for, which replicas stop."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from placement.bind import BindError, Binding, begin_now, bind, choose_stops
from placement.problem import Problem, build
from placement.snapshot import normalised
from placement.types import Cell, Model, ModelDemand, Node, Option, Replica, ReplicaState, Snapshot, Start
from tests.unit.placement.packing import KINDS, Kind, fits
from tests.unit.placement.test_bins import crowded, in_place_bins, layouts, problem_of, requests_of, solved, starts_of

H100 = Cell("c", "p", "x", "v", (1, 2, 4, 8), per_node=8)
A3 = replace(H100, sizes=(1, 2, 4, 8, 16), per_node=16, align_to=2)
RINGS = replace(H100, ring=4)


def problem(cell: Cell, free: dict[str, int], wants: Sequence[str], running: Sequence[Replica] = (), **node: Any) -> Problem:
    """Nodes with devices free (others hold the rest) and models named "a2" (2 devices) or "b8*2" (8 on each of 2 nodes)."""
    full = cell.per_node or 0
    nodes = tuple(replace(Node(n, cell.name, full, full, full - k), **node) for n, k in free.items())
    names = sorted({*wants} | {r.model for r in running})
    models = tuple(Model(n, min_replicas=0, max_replicas=99) for n in names)
    options = []
    for name in names:
        size, _, span = name.lstrip("abcdefghijklmnopqrstuvwxyz").partition("*")
        options.append(Option(name, name, "x", "v", "d", "e", int(size) * int(span or 1), span=int(span or 1)))
    snapshot = normalised(Snapshot((cell,), nodes, models, tuple(options), tuple(running)))
    return build(snapshot, tuple(ModelDemand(m.name) for m in snapshot.models))


def bound(of: Problem, wants: Sequence[str], stop: Sequence[str] = ()) -> Binding:
    starts = [list(wants).count(of.models[w.model].name) for w in of.ways]
    assert sum(starts) == len(wants), "every model has a way"
    return bind(of, starts, [sum(1 for i in g.ids if i in stop) for g in of.groups], {})


def chosen(binding: Binding) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(s.model, s.node, s.after) for s in binding.starts]


def test_best_fit_then_the_sorted_name() -> None:
    assert chosen(bound(problem(H100, {"n1": 8, "n2": 3, "n3": 2, "n4": 2}, ["a2"]), ["a2"])) == [("a2", "n3", ())]


def test_in_descending_size_so_that_the_large_finds_its_place() -> None:
    """n1 has 4, n2 has 2: the 2 may not sit on n1 before the 4 has."""
    assert chosen(bound(problem(H100, {"n1": 4, "n2": 2}, ["a2", "b4"]), ["a2", "b4"])) == [("b4", "n1", ()), ("a2", "n2", ())]


def test_never_all_replicas_of_a_model_on_one_node() -> None:
    """Best fit would put both on n1; the second goes to n2. A third model, alone, goes back to the best fit."""
    of = problem(H100, {"n1": 5, "n2": 8}, ["a2", "b1"])
    assert chosen(bound(of, ["a2", "a2", "b1"])) == [("a2", "n1", ()), ("a2", "n2", ()), ("b1", "n1", ())]
    # A running one counts as well; and where no other node has room, together is better than not at all.
    running = [Replica("r", "a2", "a2", "n1", 2)]
    assert chosen(bound(problem(H100, {"n1": 4, "n2": 8}, ["a2"], running), ["a2"])) == [("a2", "n2", ())]
    assert chosen(bound(problem(H100, {"n1": 4}, ["a2"], running), ["a2"])) == [("a2", "n1", ())]


def test_devices_that_are_free_now_before_those_that_must_wait() -> None:
    """n1 would fit best once r1 is gone; n2 has 8 now."""
    running = [Replica("r1", "b2", "b2", "n1", 2)]
    of = problem(H100, {"n1": 2, "n2": 8}, ["a2"], running)
    assert chosen(bound(of, ["a2"], stop=["r1"])) == [("a2", "n2", ())]
    of = problem(H100, {"n1": 2}, ["a2"], running)
    assert chosen(bound(of, ["a2"], stop=["r1"])) == [("a2", "n1", ("r1",))]


def test_a_single_die_takes_a_half_used_card_first() -> None:
    """n1: 2 dies, one complete card. n2: 5 dies, one complete card, so three cards are half used."""
    of = problem(A3, {"n1": 2, "n2": 5}, ["a1"], free_blocks=1)
    assert chosen(bound(of, ["a1"])) == [("a1", "n2", ())]


def test_a_single_device_takes_a_half_used_ring_first() -> None:
    """n1 4 free, one full ring; n2 5 free, of which one sits in the other ring."""
    of = problem(RINGS, {"n1": 4, "n2": 5}, ["a1"])
    nodes = tuple(replace(n, free_rings=(4, 0) if n.name == "n1" else (4, 1)) for n in of.snapshot.nodes)
    of = build(replace(of.snapshot, nodes=nodes), of.demand)
    assert chosen(bound(of, ["a1"])) == [("a1", "n2", ())]


def test_a_replica_over_two_nodes_takes_whole_nodes_and_names_them_all() -> None:
    """n2 is half used; n1 and n3 are whole. The single 2 goes to n2."""
    of = problem(H100, {"n3": 8, "n1": 8, "n2": 4}, ["a2", "b8*2"])
    binding = bound(of, ["a2", "b8*2"])
    assert chosen(binding) == [("b8*2", "n1,n3", ()), ("a2", "n2", ())]
    assert [(a.model, a.node, a.replicas) for a in binding.assignments] == [("a2", "n2", 1), ("b8*2", "n1,n3", 1)]


def test_part_of_a_larger_node_is_no_whole_node() -> None:
    """n1 and n3 have 8; n2 has 16, of which 8 are free, which a single 8 may take."""
    of = problem(H100, {"n1": 8, "n2": 8, "n3": 8}, ["a8", "b8*2"])
    nodes = tuple(replace(n, installed=16, allocatable=16, held_by_others=8) if n.name == "n2" else n for n in of.snapshot.nodes)
    of = build(replace(of.snapshot, nodes=nodes), of.demand)
    assert chosen(bound(of, ["a8", "b8*2"])) == [("b8*2", "n1,n3", ()), ("a8", "n2", ())]


def test_a_replica_over_two_nodes_waits_for_all_that_is_in_its_way() -> None:
    running = [Replica("r1", "c2", "c2", "n1", 2), Replica("r2", "c2", "c2", "n2", 2), Replica("r3", "c2", "c2", "n2", 2)]
    of = problem(H100, {"n1": 8, "n2": 8}, ["b8*2"], running)
    assert chosen(bound(of, ["b8*2"], stop=["r1", "r2", "r3"])) == [("b8*2", "n1,n2", ("r1", "r2", "r3"))]
    with pytest.raises(BindError, match="1 whole nodes of 8 for a replica over 2"):
        bound(of, ["b8*2"], stop=["r1", "r2"])


def test_counts_that_do_not_fit_are_refused_and_not_squeezed() -> None:
    with pytest.raises(BindError, match="no node of c takes 4 devices"):
        bound(problem(H100, {"n1": 4, "n2": 3}, ["a4"]), ["a4", "a4"])


def test_a_ring_frees_its_own_size_and_the_whole_when_all_goes() -> None:
    """910A, 2 + 1 run somewhere: a 2 waits for the 2; an 8 waits for both."""
    running = [Replica("r1", "b2", "b2", "n1", 2), Replica("r2", "c1", "c1", "n1", 1)]
    of = problem(RINGS, {"n1": 8}, ["a2", "d8"], running)
    assert chosen(bound(of, ["a2"], stop=["r1"])) == [("a2", "n1", ("r1",))]
    assert chosen(bound(of, ["d8"], stop=["r1", "r2"])) == [("d8", "n1", ("r1", "r2"))]
    with pytest.raises(BindError):
        bound(of, ["d8"], stop=["r1"])


def test_a_single_device_does_not_start_into_a_ring_that_a_larger_one_waits_for() -> None:
    """Box16, 3 + 3 run in unknown rings and go. 7 + 7 need all but one device of each ring: two singles now could sit in one ring."""
    box = replace(H100, sizes=(1, 3, 7), per_node=16, ring=8)
    running = [Replica("r1", "b3", "b3", "n1", 3), Replica("r2", "b3", "b3", "n1", 3)]
    of = problem(box, {"n1": 16}, ["a1", "c7"], running)
    starts = [2] * len(of.ways)
    assert [of.models[w.model].name for w in of.ways] == ["a1", "b3", "c7"]
    starts[1] = 0
    binding = bind(of, starts, [2], {})
    assert chosen(binding) == [("c7", "n1", ("r1", "r2"))] * 2 + [("a1", "n1", ("r1", "r2"))] * 2


def test_the_larger_of_those_that_begin_at_once_begins_first() -> None:
    """A card must not be broken by a single die that is bound before the pair."""
    assert chosen(bound(problem(A3, {"n1": 16}, ["a1", "b2"]), ["a1", "b2"])) == [("b2", "n1", ()), ("a1", "n1", ())]


def test_starts_that_wait_come_after_those_that_do_not_within_their_rank() -> None:
    running = [Replica("r1", "b8", "b8", "n1", 8)]
    of = problem(H100, {"n1": 8, "n2": 2}, ["a8", "c2"], running)
    assert chosen(bound(of, ["a8", "c2"], stop=["r1"])) == [("c2", "n2", ()), ("a8", "n1", ("r1",))]


def test_of_a_cell_above_its_share_the_emptiest_nodes_give_first() -> None:
    """Three of a2 serve on n1 (beside b4), n2 and n3 (beside one another b1); one more starts on n4."""
    running = [
        Replica("r1", "a2", "a2", "n1", 2),
        Replica("r2", "a2", "a2", "n2", 2),
        Replica("r3", "a2", "a2", "n3", 2),
        Replica("r4", "a2", "a2", "n4", 2, ReplicaState.STARTING),
        Replica("r5", "b4", "b4", "n1", 4),
        Replica("r6", "b1", "b1", "n3", 1),
    ]
    of = problem(H100, {"n1": 8, "n2": 8, "n3": 8, "n4": 8}, [], running)

    def gone(count: int) -> set[str]:
        a = next(i for i, m in enumerate(of.models) if m.name == "a2")
        stops = choose_stops(of, {(a, "a2", 0): count})
        return {i for g in of.groups for i in g.ids[: stops[g.index]]}

    assert gone(1) == {"r4"}
    assert gone(2) == {"r4", "r2"}
    assert gone(3) == {"r4", "r2", "r3"}
    with pytest.raises(BindError, match="a2: 1 replicas of a2 more than may stop"):
        gone(5)


def test_one_start_at_a_time_where_the_pool_chooses_the_node() -> None:
    """Cell q is under enforcement: Pool. One of its starts begins; none while one is pending there or nowhere yet."""
    ours, theirs = replace(H100, name="c"), replace(H100, name="q", pool="q", exact_nodes=False)
    nodes = (Node("n1", "c", 8, 8, 0), Node("n2", "q", 8, 8, 0))
    snapshot = Snapshot((ours, theirs), nodes, (Model("m"),), (Option("o", "m", "x", "v", "d", "e", 1),))
    starts = tuple(Start("m", "o", cell, node) for cell, node in (("c", "n1"), ("q", "n2"), ("c", "n1"), ("q", "n2")))
    assert begin_now(snapshot, starts) == (starts[0], starts[1], starts[2])
    for node in ("n2", ""):
        pending = replace(snapshot, replicas=(Replica("r", "m", "o", node, 1, ReplicaState.PENDING),))
        assert begin_now(pending, starts) == (starts[0], starts[2])


def test_the_order_of_the_input_changes_nothing() -> None:
    rng = random.Random(5)
    running = [Replica(f"r{i}", f"m{i % 3}2", f"m{i % 3}2", f"n{i % 5}", 2) for i in range(9)]
    wants = ["a1", "a1", "b2", "d4", "e8", "e8"]
    free = {f"n{i}": 8 for i in range(7)}
    renamed = {"m02": "a2", "m12": "g2", "m22": "h2"}
    running = [replace(r, model=renamed[r.model], option=renamed[r.model]) for r in running]
    results = set()
    for _ in range(20):
        rng.shuffle(running)
        items = list(free.items())
        rng.shuffle(items)
        results.add(repr(bound(problem(H100, dict(items), wants, running), wants, stop=["r1", "r3"])))
    assert len(results) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_at_every_moment_what_has_started_fits(kind: Kind) -> None:
    """Random cells with stops: whatever has gone so far, the starts that wait for no other fit beside what is still there."""
    rng = random.Random("moments" + kind.name)
    tried = 0
    while tried < 60:
        states, running = crowded(kind, rng)
        started = requests_of(kind, rng, 4)
        of = problem_of(kind, states, started, running)
        stops = {g.index: rng.randint(0, len(g.ids)) for g in of.groups}
        slots = solved(of, Counter(started), stops)
        if slots is None:
            continue
        tried += 1
        binding = bind(of, starts_of(of, Counter(started)), [stops[g] for g in sorted(stops)], slots)
        assert len(binding.starts) == len(started)
        options = {o.id: o for o in of.options}
        for gone in [set[str]()] + [set(s.after) for s in binding.starts]:
            there = [r for i, r in enumerate(running) if f"r{i}" not in gone]
            begun = [(s, options[s.option]) for s in binding.starts if set(s.after) <= gone]
            for i in range(len(states)):
                new = tuple((o.devices // o.span, 1) for s, o in begun if f"n{i}" in s.node.split(","))
                if kind.ring is None:
                    assert fits(kind, (in_place_bins(kind, states, there)[0][i],), new), (states, running, binding.starts, gone)
                    continue
                now = [s for at, (s, _) in running if f"n{i}" in at]
                stay = [s for at, (s, _) in there if f"n{i}" in at]
                for layout in layouts(kind, now, stay):
                    assert fits(kind, (layout,), new), (states, running, binding.starts, gone, layout)


def test_whole_nodes_are_left_whole_as_long_as_best_fit_can() -> None:
    """Twelve singles on four nodes, three of them half used with 4 free: all singles go there and one node stays whole."""
    of = problem(H100, {"n1": 8, "n2": 4, "n3": 4, "n4": 4}, ["a1", "b1"])
    binding = bound(of, ["a1"] * 6 + ["b1"] * 6)
    assert {s.node for s in binding.starts} == {"n2", "n3", "n4"}
