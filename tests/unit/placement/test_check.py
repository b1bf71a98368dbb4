"""Replicas, starts and nodes in the independent recount: a plan that breaks one rule is refused by name, without the break it passes."""

from __future__ import annotations

from dataclasses import replace

import placement
from placement.types import (
    ReplicaState,
    Stock,
)
from tests.unit.placement.fleet import cell, model, node, option, replica, snap
from tests.unit.placement.plans import A2, A4, B2, B4, FREE, NOTHING, H, go, made, passes, refused, short

# ---- replicas and starts, one at a time


def test_every_replica_is_kept_or_stopped_once() -> None:
    fleet = snap([H], FREE, [model("a", 1)], [A4], [replica("r1", A4, "n1")])
    passes(fleet, made(fleet, keep=["r1"]))
    refused("r1 (Serving): named 0 times", fleet, made(fleet))
    refused("r1 (Serving): named 2 times", fleet, made(fleet, keep=["r1"], stop=["r1"]))
    refused("r9: in the plan but not in the snapshot", fleet, made(fleet, keep=["r1", "r9"]))


def test_what_drains_is_neither_kept_nor_stopped() -> None:
    fleet = snap([H], FREE, [model("a", 0)], [A4], [replica("r1", A4, "n1", state=ReplicaState.DRAINING)])
    passes(fleet, made(fleet))
    refused("r1 (Draining): named 1 times", fleet, made(fleet, stop=["r1"]))


def test_nothing_stops_where_stock_is_unknown_or_on_hold() -> None:
    fleet = snap([H], FREE, [model("a", 0, max_replicas=1)], [A4], [replica("r1", A4, "n1")])
    passes(fleet, made(fleet, stop=["r1"]))
    unknown = replace(fleet, cells=(replace(H, stock=Stock.UNKNOWN),))
    refused("r1: stopped, but its stock is unknown", unknown, made(unknown, stop=["r1"]))
    held = replace(fleet, models=(replace(fleet.models[0], hold=True),))
    refused("r1: stopped, but its stock is unknown or its model is on hold", held, made(held, stop=["r1"]))
    lost = replace(unknown, replicas=(replica("r1", A4, "gone"),))  # it may be on a node of the cell that cannot be listed
    refused("r1: stopped, but its stock is unknown", lost, made(lost, stop=["r1"]))


def test_starts_name_what_exists_and_belongs_together() -> None:
    other = cell("ppu")
    fleet = snap([H, other], [*FREE, node("p1", other, 16)], [model("a", 1), model("b", 0, max_replicas=1)], [A4, B4])
    passes(fleet, made(fleet, starts=[go(A4, "n1", "h100")]))
    refused("not in the snapshot", fleet, made(fleet, starts=[go(A4, "n9", "h100")]))
    refused("do not belong together", fleet, made(fleet, starts=[go(A4, "p1", "h100")]))
    refused("do not belong together", fleet, made(fleet, starts=[go(A4, "p1", "ppu")]))
    refused("do not belong together", fleet, made(fleet, starts=[replace(go(B4, "n1", "h100"), model="ns/a")]))


def test_nothing_starts_where_it_may_not() -> None:
    fleet = snap([H], FREE, [model("a", 1)], [A4])
    plan = made(fleet, starts=[go(A4, "n1", "h100")])
    passes(fleet, plan)
    refused("not eligible", replace(fleet, options=(replace(A4, eligible=False),)), plan)
    refused("on hold", replace(fleet, models=(replace(fleet.models[0], hold=True),)), plan)
    refused("may not take new replicas", replace(fleet, nodes=(replace(FREE[0], eligible=False), FREE[1])), plan)
    refused("may not take new replicas", replace(fleet, cells=(replace(H, schedulable=False),)), plan)
    refused("may not take new replicas", replace(fleet, cells=(replace(H, stock=Stock.UNKNOWN),)), plan)
    refused("pool h100 is not allowed", replace(fleet, options=(replace(A4, pools=("x",)),)), plan)
    refused("pool h100 is not allowed", replace(fleet, options=(replace(A4, excluded_pools=("h100",)),)), plan)
    shared = replace(fleet, cells=(replace(H, shared=True),))
    refused("shared devices", shared, plan)
    passes(replace(shared, models=(replace(fleet.models[0], shared_ok=True),)), plan)


def test_sizes_of_a_pool() -> None:
    few = snap([replace(H, sizes=(1, 2, 8))], FREE, [model("a", 1)], [A2, A4])
    passes(few, made(few, starts=[go(A2, "n1", "h100")]))
    refused("4 devices, allowed [1, 2, 8]", few, made(few, starts=[go(A4, "n1", "h100")]))

    whole = cell("a3")
    half, full = option("a", "a3", 8), option("a", "a3", 16)
    fleet = snap([replace(whole, sizes=(1, 8, 16))], [node("n1", whole, 16)], [model("a", 1)], [half, full])
    passes(fleet, made(fleet, starts=[go(full, "n1", "a3")]))
    refused("in this pool 1 or the whole node (16)", fleet, made(fleet, starts=[go(half, "n1", "a3")]))

    cards = replace(cell("910c"), sizes=(1, 2, 3))
    odd, even = option("a", "910c", 3), option("a", "910c", 2)
    fleet = snap([cards], [node("n1", cards, 16)], [model("a", 1)], [odd, even])
    passes(fleet, made(fleet, starts=[go(even, "n1", "910c")]))
    refused("3 devices, must be whole blocks of 2", fleet, made(fleet, starts=[go(odd, "n1", "910c")]))


def test_a_request_above_a_ring_takes_equal_shares() -> None:
    box = replace(cell("910c"), align_to=1, ring=8, sizes=(8, 9, 10))
    fair, odd = option("a", "910c", 10), option("a", "910c", 9)
    fleet = snap([box], [node("n1", box, 16)], [model("a", 1)], [fair, odd])
    passes(fleet, made(fleet, starts=[go(fair, "n1", "910c")]))
    refused("9 devices, must be whole blocks of 1, equal shares of 2 rings", fleet, made(fleet, starts=[go(odd, "n1", "910c")]))


# ---- replicas over several nodes

SPAN = option("a", "h100", 16, span=2)


def test_a_span_names_distinct_sorted_whole_nodes() -> None:
    fleet = snap([H], [*FREE, node("n3", H, 8)], [model("a", 1)], [SPAN])
    passes(fleet, made(fleet, starts=[go(SPAN, "n1,n2", "h100")]))
    refused("must be distinct and sorted", fleet, made(fleet, starts=[go(SPAN, "n2,n1", "h100")]))
    refused("must be distinct and sorted", fleet, made(fleet, starts=[go(SPAN, "n1,n1", "h100")]))
    refused("16 devices over 2 nodes, names 1", fleet, made(fleet, starts=[go(SPAN, "n1", "h100")]))
    refused("16 devices over 2 nodes, names 3", fleet, made(fleet, starts=[go(SPAN, "n1,n2,n3", "h100")]))
    part = option("a", "h100", 8, span=2)
    fleet = replace(fleet, options=(part,))
    refused("must be whole nodes", fleet, made(fleet, starts=[go(part, "n1,n2", "h100")]))


def test_a_span_stays_in_one_cell() -> None:
    far = replace(H, name="far", network_domain="rack2")
    fleet = snap([H, far], [FREE[0], node("n2", far, 8)], [model("a", 1)], [SPAN])
    refused("do not belong together", fleet, made(fleet, starts=[go(SPAN, "n1,n2", "h100")]))


def test_a_span_needs_free_nodes_and_waits_for_what_is_on_any_of_them() -> None:
    fleet = snap([H], FREE, [model("a", 1, priority=9), model("b", 0, max_replicas=1)], [SPAN, B4], [replica("r1", B4, "n2")])
    passes(fleet, made(fleet, stop=["r1"], starts=[go(SPAN, "n1,n2", "h100", "r1")]))
    refused("n2: starts that wait for [] do not fit", fleet, made(fleet, stop=["r1"], starts=[go(SPAN, "n1,n2", "h100")]))
    faults = placement.check(fleet, NOTHING, made(fleet, keep=["r1"], starts=[go(SPAN, "n1,n2", "h100")]))
    assert all("node n2" in f for f in faults)
    assert any("a whole-node replica on a node that is not empty" in f for f in faults)
    withdrawn = replace(fleet, replicas=(), nodes=(FREE[0], replace(FREE[1], installed=9, allocatable=8)))
    refused("must be whole nodes", withdrawn, made(withdrawn, starts=[go(SPAN, "n1,n2", "h100")]))


def test_a_running_span_holds_an_equal_share_of_each_node() -> None:
    fleet = snap([H], FREE, [model("a", 1), model("b", 1)], [SPAN, B2], [replica("r1", SPAN, "n1,n2")])
    faults = placement.check(fleet, NOTHING, made(fleet, keep=["r1"], starts=[go(B2, "n2", "h100")]))
    assert any("node n2: 8 kept and 2 started, room 8" in f for f in faults)
    half = replace(fleet, replicas=(replace(fleet.replicas[0], devices=12),))
    passes(half, made(half, keep=["r1"], starts=[go(B2, "n2", "h100")]))


# ---- nodes


def test_devices_of_a_node() -> None:
    fleet = snap([H], [node("n1", H, 6)], [model("a", 1), model("b", 1)], [A4, B2, B4])
    passes(fleet, made(fleet, starts=[go(A4, "n1", "h100"), go(B2, "n1", "h100")]))
    faults = placement.check(fleet, NOTHING, made(fleet, starts=[go(A4, "n1", "h100"), go(B4, "n1", "h100")]))
    assert "node n1: 0 kept and 8 started, room 6" in faults


def test_a_node_that_holds_more_than_it_may_takes_nothing() -> None:
    """Allocatable fell below what is in use: nobody knows which device is the withdrawn one."""
    where = replace(FREE[0], allocatable=3)
    fleet = snap([H], [where], [model("a", 0, max_replicas=1), model("b", 1)], [A4, B2], [replica("r1", A4, "n1")])
    faults = placement.check(fleet, NOTHING, made(fleet, stop=["r1"], starts=[go(B2, "n1", "h100", "r1")]))
    assert faults == ("node n1: holds 4 of 3 and takes 2 more",)


def test_the_order_of_waiting() -> None:
    fleet = snap(
        [H], [FREE[0]], [model("a", 1, max_replicas=2), model("b", 1)], [A4, B4], [replica("r1", A4, "n1"), replica("r2", A4, "n1")]
    )
    passes(fleet, made(fleet, keep=["r2"], stop=["r1"], starts=[go(B4, "n1", "h100", "r1")]))
    refused("starts that wait for [] do not fit", fleet, made(fleet, keep=["r2"], stop=["r1"], starts=[go(B4, "n1", "h100")]))
    kept = made(fleet, keep=["r2"], stop=["r1"], starts=[go(B4, "n1", "h100", "r2")])
    refused("waits for r2, which does not go from this node", fleet, kept)
    two = replace(fleet, nodes=tuple(FREE), replicas=(replica("r1", A4, "n2"),))
    refused("waits for r1, which does not go", two, made(two, stop=["r1"], starts=[go(B4, "n1", "h100", "r1")], shortfalls=[short("a", 1)]))


def test_whole_nodes_are_empty() -> None:
    whole = cell("a3")
    full, one = option("a", "a3", 16), option("b", "a3", 1)
    fleet = snap([whole], [node("n1", whole, 16)], [model("a", 1), model("b", 0, max_replicas=1)], [full, one])
    passes(fleet, made(fleet, starts=[go(full, "n1", "a3")]))
    beside = replace(fleet, nodes=(node("n1", whole, 15),))
    faults = placement.check(beside, NOTHING, made(beside, starts=[go(full, "n1", "a3")]))
    assert "node n1: a whole-node replica on a node that is not empty" in faults


def test_whole_cards() -> None:
    """Three single dies of 4 cards may sit on three different cards: one card is known to be free."""
    cards = replace(cell("910c"), per_node=8)
    two, one = option("a", "910c", 2), option("b", "910c", 1)
    busy = [replica(f"s{i}", one, "n1") for i in range(3)]
    fleet = snap([cards], [node("n1", cards, 8)], [model("a", 1, max_replicas=2), model("b", 3)], [two, one], busy)
    keep = [r.id for r in busy]
    passes(fleet, made(fleet, keep=keep, starts=[go(two, "n1", "910c")]))
    refused("2 whole blocks started, 1 are known to be free now", fleet, made(fleet, keep=keep, starts=[go(two, "n1", "910c")] * 2))
    unread = replace(fleet, replicas=(), nodes=(node("n1", cards, 6, total=8),), models=(fleet.models[0], model("b", 0)))
    refused("1 whole blocks started, 0 are known", unread, made(unread, starts=[go(two, "n1", "910c")]))
    read = replace(unread, nodes=(replace(unread.nodes[0], free_blocks=2),))
    passes(read, made(read, starts=[go(two, "n1", "910c")] * 2))


def test_whole_cards_that_come_later_are_waited_for() -> None:
    """4 dies are free but no card is; the card of the replica that goes comes only when it has gone."""
    cards = replace(cell("910c"), per_node=8)
    two, low = option("a", "910c", 2), option("b", "910c", 2)
    where = replace(node("n1", cards, 6, total=8), free_blocks=0)
    fleet = snap([cards], [where], [model("a", 1, priority=1), model("b", 0, max_replicas=1)], [two, low], [replica("r1", low, "n1")])
    passes(fleet, made(fleet, stop=["r1"], starts=[go(two, "n1", "910c", "r1")]))
    refused("1 whole blocks started, 0 are known to be free now", fleet, made(fleet, stop=["r1"], starts=[go(two, "n1", "910c")]))


RINGS = replace(cell("910c"), align_to=1, ring=4, per_node=8, sizes=(1, 2, 3, 4, 8))


def test_a_request_stays_in_its_ring() -> None:
    three, two = option("a", "910c", 3), option("b", "910c", 2)
    empty = snap([RINGS], [node("n1", RINGS, 8)], [model("a", 2), model("b", 0, max_replicas=1)], [three, two])
    passes(empty, made(empty, starts=[go(three, "n1", "910c")] * 2))
    # 3 and 3 leave one device in each ring: 2 are free, and no ring has two.
    faults = placement.check(empty, NOTHING, made(empty, starts=[go(three, "n1", "910c"), go(three, "n1", "910c"), go(two, "n1", "910c")]))
    assert any("starts of [3, 3, 2] do not fit its rings of 4 now" in f for f in faults)
    read = replace(empty, nodes=(replace(node("n1", RINGS, 4), free_rings=(2, 2)),), models=(model("a", 0), model("b", 1, max_replicas=2)))
    passes(read, made(read, starts=[go(two, "n1", "910c")] * 2))
    read = replace(read, models=(model("a", 1), model("b", 0)))
    faults = placement.check(read, NOTHING, made(read, starts=[go(three, "n1", "910c")]))
    assert any("do not fit its rings of 4" in f for f in faults)


def test_rings_that_cannot_be_read_are_full() -> None:
    two = option("a", "910c", 2)
    fleet = snap([RINGS], [node("n1", RINGS, 6)], [model("a", 1)], [two])
    faults = placement.check(fleet, NOTHING, made(fleet, starts=[go(two, "n1", "910c")]))
    assert faults
    assert all("do not fit its rings" in f for f in faults)


def test_rings_that_come_later_are_waited_for() -> None:
    four, low = option("a", "910c", 4), option("b", "910c", 2)
    running = [replica("r1", low, "n1"), replica("r2", low, "n1")]
    fleet = snap([RINGS], [node("n1", RINGS, 8)], [model("a", 2, priority=1), model("b", 0, max_replicas=2)], [four, low], running)
    passes(fleet, made(fleet, stop=["r1", "r2"], starts=[go(four, "n1", "910c", "r1", "r2")] * 2))
    faults = placement.check(
        fleet, NOTHING, made(fleet, stop=["r1", "r2"], starts=[go(four, "n1", "910c"), go(four, "n1", "910c", "r1", "r2")])
    )
    assert faults == ("node n1: starts of [4] do not fit its rings of 4 now",)
