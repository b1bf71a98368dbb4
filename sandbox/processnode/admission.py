"""Whether a node takes a pod that was bound to it: the kubelet's last look, because the scheduler's view may be old. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from sandbox.processnode.devices import AdmissionError
from sandbox.processnode.fleetnode import MAX_PODS
from sandbox.processnode.rewrite import quantity_milli


def request(container: Mapping[str, Any], resource: str) -> int:
    """A container's request in thousandths; a limit alone is a request too."""
    resources = container.get("resources") or {}
    text = (resources.get("requests") or {}).get(resource) or (resources.get("limits") or {}).get(resource) or "0"
    return quantity_milli(str(text))


def device_requests(containers: Iterable[Mapping[str, Any]], resource: str) -> dict[str, int]:
    """Container name → devices asked for, where any are."""
    counts = {container["name"]: request(container, resource) // 1000 for container in containers}
    return {name: count for name, count in counts.items() if count}


def pod_request(pod: Mapping[str, Any], resource: str) -> int:
    """What a pod needs in thousandths: all main containers together, or the largest init container alone."""
    spec = pod["spec"]
    main = sum(request(container, resource) for container in spec["containers"])
    init = max((request(container, resource) for container in spec.get("initContainers") or []), default=0)
    overhead = quantity_milli(str((spec.get("overhead") or {}).get(resource, "0")))
    return max(main, init) + overhead


def check_room(pod: Mapping[str, Any], others: Iterable[Mapping[str, Any]], allocatable: Mapping[str, str]) -> None:
    """Raise AdmissionError when cpu, memory or the number of pods would be exceeded by the unfinished pods of the node."""
    present = list(others)
    if len(present) + 1 > MAX_PODS:
        raise AdmissionError(
            "OutOfpods",
            f"Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {len(present)}, capacity: {MAX_PODS}",
        )
    for resource in ("cpu", "memory"):
        wanted, limit = pod_request(pod, resource), quantity_milli(allocatable[resource])
        used = sum(pod_request(other, resource) for other in present)
        if wanted and used + wanted > limit:
            amounts = (wanted, used, limit) if resource == "cpu" else tuple(amount // 1000 for amount in (wanted, used, limit))
            raise AdmissionError(
                f"OutOf{resource}",
                f"Pod was rejected: Node didn't have enough resource: {resource}, "
                f"requested: {amounts[0]}, used: {amounts[1]}, capacity: {amounts[2]}",
            )
