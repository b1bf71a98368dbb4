"""Rules of the general form, each on a fleet that can be reckoned by hand: roles, networks, KV cache, length buckets, start price, moves,
residence, preemption, strict spread."""

from __future__ import annotations

from dataclasses import replace

import pytest

import placement
from placement.types import Demand, Model, ModelDemand, Plan, Reason, Snapshot, Spread
from tests.unit.placement.fleet import cell, got, model, node, option, planned, replica, short, snap

BOTH = pytest.mark.parametrize("solver", ["HiGHS", "CBC"])
H100 = cell("h100", cost_per_device_hour=1.0)


def load(name: str, *buckets: float, **more: object) -> ModelDemand:
    return replace(ModelDemand(f"ns/{name}", sum(buckets), buckets if len(buckets) > 1 else (), reason="Load"), **more)  # type: ignore[arg-type]


def free(name: str, **more: object) -> Model:
    return replace(Model(f"ns/{name}", min_replicas=1, max_replicas=50), **more)  # type: ignore[arg-type]


def count(plan: Plan, ident: str) -> int:
    return sum(a.replicas for a in plan.assignments if a.option == ident)


def split(**more: object) -> tuple[Snapshot, Demand]:
    """6 work/s of prefill at 2 per replica, 12 of decode at 3 per replica: 3 and 4 replicas of one device."""
    p = option("a", "h100", 1, id="a-p", role="prefill", work_per_s=2.0)
    d = option("a", "h100", 1, id="a-d", role="decode", work_per_s=3.0)
    demand = Demand((load("a", 6.0, role="prefill"), load("a", 12.0, role="decode")))
    return snap([H100], [node("n1", H100, 8)], [free("a", **more)], [p, d]), demand


@BOTH
def test_the_ratio_of_roles_follows_from_their_loads(solver: str) -> None:
    snapshot, demand = split()
    plan = planned(snapshot, demand, solvers=[solver])
    assert (count(plan, "a-p"), count(plan, "a-d")) == (3, 4)
    assert {(r.role, r.bucket, r.option, r.share) for r in plan.routes} == {("prefill", 0, "a-p", 1.0), ("decode", 0, "a-d", 1.0)}


@BOTH
def test_both_roles_are_short_together(solver: str) -> None:
    """Five devices: 2 + 3 serve min(4/6, 9/12) = 2/3 of both; 3 + 2 only 1/2, 1 + 4 only 1/3."""
    snapshot, demand = split()
    plan = planned(replace(snapshot, nodes=(node("n1", H100, 5),)), demand, solvers=[solver])
    assert (count(plan, "a-p"), count(plan, "a-d")) == (2, 3)
    assert short(plan, "a").unmet_share == pytest.approx(1 / 3)


@BOTH
def test_a_request_stays_in_one_network(solver: str) -> None:
    """Four free devices in each of two networks. Any 7 devices serve all; within networks each of them holds 2 + 2 and serves
    min(4/6, 6/12) = 1/2, or 1 + 3: min(2/6, 9/12) = 1/3. So 2 + 2 and 2 + 2 serve everything, in halves."""
    one, two = (replace(H100, name=f"h100-{n}", network_domain=n) for n in ("n1", "n2"))
    snapshot, demand = split()
    apart = replace(snapshot, cells=(one, two), nodes=(node("x", one, 4), node("y", two, 4)))
    assert len(planned(apart, demand, solvers=[solver]).starts) == 7
    joined = replace(apart, models=(replace(apart.models[0], same_network=True),))
    plan = planned(joined, demand, solvers=[solver])
    per = {
        (c, o): sum(a.replicas for a in plan.assignments if (a.cell, a.option) == (c, o))
        for c in ("h100-n1", "h100-n2")
        for o in ("a-p", "a-d")
    }
    assert set(per.values()) == {2}
    assert not plan.shortfalls
    shares = {(r.network, r.role): r.share for r in plan.routes}
    assert shares == {(n, r): pytest.approx(0.5) for n in ("n1", "n2") for r in ("prefill", "decode")}


@BOTH
def test_replicas_hold_the_kv_floor_together(solver: str) -> None:
    """Work asks for one replica, 25 tokens of KV cache at 10 per replica for three; two hold 20 of 25."""
    o = option("a", "h100", 1, work_per_s=9.0, kv_tokens=10.0)
    demand = Demand((load("a", 4.0, kv_floor=25.0),))
    assert got(planned(snap([H100], [node("n1", H100, 8)], [free("a")], [o]), demand, solvers=[solver]), "a") == 3
    two = planned(snap([H100], [node("n1", H100, 2)], [free("a")], [o]), demand, solvers=[solver])
    assert got(two, "a") == 2
    assert short(two, "a").reasons[0].reason is Reason.DEVICES_UNAVAILABLE
    silent = replace(o, kv_tokens=None)
    unknown = planned(snap([H100], [node("n1", H100, 8)], [free("a")], [silent]), demand, solvers=[solver])
    assert short(unknown, "a").reasons[0].reason is Reason.SLO_UNREACHABLE


@BOTH
def test_a_length_that_nobody_serves_is_reported_and_never_priced(solver: str) -> None:
    """Two of the option's replicas carry the bucket that it serves; the other one buys nothing, however much is free."""
    o = option("a", "h100", 1, bucket_work=(2.0, 0.0))
    plan = planned(snap([H100], [node("n1", H100, 8)], [free("a")], [o]), Demand((load("a", 4.0, 7.0),)), solvers=[solver])
    assert got(plan, "a") == 2
    assert plan.hourly_cost == 2.0
    assert [r.reason for r in short(plan, "a").reasons] == [Reason.SLO_UNREACHABLE]
    assert short(plan, "a").unmet_share == 0.0  # of the lengths that are served at all


@BOTH
def test_a_mix_beats_each_option_alone(solver: str) -> None:
    """Short ones cost 1 on s and long ones 1 on l; alone s needs 4 + 4/0.5 = 12, l 4/0.5 + 4 = 12, together 4 + 4 = 8 replicas."""
    s, large = (option("a", "h100", 1, id=f"a-{i}", bucket_work=r) for i, r in (("s", (1.0, 0.5)), ("l", (0.5, 1.0))))
    plan = planned(
        snap([H100], [node("n1", H100, 8), node("n2", H100, 8)], [free("a")], [s, large]), Demand((load("a", 4.0, 4.0),)), solvers=[solver]
    )
    assert (count(plan, "a-s"), count(plan, "a-l")) == (4, 4)


@BOTH
def test_a_slow_start_has_its_price(solver: str) -> None:
    """1 per hour and 3,600 s to start: 1 + 1 * 3600 / 1800 = 3 in the first hour, against 2 per hour at once. Without a price of starts, or
    once the slow one runs, the cheap one is the better."""
    cheap, dear = replace(H100, name="cheap", pool="cheap"), replace(H100, name="dear", pool="dear", cost_per_device_hour=2.0)
    slow = option("a", "h100", 1, id="slow", pools=("cheap",), start_seconds=3600.0)
    fast = option("a", "h100", 1, id="fast", pools=("dear",), start_seconds=0.0)
    fleet = snap([cheap, dear], [node("n1", cheap, 8), node("n2", dear, 8)], [model("a", 1)], [slow, fast])
    assert count(planned(fleet, solvers=[solver]), "fast") == 1
    assert count(planned(replace(fleet, policy=replace(fleet.policy, start_price=0.0)), solvers=[solver]), "slow") == 1
    running = planned(replace(fleet, replicas=(replica("r", slow, "n1"),)), solvers=[solver])
    assert (running.starts, running.stop) == ((), ())
    silent = replace(fleet, options=(replace(slow, start_seconds=None), fast))
    assert count(planned(silent, solvers=[solver]), "slow") == 1


def cheaper(**more: object) -> Snapshot:
    """a and b run on devices at 10 per hour; the same at 1 per hour is free."""
    dear, cheap = replace(H100, name="dear", pool="dear", cost_per_device_hour=10.0), replace(H100, name="cheap", pool="cheap")
    options = [option(n, "h100", 1) for n in "ab"]
    running = [replica(f"r{n}", o, "n1") for n, o in zip("ab", options, strict=True)]
    fleet = snap([dear, cheap], [node("n1", dear, 8), node("n2", cheap, 8)], [model("a", 1), model("b", 1)], options, running)
    return replace(fleet, policy=replace(fleet.policy, **more))  # type: ignore[arg-type]


@BOTH
def test_moves_for_money_are_those_that_are_left(solver: str) -> None:
    assert [len(planned(cheaper(max_moves=most), solvers=[solver]).stop) for most in (None, 2, 1, 0)] == [2, 2, 1, 0]


@BOTH
def test_a_young_replica_is_not_moved_for_money(solver: str) -> None:
    fleet = cheaper()
    young = replace(fleet, replicas=(replace(fleet.replicas[0], resident=True), fleet.replicas[1]))
    assert planned(young, solvers=[solver]).stop == ("rb",)


@BOTH
def test_what_a_higher_rank_needs_is_no_move_for_money(solver: str) -> None:
    """No move is left and the one replica is young, but a model of higher priority can run only there: it moves to the other pool."""
    one, two = replace(H100, name="one", pool="one"), replace(H100, name="two", pool="two")
    low, high = option("low", "h100", 1), option("high", "h100", 1, pools=("one",))
    running = [replica("r", low, "n1", resident=True)]
    fleet = snap(
        [one, two], [node("n1", one, 1), node("n2", two, 1)], [model("low", 1), model("high", 1, priority=5)], [low, high], running
    )
    plan = planned(replace(fleet, policy=replace(fleet.policy, max_moves=0)), solvers=[solver])
    assert plan.stop == ("r",)
    assert (got(plan, "low"), got(plan, "high"), plan.moves) == (1, 1, 1)


@BOTH
def test_of_two_victims_the_young_one_stays(solver: str) -> None:
    low, high = option("low", "h100", 1), option("high", "h100", 1)
    running = [replica("old", low, "n1"), replica("young", low, "n1", resident=True)]
    fleet = snap([H100], [node("n1", H100, 2)], [model("low", 2), model("high", 1, priority=5)], [low, high], running)
    assert planned(fleet, solvers=[solver]).stop == ("old",)


@BOTH
def test_a_model_that_may_not_be_preempted_keeps_what_it_has(solver: str) -> None:
    low, high = option("low", "h100", 1), option("high", "h100", 1)
    for kept in (True, False):
        models = [model("low", 1, preemptable=not kept), model("high", 1, priority=5)]
        fleet = snap([H100], [node("n1", H100, 1)], models, [low, high], [replica("r", low, "n1")])
        plan = planned(fleet, solvers=[solver])
        assert (got(plan, "low"), got(plan, "high")) == ((1, 0) if kept else (0, 1))


@BOTH
@pytest.mark.parametrize(("percent", "most"), [(50, 3), (60, 3), (34, 2), (100, 5)])
def test_strict_spread_bounds_each_failure_domain(solver: str, percent: int, most: int) -> None:
    """Five replicas: at most 1 + a * 4 of them in one domain, though all of z1 is half the price."""
    zones = [replace(H100, name=z, failure_domain=z, cost_per_device_hour=c) for z, c in (("z1", 1.0), ("z2", 2.0), ("z3", 2.0))]
    a = model("a", 5, spread=Spread.STRICT, max_domain_share_percent=percent)
    plan = planned(snap(zones, [node(f"n-{c.name}", c, 8) for c in zones], [a], [option("a", "h100", 1)]), solvers=[solver])
    assert sum(x.replicas for x in plan.assignments if x.cell == "z1") == most
    assert got(plan, "a") == 5


@BOTH
def test_what_breaks_a_strict_spread_may_stay_and_does_not_grow(solver: str) -> None:
    """Three of three run in z1 and z2 is full: nobody stops, and the fourth waits."""
    one, two = (replace(H100, name=z, failure_domain=z) for z in ("z1", "z2"))
    o = option("a", "h100", 1)
    running = [replica(f"r{i}", o, "n1") for i in range(3)]
    fleet = snap([one, two], [node("n1", one, 8), node("n2", two, 0)], [model("a", 4, spread=Spread.STRICT)], [o], running)
    plan = planned(fleet, solvers=[solver])
    assert (plan.starts, plan.stop) == ((), ())
    assert short(plan, "a").replicas == 1
    roomy = replace(fleet, nodes=(fleet.nodes[0], node("n2", two, 8)))
    assert [s.cell for s in planned(roomy, solvers=[solver]).starts] == ["z2"]


def test_no_fault_of_the_input_leaves_plan_as_another_error() -> None:
    snapshot, demand = split()
    bad = (
        (replace(snapshot, options=(snapshot.options[0], replace(snapshot.options[1], role="")), models=snapshot.models), demand),
        (snapshot, Demand(demand.models[:1])),
        (snapshot, Demand((demand.models[0], replace(demand.models[1], bucket_work=(4.0, 8.0))))),
        (replace(snapshot, models=(replace(snapshot.models[0], same_network=True),)), Demand()),
        (snapshot, Demand((replace(demand.models[0], kv_floor=float("nan")), demand.models[1]))),
    )
    for s, d in bad:
        with pytest.raises(placement.PlacementError):
            placement.plan(s, d)
