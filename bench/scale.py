"""50 ModelDeployments at once on 100 virtual nodes: every pod on its planned node, no device held twice.

The operator runs as a local process under an account of its own name against a control plane with KWOK nodes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.e2e.lib import BIN, Cluster, tiny
from tools.paths import ROOT

MODELS, NODES = 50, 100


def _bound_where_planned(pods: list[dict[str, Any]]) -> int:
    count = 0
    for pod in pods:
        terms = (
            pod["spec"]
            .get("affinity", {})
            .get("nodeAffinity", {})
            .get("requiredDuringSchedulingIgnoredDuringExecution", {})
            .get("nodeSelectorTerms", [])
        )
        planned = [v for t in terms for f in t.get("matchFields", []) for v in f["values"]]
        count += pod["spec"].get("nodeName") in planned
    return count


def _over_allocated(cluster: Cluster, pods: list[dict[str, Any]]) -> int:
    """Devices held beyond what the nodes have, summed over nodes and resources."""
    held: Counter[tuple[str, str]] = Counter()
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for resource, amount in container["resources"].get("limits", {}).items():
                if "/" in resource:
                    held[(pod["spec"]["nodeName"], resource)] += int(amount)
    stock = {(n["metadata"]["name"], r): int(a) for n in cluster.items("nodes") for r, a in n["status"]["allocatable"].items() if "/" in r}
    return sum(max(0, amount - stock.get(key, 0)) for key, amount in held.items())


def measure() -> dict[str, float]:
    state = tempfile.mkdtemp(prefix="polyfleet-bench-")
    env = {**os.environ, "POLYFLEET_SANDBOX_STATE": state}
    sandbox = str(BIN / "polyfleet-sandbox")
    subprocess.run([sandbox, "up", "--nodes", "virtual", "--fleet", f"mixed:{NODES}"], cwd=ROOT, check=True, env=env)
    operator: subprocess.Popen[bytes] | None = None
    try:
        kubeconfig = subprocess.run([sandbox, "kubeconfig"], cwd=ROOT, check=True, env=env, capture_output=True, text=True).stdout.strip()
        cluster = Cluster(Path(kubeconfig), "virtual")
        cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        with (Path(state) / "operator.log").open("wb") as log:
            operator = subprocess.Popen(
                [sys.executable, "-m", "polyfleet"],
                env={
                    **env,
                    "KUBECONFIG": kubeconfig,
                    "POLYFLEET_HTTP_PORT": "0",
                    "POLYFLEET_PROFILES_DIR": str(ROOT / "hwprofiles/shipped"),
                },
                stdout=log,
                stderr=log,
            )
        cluster.until("pools discovered", "apool", lambda ps: len(ps) >= 3, namespace="*")
        begin = time.monotonic()
        cluster.apply("---\n".join(json.dumps(tiny(f"m-{i:02d}", replicas=1 + i % 3)) + "\n" for i in range(MODELS)))
        wanted = sum(1 + i % 3 for i in range(MODELS))

        def ready(objects: list[dict[str, Any]]) -> bool:
            return (
                sum(any(c["type"] == "Ready" and c["status"] == "True" for c in o.get("status", {}).get("conditions", [])) for o in objects)
                == MODELS
            )

        cluster.until(f"{MODELS} models Ready", "mdep", ready, timeout_s=300)
        seconds = time.monotonic() - begin
        pods = cluster.items("pods")
        figures = {
            "scale_models_ready_s": seconds,
            "scale_pods": float(len(pods)),
            "scale_pods_missing": float(wanted - len(pods)),
            "scale_pods_bound_to_planned_node": float(_bound_where_planned(pods)),
            "scale_pods_elsewhere": float(len(pods) - _bound_where_planned(pods)),
            "scale_devices_held_twice": float(_over_allocated(cluster, pods)),
        }
        size = Path(f"/proc/{operator.pid}/status").read_text().split("VmRSS:")[1].split()[0]
        figures["scale_operator_rss_mb"] = int(size) / 1024
        return figures
    finally:
        if operator is not None:
            operator.terminate()
            operator.wait(timeout=30)
        subprocess.run([sandbox, "down"], cwd=ROOT, check=True, env=env)
