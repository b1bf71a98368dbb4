"""Who takes traffic: the pod condition `polyfleet.io/serving`, written by its own field manager.

True once the engine is up on a node of the planned kind; False as soon as the replica is to leave, or its node proves to be of another
kind. The container's id is part of
the condition, so that a restarted container is looked at anew. A condition that says what it should is not written again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet import hardware, naming
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


def admit(fleet: Fleet, item: Standing) -> list[PodPatch]:
    pod = item.pod
    if not pod.node or not engine_up(pod) or not hardware.verify(fleet, item).good:
        return []
    message = f"container {container_id(pod)}"
    current = pod.conditions.get(naming.SERVING)
    if current is not None and current.status == "True" and current.message == message:
        return []
    return [_condition(pod, "True", ADMITTED, message, "the engine is up on the planned hardware")]


def withdraw(item: Standing) -> list[PodPatch]:
    """A draining pod must not serve, whatever was lost on the way."""
    return _closed(item, DRAINING, "the replica is leaving", "drain")


def refuse(item: Standing, verdict: hardware.Verdict) -> list[PodPatch]:
    """An engine on other silicon than planned may answer differently: it takes no traffic until the node is what was planned."""
    return _closed(item, verdict.reason, verdict.text, "the node is not of the planned kind")


def _closed(item: Standing, reason: str, message: str, why: str) -> list[PodPatch]:
    current = item.pod.conditions.get(naming.SERVING)
    if current is not None and current.status == "False":
        return []
    return [_condition(item.pod, "False", reason, message, why)]


def drain(item: Standing, instead: tuple[tuple[str, str], ...] = ()) -> list[PodPatch]:
    """First traffic stops, then the pod becomes the one that the ReplicaSet removes. `instead`: children that are to take its place."""
    pod = item.pod
    body = {
        "metadata": {
            "labels": {naming.DRAINING: "true"},
            "annotations": {naming.DELETION_COST: VICTIM_COST},
        }
    }
    cost = PodPatch("DeletionCost", pod.namespace, pod.name, pod.uid, body, "the plan stops this replica")
    return [replace(patch, instead=instead) for patch in (*withdraw(item), cost)]


def _condition(pod: PodState, status: str, reason: str, message: str, why: str) -> PodPatch:
    body: dict[str, Any] = {"status": {"conditions": [{"type": naming.SERVING, "status": status, "reason": reason, "message": message}]}}
    return PodPatch("Serving", pod.namespace, pod.name, pod.uid, body, why, subresource="status", apply_patch=True)
