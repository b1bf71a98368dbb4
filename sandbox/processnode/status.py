"""A pod's status out of what the agent knows: phase, conditions and container states by the kubelet's rules. Pure.

Only the kubelet's own conditions are written; the strategic merge keeps those of others (readiness gates). A condition keeps its
lastTransitionTime as long as its status word stays the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandbox.processnode import timestamps
from sandbox.processnode.records import ContainerRecord, Running, Terminated, Waiting

Json = dict[str, Any]
TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True)
class PodFacts:
    """Everything about a pod but its containers."""

    pod: Mapping[str, Any]
    pod_ip: str
    host_ip: str
    started_at: datetime
    sandbox_ready: bool = False
    """Volumes are in place and containers may start."""
    ended: bool = False
    """Nothing runs and nothing will: the pod was stopped."""
    rejected: tuple[str, str] | None = None
    """Reason and message when the node did not admit the pod."""


def phase(policy: str, init: Sequence[ContainerRecord], main: Sequence[ContainerRecord], ended: bool) -> str:
    """The pod's phase."""
    if ended:
        failed = any(not isinstance(r.state, Terminated) or r.state.exit_code != 0 for r in (*init, *main))
        return "Failed" if failed else "Succeeded"
    if any(r.done and isinstance(r.state, Terminated) and r.state.exit_code != 0 for r in init):
        return "Failed"
    if not all(initialized(r) for r in init):
        return "Pending"
    if any(isinstance(r.state, Waiting) and r.last is None for r in main):
        return "Pending"
    if any(isinstance(r.state, Running) for r in main):
        return "Running"
    if policy != "Always" and all(r.done for r in main):
        return "Succeeded" if all(isinstance(r.state, Terminated) and r.state.exit_code == 0 for r in main) else "Failed"
    return "Running"


def initialized(record: ContainerRecord) -> bool:
    """Whether an init container has done its work."""
    return isinstance(record.state, Terminated) and record.state.exit_code == 0


def container_status(record: ContainerRecord) -> Json:
    """One entry of containerStatuses."""
    identity = {"containerID": record.container_id} if record.container_id else {}
    return {
        **identity,
        "name": record.name,
        "image": record.image,
        "imageID": "" if record.attempt == 0 else f"process://{record.image}",
        "restartCount": record.restarts,
        "ready": record.ready if not record.is_init else initialized(record),
        "started": record.started,
        "state": record.state.to_status(),
        "lastState": record.last.to_status() if record.last else {},
    }


def pod_status(
    facts: PodFacts, init: Sequence[ContainerRecord], main: Sequence[ContainerRecord], known: Mapping[str, Json], now: datetime
) -> Json:
    """The status to write. ``known`` are the pod's conditions by type, as last seen or written."""
    generation = facts.pod["metadata"].get("generation")
    base: Json = {"startTime": timestamps.seconds(facts.started_at), "hostIP": facts.host_ip, "hostIPs": [{"ip": facts.host_ip}]}
    if generation is not None:
        base["observedGeneration"] = generation
    if facts.rejected:
        # Like the kubelet, which rejects a pod before it has an address and writes no container statuses.
        return {"phase": "Failed", "reason": facts.rejected[0], "message": facts.rejected[1], "startTime": base["startTime"]}
    current = phase(facts.pod["spec"].get("restartPolicy", "Always"), init, main, facts.ended)
    status: Json = {**base, "phase": current, "containerStatuses": [container_status(r) for r in main]}
    if init:
        status["initContainerStatuses"] = [container_status(r) for r in init]
    if facts.pod_ip and facts.sandbox_ready:
        status |= {"podIP": facts.pod_ip, "podIPs": [{"ip": facts.pod_ip}]}
    status["conditions"] = [_dated(condition, known, generation, now) for condition in _conditions(facts, current, init, main, known)]
    return status


def _conditions(
    facts: PodFacts, current: str, init: Sequence[ContainerRecord], main: Sequence[ContainerRecord], known: Mapping[str, Json]
) -> list[Json]:
    completed = _condition("False", "PodCompleted") if current == "Succeeded" else None
    waiting = [r.name for r in init if not initialized(r)]
    incomplete = f"containers with incomplete status: [{' '.join(waiting)}]"
    initial = _condition("False", "ContainersNotInitialized", incomplete) if waiting else None
    unready = [r.name for r in main if not r.ready]
    containers = _condition("False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]") if unready else None
    if current == "Failed":
        containers = containers or _condition("False", "PodFailed")
    containers = completed or containers
    gates = containers or _gates(facts.pod, known)
    return [
        {"type": "PodReadyToStartContainers", **_condition("True" if facts.sandbox_ready and not facts.ended else "False")},
        {"type": "Initialized", **(initial or _condition("True", completed["reason"] if completed else ""))},
        {"type": "ContainersReady", **(containers or _condition("True"))},
        {"type": "Ready", **(gates or _condition("True"))},
        {"type": "PodScheduled", **_condition("True")},
    ]


def _gates(pod: Mapping[str, Any], known: Mapping[str, Json]) -> Json | None:
    messages = []
    for gate in pod["spec"].get("readinessGates") or []:
        name = gate["conditionType"]
        condition = known.get(name)
        if condition is None:
            messages.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif condition["status"] != "True":
            messages.append(f'the status of pod readiness gate "{name}" is not "True", but {condition["status"]}')
    return _condition("False", "ReadinessGatesNotReady", ", ".join(messages)) if messages else None


def _condition(status: str, reason: str = "", message: str = "") -> Json:
    return {"status": status, "reason": reason, "message": message}


def _dated(condition: Json, known: Mapping[str, Json], generation: int | None, now: datetime) -> Json:
    before = known.get(condition["type"])
    same = before is not None and before["status"] == condition["status"] and before.get("lastTransitionTime")
    dated: Json = {
        **condition,
        # null removes what an earlier write left: a strategic merge keeps what is not named.
        "reason": condition["reason"] or None,
        "message": condition["message"] or None,
        "lastProbeTime": None,
        "lastTransitionTime": before["lastTransitionTime"] if same and before else timestamps.seconds(now),
    }
    if generation is not None:
        dated["observedGeneration"] = generation
    return dated
