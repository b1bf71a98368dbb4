"""Starts one process node agent per node of a fleet, and ends what their pods left running.

Each node gets a /24 out of 127/8. The second byte comes from the checkout's id, so that two checkouts on one machine do not meet.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

from sandbox import fleet, forwarder, state
from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError

_ROOT = Path(__file__).resolve().parent.parent


def pod_range(folder: Path, index: int) -> str:
    """The addresses of a node's pods. 127.0.x.x and 127.255.x.x stay free for everybody else."""
    return f"127.{1 + int(state.short_id(folder), 16) % 254}.{index}.0/24"


def node_state(folder: Path, name: str) -> Path:
    """The agent's own folder."""
    return folder / "nodes" / name


def start(plane: ControlPlane, chosen: fleet.Fleet) -> None:
    """Start the agents; they register their nodes themselves."""
    pki = plane.make_pki()
    for index, node in enumerate(chosen.nodes):
        place = node_state(plane.state, node.name)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Each node has its own identity, so that the Node authorizer holds here as on real nodes. It serves logs with the same
        # certificate, on the first address of its range.
        address = str(next(ipaddress.ip_network(pod_range(plane.state, index)).hosts()))
        pair = pki.kubelet_pair(node.name, address)
        config = pki.kubeconfig(place / "kubeconfig", plane.server, f"system:node:{node.name}", pair=pair)
        argv = [
            sys.executable, "-m", "sandbox.processnode", "--kubeconfig", str(config), "--node", node.name,
            "--fleet-node", node.as_json(), "--state", str(place), "--pod-cidr", pod_range(plane.state, index),
        ]  # fmt: skip
        plane.processes.start(f"processnode-{node.name}", argv, env={"PYTHONPATH": str(_ROOT)})
    control = _control(plane.state)
    # The socket's name is relative, because the path of a checkout may be longer than a socket's may be.
    argv = [sys.executable, "-m", "sandbox.processnode.proxy", "--kubeconfig", str(plane.kubeconfig), "--control", control.name]
    plane.processes.start(control.stem, argv, env={"PYTHONPATH": str(_ROOT)}, cwd=control.parent)
    forwarder.wait_control(control, lambda: plane.processes.check(control.stem))


def url(folder: Path, kind: str, namespace: str, name: str, port: int) -> str:
    """An address on 127.0.0.1 for a Service or a pod. EndpointSlices refuse loopback addresses, so the room's own proxy serves Services."""
    what = {"service": name} if kind == "mdep" else {"pod": name}
    answer = forwarder.ask(_control(folder), {"op": "listen", "namespace": namespace, "port": port, **what})
    return f"http://{answer['address']}"


def _control(folder: Path) -> Path:
    return folder / "run" / "service-proxy.sock"


def end_all(folder: Path) -> None:
    """End the pods' processes of every process node of this state folder."""
    places = [each for each in sorted((folder / "nodes").glob("*")) if (each / "pods").is_dir()]
    if not places:
        return
    from sandbox import processnode  # here, because real clusters do not need what it needs

    left = [name for place in places for name in processnode.end_all(place)]
    if left:
        raise SandboxError(f"these pods' processes do not end: {', '.join(left)}. Try again: polyfleet-sandbox down")
