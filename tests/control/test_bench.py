"""`polyfleet bench` and a real API server: which replica is measured, what is refused before anything is sent, and what --apply writes.

KWOK plays the kubelets, so pods are ready and nothing answers in them; what is measured for --apply is an endpoint on loopback.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from polyfleet import naming
from polyfleet.cli.program import call
from polyfleet.loadtest.observe import renewed

from hwprofiles.learn import merge_learned
from hwprofiles.model import Throughput
from tests.control.cycling import NAMESPACE, A, Kubectl, model
from tests.unit.operator.test_loadtest_http import _plain, endpoint

pytestmark = pytest.mark.control

MODEL, PROFILE = "polyfleet/byte-tiny", "sandbox-nvidia"


def polyfleet(kubeconfig: Path, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = call(["bench", *arguments, "--kubeconfig", str(kubeconfig), "-n", NAMESPACE], out, err)
    return code, out.getvalue(), " ".join(err.getvalue().split())


def replica(name: str, profile: str = PROFILE) -> dict[str, Any]:
    """A pod as the operator makes it, bound already."""
    labels = {naming.DEPLOYMENT: "bench", naming.PROFILE: profile, naming.POOL: PROFILE, naming.REVISION: "r1", naming.VARIANT: "default"}
    container = {"name": "engine", "image": "sandbox.polyfleet.io/engine:dev", "args": ["--tensor-parallel-size=2"]}
    spec = {
        "nodeName": A,
        "containers": [container],
        "readinessGates": [{"conditionType": naming.SERVING}],
        "terminationGracePeriodSeconds": 0,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": spec}


def make(kubectl: Kubectl, *objects: dict[str, Any]) -> None:
    for each in objects:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(each), check=True)
        if each["kind"] == "Pod":
            names = ("-n", NAMESPACE, f"pod/{each['metadata']['name']}", "--timeout=60s")
            kubectl("wait", "--for=condition=ContainersReady", *names, check=True)


def serve(kubectl: Kubectl, name: str) -> None:
    patch = {"status": {"conditions": [{"type": naming.SERVING, "status": "True"}]}}
    kubectl("-n", NAMESPACE, "patch", "pod", name, "--subresource=status", "--type=strategic", "-p", json.dumps(patch), check=True)


def test_a_replica_in_service_is_not_slowed_down_unasked_and_others_are_found(apiserver: Path, clean: Kubectl) -> None:
    code, _, err = polyfleet(apiserver, "mdep/bench")
    assert (code, f"no ModelDeployment {NAMESPACE}/bench" in err) == (1, True)
    make(clean, model("bench"))
    code, _, err = polyfleet(apiserver, "mdep/bench")
    assert (code, "it has no pod" in err) == (1, True)
    make(clean, replica("serves"))
    serve(clean, "serves")
    for target in (("mdep/bench",), (f"mdep/{NAMESPACE}/bench",), ("--profile", PROFILE, "--model", MODEL)):
        code, out, err = polyfleet(apiserver, *target)
        assert (code, out) == (1, "")
        assert "takes users' traffic" in err
        assert "--yes-it-serves" in err
        assert f"--observe mdep/{NAMESPACE}/bench" in err
    # A candidate takes no traffic: it is taken before the one that serves, and then nothing answers in it.
    make(clean, replica("candidate"))
    code, _, err = polyfleet(apiserver, "mdep/bench")
    assert code == 1
    assert "pods/candidate:8000/proxy" in err
    code, _, err = polyfleet(apiserver, "mdep/bench", "--profile", "nvidia-l20")
    assert (code, f"its profiles: {PROFILE}" in err) == (1, True)
    code, _, err = polyfleet(apiserver, "--profile", PROFILE, "--model", "org/other")
    assert (code, "no ready replica of org/other" in err) == (1, True)


def test_a_node_that_is_other_hardware_than_the_pod_says_is_refused(apiserver: Path, clean: Kubectl) -> None:
    make(clean, model("bench"), replica("liar", profile="nvidia-l20"))
    code, _, err = polyfleet(apiserver, "mdep/bench")
    assert code == 1
    assert f"its node {A} is {PROFILE}" in err


STATED = ("--profile", PROFILE, "--model", MODEL, "--precision", "fp32", "--engine", "sandbox", "--engine-version", "dev")
SHORT = ("--input", "20", "--output", "6", "--concurrency", "2", "--duration", "1s", "--mode", "concurrency")


def entries(kubectl: Kubectl) -> list[dict[str, Any]]:
    found = json.loads(kubectl("get", "hwp", PROFILE, "-o", "json", check=True).stdout)
    return list(found["spec"]["throughput"])


def test_apply_adds_the_entry_and_leaves_the_others_as_they_are(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """A second run of the same load replaces the entry of the first. A profile that is not there is refused before the test. One length:
    the mean of drawn ones is that of the few requests that a slow machine ends in a second."""
    before = entries(clean)
    (tmp_path / "one").write_text("20,6\n")
    load = ("--lengths", str(tmp_path / "one"), *SHORT[4:])
    with endpoint(_plain(()), MODEL) as base:
        code, _, err = polyfleet(apiserver, "--url", f"{base}/v1", *STATED, *load, "--apply")
        assert code == 0, err
        assert f"hwp/{PROFILE}: adds {MODEL} fp32 on sandbox dev" in err
        once = entries(clean)
        assert once[:-1] == before
        assert (once[-1]["evidence"], once[-1]["concurrency"]) == ("Measured", 2)
        assert abs(once[-1]["inputTokens"] - 20) <= 1  # as the endpoint counts the words that are sent
        code, _, err = polyfleet(apiserver, "--url", f"{base}/v1", *STATED, *load, "--apply")
        assert code == 0, err
        assert len(entries(clean)) == len(once)
        code, out, err = polyfleet(apiserver, "--url", f"{base}/v1", "--profile", "nobody", *STATED[2:], *load, "--apply")
        assert (code, out, "hwp/nobody cannot be read" in err) == (1, "", True)


def test_a_learned_entry_renews_its_own_kind_and_nothing_else(clean: Kubectl) -> None:
    """Also beside an entry that this version cannot read."""
    learned = Throughput(
        model=MODEL, engine="sandbox", engine_version="dev", input_tokens=100, output_tokens=50, concurrency=4,
        output_tokens_per_second="10.00", evidence="Measured", source="learned from 1 replica of x/y over 15 min", date="2026-11-28",
    )  # fmt: skip
    raw = [*entries(clean), {"model": MODEL, "fromTheFuture": 1}]
    once = renewed(raw, learned, merge_learned)
    assert once == [*raw, learned.dump_set()]
    newer = learned.model_copy(update={"input_tokens": 120, "output_tokens_per_second": "12.00"})
    assert renewed(once, newer, merge_learned) == [*raw, newer.dump_set()]
