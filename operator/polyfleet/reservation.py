"""How long a node is held for a replica that waits for others to leave it (`preemption.reservationTimeout`).

A start that waits for devices of leaving replicas has its node reserved (`binding`): the devices that come free one by one are nobody
else's. The time counts from the reservation. When it is over and the devices are still not all free, the reservation ends: the gated pod
is deleted and planned anew, so that what is free can be given to whoever fits there.

Planned anew at once, the same replica would be promised the same devices again. So of a replica that has been leaving for as long, nobody
counts on the devices before it is really gone: to the placer they are held by others. When it has gone they are free like any others.

Where the moment is not recorded (no clock, or reserved by an earlier version) nothing ends.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from hwprofiles.schema import duration_seconds
from polyfleet import naming
from polyfleet.fleet import Fleet
from polyfleet.inventory import node_of, reserved
from polyfleet.state import PodState

if TYPE_CHECKING:
    from polyfleet.inputs import Inputs


def ended(pod: PodState, now: str | None, timeout_s: float) -> bool:
    """Whether the pod's reservation has had all its time."""
    left = _left(pod.annotations.get(naming.RESERVED_SINCE, ""), now, timeout_s) if reserved(pod) else None
    return left is not None and left <= 0


def overdue(pod: PodState, now: str | None, timeout_s: float) -> bool:
    """Whether a draining pod has been leaving for so long that nobody is told any more to wait for it."""
    if not pod.deleting and pod.labels.get(naming.DRAINING) != "true":
        return False
    left = _left(pod.annotations.get(naming.DRAIN_SINCE, ""), now, timeout_s)
    return left is not None and left <= 0


def next_of(inputs: Inputs, now: str) -> float | None:
    """Seconds until the next reservation of the fleet ends; None without any that may."""
    timeout_s = duration_seconds(inputs.policy.preemption.reservation_timeout)
    pods = [pod for view in inputs.models.values() for child in view.children for pod in child.reserved]
    found = [_left(pod.annotations.get(naming.RESERVED_SINCE, ""), now, timeout_s) for pod in pods]
    return min((max(0.0, left) for left in found if left is not None), default=None)


def told(fleet: Fleet, pod: PodState, timeout: str) -> str:
    """What is said of a reservation that ended."""
    waited = set(pod.annotations.get(naming.WAITS_FOR, "").split(",")) - {""}
    node = node_of(pod)
    there = sorted(f"{other.namespace}/{other.name}" for other in fleet.held.of(node) if other.uid in waited)
    more = f" and {len(there) - 3} more" if len(there) > 3 else ""
    still = f"{', '.join(there[:3])}{more} did not leave" if there else "others hold some"
    count = sum(pod.requests.values())
    return f"{node} was held for it for {timeout}, and its {count} devices did not all come free: {still}. Others may take what is free"


def _left(since: str, now: str | None, timeout_s: float) -> float | None:
    if now is None or not since:
        return None
    try:
        return timeout_s - (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds()
    except (ValueError, TypeError):
        return None
