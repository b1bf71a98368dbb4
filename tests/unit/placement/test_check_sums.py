"""Demand, sums and change in the independent recount: a plan that breaks one rule is refused by name, without the break it passes."""

from __future__ import annotations

from dataclasses import replace

import placement
from placement.types import (
    Demand,
    ModelDemand,
    Option,
    Plan,
    Quota,
    Reason,
    Route,
    Snapshot,
    Spread,
)
from tests.unit.placement.fleet import cell, model, node, option, replica, snap
from tests.unit.placement.plans import A2, A4, A8, B4, FREE, NOTHING, H, go, made, passes, refused, short

# ---- what a plan says


def test_assignments_are_what_is_kept_and_started() -> None:
    fleet = snap([H], FREE, [model("a", 2)], [A4], [replica("r1", A4, "n1")])
    plan = made(fleet, keep=["r1"], starts=[go(A4, "n2", "h100")])
    passes(fleet, plan)
    moved = replace(plan, assignments=(replace(plan.assignments[0], node="n2"), plan.assignments[1]))
    refused("differ from keep plus starts", fleet, moved)


def test_the_cost_is_the_sum_of_its_parts() -> None:
    fleet = snap([H], FREE, [model("a", 1)], [A4])
    plan = made(fleet, starts=[go(A4, "n1", "h100")])
    assert plan.hourly_cost == 10.0
    refused("hourly cost: 9.9, recount 10.0", fleet, replace(plan, hourly_cost=9.9))


# ---- replicas and work


def test_minimum_and_maximum() -> None:
    fleet = snap([H], FREE, [model("a", 2)], [A4])
    passes(fleet, made(fleet, starts=[go(A4, "n1", "h100")] * 2))
    one = made(fleet, starts=[go(A4, "n1", "h100")])
    refused("1 replicas of at least 2, shortfall says 0", fleet, one)
    passes(fleet, replace(one, shortfalls=(short("a", 1),)))
    refused("3 replicas, maximum 2", fleet, made(fleet, starts=[go(A4, "n1", "h100"), *[go(A4, "n2", "h100")] * 2]))


def test_what_may_not_shrink_is_missed() -> None:
    fleet = snap([H], FREE, [model("a", 1, max_replicas=3)], [A4], [replica("r1", A4, "n1"), replica("r2", A4, "n1")])
    less = made(fleet, keep=["r1"], stop=["r2"])
    passes(fleet, less, Demand((ModelDemand("ns/a"),)))
    refused("1 replicas of at least 2, shortfall says 0", fleet, less, Demand((ModelDemand("ns/a", may_shrink=False),)))


def test_work_in_one_bucket() -> None:
    fleet = snap([H], FREE, [model("a", 1, max_replicas=4)], [replace(A4, work_per_s=3.0)])
    plan = made(fleet, starts=[go(A4, "n1", "h100")] * 2)
    passes(fleet, plan, Demand((ModelDemand("ns/a", 6.0),)))
    asked = Demand((ModelDemand("ns/a", 8.0),))
    refused("0.750000 of the work is served, shortfall says 0.000000", fleet, plan, asked)
    passes(fleet, replace(plan, shortfalls=(short("a", 1, 0.25),)), asked)
    refused("0.750000 of the work is served, shortfall says 0.200000", fleet, replace(plan, shortfalls=(short("a", 1, 0.2),)), asked)


def test_kv_cache() -> None:
    fleet = snap([H], FREE, [model("a", 1, max_replicas=4)], [replace(A4, kv_tokens=1000.0)])
    plan = made(fleet, starts=[go(A4, "n1", "h100")] * 2)
    passes(fleet, plan, Demand((ModelDemand("ns/a", kv_floor=2000.0),)))
    asked = Demand((ModelDemand("ns/a", kv_floor=2500.0),))
    refused("2000 tokens of KV cache, floor 2500, and no shortfall says so", fleet, plan, asked)
    passes(fleet, replace(plan, shortfalls=(short("a", 1),)), asked)


SHORT, LONG = replace(A4, bucket_work=(4.0, 1.0)), replace(A2, bucket_work=(1.0, 0.0))


def by_routes(*shares: tuple[int, Option, float]) -> list[Route]:
    return [Route(o.model, o.role, b, o.id, share) for b, o, share in shares]


def test_work_in_several_buckets_is_proven_by_routes() -> None:
    """Two replicas of 4/s and 1/s, one of 1/s and none; 5 and 1 are asked: 1 of 5 goes to the small one, the rest fills 4/4 + 1/1 = 2."""
    fleet = snap([H], FREE, [model("a", 1, max_replicas=5)], [SHORT, LONG])
    asked = Demand((ModelDemand("ns/a", 6.0, (5.0, 1.0)),))
    starts = [go(SHORT, "n1", "h100"), go(SHORT, "n1", "h100"), go(LONG, "n2", "h100")]
    right = by_routes((0, SHORT, 0.8), (0, LONG, 0.2), (1, SHORT, 1.0))
    passes(fleet, made(fleet, starts=starts, routes=right), asked)
    refused("routes fill 2.250000 replicas of " + SHORT.id + ", 2 are planned",
            fleet, made(fleet, starts=starts, routes=by_routes((0, SHORT, 1.0), (1, SHORT, 1.0))), asked)  # fmt: skip
    refused("routes serve 0.900000 of bucket 0, shortfall says 0.000000",
            fleet, made(fleet, starts=starts, routes=by_routes((0, SHORT, 0.7), (0, LONG, 0.2), (1, SHORT, 1.0))), asked)  # fmt: skip
    refused("bucket 1 goes to " + LONG.id + ", which does not serve it",
            fleet, made(fleet, starts=starts, routes=[*right, *by_routes((1, LONG, 0.1))]), asked)  # fmt: skip
    refused("not one of this model", fleet, made(fleet, starts=starts, routes=[*right, *by_routes((2, SHORT, 0.1))]), asked)
    refused("not one of this model", fleet, made(fleet, starts=starts, routes=[*right, *by_routes((0, LONG, float("nan")))]), asked)
    refused("no such model", fleet, made(fleet, starts=starts, routes=[*right, Route("ns/x", "", 0, SHORT.id, 0.1)]), asked)
    less = by_routes((0, SHORT, 0.8), (0, LONG, 0.1), (1, SHORT, 0.9))
    passes(fleet, made(fleet, starts=starts, routes=less, shortfalls=[short("a", 1, 0.1)]), asked)


def test_a_bucket_that_nobody_serves_is_said() -> None:
    fleet = snap([H], FREE, [model("a", 1, max_replicas=5)], [LONG])
    asked = Demand((ModelDemand("ns/a", 2.0, (1.0, 1.0)),))
    plan = made(fleet, starts=[go(LONG, "n1", "h100")], routes=by_routes((0, LONG, 1.0)))
    refused("no option serves buckets [1], and no shortfall says so", fleet, plan, asked)
    passes(fleet, replace(plan, shortfalls=(short("a", 1, 0.0, Reason.SLO_UNREACHABLE),)), asked)


PREFILL, DECODE = replace(A4, role="prefill", work_per_s=4.0), replace(A2, role="decode", work_per_s=1.0)


def test_each_role_covers_its_own_demand() -> None:
    fleet = snap([H], FREE, [model("a", 1, max_replicas=5)], [PREFILL, DECODE])
    asked = Demand((ModelDemand("ns/a", 2.0, role="decode"), ModelDemand("ns/a", 4.0, role="prefill")))
    starts = [go(PREFILL, "n1", "h100"), go(DECODE, "n1", "h100"), go(DECODE, "n1", "h100")]
    routes = by_routes((0, PREFILL, 1.0), (0, DECODE, 1.0))
    passes(fleet, made(fleet, starts=starts, routes=routes), asked)
    refused("ns/a/decode: routes fill 2.000000 replicas", fleet, made(fleet, starts=starts[:2], routes=routes), asked)
    refused("ns/a/decode: routes serve 0.000000 of bucket 0", fleet, made(fleet, starts=starts, routes=routes[:1]), asked)
    crossed = [routes[0], Route("ns/a", "decode", 0, PREFILL.id, 1.0)]
    faults = placement.check(fleet, asked, made(fleet, starts=starts, routes=crossed))
    assert any("ns/a/decode: route of bucket 0" in f and "not one of this model" in f for f in faults)


def test_a_request_is_prefilled_and_decoded_in_one_network() -> None:
    near, far = replace(H, name="x", network_domain="x"), replace(H, name="y", network_domain="y")
    nodes = [node("n1", near, 8), node("n2", far, 8)]
    fleet = snap([near, far], nodes, [model("a", 1, max_replicas=5, same_network=True)], [PREFILL, replace(DECODE, work_per_s=2.0)])
    asked = Demand((ModelDemand("ns/a", 2.0, role="decode"), ModelDemand("ns/a", 4.0, role="prefill")))

    def routed(decode: str) -> list[Route]:
        return [Route("ns/a", "prefill", 0, PREFILL.id, 1.0, "x"), Route("ns/a", "decode", 0, DECODE.id, 1.0, decode)]

    passes(fleet, made(fleet, starts=[go(PREFILL, "n1", "x"), go(DECODE, "n1", "x")], routes=routed("x")), asked)
    apart = made(fleet, starts=[go(PREFILL, "n1", "x"), go(DECODE, "n2", "y")], routes=routed("y"))
    faults = placement.check(fleet, asked, apart)
    assert faults
    assert all("is prefilled and" in f for f in faults)
    refused("routes fill 1.000000 replicas of " + DECODE.id, fleet, replace(apart, routes=tuple(routed("x"))), asked)


# ---- sums


def test_pool_limit_and_reserve() -> None:
    limited = snap([replace(H, limit_devices=6)], FREE, [model("a", 2)], [A2, A4])
    passes(limited, made(limited, starts=[go(A2, "n1", "h100"), go(A4, "n1", "h100")]))
    refused("pool h100: 8 devices, limit 6", limited, made(limited, starts=[go(A4, "n1", "h100")] * 2))
    kept = replace(limited, cells=(replace(H, reserve_devices=9),))
    passes(kept, made(kept, starts=[go(A2, "n1", "h100"), go(A4, "n1", "h100")]))
    refused("pool h100: 8 devices stay free, reserve 9", kept, made(kept, starts=[go(A4, "n1", "h100")] * 2))


def test_what_runs_above_a_lowered_limit_may_stay() -> None:
    fleet = snap([replace(H, limit_devices=4)], FREE, [model("a", 2)], [A4], [replica("r1", A4, "n1"), replica("r2", A4, "n2")])
    passes(fleet, made(fleet, keep=["r1", "r2"]))


def tenants(*quotas: Quota) -> Snapshot:
    other = cell("ppu")
    models = [model("a", 0, max_replicas=4, tenant="x"), model("b", 0, max_replicas=4, tenant="y")]
    options = [A4, B4, option("a", "ppu", 4)]
    return replace(
        snap([H, other], [*FREE, node("p1", other, 16)], models, options), policy=replace(snap([], [], [], []).policy, quotas=quotas)
    )


def test_quotas() -> None:
    fleet = tenants(Quota("x", 8))
    passes(fleet, made(fleet, starts=[go(A4, "n1", "h100")] * 2))
    passes(fleet, made(fleet, starts=[*[go(B4, "n1", "h100")] * 2, go(B4, "n2", "h100")]))
    refused("quota of x: 12 devices, at most 8", fleet, made(fleet, starts=[*[go(A4, "n1", "h100")] * 2, go(A4, "n2", "h100")]))
    some = tenants(Quota("x", 4, ("h100",)))
    passes(some, made(some, starts=[go(A4, "n1", "h100"), go(option("a", "ppu", 4), "p1", "ppu")]))
    refused("quota of x on h100: 8 devices, at most 4", some, made(some, starts=[go(A4, "n1", "h100")] * 2))


def test_quotas_that_lend() -> None:
    fleet = tenants(Quota("x", 4, borrow=True), Quota("y", 4))
    passes(fleet, made(fleet, starts=[go(A4, "n1", "h100")] * 2))
    faults = placement.check(fleet, NOTHING, made(fleet, starts=[*[go(A4, "n1", "h100")] * 2, go(B4, "n2", "h100")]))
    assert len(faults) == 2  # of the one that borrows and of the one that lent: together 12 of 8
    assert all("together with the quotas that lend 12 of 8" in f for f in faults)
    refused("quota of y: 8 devices, at most 4", fleet, made(fleet, starts=[go(B4, "n1", "h100")] * 2))
    apart = tenants(Quota("x", 4, ("h100",), borrow=True), Quota("y", 4))
    refused("quota of x on h100: 8 devices of 4", apart, made(apart, starts=[go(A4, "n1", "h100")] * 2))


def test_budgets() -> None:
    fleet = snap([H], FREE, [model("a", 2)], [A2, A4], max_hourly_cost=15.0)
    passes(fleet, made(fleet, starts=[go(A2, "n1", "h100"), go(A4, "n1", "h100")]))
    refused("fleet: 20.0 per hour, budget 15.0", fleet, made(fleet, starts=[go(A4, "n1", "h100")] * 2))
    own = snap([H], FREE, [model("a", 2, max_hourly_cost=15.0)], [A2, A4])
    passes(own, made(own, starts=[go(A2, "n1", "h100"), go(A4, "n1", "h100")]))
    refused("ns/a: 20.0 per hour, maximum 15.0", own, made(own, starts=[go(A4, "n1", "h100")] * 2))


def test_vendors() -> None:
    other = cell("ppu")
    p4 = option("a", "ppu", 4)
    fleet = snap([H, other], [*FREE, node("p1", other, 16)], [model("a", 2, max_replicas=3, min_vendors=2)], [A4, p4])
    passes(fleet, made(fleet, starts=[go(A4, "n1", "h100"), go(p4, "p1", "ppu")]))
    refused("1 vendors for 2 replicas, at least 2", fleet, made(fleet, starts=[go(A4, "n1", "h100")] * 2))
    shares = replace(fleet, models=(model("a", 3, max_vendor_share_percent=50),))
    passes(shares, made(shares, starts=[go(A4, "n1", "h100"), go(A4, "n1", "h100"), go(p4, "p1", "ppu")]))
    # 3 replicas: at most 1 + 50 % of 2 = 2 of one vendor.
    refused("3 of 3 replicas on nvidia, share 50 %", shares, made(shares, starts=[*[go(A4, "n1", "h100")] * 2, go(A4, "n2", "h100")]))


def test_failure_domains() -> None:
    one, two = replace(H, name="one", failure_domain="z1"), replace(H, name="two", failure_domain="z2")
    strict = model("a", 3, spread=Spread.STRICT)
    fleet = snap([one, two], [node("n1", one, 8), node("n2", two, 8)], [strict], [A2])
    plan = made(fleet, starts=[*[go(A2, "n1", "one")] * 2, go(A2, "n2", "two")])
    passes(fleet, plan)
    all_in_one = made(fleet, starts=[go(A2, "n1", "one")] * 3)
    refused("3 of 3 replicas in failure domain 'z1', strict spread of 50 %", fleet, all_in_one)
    passes(replace(fleet, models=(replace(strict, max_domain_share_percent=100),)), all_in_one)
    passes(replace(fleet, models=(replace(strict, spread=Spread.SOFT),)), all_in_one)
    # What runs and breaks the rule may stay; what starts may not make it worse, and helps elsewhere.
    running = replace(fleet, replicas=tuple(replica(f"r{i}", A2, "n1") for i in range(3)))
    passes(running, made(running, keep=["r0", "r1", "r2"]))
    more = replace(running, models=(replace(strict, min_replicas=4, max_replicas=4),))
    passes(more, made(more, keep=["r0", "r1", "r2"], starts=[go(A2, "n2", "two")]))
    refused("4 of 4 replicas in failure domain 'z1'", more, made(more, keep=["r0", "r1", "r2"], starts=[go(A2, "n1", "one")]))


# ---- change


def victims(**changes: object) -> Snapshot:
    """b has one replica of work 1 and wants it; a is of higher priority."""
    models = [model("a", 1, priority=9), replace(model("b", 1, max_replicas=2), **changes)]  # type: ignore[arg-type]
    return snap([H], [node("n1", H, 4)], models, [A4, replace(B4, work_per_s=1.0)], [replica("r1", B4, "n1")])


def test_protected_models_lose_nothing() -> None:
    taken = {"stop": ["r1"], "starts": [go(A4, "n1", "h100", "r1")], "shortfalls": [short("b", 1, 1.0)]}
    fleet = victims()
    passes(fleet, made(fleet, **taken))  # type: ignore[arg-type]
    refused("1 run, 0 planned, but preemption is off", kept := victims(preemptable=False), made(kept, **taken))  # type: ignore[arg-type]
    off = replace(fleet, policy=replace(fleet.policy, preemption=False))
    refused("1 run, 0 planned, but preemption is off", off, made(off, **taken))  # type: ignore[arg-type]
    above = victims(preemptable=False, min_replicas=0, max_replicas=0)
    passes(above, made(above, stop=["r1"], starts=[go(A4, "n1", "h100", "r1")]))


def test_protected_models_lose_no_work() -> None:
    fleet = victims(preemptable=False, min_replicas=0)
    asked = Demand((ModelDemand("ns/b", 1.0),))
    plan = made(fleet, stop=["r1"], starts=[go(A4, "n1", "h100", "r1")], shortfalls=[short("b", 1, 1.0)])
    refused("1.000000 of the work is served today, 0.000000 planned, but preemption is off", fleet, plan, asked)
    idle = made(fleet, stop=["r1"], starts=[go(A4, "n1", "h100", "r1")])
    passes(fleet, idle, Demand((ModelDemand("ns/b"),)))


def moved(**policy: object) -> tuple[Snapshot, Plan]:
    """a moves from dear to cheap devices, for money only."""
    cheap = replace(H, name="cheap", pool="cheap", cost_per_device_hour=1.0)
    fleet = snap([H, cheap], [FREE[0], node("n2", cheap, 8)], [model("a", 1)], [A4], [replica("r1", A4, "n1")], **policy)
    return fleet, made(fleet, stop=["r1"], starts=[go(A4, "n2", "cheap")])


def test_moves_left() -> None:
    fleet, plan = moved(max_moves=1)
    passes(fleet, plan)
    fleet, plan = moved(max_moves=0)
    refused("moves: 1, at most 0 are left", fleet, plan)


def test_moves_that_serve_somebody_are_exempt() -> None:
    """b needs 8 on one node, and a stands on n1: it moves to n2 where it has room."""
    fleet = snap([H], [FREE[0], node("n2", H, 4)], [model("a", 1), model("b", 1)], [A4, option("b", "h100", 8)],
                 [replica("r1", A4, "n1")], max_moves=0)  # fmt: skip
    starts = [go(A4, "n2", "h100"), go(option("b", "h100", 8), "n1", "h100", "r1")]
    passes(fleet, made(fleet, stop=["r1"], starts=starts))


def test_moves_that_serve_more_work_are_exempt() -> None:
    """Two small replicas make room for a strong one of the same model: a move, and 2 of 3 served becomes 3 of 3."""
    small, strong = replace(A4, work_per_s=1.0), replace(A8, work_per_s=3.0)
    fleet = snap([H], [FREE[0]], [model("a", 1, max_replicas=2)], [small, strong], [replica("r1", small, "n1"), replica("r2", small, "n1")],
                 max_moves=0)  # fmt: skip
    plan = made(fleet, stop=["r1", "r2"], starts=[go(strong, "n1", "h100", "r1", "r2")])
    passes(fleet, plan, Demand((ModelDemand("ns/a", 3.0),)))
    refused("moves: 1, at most 0 are left", fleet, plan, Demand((ModelDemand("ns/a", 2.0),)))


def test_young_replicas_stay() -> None:
    fleet, plan = moved()
    young = replace(fleet, replicas=(replace(fleet.replicas[0], resident=True),))
    refused("r1: stopped, but it is younger than its residence", young, plan)
    for high, text in ((0, "younger than its residence"), (9, "")):
        models = (model("a", 1, priority=high), model("b", 1))
        fleet = snap([H], [node("n1", H, 4)], models, [A4, B4], [replica("r1", B4, "n1", resident=True)])
        plan = made(fleet, stop=["r1"], starts=[go(A4, "n1", "h100", "r1")], shortfalls=[short("b", 1)])
        if text:
            refused(text, fleet, plan)
        else:
            passes(fleet, plan)
    above = snap([H], FREE, [model("a", 0)], [A4], [replica("r1", A4, "n1", resident=True)])
    passes(above, made(above, stop=["r1"]))


def test_only_missing_explanations_speak_of_a_shortfall() -> None:
    """While it searches the engine leaves explanations out, and the recount looks past exactly these faults."""
    fleet = snap([H], FREE, [model("a", 2), model("b", 1, max_replicas=1)], [A4, replace(B4, work_per_s=1.0, kv_tokens=1.0)])
    asked = Demand((ModelDemand("ns/b", 2.0, kv_floor=5.0),))
    plan = made(fleet, starts=[go(A4, "n1", "h100"), go(B4, "n2", "h100")])
    faults = placement.check(fleet, asked, plan)
    assert len(faults) == 3
    assert all("shortfall" in f for f in faults)
    assert placement.check(fleet, asked, plan, explained=False) == ()


def test_a_model_named_shortfall_hides_no_fault() -> None:
    """The name of a model is no reason to look past what is wrong with its replicas."""
    of = option("shortfall", "h100", 4)
    fleet = snap([H], FREE, [model("shortfall", 1)], [of])
    plan = made(fleet, starts=[go(of, "n1", "h100"), go(of, "n2", "h100")])
    assert placement.check(fleet, NOTHING, plan, explained=False) == ("ns/shortfall: 2 replicas, maximum 1",)
