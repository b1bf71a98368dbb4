"""A process node against the real API server, scheduler and controllers: what a kubelet would do, it does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from sandbox.controlplane import ControlPlane
from sandbox.proc import Ticket, wait_gone
from sandbox.processnode import end_all
from sandbox.processnode.process import read_record

pytestmark = pytest.mark.control

NODE, NAMESPACE, RESOURCE = "process-a3", "processnode", "huawei.com/Ascend910"
IMAGE = "sandbox.polyfleet.io/testpod:dev"
# Addresses of 127/8 belong to the whole machine; the process id keeps two test sessions apart.
RANGE = f"127.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


class Node:
    """A running agent, and short words for what the tests ask of the cluster."""

    def __init__(self, plane: ControlPlane, kubectl: Kubectl, state: Path) -> None:
        self.state, self._call = state, kubectl
        assert plane.pki is not None
        pair = plane.pki.kubelet_pair(NODE, f"{RANGE}.1")
        self._kubeconfig = plane.pki.kubeconfig(state / "kubeconfig", plane.server, f"system:node:{NODE}", pair=pair)
        self._admin = plane.kubeconfig
        self.scenario = state / "scenario.yaml"
        self.agent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the agent."""
        fleet = {
            "name": NODE,
            "labels": {"accelerator": "huawei-Ascend910"},
            "devices": {"resource": RESOURCE, "count": 8, "kind": "ascend"},
        }
        with (self.state / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                [
                    sys.executable, "-m", "sandbox.processnode", "--kubeconfig", self._kubeconfig, "--node", NODE, "--state", self.state,
                    "--fleet-node", json.dumps(fleet), "--pod-cidr", f"{RANGE}.0/24", "--scenario", self.scenario,
                ], stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """End the agent as suddenly as can be."""
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()

    def proxy(self, control: Path) -> subprocess.Popen[bytes]:
        """Start the Service proxy."""
        argv = [sys.executable, "-m", "sandbox.processnode.proxy", "--kubeconfig", str(self._admin), "--control", str(control)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in the tests' namespace; fails the test when kubectl fails."""
        done = self._call("-n", NAMESPACE, *arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}\n{(self.state / 'agent.log').read_text()[-4000:]}"
        return str(done.stdout)

    def wait(self, what: str, *conditions: str) -> None:
        """Wait (on a watch) for all the conditions of an object."""
        for condition in conditions:
            self.kubectl("wait", f"--for={condition}", what, "--timeout=90s")

    def run(self, name: str, *args: str, **spec: Any) -> None:
        """Create a pod of the test image; keywords of the container go under ``container``."""
        container = {"name": "engine", "image": IMAGE, "args": list(args), "ports": [{"name": "http", "containerPort": 8000}]}
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": NODE}, "terminationGracePeriodSeconds": 1,
                "containers": [{**container, **spec.pop("container", {})}], **spec,
            },
        }  # fmt: skip
        self.kubectl("create", "-f", "-", stdin=json.dumps(pod))

    def pod(self, name: str) -> dict[str, Any]:
        """The object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "pod", name, "-o", "json"))
        return found

    def ask(self, name: str, path: str, method: str = "GET") -> Any:
        """One request to a pod, at its own address."""
        with urlopen(Request(f"http://{self.pod(name)['status']['podIP']}:8000{path}", method=method), timeout=10) as answer:
            return json.load(answer)

    def process(self, name: str) -> Ticket:
        """The process of a pod's container, as recorded for its first run."""
        folder = self.state / "pods" / self.pod(name)["metadata"]["uid"] / "containers" / "engine" / "1"
        started, shim = read_record(folder / "started.json"), read_record(folder / "shim.json")
        assert started is not None
        assert shim is not None
        return Ticket(name, started["pid"], started["startTime"], shim["boot"])


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One process node for the tests of this module."""
    made = Node(control_plane, kubectl, tmp_path_factory.mktemp("node"))
    kubectl("create", "namespace", NAMESPACE, check=True)
    made.wait("serviceaccount/default", "create")
    made.start()
    try:
        made.wait(f"node/{NODE}", "create", "condition=Ready")
        yield made
    finally:
        made.kill()
        assert end_all(made.state) == []
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        kubectl("delete", "node", NODE)


def test_node_registers_with_labels_devices_and_a_lease(node: Node) -> None:
    """The Node carries the fleet file's labels, the sandbox's mark, and its devices; its Lease has it as holder."""
    found = json.loads(node.kubectl("get", "node", NODE, "-o", "json"))
    assert found["metadata"]["labels"]["accelerator"] == "huawei-Ascend910"
    assert found["metadata"]["labels"]["polyfleet.io/sandbox"] == "true"
    assert found["status"]["capacity"][RESOURCE] == "8"
    assert found["status"]["addresses"] == [{"type": "InternalIP", "address": f"{RANGE}.1"}]
    lease = json.loads(node.kubectl("get", "lease", NODE, "-n", "kube-node-lease", "-o", "json"))
    assert lease["spec"]["holderIdentity"] == NODE


def test_readiness_gate_holds_ready_and_foreign_condition_survives(node: Node) -> None:
    """ContainersReady follows the probe; Ready waits for the gate, whose condition belongs to somebody else and stays untouched."""
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "failureThreshold": 60}
    node.run(
        "gated",
        readinessGates=[{"conditionType": "polyfleet.io/serving"}],
        container={"startupProbe": probe, "readinessProbe": {**probe, "failureThreshold": 1}},
    )
    node.wait("pod/gated", "condition=ContainersReady")
    ready = next(c for c in node.pod("gated")["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
    gate = {"status": {"conditions": [{"type": "polyfleet.io/serving", "status": "True", "reason": "Checked"}]}}
    node.kubectl("patch", "pod", "gated", "--subresource=status", "-p", json.dumps(gate))
    node.wait("pod/gated", "condition=Ready")
    node.ask("gated", "/sick", "POST")
    node.wait("pod/gated", "condition=Ready=False")
    kept = next(c for c in node.pod("gated")["status"]["conditions"] if c["type"] == "polyfleet.io/serving")
    assert (kept["status"], kept["reason"]) == ("True", "Checked")
    node.kubectl("delete", "pod", "gated")


def test_environment_volumes_devices_and_logs(node: Node) -> None:
    """A container gets its devices, the downward API, its ConfigMap under a rewritten path, and its lines come back by kubectl logs."""
    node.kubectl("create", "configmap", "settings", "--from-literal=level=debug")
    reference = {"configMapKeyRef": {"name": "settings", "key": "level"}}
    node.run(
        "equipped", "--settings=/etc/settings/level", "$(LEVEL)", volumes=[{"name": "settings", "configMap": {"name": "settings"}}],
        container={
            "env": [
                {"name": "LEVEL", "valueFrom": reference}, {"name": "FOLDER", "value": "/etc/settings"},
                {"name": "OWN_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings"}], "resources": {"limits": {RESOURCE: "4"}},
            "startupProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "failureThreshold": 60},
        },
    )  # fmt: skip
    node.wait("pod/equipped", "condition=Ready")
    env, args = node.ask("equipped", "/env"), node.ask("equipped", "/args")
    assert (env["OWN_NAME"], env["LEVEL"], env["POD_IP"]) == ("equipped", "debug", node.pod("equipped")["status"]["podIP"])
    assert Path(env["FOLDER"], "level").read_text() == "debug"
    assert args[0] == f"--settings={env['FOLDER']}/level"
    assert args[1] == "debug"
    dies = {int(die) for die in env["ASCEND_VISIBLE_DEVICES"].split(",")}
    assert len(dies) == 4
    assert not all(die ^ 1 in dies for die in dies)  # not whole cards, as a kubelet without preference chooses
    assert "serving on" in node.kubectl("logs", "equipped")
    assert len(node.kubectl("logs", "equipped", "--tail=1").splitlines()) == 1
    assert "not possible on a process node" in node._call("-n", NAMESPACE, "exec", "equipped", "--", "true").stderr
    node.kubectl("delete", "pod", "equipped")
    assert not (node.state / "pods" / "equipped").exists()


def test_service_account_token_works_through_kubeconfig(node: Node, kubectl: Kubectl) -> None:
    """The kubeconfig that a container is given authenticates as the pod's own ServiceAccount."""
    node.run("caller", container={"startupProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1, "failureThreshold": 60}})
    node.wait("pod/caller", "condition=Ready")
    config = node.ask("caller", "/env")["KUBECONFIG"]
    who = json.loads(kubectl("--kubeconfig", config, "auth", "whoami", "-o", "json", check=True).stdout)
    assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{NAMESPACE}:default"
    node.kubectl("delete", "pod", "caller")


def test_agent_killed_pods_go_on_and_are_adopted(node: Node) -> None:
    """SIGKILL of the agent ends no pod; its successor takes them over without a restart and without a write."""
    node.run("steady")
    node.wait("pod/steady", "condition=Ready")
    before, process = node.pod("steady"), node.process("steady")
    node.kill()
    node.start()
    node.run("later")
    node.wait("pod/later", "condition=Ready")  # the new agent is at work
    assert node.pod("steady")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert node.process("steady") == process
    node.kubectl("delete", "pod", "steady", "later")
    assert wait_gone([process], 0) == []


def test_pod_deleted_while_no_agent_is_there(node: Node) -> None:
    """What runs for a pod that was deleted meanwhile is ended by the next agent."""
    node.run("forgotten")
    node.wait("pod/forgotten", "condition=Ready")
    process = node.process("forgotten")
    node.kill()
    node.kubectl("delete", "pod", "forgotten", "--force", "--grace-period=0")
    node.start()
    assert wait_gone([process], 60) == []


def test_devices_short_and_withdrawn(node: Node) -> None:
    """A withdrawn device leaves allocatable (not capacity); a bound pod that finds too few is rejected as by the kubelet."""
    (node.state / "withdrawn").write_text("Ascend910-0\n")
    node.wait(f"node/{NODE}", "jsonpath={.status.allocatable.huawei\\.com/Ascend910}=7")
    assert json.loads(node.kubectl("get", "node", NODE, "-o", "json"))["status"]["capacity"][RESOURCE] == "8"
    node.run("greedy", nodeName=NODE, container={"resources": {"limits": {RESOURCE: "8"}}})
    node.wait("pod/greedy", "jsonpath={.status.phase}=Failed")
    status = node.pod("greedy")["status"]
    assert status["reason"] == "UnexpectedAdmissionError"
    assert "Requested: 8, Available: 7" in status["message"]
    (node.state / "withdrawn").unlink()
    node.wait(f"node/{NODE}", "jsonpath={.status.allocatable.huawei\\.com/Ascend910}=8")
    node.kubectl("delete", "pod", "greedy")


def test_restart_policies_and_crash_loop(node: Node) -> None:
    """Never ends in Succeeded or Failed by exit code; Always restarts once at once and then backs off."""
    node.run("good", "--exit=0", restartPolicy="Never")
    node.run("bad", "--exit=3", restartPolicy="Never")
    node.run("looping", "--exit=4")
    node.wait("pod/good", "jsonpath={.status.phase}=Succeeded")
    node.wait("pod/bad", "jsonpath={.status.phase}=Failed")
    assert node.pod("bad")["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    node.wait("pod/looping", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff")
    looping = node.pod("looping")["status"]["containerStatuses"][0]
    assert looping["restartCount"] == 1
    assert looping["lastState"]["terminated"]["exitCode"] == 4
    assert node.kubectl("logs", "looping", "--previous") == "ending with 4\n"
    node.kubectl("delete", "pod", "good", "bad", "looping")


def test_unknown_image_waits_with_pull_error(node: Node) -> None:
    """An image that does not exist is a waiting reason, not a failure."""
    node.run("imageless", container={"image": "registry.invalid/nothing:1"})
    node.wait("pod/imageless", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff")
    assert node.pod("imageless")["status"]["phase"] == "Pending"
    node.kubectl("delete", "pod", "imageless")


def test_liveness_failure_restarts(node: Node) -> None:
    """A container whose liveness probe fails is restarted in place."""
    probe = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "failureThreshold": 3}
    node.run("ailing", container={"startupProbe": {**probe, "failureThreshold": 60}, "livenessProbe": probe})
    node.wait("pod/ailing", "condition=Ready")
    node.ask("ailing", "/sick", "POST")
    node.wait("pod/ailing", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    node.kubectl("delete", "pod", "ailing")


def test_init_containers_run_first_and_in_order(node: Node) -> None:
    """A failing init container with restartPolicy Never fails the pod, and its main container never starts."""
    failing = {"name": "prepare", "image": IMAGE, "args": ["--exit=5"]}
    node.run("unprepared", restartPolicy="Never", initContainers=[{**failing, "name": "first", "args": ["--exit=0"]}, failing])
    node.wait("pod/unprepared", "jsonpath={.status.phase}=Failed")
    status = node.pod("unprepared")["status"]
    assert [s["state"]["terminated"]["exitCode"] for s in status["initContainerStatuses"]] == [0, 5]
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    node.kubectl("delete", "pod", "unprepared")


def test_sigterm_ignored_ends_in_sigkill(node: Node) -> None:
    """After the grace period a process that ignores SIGTERM is killed, and only then the pod goes away."""
    node.run(
        "stubborn",
        "--ignore-sigterm",
        container={"startupProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "failureThreshold": 60}},
    )
    node.wait("pod/stubborn", "condition=Ready")
    process = node.process("stubborn")
    node.kubectl("delete", "pod", "stubborn")
    assert wait_gone([process], 0) == []


def test_scenario_is_read_again(node: Node) -> None:
    """neverReady holds back readiness for as long as the file says so."""
    node.run(
        "scripted", container={"startupProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "failureThreshold": 60}}
    )
    node.wait("pod/scripted", "condition=Ready")
    node.scenario.write_text(yaml.safe_dump({"pods": [{"match": {"name": "scripted"}, "neverReady": True}]}))
    node.wait("pod/scripted", "condition=Ready=False")
    node.scenario.unlink()
    node.wait("pod/scripted", "condition=Ready")
    node.kubectl("delete", "pod", "scripted")


def test_proxy_serves_ready_pods_of_a_service(node: Node, tmp_path: Path) -> None:
    """A listener of the proxy reaches the Service's ready pods; errors say what is missing."""
    node.run(
        "backend", container={"startupProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "failureThreshold": 60}}
    )
    node.kubectl("create", "service", "clusterip", "backend", "--tcp=80:8000")
    node.wait("pod/backend", "condition=Ready")
    control = tmp_path / "control"
    proxy = node.proxy(control)
    try:
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == f"control socket {control}\n".encode()
        asyncio.run(_ask_through(control))
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.communicate()
    assert proxy.returncode == 0
    node.kubectl("delete", "pod/backend", "service/backend")


async def _ask_through(control: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(control)

    async def send(request: dict[str, Any]) -> dict[str, Any]:
        writer.write(json.dumps({"namespace": NAMESPACE, **request}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
        return answer

    first = await send({"op": "listen", "service": "backend", "port": 80})
    assert await send({"op": "listen", "service": "backend"}) == first
    direct = await send({"op": "listen", "pod": "backend"})
    for address in (first["address"], direct["address"]):
        with await asyncio.to_thread(urlopen, f"http://{address}/env", timeout=10) as answer:
            assert json.load(answer)["HOSTNAME"] == "backend"
    assert "there is no service" in (await send({"op": "listen", "service": "absent"}))["error"]
    assert "allowed: 80" in (await send({"op": "listen", "service": "backend", "port": 81}))["error"]
    writer.close()
