"""A replica that leaves answers what it has begun: the size shrinks under load, and no request is cut."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from tests.e2e.lib import MODEL_LABEL, Cluster, Object, counter, fetch, labels, tiny

NAME, TOKENS = "leaving", 400  # a paced replica takes 30.5 ms per token: about 12 s
DRAINING = "polyfleet.io/draining"


def _answer(base: str) -> tuple[int, datetime]:
    """Tokens of one long answer, and when its last byte came."""
    body = {"model": NAME, "prompt": "once upon a time", "max_tokens": TOKENS, "ignore_eos": True}
    usage = json.loads(fetch(f"{base}/v1/completions", body))["usage"]
    return int(usage["completion_tokens"]), datetime.now().astimezone()


def _removed(pod: Object) -> datetime:
    """When a terminating pod was deleted: the API server writes the end of its grace period."""
    meta = pod["metadata"]
    return datetime.fromisoformat(meta["deletionTimestamp"]) - timedelta(seconds=meta["deletionGracePeriodSeconds"])


def test_a_smaller_size_cuts_no_request(cluster: Cluster) -> None:
    """Both replicas are in the middle of an answer when the size goes from 2 to 1. The one that the operator chose is deleted after its
    answer is complete, although its drain began long before; the other one stays."""
    cluster.apply(tiny(NAME, replicas=2, drainTimeout="120s", runtime={"args": ["--paced"]}))
    cluster.wait_ready(NAME)
    names = sorted(pod["metadata"]["name"] for pod in cluster.pods(NAME))
    assert len(names) == 2
    doors = {name: cluster.url(f"pod/{name}") for name in names}
    with ThreadPoolExecutor(2) as threads:
        asked = {name: threads.submit(_answer, doors[name]) for name in names}
        while sum(counter(door, "vllm:num_requests_running") for door in doors.values()) < 2:
            assert not any(answer.done() for answer in asked.values()), "an answer was complete before it was seen running"
        cluster.kubectl("patch", "mdep", NAME, "--type=merge", "-p", '{"spec":{"replicas":1}}')
        found = cluster.until("one replica drains", "pods", lambda pods: any(DRAINING in labels(pod) for pod in pods), timeout_s=30)
        (victim,) = [pod["metadata"]["name"] for pod in found if DRAINING in labels(pod)]
        assert not asked[victim].done(), "the answer was complete before the drain began: nothing is shown"
        answers = {name: answer.result() for name, answer in asked.items()}
    assert {name: tokens for name, (tokens, _) in answers.items()} == dict.fromkeys(names, TOKENS)

    def leaving(pods: list[Object]) -> bool:
        return any(pod["metadata"]["name"] == victim and "deletionTimestamp" in pod["metadata"] for pod in pods)

    found = cluster.until("the drained replica is removed", "pods", leaving, timeout_s=60)
    (gone,) = [pod for pod in found if pod["metadata"]["name"] == victim]
    ended = answers[victim][1].replace(microsecond=0)  # the API server's times have whole seconds
    assert _removed(gone) >= ended
    assert _removed(gone) - ended < timedelta(seconds=60)  # not the whole drainTimeout: nothing was in flight any more
    left = cluster.until(
        "one replica is left",
        "pods",
        lambda pods: [pod["metadata"]["name"] for pod in pods if labels(pod).get(MODEL_LABEL) == NAME] == [n for n in names if n != victim],
    )
    assert left
    cluster.wait_ready(NAME)
