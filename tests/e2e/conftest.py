"""Fixtures of the end-to-end scenarios: a cluster of the asked kind with the chart installed.

`POLYFLEET_E2E_NODES=real|process` (default: what the machine allows) brings up a sandbox of the tests' own under `.e2e/`, so that a demo of
this checkout is left alone (POLYFLEET_SANDBOX_STATE names another folder). `POLYFLEET_E2E_KUBECONFIG=FILE` takes a cluster of yours
instead, installs nothing there, and refuses one that is not marked for it. `POLYFLEET_E2E_KEEP=1` leaves the sandbox up for looking at it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import foreground
from tests.e2e.lib import NO_GATE, ROOT, SANDBOX, Cluster

MARK = "polyfleet.io/e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)


def _sandbox(*args: str) -> None:
    done = foreground.run([SANDBOX, *args], cwd=ROOT)
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
    if "polyfleet" not in [d["metadata"]["name"] for d in cluster.items("deployments", namespace="polyfleet")]:
        pytest.exit(f"{path}: polyfleet is not installed there, and these tests install nothing. next: docs/kind.md", returncode=1)
    gate = cluster.get("fpol", "default")["spec"].get("accuracy", {}).get("gate")
    if gate != "Disabled":
        change = '{"spec":{"accuracy":{"gate":"Disabled"}}}'
        pytest.exit(
            f"{path}: the accuracy gate is {gate} there, and these tests would wait for it at every start. "
            f"For the time of the tests: kubectl patch fpol default --type=merge -p '{change}'",
            returncode=1,
        )
    return cluster


def _own() -> Iterator[Cluster]:
    os.environ.setdefault("POLYFLEET_SANDBOX_STATE", str(ROOT / ".e2e"))  # also for every polyfleet-sandbox command of the scenarios
    from sandbox import install, state

    kind = os.environ.get("POLYFLEET_E2E_NODES", "")
    _sandbox("up", "--fleet", "three-vendors", *(["--nodes", kind] if kind else []))
    try:
        folder = state.state_dir()
        cluster = Cluster(folder / "kubeconfig", state.require(folder).kind, folder)
        # What a model answers is what test_accuracy.py is about, which switches the gate on; the others would wait for it at every start.
        install.install(cluster.kubeconfig, *NO_GATE)
        yield cluster
    finally:
        if os.environ.get("POLYFLEET_E2E_KEEP") != "1":
            _sandbox("down")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end from outside runs the teardown below, as Ctrl-C does
    given = os.environ.get("POLYFLEET_E2E_KUBECONFIG")
    if given:
        found = _external(Path(given))
        yield found
        found.close()
    else:
        yield from _own()


@pytest.fixture(autouse=True)
def _tidy(cluster: Cluster) -> Iterator[None]:
    """What a scenario applied goes when it ends, also when it fails, so that no scenario inherits another's objects."""
    yield
    cluster.tidy()
