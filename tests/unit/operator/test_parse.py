"""Raw API objects to slim values; expected numbers follow the Kubernetes documentation, not the code."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from polyfleet import parse


def pod(spec: dict[str, Any], *, labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "llm", "name": "p", "uid": "u1", "resourceVersion": "7", "labels": labels or {}}
    return {"metadata": metadata, "spec": spec, "status": status}


def holder(count: int, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"limits": {"nvidia.com/gpu": str(count), "cpu": "2"}}, **more}


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), (8, 8), ("1k", 1000), ("2Ki", 2048), ("500m", Decimal("0.5")), ("1e3", 1000), ("1E", 10**18), ("x", None), ("", None)],
)
def test_quantity(text: object, value: object) -> None:
    """Kubernetes quantities in their three notations; anything else is unknown, not zero."""
    assert parse.quantity(text) == value


def test_only_extended_resources_count() -> None:
    """Names with a slash are extended resources; cpu and memory are not ours to plan."""
    assert parse.extended({"cpu": "64", "memory": "1Ti", "huawei.com/Ascend910": "16"}) == {"huawei.com/Ascend910": 16}


def test_pod_requests_add_up_over_containers() -> None:
    """Two containers of 2 and 3 devices hold 5."""
    assert parse.pod_requests({"containers": [holder(2), holder(3)]}) == {"nvidia.com/gpu": 5}


def test_pod_requests_take_the_larger_init_container() -> None:
    """An init container of 4 runs before the main container of 1: the pod needs 4."""
    assert parse.pod_requests({"initContainers": [holder(4)], "containers": [holder(1)]}) == {"nvidia.com/gpu": 4}


def test_pod_requests_count_sidecars_with_the_main_containers() -> None:
    """A restartable init container keeps running: 1 + 2 = 3, and a later init container of 4 needs 1 + 4 = 5."""
    sidecar = holder(1, restartPolicy="Always")
    assert parse.pod_requests({"initContainers": [sidecar], "containers": [holder(2)]}) == {"nvidia.com/gpu": 3}
    assert parse.pod_requests({"initContainers": [sidecar, holder(4)], "containers": [holder(2)]}) == {"nvidia.com/gpu": 5}


def test_a_foreign_pod_without_devices_is_dropped_and_one_with_devices_is_slim() -> None:
    """Others' pods count for their devices only."""
    assert parse.pod(pod({"containers": [{"name": "web"}]}, phase="Running")) is None
    kept = parse.pod(pod({"nodeName": "n1", "containers": [holder(2)]}, labels={"app": "x"}, phase="Running"))
    assert kept is not None
    assert (kept.node, kept.requests, kept.labels, kept.finished) == ("n1", {"nvidia.com/gpu": 2}, {}, False)


def test_our_pod_keeps_everything_that_a_decision_reads() -> None:
    """Gates, pin, conditions, containers and owner of a pod with our label."""
    spec = {
        "containers": [holder(1)],
        "schedulingGates": [{"name": "polyfleet.io/placement"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["h100-0"]}]}]
                }
            }
        },
    }
    raw = pod(
        spec,
        labels={"polyfleet.io/deployment": "m"},
        phase="Running",
        conditions=[{"type": "polyfleet.io/serving", "status": "True", "reason": "Serves", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        containerStatuses=[
            {"name": "engine", "ready": False, "restartCount": 3, "containerID": "containerd://a",
             "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}
        ],
    )  # fmt: skip
    raw["metadata"]["ownerReferences"] = [{"uid": "other"}, {"uid": "rs1", "controller": True}]
    raw["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{...}", "polyfleet.io/x": "y"}
    kept = parse.pod(raw)
    assert kept is not None
    assert kept.gates == ("polyfleet.io/placement",)
    assert kept.pinned_node == "h100-0"
    assert kept.owner_uid == "rs1"
    assert kept.annotations == {"polyfleet.io/x": "y"}
    assert kept.conditions["polyfleet.io/serving"].status == "True"
    engine = kept.containers[0]
    assert (engine.state, engine.reason, engine.restarts, engine.ready) == ("waiting", "CrashLoopBackOff", 3, False)


def test_alternatives_are_no_pin() -> None:
    """Two node selector terms are alternatives, so the pod is not pinned to either."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term, term]}}}
    assert parse.pinned_node({"affinity": affinity}) == ""


@pytest.mark.parametrize(("status", "ready"), [("True", True), ("False", False), ("Unknown", None), (None, None)])
def test_node_readiness_has_three_values(status: str | None, ready: bool | None) -> None:
    """A node whose kubelet fell silent is unknown, which is not the same as not ready."""
    conditions = [{"type": "Ready", "status": status}] if status else []
    raw = {
        "metadata": {"name": "n", "uid": "u", "labels": {"a": "b"}},
        "spec": {"unschedulable": True, "taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {
            "conditions": conditions,
            "capacity": {"cpu": "1", "alibabacloud.com/ppu": "16"},
            "allocatable": {"alibabacloud.com/ppu": "15"},
        },
    }
    node = parse.node(raw)
    assert node.ready is ready
    assert node.unschedulable
    assert (node.capacity, node.allocatable) == ({"alibabacloud.com/ppu": 16}, {"alibabacloud.com/ppu": 15})
    assert (node.taints[0].key, node.taints[0].value, node.taints[0].effect) == ("k", "", "NoSchedule")


def test_deployment_defaults() -> None:
    """A Deployment without `replicas` has one, as the API documents; absent status is zero, not an error."""
    raw = {"metadata": {"namespace": "llm", "name": "d", "uid": "u", "resourceVersion": "1"}, "spec": {}}
    state = parse.deployment(raw)
    assert (state.replicas, state.status_replicas, state.observed_generation, state.deleting) == (1, 0, 0, False)
