"""The vertical slice as its user sees it: seven lines become a replica that answers; three vendors share one endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.lib import MODEL_LABEL, ROOT, Cluster, Object, condition_row, counter, fetch, labels, model, tiny

DEVICE_ENV = {"nvidia": "NVIDIA_VISIBLE_DEVICES", "huawei": "ASCEND_VISIBLE_DEVICES", "alibaba": "PPU_VISIBLE_DEVICES"}


def _vendor(pod: Object) -> str:
    return str(pod["metadata"]["labels"]["polyfleet.io/vendor"])


def _pinned_node(pod: Object) -> str:
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    fields = [f for t in terms for f in t.get("matchFields", []) if f["key"] == "metadata.name"]
    assert fields, "the plan's node is not in the pod"
    return str(fields[0]["values"][0])


def test_seven_lines_run_on_the_cheapest_device(cluster: Cluster) -> None:
    """examples/smol.yaml is seven lines; the PPU is the cheapest sandbox device (0.90 per hour), so it gets the one replica."""
    text = (ROOT / "examples/smol.yaml").read_text()
    assert len(text.strip().splitlines()) == 7
    cluster.apply(text)
    mdep = cluster.wait_ready("smol")
    placements = mdep["status"]["placements"]
    assert [(p["profile"], p["replicas"], p["readyReplicas"]) for p in placements] == [("sandbox-ppu", 1, 1)]
    assert placements[0]["reason"] == "CheapestWithinSlo"
    assert mdep["status"]["summary"]["hardware"] == "alibaba:1"
    assert mdep["status"]["url"] == "http://smol.default.svc:8000/v1"
    assert {"sandbox-nvidia", "sandbox-ascend"} <= {r["profile"] for r in mdep["status"]["rejected"]}
    columns = cluster.kubectl("get", "mdep", "smol").splitlines()[0].split()
    assert columns == ["NAME", "READY", "REPLICAS", "HARDWARE", "COST/H", "ACCURACY", "REASON", "AGE"]


def test_three_vendors_answer_from_their_own_devices(cluster: Cluster) -> None:
    """One replica per vendor, each pinned by the plan, with the device plugin's environment, counting what it answers."""
    cluster.apply((ROOT / "examples/three-vendors.yaml").read_text())
    cluster.wait_ready("three-vendors")
    pods = cluster.pods("three-vendors")
    assert sorted(_vendor(p) for p in pods) == ["alibaba", "huawei", "nvidia"]
    assert len({p["spec"]["nodeName"] for p in pods}) == 3
    for pod in pods:
        assert pod["spec"]["nodeName"] == _pinned_node(pod)
        assert condition_row(pod, "polyfleet.io/serving")["status"] == "True"
        base = cluster.url(f"pod/{pod['metadata']['name']}")
        card = json.loads(fetch(f"{base}/v1/models"))["data"][0]
        devices = card["polyfleet"]["devices"]
        assert list(devices) == [DEVICE_ENV[_vendor(pod)]]
        before = counter(base, "vllm:generation_tokens_total")
        body = {"model": "three-vendors", "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 6, "temperature": 0}
        answer = json.loads(fetch(f"{base}/v1/chat/completions", body))
        assert answer["choices"][0]["message"]["content"].strip()
        assert counter(base, "vllm:generation_tokens_total") - before == answer["usage"]["completion_tokens"]
    endpoint = cluster.url("mdep/three-vendors")
    answer = json.loads(
        fetch(
            f"{endpoint}/v1/completions",
            {"model": "three-vendors", "prompt": "The capital of France is", "max_tokens": 2, "temperature": 0},
        )
    )
    assert "Paris" in answer["choices"][0]["text"]


def test_replicas_follow_the_spec_up_and_down_and_the_victim_is_the_planned_one(cluster: Cluster) -> None:
    """1 → 3 → 1 replicas: exactly n serve, and the survivor of the way down never restarts."""
    cluster.apply(tiny("steps", replicas=1))
    cluster.wait_ready("steps")
    first = {p["metadata"]["uid"] for p in cluster.pods("steps")}
    cluster.kubectl("scale", "mdep", "steps", "--replicas=3")
    mdep = cluster.wait_ready("steps")
    assert mdep["status"]["readyReplicas"] == 3
    pods = cluster.pods("steps")
    assert len(pods) == 3
    assert first < {p["metadata"]["uid"] for p in pods}
    cluster.kubectl("scale", "mdep", "steps", "--replicas=1")
    cluster.until(
        "one replica left",
        "pods",
        lambda ps: sum(labels(p).get(MODEL_LABEL) == "steps" for p in ps) == 1,
    )
    left = cluster.pods("steps")
    assert left[0]["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.until(
        "status counts one",
        "mdep",
        lambda ms: any(
            m["metadata"]["name"] == "steps" and m["status"].get("replicas") == m["status"].get("readyReplicas") == 1 for m in ms
        ),
    )
    cluster.delete_model("steps")


def test_pods_are_restricted_and_owned(cluster: Cluster) -> None:
    """A generated pod passes Pod Security `restricted`, mounts no token, and its chain of owners ends at the ModelDeployment."""
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": enforce}})
    manifest = tiny("owned")
    manifest["metadata"]["namespace"] = "strict"
    cluster.apply(manifest)
    cluster.until(
        "replica serving under restricted",
        "mdep",
        lambda ms: any(condition_row(m, "Ready").get("status") == "True" for m in ms),
        namespace="strict",
    )
    mdep = cluster.items("mdep", namespace="strict")[0]
    deployment = cluster.items("deployments", namespace="strict")[0]
    pod = cluster.items("pods", namespace="strict")[0]
    assert deployment["metadata"]["ownerReferences"][0]["uid"] == mdep["metadata"]["uid"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    budget = cluster.items("poddisruptionbudgets", namespace="strict")[0]
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert mdep["metadata"].get("finalizers", []) == []
    assert not [a for a in mdep["metadata"].get("annotations", {}) if a.startswith("kopf.")]


def test_pools_are_discovered_with_their_devices(cluster: Cluster) -> None:
    """8, 16 and 16 devices as the plugins advertise them; the profile with more label keys wins over the vendor's own."""
    cluster.until(
        "three pools known",
        "apool",
        lambda ps: {p["metadata"]["name"] for p in ps} >= {"sandbox-nvidia", "sandbox-ascend", "sandbox-ppu"},
        namespace="*",
    )
    pools = cluster.until(
        "devices counted",
        "apool",
        lambda ps: all(p.get("status", {}).get("devices", {}).get("allocatable") for p in ps),
        namespace="*",
    )
    found = {
        p["metadata"]["name"]: (p["spec"]["profile"], p["status"]["devices"]["allocatable"], p["status"]["resourceName"]) for p in pools
    }
    assert found == {
        "sandbox-nvidia": ("sandbox-nvidia", 8, "nvidia.com/gpu"),
        "sandbox-ascend": ("sandbox-ascend", 16, "huawei.com/Ascend910"),
        "sandbox-ppu": ("sandbox-ppu", 16, "alibabacloud.com/ppu"),
    }


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_is_accepted(cluster: Cluster, path: Path) -> None:
    """A dry run on the real API server accepts each shipped example under strict field validation."""
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))


def test_a_seven_line_object_gets_the_documented_defaults(cluster: Cluster) -> None:
    """The schema's defaults of interface 3.1 appear in the stored object."""
    stored = json.loads(cluster.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(model("defaults"))))
    spec = stored["spec"]
    assert spec["workload"] == {"inputTokens": 1024, "outputTokens": 256}
    assert spec["slo"] == {"class": "Standard", "percentile": 95}
    assert (spec["priority"], spec["drainTimeout"], spec["suspend"], spec["paused"]) == (0, "5m", False, False)
