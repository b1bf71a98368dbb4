"""HardwareVerified and Promoted: on which devices the replicas run, and with which revision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet import naming
from polyfleet.state import NodeState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done
from tests.unit.operator.looks import A3, H100, NVIDIA_ONLY, PPU, children, look, patches, replace_size
from tests.unit.operator.test_status import fits_the_schema

MODEL = b.model("m", NVIDIA_ONLY)
CHILD = children(MODEL)["sandbox-nvidia"]


def one(nodes: tuple[NodeState, ...], **pod: Any) -> Done:
    given = {"node": "h100-0", "serving": True, **pod}
    done = look(MODEL, nodes=nodes, deployments=(CHILD,), pods=(b.replica(CHILD, "pod-1", **given),))
    fits_the_schema(done)
    return done


def verified(done: Done) -> tuple[str, str, str]:
    return b.condition(done.status("ModelDeployment", "m"), "HardwareVerified")


def renamed(node: NodeState, name: str) -> NodeState:
    return replace(node, name=name, uid=f"uid-{name}")


def test_the_planned_device_is_verified() -> None:
    """Resource, node and profile agree."""
    done = one((H100,))
    assert verified(done)[:2] == ("True", "Verified")
    assert b.condition(done.status("ModelDeployment", "m"), "Ready")[0] == "True"


def test_no_replica_on_a_node_says_nothing_of_hardware() -> None:
    """A replica that waits has no hardware yet."""
    done = look(MODEL, deployments=(CHILD,), pods=(b.replica(CHILD, "pod-1"),))
    assert verified(done) == ("", "", "")


def test_other_silicon_takes_no_traffic() -> None:
    """The node has become another kind: False with both names, the replica is taken out of traffic, an Event says so."""
    done = one((renamed(PPU, "h100-0"),))
    word, reason, message = verified(done)
    assert (word, reason) == ("False", "WrongDevice")
    assert "planned for sandbox-nvidia" in message
    assert "sandbox-ppu" in message
    patch = patches(done, "Serving")["pod-1"]
    assert patch.body["status"]["conditions"][0]["status"] == "False"
    assert [note.type for note in done.report.events if note.reason == "HardwareMismatch"] == ["Warning"]
    assert b.condition(done.status("ModelDeployment", "m"), "Ready")[:2] == ("False", "WrongDevice")


def test_a_replica_that_holds_another_vendors_device_is_on_the_wrong_one() -> None:
    """The node is right and the pod's resource is not."""
    assert verified(one((H100,), requests={b.PPU: 1}))[:2] == ("False", "WrongDevice")


def test_what_was_taken_out_comes_back_with_the_device() -> None:
    """The node is what was planned again: the replica is let in again."""
    done = one((H100,))
    closed = [row if row.type != naming.SERVING else replace(row, status="False") for row in done.observed.pods[0].conditions.values()]
    patch = patches(one((H100,), conditions=closed), "Serving")["pod-1"]
    assert patch.body["status"]["conditions"][0]["status"] == "True"


UNTOLD: dict[str, tuple[tuple[NodeState, ...], dict[str, Any]]] = {
    "the node is gone": ((A3,), {}),
    "the node's labels are gone": ((b.node("h100-0", b.H100, 8, {}),), {}),
    "the pod asks for no device": ((H100,), {"requests": {}}),
}


@pytest.mark.parametrize("case", UNTOLD)
def test_what_is_not_reported_is_no_proof(case: str) -> None:
    """Unknown: who serves goes on (a discovery daemon that restarts must not end a fleet), nobody is let in anew."""
    nodes, pod = UNTOLD[case]
    done = one(nodes, **pod)
    assert verified(done)[:2] == ("Unknown", "NotReported")
    assert patches(done, "Serving") == {}
    anew = patches(one(nodes, serving=False, up=True, **pod), "Serving").values()
    assert [patch for patch in anew if patch.body["status"]["conditions"][0]["status"] == "True"] == []


def test_an_unreadable_inventory_takes_nobody_out() -> None:
    """OC-007 for traffic: nodes that cannot be listed say nothing."""
    pod = b.replica(CHILD, "pod-1", node="h100-0", serving=True)
    done = look(MODEL, nodes=(), deployments=(CHILD,), pods=(pod,), unknown={"nodes": "ListForbidden"})
    assert verified(done)[:2] == ("Unknown", "NotReported")
    assert patches(done, "Serving") == {}


# ---- Promoted


def promoted(spec: dict[str, Any], serving: int = 1, up: int = 0, **more: Any) -> tuple[str, str, str]:
    """Of a model whose replicas run what `MODEL` asks for, after its spec became `spec`."""
    size = serving + up
    child = replace_size(CHILD, size)
    pods = tuple(b.replica(child, f"pod-{i}", node="h100-0", serving=i < serving) for i in range(size))
    done = look(b.model("m", {**NVIDIA_ONLY, "replicas": size, **spec}, generation=2), deployments=(child,), pods=pods, **more)
    fits_the_schema(done)
    return b.condition(done.status("ModelDeployment", "m"), "Promoted")


NEW: dict[str, Any] = {"runtime": {"args": ["--new"]}}


def test_the_wanted_revision_serves_everywhere() -> None:
    """All of the replicas that have a place."""
    assert promoted({}, serving=2)[:2] == ("True", "Promoted")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (NEW, "RolloutInProgress"),
        ({**NEW, "paused": True}, "Paused"),
        ({**NEW, "rollout": {"approval": "Manual"}}, "AwaitingApproval"),
    ],
)
def test_an_earlier_revision_that_serves_is_told(spec: dict[str, Any], reason: str) -> None:
    """Ready speaks of what serves, Promoted of what it serves with."""
    word, told, message = promoted(spec, serving=2)
    assert (word, told) == ("False", reason)
    assert "2 run what was wanted before" in message


def test_an_earlier_revision_under_a_policy_that_holds_it() -> None:
    """Neither an approval nor a verdict can be had."""
    assert promoted(NEW, policy=b.policy({"approval": "Manual"}))[1] == "AwaitingApproval"
    assert promoted(NEW, policy=b.policy({"accuracy": {"gate": "Required"}}))[1] == "AwaitingAccuracy"


def test_a_new_revision_that_loads_is_not_promoted() -> None:
    """One of two serves."""
    word, reason, message = promoted({}, serving=1, up=1)
    assert (word, reason) == ("False", "RolloutInProgress")
    assert "1 of 2" in message


def test_a_size_is_no_revision() -> None:
    """A toleration or the drain time is not rolled out to running replicas, so nothing waits."""
    assert promoted({"drainTimeout": "1m"})[0] == "True"


def test_nothing_is_said_of_a_spec_that_is_not_accepted() -> None:
    """Which revision it asks for is not known."""
    assert promoted({"scaling": {"minReplicas": 5, "maxReplicas": 2}}) == ("", "", "")


def test_a_suspended_model_waits_for_nothing() -> None:
    """No replicas are wanted, none serve."""
    done = look(b.model("m", {"suspend": True}))
    assert b.condition(done.status("ModelDeployment", "m"), "Promoted")[:2] == ("True", "Promoted")


# ---- the plan's Event


def test_a_plan_is_told_once() -> None:
    """Three replicas, pinned one by one: the same sentence in every cycle, with the whole layout."""
    model = b.model("m", {**NVIDIA_ONLY, "replicas": 3})
    child = replace_size(CHILD, 3)
    told: set[tuple[str, str]] = set()
    for pinned in range(3):
        pods = [b.replica(child, f"pod-{i}", pinned="h100-0" if i < pinned else "") for i in range(3)]
        done = look(model, deployments=(child,), pods=tuple(pods))
        told |= {(note.reason, note.message) for note in done.report.events if note.kind == "ModelDeployment"}
    assert told == {("Planned", "3 replicas: 3 on sandbox-nvidia (sandbox-nvidia, 1 devices each)")}
