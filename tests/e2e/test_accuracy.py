"""The accuracy gate as its users meet it: three vendors are promoted, a wrong engine is not, one bad node and one bad replica are found.

The examples are applied as they are, but for the time that their replicas take to leave. One deployment goes through all of it in order,
because a promotion takes most of the time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import yaml

from tests.e2e.lib import MODEL_LABEL, ROOT, Cluster, Object, condition_row, labels

NAME = "tiny"
PROFILES = ("sandbox-ascend", "sandbox-nvidia", "sandbox-ppu")
SERVING = "polyfleet.io/serving"


@pytest.fixture(autouse=True)
def _tidy() -> None:
    """The deployment lives on from scenario to scenario; `gate` removes it."""


@pytest.fixture(scope="module", autouse=True)
def gate(cluster: Cluster) -> Iterator[None]:
    """The sandbox's small policy, as the demo has it, while these scenarios run."""
    if cluster.kind == "external":
        pytest.skip("changes the fleet's policy and makes engines faulty")
    accuracy = yaml.safe_load((ROOT / "sandbox/policy.yaml").read_text())["policy"]["accuracy"]
    before = cluster.get("fpol", "default")["spec"]["accuracy"]
    _patch(cluster, "fpol/default", {"spec": {"accuracy": accuracy}})
    try:
        yield
    finally:
        for node in ("h100-0", "a3-0", "ppu-0"):
            cluster.sandbox("fault", f"node/{node}")
        cluster.tidy()
        taken = {key: None for key in accuracy if key not in before}
        _patch(cluster, "fpol/default", {"spec": {"accuracy": {**taken, **before}}})
        cluster.settled()


def _patch(cluster: Cluster, what: str, change: Object) -> None:
    cluster.kubectl("patch", what, "--type=merge", "-p", json.dumps(change))


def _example(name: str, **spec: Any) -> Object:
    """An example whose replicas leave quickly; `spec` replaces fields of it."""
    manifest: Object = yaml.safe_load((ROOT / "examples" / name).read_text())
    quick = {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}
    manifest["spec"] |= {"drainTimeout": "10s", "podTemplate": {"spec": {"containers": [{"name": "engine", **quick}]}}, **spec}
    return manifest


def _profile(pod: Object) -> str:
    return labels(pod).get("polyfleet.io/profile", "")


def _serves(pod: Object) -> bool:
    return condition_row(pod, SERVING).get("status") == "True" and condition_row(pod, "Ready").get("status") == "True"


def _pod(pods: list[Object], profile: str) -> Object:
    """The replica on a profile that serves, or was the last to begin."""
    found = [pod for pod in pods if labels(pod).get(MODEL_LABEL) == NAME and _profile(pod) == profile]
    assert found, f"no replica on {profile}"
    return max(found, key=lambda pod: (_serves(pod), pod["metadata"]["creationTimestamp"]))


def _serving(pods: list[Object]) -> list[str]:
    return sorted(_profile(pod) for pod in pods if labels(pod).get(MODEL_LABEL) == NAME and _serves(pod))


def _report(reports: list[Object], profile: str, variant: str = "default") -> Object:
    for report in reports:
        candidate = report["spec"]["candidate"]
        if report["spec"]["deployment"] == NAME and (candidate["profile"], candidate["variant"]) == (profile, variant):
            return report
    return {}


def _verdict(report: Object) -> tuple[str, str]:
    return str(report.get("status", {}).get("verdict", "")), str(condition_row(report, "AccuracyVerified").get("reason", ""))


def _at(row: Object) -> datetime:
    return datetime.fromisoformat(row["lastTransitionTime"])


def _row(cluster: Cluster, kind: str, name: str) -> dict[str, str]:
    """One object as `kubectl get` prints it: column to cell."""
    head, line = cluster.kubectl("get", kind, name).splitlines()[:2]
    starts = [head.index(word) for word in head.split()]
    ends = [*starts[1:], None]
    return {head[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def test_three_vendors_are_promoted_and_only_then_serve(cluster: Cluster) -> None:
    """The first profile is consistent with itself, the others are equivalent to it; no replica took traffic before its verdict."""
    cluster.apply(_example("three-vendors-tiny.yaml"))
    mdep = cluster.wait_ready(NAME, timeout_s=240)
    reports, pods = cluster.items("accr"), cluster.pods(NAME)
    verdicts = {profile: _verdict(_report(reports, profile)) for profile in PROFILES}
    assert sorted(verdicts.values()) == [("Promote", "Equivalent"), ("Promote", "Equivalent"), ("Promote", "SelfReference")]
    assert _serving(pods) == list(PROFILES)
    for profile in PROFILES:
        decided = condition_row(_report(reports, profile), "Complete")
        assert decided["status"] == "True"
        assert _at(condition_row(_pod(pods, profile), "Ready")) >= _at(decided)
        assert _report(reports, profile)["status"]["prompts"] >= 68  # clean prompts that certify 5 % at 95 % confidence
        (entered,) = _report(reports, profile)["status"]["replicas"]
        assert (entered["pod"], entered["result"]) == (_pod(pods, profile)["metadata"]["name"], "Passed")
    assert condition_row(mdep, "AccuracyVerified")["status"] == "True"
    assert _row(cluster, "mdep", NAME)["ACCURACY"] == "3/3"


def test_a_wrong_engine_is_blocked_within_its_first_prompts_and_the_old_one_serves_on(cluster: Cluster) -> None:
    """A wrong RoPE base on Ascend: the candidate never serves, kubectl says why, the model stays Ready; the way back needs no new check."""
    old = {pod["metadata"]["uid"] for pod in cluster.pods(NAME)}
    cluster.apply(_example("bad-accuracy.yaml"))
    found = cluster.until(
        "the wrong variant is blocked", "accr", lambda rs: _verdict(_report(rs, "sandbox-ascend", "wrong-rope"))[0] == "Block"
    )
    report = _report(found, "sandbox-ascend", "wrong-rope")
    assert report["status"]["prompts"] <= 10
    message = condition_row(report, "AccuracyVerified")["message"]
    assert "nats" in message
    printed = _row(cluster, "accr", report["metadata"]["name"])
    assert (printed["CANDIDATE"], printed["VARIANT"], printed["VERDICT"]) == ("sandbox-ascend", "wrong-rope", "Block")
    assert printed["REASON"] in ("HardFault", "NotEquivalent")
    mdep = cluster.until(
        "the rollout says that it was blocked",
        "mdep",
        lambda ms: any("wrong-rope" in condition_row(m, "Promoted").get("message", "") for m in ms),
    )[0]
    told = condition_row(mdep, "Promoted")
    assert told["status"] == "False"
    assert printed["REASON"] in told["message"]
    assert condition_row(mdep, "Ready")["status"] == "True"
    pods = cluster.pods(NAME)
    assert {pod["metadata"]["uid"] for pod in pods if _serves(pod)} == old
    assert _serving(pods) == list(PROFILES)
    cluster.apply(_example("three-vendors-tiny.yaml"))
    cluster.until("the blocked replica is gone", "pods", lambda ps: {p["metadata"]["uid"] for p in ps if _mine(p)} == old)


def test_reports_of_what_nothing_runs_any_more_are_few(cluster: Cluster) -> None:
    """One mistake after another on the same device: the newest reports stay to be read, older ones go."""
    wrong = _example("bad-accuracy.yaml")
    seen: set[str] = set()
    for base in (200, 300, 400, 500):
        wrong["spec"]["variants"][0]["runtime"]["args"] = [f"--fault=rope-base={base}"]
        cluster.apply(wrong)
        known = seen | _wrong(cluster.items("accr"))
        found = cluster.until("the next one is blocked", "accr", lambda rs, known=known: bool(_wrong(rs, "Block") - known))  # type: ignore[misc]
        seen |= _wrong(found)
    cluster.apply(_example("three-vendors-tiny.yaml"))
    left = cluster.until("three are left", "accr", lambda rs: len(_wrong(rs)) == 3)
    assert _wrong(left) < seen
    cluster.wait_ready(NAME)


def _wrong(reports: list[Object], verdict: str = "") -> set[str]:
    """Names of the reports about the wrong variant."""
    mine = (r for r in reports if r["spec"]["deployment"] == NAME and r["spec"]["candidate"]["variant"] == "wrong-rope")
    return {str(r["metadata"]["name"]) for r in mine if verdict in ("", _verdict(r)[0])}


def test_a_replica_on_a_bad_node_is_kept_out_by_its_entry_check(cluster: Cluster) -> None:
    """What is wrong with one node is in no fingerprint: the pair stays promoted, its new replica does not get in, the node is named."""
    before = _pod(cluster.pods(NAME), "sandbox-ascend")
    node = before["spec"]["nodeName"]
    cluster.sandbox("fault", f"node/{node}", "rope-base=100")
    cluster.kubectl("delete", "pod", before["metadata"]["name"], "--wait=false")

    def refused(reports: list[Object]) -> Object:
        rows = _report(reports, "sandbox-ascend").get("status", {}).get("replicas", [])
        return next((dict(row) for row in rows if row["pod"] != before["metadata"]["name"] and row["result"] == "Failed"), {})

    row = refused(cluster.until("the new replica is refused", "accr", lambda rs: bool(refused(rs))))
    assert node in row["message"]
    assert _verdict(_report(cluster.items("accr"), "sandbox-ascend")) == ("Promote", "Equivalent")
    mdep = cluster.until("the model names the node", "mdep", lambda ms: any(_mine_model(m) and node in _said(m) for m in ms))[0]
    assert condition_row(mdep, "Ready")["status"] != "True"
    pods = cluster.pods(NAME)
    assert _serving(pods) == ["sandbox-nvidia", "sandbox-ppu"]
    cluster.sandbox("fault", f"node/{node}")
    cluster.kubectl("delete", "pod", row["pod"], "--wait=false")
    cluster.wait_ready(NAME)


def test_a_fault_that_begins_after_promotion_takes_the_weight_unless_it_is_the_last_capacity(cluster: Cluster) -> None:
    """The re-check blocks the pair: another device takes over and its weight goes to zero. Where nothing else can serve it goes on, and
    says so."""
    often = {"recheck": {"every": "1s"}}  # that is, one after another
    pod = _pod(cluster.pods(NAME), "sandbox-ascend")["metadata"]["name"]
    cluster.sandbox("fault", f"pod/{pod}", "rope-base=100")
    cluster.apply(_example("three-vendors-tiny.yaml", placement={}, accuracy=often))
    _blocked(cluster, "sandbox-ascend")
    pods = cluster.until("others do its work", "pods", lambda ps: len(_serving(ps)) == 3 and "sandbox-ascend" not in _serving(ps))
    assert "sandbox-nvidia" in _serving(pods)
    cluster.wait_ready(NAME)

    one = {"replicas": 1, "placement": {"profiles": ["sandbox-nvidia"]}}
    cluster.apply(_example("three-vendors-tiny.yaml", **one))
    cluster.until("one replica is left", "pods", lambda ps: [_profile(p) for p in ps if _mine(p)] == ["sandbox-nvidia"])
    last = _pod(cluster.pods(NAME), "sandbox-nvidia")
    cluster.sandbox("fault", f"pod/{last['metadata']['name']}", "rope-base=100")
    cluster.apply(_example("three-vendors-tiny.yaml", **one, accuracy=often))
    _blocked(cluster, "sandbox-nvidia")
    mdep = cluster.until(
        "the model says that its answers are wrong",
        "mdep",
        lambda ms: any(_mine_model(m) and condition_row(m, "AccuracyVerified").get("status") == "False" for m in ms),
    )[0]
    assert condition_row(mdep, "Ready")["status"] == "False"
    assert condition_row(mdep, "Available")["status"] == "True"
    pods = cluster.pods(NAME)
    assert [pod["metadata"]["uid"] for pod in pods if _serves(pod)] == [last["metadata"]["uid"]]


def _blocked(cluster: Cluster, profile: str) -> None:
    cluster.until(f"the re-check blocks {profile}", "accr", lambda rs: _verdict(_report(rs, profile))[0] == "Block")


def _mine(pod: Object) -> bool:
    return labels(pod).get(MODEL_LABEL) == NAME


def _mine_model(mdep: Object) -> bool:
    return bool(mdep["metadata"]["name"] == NAME)


def _said(mdep: Object) -> str:
    return " ".join(str(row.get("message", "")) for row in mdep.get("status", {}).get("conditions", []))
