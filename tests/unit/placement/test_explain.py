"""Explanations: the first failing check in the order of the interface's reasons, with the numbers that a recount by hand gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from placement.explain import Explanation, Question, explain
from placement.types import (
    Demand,
    Model,
    ModelDemand,
    PlacementError,
    Quota,
    Reason,
    RowPrice,
    Snapshot,
    Spread,
)
from tests.unit.placement.fleet import cell, model, node, option, planned, reason, replica, short, snap

H100 = cell("h100")
DIES = cell("910c")
PPU = cell("ppu")


def asked(snapshot: Snapshot, about: str = "", name: str = "a", demand: Demand | None = None) -> Explanation:
    wanted = demand or Demand(tuple(ModelDemand(m.name) for m in snapshot.models))
    return explain(snapshot, wanted, planned(snapshot, wanted), Question(f"ns/{name}", about))


def one(where: object = H100, free: int = 8, *, size: int = 1, m: Model | None = None, **changes: object) -> Snapshot:
    """A model on its PPU pool, and a second pool that it is asked about."""
    second = where if not isinstance(where, str) else H100
    options = [option("a", "ppu", 1), option("a", "h100", size, **changes)]
    return snap([PPU, second], [node("n1", PPU, 16), node("n2", second, free)], [m or model("a", 1)], options)  # type: ignore[list-item, arg-type]


def test_each_check_in_the_order_of_the_reasons() -> None:
    """Every case fails exactly what it is built to fail; what was taken is the PPU for 0.70."""
    cases: list[tuple[Snapshot, str, str]] = [
        (one(eligible=False), "NotEligible", "no verdict lets this profile serve ns/a yet"),
        (one(excluded_pools=("h100",)), "Excluded", "left out by the placement rules"),
        (one(replace(H100, sizes=(1, 2)), size=4), "SizeNotAllowed", "a replica takes 4, one pod may ask for 1, 2 here"),
        (one(replace(H100, sizes=(1, 2, 16)), size=16), "NeverFits", "need 16, largest node has 8 installed"),
        (one(pools=("elsewhere",)), "PoolRestricted", "8 free on nodes that ns/a may not use"),
        (one(replace(H100, shared=True)), "SharedDevices", "its devices are shared and ns/a asks for exclusive ones"),
        (one(replace(H100, schedulable=False)), "PoolCordoned", "takes no new replicas (schedulable: false)"),
        (
            one(m=model("a", 1, max_hourly_cost=2.0)),
            "BudgetExceeded",
            "costs 2.5 per hour, above what the budget leaves (1.3 of 2 of the model)",
        ),
        (one(free=0), "DevicesUnavailable", "h100: need 1, largest free 0, total free 0, held by other pods (8)"),
        (one(replace(H100, limit_devices=0)), "DevicesUnavailable", "largest free 8, total free 8, 0 under its limit and reserve"),
    ]
    for snapshot, wanted, text in cases:
        found = asked(replace(snapshot, models=(replace(snapshot.models[0], max_replicas=2),)), "h100")
        assert (found.reason, text in found.message) == (wanted, True), found.message


def test_what_would_stand_in_the_way_next_follows() -> None:
    """Excluded, and cordoned, and full: the first is the reason, the others come after it in order."""
    closed = replace(H100, schedulable=False)
    found = asked(one(closed, 0, excluded_pools=("h100",), m=replace(model("a", 1), max_replicas=2)), "h100")
    assert found.reason == "Excluded"
    assert [c.reason for c in found.also] == ["PoolCordoned", "DevicesUnavailable"]
    assert found.lines()[1].startswith("then PoolCordoned: ")


def test_a_quota_a_vendor_share_and_a_strict_zone_are_named() -> None:
    spare = replace(model("a", 1), max_replicas=4)
    tenant = replace(spare, tenant="t")
    base = one(m=tenant, size=4)
    quota = replace(base, policy=replace(base.policy, quotas=(Quota("t", 4),)))
    found = asked(quota, "h100")
    assert (found.reason, found.message) == ("QuotaExceeded", "h100: one more replica takes 4 devices, the quota of t leaves 3 of 4")
    vendors = asked(one(m=replace(spare, max_vendor_share_percent=10, min_replicas=1)), "ppu")
    assert (vendors.reason, "maxVendorSharePercent 10" in vendors.message) == ("SpreadUnsatisfied", True)
    zoned = replace(PPU, failure_domain="z1")
    strict = snap([zoned], [node("n1", zoned, 16)], [replace(spare, spread=Spread.STRICT)], [option("a", "ppu", 1)])
    zone = asked(strict, "ppu")
    assert (zone.reason, "one more in failure domain z1 breaks the strict spread (at most 50 % in one domain)" in zone.message) == (
        "SpreadUnsatisfied",
        True,
    )


def test_it_costs_more_is_the_last_answer() -> None:
    spare = replace(model("a", 1), max_replicas=2)
    found = asked(one(m=spare), "h100")
    assert (found.reason, found.message) == ("CostsMore", "costs 1.8 more per hour and replica than what is used")
    used = asked(one(m=spare), "ppu")
    assert (used.reason, used.message) == ("CheapestWithinSlo", "it is used: 0.7 per hour and replica, the cheapest that fits")


def test_a_pool_and_a_profile_are_both_names() -> None:
    a, b = cell("h100", "east"), cell("h100", "west")
    snapshot = snap([a, b], [node("n1", a, 8), node("n2", b, 0)], [replace(model("a", 1), max_replicas=2)], [option("a", "h100", 8)])
    assert asked(snapshot, "west").message.startswith("west: need 8 on one node, largest free 0")
    assert asked(snapshot, "h100").reason == "DevicesUnavailable"  # east is used up by the model itself
    for about, name, text in (
        ("north", "a", "'north' is no profile or pool; there are: east, h100, west"),
        ("east", "x", "'ns/x' is no model"),
    ):
        with pytest.raises(PlacementError, match=text):
            explain(snapshot, Demand(), planned(snapshot), Question(f"ns/{name}", about))


def test_holders_are_named_by_devices() -> None:
    """8 devices: 4 of b, 2 of c, 1 of other pods, 1 free; a needs 2."""
    b, c = option("b", "h100", 4), option("c", "h100", 2)
    n1 = node("n1", H100, 7, total=8)
    models = [model("a", 1), model("b", 1), model("c", 1)]
    snapshot = snap([H100], [n1], models, [option("a", "h100", 2), b, c], [replica("rb", b, "n1"), replica("rc", c, "n1")])
    found = asked(snapshot, "h100")
    assert found.message == "h100: need 2 on one node, largest free 1, total free 1, held by ns/b (4), ns/c (2), other pods (1)"


def test_rings_and_whole_nodes_say_what_they_need() -> None:
    """Box16: 2 rings of 8. A request of 10 takes 5 of each; 8 + 4 free are 12 devices and no 10. 910A: 3 + 3 free are no 4."""
    box = replace(DIES, sizes=(1, 2, 4, 8, 10, 16), align_to=1, ring=8)
    halves = snap([box], [node("n1", box, 12, free_rings=(8, 4))], [model("a", 1)], [option("a", "910c", 10)])
    found = asked(halves, "910c")
    assert found.message.startswith("910c: need 10 in equal shares of 2 rings, largest free 8, total free 12")
    ring = replace(H100, sizes=(1, 2, 4, 8), ring=4)
    four = asked(snap([ring], [node("n1", ring, 6, free_rings=(3, 3))], [model("a", 1)], [option("a", "h100", 4)]), "h100")
    assert four.message.startswith("h100: need 4 on one node, largest free 3, total free 6")


def test_a_length_that_nobody_serves_is_unreachable() -> None:
    """Two length buckets; one option serves only the first: the second is named, whatever is placed."""
    a = option("a", "ppu", 1, work_per_s=1.0, bucket_work=(2.0, 0.0))
    m = Model("ns/a", min_replicas=1, max_replicas=4)
    wanted = Demand((ModelDemand("ns/a", 4.0, (2.0, 2.0)),))
    plan = planned(snap([PPU], [node("n1", PPU, 16)], [m], [a]), wanted)
    assert reason(plan, "a") == "SloUnreachable"
    assert "no option serves length bucket 1 within the SLO" in short(plan, "a").reasons[0].message
    found = asked(snap([PPU], [node("n1", PPU, 16)], [m], [a, option("a", "h100", 1, bucket_work=(0.0, 0.0))]), "h100", demand=wanted)
    assert (found.reason, "no pool of this fleet has the profile h100" in found.message) == ("NoPool", True)


def test_missing_tokens_of_cache_are_a_shortfall() -> None:
    """A floor of 100 tokens, 30 per replica, 3 devices: 90 are there, 10 are missing, one replica more would do."""
    a = option("a", "ppu", 1, kv_tokens=30.0, work_per_s=1.0)
    m = Model("ns/a", min_replicas=1, max_replicas=8)
    wanted = Demand((ModelDemand("ns/a", 1.0, kv_floor=100.0),))
    plan = planned(snap([PPU], [node("n1", PPU, 3)], [m], [a]), wanted)
    assert short(plan, "a").replicas == 1
    assert "10 tokens of KV cache are missing" in short(plan, "a").reasons[0].message


def test_the_role_that_is_short_is_named() -> None:
    """Prefill needs 2 replicas and decode 3; 4 devices."""
    prefill, decode = (
        option("a", "ppu", 1, id="p", role="prefill", work_per_s=1.0),
        option("a", "ppu", 1, id="d", role="decode", work_per_s=1.0),
    )
    m = Model("ns/a", min_replicas=0, max_replicas=8)
    wanted = Demand((ModelDemand("ns/a", 2.0, role="prefill"), ModelDemand("ns/a", 3.0, role="decode")))
    plan = planned(snap([PPU], [node("n1", PPU, 4)], [m], [prefill, decode]), wanted)
    first = short(plan, "a").reasons[0]
    assert first.reason is Reason.DEVICES_UNAVAILABLE
    assert first.message.startswith(("prefill: ppu: need 1", "decode: ppu: need 1"))


def test_prices_are_called_lp_prices_and_only_of_rows_that_matter() -> None:
    snapshot = snap([H100, PPU], [node("n1", H100, 0), node("n2", PPU, 0)], [model("a", 1)], [option("a", "h100", 8)])
    wanted = Demand((ModelDemand("ns/a"),))
    rows = (RowPrice("bins/h100/8", 0.0, 8308.0), RowPrice("bins/ppu/1", 0.0, 5.0), RowPrice("quota/t", 0.0, 2.0))
    plan = replace(planned(snapshot, wanted), rows=rows)
    found = explain(snapshot, wanted, plan, Question("ns/a", "h100"))
    assert [row.name for row in found.prices] == ["bins/h100/8"]
    assert found.lines()[-1] == "one more place of 8 devices in h100 is worth 8308 in the objective (LP price)"
    assert "LP relaxation" in found.note


def test_a_model_that_lacks_nothing_says_where_it_is() -> None:
    found = asked(one())
    assert (found.reason, found.message) == ("CheapestWithinSlo", "1 of 1 replicas have a place: ppu in ppu")
    assert found.lines()[1:] == [
        "ppu in ppu: CheapestWithinSlo, 0.7 per hour and replica, the cheapest that fits",
        "h100: CostsMore, costs 1.8 more per hour and replica",
    ]
