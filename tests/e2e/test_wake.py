"""A model at zero wakes with the first request: held by the activator, answered by a replica that was started for it and checked before.

Real nodes only: the addresses of process nodes are loopback, which EndpointSlices refuse. The activator stays installed afterwards, for the
comparison of rights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.lib import NO_GATE, Cluster, Object, condition_row, fetch, labels, tiny
from tests.e2e.test_elastic import CHECK

NAME = "sleeper"
SLEEPS = {"minReplicas": 0, "maxReplicas": 2, "scaleToZero": {"idleAfter": "10m"}}
WAKE_S = 240.0


def sleeper(**spec: Any) -> Object:
    given: Object = {"runtime": {"args": ["--backend=byte"]}, "scaling": SLEEPS, "accuracy": CHECK}
    return tiny(NAME, **(given | {"workload": {"inputTokens": 40, "outputTokens": 16}} | spec))


@pytest.fixture(scope="module")
def woken(cluster: Cluster) -> Iterator[Cluster]:
    if cluster.kind != "real":
        pytest.skip("the addresses of its pods cannot stand in an EndpointSlice")
    from sandbox import install

    system = r"activator.nodeSelector.node-role\.polyfleet\.io/system="
    install.install(cluster.kubeconfig, *NO_GATE, "--set", "activator.enabled=true", "--set-string", system)
    yield cluster
    cluster.tidy()
    cluster.settled()


def _held(found: list[Object]) -> list[str]:
    """Addresses of the activator in the model's Service."""
    (mine,) = [each for each in found if each["metadata"]["name"] == f"{NAME}-activator"] or [{}]
    return [each["addresses"][0] for each in mine.get("endpoints") or ()]


def _passed(reports: list[Object]) -> dict[str, datetime]:
    rows = [row for each in reports if each["spec"]["deployment"] == NAME for row in each.get("status", {}).get("replicas", [])]
    return {row["pod"]: datetime.fromisoformat(row["at"]) for row in rows if row["result"] == "Passed"}


def _ask(base: str) -> tuple[str, float]:
    """(the answer's text, seconds). Greedy, so that one model has one answer."""
    began = time.monotonic()
    body = {"model": NAME, "prompt": "wake up", "max_tokens": 8, "temperature": 0}
    answer = json.loads(fetch(f"{base}/v1/completions", body, timeout_s=WAKE_S))
    return str(answer["choices"][0]["text"]), time.monotonic() - began


def test_a_model_at_zero_wakes_with_its_first_requests_and_none_fails(woken: Cluster, record_property: Any) -> None:
    cluster = woken
    cluster.apply(sleeper())
    cluster.wait_ready(NAME, timeout_s=240)  # its pair is verified, and a start was measured

    cluster.kubectl("patch", f"mdep/{NAME}", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    cluster.until("no replica is left", "pods", lambda pods: not any(labels(p).get("polyfleet.io/deployment") == NAME for p in pods))
    cluster.kubectl("patch", f"mdep/{NAME}", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    cluster.until("the activator is in the way", "endpointslices", lambda found: len(_held(found)) == 2)

    def told(found: list[Object]) -> bool:
        mine = next(each for each in found if each["metadata"]["name"] == NAME)
        return "asleep; a POST to /v1/... wakes it" in mine["status"].get("autoscaler", {}).get("reason", "")

    cluster.until("it says that it sleeps", "mdep", told)
    base = cluster.url(f"mdep/{NAME}")
    assert json.loads(fetch(f"{base}/health"))["status"] == "asleep"
    assert json.loads(fetch(f"{base}/v1/models"))["data"][0]["id"] == NAME
    assert cluster.get("mdep", NAME)["status"]["desiredReplicas"] == 0  # which woke nobody

    with ThreadPoolExecutor(3) as clients:
        answers = list(clients.map(lambda _: _ask(base), range(3)))
    record_property("seconds at zero", [round(took, 1) for _, took in answers])
    (pod,) = cluster.pods(NAME)
    reports = cluster.until("its check is told", "accr", lambda rs: pod["metadata"]["name"] in _passed(rs))
    ready = datetime.fromisoformat(condition_row(pod, "Ready")["lastTransitionTime"])
    assert ready >= _passed(reports)[pod["metadata"]["name"]]

    cluster.until("the activator is out of the way", "endpointslices", lambda found: not _held(found))
    text, took = _ask(base)
    record_property("seconds awake", round(took, 2))
    assert {text} == {each for each, _ in answers}  # who waited got the same answer

    awake = {"spec": {"scaling": {"minReplicas": 1, "scaleToZero": None}}}
    cluster.kubectl("patch", f"mdep/{NAME}", "--type=merge", "-p", json.dumps(awake))
    cluster.until("the slice is gone", "endpointslices", lambda found: f"{NAME}-activator" not in [e["metadata"]["name"] for e in found])
