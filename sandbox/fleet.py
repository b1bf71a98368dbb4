"""Fleet files: the nodes of a sandbox cluster, with the labels and resource names that the vendors' own software would put there.

A fleet is a shipped name (`three-vendors`, `tiny`), a path to a YAML file, or `mixed:N`, which makes N nodes that cycle through the
vendors (for virtual nodes by the hundred). Labels and resource names are the vendors' documented ones; each shipped file names
its sources.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox.errors import SandboxError

SHIPPED = Path(__file__).resolve().parent / "fleets"
KINDS = ("nvidia", "ascend", "ppu")
MAX_REAL_NODES = 16  # each real node costs a kubelet and a containerd, some 150 MB
MAX_NODES = 5000  # one scheduler and one small etcd; KWOK's own benchmark ends here
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
# A kubelet may label itself freely outside these domains, and inside them only under two prefixes (Kubernetes: NodeRestriction).
_RESERVED = re.compile(r"(^|\.)(kubernetes|k8s)\.io/")
_ALLOWED = re.compile(r"(^|\.)(node|kubelet)\.kubernetes\.io/")


@dataclass(frozen=True)
class Devices:
    """What a node's device plugin advertises."""

    resource: str
    count: int
    kind: str


@dataclass(frozen=True)
class Taint:
    """A taint that the node registers with."""

    key: str
    value: str
    effect: str

    def text(self) -> str:
        """As the kubelet's flag wants it."""
        return f"{self.key}={self.value}:{self.effect}"


@dataclass(frozen=True)
class Node:
    """One node of a fleet, labels complete."""

    name: str
    labels: dict[str, str]
    taints: tuple[Taint, ...] = ()
    devices: Devices | None = None
    cpu: str = "64"
    memory: str = "512Gi"

    def as_json(self) -> str:
        """The node for the process node agent's --fleet-node."""
        return json.dumps(self.as_dict(), sort_keys=True)

    def as_dict(self) -> dict[str, Any]:
        """The node as plain data (the form of the fleet file)."""
        found: dict[str, Any] = {
            "name": self.name,
            "labels": dict(self.labels),
            "taints": [{"key": each.key, "value": each.value, "effect": each.effect} for each in self.taints],
        }
        if self.devices is not None:
            found["devices"] = {"resource": self.devices.resource, "count": self.devices.count, "kind": self.devices.kind}
        return found


@dataclass(frozen=True)
class Fleet:
    """A named list of nodes. `text` is what it was read from: a second `up` compares it with the running cluster's."""

    name: str
    nodes: tuple[Node, ...]
    text: str


def load(name: str) -> Fleet:
    """Find and read a fleet by name, path or `mixed:N`."""
    if match := re.fullmatch(r"mixed:(\d+)", name):
        return mixed(int(match[1]))
    shipped = SHIPPED / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name)
    try:
        text = path.read_text()
    except OSError:
        names = ", ".join(sorted(each.stem for each in SHIPPED.glob("*.yaml")))
        raise SandboxError(f"--fleet {name}: neither a shipped fleet ({names}, mixed:N) nor a readable file") from None
    return parse(text, str(name))


def parse(text: str, source: str) -> Fleet:
    """Read a fleet file; every refusal names the field, its value and what is allowed."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SandboxError(f"fleet {source}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise SandboxError(f"fleet {source}: expected a mapping with name and nodes, found {type(data).__name__}")
    _only(data, ("name", "nodes"), source, "the file")
    nodes = data.get("nodes")
    if not isinstance(nodes, list) or not 1 <= len(nodes) <= MAX_NODES:
        raise SandboxError(f"fleet {source}: nodes must be a list of 1 to {MAX_NODES} nodes")
    read = tuple(_node(each, f"nodes[{position}]", source) for position, each in enumerate(nodes))
    seen: set[str] = set()
    for position, node in enumerate(read):
        if node.name in seen:
            raise SandboxError(f"fleet {source}: nodes[{position}].name {node.name!r} is used twice; names must be unique")
        seen.add(node.name)
    return Fleet(name=str(data.get("name") or source), nodes=read, text=text)


def mixed(count: int) -> Fleet:
    """`count` nodes: a system node first, then the shipped vendors' nodes in turn."""
    if not 1 <= count <= MAX_NODES:
        raise SandboxError(f"--fleet mixed:{count}: the number of nodes must be 1 to {MAX_NODES}")
    pattern = yaml.safe_load((SHIPPED / "three-vendors.yaml").read_text())["nodes"]
    system = [each for each in pattern if "devices" not in each]
    vendors = [each for each in pattern if "devices" in each]
    nodes = copy.deepcopy(system[:1])
    for position in range(count - len(nodes)):
        node = copy.deepcopy(vendors[position % len(vendors)])
        node["name"] = f"{re.sub(r'-[0-9]+$', '', node['name'])}-{position // len(vendors)}"
        nodes.append(node)
    return parse(yaml.safe_dump({"name": f"mixed:{count}", "nodes": nodes}, sort_keys=True), f"mixed:{count}")


def _only(data: dict[str, Any], allowed: tuple[str, ...], source: str, where: str) -> None:
    for key in sorted(map(str, data)):
        if key not in allowed:
            raise SandboxError(f"fleet {source}: {where} has an unknown field {key!r}; allowed: {', '.join(allowed)}")


def _node(data: Any, where: str, source: str) -> Node:
    def refuse(field: str, value: object, allowed: str) -> SandboxError:
        return SandboxError(f"fleet {source}: {where}.{field} is {value!r}; allowed: {allowed}")

    if not isinstance(data, dict):
        raise SandboxError(f"fleet {source}: {where} must be a mapping with a name, found {type(data).__name__}")
    _only(data, ("name", "labels", "taints", "devices", "cpu", "memory"), source, where)
    name = data.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise refuse("name", name, "1 to 40 lower-case letters, digits and dashes")
    labels = data.get("labels") or {}
    if not isinstance(labels, dict):
        raise refuse("labels", labels, "a mapping of text to text")
    for key, value in labels.items():
        if _RESERVED.search(str(key)) and not _ALLOWED.search(str(key)):
            raise refuse("labels", key, "keys outside kubernetes.io and k8s.io, or under node.kubernetes.io (a kubelet may set no others)")
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            raise refuse(f"labels[{key}]", value, 'a label value as text, up to 63 letters, digits, "-", "_", "." (quote numbers)')
    taints = tuple(_taint(each, f"taints[{position}]", refuse) for position, each in enumerate(data.get("taints") or []))
    devices = _devices(data["devices"], refuse) if data.get("devices") is not None else None
    full = {**labels, "polyfleet.io/sandbox": "true"}
    if devices is not None:
        full["sandbox.polyfleet.io/device-kind"] = devices.kind
        full["sandbox.polyfleet.io/device-count"] = str(devices.count)
        full["sandbox.polyfleet.io/device-resource"] = devices.resource.replace("/", "_")
    return Node(name, full, taints, devices, str(data.get("cpu", "64")), str(data.get("memory", "512Gi")))


def _taint(data: Any, where: str, refuse: Any) -> Taint:
    if not isinstance(data, dict) or not isinstance(data.get("key"), str) or data.get("effect") not in EFFECTS:
        raise refuse(where, data, f"a mapping with key, effect ({', '.join(EFFECTS)}) and, if wanted, value")
    return Taint(data["key"], str(data.get("value", "")), data["effect"])


def _devices(data: Any, refuse: Any) -> Devices:
    if not isinstance(data, dict):
        raise refuse("devices", data, "a mapping with resource, count and kind")
    resource, count, kind = data.get("resource"), data.get("count"), data.get("kind")
    if not isinstance(resource, str) or not _RESOURCE.fullmatch(resource):
        raise refuse("devices.resource", resource, "an extended resource name such as nvidia.com/gpu")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 128:
        raise refuse("devices.count", count, "a whole number from 1 to 128")
    if kind not in KINDS:
        raise refuse("devices.kind", kind, ", ".join(KINDS))
    return Devices(resource, count, kind)
