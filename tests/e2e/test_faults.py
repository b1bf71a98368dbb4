"""What breaks at three in the morning: the operator dies, a node drains, a stranger takes the device, the chart is upgraded."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

from tests.e2e.lib import MODEL_LABEL, NO_GATE, Cluster, Object, condition_row, fetch, labels, tiny
from tests.e2e.operating import kill_operator, scale_operator


def _identity(cluster: Cluster, name: str) -> set[tuple[str, str]]:
    """(kind, uid) of all children of a model."""
    kinds = ("deployments", "replicasets", "pods", "services", "poddisruptionbudgets")
    return {(o["kind"], o["metadata"]["uid"]) for kind in kinds for o in cluster.items(kind, f"polyfleet.io/deployment={name}")}


class Asking:
    """Asks a model for one token after another in a thread; every answer and every failure is kept."""

    def __init__(self, endpoint: str, model: str) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._url, self._body = f"{endpoint}/v1/completions", {"model": model, "prompt": "a", "max_tokens": 1}
        self._stop, self._told = threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.1):  # the pace: ten questions a second leave the two cores to the cluster
            try:
                answer = json.loads(fetch(self._url, self._body, timeout_s=10))
                fault = "" if answer["usage"]["completion_tokens"] == 1 else f"answered {answer}"
            except (OSError, ValueError, KeyError) as error:
                fault = repr(error)
            with self._told:
                self.answers += 1
                self.failures += [fault] if fault else []
                self._told.notify_all()

    def more(self, count: int) -> None:
        """Wait for so many further questions."""
        with self._told:
            goal = self.answers + count
            assert self._told.wait_for(lambda: self.answers >= goal, timeout=60), f"{self.answers} of {goal} questions were answered"

    def __enter__(self) -> Asking:
        self._thread.start()
        self.more(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_killed_operator_leaves_replicas_serving_and_creates_nothing_twice(cluster: Cluster) -> None:
    """Every child still has the uid it had, and each question that was asked from before the SIGKILL until the new start was answered."""
    if cluster.kind == "external":
        pytest.skip("needs the sandbox to find the process")
    cluster.apply(tiny("steady", replicas=2))
    cluster.wait_ready("steady")
    before = _identity(cluster, "steady")
    with Asking(cluster.url("mdep/steady"), "steady") as asking:
        kill_operator(cluster)
        asking.more(5)
    assert asking.failures == []
    cluster.kubectl("scale", "mdep", "steady", "--replicas=3")
    cluster.wait_ready("steady")
    after = _identity(cluster, "steady")
    assert before <= after
    assert len([k for k in after if k[0] == "Deployment"]) == len([k for k in before if k[0] == "Deployment"])
    assert len([k for k in after if k[0] == "Pod"]) == 3


def test_deleting_removes_everything_while_the_operator_is_down(cluster: Cluster) -> None:
    """Owner references do the cleaning; nothing hangs on a finalizer."""
    cluster.apply(tiny("orphan", replicas=2))
    cluster.wait_ready("orphan")
    scale_operator(cluster, 0)
    try:
        cluster.kubectl("delete", "mdep", "orphan", "--timeout=30s")
        cluster.until(
            "children gone",
            "pods",
            lambda ps: not any(labels(p).get(MODEL_LABEL) == "orphan" for p in ps),
        )
        cluster.until("service gone", "services", lambda ss: not any(s["metadata"]["name"] == "orphan" for s in ss))
        assert _identity(cluster, "orphan") == set()
    finally:
        scale_operator(cluster, 1)


def _stranger(cluster: Cluster) -> str:
    """A pod of somebody else that holds all 16 PPU, which have to be free; returns the node's name."""
    node = next(str(n["metadata"]["name"]) for n in cluster.items("nodes") if "alibabacloud.com/ppu" in n["status"]["allocatable"])
    devices = {"alibabacloud.com/ppu": "16"}
    container = {
        "name": "hold",
        "image": "sandbox.polyfleet.io/engine:dev",
        "imagePullPolicy": "IfNotPresent",
        "args": ["--model=polyfleet/byte-tiny", "--served-model-name=stranger", "--backend=byte", "--port=8000"],
        "resources": {"limits": devices, "requests": devices},
    }
    spec = {"terminationGracePeriodSeconds": 1, "nodeName": node, "containers": [container]}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "namespace": "default"}, "spec": spec})
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/stranger", "--timeout=60s")
    return node


def test_a_foreign_pod_holds_devices_and_the_plan_goes_elsewhere(cluster: Cluster) -> None:
    """A stranger holds all 16 PPU: the next cheapest device gets the replica, and the pool counts the stranger's devices."""
    cluster.settled()
    _stranger(cluster)
    cluster.until(
        "the pool counts them",
        "apool",
        lambda ps: any(p["metadata"]["name"] == "sandbox-ppu" and p["status"]["devices"]["free"] == 0 for p in ps),
        namespace="*",
    )
    cluster.apply(tiny("elsewhere"))
    mdep = cluster.wait_ready("elsewhere")
    assert [p["profile"] for p in mdep["status"]["placements"]] == ["sandbox-ascend"]
    rejected = {r["profile"]: r["reason"] for r in mdep["status"]["rejected"]}
    assert rejected["sandbox-ppu"] == "DevicesUnavailable"
    cluster.kubectl("delete", "pod", "stranger", "--wait=true", "--timeout=60s")


def test_a_foreign_pod_takes_the_planned_device_before_the_replica_is_bound(cluster: Cluster) -> None:
    """The pinned, unbound pod can no longer be placed: it is replaced, planned on another vendor's node, and serves there.

    A node selector that no node meets yet keeps the scheduler from binding, which is what a slow scheduler looks like.
    """
    cluster.settled()
    cluster.apply(tiny("raced", podSpec={"nodeSelector": {"e2e.polyfleet.io/open": "yes"}}))

    def pinned(pods: list[Object]) -> list[tuple[str, str]]:
        found = []
        for pod in pods:
            if labels(pod).get(MODEL_LABEL) == "raced" and not pod["spec"].get("schedulingGates"):
                required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
                found.append((required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0], str(pod["metadata"]["uid"])))
        return found

    first = pinned(cluster.until("pinned to its planned node", "pods", lambda ps: bool(pinned(ps))))
    node = _stranger(cluster)
    assert [name for name, _ in first] == [node]
    moved = pinned(cluster.until("planned anew", "pods", lambda ps: any(name != node for name, _ in pinned(ps))))
    (other, uid) = next(pair for pair in moved if pair[0] != node)
    assert uid not in {old for _, old in first}
    cluster.kubectl("label", "node", other, "e2e.polyfleet.io/open=yes")
    try:
        mdep = cluster.wait_ready("raced")
        assert [p["profile"] for p in mdep["status"]["placements"]] == ["sandbox-ascend"]
    finally:
        cluster.kubectl("label", "node", other, "e2e.polyfleet.io/open-")
        cluster.kubectl("delete", "pod", "stranger", "--wait=true", "--timeout=60s")


def test_draining_a_node_moves_its_replicas(cluster: Cluster) -> None:
    """kubectl drain works without force, the replica starts on another vendor, and comes to no harm when the node returns."""
    cluster.apply(tiny("mover"))
    mdep = cluster.wait_ready("mover")
    assert mdep["status"]["placements"][0]["profile"] == "sandbox-ppu"
    node = cluster.pods("mover")[0]["spec"]["nodeName"]
    try:
        cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        cluster.until(
            "the replica serves elsewhere",
            "mdep",
            lambda ms: any(
                m["metadata"]["name"] == "mover"
                and condition_row(m, "Ready").get("status") == "True"
                and m["status"]["placements"][0]["profile"] != "sandbox-ppu"
                for m in ms
            ),
            timeout_s=150,
        )
        pool = next(p for p in cluster.items("apool") if p["metadata"]["name"] == "sandbox-ppu")
        assert pool["status"]["excluded"][0]["reason"] == "Cordoned"
    finally:
        cluster.kubectl("uncordon", node)


def _kill_helm_in_an_upgrade(cluster: Cluster) -> None:
    """SIGKILL helm between "I am upgrading" and the end, which leaves the release in a state that helm itself refuses to upgrade."""
    from sandbox import install

    command = [install.helm_path(), "upgrade", install.RELEASE, str(install.chart_dir()), "-n", install.NAMESPACE, "--reuse-values"]
    child = subprocess.Popen([*command, "--wait", "--set", "operator.nodeSelector.e2e=nowhere"], env=cluster.env)
    try:
        cluster.until(
            "helm says that it upgrades",
            "secrets",
            lambda found: any(labels(s).get("owner") == "helm" and labels(s).get("status") == "pending-upgrade" for s in found),
            namespace=install.NAMESPACE,
        )
    finally:
        child.kill()
        child.wait()
    assert install.release_status(cluster.kubeconfig) == "pending-upgrade"


def test_helm_upgrade_rollback_and_uninstall_touch_no_serving_pod(cluster: Cluster) -> None:
    """The serving pods' uids and restart counts stay through upgrade, rollback, uninstall and a new install; objects stay too."""
    if cluster.kind == "external":
        pytest.skip("installs and removes the release")
    from sandbox import install

    cluster.apply(tiny("through", replicas=2))
    cluster.wait_ready("through")
    pods = {(p["metadata"]["uid"], p["status"]["containerStatuses"][0]["restartCount"]) for p in cluster.pods("through")}
    install.install(cluster.kubeconfig, "--set", "operator.logFormat=text", *NO_GATE)
    _kill_helm_in_an_upgrade(cluster)
    install.install(cluster.kubeconfig, "--set", "operator.logFormat=text", *NO_GATE)
    assert install.release_status(cluster.kubeconfig) == "deployed"
    install.helm(cluster.kubeconfig, "rollback", install.RELEASE, "--namespace", install.NAMESPACE, "--wait")
    install.uninstall(cluster.kubeconfig)
    assert {m["metadata"]["name"] for m in cluster.items("mdep")} >= {"through"}
    assert {p["metadata"]["uid"] for p in cluster.pods("through")} == {uid for uid, _ in pods}
    install.install(cluster.kubeconfig, *NO_GATE)
    cluster.kubectl("scale", "mdep", "through", "--replicas=3")
    cluster.wait_ready("through")
    after = {(p["metadata"]["uid"], p["status"]["containerStatuses"][0]["restartCount"]) for p in cluster.pods("through")}
    assert pods <= after


def test_a_withdrawn_device_shrinks_the_pool_and_harms_nobody(cluster: Cluster) -> None:
    """The plugin reports a device Unhealthy: allocatable falls by one, status says withdrawn, the replica stays; then it returns."""
    if cluster.kind == "external":
        pytest.skip("needs the sandbox's plugin")
    cluster.apply(tiny("calm"))
    cluster.wait_ready("calm")
    before = {p["metadata"]["uid"] for p in cluster.pods("calm")}

    def withdrawn(pools: list[Object]) -> int:
        return next(int(p["status"]["devices"].get("withdrawn", 0)) for p in pools if p["metadata"]["name"] == "sandbox-ascend")

    cluster.sandbox("device", "withdraw", "a3-0", "Ascend910-5")
    cluster.until("one die withdrawn", "apool", lambda ps: withdrawn(ps) == 1, namespace="*")
    cluster.sandbox("device", "restore", "a3-0", "Ascend910-5")
    cluster.until("the die is back", "apool", lambda ps: withdrawn(ps) == 0, namespace="*")
    assert {p["metadata"]["uid"] for p in cluster.pods("calm")} == before
