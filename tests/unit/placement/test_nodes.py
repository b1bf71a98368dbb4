"""What a node is read to have: shares of replicas over several nodes, blocks, rings, what may stop and what that gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from placement.nodes import Bin, Group, most_blocks, read_nodes
from placement.shapes import legal
from placement.snapshot import normalised
from placement.types import Cell, Model, Node, Option, Replica, ReplicaState, Snapshot, Stock

H100 = Cell("c", "p", "x", "v", (1, 2, 4, 8), per_node=8, failure_domain="z1", cost_per_device_hour=2.0)
A3 = replace(H100, sizes=(1, 2, 4, 6, 8, 10, 12, 14, 16), per_node=16, align_to=2)
RINGS = replace(H100, ring=4)
BOX = replace(H100, sizes=(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16), per_node=16, ring=8)


def read(cell: Cell, nodes: list[Node], running: Sequence[tuple[str, int] | Replica], **model: Any) -> tuple[list[Group], dict[str, Bin]]:
    """`running`: (node, devices) of serving replicas r0, r1, ... of one model, or the replicas themselves."""
    replicas: list[Replica] = []
    for i, r in enumerate(running):
        replicas.append(r if isinstance(r, Replica) else Replica(f"r{i}", "m", f"o{r[1]}", r[0], r[1]))
    options = tuple(Option(f"o{k}", "m", "x", "v", "d", "e", k) for k in sorted({r.devices for r in replicas}))
    snapshot = Snapshot((cell,), tuple(nodes), (replace(Model("m", max_replicas=99), **model),), options, tuple(replicas))
    groups, bins = read_nodes(normalised(snapshot))
    return groups, {b.node: b for b in bins}


def full(name: str, cell: Cell, **changes: Any) -> Node:
    size = cell.per_node or 0
    return replace(Node(name, cell.name, size, size, 0), **changes)


def test_a_replica_over_two_nodes_holds_its_share_of_each_and_frees_both() -> None:
    groups, bins = read(H100, [full("n1", H100), full("n2", H100), full("n3", H100)], [("n1,n2", 16), ("n3", 2)])
    assert [(g.node, g.devices, g.cost, g.cell) for g in groups] == [("n1,n2", 16, 32.0, 0), ("n3", 2, 4.0, 0)]
    assert {n: (b.free, b.gains) for n, b in bins.items()} == {"n1": (0, ((0, 8, 8),)), "n2": (0, ((0, 8, 8),)), "n3": (6, ((1, 2, 2),))}


def test_a_replica_over_two_nodes_is_held_where_one_of_them_cannot_be_read() -> None:
    dark = replace(H100, name="dark", stock=Stock.UNKNOWN)
    snapshot = Snapshot(
        (H100, dark),
        (full("n1", H100), full("n2", dark)),
        (Model("m"),),
        (Option("o", "m", "x", "v", "d", "e", 16, span=2),),
        (Replica("r", "m", "o", "n1,n2", 16),),
    )
    groups, bins = read_nodes(normalised(snapshot))
    assert not groups[0].stoppable
    assert [(b.node, b.free, b.gains) for b in bins] == [("n1", 0, ())]


def test_withdrawn_held_and_draining() -> None:
    """8 installed. n1: 6 allocatable, 1 foreign, 4 ours = 1 free. n2: over-held, no bin. n3: cordoned, no bin. n4: 2 drain."""
    nodes = [
        full("n1", H100, allocatable=6, held_by_others=1),
        full("n2", H100, allocatable=3),
        full("n3", H100, eligible=False),
        full("n4", H100),
    ]
    running = [Replica(f"r{i}", "m", f"o{k}", n, k) for i, (n, k) in enumerate((("n1", 4), ("n2", 4), ("n3", 4)))]
    groups, bins = read(H100, nodes, [*running, Replica("r9", "m", "o2", "n4", 2, ReplicaState.DRAINING)])
    assert {n: (b.free_now, b.free, b.draining) for n, b in bins.items()} == {"n1": (1, 1, ()), "n4": (6, 8, (("r9", 2, 2),))}
    assert [(g.node, g.ids) for g in groups] == [("n1", ("r0",)), ("n2", ("r1",)), ("n3", ("r2",))]


@pytest.mark.parametrize(
    ("running", "changes", "cards", "gains"),
    [
        ([], {}, 8, []),
        ([4, 2], {}, 5, [1, 2]),  # whole cards, held and given back
        ([1, 1], {}, 6, [1]),  # at worst on two cards; each gives one back
        ([3], {}, 5, [3]),  # no whole number of cards: three single dies
        ([2], {"held_by_others": 1}, 0, [1]),  # which cards others took cannot be read
        ([2], {"held_by_others": 1, "free_blocks": 6}, 6, [1]),
        ([1], {"free_blocks": 7}, 7, [0]),  # whose card it shares is not known, so its card is not promised
        ([], {"allocatable": 15}, 0, []),  # which die was withdrawn cannot be read
    ],
)
def test_cards_of_an_a3_node(running: list[int], changes: dict[str, int], cards: int, gains: list[int]) -> None:
    _, bins = read(A3, [full("n", A3, **changes)], [("n", k) for k in running])
    assert bins["n"].blocks == cards
    assert [b for _, _, b in bins["n"].gains] == gains


@pytest.mark.parametrize(
    ("cell", "running", "changes", "rings", "most"),
    [
        (RINGS, [], {}, (4, 4), 8),
        (RINGS, [2], {}, (2, 4), 8),  # alone: in some ring, the other is full
        (RINGS, [2, 1], {}, (0, 0), 8),  # perhaps in both rings; all gone they are full
        (RINGS, [8], {}, (0, 0), 8),
        (RINGS, [], {"held_by_others": 1}, (0, 0), 0),  # 7 free, for single devices only
        (RINGS, [2], {"held_by_others": 1}, (0, 0), 2),
        (RINGS, [], {"held_by_others": 1, "free_rings": (4, 3)}, (3, 4), 7),
        (RINGS, [], {"allocatable": 7}, (0, 0), 0),
        (BOX, [10], {}, (3, 3), 16),  # two equal halves
        (BOX, [3, 3], {}, (0, 0), 16),
        (BOX, [3], {"free_rings": (8, 8)}, (5, 5), 16),  # reserved, not yet taken: it may come out of any ring
    ],
)
def test_rings(cell: Cell, running: list[int], changes: dict[str, Any], rings: tuple[int, ...], most: int) -> None:
    groups, bins = read(cell, [full("n", cell, **changes)], [("n", k) for k in running])
    b = bins["n"]
    assert b.rings == rings
    assert most_blocks(cell, b, groups) == most
    assert b.free == (cell.per_node or 0) - sum(running) - changes.get("held_by_others", 0) - (8 - changes.get("allocatable", 8))


def test_rings_are_not_full_again_while_a_replica_on_hold_stays() -> None:
    _, bins = read(RINGS, [full("n", RINGS)], [("n", 2), ("n", 1)], hold=True)
    assert not bins["n"].empties


def test_which_stops_first() -> None:
    """Not serving, then on a cordoned node, then on the emptiest node: 1 of ours and 5 foreign are more than 3 of ours."""
    nodes = [full("n1", H100, held_by_others=5), full("n2", H100), full("n3", H100, eligible=False), full("n4", H100)]
    running = [
        Replica("busy", "m", "o1", "n1", 1),
        Replica("empty", "m", "o3", "n2", 3),
        Replica("cordoned", "m", "o4", "n3", 4),
        Replica("starting", "m", "o4", "n4", 4, ReplicaState.STARTING),
    ]
    groups, _ = read(H100, nodes, running)
    assert [g.ids[0] for g in sorted(groups, key=lambda g: g.preference)] == ["starting", "cordoned", "empty", "busy"]


def test_resident_replicas_are_a_group_of_their_own_and_stay_is_what_another_scheduler_placed() -> None:
    running = [Replica("r1", "m", "o2", "n", 2, resident=True), Replica("r2", "m", "o2", "n", 2)]
    groups, _ = read(H100, [full("n", H100)], running)
    assert [(g.ids, g.resident, g.stays) for g in groups] == [(("r2",), False, False), (("r1",), True, False)]
    groups, _ = read(replace(H100, exact_nodes=False), [full("n", H100)], running)
    assert [(g.ids, g.resident, g.stays, g.stoppable) for g in groups] == [(("r2",), False, True, True), (("r1",), True, True, True)]


@pytest.mark.parametrize(
    ("cell", "size", "span", "expected"),
    [
        (H100, 8, 1, True),
        (H100, 3, 1, False),
        (H100, 16, 2, True),
        (H100, 8, 2, False),  # part of a node each: SizeNotAllowed
        (H100, 17, 2, False),
        (A3, 6, 1, True),
        (A3, 1, 1, True),
        (replace(A3, sizes=(1, 2, 3)), 3, 1, False),  # no whole cards
        (A3, 32, 2, True),
        (RINGS, 8, 1, True),
        (BOX, 10, 1, True),
        (replace(BOX, sizes=(9, 11)), 9, 1, False),  # no equal halves
        (replace(A3, whole_node_only=True, sizes=(1, 2, 16)), 2, 1, False),
        (replace(A3, whole_node_only=True, sizes=(1, 16)), 32, 2, True),
    ],
)
def test_legal_sizes(cell: Cell, size: int, span: int, expected: bool) -> None:
    assert legal(cell, size, span) == expected
