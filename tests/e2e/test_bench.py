"""`polyfleet bench` against a replica that the operator placed: found, verified, measured through the API server, written, planned with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from hwprofiles.model import Throughput
from tests.e2e.lib import BIN, Cluster, Object, tiny

POLYFLEET = str(BIN / "polyfleet")
PROFILE = "sandbox-ppu"


@pytest.fixture
def profile(cluster: Cluster) -> Iterator[Object]:
    """The profile as it is; afterwards it is as it was, its field owners too, so that no later scenario sees an edit."""
    before = cluster.get("hwp", PROFILE, "--show-managed-fields")
    yield before
    back = [
        {"op": "replace", "path": "/spec/throughput", "value": before["spec"]["throughput"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": before["metadata"]["managedFields"]},
    ]
    cluster.kubectl("patch", "hwp", PROFILE, "--type=json", "-p", json.dumps(back))


def polyfleet(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([POLYFLEET, *arguments], env=cluster.env, capture_output=True, text=True, check=False, timeout=240)


def test_a_placed_model_is_measured_and_the_plan_shows_the_entry_as_measured(cluster: Cluster, profile: Object) -> None:
    if cluster.kind == "external":
        pytest.skip("needs the sandbox's profiles and engine")
    # Paced: the engine sleeps its iterations, so that a machine that does other things as well still has a rate that settles. What a
    # computing engine shows is tested against one without a cluster, and in bench/.
    cluster.apply(tiny("bench", placement={"profiles": [PROFILE]}, runtime={"args": ["--paced"]}))
    cluster.wait_ready("bench")
    load = ("--input", "20", "--output", "16", "--concurrency", "2", "--mode", "concurrency", "--duration", "8s")
    refused = polyfleet(cluster, "bench", "mdep/bench", *load, "--apply")
    assert (refused.returncode, "takes users' traffic" in " ".join(refused.stderr.split())) == (1, True), refused.stderr
    done = polyfleet(cluster, "bench", "mdep/bench", *load, "--apply", "--yes-it-serves", "-o", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    body = json.loads(done.stdout)
    assert body["verified"] is True
    (entry,) = body["entries"]
    assert (entry["model"], entry["engine"], entry["engineVersion"], entry["concurrency"]) == ("polyfleet/byte-tiny", "sandbox", "dev", 2)
    assert entry["evidence"] == "Measured"
    assert entry["date"] == datetime.now(UTC).date().isoformat()
    (pod,) = cluster.pods("bench")
    assert f"pod default/{pod['metadata']['name']} on node {pod['spec']['nodeName']}" in entry["source"]
    assert "paced" in entry["source"]
    live = cluster.get("hwp", PROFILE)["spec"]["throughput"]
    assert live[:-1] == profile["spec"]["throughput"]
    assert Throughput.parse(live[-1]) == Throughput.parse(entry)  # the API server adds the defaults
    plan = polyfleet(cluster, "plan", "-n", "default")
    (row,) = [line for line in plan.stdout.splitlines() if PROFILE in line and "measured" in line]
    assert row.split()[-2:] == ["measured", "0d"], plan.stdout
