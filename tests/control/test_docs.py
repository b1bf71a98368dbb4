"""`docs/add-a-device.md` as it is written: the real program against the real API server, KWOK for the node of the invented device."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwprofiles.shipped_profiles import SHIPPED
from sandbox import fleet, virtual
from sandbox.controlplane import ControlPlane
from tests import pages
from tests.control.cycling import Kubectl, policy
from tests.e2e.watching import Watcher
from tools.paths import ROOT

pytestmark = pytest.mark.control

NODE = "npu-0"
LABELS = {"example.com/npu.product": "X1-64G"}
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
BIN = Path(sys.executable).parent


@pytest.fixture
def node(control_plane: ControlPlane, kubectl: Kubectl) -> Iterator[None]:
    files = [argument for path in sorted((ROOT / "crds").glob("*.yaml")) for argument in ("-f", str(path))]
    kubectl("apply", "--server-side", "--force-conflicts", *files, check=True)
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", check=True)
    kubectl("-n", "default", "wait", "--for=create", "serviceaccount/default", "--timeout=60s", check=True)
    # KWOK's nodes run no engine that anybody could ask.
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", check=True, stdin=json.dumps(policy()))
    virtual.start(
        control_plane, fleet.Fleet("docs", (fleet.Node(NODE, dict(LABELS), (), fleet.Devices("example.com/npu", 8, "nvidia")),), "")
    )
    kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=60s", check=True)
    try:
        yield
    finally:
        kubectl("delete", "mdep,pplan,fpol,apool,hwp", "-n", "default", "--all")
        # The garbage collector looks for new kinds every 30 s only, so that it may not know yet that a model owns this Deployment. Its own
        # kinds it knows: with them in the foreground, the pods are gone when the command ends.
        kubectl("-n", "default", "delete", "deployments", "--all", "--cascade=foreground", "--timeout=60s", check=True)
        control_plane.processes.stop(("kwok",))
        kubectl("delete", "node", NODE, "--ignore-not-found")


@pytest.fixture
def program(node: None, apiserver: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """`polyfleet run`, with the shipped profiles as the chart mounts them; gives the environment of a person at a terminal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for path in SHIPPED.glob("*.yaml"):
        if not path.name.startswith("sandbox-"):
            (mounted / path.name).write_bytes(path.read_bytes())
    person = {**os.environ, "KUBECONFIG": str(apiserver), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    env = {
        **person, "POLYFLEET_PROFILES_DIR": str(mounted), "POLYFLEET_HTTP_HOST": "127.0.0.1", "POLYFLEET_HTTP_PORT": port,
        "POLYFLEET_LEASE_NAME": "docs", "POLYFLEET_DEBOUNCE_IDLE": "0.1", "POLYFLEET_LOG_FORMAT": "text",
    }  # fmt: skip
    log = tmp_path / "operator.log"
    with log.open("wb") as out, subprocess.Popen([str(BIN / "polyfleet"), "run"], env=env, stdout=out, stderr=out) as process:
        try:
            watch = Watcher(str(BIN / "kubectl"), person)
            told, _ = watch.until(EVENTS, lambda found: any(item.get("reason") == "NodeUnmatched" for item in found), 60)
            assert told, log.read_text(encoding="utf-8")[-3000:]
            yield person
        finally:
            process.terminate()
            process.wait(30)


def test_add_a_device(program: dict[str, str], tmp_path: Path) -> None:
    """Every command of the page ends well and prints what the page says."""
    folder = tmp_path / "page"
    folder.mkdir()
    assert pages.run(ROOT / "docs/add-a-device.md", folder, program) == 4
