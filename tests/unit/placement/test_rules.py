"""Every rule of the placer in one small fleet: spread over vendors, budgets, limits, moves, sharing, what is kept and what stops first."""

from __future__ import annotations

from dataclasses import replace

from placement.types import Demand, Model, ModelDemand, Reason, ReplicaState, Snapshot
from tests.unit.placement.fleet import cell, got, model, node, nodes_of, option, planned, reason, replica, short, snap

H100 = cell("h100")
DIES = cell("910c")
PPU = cell("ppu")


def test_zero_capacity_drops_the_variable() -> None:
    """An option whose work rate is 0 or unknown never carries work, at whatever price."""
    slow, none = option("a", "ppu", 1, work_per_s=0.0), option("a", "910c", 1, work_per_s=None)
    many = Model("ns/a", min_replicas=0, max_replicas=5_000_000)
    snapshot = snap([PPU, DIES], [node("n1", PPU, 16), node("n2", DIES, 16)], [many], [slow, none])
    plan = planned(snapshot, Demand((ModelDemand("ns/a", 30.0),)))
    assert plan.starts == ()
    assert reason(plan, "a") == "NoOption"


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
