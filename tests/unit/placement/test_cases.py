"""The failure cases of stock, fragmentation, groups and sizes, by their numbers: the stated inputs and the stated values."""

from __future__ import annotations

from dataclasses import replace

import pytest

import placement
from placement.types import Model, Node, Option, Reason, Stock
from tests.unit.placement.fleet import applied, cell, got, model, node, nodes_of, option, planned, reason, replica, short, snap

H100 = cell("h100")
DIES = cell("910c")
PPU = cell("ppu")


def test_oc_001_a_withdrawn_device_that_is_held_hides_a_healthy_one() -> None:
    """Capacity 2, allocatable 1, one pod holds 1: free is 0."""
    n1 = Node("n1", "h100", installed=2, allocatable=1, held_by_others=1)
    plan = planned(snap([H100], [n1], [model("a", 1)], [option("a", "h100", 1)]))
    assert got(plan, "a") == 0
    assert reason(plan, "a") == "DevicesUnavailable"
    assert "n1: allocatable 1 of capacity 2" in short(plan, "a").reasons[0].message


@pytest.mark.parametrize("own", [True, False])
def test_oc_002_more_held_than_allocatable_is_zero_free_and_never_negative(own: bool) -> None:
    """Allocatable fell to 6 while 8 are in use: free is 0, whoever holds them, and no number goes below 0."""
    big = option("pod0", "h100", 8)
    n1 = Node("n1", "h100", installed=8, allocatable=6, held_by_others=0 if own else 8)
    running = [replica("r0", big, "n1")] if own else []
    plan = planned(snap([H100], [n1], [model("a", 1, priority=10), model("pod0", 1 if own else 0)], [option("a", "h100", 6), big], running))
    assert got(plan, "a") == 0
    assert plan.stop == ()
    first = short(plan, "a").reasons[0]
    assert (first.reason, first.largest_free, first.total_free) == (Reason.DEVICES_UNAVAILABLE, 0, 0)


def test_oc_003_devices_withdrawn_for_a_while_move_nothing() -> None:
    """Allocatable 0 under a Ready replica: 0 moves, 0 stops, although another node is free."""
    whole = option("a", "910c", 16)
    n1 = Node("n1", "910c", installed=16, allocatable=0, held_by_others=0, eligible=False, excluded_reason="DevicesWithdrawn")
    snapshot = snap([DIES], [n1, node("n2", DIES, 16)], [model("a", 1)], [whole], [replica("r1", whole, "n1")])
    plan = planned(snapshot)
    assert (plan.keep, plan.stop, plan.starts) == (("r1",), (), ())
    back = replace(snapshot, nodes=(node("n1", DIES, 16), node("n2", DIES, 16)))
    assert planned(back).keep == ("r1",)


def test_oc_005_capacity_never_stands_in_for_allocatable() -> None:
    plan = planned(snap([H100], [Node("n1", "h100", 8, 7, 0)], [model("a", 1)], [option("a", "h100", 8)]))
    assert got(plan, "a") == 0
    assert reason(plan, "a") == "DevicesUnavailable"
    assert "n1: allocatable 7 of capacity 8" in short(plan, "a").reasons[0].message


def test_oc_006_a_node_without_its_resource_yet_is_waited_for() -> None:
    n9 = Node("n9", "h100", installed=8, allocatable=0, held_by_others=0, eligible=False, excluded_reason="DevicesMissing")
    plan = planned(snap([H100], [n9], [model("a", 1)], [option("a", "h100", 8)]))
    assert short(plan, "a").replicas == 1
    assert "waiting for devices on n9" in short(plan, "a").reasons[0].message


def test_oc_007_unknown_stock_neither_grows_nor_shrinks() -> None:
    """MD-a has 3 and would need 5, MD-b has 4 and would need 1: both stay."""
    unknown = replace(H100, stock=Stock.UNKNOWN)
    a, b = option("a", "h100", 1, work_per_s=1.0), option("b", "h100", 1, work_per_s=1.0)
    running = [replica(f"a{i}", a, "n1") for i in range(3)] + [replica(f"b{i}", b, "n2") for i in range(4)]
    models = [model("a", 5), model("b", 1)]
    for nodes in ([node("n1", unknown, 8), node("n2", unknown, 8)], []):
        plan = planned(snap([unknown], nodes, models, [a, b], running))
        assert (got(plan, "a"), got(plan, "b")) == (3, 4)
        assert (plan.stop, plan.starts) == ((), ())
        assert reason(plan, "a") == "InventoryUnknown"
        assert short(plan, "a").reasons[0].largest_free is None
    back = planned(snap([H100], [node("n1", H100, 8), node("n2", H100, 8)], models, [a, b], running))
    assert (got(back, "a"), got(back, "b"), back.shortfalls) == (5, 1, ())


def test_oc_008_cordoned_and_tainted_nodes_are_no_room() -> None:
    n1 = node("n1", H100, 8, eligible=False, excluded_reason="Cordoned")
    n2 = node("n2", H100, 8, eligible=False, excluded_reason="Tainted")
    plan = planned(snap([H100], [n1, n2, node("n3", H100, 8)], [model("a", 2)], [option("a", "h100", 8)]))
    assert nodes_of(plan, "a") == {"n3": 1}
    first = short(plan, "a").reasons[0]
    assert (first.reason, first.largest_free) == (Reason.DEVICES_UNAVAILABLE, 0)
    assert "need 8 on one node, largest free 0" in first.message
    assert "Cordoned: n1" in first.message
    assert "Tainted: n2" in first.message


def test_oc_009_and_010_a_node_counts_from_the_moment_it_is_ready_and_not_before() -> None:
    n1 = node("n1", H100, 8, eligible=False, excluded_reason="NotReady")
    snapshot = snap([H100], [n1, node("n2", H100, 4)], [model("a", 3)], [option("a", "h100", 4)])
    plan = planned(snapshot)
    assert nodes_of(plan, "a") == {"n2": 1}
    assert short(plan, "a").replicas == 2
    ready = replace(applied(snapshot, plan), nodes=(node("n1", H100, 8), node("n2", H100, 4)))
    assert nodes_of(planned(ready), "a") == {"n1": 2, "n2": 1}


def test_oc_011_eight_free_in_two_halves_are_not_eight() -> None:
    plan = planned(
        snap(
            [H100],
            [node("n1", H100, 4), node("n2", H100, 4)],
            [model("a", 1), model("b", 3)],
            [option("a", "h100", 8), option("b", "h100", 1)],
        )
    )
    assert (got(plan, "a"), got(plan, "b")) == (0, 3)
    first = short(plan, "a").reasons[0]
    assert (first.reason, first.largest_free, first.total_free) == (Reason.DEVICES_UNAVAILABLE, 4, 8)


def test_oc_012_without_defragmentation_nobody_is_moved_for_room() -> None:
    """Three nodes with 1, 2, 1 free and running replicas of 4, 2, 1: a request of 4 waits, nothing stops."""
    sizes = {1: option("s1", "h100", 1), 2: option("s2", "h100", 2), 4: option("s4", "h100", 4)}
    layout = {"n1": (4, 2, 1), "n2": (4, 2), "n3": (4, 2, 1)}
    running = [replica(f"{n}-{k}", sizes[k], n) for n, ks in layout.items() for k in ks]
    models = [model("a", 1), model("s1", 2), model("s2", 3), model("s4", 3)]
    plan = planned(snap([H100], [node(n, H100, 8) for n in layout], models, [option("a", "h100", 4), *sizes.values()], running))
    assert plan.stop == ()
    first = short(plan, "a").reasons[0]
    assert (first.reason, first.largest_free, first.total_free) == (Reason.DEVICES_UNAVAILABLE, 2, 4)


def test_oc_013_larger_than_every_node_is_permanent() -> None:
    nodes = [Node(f"n{i}", "h100", 2, 2, 0) for i in range(6)]
    plan = planned(snap([H100], nodes, [model("a", 1)], [option("a", "h100", 4)]))
    assert reason(plan, "a") == "NeverFits"
    assert "need 4, largest node has 2 installed" in short(plan, "a").reasons[0].message
    assert plan.starts == ()


def _preemption_nodes() -> tuple[list[Node], list[Option], list[Model], list[placement.Replica]]:
    high, low = option("high", "h100", 6), option("low", "h100", 1)
    nodes = [node(f"n{i}", H100, 8) for i in range(1, 5)]
    running = [replica(f"h{i}", high, f"n{i}") for i in range(1, 5)]
    running += [replica(f"l{i}{k}", low, f"n{i}") for i in range(1, 5) for k in "ab"]
    return nodes, [high, low], [model("high", 4, priority=100), model("low", 8)], running


def test_oc_014_no_eviction_that_cannot_help() -> None:
    """Evicting every low replica frees 2 per node: a request of 8 evicts nobody; a request of 1 evicts exactly one."""
    nodes, options, models, running = _preemption_nodes()
    big = planned(snap([H100], nodes, [*models, model("big", 1, priority=100)], [*options, option("big", "h100", 8)], running))
    assert (got(big, "big"), big.stop) == (0, ())
    small = planned(snap([H100], nodes, [*models, model("small", 1, priority=100)], [*options, option("small", "h100", 1)], running))
    assert got(small, "small") == 1
    assert len(small.stop) == 1
    assert small.stop[0].startswith("l")
    assert small.starts[0].after == small.stop


def test_oc_015_a_group_starts_whole_or_not_at_all() -> None:
    """12 nodes of one device, replicas of 4 pods, 4 wanted: 3 whole groups (12 pods), the fourth has none."""
    single = cell("ppu", sizes=(1,), per_node=1)
    nodes = [node(f"n{i:02d}", single, 1, total=1) for i in range(12)]
    snapshot = snap([single], nodes, [model("a", 4)], [option("a", "ppu", 4, span=4)])
    plan = planned(snapshot)
    groups = [s.node.split(",") for s in plan.starts]
    assert [len(g) for g in groups] == [4, 4, 4]
    assert sorted(n for g in groups for n in g) == [n.name for n in nodes]
    assert (got(plan, "a"), short(plan, "a").replicas) == (3, 1)
    first = short(plan, "a").reasons[0]
    assert (first.reason, first.largest_free, first.total_free) == (Reason.DEVICES_UNAVAILABLE, 0, 0)
    assert "need 4 whole nodes of one network domain, largest domain has 0 free" in first.message
    again = planned(applied(snapshot, plan))
    assert (again.starts, again.stop) == ((), ())


def test_oc_015_a_group_does_not_leave_its_network_domain() -> None:
    """3 nodes here and 1 there are no group of 4, and 4 nodes of which one is partly taken are none either."""
    here, there = (cell("ppu", f"p-{d}", pool="p", sizes=(1,), per_node=1, network_domain=d) for d in ("d1", "d2"))
    nodes = [*(node(f"n{i}", here, 1, total=1) for i in range(3)), node("n3", there, 1, total=1)]
    apart = planned(snap([here, there], nodes, [model("a", 1)], [option("a", "ppu", 4, span=4)]))
    assert (got(apart, "a"), reason(apart, "a")) == (0, "NeverFits")
    assert "need 4 whole nodes of one network domain, largest domain has 3 installed" in short(apart, "a").reasons[0].message
    wide = cell("ppu", sizes=(16,), per_node=16)
    partly = planned(snap([wide], [node("n1", wide, 16), node("n2", wide, 15)], [model("a", 1)], [option("a", "ppu", 32, span=2)]))
    assert (got(partly, "a"), reason(partly, "a")) == (0, "DevicesUnavailable")
    assert "need 2 whole nodes of one network domain, largest domain has 1 free" in short(partly, "a").reasons[0].message


def test_oc_016_a_full_pool_of_its_own_is_restricted_and_not_busy() -> None:
    a, b = cell("h100", "a"), cell("h100", "b")
    nodes = [node("n1", a, 8), node("n2", b, 0)]
    only_b = option("x", "h100", 4, pools=("b",))
    plan = planned(snap([a, b], nodes, [model("x", 2, restricted=True)], [only_b]))
    assert got(plan, "x") == 0
    first = short(plan, "x").reasons[0]
    assert first.reason is Reason.POOL_RESTRICTED
    assert "0 free in eligible b; 8 free on nodes it may not use (a)" in first.message
    assert plan.starts == ()


def test_oc_017_and_019_the_cheapest_size_that_fits_is_taken() -> None:
    """Sizes 1, 2, 4, 8 fit: 1 is taken. Where only 2 and 4 hold the model: 2."""
    plan = planned(snap([DIES], [node("n1", DIES, 16)], [model("a", 1)], [option("a", "910c", k) for k in (1, 2, 4, 8)]))
    assert [s.option for s in plan.starts] == ["ns/a|910c|default|vllm|1"]
    plan = planned(snap([DIES], [node("n1", DIES, 2, free_blocks=1)], [model("a", 1)], [option("a", "910c", k) for k in (2, 4)]))
    assert [s.option for s in plan.starts] == ["ns/a|910c|default|vllm|2"]


def test_oc_018_a_device_with_memory_taken_is_no_device_of_a_pair() -> None:
    """Two devices of 24 GiB, one with 4 GiB taken by a shared-mode pod; a replica of 42.9 GiB takes 21.45 of each and 4 + 21.45 > 24.

    A device with memory taken counts as held, so the pair is one free device: nothing starts, and the next plan does not try.
    """
    two = cell("h100", per_node=2)
    partly = node("n1", two, 1, total=2)
    snapshot = snap([two], [partly], [model("a", 1)], [option("a", "h100", 2)])
    for _ in range(2):
        plan = planned(snapshot)
        assert (got(plan, "a"), plan.starts) == (0, ())
        first = short(plan, "a").reasons[0]
        assert (first.reason, first.largest_free, first.total_free) == (Reason.DEVICES_UNAVAILABLE, 1, 1)
        assert "need 2 on one node, largest free 1, total free 1, held by other pods (1)" in first.message
    shared = replace(two, shared=True)
    apart = planned(snap([shared], [node("n1", shared, 2, total=2)], [model("a", 1)], [option("a", "h100", 2)]))
    assert (got(apart, "a"), reason(apart, "a")) == (0, "SharedDevices")


def test_oc_020_whole_cards_count_and_not_dies() -> None:
    """Dies 2 and 5 are taken: 14 dies are free, but 6 complete cards; size 3 is no size here."""
    n1 = node("n1", DIES, 14, free_blocks=6)
    plan = planned(snap([DIES], [n1], [model("b", 8)], [option("b", "910c", 2)]))
    assert got(plan, "b") == 6
    odd = planned(snap([DIES], [n1], [model("a", 1)], [option("a", "910c", 3)]))
    assert got(odd, "a") == 0
    assert reason(odd, "a") == "NeverFits"
    # Two more single dies fit beside the six cards, and they take the halves of the broken ones.
    both = planned(snap([DIES], [n1], [model("b", 6), model("c", 2)], [option("b", "910c", 2), option("c", "910c", 1)]))
    assert (got(both, "b"), got(both, "c")) == (6, 2)


def test_oc_020_under_the_default_scheduler_whole_nodes_and_single_dies_only() -> None:
    a3 = cell("a3")
    nodes = [node("n1", a3, 16), node("n2", a3, 15)]
    options = [option("a", "a3", 16), option("b", "a3", 1)]
    plan = planned(snap([a3], nodes, [model("a", 2), model("b", 15)], options))
    assert nodes_of(plan, "a") == {"n1": 1}
    assert nodes_of(plan, "b") == {"n2": 15}


def test_oc_021_shared_devices_are_for_those_who_allow_it() -> None:
    shared = replace(H100, shared=True)
    models = [model("a", 1), model("b", 1), model("c", 1, shared_ok=True)]
    options = [option("a", "h100", 4), option("b", "h100", 1), option("c", "h100", 1)]
    plan = planned(snap([shared], [node("n1", shared, 4, total=4)], models, options))
    assert (got(plan, "a"), got(plan, "b"), got(plan, "c")) == (0, 0, 1)
    assert reason(plan, "b") == "SharedDevices"


def test_oc_024_replicas_on_nodes_that_left_the_snapshot_stay() -> None:
    """Labels changed and no node matches: what runs counts and stays; a smaller size still takes some away."""
    a = option("a", "h100", 1)
    running = [replica(f"r{i}", a, "n1") for i in range(5)]
    plan = planned(snap([H100], [], [model("a", 5)], [a], running))
    assert (len(plan.keep), plan.stop, plan.shortfalls) == (5, (), ())
    fewer = planned(snap([H100], [], [model("a", 3)], [a], running))
    assert len(fewer.stop) == 2
