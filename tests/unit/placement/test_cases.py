"""The failure cases of the placer, by their numbers: each builds the stated inputs and asserts the stated values."""

from __future__ import annotations

from dataclasses import replace

import pytest

import placement
from placement.types import Demand, Model, ModelDemand, Node, Option, Outcome, Reason, ReplicaState, Snapshot, Stock
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


def test_oc_016_a_full_pool_of_its_own_is_restricted_and_not_busy() -> None:
    a, b = cell("h100", "a"), cell("h100", "b")
    nodes = [node("n1", a, 8), node("n2", b, 0)]
    only_b = option("x", "h100", 4, pools=("b",))
    plan = planned(snap([a, b], nodes, [model("x", 2, restricted=True)], [only_b]))
    assert got(plan, "x") == 0
    first = short(plan, "x").reasons[0]
    assert first.reason is Reason.POOL_RESTRICTED
    assert "0 free in eligible b; 8 free on nodes it may not use (a)" in first.message


def test_oc_017_and_019_the_cheapest_size_that_fits_is_taken() -> None:
    """Sizes 1, 2, 4, 8 fit: 1 is taken. Where only 2 and 4 hold the model: 2."""
    plan = planned(snap([DIES], [node("n1", DIES, 16)], [model("a", 1)], [option("a", "910c", k) for k in (1, 2, 4, 8)]))
    assert [s.option for s in plan.starts] == ["ns/a|910c|default|vllm|1"]
    plan = planned(snap([DIES], [node("n1", DIES, 2, free_blocks=1)], [model("a", 1)], [option("a", "910c", k) for k in (2, 4)]))
    assert [s.option for s in plan.starts] == ["ns/a|910c|default|vllm|2"]


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


@pytest.mark.parametrize("solver", ["HiGHS", "CBC"])
def test_oc_073_and_079_names_are_never_solver_text(solver: str) -> None:
    """Names that a solver's format would merge, cut or refuse: each model gets its own."""
    names = ["team-a/qwen", "team_a-qwen/x", "a-b/c", "a/b-c", "9" * 63 + "/" + "8" * 63, "ns/模型-ü"]
    n1 = Node("n" * 253, "h100", 64, 64, 0)
    where = replace(H100, per_node=64)
    models = [Model(n, min_replicas=i + 1, max_replicas=i + 1) for i, n in enumerate(names)]
    options = [Option(f"{n}|o", n, "h100", "nvidia", "default", "vllm", 1) for n in names]
    plan = planned(Snapshot((where,), (n1,), tuple(models), tuple(options)), solvers=[solver])
    count = {a.model: a.replicas for a in plan.assignments}
    assert count == {n: i + 1 for i, n in enumerate(names)}


def test_oc_077_interchangeable_replicas_and_nodes_are_counts() -> None:
    """200 equal nodes and 1,000 equal replicas: 100 columns, not 200,000."""
    from placement.general import build as build_form
    from placement.problem import build
    from placement.snapshot import normalised

    nodes = [node(f"n{i:03d}", H100, 8) for i in range(200)]
    models = [model(f"m{i:03d}", 10) for i in range(100)]
    snapshot = normalised(snap([H100], nodes, models, [option(f"m{i:03d}", "h100", 1) for i in range(100)]))
    form = build_form(build(snapshot, tuple(ModelDemand(m.name) for m in snapshot.models))).form
    assert len(form.lower) <= 300
    plan = planned(snapshot)
    assert sum(a.replicas for a in plan.assignments) == 1000
    assert plan.outcome is Outcome.OPTIMAL


def test_oc_080_equal_nodes_that_join_move_nothing_whatever_the_solver() -> None:
    """Two replicas on n3 and n4; n0 and n5 join; the solver changes: still n3 and n4."""
    a = option("a", "h100", 4)
    nodes = [node(f"n{i}", H100, 8) for i in range(6)]
    running = [replica("r1", a, "n3"), replica("r2", a, "n4")]
    for solver in ("HiGHS", "CBC"):
        plan = planned(snap([H100], nodes, [model("a", 2)], [a], running), solvers=[solver])
        assert (plan.keep, plan.stop, plan.starts) == (("r1", "r2"), (), ())


def test_oc_099_devices_of_what_drains_are_held_for_the_winner() -> None:
    """n1 8 devices, low A 4 and B 4, high C of 8: both are stopped once; while A and B drain, C keeps its place and waits for both."""
    a, b, c = option("a", "h100", 4), option("b", "h100", 4), option("c", "h100", 8)
    models = [model("a", 1), model("b", 1), model("c", 1, priority=100)]
    running = [replica("ra", a, "n1"), replica("rb", b, "n1")]
    snapshot = snap([H100], [node("n1", H100, 8)], models, [a, b, c], running)
    plan = planned(snapshot)
    assert sorted(plan.stop) == ["ra", "rb"]
    assert plan.starts[0].after == ("ra", "rb")
    draining = [replace(running[1], state=ReplicaState.DRAINING)]
    later = planned(replace(snapshot, replicas=tuple(draining)))
    assert (got(later, "c"), got(later, "a"), later.stop) == (1, 0, ())
    assert later.starts[0].after == ("rb",)


def test_oc_101_free_devices_count_and_one_eviction_is_enough() -> None:
    """n1: 4 devices, 1 free, 1 low, 2 high. A high request of 2 evicts exactly one; a low one of 1 does not take the free device."""
    low, high, x, y = option("low", "h100", 1), option("high", "h100", 2), option("x", "h100", 2), option("y", "h100", 1)
    models = [model("low", 1), model("high", 1, priority=100), model("x", 1, priority=100), model("y", 1)]
    running = [replica("rl", low, "n1"), replica("rh", high, "n1")]
    plan = planned(snap([H100], [node("n1", H100, 4, total=4)], models, [low, high, x, y], running))
    assert plan.stop == ("rl",)
    assert (got(plan, "x"), got(plan, "y"), got(plan, "low")) == (1, 0, 0)


def test_oc_102_preemption_on_and_off() -> None:
    low, high = option("low", "h100", 1), option("high", "h100", 1)
    models = [model("low", 1), model("high", 1, priority=100)]
    snapshot = snap([H100], [node("n1", H100, 1, total=1)], models, [low, high], [replica("rl", low, "n1")])
    on = planned(snapshot)
    assert (on.stop, got(on, "high")) == (("rl",), 1)
    off = planned(replace(snapshot, policy=replace(snapshot.policy, preemption=False)))
    assert (off.stop, got(off, "high")) == ((), 0)
    assert reason(off, "high") == "DevicesUnavailable"
    assert "ns/low (1) of lower priority, preemption is off" in short(off, "high").reasons[0].message


def test_oc_103_a_lost_zone_is_replaced_in_another_and_does_not_move_back() -> None:
    zones = [cell("h100", f"h-{z}", pool="h", failure_domain=z) for z in ("z1", "z2", "z3")]
    a = option("a", "h100", 8)
    nodes = [node("n1", zones[0], 8), node("n1b", zones[0], 8), node("n2", zones[1], 8)]
    running = [replica("r1", a, "n1"), replica("r2", a, "n2")]
    snapshot = snap(zones, nodes, [model("a", 3)], [a], running)
    plan = planned(snapshot)
    assert nodes_of(plan, "a") == {"n1": 1, "n1b": 1, "n2": 1}
    again = replace(applied(snapshot, plan), nodes=(*nodes, node("n3", zones[2], 8)))
    back = planned(again)
    assert (back.stop, back.starts) == ((), ())


def test_oc_104_equal_cost_spreads_over_zones_and_nodes() -> None:
    zones = [cell("h100", f"h-{z}", pool="h", failure_domain=z) for z in ("z1", "z2", "z3")]
    a = option("a", "h100", 1)
    three = planned(snap(zones, [node(f"n{i}", z, 8) for i, z in enumerate(zones)], [model("a", 3)], [a]))
    assert sorted(nodes_of(three, "a").values()) == [1, 1, 1]
    two = planned(snap(zones[:2], [node(f"n{i}", z, 8) for i, z in enumerate(zones[:2])], [model("a", 3)], [a]))
    assert sorted(nodes_of(two, "a").values()) == [1, 2]
    one_zone = planned(snap([H100], [node("n1", H100, 8), node("n2", H100, 8)], [model("a", 2)], [a]))
    assert sorted(nodes_of(one_zone, "a").values()) == [1, 1]


def test_zero_capacity_drops_the_variable() -> None:
    """An option whose work rate is 0 or unknown never carries work, at whatever price."""
    slow, none = option("a", "ppu", 1, work_per_s=0.0), option("a", "910c", 1, work_per_s=None)
    many = Model("ns/a", min_replicas=0, max_replicas=5_000_000)
    snapshot = snap([PPU, DIES], [node("n1", PPU, 16), node("n2", DIES, 16)], [many], [slow, none])
    plan = planned(snapshot, Demand((ModelDemand("ns/a", 30.0),)))
    assert plan.starts == ()
    assert reason(plan, "a") == "NoOption"


def test_oc_024_replicas_on_nodes_that_left_the_snapshot_stay() -> None:
    """Labels changed and no node matches: what runs counts and stays; a smaller size still takes some away."""
    a = option("a", "h100", 1)
    running = [replica(f"r{i}", a, "n1") for i in range(5)]
    plan = planned(snap([H100], [], [model("a", 5)], [a], running))
    assert (len(plan.keep), plan.stop, plan.shortfalls) == (5, (), ())
    fewer = planned(snap([H100], [], [model("a", 3)], [a], running))
    assert len(fewer.stop) == 2


def test_an_option_that_is_gone_counts_and_is_never_grown() -> None:
    a = option("a", "h100", 1)
    orphan = replace(replica("r0", a, "n1"), option=None)
    plan = planned(snap([H100], [node("n1", H100, 8)], [model("a", 2)], [a], [orphan]))
    assert plan.keep == ("r0",)
    assert len(plan.starts) == 1


def test_hold_keeps_and_never_grows() -> None:
    a = option("a", "h100", 1)
    running = [replica(f"r{i}", a, "n1") for i in range(2)]
    for wanted in (1, 5):
        plan = planned(snap([H100], [node("n1", H100, 8)], [model("a", wanted, hold=True)], [a], running))
        assert (plan.keep, plan.starts, plan.stop, plan.shortfalls) == (("r0", "r1"), (), (), ())


def _vendors(models: list[Model], free: tuple[int, int, int]) -> Snapshot:
    cells = [H100, DIES, PPU]
    nodes = [node(f"{c.name}-0", c, n) for c, n in zip(cells, free, strict=True)]
    return snap(cells, nodes, models, [option("a", c.profile, 2) for c in cells])


def test_min_vendors_takes_each_once_and_then_the_cheapest() -> None:
    three = planned(_vendors([model("a", 3, min_vendors=3)], (8, 16, 16)))
    assert nodes_of(three, "a") == {"h100-0": 1, "910c-0": 1, "ppu-0": 1}
    five = planned(_vendors([model("a", 5, min_vendors=3)], (8, 16, 16)))
    assert nodes_of(five, "a") == {"h100-0": 1, "910c-0": 1, "ppu-0": 3}


def test_a_missing_vendor_is_a_spread_shortfall_with_its_place() -> None:
    """Only two vendors have room: two are placed, the third says which spread it breaks and which pool is full."""
    plan = planned(_vendors([model("a", 3, min_vendors=3)], (8, 16, 0)))
    assert nodes_of(plan, "a") == {"h100-0": 1, "910c-0": 1}
    reasons = {r.reason: r for r in short(plan, "a").reasons}
    assert list(reasons) == [Reason.SPREAD_UNSATISFIED, Reason.DEVICES_UNAVAILABLE]
    assert reasons[Reason.SPREAD_UNSATISFIED].pools == ("910c", "h100")
    assert reasons[Reason.DEVICES_UNAVAILABLE].pools == ("ppu",)


def test_a_lost_vendor_stops_nobody() -> None:
    """Two on NVIDIA and one on a PPU node that is lost: what runs stays, nothing more starts on NVIDIA alone."""
    snapshot = _vendors([model("a", 4, min_vendors=2)], (8, 0, 0))
    running = tuple(replica(f"r{i}", snapshot.options[0], "h100-0") for i in range(2))
    plan = planned(replace(snapshot, replicas=running))
    assert (plan.keep, plan.starts) == (("r0", "r1"), ())
    assert reason(plan, "a") == "SpreadUnsatisfied"


def test_vendor_share_is_a_bound_for_what_starts() -> None:
    """Share 50 %: of 4 at most 1 + 0.5 * 3 = 2 on one vendor."""
    plan = planned(_vendors([model("a", 4, max_vendor_share_percent=50)], (8, 16, 16)))
    assert sorted(nodes_of(plan, "a").items()) == [("910c-0", 2), ("ppu-0", 2)]


def test_budgets_of_a_model_and_of_the_fleet() -> None:
    """A replica of 2 PPU devices costs 1.40: a cap of 3.00 buys two."""
    capped = _vendors([model("a", 4, max_hourly_cost=3.0)], (0, 0, 16))
    plan = planned(capped)
    assert (got(plan, "a"), reason(plan, "a"), plan.hourly_cost) == (2, "BudgetExceeded", 2.8)
    fleet = _vendors([model("a", 4)], (0, 0, 16))
    plan = planned(replace(fleet, policy=replace(fleet.policy, max_hourly_cost=3.0)))
    assert (got(plan, "a"), reason(plan, "a")) == (2, "BudgetExceeded")


def test_a_lowered_budget_or_limit_stops_nothing_and_starts_nothing() -> None:
    a = option("a", "h100", 2)
    running = [replica(f"r{i}", a, "n1") for i in range(3)]
    base = snap([H100], [node("n1", H100, 8)], [model("a", 4, max_hourly_cost=10.0)], [a], running)
    plan = planned(base)
    assert (len(plan.keep), plan.starts, reason(plan, "a")) == (3, (), "BudgetExceeded")
    limited = replace(base, cells=(replace(H100, limit_devices=4),), models=(model("a", 4),))
    plan = planned(limited)
    assert (len(plan.keep), plan.starts, reason(plan, "a")) == (3, (), "DevicesUnavailable")
    assert "0 under its limit and reserve" in short(plan, "a").reasons[0].message


def test_limits_and_reserves_are_of_the_pool_over_all_its_cells() -> None:
    zones = [cell("h100", f"h-{z}", pool="h", failure_domain=z, limit_devices=10, reserve_devices=7) for z in ("z1", "z2")]
    nodes = [node(f"n{i}", z, 8) for i, z in enumerate(zones)]
    plan = planned(snap(zones, nodes, [model("a", 12)], [option("a", "h100", 1)]))
    assert got(plan, "a") == 9
    plan = planned(snap([replace(z, reserve_devices=0) for z in zones], nodes, [model("a", 12)], [option("a", "h100", 1)]))
    assert got(plan, "a") == 10


def test_a_cordoned_pool_keeps_and_takes_nothing() -> None:
    closed = replace(H100, schedulable=False)
    a = option("a", "h100", 1)
    plan = planned(snap([closed], [node("n1", closed, 8)], [model("a", 2)], [a], [replica("r0", a, "n1")]))
    assert (plan.keep, plan.starts, reason(plan, "a")) == (("r0",), (), "PoolCordoned")


def test_a_move_must_earn_its_price() -> None:
    """On 910C for 0.75, PPU for 0.70 saves 6.7 %: taken at 5 %, not at 10 %; the start waits for nobody, the old one stops."""
    a, b = option("a", "910c", 1), option("a", "ppu", 1)
    snapshot = snap([DIES, PPU], [node("n1", DIES, 16), node("n2", PPU, 16)], [model("a", 1)], [a, b], [replica("r0", a, "n1")])
    moved = planned(replace(snapshot, policy=replace(snapshot.policy, min_saving_percent=5.0)))
    assert (moved.stop, nodes_of(moved, "a")) == (("r0",), {"n2": 1})
    stays = planned(replace(snapshot, policy=replace(snapshot.policy, min_saving_percent=10.0)))
    assert (stays.keep, stays.starts) == (("r0",), ())
    none = planned(replace(snapshot, policy=replace(snapshot.policy, max_moves=0)))
    assert none.keep == ("r0",)


def test_max_moves_bounds_moves_and_not_scale_down() -> None:
    a, b = option("a", "h100", 1), option("a", "ppu", 1)
    running = [replica(f"r{i}", a, "n1") for i in range(4)]
    base = snap([H100, PPU], [node("n1", H100, 8), node("n2", PPU, 16)], [model("a", 4)], [a, b], running, max_moves=1)
    assert len(planned(base).starts) == 1
    fewer = planned(replace(base, models=(model("a", 1),)))
    assert (len(fewer.keep) + len(fewer.starts), len(fewer.starts) <= 1) == (1, True)


def test_nobody_is_stopped_for_an_equal_rank() -> None:
    """A runs one small replica where B of the same priority needs the whole node: B waits."""
    a, b = option("a", "h100", 1), option("b", "h100", 8)
    plan = planned(snap([H100], [node("n1", H100, 8)], [model("a", 1), model("b", 1)], [a, b], [replica("ra", a, "n1")]))
    assert (plan.stop, got(plan, "b"), reason(plan, "b")) == ((), 0, "DevicesUnavailable")


def test_the_evicted_are_served_elsewhere_if_there_is_room() -> None:
    """High needs the only H100 node; low moves to PPU in the same plan."""
    low, low2, high = option("low", "h100", 1), option("low", "ppu", 1), option("high", "h100", 8)
    nodes = [node("n1", H100, 8), node("n2", PPU, 16)]
    models = [model("low", 1), model("high", 1, priority=10)]
    plan = planned(snap([H100, PPU], nodes, models, [low, low2, high], [replica("rl", low, "n1")], min_saving_percent=99.0))
    assert plan.stop == ("rl",)
    assert (nodes_of(plan, "low"), nodes_of(plan, "high")) == ({"n2": 1}, {"n1": 1})
    assert plan.shortfalls == ()


def test_scale_down_stops_what_does_not_serve_first() -> None:
    a = option("a", "h100", 1)
    states = [ReplicaState.SERVING, ReplicaState.PENDING, ReplicaState.SERVING, ReplicaState.STARTING]
    running = [replica(f"r{i}", a, "n1", state=s, age_order=i) for i, s in enumerate(states)]
    plan = planned(snap([H100], [node("n1", H100, 8)], [model("a", 2)], [a], running))
    assert sorted(plan.stop) == ["r1", "r3"]
    plan = planned(snap([H100], [node("n1", H100, 8)], [model("a", 1)], [a], running))
    assert sorted(plan.stop) == ["r1", "r2", "r3"]  # of the serving ones the younger


def test_why_says_cheapest_dearer_and_excluded() -> None:
    cells = [H100, DIES, PPU]
    nodes = [node("n1", H100, 8), node("n2", DIES, 16), node("n3", PPU, 16)]
    options = [option("a", "h100", 2), option("a", "910c", 2, excluded_pools=("910c",)), option("a", "ppu", 2)]
    plan = planned(snap(cells, nodes, [model("a", 1)], options))
    rows = {w.profile: (w.reason, w.message) for w in plan.why}
    assert rows["ppu"][0] == "CheapestWithinSlo"
    assert rows["h100"] == ("CostsMore", "costs 3.6 more per hour and replica")
    assert rows["910c"][0] == "Excluded"
