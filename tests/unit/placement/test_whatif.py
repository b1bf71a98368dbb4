"""Every suggested fix is applied and planned again: what it promised is what happens, and nobody of equal or higher rank pays for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import placement
from placement.types import Demand, Model, ModelDemand, Node, PlacementError, Plan, Quota, Snapshot, Spread
from placement.whatif import Fix, Search, fixes, smallest_fix
from tests.unit.placement.fleet import cell, model, node, option, planned, replica, short, snap

H100 = cell("h100")
DIES = cell("910c")
PPU = cell("ppu")


def demand_of(snapshot: Snapshot) -> Demand:
    return Demand(tuple(ModelDemand(m.name) for m in snapshot.models))


def search(snapshot: Snapshot, name: str = "a", demand: Demand | None = None, most: int = 6) -> Search:
    """Each fix found is verified here once more, by another plan of the changed snapshot."""
    asked = demand or demand_of(snapshot)
    before = planned(snapshot, asked)
    found = fixes(snapshot, asked, before, f"ns/{name}", solve_plan=planned, most=most, tries=20)
    for fix in found.fixes:
        assert fix.snapshot is not None
        after = planned(fix.snapshot, asked)
        assert fix.before == gap(before, fix.model)
        assert fix.after == gap(after, fix.model)
        assert fix.after < fix.before
        assert fix.cost_per_hour == pytest.approx(after.hourly_cost - before.hourly_cost, abs=1e-6)
        rank = {m.name: m.priority for m in snapshot.models}
        for other, priority in rank.items():
            if priority >= rank[fix.model] and other != fix.model:
                assert gap(after, other) <= gap(before, other)
    return found


def gap(plan: Plan, name: str) -> tuple[int, float]:
    return next(((s.replicas, s.unmet_share) for s in plan.shortfalls if s.model == name), (0, 0.0))


def first(snapshot: Snapshot, name: str = "a", demand: Demand | None = None) -> Fix:
    return search(snapshot, name, demand).fixes[0]


def ppu(models: list[Model], free: int = 16, **policy: Any) -> Snapshot:
    return snap([PPU], [node("n1", PPU, free)], models, [option("a", "ppu", 2)], **policy)


def test_a_limit_is_raised_by_exactly_what_is_missing() -> None:
    """Two replicas of 2 under a limit of 2: 2 -> 4, for 1.40 more per hour, and the command sets that number."""
    limited = replace(PPU, limit_devices=2)
    fix = first(snap([limited], [node("n1", limited, 16)], [model("a", 2)], [option("a", "ppu", 2)]))
    assert (fix.change, fix.cost_per_hour, fix.before, fix.after) == ("apool/ppu limits.devices 2->4", 1.4, (1, 0.0), (0, 0.0))
    assert fix.command == 'kubectl patch apool ppu --type merge -p \'{"spec":{"limits":{"devices":4}}}\''
    assert fix.text() == "apool/ppu limits.devices 2->4 (+1.40 /h), shortfall 1->0"


def test_the_example_of_the_interface() -> None:
    """h100-a has 1 free of 2, a3-east 2 of 4, ppu-1 a limit of 4: the limit is the smallest fix, a freed device the next."""
    h, a3, p = cell("h100", "h100-a"), cell("910c", "a3-east"), cell("ppu", "ppu-1", limit_devices=4)
    nodes = [node("h100-01", h, 1), node("a3-e-01", a3, 2), node("ppu-01", p, 16)]
    options = [option("a", "h100", 2), option("a", "910c", 4), option("a", "ppu", 2)]
    found = search(snap([h, a3, p], nodes, [model("a", 3)], options), most=2).fixes
    assert [f.change for f in found] == [
        "apool/ppu-1 limits.devices 4->6",
        "node/h100-01: free 1 of 7 devices that other pods hold",
    ]
    assert [f.cost_per_hour for f in found] == [1.4, 5.0]


def test_a_reserve_is_lowered_by_exactly_what_is_missing() -> None:
    kept = replace(PPU, reserve_devices=15)
    fix = first(snap([kept], [node("n1", kept, 16)], [model("a", 2)], [option("a", "ppu", 2)]))
    assert fix.change == "apool/ppu reserve.devices 15->12"


def test_budgets_are_raised_by_the_price_of_what_is_missing() -> None:
    """Four replicas at 1.40 are 5.60; a cap of 3 buys two."""
    own = first(ppu([model("a", 4, max_hourly_cost=3.0)]))
    assert (own.change, own.cost_per_hour) == ("mdep/a placement.maxHourlyCost 3->5.6", 2.8)
    fleet = first(ppu([model("a", 4)], max_hourly_cost=3.0))
    assert (fleet.change, fleet.cost_per_hour) == ("fpol/default budget.maxHourlyCost 3->5.6", 2.8)
    assert fleet.command == 'kubectl patch fpol default --type merge -p \'{"spec":{"budget":{"maxHourlyCost":"5.6"}}}\''


def test_a_quota_is_raised_by_exactly_what_is_missing() -> None:
    fix = first(ppu([model("a", 4, tenant="t")], quotas=(Quota("t", 6), Quota("other", 2))))
    assert (fix.change, fix.after) == ("fpol/default quotas[t].devices 6->8", (0, 0.0))


def test_a_cordoned_pool_and_a_cordoned_node_are_opened() -> None:
    closed = replace(H100, schedulable=False)
    assert first(snap([closed], [node("n1", closed, 8)], [model("a", 1)], [option("a", "h100", 8)])).change == (
        "apool/h100 schedulable false->true"
    )
    out = node("n1", H100, 8, eligible=False, excluded_reason="Cordoned")
    fix = first(snap([H100], [out], [model("a", 1)], [option("a", "h100", 8)]))
    assert (fix.change, fix.command) == ("node/n1 unschedulable true->false", "kubectl uncordon n1")


def test_spread_rules_are_loosened_to_what_is_possible() -> None:
    """Three vendors wanted, two have room; at most half on one vendor where one vendor has room; one zone of two under a strict spread."""
    cells = [H100, DIES, PPU]
    nodes = [node("n1", H100, 8), node("n2", DIES, 16)]
    options = [option("a", c.profile, 2) for c in cells]
    vendors = first(snap(cells, nodes, [model("a", 3, min_vendors=3)], options))
    assert vendors.change == "mdep/a placement.spread.minVendors 3->2"
    share = first(snap([H100, DIES], nodes, [model("a", 4, max_vendor_share_percent=50)], [options[0], option("a", "910c", 16)]))
    assert share.change == "mdep/a placement.spread.maxVendorSharePercent 50->67"
    zones = [cell("h100", f"h-{z}", pool="h", failure_domain=z) for z in ("z1", "z2")]
    here = [node("m1", zones[0], 8), node("m2", zones[1], 0)]
    strict = model("a", 3, spread=Spread.STRICT)
    zone = first(snap(zones, here, [strict], [option("a", "h100", 1)]))
    assert zone.change == "mdep/a placement.spread.mode Strict->Soft"


def test_lists_and_sharing_are_widened() -> None:
    a, b = cell("h100", "a"), cell("h100", "b")
    only_b = option("a", "h100", 4, pools=("b",))
    fix = first(snap([a, b], [node("n1", a, 8), node("n2", b, 0)], [model("a", 2, restricted=True)], [only_b]))
    assert (fix.change, fix.command) == ("mdep/a placement.pools or placement.profiles: allow a", "kubectl edit mdep a -n ns")
    left_out = option("a", "h100", 4, excluded_pools=("a",))
    assert first(snap([a], [node("n1", a, 8)], [model("a", 1, restricted=True)], [left_out])).change.endswith("allow a")
    shared = replace(H100, shared=True)
    fix = first(snap([shared], [node("n1", shared, 8)], [model("a", 1)], [option("a", "h100", 1)]))
    assert fix.change == "mdep/a placement.sharing Exclusive->Shared"


def test_a_size_without_a_verdict_is_named_as_the_way_out() -> None:
    """16 devices never fit on nodes of 8; a size of 4 is there and not certified yet."""
    options = [option("a", "h100", 16), option("a", "h100", 4, eligible=False)]
    fix = first(snap([H100], [node("n1", H100, 8)], [model("a", 1)], options))
    assert fix.change == "mdep/a runtime.parallelism.tensor on h100 16->4 (no verdict yet)"
    assert fix.command == "kubectl polyfleet accuracy run a -n ns"


def test_nodes_are_added_only_where_nothing_less_helps_and_as_few_as_needed() -> None:
    """Three replicas of 8 on full nodes of 8: +3; OC-013's replicas of 4 on nodes of 2 in a pool that only has such: nothing helps."""
    full = snap([H100], [node("n1", H100, 8)], [model("a", 4)], [option("a", "h100", 8)])
    fix = first(full)
    assert fix.change == "apool/h100 nodes 1->4: +3 of h100 with 8 devices"
    small = replace(H100, per_node=2)
    nodes = [Node(f"n{i}", "h100", 2, 2, 0) for i in range(6)]
    found = search(snap([small], nodes, [model("a", 1)], [option("a", "h100", 4)]))
    assert found.fixes == ()
    assert "no single change helps" in found.message


def test_whole_nodes_of_one_domain_are_added_for_a_group() -> None:
    pod = replace(H100, sizes=(8,))
    fix = first(snap([pod], [node("n1", pod, 8)], [model("a", 1)], [option("a", "h100", 16, span=2)]))
    assert fix.change == "apool/h100 nodes 1->2: +1 of h100 with 8 devices"


def test_preemption_and_the_holder_are_named() -> None:
    low = option("low", "h100", 1)
    one = node("n1", H100, 1, total=1)
    models = [model("a", 1, priority=100), model("low", 1)]
    found = search(snap([H100], [one], models, [option("a", "h100", 1), low], [replica("rl", low, "n1")], preemption=False)).fixes
    assert [f.change for f in found[:2]] == [
        "fpol/default preemption.enabled false->true",
        "mdep/low -n ns replicas 1->0: frees 1 device on n1",
    ]
    assert found[0].command == 'kubectl patch fpol default --type merge -p \'{"spec":{"preemption":{"enabled":true}}}\''


def test_a_fix_never_makes_an_equal_rank_shorter() -> None:
    """Low holds the node with equal priority: preemption is on and no way out, giving up low's replica is its owner's choice."""
    low = option("low", "h100", 1)
    one = node("n1", H100, 1, total=1)
    models = [model("a", 1), model("low", 1)]
    found = search(snap([H100], [one], models, [option("a", "h100", 1), low], [replica("rl", low, "n1")])).fixes
    assert found[0].change.startswith("mdep/low -n ns replicas 1->0")
    assert all("preemption" not in f.change for f in found)


def test_a_change_that_another_model_would_take_is_no_fix() -> None:
    """One more device under the limit goes to b, which ranks higher and is short as well: a gets nothing by it. Two more serve both."""
    limited = replace(PPU, limit_devices=1)
    models = [model("a", 1), model("b", 2, priority=10)]
    base = snap([limited], [node("n1", limited, 4)], models, [option("a", "ppu", 1), option("b", "ppu", 1)])
    found = search(base)
    assert "apool/ppu limits.devices 1->2" in found.tried
    assert (found.fixes[0].change, found.fixes[0].cost_per_hour) == ("apool/ppu limits.devices 1->3", 1.4)
    assert first(base, "b").change == "apool/ppu limits.devices 1->2"


def test_more_work_than_the_maximum_carries_raises_the_maximum() -> None:
    """10 work/s, 2 per replica, at most 3 of them: 4 work/s are unmet; 5 replicas carry all."""
    a = option("a", "ppu", 1, work_per_s=2.0)
    m = Model("ns/a", min_replicas=1, max_replicas=3)
    asked = Demand((ModelDemand("ns/a", 10.0),))
    fix = first(snap([PPU], [node("n1", PPU, 16)], [m], [a]), demand=asked)
    assert (fix.change, fix.after) == ("mdep/a scaling.maxReplicas 3->5", (0, 0.0))
    assert fix.before[1] == pytest.approx(0.4)
    assert "unmet work 40->0 %" in fix.text()


def test_nothing_is_suggested_where_nothing_is_missing_or_known() -> None:
    snapshot = ppu([model("a", 1)])
    plan = planned(snapshot)
    assert smallest_fix(snapshot, demand_of(snapshot), plan, "ns/a", solve_plan=planned) is None
    with pytest.raises(PlacementError, match="'ns/b' is no model"):
        smallest_fix(snapshot, demand_of(snapshot), plan, "ns/b", solve_plan=planned)
    unknown = replace(PPU, stock=placement.Stock.UNKNOWN)
    dark = snap([unknown], [node("n1", unknown, 16)], [model("a", 1)], [option("a", "ppu", 2)])
    found = search(dark)
    assert (found.fixes, short(planned(dark), "a").reasons[0].reason.value) == ((), "InventoryUnknown")
