"""Makes one node's engines compute wrongly, or one replica's, while the cluster runs: faults that nothing in the API shows.

A node's fault lies in a file that the device plugin shows to every container on it (on a process node its agent does), so replicas that
start later have it too; the engine looks at the file with each request. A replica's fault is set by a call that the engine takes from
its own machine only, and ends with the container.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox import fleet, processkind, state, witness
from sandbox.deviceplugin.kinds import FAULT_FILE
from sandbox.engine.faults import FaultError, parse
from sandbox.engine.faults.__main__ import ask
from sandbox.errors import SandboxError

_ROOT = Path(__file__).resolve().parent.parent
_SECONDS = 60


def checked(faults: Sequence[str]) -> list[str]:
    """In their canonical spelling. Raises SandboxError for one that does not exist."""
    try:
        return [parse(each).text for each in faults]
    except FaultError as error:
        raise SandboxError(str(error)) from error


def on_node(folder: Path, found: state.Cluster, name: str, faults: Sequence[str]) -> str:
    """Replace the faults of a node; [] takes them back. Returns what was done, in words."""
    nodes = {node.name: node for node in fleet.parse(found.fleet_text, found.fleet).nodes}
    if name not in nodes:
        raise SandboxError(f"there is no node {name!r}; there are: {', '.join(sorted(nodes))}")
    if nodes[name].devices is None:
        raise SandboxError(f"node {name} has no devices, so no engine runs on it that could be made faulty")
    texts = checked(faults)
    path = node_file(folder, found.kind, name)
    if not texts:
        path.unlink(missing_ok=True)
        return f"the engines of node {name} compute as they should again"
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("".join(f"{each}\n" for each in texts))
    fresh.chmod(0o644)  # read by the container's own user
    fresh.replace(path)
    return f"the engines of node {name} now have: {', '.join(texts)}"


def node_file(folder: Path, kind: str, name: str) -> Path:
    """Where a node's faults are written."""
    if kind == "real":
        return folder / "nodes" / name / "var-lib" / "polyfleet-sandbox" / "devices" / FAULT_FILE
    if kind == "process":
        return processkind.node_state(folder, name) / FAULT_FILE
    raise SandboxError(f"pods of {kind} nodes do not run, so they have no faults. Use --nodes real or process")


def in_pod(found: state.Cluster, pod: dict[str, Any], faults: Sequence[str]) -> str:
    """Replace the faults that calls set in a running replica; returns the engine's answer: its faults by source."""
    name, texts = pod["metadata"]["name"], checked(faults)
    running = [each for each in pod.get("status", {}).get("containerStatuses", ()) if "running" in each.get("state", {})]
    if not running:
        raise SandboxError(f"no container of pod {name} runs now. Wait: kubectl get pod {name} -w")
    if found.kind == "process":
        try:
            return ask(f"http://{pod['status']['podIP']}:8000", texts)
        except (OSError, FaultError) as error:
            raise SandboxError(f"pod {name}: {error}") from error
    # The engine listens to its own network only, so the call is made inside of it.
    pid = witness.container_pid(pod["metadata"]["uid"], running[0]["containerID"])
    words = ["set", *texts] if texts else ["clear"]
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", "--", sys.executable, "-m", "sandbox.engine.faults", *words],
        cwd=_ROOT, capture_output=True, text=True, check=False, timeout=_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise SandboxError(f"pod {name}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
