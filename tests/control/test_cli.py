"""The command line against a real API server: a snapshot gives the operator's own plan, reads only, and says what it may not read."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.cli import archive
from polyfleet.cli.program import call
from polyfleet.solver_process import Solved, SolverFailed, SolverProcess

from placement._codec import encode
from placement.types import Demand, Plan, Snapshot, Warm
from sandbox import binaries
from sandbox.controlplane import API_SERVER, ETCD, ControlPlane
from tests.control.cycling import H100, NAMESPACE, B, Kubectl, model, operator, policy, ready, run
from tools.paths import ROOT

pytestmark = pytest.mark.control

SECRET = "planted-5b1d0c77"
READER = "cli-reader"
LISTS = [
    {"apiGroups": [""], "resources": ["nodes", "pods", "services"], "verbs": ["list"]},
    {"apiGroups": ["resource.k8s.io"], "resources": ["resourceslices", "resourceclaims", "deviceclasses"], "verbs": ["list"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["list"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["list"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
    {
        "apiGroups": ["polyfleet.io"],
        "resources": [
            "modeldeployments", "hardwareprofiles", "acceleratorpools", "fleetpolicies", "placementplans", "accuracyreports",
        ],
        "verbs": ["list"],
    },
]  # fmt: skip


def polyfleet(kubeconfig: Path, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = call([*arguments, "--kubeconfig", str(kubeconfig)], out, err)
    return code, out.getvalue(), err.getvalue()


def offline(*arguments: str) -> tuple[int, dict[str, Any]]:
    out, err = io.StringIO(), io.StringIO()
    code = call([*arguments, "-o", "json"], out, err)
    assert err.getvalue() == ""
    return code, json.loads(out.getvalue())


class Witness:
    """The operator's solver, with what it was asked and what it answered."""

    def __init__(self, solver: SolverProcess) -> None:
        self._solver = solver
        self.seen: list[tuple[Snapshot, Demand, Plan]] = []

    async def solve(self, snapshot: Snapshot, demand: Demand, warm: Warm | None) -> Solved | SolverFailed:
        answer = await self._solver.solve(snapshot, demand, warm)
        assert isinstance(answer, Solved)
        self.seen.append((snapshot, demand, answer.plan))
        return answer


def small(name: str, **spec: Any) -> dict[str, Any]:
    """A model with private text in its environment, its arguments and its annotations."""
    runtime = {"env": [{"name": "HF_TOKEN", "value": SECRET}], "args": [f"--api-key={SECRET}"], **spec.pop("runtime", {})}
    found = model(name, runtime=runtime, **spec)
    found["metadata"]["annotations"] = {"note": SECRET}
    return found


def test_a_snapshot_gives_the_plan_that_the_cycle_computes_and_nothing_private(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """Replicas run; then a node comes back, a pod of others takes devices and a model of higher priority arrives. The file is taken before
    the operator's next turn. What the operator's solver is asked and answers in that turn is what the file holds and gives."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(policy(), small("runs", replicas=4))
            await op.until("four serve", lambda seen: ready(seen, "runs") == 4)
            await op.rests(1)
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": NAMESPACE}, "stringData": {"k": SECRET}}
            prompts = {
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "p", "namespace": NAMESPACE}, "data": {"prompt": SECRET},
            }  # fmt: skip
            await op.apply(secret, prompts)
            await op.hand("uncordon", B)
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "other", "namespace": NAMESPACE, "annotations": {"note": SECRET}},
                "spec": {
                    "nodeName": B,
                    "containers": [
                        {"name": "c", "image": "none", "env": [{"name": "E", "value": SECRET}], "resources": {"limits": {H100: "5"}}}
                    ],
                },
            }
            await op.apply(pod, small("first", replicas=3, priority=100, runtime={"parallelism": {"tensor": 2}}))
            assert await op.cache.wait_for(lambda: any(n.name == B and not n.unschedulable for n in op.cache.observe().nodes), 30)
            file = tmp_path / "fleet.json"
            code, _, err = await asyncio.to_thread(polyfleet, apiserver, "snapshot", "-o", str(file))
            assert (code, "left out" in err) == (0, True), err
            live = await asyncio.to_thread(polyfleet, apiserver, "plan", "-o", "json")
            witness = Witness(op.cycle.planner.solver)
            op.cycle.planner.solver = witness  # type: ignore[assignment]
            await op.turn()
            asked, demand, plan = witness.seen[0]
            assert plan.starts, "the turn had something to decide"
            text = file.read_text(encoding="utf-8")
            assert SECRET not in text
            assert "HF_TOKEN" in text
            assert archive.read(str(file)).placement == (asked, demand)
            _, body = offline("plan", "--snapshot", str(file))
            wanted = json.dumps(encode(plan.assignments), sort_keys=True)
            assert json.dumps(body["plan"]["assignments"], sort_keys=True) == wanted
            assert json.dumps(json.loads(live[1])["plan"]["assignments"], sort_keys=True) == wanted
            assert body["plan"]["stop"] == list(plan.stop)
            assert body["exitCode"] == live[0]

    run(scenario)


def user(control_plane: ControlPlane, kubectl: Kubectl, folder: Path, name: str, rules: list[dict[str, Any]]) -> Path:
    """A kubeconfig of a user who has exactly these rights."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    for each in (role, binding):
        kubectl("apply", "-f", "-", stdin=json.dumps(each), check=True)
    return control_plane.user_kubeconfig(folder / name, name)


def test_the_verb_list_is_enough_and_no_other_is_used(control_plane: ControlPlane, clean: Kubectl, tmp_path: Path) -> None:
    """Judged by the audit log: this user only listed. The rights are those that the page gives."""
    documented = next(
        item
        for block in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").split("```yaml")[1:]
        for item in yaml.safe_load_all(block.split("```")[0])
        if item["kind"] == "ClusterRole"
    )
    assert documented["rules"] == LISTS
    clean("apply", "-f", "-", stdin=json.dumps(policy()), check=True)
    clean("apply", "-f", "-", stdin=json.dumps(small("m", replicas=2)), check=True)
    reader = user(control_plane, clean, tmp_path, READER, LISTS)
    assert polyfleet(reader, "snapshot", "-o", str(tmp_path / "s.json"))[0] == 0
    code, out, err = polyfleet(reader, "plan")
    assert (code, err) == (2, ""), err
    assert f"Plan for {NAMESPACE}/m: OPTIMAL" in out
    assert polyfleet(reader, "explain", f"mdep/{NAMESPACE}/m")[0] == 0
    lines = [json.loads(line) for line in control_plane.audit_log.read_text(encoding="utf-8").splitlines()]
    verbs = {line["verb"] for line in lines if line["user"]["username"] == READER}
    assert verbs == {"list"}


def test_a_namespace_is_seen_as_an_operator_of_it_sees_it(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """`snapshot -n X` holds the models of X only; the nodes and what is held on them stay whole."""
    clean("apply", "-f", "-", stdin=json.dumps(small("m")), check=True)
    for space, names in ((NAMESPACE, ["m"]), ("default", [])):
        file = tmp_path / f"{space}.json"
        assert polyfleet(apiserver, "snapshot", "-n", space, "-o", str(file))[0] == 0
        body = json.loads(file.read_text(encoding="utf-8"))
        assert [key.split("/")[1] for key in body["objects"]["modeldeployments"]] == names
        assert B in body["objects"]["nodes"]


def test_what_may_not_be_read_is_named(control_plane: ControlPlane, clean: Kubectl, tmp_path: Path) -> None:
    """No rights at all, and every right but nodes: no half plan, and the command that shows the missing right."""
    nobody = user(control_plane, clean, tmp_path, "cli-nobody", [])
    code, out, err = polyfleet(nobody, "plan")
    assert (code, out) == (1, "")
    assert err.startswith("error: these credentials may not list acceleratorpools, accuracyreports")
    rules = [{**rule, "resources": [name for name in rule["resources"] if name != "nodes"]} for rule in LISTS]
    code, out, err = polyfleet(user(control_plane, clean, tmp_path, "cli-no-nodes", rules), "snapshot")
    assert (code, out) == (1, "")
    assert "error: these credentials may not list nodes\n" in err
    assert 'User "cli-no-nodes" cannot list' in " ".join(err.split())
    assert "kubectl auth can-i list nodes -A" in " ".join(err.split())


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server of this module's own, on which nobody installs anything."""
    plane = ControlPlane(
        tmp_path_factory.mktemp("empty"), binaries.ensure(lambda line: print(line, file=sys.stderr)), parts=(ETCD, API_SERVER)
    )
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


def test_a_cluster_without_the_crds_says_what_to_install(empty: ControlPlane) -> None:
    code, out, err = polyfleet(empty.kubeconfig, "plan")
    assert (code, out) == (1, "")
    assert "error: the cluster does not know acceleratorpools.polyfleet.io" in err
    assert "helm install polyfleet" in err


def test_credentials_that_the_server_does_not_know(empty: ControlPlane, apiserver: Path, tmp_path: Path) -> None:
    """A token that nobody issued: 401, told as such."""
    body = yaml.safe_load(empty.kubeconfig.read_text(encoding="utf-8"))
    body["users"] = [{"name": item["name"], "user": {"token": "nobody-issued-this"}} for item in body["users"]]
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    code, _, err = polyfleet(path, "plan")
    assert code == 1
    assert "error: the API server does not accept these credentials" in err
