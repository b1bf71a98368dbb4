"""Who takes traffic: the pod condition `polyfleet.io/serving`, written by its own field manager.

True once the engine is up on a node of the planned kind and the accuracy gate lets this container in; False as soon as the replica is
to leave, its node proves to be of another kind, or its container restarted: the container's id is part of the condition, and a new one
is checked anew. A replica whose answers proved to be wrong loses its traffic while another one serves; the last capacity never does. A
condition that says what it should is not written again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet import hardware, naming
from polyfleet.actions import PodPatch
from polyfleet.clearance.standing import PodStand, State
from polyfleet.fleet import Fleet
from polyfleet.render.pod import CONTAINER
from polyfleet.snapshot import Standing
from polyfleet.state import PodState

ADMITTED = "Admitted"
RESTARTED = "Restarted"
CANDIDATE = "Candidate"
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


def hold_back(item: Standing, stand: PodStand) -> list[PodPatch]:
    """Of a replica that the gate does not let in: the condition says what it waits for."""
    reason = {State.CANDIDATE: CANDIDATE, State.ENTRY: "EntryCheck"}.get(stand.state, stand.reason or str(stand.state))
    text = {
        State.CANDIDATE: f"under test on {item.child.profile}: no verdict for what it runs yet",
        State.ENTRY: "its entry check is not passed yet",
    }.get(stand.state, stand.message or str(stand.state))
    current = item.pod.conditions.get(naming.SERVING)
    if current is not None and current.status == "True" and current.message != f"container {container_id(item.pod)}":
        return [_condition(item.pod, "False", RESTARTED, text, "its container restarted")]
    if not item.pod.node or not engine_up(item.pod):
        return []
    if current is not None and current.status == "False" and (current.reason, current.message) == (reason, text):
        return []
    return [_condition(item.pod, "False", reason, text, "the accuracy gate")]


def expel(item: Standing, stand: PodStand) -> list[PodPatch]:
    """A serving replica whose answers are wrong, while others serve."""
    return _closed(item, stand.reason or str(stand.state), stand.message, "its answers are not equivalent")


def mark(item: Standing, candidate: bool) -> list[PodPatch]:
    """The label by which people find candidates."""
    if (naming.CANDIDATE in item.pod.labels) == candidate:
        return []
    body = {"metadata": {"labels": {naming.CANDIDATE: "true" if candidate else None}}}
    why = "candidate" if candidate else "no candidate any more"
    return [PodPatch("Candidate", item.pod.namespace, item.pod.name, item.pod.uid, body, why)]


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


def drain(item: Standing, instead: tuple[tuple[str, str], ...] = (), now: str | None = None) -> list[PodPatch]:
    """First traffic stops, then the pod becomes the one that the ReplicaSet removes. `instead`: children that are to take its place.
    `now`: of a serving replica it is noted when its drain began, because its requests are waited for."""
    pod = item.pod
    since = {naming.DRAIN_SINCE: now} if now is not None and item.serving else {}
    body = {
        "metadata": {
            "labels": {naming.DRAINING: "true"},
            "annotations": {naming.DELETION_COST: VICTIM_COST, **since},
        }
    }
    cost = PodPatch("DeletionCost", pod.namespace, pod.name, pod.uid, body, "the plan stops this replica")
    return [replace(patch, instead=instead) for patch in (*withdraw(item), cost)]


def _condition(pod: PodState, status: str, reason: str, message: str, why: str) -> PodPatch:
    body: dict[str, Any] = {"status": {"conditions": [{"type": naming.SERVING, "status": status, "reason": reason, "message": message}]}}
    return PodPatch("Serving", pod.namespace, pod.name, pod.uid, body, why, subresource="status", apply_patch=True)
