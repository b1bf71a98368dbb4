"""What a cycle does: children and their sizes, pins, admissions, drains. Each test is one look at the cluster and its acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from polyfleet import naming

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import (
    A3,
    H100,
    NVIDIA_ONLY,
    PPU,
    PROFILES,
    children,
    deleted,
    look,
    patches,
    pinned_node,
    replace_size,
)

# ---- first cycle


def test_three_vendors_get_one_child_each() -> None:
    """replicas 3 with minVendors 3: one Deployment of one replica per vendor, one Service, one budget, three pools."""
    model = b.model("smol", {"replicas": 3, "placement": {"spread": {"minVendors": 3}}})
    done = cycle(b.observed(models=[model], profiles=PROFILES, nodes=[H100, A3, PPU], services=[], budgets=[]))
    found = b.applied(done.actions, "Deployment")
    assert sorted(m["metadata"]["labels"][naming.VENDOR] for m in found) == ["alibaba", "huawei", "nvidia"]
    assert [m["spec"]["replicas"] for m in found] == [1, 1, 1]
    (svc,) = b.applied(done.actions, "Service")
    assert svc["spec"] == {
        "selector": {"polyfleet.io/deployment": "smol"},
        "ports": [{"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}],
    }
    (budget,) = b.applied(done.actions, "PodDisruptionBudget")
    assert budget["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {"polyfleet.io/deployment": "smol"}},
    }
    assert len(b.applied(done.actions, "AcceleratorPool")) == 3


def test_the_cheapest_device_is_taken_first() -> None:
    """Prices of the sandbox's profiles: PPU 0.90, Ascend 1.60, NVIDIA 3.00 per device-hour."""
    assert list(children(b.model("smol"))) == ["sandbox-ppu"]


# ---- pins


def test_a_gated_pod_gets_its_planned_node_and_loses_the_gate_in_one_patch() -> None:
    """Node affinity by metadata.name and an empty list of gates in one merge patch, guarded by the uid."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    pod = b.replica(child, "pod-1")
    done = look(model, deployments=(child,), pods=(pod,))
    patch = patches(done, "Pin")["pod-1"]
    assert (patch.uid, patch.subresource, patch.apply_patch) == (pod.uid, "", False)
    assert pinned_node(patch) == "ppu-0"
    assert patch.body["spec"]["schedulingGates"] == []
    assert b.sizes(done.actions) == {child.name: 1}


def test_gates_of_others_stay() -> None:
    """Only our gate is lifted: a queueing system may hold the pod for a reason of its own."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    pod = b.replica(child, "pod-1", gates=("example.com/quota", naming.GATE))
    patch = patches(look(model, deployments=(child,), pods=(pod,)), "Pin")["pod-1"]
    assert patch.body["spec"]["schedulingGates"] == [{"name": "example.com/quota"}]


def test_a_users_affinity_is_tightened_not_replaced() -> None:
    """The API server lets a gated pod's affinity only be tightened: every given term keeps its expressions."""
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    model = b.model("smol", {"podTemplate": {"spec": {"affinity": affinity}}})
    child = children(model)["sandbox-ppu"]
    patch = patches(look(model, deployments=(child,), pods=(b.replica(child, "pod-1"),)), "Pin")["pod-1"]
    (found,) = patch.body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert found["matchExpressions"] == term["matchExpressions"]
    assert found["matchFields"][0]["values"] == ["ppu-0"]


def test_the_oldest_pod_gets_the_first_place() -> None:
    """Two gated pods, two nodes with room for one each: the assignment is a function of age, not of the order of a list."""
    model = b.model("m", {**NVIDIA_ONLY, "replicas": 2, "runtime": {"parallelism": {"tensor": 8}}})
    nodes = (H100, b.sandbox(b.h100("h100-1")))
    child = children(model, nodes=nodes)["sandbox-nvidia"]
    young, old = b.replica(child, "a", created=b.LATER), b.replica(child, "z", created=b.NOW)
    done = look(model, nodes=nodes, deployments=(child,), pods=(young, old))
    found = {name: pinned_node(patch) for name, patch in patches(done, "Pin").items()}
    first, second = [start.node for start in done.plan.starts]
    assert found == {"z": first, "a": second}
    assert sorted(found.values()) == ["h100-0", "h100-1"]


def test_a_pool_that_chooses_the_node_itself_gets_all_its_nodes() -> None:
    """enforcement: Pool: one alternative per usable node, and the planned one as an annotation."""
    model = b.model("m", NVIDIA_ONLY)
    nodes = (H100, b.sandbox(b.h100("h100-1")), b.sandbox(b.h100("h100-2", cordoned=True)))
    pools = (b.pool("sandbox-nvidia", "sandbox-nvidia", {"enforcement": "Pool"}),)
    first = cycle(b.observed(models=[model], profiles=PROFILES, pools=pools, nodes=nodes))
    child = b.child(b.applied(first.actions, "Deployment")[0])
    observed = b.observed(
        models=[model], profiles=PROFILES, pools=pools, nodes=nodes, deployments=[child], pods=[b.replica(child, "pod-1")]
    )
    patch = patches(cycle(observed), "Pin")["pod-1"]
    terms = patch.body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [term["matchFields"][0]["values"] for term in terms] == [["h100-0"], ["h100-1"]]
    assert patch.body["metadata"]["annotations"] == {naming.PLANNED_NODE: first.plan.starts[0].node}
    # From then on it is a replica, although no node is named in its affinity.
    free = b.replica(child, "pod-1", gates=(), annotations={naming.PLANNED_NODE: "h100-0"})
    again = b.observed(models=[model], profiles=PROFILES, pools=pools, nodes=nodes, deployments=[child], pods=[free])
    done = cycle(again)
    assert (done.plan.starts, done.plan.keep, done.actions.deletes) == ((), (free.uid,), ())


# ---- serving


def serving_patch(done: Done, name: str) -> Mapping[str, Any]:
    (found,) = patches(done, "Serving")[name].body["status"]["conditions"]
    return dict(found)


def test_a_replica_serves_once_its_engine_is_up() -> None:
    """Serving=True by server-side apply on the status, under the serving field manager's own condition."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    loading = look(model, deployments=(child,), pods=(b.replica(child, "pod-1", node="ppu-0"),))
    assert patches(loading, "Serving") == {}
    up = look(model, deployments=(child,), pods=(b.replica(child, "pod-1", node="ppu-0", up=True),))
    patch = patches(up, "Serving")["pod-1"]
    assert (patch.subresource, patch.apply_patch, patch.uid) == ("status", True, "uid-pod-1")
    assert serving_patch(up, "pod-1")["status"] == "True"


def test_a_replica_on_the_wrong_kind_of_node_never_serves() -> None:
    """Bound to a node of another profile than planned: it takes no traffic."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    done = look(model, deployments=(child,), pods=(b.replica(child, "pod-1", node="h100-0", up=True),))
    assert all(patch.body["status"]["conditions"][0]["status"] == "False" for patch in patches(done, "Serving").values())


def test_a_restarted_container_is_looked_at_anew() -> None:
    """The condition names the container that was let in; another id is another engine."""
    model = b.model("smol")
    child = children(model)["sandbox-ppu"]
    pod = b.replica(child, "pod-1", node="ppu-0", serving=True)
    assert patches(look(model, deployments=(child,), pods=(pod,)), "Serving") == {}
    restarted = replace(pod, containers=(replace(pod.containers[0], container_id="cri://another"),))
    done = look(model, deployments=(child,), pods=(restarted,))
    assert serving_patch(done, "pod-1")["message"] == "container cri://another"


# ---- removal


def test_a_victim_is_drained_first_and_still_counted() -> None:
    """Scale 2 -> 1: Serving False, lowest deletion cost and the draining label; the Deployment keeps 2 until that is seen."""
    model = b.model("smol", {"replicas": 1})
    child = replace_size(children(model)["sandbox-ppu"], 2)
    pods = tuple(b.replica(child, f"pod-{i}", node="ppu-0", serving=True) for i in (1, 2))
    done = look(model, deployments=(child,), pods=pods)
    (uid,) = done.plan.stop
    victim = uid.removeprefix("uid-")
    assert serving_patch(done, victim)["status"] == "False"
    assert patches(done, "DeletionCost")[victim].body == {
        "metadata": {
            "labels": {"polyfleet.io/draining": "true"},
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1000", "polyfleet.io/draining-since": b.NOW},
        }
    }
    assert b.sizes(done.actions) == {child.name: 2}
    assert done.actions.deletes == ()


def test_a_drained_victim_leaves_by_the_replica_set() -> None:
    """Once the label is seen the size goes down, and nothing is deleted by hand: the ReplicaSet takes the not-ready pod."""
    model = b.model("smol", {"replicas": 1})
    child = replace_size(children(model)["sandbox-ppu"], 2)
    stays = b.replica(child, "pod-1", node="ppu-0", serving=True)
    leaves = b.replica(child, "pod-2", node="ppu-0", serving=True, draining=True)
    done = look(model, deployments=(child,), pods=(stays, leaves))
    assert b.sizes(done.actions) == {child.name: 1}
    assert (done.actions.deletes, done.actions.pod_patches) == ((), ())


def test_a_drained_victim_is_deleted_by_uid_where_another_pod_would_go_before_it() -> None:
    """A pinned pod of the same child is not bound: the ReplicaSet would remove that one first."""
    model = b.model("m", {**NVIDIA_ONLY, "replicas": 1})
    child = replace_size(children(model)["sandbox-nvidia"], 2)
    leaves = b.replica(child, "old", node="h100-0", serving=True, draining=True)
    done = look(model, deployments=(child,), pods=(leaves, b.replica(child, "new", pinned="h100-0")))
    assert deleted(done) == {"old": ("uid-old", None)}


def test_an_empty_child_is_deleted_and_not_before() -> None:
    """With size 0 written and the last pod gone the Deployment goes, with its uid and version as preconditions."""
    model = b.model("smol")
    keep = children(model)["sandbox-ppu"]
    other = b.model("smol", NVIDIA_ONLY)
    obsolete = replace_size(children(other)["sandbox-nvidia"], 0)
    pod = b.replica(keep, "pod-1", node="ppu-0", serving=True)
    last = b.replica(obsolete, "old", node="h100-0", deleting=True)
    done = look(model, deployments=(keep, obsolete), pods=(pod, last))
    assert done.actions.deletes == ()
    done = look(model, deployments=(keep, obsolete), pods=(pod,))
    assert deleted(done) == {obsolete.name: (obsolete.uid, "5")}


def test_an_earlier_revision_keeps_the_template_that_is_stored() -> None:
    """Its spec can no longer be rendered: the whole stored one is applied, with another size."""
    old = children(b.model("smol", {"runtime": {"args": ["--old"]}}))["sandbox-ppu"]
    model = b.model("smol", {"runtime": {"args": ["--new"]}})
    pod = b.replica(old, "pod-1", node="ppu-0", serving=True)
    done = look(model, deployments=(old,), pods=(pod,))
    manifests = {m["metadata"]["name"]: m for m in b.applied(done.actions, "Deployment")}
    assert manifests[old.name]["spec"] == old.spec
    assert len(manifests) == 2  # and the new revision beside it


def test_suspend_removes_every_replica_and_keeps_the_endpoint() -> None:
    """All replicas are drained, Service and budget stay."""
    model = b.model("smol", {"suspend": True})
    child = children(b.model("smol"))["sandbox-ppu"]
    done = look(model, deployments=(child,), pods=(b.replica(child, "pod-1", node="ppu-0", serving=True),))
    assert list(patches(done, "DeletionCost")) == ["pod-1"]
    assert len(b.applied(done.actions, "Service")) == 1
