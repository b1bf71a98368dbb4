"""Fixtures of the end-to-end scenarios: a cluster of the asked kind with the chart installed.

`POLYFLEET_E2E_NODES=real|process` (default: what the machine allows) brings up a sandbox of the tests' own under `.e2e/`, so that a demo of
this checkout is left alone; `POLYFLEET_E2E_KUBECONFIG=FILE` takes a cluster of yours instead, and refuses one that is not marked for it.
`POLYFLEET_E2E_KEEP=1` leaves the sandbox up for looking at it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lib import BIN, ROOT, Cluster

MARK = "polyfleet.io/e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)


def _sandbox(*args: str) -> None:
    done = subprocess.run([str(BIN / "polyfleet-sandbox"), *args], cwd=ROOT, check=False)
    assert done.returncode == 0, f"polyfleet-sandbox {' '.join(args)} failed with {done.returncode} (its output is above)"


def _external(path: Path) -> Cluster:
    cluster = Cluster(path, "external")
    labels = cluster.get("namespace", "default")["metadata"].get("labels", {})
    if labels.get(MARK) != "allowed":
        pytest.exit(
            f"{path}: this cluster is not marked for end-to-end tests, which create and delete objects and drain nodes. "
            f"If that is meant: kubectl label namespace default {MARK}=allowed",
            returncode=1,
        )
    return cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    given = os.environ.get("POLYFLEET_E2E_KUBECONFIG")
    if given:
        yield _external(Path(given))
        return
    os.environ["POLYFLEET_SANDBOX_STATE"] = str(ROOT / ".e2e")  # also for every polyfleet-sandbox command of the scenarios
    from sandbox import install, state

    kind = os.environ.get("POLYFLEET_E2E_NODES", "")
    _sandbox("up", "--fleet", "three-vendors", *(["--nodes", kind] if kind else []))
    out = subprocess.run([str(BIN / "polyfleet-sandbox"), "kubeconfig"], cwd=ROOT, check=True, capture_output=True, text=True)
    kubeconfig = Path(out.stdout.strip())
    install.install(kubeconfig)
    yield Cluster(kubeconfig, kind or "real", state.state_dir())
    if os.environ.get("POLYFLEET_E2E_KEEP") != "1":
        _sandbox("down")
