"""What a user waits for, and what a converged cluster costs: on the sandbox with the chart installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.lib import BIN, NO_GATE, Cluster
from tools.paths import ROOT

OPERATOR = "system:serviceaccount:polyfleet:polyfleet"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def _up() -> dict[str, float]:
    """Bring the sandbox up anew; its own progress lines carry the times."""
    sandbox = str(BIN / "polyfleet-sandbox")
    for command in ("down", "up", "down"):  # the first `up` builds and loads what is missing, so that the measured one is warm
        subprocess.run([sandbox, command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    begin = time.monotonic()
    out = subprocess.run([str(BIN / "polyfleet-sandbox"), "up"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sys.stdout.write(out)
    stamps = [(int(m[1]) * 60 + float(m[2]), m[3]) for m in re.finditer(r"^\[ *(\d+):([\d.]+)\] (.*)$", out, re.M)]
    plane = [at for at, text in stamps if "control plane" in text and "ready" in text.lower()]
    nodes = [at for at, text in stamps if "nodes" in text and "ready" in text.lower()]
    figures = {"sandbox_up_s": time.monotonic() - begin}
    if plane:
        figures["control_plane_ready_s"] = plane[-1]
    if plane and nodes:
        figures["nodes_ready_s"] = nodes[-1]  # since `up` began, the control plane included
    return figures


def writes_since(log: Path, offset: int) -> list[str]:
    """The operator's completed writes after this place of the audit log, its Lease renewals left out."""
    found = []
    with log.open() as handle:
        handle.seek(offset)
        for line in handle:
            event = json.loads(line)
            ref = event.get("objectRef") or {}
            if (
                event["stage"] == "ResponseComplete"
                and event["user"]["username"] == OPERATOR
                and event["verb"] in WRITES
                and ref.get("resource") != "leases"
            ):
                found.append(f"{event['verb']} {ref.get('resource')}/{ref.get('name')}")
    return found


def _rss_mb(cluster: Cluster) -> float:
    """Resident memory of the operator's process and its children, in MB."""
    from sandbox import witness

    pod = cluster.items("pods", "app.kubernetes.io/component=operator", "polyfleet")[0]
    pid = witness.container_pid(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["containerID"])
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        own = re.search(r"^PPid:\t(\d+)", text, re.M)
        if int(status.parent.name) == pid or (own and int(own[1]) == pid):
            size = re.search(r"^VmRSS:\s+(\d+) kB", text, re.M)
            total += int(size[1]) if size else 0
    return total / 1024


def measure(seconds: int) -> dict[str, float]:
    os.environ["POLYFLEET_SANDBOX_STATE"] = str(ROOT / ".e2e")  # a demo of this checkout is left alone
    from sandbox import install, state, witness

    figures = _up()
    kubeconfig = state.state_dir() / "kubeconfig"
    install.install(kubeconfig, *NO_GATE)  # starting is measured here, not checking
    cluster = Cluster(kubeconfig, "sandbox")
    begin = time.monotonic()
    cluster.apply((ROOT / "examples/three-vendors.yaml").read_text())
    cluster.wait_ready("three-vendors")
    figures["apply_to_ready_s"] = time.monotonic() - begin
    log = witness.audit_log()
    time.sleep(15)  # let what the last change set off come to rest before the quiet minute begins
    offset = log.stat().st_size
    time.sleep(seconds)  # the measurement itself is a stretch of wall time in which nothing may happen
    writes = writes_since(log, offset)
    print(f"writes at rest in {seconds} s: {writes or 'none'}")
    figures["idle_writes_in_60_s"] = len(writes) * 60 / seconds
    figures["operator_rss_mb"] = _rss_mb(cluster)
    subprocess.run([str(BIN / "polyfleet-sandbox"), "down"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return figures
