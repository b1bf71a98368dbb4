"""The size of a model follows its load: more replicas of the planned type, each checked before it serves, and fewer without a request cut.

One model of paced replicas goes through it in order. Its load comes from `traffic`, which writes down every request; at the end not one of
them has failed. The fleet's policy states its head-room meanwhile: what follows from a load's own past takes the past.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from polyfleet.loadtest.workload import Lengths

from tests.e2e.lib import BIN, MODEL_LABEL, Cluster, Object, condition_row, labels, tiny
from tests.e2e.operating import kill_operator
from tests.e2e.traffic import Traffic

NAME = "elastic"
PPU, ASCEND = "sandbox-ppu", "sandbox-ascend"  # the cheapest per work, and the next
SERVING, DRAINING, DRAIN_SINCE = "polyfleet.io/serving", "polyfleet.io/draining", "polyfleet.io/draining-since"
INPUT, OUTPUT = 40, 100  # tokens of a mean request
# A replica's profile says 200 output tokens per second: 2 such requests per second are 1 replica's work, and 0.8 of it is used.
ONE, THREE, FIVE = 0.3, 3.8, 7.0  # requests per second: 0.15, 1.9 and 3.5 replicas' work
WINDOW_S = 20

# As little as still decides: what a model answers is not what these scenarios are about, but that it is asked before it serves.
CHECK = {
    "gate": "Required", "level": "Quick", "reference": {"onUnavailable": "SelfConsistency"}, "goldenSets": [{"builtin": "core"}],
    "strata": ["UltraShort"], "badPromptRate": "0.3", "minPrompts": 12, "maxPrompts": 40, "positionsPerPrompt": 2, "topK": 5,
    "conditions": {"concurrency": [4], "prefixCache": ["Miss"]}, "noiseKL": "0.002",
}  # fmt: skip
POLICY = {
    "scaling": {"classes": [{"name": "Standard", "utilization": "0.8", "burstQuantile": "0.1"}]},
    "stability": {"minResidence": "1s", "maxMovesPerHour": 100},
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


def fillers() -> list[Object]:
    """They take 14 of the 16 PPU."""
    return [
        tiny(
            f"full-{devices}",
            runtime={"args": ["--backend=byte", "--paced"], "parallelism": {"tensor": devices}},
            placement={"profiles": [PPU]},
        )
        for devices in (8, 4, 2)
    ]


@pytest.fixture(autouse=True)
def _tidy() -> None:
    """The model lives on from scenario to scenario; `load` removes it."""


@pytest.fixture(scope="module")
def load(cluster: Cluster) -> Iterator[Traffic]:
    """The model with one replica that serves, and a load on it that has not begun."""
    if cluster.kind == "external":
        pytest.skip("changes the fleet's policy")
    if cluster.kind == "process" and shutil.which("runc") is not None:
        pytest.skip("real nodes go through it; it takes minutes, and process nodes are for machines without a container runtime")
    before = cluster.get("fpol", "default")["spec"]
    _patch(cluster, "fpol/default", {"spec": POLICY})
    try:
        cluster.apply("\n---\n".join(json.dumps(each) for each in (*fillers(), elastic())))
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


def _all_cheapest(pods: list[Object]) -> bool:
    """Three or more serve, and whoever was elsewhere has left."""
    return len(_serve(pods)) >= 3 and {labels(p)["polyfleet.io/profile"] for p in _mine(pods)} == {PPU}


def _spilled(mdep: Object) -> bool:
    row = condition_row(mdep, "Degraded")
    return mdep["metadata"]["name"] == NAME and (row.get("status"), row.get("reason")) == ("True", "SpillOver")


def _read(mdeps: list[Object]) -> str:
    """The status of the model's MetricsAvailable."""
    return next((str(condition_row(m, "MetricsAvailable").get("status")) for m in mdeps if m["metadata"]["name"] == NAME), "")


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


def _drained(pods: list[Object]) -> dict[str, datetime]:
    """When the drain of each replica that leaves began, by name; of those that served, for only these are waited for."""
    leaving = (p["metadata"] for p in _mine(pods) if DRAINING in labels(p))
    return {
        meta["name"]: datetime.fromisoformat(meta["annotations"][DRAIN_SINCE]) for meta in leaving if DRAIN_SINCE in meta["annotations"]
    }


def test_more_load_brings_replicas_of_the_planned_types_checked_before_they_serve(cluster: Cluster, load: Traffic) -> None:
    """Two replicas' work and the head-room are three replicas. The cheapest type has room for two: the third is of the next vendor, as
    `polyfleet plan` names them, and the status says why it is dearer."""
    assert _planned(cluster, elastic(least=2)) == {PPU}
    assert _planned(cluster, elastic(least=3)) == {PPU, ASCEND}
    assert _serve(cluster.pods(NAME)) == [PPU]
    load.rate(THREE)
    found = cluster.until("three replicas serve", "pods", lambda pods: len(_serve(pods)) >= 3, timeout_s=240)
    assert set(_serve(found)) == {PPU, ASCEND}
    assert _serve(found).count(PPU) == 2
    _checked(cluster)
    over = cluster.wait_condition(NAME, "Degraded", "True", "SpillOver")
    assert f"on {ASCEND} instead of {PPU}" in condition_row(over, "Degraded")["message"]
    assert over["status"]["autoscaler"]["direction"] == "Up"
    assert not load.failed, load.tell()


def test_the_replica_goes_back_when_the_cheapest_type_has_room(cluster: Cluster, load: Traffic) -> None:
    """Who filled it is gone: the dearer one is replaced before it leaves."""
    cluster.kubectl("delete", "mdep", *(each["metadata"]["name"] for each in fillers()), "--wait=false")
    cluster.until("all of the cheapest type", "pods", _all_cheapest, timeout_s=240)
    _checked(cluster)
    cluster.until("no spill-over is told", "mdep", lambda ms: not any(_spilled(m) for m in ms))
    assert not load.failed, load.tell()


def test_dead_metrics_hold_the_size(cluster: Cluster, load: Traffic) -> None:
    """Nobody answers where the metrics are said to be, and the load falls: for longer than the window nothing leaves, and the status says
    why. The replicas serve on all the while."""
    before = _names(cluster.pods(NAME))
    cluster.kubectl("annotate", "pod", *sorted(before), "polyfleet.io/metrics-port=9")
    load.rate(ONE)
    dead = cluster.until("the metrics are missed", "mdep", lambda ms: _read(ms) == "False")
    (told,) = [condition_row(m, "MetricsAvailable") for m in dead if m["metadata"]["name"] == NAME]
    assert "nothing shrinks" in told["message"]
    pods = cluster.pods(NAME)
    assert _names(pods) >= before
    assert not _drained(pods)
    cluster.kubectl("annotate", "pod", *sorted(before), "polyfleet.io/metrics-port-")
    assert not load.failed, load.tell()


def test_less_load_drains_replicas_and_cuts_no_request(cluster: Cluster, load: Traffic) -> None:
    """The load has fallen and is known again; who leaves ends the requests that it has, and what kept-alive connections still bring."""
    before = _names(cluster.pods(NAME))
    found = cluster.until("a replica drains", "pods", lambda pods: bool(_drained(pods)), timeout_s=240)
    cluster.until("the load is told to be known", "mdep", lambda ms: _read(ms) == "True", timeout_s=30)
    leaving = set(_drained(found))
    cluster.until("it has left", "pods", lambda pods: not leaving & _names(_mine(pods)))
    assert _names(cluster.pods(NAME)) <= before - leaving
    assert cluster.get("mdep", NAME)["status"]["autoscaler"]["direction"] == "Down"
    assert not load.failed, load.tell()


def test_an_operator_that_is_killed_in_mid_ramp_takes_nothing_away_in_its_first_window(cluster: Cluster, load: Traffic) -> None:
    """New replicas are on their way when the operator dies, and the load falls before the next one begins: it knows nothing of the past,
    so it waits a whole window before it believes that fewer are enough."""
    before = _names(_mine(cluster.pods(NAME)))
    load.rate(FIVE)
    cluster.until("a new replica is on its way", "pods", lambda pods: bool(_names(_mine(pods)) - before))
    load.rate(ONE)
    kill_operator(cluster)
    (operator,) = cluster.items("pods", "app.kubernetes.io/component=operator", "polyfleet")
    began = datetime.fromisoformat(operator["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])
    found = cluster.until("a replica drains", "pods", lambda pods: any(at >= began for at in _drained(pods).values()), timeout_s=240)
    first = min(at for at in _drained(found).values() if at >= began)
    assert first - began >= timedelta(seconds=WINDOW_S)
    leaving = set(_drained(found))
    cluster.until("it has left", "pods", lambda pods: not leaving & _names(_mine(pods)))


def test_no_request_failed(load: Traffic) -> None:
    """After everything above."""
    load.rate(0)
    assert load.sent > 100
    assert not load.failed, load.tell()
