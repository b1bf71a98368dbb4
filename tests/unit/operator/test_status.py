"""What status says: counts from the cluster, the row that stops Ready, numbers behind every no, and nothing that moves by itself."""

from __future__ import annotations

from typing import Any

import pytest
from polyfleet import naming
from polyfleet.api import AcceleratorPoolStatus, FleetPolicyStatus, ModelDeploymentStatus
from polyfleet.api.conditions import EVENTS, MODEL_REASONS, ModelCondition
from polyfleet.api.hardwareprofile import HardwareProfileStatus
from polyfleet.decide import report
from polyfleet.state import Condition, ContainerState, DeploymentState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import H100, NVIDIA_ONLY, POOLS, PPU, PROFILES, children, look, replace_size

H100_PROFILE = b.profiles("nvidia-h100-sxm")
MODELS: dict[str, Any] = {
    "ModelDeployment": ModelDeploymentStatus,
    "AcceleratorPool": AcceleratorPoolStatus,
    "HardwareProfile": HardwareProfileStatus,
    "FleetPolicy": FleetPolicyStatus,
}


def fits_the_schema(done: Done) -> None:
    """Every status is what its kind's model holds: nothing would be pruned; every reason and event is one of the enumerated."""
    for item in done.report.statuses:
        parsed = MODELS[item.kind].parse(dict(item.status))
        assert parsed.dump_set() == item.status, item.kind
        if item.kind == "ModelDeployment":
            for row in item.status["conditions"]:
                if (row["status"] != "True") != (row["type"] == "Degraded"):  # of Degraded it is True that is bad
                    assert row["reason"] in MODEL_REASONS[ModelCondition(row["type"])], row
    for note in done.report.events:
        assert note.reason in EVENTS


def test_a_ready_model() -> None:
    """Three replicas of three vendors serve: the fields that people and printer columns read."""
    model = b.model("smol", {"replicas": 3, "placement": {"spread": {"minVendors": 3}}}, generation=4)
    found = children(model)
    nodes = {"sandbox-ascend": "a3-0", "sandbox-nvidia": "h100-0", "sandbox-ppu": "ppu-0"}
    pods = tuple(b.replica(found[name], f"pod-{name}", node=node, serving=True) for name, node in nodes.items())
    done = look(model, deployments=tuple(found.values()), pods=pods, policy=b.policy({"budget": {"maxHourlyCost": "100"}}))
    fits_the_schema(done)
    status = done.status("ModelDeployment", "smol")
    assert status["observedGeneration"] == 4
    assert status["url"] == "http://smol.llm.svc:8000/v1"
    assert (status["desiredReplicas"], status["replicas"], status["readyReplicas"]) == (3, 3, 3)
    assert status["selector"] == "polyfleet.io/deployment=smol"
    # 3.00 + 1.60 + 0.90 by the sandbox's prices
    assert status["summary"] == {
        "replicas": "3/3",
        "hardware": "alibaba:1,huawei:1,nvidia:1",
        "hourlyCost": "5.50",
        "reason": "Ready",
    }
    assert [(row["pool"], row["replicas"], row["hourlyCost"]) for row in status["placements"]] == [
        ("sandbox-ascend", 1, "1.60"), ("sandbox-nvidia", 1, "3.00"), ("sandbox-ppu", 1, "0.90"),
    ]  # fmt: skip
    assert all(row["reason"] for row in status["placements"])
    assert status["plan"] == {"name": "pplan-000001", "outcome": "Optimal", "gapPercent": "0.0"}
    assert "shortfall" not in status
    assert [(row["type"], row["status"]) for row in status["conditions"]] == [
        (kind, "True")
        for kind in (
            "Accepted", "ProfilesResolved", "Placed", "WorkloadsReady", "HardwareVerified", "RouteReady", "Ready", "Available", "Promoted",
        )
    ]  # fmt: skip
    assert b.condition(status, "Ready")[2] == "3 of 3 replicas serve"
    fleet = done.status("FleetPolicy", "default")
    assert (fleet["hourlyCost"], fleet["models"]) == ("5.50", {"total": 1, "ready": 1, "short": 0, "blocked": 0})


def test_effective_shows_what_was_merged() -> None:
    """One line per profile and variant with image, arguments and the revision that pods carry."""
    done = look(b.model("smol", {**NVIDIA_ONLY, "runtime": {"args": ["--user"]}}))
    (row,) = done.status("ModelDeployment", "smol")["effective"]
    assert row["args"] == ["--backend=llamacpp", "--user"]
    assert row["revision"] == b.revision(done.actions)
    assert (row["profile"], row["variant"], row["engine"], row["devices"]) == ("sandbox-nvidia", "default", "sandbox", 1)


def test_rejected_profiles_say_why() -> None:
    """Excluded by the user, without nodes, and dearer: one line each, none for the profile that is used."""
    model = b.model("smol", {"placement": {"excludeProfiles": ["sandbox-nvidia"]}})
    rows = cycle(b.observed(models=[model], profiles=[*PROFILES, *H100_PROFILE], nodes=[H100, PPU])).status("ModelDeployment", "smol")
    assert {row["profile"]: row["reason"] for row in rows["rejected"]} == {
        "sandbox-nvidia": "Excluded", "sandbox-ascend": "MatchesNoNodes", "nvidia-h100-sxm": "MatchesNoNodes",
    }  # fmt: skip


# ---- WorkloadsReady, case by case


def ppu_child() -> DeploymentState:
    return children(b.model("m"))["sandbox-ppu"]


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"containers": [ContainerState("engine", "", False, 0, "waiting", reason, message)]}


UNSCHEDULED = Condition("PodScheduled", "False", "Unschedulable", "0/4 nodes are available: 1 Insufficient cpu.")
TROUBLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "image": ({"node": "ppu-0", **waiting("ImagePullBackOff", "no such tag")}, "ImagePull", "no such tag"),
    "crash": ({"node": "ppu-0", **waiting("CrashLoopBackOff", "back-off 5m")}, "CrashLoop", "back-off 5m"),
    "exit": (
        {"node": "ppu-0", "containers": [ContainerState("engine", "x", False, 1, "terminated", "Error", "", 137)]},
        "CrashLoop",
        "code 137",
    ),
    "secret": ({"node": "ppu-0", **waiting("CreateContainerConfigError", 'secret "x" not found')}, "CrashLoop", 'secret "x" not found'),
    "scheduler": ({"pinned": "ppu-0", "conditions": [UNSCHEDULED]}, "PendingScheduling", "Insufficient cpu"),
    "gated": ({}, "PendingScheduling", "waits for its place"),
    "loading": ({"node": "ppu-0"}, "Loading", "loading on ppu-0"),
    "init": ({"node": "ppu-0", "conditions": [Condition("Initialized", "False")], "containers": []}, "ModelDownload", "ppu-0"),
}


@pytest.mark.parametrize("case", TROUBLE)
def test_why_a_replica_is_not_up(case: str) -> None:
    """Each state of a pod gives one reason of the interface, quotes what kubelet or scheduler said, and stops Ready with it."""
    given, reason, part = TROUBLE[case]
    child = ppu_child()
    done = look(b.model("m"), deployments=(child,), pods=(b.replica(child, "pod-1", **given),))
    fits_the_schema(done)
    status = done.status("ModelDeployment", "m")
    assert b.condition(status, "WorkloadsReady")[:2] == ("False", reason)
    assert part in b.condition(status, "WorkloadsReady")[2]
    ready = b.condition(status, "Ready")
    assert (ready[1], ready[2].startswith("0 of 1 replicas serve; ")) == (reason, True)
    assert b.condition(status, "Available")[:2] == ("False", "NothingServes")


def test_pods_with_the_same_trouble_are_counted_not_listed() -> None:
    """Fifty pods, one line."""
    model = b.model("m", {"replicas": 12})
    child = replace_size(children(model)["sandbox-ppu"], 12)
    pods = tuple(b.replica(child, f"pod-{i:02d}", node="ppu-0", **waiting("ErrImagePull", "no such tag")) for i in range(12))
    message = b.condition(look(model, deployments=(child,), pods=pods).status("ModelDeployment", "m"), "WorkloadsReady")[2]
    assert message == "12x ErrImagePull: no such tag"


def test_a_part_that_serves_is_available_but_not_ready() -> None:
    """One of two serves: Available, and Ready says which row stops it."""
    model = b.model("m", {"replicas": 2})
    child = replace_size(children(model)["sandbox-ppu"], 2)
    pods = (b.replica(child, "pod-1", node="ppu-0", serving=True), b.replica(child, "pod-2", node="ppu-0"))
    status = look(model, deployments=(child,), pods=pods).status("ModelDeployment", "m")
    assert b.condition(status, "Available")[0] == "True"
    assert b.condition(status, "Ready") == ("False", "Loading", "1 of 2 replicas serve; loading on ppu-0")
    assert status["summary"]["replicas"] == "1/2"


# ---- time and size


def serving(model_status: dict[str, Any] | None = None) -> tuple[Done, DeploymentState, PodState]:
    child = ppu_child()
    pod = b.replica(child, "pod-1", node="ppu-0", serving=True)
    return look(b.model("m", status=model_status or {}), deployments=(child,), pods=(pod,)), child, pod


def test_a_status_that_says_the_same_is_the_same() -> None:
    """Written back and looked at an hour later, nothing differs: the transition times are those of the stored status."""
    first, child, pod = serving()
    stored = dict(first.status("ModelDeployment", "m"))
    second = look(b.model("m", status=stored), deployments=(child,), pods=(pod,), now=b.LATER)
    assert second.status("ModelDeployment", "m") == stored


def test_the_time_moves_only_with_the_status_word() -> None:
    """Ready turns False: its time is now; Accepted stays True: its time stays."""
    first, child, _ = serving()
    stored = dict(first.status("ModelDeployment", "m"))
    down = b.replica(child, "pod-1", node="ppu-0")
    status = look(b.model("m", status=stored), deployments=(child,), pods=(down,), now=b.LATER).status("ModelDeployment", "m")
    times = {row["type"]: row["lastTransitionTime"] for row in status["conditions"]}
    assert (times["Ready"], times["Accepted"]) == (b.LATER, b.NOW)


def test_oc_088_status_stays_small() -> None:
    """OC-088: sixteen variants with long arguments on seventeen profiles stay under 64 KiB; conditions and counts are kept."""
    args = [f"--argument-{i}=" + "x" * 500 for i in range(60)]
    model = b.big_model(spec={"runtime": {"engine": "vllm", "image": "i:v1", "args": args}, "replicas": 3})
    profiles = [b.profile("nvidia-h100-sxm")] + [
        b.custom("HardwareProfile", f"copy-{i:02d}", {**b.profile("nvidia-h100-sxm").spec, "match": [{"labels": {"kind": [str(i)]}}]})
        for i in range(16)
    ]
    nodes = [b.h100("n"), *(b.node(f"n{i:02d}", b.H100, 8, {"kind": str(i)}) for i in range(16))]
    status = cycle(b.observed(models=[model], profiles=profiles, nodes=nodes)).status("ModelDeployment", "m")
    assert len(naming.canonical(status).encode()) < 64 * 1024
    assert len(status["conditions"]) == 8
    assert len(status["effective"]) == 17


def test_node_names_are_not_in_the_status_of_a_model() -> None:
    """The size must not grow with the fleet: a hundred nodes give the same placements as one."""
    model = b.model("m", {**NVIDIA_ONLY, "replicas": 100, "runtime": {"parallelism": {"tensor": 8}}})
    nodes = tuple(b.sandbox(b.h100(f"h100-{i:03d}")) for i in range(100))
    child = children(b.model("m", {**NVIDIA_ONLY, "runtime": {"parallelism": {"tensor": 8}}}))["sandbox-nvidia"]
    pods = tuple(b.replica(child, f"pod-{i:03d}", node=node.name, serving=True) for i, node in enumerate(nodes))
    done = look(model, nodes=nodes, deployments=(replace_size(child, 100),), pods=pods)
    (row,) = done.status("ModelDeployment", "m")["placements"]
    assert (row["replicas"], row["readyReplicas"]) == (100, 100)
    assert "h100-0" not in naming.canonical(done.status("ModelDeployment", "m"))


def test_status_of_the_policy_counts_short_models_and_warns_of_the_budget() -> None:
    """One ready, one short; 0.90 of a budget of 0.95 is near its limit."""
    child = ppu_child()
    pod = b.replica(child, "pod-1", node="ppu-0", serving=True)
    big = b.big_model("big", footprint="100Gi", engine="sandbox", spec={"placement": {"profiles": ["sandbox-nvidia"]}})
    observed = b.observed(
        models=[b.model("m"), big], profiles=PROFILES, pools=POOLS, nodes=[PPU, b.sandbox(b.h100(devices=1))], deployments=[child],
        pods=[pod], policy=b.policy({"budget": {"maxHourlyCost": "0.95"}}),
    )  # fmt: skip
    done = cycle(observed)
    fits_the_schema(done)
    status = done.status("FleetPolicy", "default")
    assert status["models"] == {"total": 2, "ready": 1, "short": 1, "blocked": 0}
    assert b.condition(status, "WithinBudget")[:2] == ("False", "BudgetNearLimit")
    assert report(observed, done.inputs, done.plan, now=b.NOW, told=done.decision.told) == done.report


def test_oc_078_status_says_that_the_greedy_placer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """OC-078: neither solver passes its self-test: the cycle goes on, the replica starts, the policy says why. With one: all is well."""
    observed = b.observed(models=[b.model("m")], profiles=PROFILES, pools=POOLS, nodes=[PPU])
    well = cycle(observed).status("FleetPolicy", "default")
    assert b.condition(well, "SolverHealthy")[:2] == ("True", "SelfTestPassed")
    monkeypatch.setattr("placement._solver.ladder", lambda: iter(()))
    done = cycle(observed)
    fits_the_schema(done)
    assert (str(done.plan.outcome), len(done.plan.starts)) == ("Greedy", 1)
    status = done.status("FleetPolicy", "default")
    assert b.condition(status, "SolverHealthy") == (
        "False", "SolverDegraded", "the greedy placer runs: no solver passed its self-test",
    )  # fmt: skip
    assert status["solver"] == "Greedy"
