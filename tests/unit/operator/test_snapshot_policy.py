"""What the snapshot tells the placer of policy and time: quotas, spread, start times, residence; and what triggered a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.decide import prepare
from polyfleet.plans import triggers

from placement.types import Quota, Spread
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.looks import NVIDIA_ONLY, PROFILES, children, look

NODE = b.sandbox(b.h100())


def quota(name: str, namespaces: list[str], devices: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespaces": namespaces, "devices": devices, **more}


# ---- quotas


def test_a_quota_holds_over_all_namespaces_of_its_team() -> None:
    """Two namespaces share 3 devices: of 2 + 2 wanted single devices one has no place, although 8 are free."""
    models = [b.model("one", {**NVIDIA_ONLY, "replicas": 2}, namespace="a"), b.model("two", {**NVIDIA_ONLY, "replicas": 2}, namespace="b")]
    policy = b.policy({"quotas": [quota("team", ["a", "b"], 3)]})
    done = cycle(b.observed(models=models, profiles=PROFILES, nodes=[NODE], policy=policy))
    assert done.inputs.snapshot.policy.quotas == (Quota("team", 3),)
    assert {model.name: model.tenant for model in done.inputs.snapshot.models} == {"a/one": "team", "b/two": "team"}
    assert len(done.plan.starts) == 3
    short = [status.status for status in done.report.statuses if "shortfall" in status.status]
    (reason,) = [row["reason"] for status in short for row in status["shortfall"]["reasons"]]
    assert reason == "QuotaExceeded"
    assert b.condition(done.status("FleetPolicy", "default"), "Accepted")[:2] == ("True", "Valid")


def test_a_namespace_without_a_quota_has_no_tenant() -> None:
    """Not even one that happens to be called like a team."""
    policy = b.policy({"quotas": [quota("llm", ["a"], 1)]})
    done = look(b.model("m", {**NVIDIA_ONLY, "replicas": 2}), policy=policy)
    assert [model.tenant for model in done.inputs.snapshot.models] == [""]
    assert len(done.plan.starts) == 2


def test_quotas_of_the_same_namespaces_are_rows_of_one_tenant() -> None:
    """One for everything, one for a scarce profile; borrowing is passed on."""
    quotas = [quota("scarce", ["a"], 1, profiles=["sandbox-nvidia"]), quota("all", ["a"], 5, borrow=True)]
    inputs = prepare(b.observed(profiles=PROFILES, nodes=[NODE], policy=b.policy({"quotas": quotas})))
    assert inputs.snapshot.policy.quotas == (Quota("all", 5, borrow=True), Quota("all", 1, ("sandbox-nvidia",)))


def test_quotas_that_overlap_in_part_are_refused_and_nothing_grows() -> None:
    """The policy names both, and every model is held with the way out."""
    policy = b.policy({"quotas": [quota("one", ["llm", "a"], 1), quota("two", ["llm"], 1)]})
    done = look(b.model("m", NVIDIA_ONLY), policy=policy)
    word, reason, message = b.condition(done.status("FleetPolicy", "default"), "Accepted")
    assert (word, reason) == ("False", "InvalidSpec")
    assert "namespace llm is in one (a, llm) and in two (llm)" in message
    assert done.plan.starts == ()
    assert "kubectl edit fpol default" in b.condition(done.status("ModelDeployment", "m"), "Accepted")[2]


# ---- the model's spread, the option's start


@pytest.mark.parametrize(("spread", "wanted"), [(None, Spread.SOFT), ({"mode": "Soft"}, Spread.SOFT), ({"mode": "Hard"}, Spread.STRICT)])
def test_spread_is_what_the_spec_says(spread: Any, wanted: Spread) -> None:
    spec = {"placement": {"profiles": ["sandbox-nvidia"], **({"spread": spread} if spread is not None else {})}}
    (model,) = look(b.model("m", spec)).inputs.snapshot.models
    assert model.spread is wanted


def test_a_hard_spread_over_another_label_than_the_pools_is_refused() -> None:
    """Nobody would keep it; Soft is a wish and stays one."""
    other = {"placement": {"profiles": ["sandbox-nvidia"], "spread": {"topologyKey": "example.com/rack", "mode": "Hard"}}}
    done = look(b.model("m", other))
    word, reason, message = b.condition(done.status("ModelDeployment", "m"), "Accepted")
    assert (word, reason) == ("False", "InvalidSpec")
    assert "example.com/rack" in message
    assert "pool sandbox-nvidia is topology.kubernetes.io/zone" in message
    assert done.plan.starts == ()
    for spread in ({"topologyKey": "topology.kubernetes.io/zone", "mode": "Hard"}, {"topologyKey": "example.com/rack", "mode": "Soft"}):
        good = look(b.model("m", {"placement": {"profiles": ["sandbox-nvidia"], "spread": spread}}))
        assert b.condition(good.status("ModelDeployment", "m"), "Accepted")[0] == "True"


def test_start_seconds_come_from_the_profiles_data_or_are_unknown() -> None:
    """coldStart of the entry that was chosen: 90 s; without an entry it is not known, and not nought."""
    entry = {
        "model": "example/big", "engine": "vllm", "parallelism": {"tensor": 1}, "footprint": "40Gi", "coldStart": "90s",
        "evidence": "Measured", "source": "our own bench", "date": "2026-11-01", "inputTokens": 100, "outputTokens": 100, "concurrency": 1,
        "outputTokensPerSecond": "10",
    }  # fmt: skip
    for data, wanted in (([entry], 90.0), ([], None)):
        profile = b.profile("nvidia-h100-sxm", throughput=data)
        (option,) = prepare(b.observed(models=[b.big_model()], profiles=[profile], nodes=[b.h100()])).snapshot.options
        assert option.start_seconds == wanted


# ---- time


@pytest.mark.parametrize(("now", "resident"), [("2026-11-25T08:14:59Z", True), ("2026-11-25T08:15:00Z", False), (None, False)])
def test_a_young_replica_is_resident(now: str | None, resident: bool) -> None:
    """minResidence is 15 minutes by default and the pod was created at 08:00; without a time nobody is young."""
    child = children(b.model("m", NVIDIA_ONLY), nodes=(NODE,))["sandbox-nvidia"]
    pod = b.replica(child, "pod-1", node="h100-0", serving=True)
    observed = b.observed(models=[b.model("m", NVIDIA_ONLY)], profiles=PROFILES, nodes=[NODE], deployments=[child], pods=[pod])
    (replica,) = prepare(observed, now=now).snapshot.replicas
    assert replica.resident is resident


# ---- triggers


def seen(**changes: Any) -> triggers.Facts:
    child = children(b.model("m", NVIDIA_ONLY), nodes=(NODE,))["sandbox-nvidia"]
    pod = b.replica(child, "pod-1", node="h100-0", serving=True)
    given: dict[str, Any] = {
        "models": [b.model("m", NVIDIA_ONLY)],
        "profiles": PROFILES,
        "nodes": [NODE],
        "deployments": [child],
        "pods": [pod],
    }
    observed = b.observed(**{**given, **changes})
    return triggers.facts(observed, prepare(observed))


TRIGGERS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "Resync"),
    "a spec": ({"models": [b.model("m", {**NVIDIA_ONLY, "replicas": 2}, generation=2)]}, "SpecChanged"),
    "a model more": ({"models": [b.model("m", NVIDIA_ONLY), b.model("n")]}, "SpecChanged"),
    "the policy": ({"policy": replace(b.policy({"objective": "Balanced"}), generation=2)}, "SpecChanged"),
    "a node": ({"nodes": [NODE, b.sandbox(b.ppu())]}, "InventoryChanged"),
    "a pod of others": ({"pods": [b.holder("x", "h100-0", b.H100, 1)]}, "InventoryChanged"),
    "a profile": ({"profiles": tuple(replace(p, generation=2) for p in PROFILES)}, "ProfileChanged"),
}


@pytest.mark.parametrize("case", TRIGGERS)
def test_the_trigger_is_what_changed(case: str) -> None:
    changes, wanted = TRIGGERS[case]
    assert triggers.trigger(seen(), seen(**changes)) == wanted


def test_more_triggers() -> None:
    """A verdict, the load; before the first solve nothing is known."""
    before = seen()
    assert triggers.trigger(before, replace(before, verdicts=tuple((name, False) for name, _ in before.verdicts))) == "AccuracyChanged"
    assert triggers.trigger(before, replace(before, load=(("llm/m", "", (3.0,)),))) == "LoadChanged"
    assert triggers.trigger(None, before) == "Resync"
