"""From a decision to sizes: bounds and work for the real placer, and what the status says of it. One replica carries 1 work/s here.

Prices of the sandbox's devices: PPU 0.90, Ascend 1.60, NVIDIA 3.00 per hour, all with the same number for this model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.scaling.force import Told
from polyfleet.state import DeploymentState, PodState

from autoscaling.types import MetricState
from tests.unit.operator import builders as b
from tests.unit.operator.forces import SINCE, aimed, child_of, condition, force, look, scaled
from tests.unit.operator.looks import patches
from tests.unit.operator.test_status import fits_the_schema

OLD = "2026-11-25T06:00:00Z"  # two hours before now: longer than minResidence
UP = Told("Up", "NeedAboveCapacity", "need 5.4 > 4.0", SINCE)


def running(model: Any, size: int, **more: Any) -> tuple[DeploymentState, tuple[PodState, ...]]:
    """So many replicas of the cheapest type that serve."""
    child = child_of(model, "sandbox-ppu", size)
    return child, tuple(b.replica(child, f"p{i}", node="ppu-0", serving=True, **more) for i in range(size))


def seen(size: int, work: float, spec: dict[str, Any] | None = None, *, created: str = OLD, lost: int = 0, **more: Any) -> Any:
    """One look at a model of `size` replicas, `lost` of them gone, when so much work is asked. `nodes`, `unknown`: as `look` has them."""
    own = {key: more.pop(key) for key in ("nodes", "unknown", "others") if key in more}
    model = aimed(scaled(spec), size)
    child, pods = running(model, size, created=created)
    others = own.pop("others", ())
    done = look(model, force(work, **more), deployments=(child,), pods=(*pods[: size - lost], *others), **own)
    fits_the_schema(done)
    return done


def wanted(done: Any) -> int:
    return int(done.status("ModelDeployment", "m")["desiredReplicas"])


@pytest.mark.parametrize(("work", "size"), [(0.0, 1), (1.0, 1), (1.01, 2), (2.5, 3), (8.0, 8), (30.0, 8)])
def test_a_new_model_gets_as_many_replicas_as_carry_the_work_inside_its_bounds(work: float, size: int) -> None:
    done = look(scaled(), force(work))
    assert (wanted(done), sum(b.sizes(done.actions).values())) == (size, size)


def test_more_work_than_the_maximum_carries_is_told_and_is_no_shortfall_of_devices() -> None:
    done = look(scaled(), force(9.0))
    assert condition(done, "ScalingActive")[:2] == ("False", "AtMaximum")
    assert "9.00 work/s" in condition(done, "ScalingActive")[2]
    assert condition(done, "Placed")[0] == "True"
    assert "shortfall" not in done.status("ModelDeployment", "m")


def test_growth_keeps_what_runs_and_says_why() -> None:
    done = seen(4, 5.4, told=UP)
    assert wanted(done) == 6
    assert not done.plan.stop
    (event,) = [e for e in done.report.events if e.reason == "ScaledUp"]
    assert event.message == f"from 4 to 6 replicas: NeedAboveCapacity: need 5.4 > 4.0 (decided at {SINCE})"
    assert done.status("ModelDeployment", "m")["autoscaler"] == {
        "desired": "6",
        "direction": "Up",
        "reason": "NeedAboveCapacity: need 5.4 > 4.0",
        "at": SINCE,
    }


def test_nothing_shrinks_without_a_decision_to_shrink() -> None:
    done = seen(4, 1.5, shrink=False)
    assert (wanted(done), done.plan.stop) == (4, ())


@pytest.mark.parametrize("loading", [False, True])
def test_replicas_that_a_move_brings_before_the_old_ones_go_are_no_growth(loading: bool) -> None:
    """Three were aimed at: two stay, one goes from Ascend (1.60) to PPU (0.90). In the middle of it four run, and another look at the
    cluster must not take the fourth for one that is to be kept."""
    model = aimed(scaled(), 3)
    cheap, dear = child_of(model, "sandbox-ppu", 3), child_of(model, "sandbox-ascend", 1)
    stay = [b.replica(cheap, name, node="ppu-0", serving=True, created=OLD) for name in ("p0", "p1")]
    new = b.replica(cheap, "p2", node="ppu-0", serving=not loading, created=b.NOW)
    old = b.replica(dear, "a0", node="a3-0", serving=True, created=OLD)
    done = look(model, force(2.5), deployments=(cheap, dear), pods=(*stay, new, old))
    fits_the_schema(done)
    assert wanted(done) == 3
    assert done.plan.stop == (old.uid,)
    assert sorted(done.plan.keep) == sorted(pod.uid for pod in (*stay, new))


@pytest.mark.parametrize("created", [OLD, b.NOW], ids=["old", "younger than minResidence"])
def test_a_decision_to_shrink_stops_what_is_too_many(created: str) -> None:
    """`stability.minResidence` keeps replicas from being moved for money, and not from a decided scale-down."""
    done = seen(4, 1.5, shrink=True, created=created)
    assert (wanted(done), len(done.plan.stop)) == (2, 2)
    assert [e.reason for e in done.report.events if e.reason.startswith("Scaled")] == ["ScaledDown"]


def test_a_model_that_is_suspended_is_not_said_to_have_shrunk_by_a_decision() -> None:
    """The last decision was to grow; that it goes to nothing is the person's word."""
    done = seen(4, 5.4, {"suspend": True}, told=UP)
    (event,) = [e for e in done.report.events if e.reason.startswith("Scaled")]
    assert (event.reason, event.message) == ("ScaledDown", "from 4 to 0 replicas: spec.suspend is true")


def test_leave_to_shrink_moves_no_young_replica_while_all_of_it_is_needed() -> None:
    """Two on the dear type, the cheap one free: a move would pay, but both are seconds old."""
    model = aimed(scaled({"placement": {"excludeProfiles": ["sandbox-ascend"]}}), 2)
    child = child_of(model, "sandbox-nvidia", 2)
    pods = tuple(b.replica(child, f"p{i}", node="h100-0", serving=True, created=b.NOW) for i in range(2))
    assert not look(model, force(2.0, shrink=True), deployments=(child,), pods=pods).plan.stop
    old = tuple(replace(pod, created=OLD) for pod in pods)
    assert look(model, force(2.0, shrink=True), deployments=(child,), pods=old).plan.stop


def test_the_minimum_holds_whatever_the_load_is() -> None:
    assert wanted(seen(4, 0.0, {"scaling": {"minReplicas": 3, "maxReplicas": 8}}, shrink=True)) == 3


def test_a_raised_floor_of_the_decision_counts() -> None:
    """A cron floor or the fallback."""
    assert wanted(seen(2, 1.0, low=5)) == 5


def test_bounds_of_the_spec_count_at_once_before_any_new_decision() -> None:
    assert wanted(seen(4, 4.0, {"scaling": {"minReplicas": 1, "maxReplicas": 3}}, high=8)) == 3
    assert wanted(seen(2, 1.0, {"scaling": {"minReplicas": 4, "maxReplicas": 8}}, low=1)) == 4


# ---- doubt


def test_before_the_first_decision_the_size_stays() -> None:
    model = aimed(scaled(), 4)
    child, pods = running(model, 4, created=OLD)
    done = look(model, None, deployments=(child,), pods=pods)
    assert (wanted(done), done.plan.stop) == (4, ())
    assert condition(done, "MetricsAvailable")[:2] == ("False", "MetricsMissing")


def test_an_unknown_load_replaces_what_was_lost() -> None:
    done = seen(4, 0.0, lost=1, metrics=MetricState.UNKNOWN)
    assert (wanted(done), sum(b.sizes(done.actions).values())) == (4, 4)
    assert condition(done, "MetricsAvailable")[:2] == ("False", "MetricsMissing")


def test_the_fallback_is_named() -> None:
    done = seen(2, 1.0, low=4, metrics=MetricState.FALLBACK, message="no reading for 3 polls")
    assert wanted(done) == 4
    assert condition(done, "MetricsAvailable")[:2] == ("False", "MetricsFallback")
    assert [e.reason for e in done.report.events if e.reason == "MetricsFallback"] == ["MetricsFallback"]


def test_bursts_shorter_than_a_cold_start_are_told_with_the_floor() -> None:
    model = aimed(scaled(), 4)
    child, pods = running(model, 4, created=OLD)
    text = "bursts are over before a replica that is asked for now serves (130 s): at least 3.1 work/s are kept instead of followed"
    done = look(model, replace(force(4.0), too_fast=text), deployments=(child,), pods=pods)
    assert condition(done, "Degraded") == ("True", "BurstFasterThanColdStart", text)


def test_a_load_that_comes_from_prometheus_says_so() -> None:
    model = aimed(scaled(), 4)
    child, pods = running(model, 4, created=OLD)
    for second, metrics in ((False, MetricState.VALUE), (True, MetricState.VALUE), (True, MetricState.RECOVERING)):
        done = look(model, replace(force(4.0, metrics=metrics), second=second), deployments=(child,), pods=pods)
        status, _, message = condition(done, "MetricsAvailable")
        assert status == "True"
        assert ("read from Prometheus" in message) is second


@pytest.mark.parametrize(("work", "shrink"), [(0.0, True), (7.0, False)])
def test_an_unknown_inventory_freezes_in_both_directions(work: float, shrink: bool) -> None:
    done = seen(4, work, shrink=shrink, unknown={"nodes": "ListForbidden"})
    assert (wanted(done), done.plan.stop, done.plan.starts) == (4, (), ())
    assert condition(done, "Placed")[:2] == ("Unknown", "InventoryUnknown")


def test_a_new_operator_leaves_standing_what_an_earlier_one_told() -> None:
    """Before its first tick, and after ticks that decided nothing: no status moves with a restart."""
    row = {
        "desired": "4",
        "direction": "Up",
        "reason": "Step: 3.9 > 3.0; 2 on their way, the last expected at 2026-11-25T07:00:00Z",
        "at": OLD,
    }
    known = {"type": "MetricsAvailable", "status": "True", "reason": "Read", "message": "", "lastTransitionTime": OLD}
    model = aimed(scaled(), 4, autoscaler=row, conditions=[known])
    child, pods = running(model, 4, created=OLD)
    started = replace(
        force(4.0, metrics=MetricState.UNKNOWN), metrics=None, told=Told("Hold", "UnknownLoad", "no baseline", SINCE, first=True)
    )
    for said in (None, started):
        status = look(model, said, deployments=(child,), pods=pods).status("ModelDeployment", "m")
        assert status["autoscaler"] == {"desired": "4", "direction": "Up", "reason": "Step: 3.9 > 3.0", "at": OLD}
        assert b.condition(status, "MetricsAvailable")[:2] == ("True", "Read")


# ---- money and room


def test_the_budget_caps_a_scale_up_and_says_so() -> None:
    """2.00 per hour carry two at 0.90; five are asked for."""
    done = seen(2, 5.0, {"placement": {"maxHourlyCost": "2.00"}}, told=UP)
    assert sum(b.sizes(done.actions).values()) == 2
    assert condition(done, "Placed")[:2] == ("False", "BudgetExceeded")
    assert "0.2 of 2 of the model" in condition(done, "Placed")[2]
    assert done.status("ModelDeployment", "m")["shortfall"]["replicas"] == 3


def test_a_full_type_spills_over_to_the_next_and_back() -> None:
    full = b.holder("other", "ppu-0", b.PPU, 12)
    done = seen(4, 6.0, others=(full,))
    by_profile = {start.option.split("|")[1] for start in done.plan.starts}
    assert by_profile == {"sandbox-ascend"}  # the next by price

    model = aimed(scaled(), 6)
    child, pods = running(model, 4, created=OLD)
    dear = child_of(model, "sandbox-ascend", 2)
    spilled = tuple(b.replica(dear, f"a{i}", node="a3-0", serving=True, created=OLD) for i in range(2))
    done = look(model, force(6.0), deployments=(child, dear), pods=(*pods, *spilled, full))
    fits_the_schema(done)
    assert condition(done, "Degraded")[:2] == ("True", "SpillOver")
    assert "2 on sandbox-ascend instead of sandbox-ppu" in condition(done, "Degraded")[2]
    assert not done.plan.stop

    told = replace(model, status={**model.status, "conditions": [{"type": "Degraded", "status": "True", "reason": "SpillOver"}]})
    back = look(told, force(6.0), deployments=(child, dear), pods=(*pods, *spilled))
    assert {start.option.split("|")[1] for start in back.plan.starts} == {"sandbox-ppu"}
    assert condition(back, "Degraded")[:2] == ("True", "SpillOver")  # until nothing runs there any more
    whole, six = running(model, 6, created=OLD)
    home = look(told, force(6.0), deployments=(whole,), pods=six)
    assert condition(home, "Degraded") == ("", "", "")
    assert "SpillOverEnded" in [e.reason for e in home.report.events]


def returning(work: float, *, shrink: bool, strong: str = "", price: str = "1.60") -> Any:
    """Four replicas on NVIDIA (3.00 an hour) serve a quarter of a work/s each, where Ascend was full; a replica there carries 1 work/s for
    `price` and has room. `strong`: one of those is there already, and "loads" or "serves"."""
    entries = [
        {**entry, "outputTokensPerSecond": str(4 * int(entry["outputTokensPerSecond"]))}
        for entry in b.profile("sandbox-ascend").spec["throughput"]
    ]
    profiles = (
        b.profile("sandbox-ascend", throughput=entries, cost={"perDeviceHour": price, "currency": "USD"}),
        *b.profiles("sandbox-nvidia", "sandbox-ppu"),
    )
    model = aimed(scaled({"placement": {"profiles": ["sandbox-ascend", "sandbox-nvidia"]}}), 1 if strong else 4)
    weak, home = child_of(model, "sandbox-nvidia", 4), child_of(model, "sandbox-ascend", 1)
    pods = tuple(b.replica(weak, f"p{i}", node="h100-0", serving=True, created=OLD) for i in range(4))
    if strong:
        pods += (b.replica(home, "s0", node="a3-0", serving=strong == "serves", created=b.NOW),)
    return look(model, force(work, shrink=shrink), profiles=profiles, deployments=(weak, home) if strong else (weak,), pods=pods)


@pytest.mark.parametrize("shrink", [True, False])
def test_on_return_to_a_stronger_type_the_work_is_kept_and_not_the_number(shrink: bool) -> None:
    """4 x 0.25 = 1 x 1.0. Four strong ones would cost 6.40 an hour where 1.60 are enough."""
    done = returning(0.8, shrink=shrink)
    assert ([start.option.split("|")[1] for start in done.plan.starts], len(done.plan.stop)) == (["sandbox-ascend"], 4)
    assert (wanted(done), done.plan.hourly_cost) == (1, 1.6)


@pytest.mark.parametrize("strong", ["loads", "serves"])
def test_in_the_middle_of_a_return_the_work_that_is_aimed_at_stays(strong: str) -> None:
    """One strong replica at 8.00 replaces four weak ones at 12.00. One weak one at 3.00 would carry the 0.2 that are asked, but nobody
    decided to shrink: the move goes on."""
    done = returning(0.2, shrink=False, strong=strong, price="8.00")
    assert (wanted(done), len(done.plan.stop), done.plan.hourly_cost) == (1, 4, 8.0)


@pytest.mark.parametrize(
    ("shrink", "work", "strong", "leave"),
    [
        (False, 0.6, "loads", 0),  # nothing may shrink: all four stay
        (True, 0.8, "loads", 0),  # three would carry 0.75
        (True, 0.7, "loads", 1),
        (True, 0.3, "loads", 2),
        (True, 0.8, "serves", 4),
    ],
)
def test_weak_replicas_serve_until_the_strong_one_does(shrink: bool, work: float, strong: str, leave: int) -> None:
    assert len(patches(returning(work, shrink=shrink, strong=strong), "DeletionCost")) == leave


# ---- who writes the size


@pytest.mark.parametrize(("asked", "size"), [(0, 1), (3, 3), (9, 5)])
def test_another_scalers_number_counts_inside_the_bounds(asked: int, size: int) -> None:
    spec = {"replicas": asked, "scaling": {"minReplicas": 1, "maxReplicas": 5, "mode": "External"}}
    done = look(scaled(spec), force(2.0, shrink=True))
    assert wanted(done) == size
    assert condition(done, "ScalingActive")[:2] == ("False", "ExternallyScaled")
    assert done.status("ModelDeployment", "m")["autoscaler"]["desired"] == "2"


def test_advice_recommends_and_changes_nothing() -> None:
    done = seen(2, 5.0, {"scaling": {"minReplicas": 1, "maxReplicas": 8, "mode": "Advise"}})
    assert (wanted(done), done.plan.starts) == (2, ())
    assert done.status("ModelDeployment", "m")["autoscaler"]["desired"] == "5"
    assert condition(done, "ScalingActive")[:2] == ("False", "AdvisoryOnly")


def test_a_paused_model_keeps_its_size_and_a_suspended_one_has_none() -> None:
    assert wanted(seen(4, 8.0, {"paused": True})) == 4
    assert wanted(seen(4, 8.0, {"suspend": True})) == 0


def test_contradictory_bounds_of_an_old_object_hold_what_runs() -> None:
    """OC-041, second path: min 5, max 2, stored before there was a rule."""
    done = seen(3, 3.0, {"scaling": {"minReplicas": 5, "maxReplicas": 2}}, low=2, high=2)
    assert (wanted(done), done.plan.starts, done.plan.stop) == (3, (), ())
    assert condition(done, "Accepted")[:2] == ("False", "InvalidSpec")
