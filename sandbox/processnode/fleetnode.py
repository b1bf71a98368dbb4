"""The node that the agent plays: what a fleet file says about it, and the Node object that follows. Pure."""

import json
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.deviceplugin.kinds import LABEL_COUNT, LABEL_KIND, LABEL_RESOURCE, Advertisement, advertisement
from sandbox.processnode import timestamps

MAX_PODS = 110  # the kubelet's default
SANDBOX_LABEL = "polyfleet.io/sandbox"


class Taint(BaseModel):
    """A taint that the node registers with."""

    model_config = ConfigDict(extra="forbid")
    key: str
    value: str = ""
    effect: str


class Devices(BaseModel):
    """The devices of a node."""

    model_config = ConfigDict(extra="ignore")
    kind: str
    count: int = Field(ge=1)
    resource: str = ""


class FleetNode(BaseModel):
    """One entry of a fleet file's ``nodes``. Fields that only other kinds of nodes need are skipped."""

    model_config = ConfigDict(extra="ignore")
    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    taints: list[Taint] = Field(default_factory=list)
    devices: Devices | None = None
    capacity: dict[str, str] = Field(default_factory=dict)
    """Overrides of cpu and memory; by default a node has what the machine has."""

    @classmethod
    def read(cls, text: str) -> "FleetNode":
        """From ``--fleet-node``: JSON, or ``@FILE`` with JSON in it."""
        source = Path(text[1:]).read_text() if text.startswith("@") else text
        try:
            return cls.model_validate(json.loads(source))
        except (ValidationError, json.JSONDecodeError) as error:
            raise ValueError(f"--fleet-node is not one entry of a fleet file as JSON: {error}") from error

    def all_labels(self, name: str) -> dict[str, str]:
        """The labels to register: those of the fleet file, those of every kubelet, those of the sandbox."""
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": arch, SANDBOX_LABEL: "true"}
        if self.devices:
            labels |= {LABEL_KIND: self.devices.kind, LABEL_COUNT: str(self.devices.count)}
            if self.devices.resource:
                labels[LABEL_RESOURCE] = self.devices.resource.replace("/", "_", 1)
        return labels | self.labels

    def offer(self, name: str) -> Advertisement | None:
        """What this node's device plugin advertises."""
        return advertisement(name, self.all_labels(name)) if self.devices else None


def capacity(node: FleetNode, offer: Advertisement | None) -> dict[str, str]:
    """The node's capacity."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    result = {"cpu": str(os.cpu_count() or 1), "memory": f"{pages}Ki", "pods": str(MAX_PODS), **node.capacity}
    if offer:
        result[offer.resource] = str(len(offer.ids))
    return result


def node_object(node: FleetNode, name: str) -> dict[str, Any]:
    """The Node to create."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": node.all_labels(name)},
        "spec": {"taints": [taint.model_dump(exclude_defaults=True) for taint in node.taints]},
    }


def node_conditions(known: dict[str, dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """The kubelet's conditions: all well, with the time of this heartbeat."""
    wanted = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "the process node has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "the process node has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "the process node has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "the process node is posting ready status"),
    ]
    result = []
    for kind, status, reason, message in wanted:
        before = known.get(kind)
        since = before["lastTransitionTime"] if before and before["status"] == status else timestamps.seconds(now)
        result.append(
            {
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": timestamps.seconds(now), "lastTransitionTime": since,
            }
        )  # fmt: skip
    return result


def node_status(
    known: dict[str, dict[str, Any]],
    *,
    address: str,
    port: int,
    version: str,
    total: dict[str, str],
    allocatable: dict[str, str],
    now: datetime,
) -> dict[str, Any]:
    """The Node's status."""
    name = platform.uname()
    return {
        "capacity": total,
        "allocatable": allocatable,
        "conditions": node_conditions(known, now),
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": "", "systemUUID": "", "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "kernelVersion": name.release, "osImage": "polyfleet sandbox (processes, no containers)", "operatingSystem": "linux",
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(name.machine, name.machine),
            "containerRuntimeVersion": "process://1", "kubeletVersion": version, "kubeProxyVersion": "",
        },
    }  # fmt: skip
