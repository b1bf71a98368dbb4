"""Who takes traffic: the pod condition `polyfleet.io/serving`, written by its own field manager.

True once the engine is up on a node of the planned kind; False as soon as the replica is to leave. The container's id is part of
the condition, so that a restarted container is looked at anew. A condition that says what it should is not written again.
"""

from __future__ import annotations

from typing import Any

from polyfleet import naming
from polyfleet.actions import PodPatch
from polyfleet.fleet import Fleet
from polyfleet.render.pod import CONTAINER
from polyfleet.snapshot import Standing
from polyfleet.state import PodState

ADMITTED = "Admitted"
DRAINING = "Draining"
# Lower than any other pod's, whose cost is 0 by default.
VICTIM_COST = "-1000"


def engine_up(pod: PodState) -> bool:
    all_ready = pod.conditions.get("ContainersReady")
    if all_ready is not None:
        return all_ready.status == "True"
    return any(container.name == CONTAINER and container.ready for container in pod.containers)


def container_id(pod: PodState) -> str:
    return next((container.container_id for container in pod.containers if container.name == CONTAINER), "")


def on_planned_kind(fleet: Fleet, item: Standing) -> bool:
    """The bound node belongs to a pool of the profile that the replica was planned for."""
    pool = fleet.pool(fleet.pool_of.get(item.pod.node, ""))
    return pool is not None and pool.profile_name == item.child.profile


def admit(fleet: Fleet, item: Standing) -> list[PodPatch]:
    pod = item.pod
    if not pod.node or not engine_up(pod) or not on_planned_kind(fleet, item):
        return []
    message = f"container {container_id(pod)}"
    current = pod.conditions.get(naming.SERVING)
    if current is not None and current.status == "True" and current.message == message:
        return []
    return [_condition(pod, "True", ADMITTED, message, "the engine is up on the planned hardware")]


def withdraw(item: Standing) -> list[PodPatch]:
    """A draining pod must not serve, whatever was lost on the way."""
    current = item.pod.conditions.get(naming.SERVING)
    if current is not None and current.status == "False":
        return []
    return [_condition(item.pod, "False", DRAINING, "the replica is leaving", "drain")]


def drain(item: Standing) -> list[PodPatch]:
    """First traffic stops, then the pod becomes the one that the ReplicaSet removes."""
    pod = item.pod
    body = {
        "metadata": {
            "labels": {naming.DRAINING: "true"},
            "annotations": {naming.DELETION_COST: VICTIM_COST},
        }
    }
    return [*withdraw(item), PodPatch("DeletionCost", pod.namespace, pod.name, pod.uid, body, "the plan stops this replica")]


def _condition(pod: PodState, status: str, reason: str, message: str, why: str) -> PodPatch:
    body: dict[str, Any] = {"status": {"conditions": [{"type": naming.SERVING, "status": status, "reason": reason, "message": message}]}}
    return PodPatch("Serving", pod.namespace, pod.name, pod.uid, body, why, subresource="status", apply_patch=True)
