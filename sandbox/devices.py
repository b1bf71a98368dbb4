"""Takes a device of a node away while the cluster runs, and gives it back: the fault that operators meet most.

The device plugin (on a real node) or the node agent (on a process node) reads a file of withdrawn ids and reports them Unhealthy; on
a virtual node the stock in the Node's status is changed.
"""

from __future__ import annotations

import re
from pathlib import Path

from sandbox import cluster, fleet, processkind, state
from sandbox.errors import SandboxError


def device_ids(node: fleet.Node) -> list[str]:
    """The ids under which a kubelet knows a node's devices."""
    if node.devices is None:
        return []
    form = {"nvidia": f"GPU-{node.name}-{{}}", "ascend": "Ascend910-{}", "ppu": "ppu-{}"}[node.devices.kind]
    return [form.format(index) for index in range(node.devices.count)]


def change(folder: Path, found: state.Cluster, action: str, name: str, device: str) -> str:
    """Withdraw or restore one device; returns what was done, in words."""
    nodes = {node.name: node for node in fleet.parse(found.fleet_text, found.fleet).nodes}
    if name not in nodes:
        raise SandboxError(f"there is no node {name!r}; there are: {', '.join(sorted(nodes))}")
    known = device_ids(nodes[name])
    if device not in known:
        allowed = f"{known[0]} to {known[-1]}" if known else "none, the node has no devices"
        raise SandboxError(f"node {name} has no device {device!r}; allowed: {allowed}")
    path = _withdrawn_file(folder, found.kind, name)
    now = set(re.split(r"\s+", path.read_text())) - {""} if path.is_file() else set[str]()
    if action == "restore" and device not in now:
        return f"{device} of node {name} is not withdrawn; nothing to do"
    after = now | {device} if action == "withdraw" else now - {device}
    state.write_atomically(path, "".join(f"{each}\n" for each in known if each in after))
    if found.kind == "virtual":
        _patch_virtual(folder, found, nodes[name], len(known) - len(after))
    done = "withdrawn" if action == "withdraw" else "back"
    return f"{device} of node {name} is {done}; {len(known) - len(after)} of {len(known)} are healthy"


def _withdrawn_file(folder: Path, kind: str, name: str) -> Path:
    if kind == "real":
        return folder / "nodes" / name / "var-lib" / "polyfleet-sandbox" / "devices" / "withdrawn"
    return processkind.node_state(folder, name) / "withdrawn"


def _patch_virtual(folder: Path, found: state.Cluster, node: fleet.Node, healthy: int) -> None:
    assert node.devices is not None
    body = {"status": {"allocatable": {node.devices.resource: str(healthy)}}}
    status, answer = cluster.api(folder, found).send(
        "PATCH", f"/api/v1/nodes/{node.name}/status", body, content_type="application/merge-patch+json"
    )
    if status != 200:
        raise SandboxError(f"the API server refuses the change ({status}): {answer[:200].decode(errors='replace')}")
