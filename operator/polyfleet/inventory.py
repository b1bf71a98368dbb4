"""Devices of one node: how many are installed, allocatable and held, and why it may take nothing.

    free(node) = max(0, allocatable - devices held by every unfinished pod that is bound or pinned there, under every alias)

Pods count whoever owns them, and terminating ones count until they are gone: the kubelet gives a device back only then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from hwprofiles import HardwareProfileSpec, shared_reason
from hwprofiles.resources import resource_names
from hwprofiles.versions import older
from polyfleet import naming
from polyfleet.state import NodeState, PodState, Taint

NOT_READY = "NotReady"
CORDONED = "Cordoned"
TAINTED = "Tainted"
DEVICES_MISSING = "DevicesMissing"
DEVICES_WITHDRAWN = "DevicesWithdrawn"
SHARED_DEVICES = "SharedDevices"
DRIVER_TOO_OLD = "DriverTooOld"
NO_MATCHING_PROFILE = "NoMatchingProfile"

_SHARED_SUFFIX = ".shared"

# The taints that the node controller itself sets for a state that has its own word here.
_OWN_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node.kubernetes.io/unschedulable")


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.operator == "Exists"
        return self.key == taint.key and (self.operator == "Exists" or self.value == taint.value)

    def manifest(self) -> dict[str, str]:
        found = {"key": self.key, "operator": self.operator, "value": self.value, "effect": self.effect}
        return {name: text for name, text in found.items() if text}


@dataclass(frozen=True, slots=True)
class HeldIndex:
    """Pods that hold devices, by node. A pinned pod holds its devices on the pinned node from the pin on."""

    by_node: Mapping[str, tuple[PodState, ...]] = field(default_factory=dict)

    def of(self, node: str) -> tuple[PodState, ...]:
        return self.by_node.get(node, ())


def node_of(pod: PodState) -> str:
    """Where the pod is, or where it was told to go."""
    return pod.node or pod.pinned_node or pod.annotations.get(naming.PLANNED_NODE, "")


def reserved(pod: PodState) -> bool:
    """Gated, and promised a node on which others are still leaving: what it waits for is counted as theirs until they are gone."""
    return naming.GATE in pod.gates and not pod.node and not pod.pinned_node and bool(node_of(pod))


def holds(pod: PodState) -> bool:
    """Whether it holds devices where it is."""
    return bool(pod.requests) and not pod.finished


def device_names(profile: HardwareProfileSpec) -> tuple[str, ...]:
    """Every name under which a pod may hold one of these devices."""
    names = resource_names(profile)
    return (*names, *(f"{alias.name}{_SHARED_SUFFIX}" for alias in profile.resources))


def devices_of(pod: PodState, names: Collection[str]) -> int:
    return sum([count for name, count in pod.requests.items() if name in names])


def sharing(node: NodeState, profile: HardwareProfileSpec, names: Collection[str] = ()) -> str | None:
    """Why the node's devices are not whole ones; None if they are. `names`: `device_names(profile)`, if the caller has them.

    Only the profile's own resources are looked at: MIG slices beside whole GPUs leave the whole ones whole.
    """
    if profile.unit.kind == "slice":
        return None
    own = names or device_names(profile)
    amounts = {name: count for name, count in node.capacity.items() if name in own}
    for name, count in node.allocatable.items():
        if name in own and count > amounts.get(name, -1):
            amounts[name] = count
    return shared_reason(profile, node.labels, amounts)


def intolerable(node: NodeState, tolerations: Iterable[Toleration]) -> tuple[Taint, ...]:
    if not node.taints:
        return ()
    given = tuple(tolerations)
    return tuple(
        taint
        for taint in node.taints
        if taint.effect in ("NoSchedule", "NoExecute")
        and taint.key not in _OWN_TAINTS
        and not any(toleration.tolerates(taint) for toleration in given)
    )


def driver_fault(node: NodeState, profile: HardwareProfileSpec) -> str:
    """What every engine of the profile misses on this node, in words; "" if one of them can run. An absent label is unknown, not old."""
    faults: list[str] = []
    if not any(engine.requires for engine in (profile.engines or {}).values()):
        return ""
    for name, engine in sorted((profile.engines or {}).items()):
        unmet = [item for item in engine.requires if item.node_label in node.labels and _below(node.labels[item.node_label], item.min)]
        if not unmet:
            return ""
        faults += [f"{name} needs {item.node_label} >= {item.min}, node has {node.labels[item.node_label]}" for item in unmet]
    return "; ".join(faults)


def _below(have: str, least: str) -> bool:
    """Compared number by number; text that is no version is never called old."""
    return older(have, least) is True


def exclusion(node: NodeState, resource: str, profile: HardwareProfileSpec, tolerations: Iterable[Toleration]) -> str:
    """Why the node may take no new replica, by precedence; "" if it may.

    Sharing is judged apart, because models that allow it may use shared devices.
    """
    if node.ready is not True:
        return NOT_READY
    if node.unschedulable:
        return CORDONED
    if intolerable(node, tolerations):
        return TAINTED
    if not resource or resource not in node.allocatable:
        # A missing key means that no device plugin has registered (yet).
        return DEVICES_MISSING
    if node.allocatable[resource] <= 0:
        return DEVICES_WITHDRAWN if node.capacity.get(resource, 0) > 0 else DEVICES_MISSING
    return DRIVER_TOO_OLD if driver_fault(node, profile) else ""
