"""What differs between the vendors' device plugins: names, ids, environment and preferred allocation. Pure: no I/O.

Conventions and their sources are those of the vendors' plugins: NVIDIA k8s-device-plugin (`NVIDIA_VISIBLE_DEVICES` holds ids, preferred
allocation is answered), Huawei MindCluster (`ASCEND_VISIBLE_DEVICES` holds chip numbers, preferred allocation is *not* answered, so the
kubelet chooses dies without regard to cards), Alibaba ACK (`alibabacloud.com/ppu`; its environment is not documented, so the name
`PPU_VISIBLE_DEVICES` is the sandbox's own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LABEL_KIND = "sandbox.polyfleet.io/device-kind"
LABEL_COUNT = "sandbox.polyfleet.io/device-count"
LABEL_RESOURCE = "sandbox.polyfleet.io/device-resource"

FAULT_VARIABLE = "POLYFLEET_FAULT_FILE"
FAULT_FILE = "faults"
FAULT_FOLDER = "/run/polyfleet-sandbox"
"""A file of the node, beside the one of withdrawn devices: the sandbox's engine reads deliberate faults there, one a line. Every container
that is given devices sees that folder of its node here, read-only: so what is wrong with a node changes nothing that the API shows."""

MAX_DEVICES = 1024
"""Upper end of the count label: above every real node (16 units), small enough that a typo is seen as one."""


class LabelError(ValueError):
    """A node label says something that no plugin can advertise."""


@dataclass(frozen=True)
class DeviceKind:
    """One vendor's conventions."""

    name: str
    resource: str
    id_pattern: str
    """Device id as the kubelet knows it; `{node}` and `{index}` are filled in."""
    variable: str
    """The environment variable by which a container learns its devices."""
    value_is_id: bool
    """True: the variable holds whole ids. False: the trailing numbers only."""
    prefers: bool
    """True: the plugin answers GetPreferredAllocation."""


KINDS: Mapping[str, DeviceKind] = {
    kind.name: kind
    for kind in (
        DeviceKind("nvidia", "nvidia.com/gpu", "GPU-{node}-{index}", "NVIDIA_VISIBLE_DEVICES", value_is_id=True, prefers=True),
        DeviceKind("ascend", "huawei.com/Ascend910", "Ascend910-{index}", "ASCEND_VISIBLE_DEVICES", value_is_id=False, prefers=False),
        DeviceKind("ppu", "alibabacloud.com/ppu", "ppu-{index}", "PPU_VISIBLE_DEVICES", value_is_id=False, prefers=True),
    )
}


@dataclass(frozen=True)
class Advertisement:
    """What one node offers."""

    kind: DeviceKind
    resource: str
    ids: tuple[str, ...]

    def environment(self, ids: Sequence[str]) -> dict[str, str]:
        """The variables of a container that was given these devices, lowest first whatever order the kubelet used."""
        ordered = sorted(ids, key=index_of)
        values = ordered if self.kind.value_is_id else [str(index_of(device)) for device in ordered]
        return {self.kind.variable: ",".join(values)}


def index_of(device_id: str) -> int:
    """The number at the end of a device id."""
    return int(device_id.rpartition("-")[2])


def advertisement(node: str, labels: Mapping[str, str]) -> Advertisement:
    """Read what to advertise from a node's labels; the resource label writes "/" as "_", because a label value cannot hold a slash."""
    name = labels.get(LABEL_KIND, "")
    kind = KINDS.get(name)
    if kind is None:
        raise LabelError(
            f'node {node}: label {LABEL_KIND} is "{name}"; allowed: {", ".join(sorted(KINDS))}. '
            f"Set it with: kubectl label node {node} --overwrite {LABEL_KIND}=nvidia"
        )
    text = labels.get(LABEL_COUNT, "")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_DEVICES):
        raise LabelError(
            f'node {node}: label {LABEL_COUNT} is "{text}"; allowed: a whole number from 1 to {MAX_DEVICES}. '
            f"Set it with: kubectl label node {node} --overwrite {LABEL_COUNT}=8"
        )
    resource = labels.get(LABEL_RESOURCE, "").replace("_", "/", 1) or kind.resource
    if "/" not in resource:
        raise LabelError(
            f'node {node}: label {LABEL_RESOURCE} is "{resource}"; allowed: a resource name with its domain, "/" written as "_". '
            f"Set it with: kubectl label node {node} --overwrite {LABEL_RESOURCE}={kind.resource.replace('/', '_')}"
        )
    ids = tuple(kind.id_pattern.format(node=node, index=index) for index in range(int(text)))
    return Advertisement(kind, resource, ids)


def preferred(available: Sequence[str], must_include: Sequence[str], size: int) -> list[str]:
    """Choose `size` of the available devices: those that must be in, then the run of neighbours that starts lowest, else the lowest.

    Neighbours keep large holes whole for later, which is what the vendors' aligned policies are for.
    """
    chosen = sorted(set(must_include), key=index_of)
    free = sorted(set(available) - set(chosen), key=index_of)
    missing = size - len(chosen)
    if missing <= 0:
        return chosen[:size]
    run = free[:missing]
    for start in range(len(free) - missing + 1):
        window = free[start : start + missing]
        if index_of(window[-1]) - index_of(window[0]) == missing - 1:
            run = window
            break
    return sorted(chosen + run, key=index_of)


def withdrawn_ids(text: str) -> frozenset[str]:
    """The ids in a withdrawn file: one a line; blank lines and lines that start with # are skipped."""
    lines = (line.strip() for line in text.splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))
