"""Nodes, pools and devices: who owns a node, what is free on it, and why it takes nothing."""

from __future__ import annotations

import pytest
from polyfleet.decide import prepare, report
from polyfleet.fleet import Fleet, FleetNode
from polyfleet.inputs import Inputs
from polyfleet.state import NodeState, Observed, Taint

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle

TAINT = Taint("gpu", "dedicated", "NoSchedule")


def only_node(inputs: Inputs, name: str) -> FleetNode:
    return next(node for pool in inputs.fleet.pools for node in pool.nodes if node.name == name)


EXCLUSIONS = {
    "ready and empty": (b.h100(), ""),
    "not ready": (b.h100(ready=False), "NotReady"),
    "OC-010 status unknown": (b.h100(ready=None), "NotReady"),
    "OC-008 cordoned": (b.h100(cordoned=True), "Cordoned"),
    "OC-008 tainted": (b.h100(taints=[TAINT]), "Tainted"),
    "a taint that the profile tolerates": (b.h100(taints=[Taint("nvidia.com/gpu", "", "NoSchedule")]), ""),
    "a taint that only asks": (b.h100(taints=[Taint("gpu", "", "PreferNoSchedule")]), ""),
    "cordoned comes with a taint of its own": (
        b.h100(cordoned=True, taints=[Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")]),
        "Cordoned",
    ),
    "OC-006 no resource key yet": (b.h100(devices=None), "DevicesMissing"),
    "OC-003 plugin restarts": (b.h100(allocatable=0), "DevicesWithdrawn"),
    "OC-005 one of eight is out": (b.h100(allocatable=7), ""),
}


@pytest.mark.parametrize("case", EXCLUSIONS)
def test_why_a_node_takes_nothing(case: str) -> None:
    """Each state of a node gives exactly one reason, or none if it may take replicas."""
    node, reason = EXCLUSIONS[case]
    inputs = prepare(b.observed(profiles=b.profiles("nvidia-h100-sxm"), nodes=[node]))
    assert only_node(inputs, "h100-0").reason == reason
    shown = inputs.snapshot.nodes[0]
    assert (shown.eligible, shown.excluded_reason) == (reason == "", reason)


FREE = {
    "nothing held": (b.h100(), [], 8, 0),
    "OC-001 the failed device is held": (b.h100(devices=2, allocatable=1), [("x", 1)], 0, 1),
    "OC-002 more held than allocatable": (b.h100(allocatable=6), [("x", 8)], 0, 0),
    "OC-005 a device is out and idle": (b.h100(allocatable=7), [], 7, 0),
    "several pods": (b.h100(), [("x", 1), ("y", 4)], 3, 0),
}


@pytest.mark.parametrize("case", FREE)
def test_free_devices_are_never_negative(case: str) -> None:
    """free = max(0, allocatable - held); `stranded` counts the healthy device that waits behind a pod on a failed one."""
    node, pods, free, stranded = FREE[case]
    holders = [b.holder(name, "h100-0", b.H100, count) for name, count in pods]
    inputs = prepare(b.observed(profiles=b.profiles("nvidia-h100-sxm"), nodes=[node], pods=holders))
    found = only_node(inputs, "h100-0")
    assert (found.free, found.stranded) == (free, stranded)
    assert inputs.snapshot.nodes[0].held_by_others == sum(count for _, count in pods)


def test_pods_hold_under_every_alias_bound_or_pinned_until_they_are_gone() -> None:
    """A terminating pod, a pinned one and one under the other resource name count; a finished one and one elsewhere do not."""
    pods = [
        b.holder("bound", "ppu-0", b.PPU, 1),
        b.holder("other-alias", "ppu-0", "aliyun.com/ppu", 2),
        b.holder("terminating", "ppu-0", b.PPU, 4, deleting=True),
        b.pod("pinned", pinned="ppu-0", requests={b.PPU: 1}, phase="Pending"),
        b.holder("done", "ppu-0", b.PPU, 4, phase="Succeeded"),
        b.holder("elsewhere", "ppu-1", b.PPU, 4),
    ]
    inputs = prepare(b.observed(profiles=b.profiles("alibaba-ppu-810e"), nodes=[b.ppu(), b.ppu("ppu-1")], pods=pods))
    assert only_node(inputs, "ppu-0").held == 8


def test_pools_are_found_and_created_once() -> None:
    """One pool per profile with nodes, named after it; one that exists is not applied again."""
    nodes = [b.h100(), b.a3(), b.ppu()]
    observed = b.observed(profiles=b.profiles(*b.REAL), nodes=nodes)
    done = cycle(observed)
    assert sorted(m["metadata"]["name"] for m in b.applied(done.actions, "AcceleratorPool")) == sorted(b.REAL)
    again = cycle(b.observed(profiles=b.profiles(*b.REAL), nodes=nodes, pools=[b.pool(name, name) for name in b.REAL]))
    assert b.applied(again.actions, "AcceleratorPool") == []
    assert again.inputs.fleet.pool_of == done.inputs.fleet.pool_of


def test_auto_creation_can_be_turned_off() -> None:
    """`discovery.autoCreatePools: false`: no pool, so no node is used."""
    off = b.policy({"discovery": {"autoCreatePools": False}})
    inputs = prepare(b.observed(profiles=b.profiles("nvidia-h100-sxm"), nodes=[b.h100()], policy=off))
    assert inputs.fleet.pools == ()
    assert inputs.snapshot.nodes == ()


def test_pool_labels_split_a_profile() -> None:
    """`discovery.poolLabels`: one pool per value of the label."""
    split = b.policy({"discovery": {"poolLabels": ["rack"]}})
    nodes = [b.h100("n1", labels={"rack": "a"}), b.h100("n2", labels={"rack": "b"}), b.h100("n3", labels={"rack": "a"})]
    done = cycle(b.observed(profiles=b.profiles("nvidia-h100-sxm"), nodes=nodes, policy=split))
    manifests = {m["metadata"]["name"]: m["spec"] for m in b.applied(done.actions, "AcceleratorPool")}
    assert manifests == {
        "nvidia-h100-sxm-a": {"profile": "nvidia-h100-sxm", "nodeSelector": {"rack": "a"}},
        "nvidia-h100-sxm-b": {"profile": "nvidia-h100-sxm", "nodeSelector": {"rack": "b"}},
    }
    assert done.inputs.fleet.pool_of == {"n1": "nvidia-h100-sxm-a", "n2": "nvidia-h100-sxm-b", "n3": "nvidia-h100-sxm-a"}


def test_a_node_belongs_to_one_pool() -> None:
    """The first pool by name that selects a node keeps it, the other says NodeOverlap, and no device is counted twice."""
    nodes = [b.h100(labels={"team": "x"})]
    pools = [b.pool(name, "nvidia-h100-sxm", {"nodeSelector": {"team": "x"}}) for name in ("b-pool", "a-pool")]
    observed = b.observed(profiles=b.profiles("nvidia-h100-sxm"), nodes=nodes, pools=pools)
    done = cycle(observed)
    assert done.inputs.fleet.pool_of == {"h100-0": "a-pool"}
    assert len(done.inputs.snapshot.nodes) == 1
    assert b.condition(done.status("AcceleratorPool", "b-pool"), "Healthy")[:2] == ("False", "NodeOverlap")
    assert b.condition(done.status("AcceleratorPool", "a-pool"), "Healthy")[0] == "True"


def test_a_pool_may_hold_nodes_that_no_match_can_tell_apart() -> None:
    """A pool with a selector names the profile itself: here the second 910C bin, which has no label of its own."""
    silent = b.profile("huawei-910c-560", match=[])
    pools = [b.pool("old-bin", "huawei-910c-560", {"nodeSelector": {"bin": "560"}})]
    inputs = prepare(
        b.observed(profiles=[silent, b.profile("huawei-910c-752")], nodes=[b.a3(labels={"bin": "560"}), b.a3("a3-1")], pools=pools)
    )
    assert inputs.fleet.pool_of == {"a3-0": "old-bin", "a3-1": "huawei-910c-752"}


def test_a_selector_that_catches_other_silicon_does_not_use_it() -> None:
    """The pool says H100, the node is plainly a PPU: NoMatchingProfile instead of a replica on the wrong device."""
    pools = [b.pool("all", "nvidia-h100-sxm", {"nodeSelector": {"team": "x"}})]
    inputs = prepare(b.observed(profiles=b.profiles(*b.REAL), nodes=[b.ppu(labels={"team": "x"})], pools=pools))
    assert only_node(inputs, "ppu-0").reason == "NoMatchingProfile"


def test_oc_021_time_sliced_devices_are_no_whole_ones() -> None:
    """OC-021: 4 allocatable where the label counts 1: an exclusive model gets nothing (SharedDevices), a Shared one gets one device."""
    shared = b.h100(devices=4, labels={"nvidia.com/gpu.count": "1"})
    profiles = b.profiles("nvidia-h100-sxm")
    for name, tensor in (("a", 4), ("c", 1)):
        done = cycle(b.observed(models=[b.big_model(name, tensor=tensor)], profiles=profiles, nodes=[shared]))
        assert b.condition(done.status("ModelDeployment", name), "Placed")[:2] == ("False", "SharedDevices"), tensor
        assert done.plan.starts == ()
    assert done.status("AcceleratorPool", "nvidia-h100-sxm", pools=True)["excluded"] == [
        {"reason": "SharedDevices", "nodes": 1, "examples": ["h100-0"]}
    ]
    willing = b.big_model("b", tensor=1, spec={"placement": {"sharing": "Shared"}})
    assert len(cycle(b.observed(models=[willing], profiles=profiles, nodes=[shared])).plan.starts) == 1


def test_oc_022_slices_beside_whole_devices_leave_these_whole() -> None:
    """OC-022: with ten MIG slices and four whole GPUs on a node, tensor 2 takes two whole GPUs."""
    mixed = b.h100(devices=4, labels={"nvidia.com/gpu.count": "4"}, extra={"nvidia.com/mig-3g.40gb": 10})
    done = cycle(b.observed(models=[b.big_model(tensor=2, footprint="80Gi")], profiles=b.profiles("nvidia-h100-sxm"), nodes=[mixed]))
    (manifest,) = b.applied(done.actions, "Deployment")
    assert manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {b.H100: "2"}


def test_oc_023_a_contradicting_node_is_used_by_nobody_and_named() -> None:
    """OC-023: label of an 8-device board, 16 devices: one event with label and value, and the model's message lists the node."""
    odd = b.a3("n1", labels={"accelerator-type": "module-910b-8"})
    done = cycle(b.observed(models=[b.model()], profiles=b.profiles("huawei-910c-752"), nodes=[odd]))
    assert done.inputs.snapshot.nodes == ()
    (event,) = [note for note in done.report.events if note.reason == "NodeUnmatched"]
    assert (event.kind, event.name) == ("Node", "n1")
    assert "accelerator-type=module-910b-8" in event.message
    assert "huawei-910c-752" in event.message
    status, reason, message = b.condition(done.status("ModelDeployment", "m"), "ProfilesResolved")
    assert (status, reason) == ("False", "NoMatchingProfile")
    assert "n1" in message


def test_oc_029_a_toleration_in_the_profile_opens_tainted_nodes() -> None:
    """OC-029: with the toleration the node is used and new pods carry it; the revision, and so running replicas, stay as they are."""
    nodes = [b.h100(taints=[TAINT])]
    plain = b.profile("nvidia-h100-sxm")
    tolerant = b.profile("nvidia-h100-sxm", pod={"tolerations": [{"key": "gpu", "operator": "Exists"}]})
    model = b.big_model(tensor=1)
    assert cycle(b.observed(models=[model], profiles=[plain], nodes=nodes)).plan.starts == ()
    done = cycle(b.observed(models=[model], profiles=[tolerant], nodes=nodes))
    assert len(done.plan.starts) == 1
    (manifest,) = b.applied(done.actions, "Deployment")
    assert {"key": "gpu", "operator": "Exists"} in manifest["spec"]["template"]["spec"]["tolerations"]
    before = cycle(b.observed(models=[model], profiles=[plain], nodes=[b.h100()]))
    assert b.revision(before.actions) == b.revision(done.actions)


@pytest.mark.parametrize(
    "labels", [{"accelerator.interface.pcie": "true"}, {}], ids=["OC-032 a key that no node has", "OC-024 the label was renamed"]
)
def test_a_profile_without_nodes_says_so(labels: dict[str, str]) -> None:
    """Discovered=False (MatchesNoNodes) on the profile, and NoMatchingProfile, not DevicesUnavailable, on the model."""
    lost = b.profile("nvidia-h100-sxm", match=[{"labels": {"accelerator.interface.80Gi": ["true"]}}])
    node = b.node("n1", b.H100, 8, labels)
    done = cycle(b.observed(models=[b.big_model()], profiles=[lost], nodes=[node]))
    status = done.status("HardwareProfile", "nvidia-h100-sxm")
    assert status["nodes"] == 0
    assert b.condition(status, "Discovered")[:2] == ("False", "MatchesNoNodes")
    assert b.condition(done.status("ModelDeployment", "m"), "ProfilesResolved")[:2] == ("False", "NoMatchingProfile")


def test_oc_031_labels_of_the_profile_object_select_nothing() -> None:
    """OC-031: labels that Helm puts on the profile object are no node selector."""
    labelled = b.custom("HardwareProfile", "nvidia-h100-sxm", b.profile("nvidia-h100-sxm").spec, labels={"app": "Helm"})
    inputs = prepare(b.observed(profiles=[labelled], nodes=[b.h100()]))
    assert inputs.snapshot.nodes[0].eligible


def test_oc_026_a_driver_that_is_too_old_is_named() -> None:
    """OC-026: the image needs CUDA 13; one node has 13 and gets the replica, the other is DriverTooOld with both numbers."""
    label = "nvidia.com/cuda.runtime-version.major"
    engines = {"vllm": {"image": "registry.example/vllm:v1", "requires": [{"nodeLabel": label, "min": "13"}]}}
    nodes = [b.h100("n1", labels={label: "12"}), b.h100("n2", labels={label: "13"})]
    model = b.big_model(tensor=8, spec={"replicas": 2})
    done = cycle(b.observed(models=[model], profiles=[b.profile("nvidia-h100-sxm", engines=engines)], nodes=nodes))
    assert [start.node for start in done.plan.starts] == ["n2"]
    assert only_node(done.inputs, "n1").reason == "DriverTooOld"
    assert ">= 13, node has 12" in b.condition(done.status("ModelDeployment", "m"), "Placed")[2]


def unknown_inventory(nodes: list[NodeState]) -> Observed:
    return b.observed(
        profiles=b.profiles("nvidia-h100-sxm"), pools=[b.pool("nvidia-h100-sxm", "nvidia-h100-sxm")], nodes=nodes,
        unknown={"nodes": "ListForbidden"},
    )  # fmt: skip


def test_oc_007_unknown_stock_is_not_zero_stock() -> None:
    """OC-007: counts are left out, not shown as 0, and InventoryKnown is Unknown with the reason of the list call."""
    observed = unknown_inventory([])
    inputs = prepare(observed)
    assert {str(cell.stock) for cell in inputs.snapshot.cells} == {"Unknown"}
    done = cycle(observed)
    status = done.status("AcceleratorPool", "nvidia-h100-sxm")
    assert b.condition(status, "InventoryKnown")[:2] == ("Unknown", "ListForbidden")
    assert "devices" not in status
    assert b.applied(done.actions, "AcceleratorPool") == []


def test_the_report_of_a_pool_counts_its_nodes() -> None:
    """The numbers of status.devices for one node of each kind: in use, cordoned, with a device taken out."""
    nodes = [b.h100("n1"), b.h100("n2", cordoned=True), b.h100("n3", allocatable=7)]
    observed = b.observed(
        profiles=b.profiles("nvidia-h100-sxm"), nodes=nodes, pods=[b.holder("x", "n1", b.H100, 5)],
        pools=[b.pool("nvidia-h100-sxm", "nvidia-h100-sxm", {"reserve": {"devices": 2}})],
    )  # fmt: skip
    status = cycle(observed).status("AcceleratorPool", "nvidia-h100-sxm")
    assert status["nodes"] == {"matched": 3, "eligible": 2}
    assert status["devices"] == {
        "capacity": 24, "allocatable": 23, "used": 5, "free": 10, "largestFree": 7, "withdrawn": 1, "stranded": 0, "reserved": 2,
    }  # fmt: skip
    assert status["excluded"] == [{"reason": "Cordoned", "nodes": 1, "examples": ["n2"]}]
    assert b.condition(status, "Healthy")[1] == "DevicesWithdrawn"


def test_a_lost_and_a_recovered_pool_are_told() -> None:
    """PoolLost when the last usable node went since the stored status, PoolRecovered when the first came back."""
    for before, node, reason in ((1, b.h100(cordoned=True), "PoolLost"), (0, b.h100(), "PoolRecovered")):
        stored = b.pool("p", "nvidia-h100-sxm", status={"nodes": {"matched": 1, "eligible": before}})
        observed = b.observed(profiles=b.profiles("nvidia-h100-sxm"), nodes=[node], pools=[stored])
        assert [note.reason for note in cycle(observed).report.events] == [reason]


@pytest.mark.parametrize(("scheduler", "sizes", "whole"), [(None, (1, 16), True), ("volcano", (1, 2, 4, 6, 8, 10, 12, 14, 16), False)])
def test_sizes_of_an_a3_node_depend_on_the_scheduler(scheduler: str | None, sizes: tuple[int, ...], whole: bool) -> None:
    """Under the default scheduler the kubelet picks the dies, so only single dies and whole nodes are safe."""
    spec = {"scheduler": scheduler} if scheduler else {}
    inputs = prepare(b.observed(profiles=b.profiles("huawei-910c-752"), nodes=[b.a3()], pools=[b.pool("p", "huawei-910c-752", spec)]))
    (cell,) = inputs.snapshot.cells
    assert (cell.sizes, cell.whole_node_only, cell.align_to) == (sizes, whole, 2)


def test_failure_domains_split_a_pool_into_cells() -> None:
    """A cell has one failure domain; the pool is the same."""
    zone = "topology.kubernetes.io/zone"
    nodes = [b.h100("n1", labels={zone: "a"}), b.h100("n2", labels={zone: "b"})]
    inputs = prepare(b.observed(profiles=b.profiles("nvidia-h100-sxm"), nodes=nodes))
    assert [(cell.pool, cell.failure_domain) for cell in inputs.snapshot.cells] == [("nvidia-h100-sxm", "a"), ("nvidia-h100-sxm", "b")]


def test_a_missing_profile_is_said_on_the_pool() -> None:
    """A pool that names a profile nobody has: Schedulable=False (ProfileMissing), and no cell."""
    observed = b.observed(nodes=[b.h100()], pools=[b.pool("p", "nope", {"nodeSelector": {"nvidia.com/gpu.present": "true"}})])
    inputs = prepare(observed)
    assert inputs.snapshot.cells == ()
    done = report(observed, inputs, cycle(observed).plan, now=b.NOW)
    assert b.condition(done.statuses[0].status, "Schedulable")[:2] == ("False", "ProfileMissing")


def test_empty_fleet() -> None:
    """Nothing observed gives an empty fleet and no act."""
    done = cycle(b.observed())
    assert isinstance(done.inputs.fleet, Fleet)
    assert (done.actions.applies, done.actions.deletes, done.actions.pod_patches) == ((), (), ())
