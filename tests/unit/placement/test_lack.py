"""What a model lacks, counted on the live fleet: for requests that stay in one network domain, per domain."""

from __future__ import annotations

from dataclasses import replace

import pytest

import placement
from placement.lack import lack
from placement.ladder import downs
from placement.live import Live
from placement.types import Demand, ModelDemand, Option, Plan, Replica, Snapshot
from tests.unit.placement.fleet import cell, model, node, option, planned, replica, snap
from tests.unit.placement.instances import wide

N1, N2 = (replace(cell("h100", name), network_domain=name) for name in ("n1", "n2"))
PREFILL = replace(option("a", "h100", 1), id="a-p", role="prefill", work_per_s=1.0)
DECODE = replace(option("a", "h100", 2), id="a-d", role="decode", work_per_s=1.0)


def split(load: float, *running: Replica) -> tuple[Snapshot, Demand]:
    made = snap(
        [N1, N2], [node("x", N1, 8), node("y", N2, 8)], [model("a", 0, max_replicas=9, same_network=True)], [PREFILL, DECODE], running
    )
    return made, Demand(tuple(ModelDemand("ns/a", load, role=role) for role in ("prefill", "decode")))


def standing(snapshot: Snapshot, demand: Demand) -> Live:
    kept: Plan = planned(snapshot, demand, solvers=[])
    return Live.of(snapshot, demand, replace(kept, starts=(), stop=()))


def unmet(live: Live) -> float:
    found = lack(live, "ns/a")
    return 0.0 if found is None else found.unmet


def test_what_runs_in_two_networks_carries_nothing_together() -> None:
    """Prefill in one network and decode in the other serve nobody; each further replica counts where it starts."""
    snapshot, demand = split(2.0, replica("p", PREFILL, "x"), replica("d", DECODE, "y"))
    live = standing(snapshot, demand)
    assert unmet(live) == 1.0
    before = live.states("x")
    live.start(live.options["a-d"], live.cell_index["n1"], "x")
    assert unmet(live) == pytest.approx(0.5)
    live.undo(live.options["a-d"], live.cell_index["n1"], before)
    assert unmet(live) == 1.0


def test_the_ladder_steps_down_where_the_network_has_more_than_it_needs() -> None:
    """One of each role in x, two of prefill and one of decode in y: only the second prefill of y carries nothing."""
    at: list[tuple[str, Option, str]] = [
        ("p1", PREFILL, "x"), ("d1", DECODE, "x"), ("p2", PREFILL, "y"), ("p3", PREFILL, "y"), ("d2", DECODE, "y")
    ]  # fmt: skip
    snapshot, demand = split(2.0, *(replica(*each) for each in at))
    steps = downs(standing(snapshot, demand), "ns/a")
    assert [(s.option, s.node) for s in steps] == [("a-p", "y")]


def test_a_plan_without_a_solver_owns_up_to_what_networks_cannot_carry() -> None:
    """Seed 103 of the wide instances: a split deployment that could serve nothing was said to be 0.333 short, so `check` refused the
    plan."""
    snapshot, demand = wide(103)
    plan, _ = placement.plan(snapshot, demand, solvers=[])
    assert placement.check(snapshot, demand, plan) == ()
    assert plan.outcome.value == "Greedy"
    assert "refused" not in plan.message


@pytest.mark.parametrize("networks", [False, True])
def test_a_length_that_one_role_cannot_serve_is_left_out_of_both(networks: bool) -> None:
    """Nobody decodes the second length, so prefilling it is of no use: one replica of each role carries the first, and that is all."""
    p = replace(PREFILL, bucket_work=(1.0, 1.0))
    d = replace(DECODE, bucket_work=(1.0, 0.0))
    fleet = snap([N1], [node("x", N1, 8)], [model("a", 0, max_replicas=9, same_network=networks)], [p, d])
    asked = Demand(tuple(ModelDemand("ns/a", 2.0, (1.0, 1.0), role=role) for role in ("prefill", "decode")))
    plan = planned(fleet, asked)
    assert sorted(s.option for s in plan.starts) == ["a-d", "a-p"]
    (found,) = plan.shortfalls
    assert ([r.reason.value for r in found.reasons], found.unmet_share) == (["SloUnreachable"], 0.0)


def test_a_length_that_nobody_serves_hides_no_other() -> None:
    """The shortfall owns up to the second length. That half of the first is not served either must be said too."""
    o = option("a", "h100", 1, bucket_work=(1.0, 0.0), work_per_s=1.0)
    fleet = snap([N1], [node("x", N1, 8)], [model("a", 0, max_replicas=9)], [o])
    asked = Demand((ModelDemand("ns/a", 3.0, (2.0, 1.0)),))
    plan = planned(fleet, asked)
    assert len(plan.starts) == 2
    half = replace(
        plan,
        starts=plan.starts[:1],
        assignments=(replace(plan.assignments[0], replicas=1),),
        routes=(replace(plan.routes[0], share=0.5),),
        hourly_cost=plan.hourly_cost / 2,
    )
    faults = placement.check(fleet, asked, half)
    assert faults == ("ns/a: routes serve 0.500000 of bucket 0, shortfall says 0.000000 is not served",)
