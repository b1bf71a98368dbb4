"""Virtual nodes: KWOK plays the kubelets of nodes by the hundred; pods turn Ready without running.

The stages are our own, and keep what a scheduler or operator can see of a kubelet: a pod is Ready only when its readiness gates are
true as well (KWOK's usual stages set the gates themselves, which would hide a gate that nobody turns). What a test can say:
 annotation pod-ready.stage.kwok.x-k8s.io/delay (a Go duration)   how long containers take to start
 label pod-container-running-failed.stage.kwok.x-k8s.io=true      the container crashes
 node label node-not-ready.stage.kwok.x-k8s.io=true               the node stops being Ready
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml

from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.fleet import Fleet, Node

_MANAGED = {"kwok.x-k8s.io/node": "fake"}
_READY = '.status.conditions.[] | select(.type == "Ready") | .status'
_GATES_LEFT = (
    "([.spec.readinessGates // [] | .[] | .conditionType] - "
    '[.status.conditions // [] | .[] | select(.status == "True") | .type]) | length | tostring'
)
_NOW = "{{ $now := Now }}\n"


def _conditions(**values: str) -> str:
    lines = ["conditions:"]
    for kind, status in values.items():
        lines.append(f'- {{type: {kind}, status: "{status}", lastProbeTime: null, lastTransitionTime: {{{{ $now | Quote }}}}}}')
    return "\n".join(lines) + "\n"


def _containers(ready: bool, extra: str) -> str:
    word = "true" if ready else "false"
    return (
        "containerStatuses:\n{{ range .spec.containers }}\n"
        f"- {{name: {{{{ .name | Quote }}}}, image: {{{{ .image | Quote }}}}, ready: {word}, started: {word}, restartCount: 0, {extra}}}\n"
        "{{ end }}\n"
    )


def _stage(
    name: str, kind: str, match: list[tuple[str, str, list[str]]], following: dict[str, Any], delay: dict[str, Any]
) -> dict[str, Any]:
    expressions = [{"key": key, "operator": operator, **({"values": values} if values else {})} for key, operator, values in match]
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": expressions},
            **({"delay": delay} if delay else {}),
            "next": following,
        },
    }


def stages() -> list[dict[str, Any]]:
    """The rules by which KWOK moves nodes and pods."""
    ready, unready, gates_open = (_READY, "In", ["True"]), (_READY, "NotIn", ["True"]), (_GATES_LEFT, "In", ["0"])
    started = (_READY.replace("Ready", "ContainersReady"), "In", ["True"])
    living = (".metadata.deletionTimestamp", "DoesNotExist", list[str]())
    failing = '.metadata.labels["pod-container-running-failed.stage.kwok.x-k8s.io"]'
    silent = '.metadata.labels["node-not-ready.stage.kwok.x-k8s.io"]'
    running = _containers(True, "state: {running: {startedAt: {{ $now | Quote }}}}")
    crashed = _containers(False, "state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, reason: Error}}")
    addresses = (
        "hostIP: {{ NodeIPWith .spec.nodeName | Quote }}\n"
        'podIP: {{ PodIPWith .spec.nodeName false (or .metadata.uid "") (or .metadata.name "") (or .metadata.namespace "") | Quote }}\n'
        "phase: Running\nstartTime: {{ $now | Quote }}\n"
    )

    def node_status(ready: str, reason: str) -> dict[str, Any]:
        times = "lastHeartbeatTime: {{ $now | Quote }}, lastTransitionTime: {{ $now | Quote }}"
        line = f'- {{type: Ready, status: "{ready}", reason: {reason}, {times}}}\n'
        return {"statusTemplate": _NOW + "conditions:\n" + line + "phase: Running\n"}

    def pod_status(text: str) -> dict[str, Any]:
        return {"statusTemplate": _NOW + text}

    slow = {"durationMilliseconds": 0, "durationFrom": {"expressionFrom": '.metadata.annotations["pod-ready.stage.kwok.x-k8s.io/delay"]'}}
    return [
        _stage("node-ready", "Node", [(_READY, "NotIn", ["True"]), (silent, "NotIn", ["true"])], node_status("True", "KubeletReady"), {}),
        _stage("node-not-ready", "Node", [(_READY, "In", ["True"]), (silent, "In", ["true"])], node_status("False", "KubeletNotReady"), {}),
        _stage(
            "pod-start", "Pod", [living, (".status.podIP", "DoesNotExist", [])],
            pod_status(_conditions(Initialized="True", ContainersReady="True", Ready="False") + running + addresses), slow,
        ),
        _stage(
            "pod-ready", "Pod", [living, (".status.phase", "In", ["Running"]), unready, gates_open, (failing, "NotIn", ["true"])],
            pod_status(_conditions(Ready="True")), {},
        ),
        _stage("pod-gated", "Pod", [living, ready, (_GATES_LEFT, "NotIn", ["0"])], pod_status(_conditions(Ready="False")), {}),
        _stage(
            "pod-failing", "Pod", [living, started, (failing, "In", ["true"])],
            pod_status(_conditions(Ready="False", ContainersReady="False") + crashed), {},
        ),
        _stage(
            "pod-delete", "Pod", [(".metadata.deletionTimestamp", "Exists", []), (".metadata.finalizers", "DoesNotExist", [])],
            {"delete": True}, {},
        ),
    ]  # fmt: skip


def node_object(node: Node) -> dict[str, Any]:
    """A Node as KWOK takes it over; capacity and devices stay as given."""
    stock = {"cpu": node.cpu, "memory": node.memory, "pods": "110"}
    if node.devices is not None:
        stock[node.devices.resource] = str(node.devices.count)
    labels = {**node.labels, "kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels, "annotations": dict(_MANAGED)},
        "spec": {"taints": [{"key": each.key, "value": each.value, "effect": each.effect} for each in node.taints]},
        "status": {
            "capacity": stock,
            "allocatable": stock,
            "addresses": [{"type": "InternalIP", "address": "10.77.1.1"}, {"type": "Hostname", "address": node.name}],
            "nodeInfo": {
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "kubeProxyVersion"), ""),
                "architecture": "amd64", "operatingSystem": "linux", "containerRuntimeVersion": "kwok", "kubeletVersion": "v0.0.0-kwok",
            },
        },
    }  # fmt: skip


def start(plane: ControlPlane, chosen: Fleet) -> None:
    """Start KWOK and create the nodes."""
    folder = plane.state / "run"
    config = plane.user_kubeconfig(folder / "kwok.kubeconfig", "sandbox-kwok", ["system:masters"])
    (folder / "kwok.yaml").write_text(yaml.safe_dump_all(stages(), sort_keys=True))
    (key,) = _MANAGED.items()
    argv = [
        str(plane.binaries / "kwok"), f"--kubeconfig={config}", f"--config={folder / 'kwok.yaml'}",
        f"--manage-nodes-with-annotation-selector={'='.join(key)}", "--cidr=10.244.0.0/16", "--node-ip=10.77.1.1",
        "--node-lease-duration-seconds=40", "--v=WARN",
    ]  # fmt: skip
    plane.processes.start("kwok", argv)
    api = plane.api()

    def create(node: Node) -> None:
        status, body = api.send("POST", "/api/v1/nodes", node_object(node))
        if status != 201:
            raise SandboxError(f"the API server refuses node {node.name} ({status}): {body[:300].decode(errors='replace')}")

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(create, chosen.nodes))
