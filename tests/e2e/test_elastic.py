"""The size of a model follows its load: more replicas of the planned type, each checked before it serves, and fewer without a request cut.

One model of paced replicas goes through it in order. Its load comes from `traffic`, which writes down every request; at the end not one of
them has failed. The fleet's policy states its head-room meanwhile: what follows from a load's own past takes the past.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from polyfleet.loadtest.workload import Lengths

from tests.e2e.lib import BIN, MODEL_LABEL, Cluster, Object, condition_row, labels, tiny
from tests.e2e.traffic import Traffic

NAME = "elastic"
PPU = "sandbox-ppu"
SERVING, DRAINING = "polyfleet.io/serving", "polyfleet.io/draining"
INPUT, OUTPUT = 40, 100  # tokens of a mean request
# A replica's profile says 200 output tokens per second: 2 such requests per second are 1 replica's work, and 0.8 of it is used.
ONE, THREE = 0.3, 3.8  # requests per second: 0.15 and 1.9 replicas' work
WINDOW_S = 20

# As little as still decides: what a model answers is not what these scenarios are about, but that it is asked before it serves.
CHECK = {
    "gate": "Required", "level": "Quick", "reference": {"onUnavailable": "SelfConsistency"}, "goldenSets": [{"builtin": "core"}],
    "strata": ["UltraShort"], "badPromptRate": "0.3", "minPrompts": 12, "maxPrompts": 40, "positionsPerPrompt": 2, "topK": 5,
    "conditions": {"concurrency": [4], "prefixCache": ["Miss"]}, "noiseKL": "0.002",
}  # fmt: skip
POLICY = {
    "scaling": {"classes": [{"name": "Standard", "utilization": "0.8", "burstQuantile": "0.1"}]},
    "stability": {"minResidence": "1s"},
}


def elastic(least: int = 1) -> Object:
    return tiny(
        NAME,
        drainTimeout="90s",
        runtime={"args": ["--backend=byte", "--paced"]},
        workload={"inputTokens": INPUT, "outputTokens": OUTPUT},
        scaling={
            "minReplicas": least,
            "maxReplicas": 5,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": WINDOW_S, "maxEventsPerHour": 60}},
        },
        accuracy=CHECK,
    )


@pytest.fixture(autouse=True)
def _tidy() -> None:
    """The model lives on from scenario to scenario; `load` removes it."""


@pytest.fixture(scope="module")
def load(cluster: Cluster) -> Iterator[Traffic]:
    """The model with one replica that serves, and a load on it that has not begun."""
    if cluster.kind == "external":
        pytest.skip("changes the fleet's policy")
    before = cluster.get("fpol", "default")["spec"]
    _patch(cluster, "fpol/default", {"spec": POLICY})
    try:
        cluster.apply(elastic())
        cluster.wait_ready(NAME, timeout_s=240)
        log = cluster.state / "logs" / "traffic-elastic.jsonl" if cluster.state is not None else None
        with Traffic(cluster.url(f"mdep/{NAME}"), NAME, Lengths(INPUT, OUTPUT), seed=7, log=log) as traffic:
            yield traffic
    finally:
        back = {"scaling": {"classes": before["scaling"].get("classes")}, "stability": before["stability"]}
        _patch(cluster, "fpol/default", {"spec": back})
        cluster.tidy()
        cluster.settled()


def _patch(cluster: Cluster, what: str, change: Object) -> None:
    cluster.kubectl("patch", what, "--type=merge", "-p", json.dumps(change))


def _planned(cluster: Cluster, manifest: Object) -> set[str]:
    """The profiles on which `polyfleet plan` would place the model in the cluster as it is."""
    command = [str(BIN / "polyfleet"), "plan", "-f", "-", "-o", "json"]
    done = subprocess.run(command, env=cluster.env, input=json.dumps(manifest), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (0, 2), done.stderr  # 2 = there are changes
    (row,) = [each for each in json.loads(done.stdout)["models"] if each["name"] == f"default/{NAME}"]
    return {each["profile"] for each in row["placements"] if each["after"]}


def _mine(pods: list[Object]) -> list[Object]:
    return [pod for pod in pods if labels(pod).get(MODEL_LABEL) == NAME]


def _names(pods: list[Object]) -> set[str]:
    return {str(pod["metadata"]["name"]) for pod in pods}


def _serve(pods: list[Object]) -> list[str]:
    """Profiles of the replicas that serve."""
    served = (p for p in _mine(pods) if all(condition_row(p, each).get("status") == "True" for each in (SERVING, "Ready")))
    return sorted(labels(p)["polyfleet.io/profile"] for p in served)


def _serving(count: int) -> Callable[[list[Object]], bool]:
    return lambda pods: len(_serve(pods)) >= count


def _passed(reports: list[Object]) -> dict[str, datetime]:
    """When each replica of the model passed its entry check, by pod."""
    rows = [row for each in reports if each["spec"]["deployment"] == NAME for row in each.get("status", {}).get("replicas", [])]
    return {row["pod"]: datetime.fromisoformat(row["at"]) for row in rows if row["result"] == "Passed"}


def _checked(cluster: Cluster) -> None:
    """Every replica that serves passed its entry check before."""
    serving = [pod for pod in cluster.pods(NAME) if _serve([pod])]
    reports = cluster.until("the reports tell of every replica that serves", "accr", lambda rs: _names(serving) <= _passed(rs).keys())
    passed = _passed(reports)
    for pod in serving:
        assert datetime.fromisoformat(condition_row(pod, "Ready")["lastTransitionTime"]) >= passed[pod["metadata"]["name"]]


def test_more_load_brings_replicas_of_the_planned_type_checked_before_they_serve(cluster: Cluster, load: Traffic) -> None:
    """Two replicas' work and the head-room are three replicas, on the type that `polyfleet plan` names for three: the cheapest."""
    assert _planned(cluster, elastic(least=3)) == {PPU}
    assert len(_mine(cluster.pods(NAME))) == 1
    load.rate(THREE)
    found = cluster.until("three replicas serve", "pods", _serving(3))
    assert set(_serve(found)) == {PPU}
    _checked(cluster)
    told = cluster.get("mdep", NAME)["status"]["autoscaler"]
    assert told["direction"] == "Up"
    assert not load.failed, load.tell()


def test_less_load_drains_replicas_and_cuts_no_request(cluster: Cluster, load: Traffic) -> None:
    """The load falls while answers of three seconds are on their way at every replica; who leaves ends its own first."""
    before = _names(cluster.pods(NAME))
    load.rate(ONE)
    found = cluster.until("a replica drains", "pods", lambda pods: any(DRAINING in labels(p) for p in _mine(pods)), timeout_s=240)
    leaving = {p["metadata"]["name"] for p in _mine(found) if DRAINING in labels(p)}
    cluster.until("it has left", "pods", lambda pods: not leaving & _names(_mine(pods)))
    assert _names(cluster.pods(NAME)) <= before - leaving
    assert cluster.get("mdep", NAME)["status"]["autoscaler"]["direction"] == "Down"
    assert not load.failed, load.tell()


def test_no_request_failed(load: Traffic) -> None:
    """After everything above."""
    load.rate(0)
    assert load.sent > 60
    assert not load.failed, load.tell()
