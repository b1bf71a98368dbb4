"""What is wrong with the pods of one model, in one reason: the row `WorkloadsReady`.

Each pod that is not up gives a finding; the findings are aggregated by reason with counts. The reason told is the one that needs a
hand first: what no waiting will cure comes before what time will.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from polyfleet import naming
from polyfleet.children import Child
from polyfleet.inventory import node_of, reserved
from polyfleet.serving import engine_up
from polyfleet.state import ContainerState, PodState
from polyfleet.status.conditions import FALSE, TRUE, Judged, counted, shorten

ROW = "WorkloadsReady"
ADMISSION_REJECTED = "AdmissionRejected"
IMAGE_PULL = "ImagePull"
CRASH_LOOP = "CrashLoop"
PENDING_SCHEDULING = "PendingScheduling"
MODEL_DOWNLOAD = "ModelDownload"
LOADING = "Loading"
# The one that needs a hand first.
ORDER = (ADMISSION_REJECTED, IMAGE_PULL, CRASH_LOOP, PENDING_SCHEDULING, MODEL_DOWNLOAD, LOADING)

# Kubelet's words for "the image cannot be had" and for "the container cannot be made".
_IMAGE_WORDS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError")
_START_WORDS = ("CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError")
_QUOTE = 300


@dataclass(frozen=True, slots=True)
class Finding:
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Behind:
    """Planned starts whose devices somebody still holds, and how many pods are waited for."""

    starts: int = 0
    leaving: int = 0


NOBODY = Behind()


def judge(
    children: Sequence[Child], wanted: int, forbidden: Sequence[str] = (), apart: Collection[str] = (), behind: Behind = NOBODY
) -> Judged:
    """`wanted` replicas are planned; those that exist are looked at, those that do not exist yet are counted as loading.

    `forbidden` quotes the API server where it let us not write a child. `apart`: uids of pods that count as nothing, so that they do not
    stand in for what is missing. `behind`: of what has no node yet, who waits for devices that others are leaving.
    """
    living = [pod for child in children for pod in child.live if pod.labels.get(naming.DRAINING) != "true" and pod.uid not in apart]
    up = sum(1 for pod in living if engine_up(pod))
    if up >= wanted:
        return Judged(ROW, TRUE, "Up" if wanted else "NoneWanted", "")
    missing = max(0, wanted - len(living))
    gated = [pod for pod in living if not pod.node and not node_of(pod)]
    wait = min(behind.starts, len(gated) + missing)
    still = {pod.uid for pod in gated[:wait]}
    findings = [finding for pod in living if pod.uid not in still and (finding := of_pod(pod)) is not None]
    if wait:
        findings.append(Finding(PENDING_SCHEDULING, f"{wait} waiting for {behind.leaving} terminating"))
    missing -= wait - len(still)
    findings += [finding for child in children for finding in _of_child(child)]
    findings += [Finding(ADMISSION_REJECTED, text) for text in forbidden]
    if missing > 0:
        findings.append(Finding(LOADING, f"{missing} being created"))
    for reason in ORDER:
        texts = [finding.text for finding in findings if finding.reason == reason]
        if texts:
            return Judged(ROW, FALSE, reason, counted(texts))
    return Judged(ROW, FALSE, LOADING, f"{up} of {wanted} replicas are up")


def _of_child(child: Child) -> list[Finding]:
    found: list[Finding] = []
    refused = child.deployment.conditions.get("ReplicaFailure")
    if refused is not None and refused.status == "True":
        # Quota, Pod Security or a webhook: the ReplicaSet may not create the pod.
        found.append(Finding(ADMISSION_REJECTED, shorten(refused.message, _QUOTE)))
    failed = [pod for pod in child.pods if pod.phase == "Failed"]
    if failed:
        last = max(failed, key=lambda pod: (pod.created, pod.uid))
        found.append(Finding(ADMISSION_REJECTED, f"{len(failed)} rejected at {last.node or 'the node'}: {last.reason or 'Failed'}"))
    return found


def of_pod(pod: PodState) -> Finding | None:
    """Why one pod is not up; None if it is."""
    if engine_up(pod):
        return None
    if not pod.node:
        return _unbound(pod)
    for container in pod.containers:
        finding = _of_container(container)
        if finding is not None:
            return finding
    initialized = pod.conditions.get("Initialized")
    if initialized is not None and initialized.status == "False":
        return Finding(MODEL_DOWNLOAD, f"init containers run on {pod.node}")
    return Finding(LOADING, f"loading on {pod.node}")


def _unbound(pod: PodState) -> Finding:
    if reserved(pod):
        return Finding(PENDING_SCHEDULING, f"planned on {node_of(pod)}, waits for devices that others are leaving")
    if naming.GATE in pod.gates or not node_of(pod):
        return Finding(PENDING_SCHEDULING, "waits for its place in the plan")
    scheduled = pod.conditions.get("PodScheduled")
    if scheduled is not None and scheduled.status == "False" and scheduled.message and scheduled.reason != "SchedulingGated":
        return Finding(PENDING_SCHEDULING, f'planned on {node_of(pod)}; the scheduler says "{shorten(scheduled.message, _QUOTE)}"')
    return Finding(PENDING_SCHEDULING, f"planned on {node_of(pod)}, not bound yet")


def _of_container(container: ContainerState) -> Finding | None:
    if container.state == "waiting" and container.reason in _IMAGE_WORDS:
        return Finding(IMAGE_PULL, f"{container.reason}: {shorten(container.message, _QUOTE)}")
    if container.state == "waiting" and container.reason in _START_WORDS:
        return Finding(CRASH_LOOP, f"container {container.name}: {container.reason}: {shorten(container.message, _QUOTE)}")
    if container.state == "terminated" and container.exit_code not in (0, None):
        # The kubelet's back-off begins with the second exit; the message does not count restarts, because that number moves.
        return Finding(CRASH_LOOP, f"container {container.name} ended with code {container.exit_code}")
    return None
