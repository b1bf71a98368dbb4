"""What the FleetPolicy says is done, or is told to be impossible: never accepted and ignored."""

from __future__ import annotations

from typing import Any

import pytest
from polyfleet.decide import prepare

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import NVIDIA_ONLY, PROFILES, children, look, patches, replace_size
from tests.unit.operator.test_status import fits_the_schema

MANUAL = b.policy({"approval": "Manual"})
GATED = b.policy({"accuracy": {"gate": "Required"}})
HUAWEI_W8A8: dict[str, Any] = {"candidate": {"vendors": ["huawei"]}, "declares": {"weights": "w8a8"}}
UNREADABLE = b.policy({"budget": {"maxHourlyCost": "ten"}})


@pytest.mark.parametrize("enabled", [True, False])
def test_preemption_is_what_the_policy_says(enabled: bool) -> None:
    """Two models want the one device of the fleet, the running one has the lower priority: it goes only where it may be preempted."""
    low, high = b.model("low", {**NVIDIA_ONLY, "priority": 1}), b.model("high", {**NVIDIA_ONLY, "priority": 9})
    node = b.sandbox(b.h100(devices=1))
    child = children(low, nodes=(node,))["sandbox-nvidia"]
    pod = b.replica(child, "pod-1", node="h100-0", serving=True)
    done = cycle(
        b.observed(
            models=[low, high], profiles=PROFILES, nodes=[node], deployments=[child], pods=[pod],
            policy=b.policy({"preemption": {"enabled": enabled}}),
        )
    )  # fmt: skip
    assert done.inputs.snapshot.policy.preemption is enabled
    assert (done.plan.stop == ("uid-pod-1",)) is enabled
    assert ("DeletionCost" in {patch.kind for patch in done.actions.pod_patches}) is enabled


# ---- a policy that cannot be read


def accepted(done: Done, kind: str, name: str) -> tuple[str, str, str]:
    return b.condition(done.status(kind, name), "Accepted")


def test_an_unreadable_policy_is_not_an_unlimited_budget() -> None:
    """Nothing grows while nobody knows the limits, what runs stays, and every model says so with the field and the command."""
    child = children(b.model("m", NVIDIA_ONLY))["sandbox-nvidia"]
    pod = b.replica(child, "pod-1", node="h100-0", serving=True)
    done = look(b.model("m", {**NVIDIA_ONLY, "replicas": 3}), deployments=(child,), pods=(pod,), policy=UNREADABLE)
    fits_the_schema(done)
    assert b.sizes(done.actions) == {child.name: 1}
    assert (done.plan.starts, done.plan.stop, done.actions.deletes) == ((), (), ())
    word, reason, message = accepted(done, "ModelDeployment", "m")
    assert (word, reason) == ("False", "InvalidSpec")
    assert "maxHourlyCost" in message
    assert "kubectl edit fpol default" in message
    assert accepted(done, "FleetPolicy", "default")[:2] == ("False", "InvalidSpec")
    assert b.sizes(look(b.model("m"), policy=UNREADABLE).actions) == {}


def test_a_dead_replica_is_replaced_under_an_unreadable_policy() -> None:
    """Replacing costs nothing that was not spent before."""
    child = children(b.model("m", NVIDIA_ONLY))["sandbox-nvidia"]
    done = look(b.model("m", NVIDIA_ONLY), deployments=(child,), pods=(b.replica(child, "pod-2"),), policy=UNREADABLE)
    assert list(patches(done, "Pin")) == ["pod-2"]


# ---- the accuracy gate, and approvals


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"alpha": "2"}, "spec.accuracy.alpha: 2.0"),
        ({"badPromptRate": "1.5"}, "spec.accuracy.badPromptRate: 1.5"),
        ({"minPrompts": 500, "maxPrompts": 300}, "spec.accuracy.minPrompts: 500"),
        (
            {"pairs": [{"candidate": {"vendors": ["huawei"]}, "declares": {"weights": "w8a8"}, "margins": {"tailKL": "-1"}}]},
            "spec.accuracy.pairs[0]",
        ),
    ],
)
def test_settings_that_no_check_could_use_are_not_accepted(settings: dict[str, Any], field: str) -> None:
    """The field, its value and what is allowed."""
    word, reason, message = accepted(look(b.model("m"), policy=b.policy({"accuracy": settings})), "FleetPolicy", "default")
    assert (word, reason) == ("False", "InvalidSpec")
    assert field in message


def test_the_gate_is_accepted() -> None:
    assert accepted(look(b.model("m"), policy=GATED), "FleetPolicy", "default")[:2] == ("True", "Valid")


def test_without_a_required_gate_replicas_start() -> None:
    """Off, nothing is said of it; only observed, it is said and keeps nobody from being ready."""
    done = look(b.model("m"), policy=b.policy({"accuracy": {"gate": "Disabled"}}))
    assert len(done.plan.starts) == 1
    assert b.condition(done.status("ModelDeployment", "m"), "AccuracyVerified") == ("", "", "")
    child = children(b.model("m"))["sandbox-ppu"]
    pods = (b.replica(child, "pod-1", node="ppu-0", serving=True),)
    status = look(b.model("m"), policy=b.policy({"accuracy": {"gate": "Observe"}}), deployments=(child,), pods=pods).status(
        "ModelDeployment", "m"
    )
    assert b.condition(status, "AccuracyVerified")[:2] == ("Unknown", "Pending")
    assert b.condition(status, "Ready")[:2] == ("True", "Ready")


def test_without_a_policy_the_gate_is_required() -> None:
    """And without a reference nothing serves: the message names the ways out."""
    done = cycle(b.observed(models=[b.model("m")], profiles=PROFILES, nodes=[b.sandbox(b.h100())], gated=True))
    assert done.plan.starts == ()
    word, reason, message = b.condition(done.status("ModelDeployment", "m"), "AccuracyVerified")
    assert (word, reason) == ("Unknown", "ReferenceMissing")
    assert "reference.onUnavailable: SelfConsistency" in message
    assert b.condition(done.status("ModelDeployment", "m"), "Ready")[:2] == ("Unknown", "ReferenceMissing")


def test_under_manual_approval_nothing_starts() -> None:
    """A plan that nobody has approved is not carried out: the model waits, and says for what and how."""
    done = look(b.model("m", {"replicas": 2}), policy=MANUAL)
    fits_the_schema(done)
    assert (b.sizes(done.actions), done.actions.pod_patches) == ({}, ())
    word, reason, message = b.condition(done.status("ModelDeployment", "m"), "Placed")
    assert (word, reason) == ("False", "AwaitingApproval")
    assert "2 replicas are wanted, 0 are there; pplan-000001 (+2 ~0 -0) waits for its approval: kubectl patch pplan" in message
    (note,) = [note for note in done.report.events if note.reason == "AwaitingApproval"]
    assert (note.kind, note.name) == ("ModelDeployment", "m")
    assert b.condition(done.status("ModelDeployment", "m"), "Ready")[:2] == ("False", "AwaitingApproval")
    assert b.condition(done.status("FleetPolicy", "default"), "Converged")[:2] == ("False", "AwaitingApproval")


def test_under_manual_approval_what_is_as_wanted_is_ready() -> None:
    """Nothing waits, so nothing is said to wait."""
    child = children(b.model("m"))["sandbox-ppu"]
    done = look(b.model("m"), deployments=(child,), pods=(b.replica(child, "pod-1", node="ppu-0", serving=True),), policy=MANUAL)
    status = done.status("ModelDeployment", "m")
    assert b.condition(status, "Placed")[0] == "True"
    assert b.condition(status, "Ready")[0] == "True"
    assert b.condition(status, "Promoted")[0] == "True"


def test_what_runs_is_held() -> None:
    """Neither another revision nor another size, and a dead pod's replacement waits at its gate."""
    child = replace_size(children(b.model("m", NVIDIA_ONLY))["sandbox-nvidia"], 2)
    pods = (b.replica(child, "pod-1", node="h100-0", serving=True), b.replica(child, "gated"))
    for spec in ({"replicas": 5}, {"replicas": 1}, {"replicas": 2, "runtime": {"args": ["--new"]}}):
        done = look(b.model("m", {**NVIDIA_ONLY, **spec}), deployments=(child,), pods=pods, policy=MANUAL)
        fits_the_schema(done)
        assert b.sizes(done.actions) == {child.name: 2}
        assert (done.actions.deletes, done.actions.pod_patches) == ((), ())
        assert done.status("ModelDeployment", "m")["readyReplicas"] == 1


@pytest.mark.parametrize("policy", [MANUAL, GATED])
def test_a_suspended_model_gives_its_devices_back(policy: Any) -> None:
    """Stopping serves nothing unchecked, and is the user's own word."""
    child = children(b.model("m"))["sandbox-ppu"]
    pod = b.replica(child, "pod-1", node="ppu-0", serving=True)
    done = look(b.model("m", {"suspend": True}), deployments=(child,), pods=(pod,), policy=policy)
    assert list(patches(done, "DeletionCost")) == ["pod-1"]


def test_under_a_required_gate_nobody_new_is_let_in() -> None:
    """An engine that is up takes no traffic unchecked; one that serves already goes on. Ready is Unknown, with the way out."""
    child = replace_size(children(b.model("m", NVIDIA_ONLY))["sandbox-nvidia"], 2)
    pods = (b.replica(child, "old", node="h100-0", serving=True), b.replica(child, "new", node="h100-0", up=True))
    done = look(b.model("m", {**NVIDIA_ONLY, "replicas": 2}), deployments=(child,), pods=pods, policy=GATED)
    fits_the_schema(done)
    assert {name: patch.body["status"]["conditions"][0]["status"] for name, patch in patches(done, "Serving").items()} == {"new": "False"}
    status = done.status("ModelDeployment", "m")
    assert b.condition(status, "AccuracyVerified")[:2] == ("Unknown", "Pending")
    assert b.condition(status, "Ready")[:2] == ("Unknown", "Pending")
    assert (status["replicas"], status["readyReplicas"], status["summary"]["accuracy"]) == (1, 1, "0/1")


def test_a_model_may_leave_the_fleets_gate_with_a_reason() -> None:
    """`Disabled` with acknowledgeRisk, unless the policy lets models only be stricter."""
    own = {"accuracy": {"gate": "Disabled", "acknowledgeRisk": "a demonstration without users"}}
    assert len(look(b.model("m", own), policy=GATED).plan.starts) == 1
    stricter = b.policy({"accuracy": {"gate": "Required", "overrides": "StricterOnly"}})
    assert look(b.model("m", own), policy=stricter).plan.starts == ()


def test_a_gate_that_a_model_itself_requires() -> None:
    """The fleet has none: what one model asks for holds for it."""
    done = look(b.model("m", {"accuracy": {"gate": "Required"}}))
    assert accepted(done, "ModelDeployment", "m")[:2] == ("True", "Valid")
    assert done.plan.starts == ()
    assert b.condition(done.status("ModelDeployment", "m"), "AccuracyVerified")[:2] == ("Unknown", "ReferenceMissing")


# ---- minEvidence


@pytest.mark.parametrize(("least", "accepted_there"), [("Estimated", True), ("Published", False), ("Measured", False)])
def test_data_of_a_lower_class_is_not_used(least: str, accepted_there: bool) -> None:
    """A footprint that the user states is an estimate: under a higher demand the profile is refused with both classes."""
    policy = b.policy({"profiles": {"minEvidence": least}})
    observed = b.observed(models=[b.big_model()], profiles=b.profiles("nvidia-h100-sxm"), nodes=[b.h100()], policy=policy)
    view = prepare(observed).models["llm/m"]
    assert bool(view.resolution.options) is accepted_there
    if not accepted_there:
        (row,) = view.resolution.rejected
        assert row.reason == "NoPerformanceData"
        assert "Estimated" in row.message
        assert least in row.message


def test_measured_data_passes_every_demand() -> None:
    """An entry with a measured footprint gives the option, and its class is shown."""
    entry = {
        "model": "example/big", "engine": "vllm", "parallelism": {"tensor": 1}, "footprint": "40Gi", "evidence": "Measured",
        "source": "our own bench", "date": "2026-11-01", "inputTokens": 100, "outputTokens": 100, "concurrency": 1,
        "outputTokensPerSecond": "10",
    }  # fmt: skip
    profile = b.profile("nvidia-h100-sxm", throughput=[entry])
    policy = b.policy({"profiles": {"minEvidence": "Measured"}})
    view = prepare(b.observed(models=[b.big_model()], profiles=[profile], nodes=[b.h100()], policy=policy)).models["llm/m"]
    assert [option.evidence for option in view.resolution.options] == ["Measured"]
