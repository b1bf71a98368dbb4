"""The operator's own process in the scenarios: killed, scaled away and brought back."""

from __future__ import annotations

import os
import signal

from tests.e2e.lib import Cluster, Object, condition_row


def _operator_pods(cluster: Cluster) -> list[Object]:
    return [
        p for p in cluster.items("pods", "app.kubernetes.io/component=operator", "polyfleet") if not p["metadata"].get("deletionTimestamp")
    ]


def kill_operator(cluster: Cluster) -> None:
    """SIGKILL the operator's process (the container, as the kernel's OOM killer would), and wait until it runs again."""
    from sandbox import witness

    pod = _operator_pods(cluster)[0]
    restarts = pod["status"]["containerStatuses"][0]["restartCount"]
    pid = witness.container_pid(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["containerID"])
    os.kill(pid, signal.SIGKILL)
    cluster.until(
        "operator runs again",
        "pods",
        lambda ps: any(
            p["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) > restarts
            and condition_row(p, "Ready").get("status") == "True"
            for p in ps
        ),
        namespace="polyfleet",
        timeout_s=180,
    )


def scale_operator(cluster: Cluster, replicas: int) -> None:
    cluster.kubectl("scale", "deployment", "polyfleet", "-n", "polyfleet", f"--replicas={replicas}")
    if replicas:
        cluster.kubectl("rollout", "status", "deployment/polyfleet", "-n", "polyfleet", "--timeout=120s")
    else:
        cluster.until("operator gone", "pods", lambda ps: not ps, namespace="polyfleet")
