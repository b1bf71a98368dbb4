"""What a cycle does with what went wrong, and when it holds still. Each test is one look at the cluster and its acts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from polyfleet import naming
from polyfleet.decide import act, prepare
from polyfleet.render import service
from polyfleet.state import Condition, DeploymentState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.looks import (
    H100,
    NVIDIA_ONLY,
    children,
    deleted,
    look,
    patches,
    pinned_node,
    replace_size,
)

# ---- pods that went wrong

FOREIGN = b.holder("thief", "h100-0", b.H100, 1)
DOOMED = {
    "the node is gone": ((b.sandbox(b.h100("h100-1")),), ()),
    "the node was cordoned": ((b.sandbox(b.h100(cordoned=True)), b.sandbox(b.h100("h100-1"))), ()),
    "the devices were taken": ((H100, b.sandbox(b.h100("h100-1"))), (FOREIGN,)),
}


@pytest.mark.parametrize("case", DOOMED)
def test_a_pin_that_can_no_longer_be_kept_is_planned_anew(case: str) -> None:
    """The pod is deleted with uid and version, and the same plan has a new place for its replacement."""
    nodes, foreign = DOOMED[case]
    model = b.model("m", {**NVIDIA_ONLY, "runtime": {"parallelism": {"tensor": 8}}})
    child = children(model, nodes=(H100,))["sandbox-nvidia"]
    done = look(model, nodes=nodes, deployments=(child,), pods=(b.replica(child, "pod-1", pinned="h100-0"), *foreign))
    assert deleted(done) == {"pod-1": ("uid-pod-1", "7")}
    assert [start.node for start in done.plan.starts] == ["h100-1"]
    assert b.sizes(done.actions) == {child.name: 1}


def test_of_two_pins_on_one_place_the_older_stays() -> None:
    """A device is never promised twice: the younger pod is planned anew."""
    model = b.model("m", {**NVIDIA_ONLY, "replicas": 2, "runtime": {"parallelism": {"tensor": 8}}})
    nodes = (H100, b.sandbox(b.h100("h100-1")))
    child = children(model, nodes=nodes)["sandbox-nvidia"]
    old, young = b.replica(child, "z", pinned="h100-0"), b.replica(child, "a", pinned="h100-0", created=b.LATER)
    done = look(model, nodes=nodes, deployments=(child,), pods=(old, young))
    assert list(deleted(done)) == ["a"]
    assert [start.node for start in done.plan.starts] == ["h100-1"]


def test_a_pod_without_gate_and_node_is_replaced() -> None:
    """Somebody lifted the gate by hand: the pod could start wherever there is room, so it goes."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    assert list(deleted(look(model, deployments=(child,), pods=(b.replica(child, "pod-1", gates=()),)))) == ["pod-1"]


def failed(child: DeploymentState, count: int) -> tuple[PodState, ...]:
    return tuple(
        b.replica(child, f"f{i}", node="ppu-0", phase="Failed", reason="UnexpectedAdmissionError", created=f"2026-11-25T08:00:{i:02d}Z")
        for i in range(count)
    )


def test_oc_004_failed_pods_count_as_nothing_and_do_not_pile_up() -> None:
    """OC-004: ten rejected pods hold no device and are no replica; the last seven stay to tell the reason, the others go."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    done = look(model, deployments=(child,), pods=(*failed(child, 10), b.replica(child, "live")))
    assert sorted(deleted(done)) == ["f0", "f1", "f2"]
    assert done.inputs.snapshot.replicas == ()
    status = done.status("ModelDeployment", "smol")
    assert status["replicas"] == 1
    assert b.condition(status, "WorkloadsReady")[:2] == ("False", "AdmissionRejected")


@pytest.mark.parametrize(("failures", "now", "pinned"), [
    (1, "2026-11-25T08:00:04Z", False), (1, "2026-11-25T08:00:06Z", True),
    (3, "2026-11-25T08:00:20Z", False), (3, "2026-11-25T08:00:23Z", True),
])  # fmt: skip
def test_oc_004_retries_back_off(failures: int, now: str, pinned: bool) -> None:
    """5 s after the first rejection, then twice as long each time: the next pod waits at its gate."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    done = look(model, deployments=(child,), pods=(*failed(child, failures), b.replica(child, "live")), now=now)
    assert (list(patches(done, "Pin")) == ["live"]) is pinned


def test_failed_pods_go_once_another_is_up() -> None:
    """A resolved cause leaves no trace."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    done = look(model, deployments=(child,), pods=(*failed(child, 2), b.replica(child, "live", node="ppu-0", serving=True)))
    assert sorted(deleted(done)) == ["f0", "f1"]


# ---- holding still


def test_oc_007_nothing_moves_while_the_inventory_is_unknown() -> None:
    """OC-007: replicas stay, a gated pod stays, a wanted growth and a wanted shrink both wait, and status says why."""
    child = replace_size(children(b.model("m", NVIDIA_ONLY))["sandbox-nvidia"], 3)
    pods = (*(b.replica(child, f"pod-{i}", node="h100-0", serving=True) for i in (1, 2)), b.replica(child, "gated"))
    for replicas in (1, 2, 5):
        model = b.model("m", {**NVIDIA_ONLY, "replicas": replicas})
        done = look(model, nodes=(), deployments=(child,), pods=pods, unknown={"nodes": "ListForbidden"})
        assert b.sizes(done.actions) == {child.name: 3}
        assert (done.actions.deletes, done.actions.pod_patches) == ((), ())
        status = done.status("ModelDeployment", "m")
        assert b.condition(status, "Placed")[:2] == ("Unknown", "InventoryUnknown")
        assert status["readyReplicas"] == 2


def test_a_paused_model_changes_nothing_but_replaces_dead_pods() -> None:
    """paused: a new spec is not rolled out and the size stays, but the place of a dead pod is filled with the old revision."""
    old = children(b.model("m", NVIDIA_ONLY))["sandbox-nvidia"]
    model = b.model("m", {**NVIDIA_ONLY, "replicas": 3, "runtime": {"args": ["--new"]}, "paused": True})
    alive = b.replica(old, "pod-1", node="h100-0", serving=True)
    done = look(model, deployments=(old,), pods=(alive,))
    assert (b.sizes(done.actions), done.plan.starts, done.plan.stop) == ({old.name: 1}, (), ())
    done = look(model, deployments=(old,), pods=(b.replica(old, "pod-2"),))
    assert b.sizes(done.actions) == {old.name: 1}
    assert pinned_node(patches(done, "Pin")["pod-2"]) == "h100-0"


def test_oc_090_an_object_that_is_not_accepted_keeps_its_pods_and_never_grows() -> None:
    """The spec is wrong under today's rules: what runs stays as it is, nothing new starts."""
    child = children(b.model("m"))["sandbox-ppu"]
    model = b.model("m", {"scaling": {"minReplicas": 5, "maxReplicas": 2}})
    done = look(model, deployments=(child,), pods=(b.replica(child, "pod-1", node="ppu-0", serving=True),))
    assert b.sizes(done.actions) == {child.name: 1}
    assert done.actions.deletes == ()
    fresh = look(model)
    assert b.sizes(fresh.actions) == {}
    assert b.applied(fresh.actions, "Service") == []


def test_foreign_objects_are_never_touched() -> None:
    """A Service of the same name that somebody else owns: no write to it, and the model says which object and what to do."""
    model = b.model("smol")
    theirs = replace(b.owned(service.manifest(model)), owner_uid="", labels={"app": "theirs"})
    done = look(model, services=[theirs])
    assert b.applied(done.actions, "Service") == []
    assert b.sizes(done.actions) == {}
    status, reason, message = b.condition(done.status("ModelDeployment", "smol"), "Accepted")
    assert (status, reason) == ("False", "InvalidSpec")
    assert "Service llm/smol" in message
    assert "kubectl -n llm delete service smol" in message


def test_children_of_an_earlier_object_are_the_garbage_collectors() -> None:
    """Deleted and recreated under the same name: the old uid's children are neither counted nor touched."""
    before = b.model("smol", uid="uid-before")
    child = children(before)["sandbox-ppu"]
    after = b.model("smol", uid="uid-after")
    done = look(after, deployments=(child,), pods=(b.replica(child, "old", node="ppu-0", serving=True),))
    status = done.status("ModelDeployment", "smol")
    assert (status["replicas"], b.condition(status, "Accepted")[0]) == (0, "True")
    assert child.name not in b.sizes(done.actions)  # same name, still there: it is made once the old one is gone
    assert done.inputs.snapshot.nodes[-1].held_by_others == 1


def test_a_deleted_model_is_left_to_the_garbage_collector() -> None:
    """An object that is being deleted gives no act and no status."""
    done = look(b.model("smol", deleting=True))
    assert b.sizes(done.actions) == {}
    assert [item.name for item in done.report.statuses if item.kind == "ModelDeployment"] == []


def test_user_labels_do_not_make_a_pod_ours() -> None:
    """Attribution goes by owner uid: a copied label neither counts as a replica nor is the pod touched."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    copy = b.replica(child, "copy", node="ppu-0", up=True, owner="uid-of-something-else")
    done = look(model, deployments=(child,), pods=(copy,))
    assert done.inputs.snapshot.replicas == ()
    assert patches(done, "Serving") == {}


def test_a_converged_model_gives_the_same_acts_again() -> None:
    """Nothing is deleted or patched, and the manifests are what is stored: applying them is no write."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    done = look(model, deployments=(child,), pods=(b.replica(child, "pod-1", node="ppu-0", serving=True),))
    assert (done.actions.deletes, done.actions.pod_patches) == ((), ())
    (manifest,) = b.applied(done.actions, "Deployment")
    assert b.child(manifest) == child
    again = act(done.observed, prepare(done.observed), done.plan)
    assert naming.canonical(again.applies) == naming.canonical(done.actions.applies)


def test_a_denied_pod_is_told_with_the_api_servers_words() -> None:
    """Pod Security, quota or a webhook refuse the pod: the ReplicaSet's message is quoted."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    denied = replace(child, conditions={"ReplicaFailure": Condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota: q1")})
    status = look(model, deployments=(denied,)).status("ModelDeployment", "smol")
    assert b.condition(status, "WorkloadsReady") == ("False", "AdmissionRejected", "exceeded quota: q1")
