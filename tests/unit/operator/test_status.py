"""What status says: counts from the cluster, the row that stops Ready, numbers behind every no, and nothing that moves by itself."""

from __future__ import annotations

from typing import Any

import pytest
from polyfleet import naming
from polyfleet.api import AcceleratorPoolStatus, FleetPolicyStatus, ModelDeploymentStatus
from polyfleet.api.conditions import EVENTS, MODEL_REASONS, ModelCondition
from polyfleet.api.hardwareprofile import HardwareProfileStatus
from polyfleet.decide import report
from polyfleet.state import Condition, ContainerState, DeploymentState, PodState, Taint

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
                if row["status"] != "True":
                    assert row["reason"] in MODEL_REASONS[ModelCondition(row["type"])], row
    for note in done.report.events:
        assert note.reason in EVENTS


def placed(done: Done, name: str = "m") -> tuple[str, str, str]:
    return b.condition(done.status("ModelDeployment", name), "Placed")


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
    assert status["summary"] == {"replicas": "3/3", "hardware": "alibaba:1,huawei:1,nvidia:1", "hourlyCost": "5.50"}
    assert [(row["pool"], row["replicas"], row["hourlyCost"]) for row in status["placements"]] == [
        ("sandbox-ascend", 1, "1.60"), ("sandbox-nvidia", 1, "3.00"), ("sandbox-ppu", 1, "0.90"),
    ]  # fmt: skip
    assert all(row["reason"] for row in status["placements"])
    assert status["plan"] == {"outcome": "Optimal", "gapPercent": "0.0"}
    assert "shortfall" not in status
    assert [(row["type"], row["status"]) for row in status["conditions"]] == [
        (kind, "True")
        for kind in ("Accepted", "ProfilesResolved", "Placed", "WorkloadsReady", "RouteReady", "Ready", "Available")
    ]
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


# ---- Placed, case by case


def test_oc_001_a_stranded_device_is_told() -> None:
    """OC-001: one healthy device waits behind the pod on the failed one; the pool counts it and the message says it."""
    node, holder = b.h100("n1", devices=2, allocatable=1), b.holder("x", "n1", b.H100, 1)
    pools = [b.pool("p", "nvidia-h100-sxm")]
    done = cycle(b.observed(models=[b.big_model(tensor=1)], profiles=H100_PROFILE, nodes=[node], pods=[holder], pools=pools))
    assert placed(done)[:2] == ("False", "DevicesUnavailable")
    assert "1 healthy device on n1 waits" in placed(done)[2]
    assert done.status("AcceleratorPool", "p")["devices"]["stranded"] == 1
    freed = cycle(b.observed(models=[b.big_model(tensor=1)], profiles=H100_PROFILE, nodes=[node], pools=pools))
    assert len(freed.plan.starts) == 1


def test_oc_002_more_held_than_allocatable() -> None:
    """OC-002: nothing is started, no number is negative."""
    node, holder = b.h100("n1", allocatable=6), b.holder("x", "n1", b.H100, 8)
    done = cycle(b.observed(models=[b.big_model(tensor=4)], profiles=H100_PROFILE, nodes=[node], pods=[holder]))
    assert done.plan.starts == ()
    (row,) = done.status("ModelDeployment", "m")["shortfall"]["reasons"]
    assert (row["largestFree"], row["totalFree"]) == (0, 0)


def test_oc_003_a_restarting_plugin_moves_nothing() -> None:
    """OC-003: allocatable 0 for a while: the running replica is kept, the pool says DevicesWithdrawn."""
    model = b.model("m", {"placement": {"profiles": ["sandbox-ascend"]}, "runtime": {"parallelism": {"tensor": 16}}})
    nodes = (b.sandbox(b.a3("n1")), b.sandbox(b.a3("n2")))
    child = children(model, nodes=nodes)["sandbox-ascend"]
    pod = b.replica(child, "pod-1", node="n1", serving=True)
    gap = (b.sandbox(b.a3("n1", allocatable=0)), nodes[1])
    done = look(model, nodes=gap, deployments=(child,), pods=(pod,))
    assert (done.plan.stop, done.plan.starts, done.actions.deletes) == ((), (), ())
    assert done.status("AcceleratorPool", "sandbox-ascend")["excluded"] == [{"reason": "DevicesWithdrawn", "nodes": 1, "examples": ["n1"]}]


def test_oc_005_a_shrunken_node_is_named() -> None:
    """OC-005: a model for 8 devices, 7 allocatable of 8: never capacity in place of allocatable, and the message says both."""
    done = cycle(b.observed(models=[b.big_model(tensor=8)], profiles=H100_PROFILE, nodes=[b.h100("n1", allocatable=7)]))
    assert placed(done)[:2] == ("False", "DevicesUnavailable")
    assert "n1: allocatable 7 of capacity 8" in placed(done)[2]


def test_oc_006_a_new_node_without_its_devices_is_waited_for() -> None:
    """OC-006: the message says whose devices are missing; the wanted size stays and exactly one replica is pending."""
    full, new = b.h100("n1"), b.h100("n9", devices=None)
    pods = [b.holder("x", "n1", b.H100, 8)]
    for node, starts in ((new, 0), (b.h100("n9"), 1)):
        done = cycle(b.observed(models=[b.big_model(tensor=8)], profiles=H100_PROFILE, nodes=[full, node], pods=pods))
        assert len(done.plan.starts) == starts
        assert done.status("ModelDeployment", "m")["desiredReplicas"] == 1
        if not starts:
            assert "waiting for devices on n9" in placed(done)[2]


def test_oc_008_excluded_nodes_are_no_room() -> None:
    """OC-008: cordoned and tainted nodes have 8 free each, but only n3 counts: one replica placed, the other not created."""
    nodes = [b.h100("n1", cordoned=True), b.h100("n2", taints=[Taint("gpu", "x", "NoSchedule")]), b.h100("n3")]
    model = b.big_model(tensor=8, spec={"replicas": 2})
    done = cycle(b.observed(models=[model], profiles=H100_PROFILE, nodes=nodes))
    assert [start.node for start in done.plan.starts] == ["n3"]
    assert list(b.sizes(done.actions).values()) == [1]
    assert placed(done)[:2] == ("False", "DevicesUnavailable")
    assert "need 8 on one node" in placed(done)[2]


def test_oc_011_a_sum_over_nodes_is_no_room() -> None:
    """OC-011: 4 + 4 free: tensor 8 gets nothing (largest 4, total 8), three replicas of one device start in the same cycle."""
    pods = [b.holder(f"x{i}", node, b.H100, 4) for i, node in enumerate(("n1", "n2"))]
    models = [b.big_model("a", tensor=8), b.big_model("b", tensor=1, spec={"replicas": 3})]
    done = cycle(b.observed(models=models, profiles=H100_PROFILE, nodes=[b.h100("n1"), b.h100("n2")], pods=pods))
    (row,) = done.status("ModelDeployment", "a")["shortfall"]["reasons"]
    assert (row["reason"], row["missing"]) == ("DevicesUnavailable", 1)
    assert len([start for start in done.plan.starts if start.model == "llm/b"]) == 3


def test_oc_013_a_size_that_no_node_has_never_fits() -> None:
    """OC-013: 12 devices on 6 nodes of 2 cannot hold tensor 4: NeverFits, not DevicesUnavailable, and no pod."""
    nodes = [b.h100(f"n{i}", devices=2) for i in range(6)]
    done = cycle(b.observed(models=[b.big_model(tensor=4)], profiles=H100_PROFILE, nodes=nodes))
    assert placed(done)[:2] == ("False", "NeverFits")
    assert b.sizes(done.actions) == {}


def test_oc_016_devices_in_other_pools_do_not_count() -> None:
    """OC-016: 8 free where the model may not run, none where it may: PoolRestricted with both numbers."""
    pools = [b.pool(name, "nvidia-h100-sxm", {"nodeSelector": {"pool": name}}) for name in ("a", "b")]
    nodes = [b.h100("n1", labels={"pool": "a"}), b.h100("n2", labels={"pool": "b"})]
    model = b.big_model(tensor=4, spec={"replicas": 2, "placement": {"pools": ["b"]}})
    held = [b.holder("x", "n2", b.H100, 8)]
    done = cycle(b.observed(models=[model], profiles=H100_PROFILE, nodes=nodes, pools=pools, pods=held))
    assert done.plan.starts == ()
    assert placed(done)[0] == "False"
    assert placed(done)[1] == "PoolRestricted"


def test_oc_020_whole_cards_under_a_scheduler_that_packs_them() -> None:
    """OC-020: dies 2 and 5 taken on 16: six complete cards, so six replicas of two dies although 14 dies are free."""
    taken = b.holder("x", "n1", b.ASCEND, 2, annotations={"huawei.com/AscendReal": "Ascend910-2,Ascend910-5"})
    pools = [b.pool("a3", "huawei-910c-752", {"scheduler": "volcano"})]
    model = b.big_model(tensor=2, spec={"replicas": 8})
    done = cycle(b.observed(models=[model], profiles=b.profiles("huawei-910c-752"), nodes=[b.a3("n1")], pods=[taken], pools=pools))
    assert len(done.plan.starts) == 6


def test_a_shortfall_is_told_once_as_an_event() -> None:
    """PlacementShortfall with count, reason and numbers; a covered model has none."""
    done = cycle(b.observed(models=[b.big_model(tensor=8)], profiles=H100_PROFILE, nodes=[b.h100(allocatable=7)]))
    (note,) = [note for note in done.report.events if note.reason == "PlacementShortfall"]
    assert (note.type, note.name) == ("Warning", "m")
    assert note.message.startswith("1 of 1 replicas have no place: DevicesUnavailable")


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
    assert len(status["conditions"]) == 7
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
    assert report(observed, done.inputs, done.plan, now=b.NOW) == done.report
