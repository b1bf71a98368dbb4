"""Cluster DNS: a pod reaches a model by the address that the model's status names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.lib import Cluster, tiny

_ENGINE = "sandbox.polyfleet.io/engine:dev"
_PROGRAM = """
import json, socket, sys, urllib.request
print("kubernetes", socket.gethostbyname("kubernetes.default.svc.cluster.local"))
try:
    print("outside", socket.gethostbyname("example.org"))
except socket.gaierror as error:
    print("outside", error.errno == socket.EAI_NONAME)
print("models", [model["id"] for model in json.load(urllib.request.urlopen(sys.argv[1] + "/models", timeout=20))["data"]])
"""


def _pod(name: str, *arguments: str) -> dict[str, Any]:
    container = {"name": "ask", "image": _ENGINE, "command": ["python3", "-c", _PROGRAM, *arguments]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def test_status_url_works_from_a_pod(cluster: Cluster) -> None:
    """The API server and the model resolve; what lies outside does not exist, and that is said at once instead of after retries."""
    if cluster.kind == "process":
        pytest.skip("pods of process nodes use the machine's own resolver")
    if cluster.kind == "external":
        pytest.skip("needs the sandbox's engine image, and no way outside")
    cluster.apply(tiny("named"))
    url = cluster.wait_ready("named")["status"]["url"]
    cluster.apply(_pod("asker", url))
    ended = cluster.until(
        "the asking pod has ended",
        "pods",
        lambda pods: any(p["metadata"]["name"] == "asker" and p["status"].get("phase") in ("Succeeded", "Failed") for p in pods),
    )
    told = cluster.kubectl("logs", "asker", check=False)
    assert [p["status"]["phase"] for p in ended if p["metadata"]["name"] == "asker"] == ["Succeeded"], told
    assert told.splitlines() == ["kubernetes 10.0.0.1", "outside True", "models ['named']"]
