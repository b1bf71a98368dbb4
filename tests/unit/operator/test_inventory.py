"""Numbers of devices as they are written, and the odd nodes: each has its condition and its message."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polyfleet import parse
from polyfleet.decide import prepare
from polyfleet.fleet import FleetNode
from polyfleet.inputs import Inputs
from polyfleet.state import Taint

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.test_fleet import only_node

H100_PROFILE, A3_PROFILE, PPU_PROFILE = "nvidia-h100-sxm", "huawei-910c-752", "alibaba-ppu-810e"

# OC-085: the number that each way of writing means, None where it is none.
WRITTEN: list[tuple[object, int | None]] = [
    (4, 4), ("4", 4), ("4000m", 4), ("4k", 4000), ("1500m", None), ("0.5", None), ("4e0", 4), ("4E0", 4), ("4.0", 4), ("40e-1", 4),
    ("1Ki", 1024), ("8", 8), ("0", 0), ("", None), ("x", None), ("-1", None), ("NaN", None), ("Infinity", None), ("1e", None), (None, None),
    ("4000000u", 4), ("+4", 4), (".5k", 500),
]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), WRITTEN)
def test_oc_085_devices_by_value(text: object, number: int | None) -> None:
    """OC-085: 4, '4', '4000m' and '4e0' are four devices, '4k' four thousand; '1500m' and '0.5' are refused, never rounded."""
    assert parse.devices(text) == number
    assert parse.extended({"nvidia.com/gpu": text}) == ({} if number is None else {"nvidia.com/gpu": number})


def test_oc_085_one_and_a_thousand_thousandths_are_no_difference() -> None:
    """OC-085: '1000m' and '1' are compared by value."""
    assert parse.quantity("1000m") == parse.quantity("1") == Decimal(1)


@pytest.mark.parametrize("text", ["1Ei", "8Ei", "9223372036854775808", "1e18", "1e9999", "99999999999999999999999999"])
def test_oc_086_huge_amounts_are_larger_than_any_node(text: str) -> None:
    """OC-086: never negative, never unbounded: the largest number that is told."""
    assert parse.devices(text) == parse.MOST == 2**31 - 1


@given(st.text(alphabet="0123456789.eE+-kKMGTPimnu", max_size=24))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever stands there: a whole number from 0 to the largest, or nothing; never an error."""
    found = parse.devices(text)
    assert found is None or 0 <= found <= parse.MOST


def test_oc_086_a_pod_that_wants_everything_is_bounded() -> None:
    """OC-086: a pod of 1Ei devices fills its node, nothing is negative, and what the placer is shown stays in 32 bits; a footprint of 1Ei
    is refused in words."""
    raw = {
        "metadata": {"namespace": "x", "name": "p", "uid": "u", "resourceVersion": "1"},
        "spec": {"nodeName": "h100-0", "containers": [{"resources": {"limits": {b.H100: "1Ei"}}}]},
        "status": {"phase": "Running"},
    }
    pod = parse.pod(raw)
    assert pod is not None
    inputs = prepare(b.observed(profiles=b.profiles(H100_PROFILE), nodes=[b.h100()], pods=[pod]))
    node = only_node(inputs, "h100-0")
    assert (node.free, node.held) == (0, parse.MOST)
    assert all(0 <= shown.held_by_others <= parse.MOST for shown in inputs.snapshot.nodes)
    done = cycle(b.observed(models=[b.big_model(footprint="1Ei")], profiles=b.profiles(H100_PROFILE), nodes=[b.h100()]))
    assert done.plan.starts == ()
    status, reason, message = b.condition(done.status("ModelDeployment", "m"), "Accepted")
    assert (status, reason) == ("False", "InvalidSpec")
    assert "footprint" in message


def pool_of(inputs: Inputs, name: str) -> Any:
    found = inputs.fleet.pool(name)
    assert found is not None
    return found


def told(observed: Any, pool: str, kind: str) -> tuple[str, str, str]:
    return b.condition(cycle(observed).status("AcceleratorPool", pool), kind)


# ---- the odd nodes of the issue


def test_two_profiles_that_match_one_node_own_nothing() -> None:
    """Equally specific: the node is in no pool, an event names both; a pool that names its profile decides."""
    twins = [b.profile(H100_PROFILE), b.custom("HardwareProfile", "other", {**b.profile(H100_PROFILE).spec})]
    done = cycle(b.observed(profiles=twins, nodes=[b.h100()]))
    assert done.inputs.snapshot.nodes == ()
    (event,) = [note for note in done.report.events if note.reason == "NodeUnmatched"]
    assert event.name == "h100-0"
    assert "fits nvidia-h100-sxm and other equally well" in event.message
    named = [b.pool("p", "other", {"nodeSelector": {"nvidia.com/gpu.present": "true"}})]
    assert prepare(b.observed(profiles=twins, nodes=[b.h100()], pools=named)).fleet.pool_of == {"h100-0": "p"}


def test_a_node_that_advertises_more_than_its_profile_says() -> None:
    """32 devices where the profile knows boards of 16 (no label tells a count): not whole devices, and the numbers are told."""
    observed = b.observed(profiles=b.profiles(PPU_PROFILE), nodes=[b.ppu(devices=32)], pools=[b.pool(PPU_PROFILE, PPU_PROFILE)])
    node = only_node(prepare(observed), "ppu-0")
    assert node.shared == "32 devices advertised, 16 installed"
    status = cycle(observed).status("AcceleratorPool", PPU_PROFILE)
    assert status["excluded"] == [{"reason": "SharedDevices", "nodes": 1, "examples": ["ppu-0"]}]
    assert status["nodes"] == {"matched": 1, "eligible": 0}
    word, reason, message = b.condition(status, "Schedulable")
    assert (word, reason) == ("False", "AllNodesExcluded")
    assert "ppu-0: 32 devices advertised, 16 installed" in message


def test_allocatable_that_shrinks_under_running_pods() -> None:
    """6 of 8 are left and pods hold 8: nothing free, nothing negative, Healthy=False (DevicesWithdrawn) with all three numbers."""
    observed = b.observed(
        profiles=b.profiles(H100_PROFILE), nodes=[b.h100(allocatable=6)], pods=[b.holder("x", "h100-0", b.H100, 8)],
        pools=[b.pool(H100_PROFILE, H100_PROFILE)],
    )  # fmt: skip
    node = only_node(prepare(observed), "h100-0")
    assert (node.free, node.withdrawn, node.overdrawn) == (0, 2, 2)
    assert told(observed, H100_PROFILE, "Healthy")[:2] == ("False", "DevicesWithdrawn")
    assert "h100-0: pods hold 8 of 6 allocatable" in told(observed, H100_PROFILE, "InventoryKnown")[2]


def test_a_pod_that_holds_a_device_under_another_alias() -> None:
    """Two devices held under the private plugin's name count on a node of ACK's plugin, and the pool says where they come from."""
    observed = b.observed(
        profiles=b.profiles(PPU_PROFILE), nodes=[b.ppu()], pods=[b.holder("x", "ppu-0", "aliyun.com/ppu", 2)],
        pools=[b.pool(PPU_PROFILE, PPU_PROFILE)],
    )  # fmt: skip
    node = only_node(prepare(observed), "ppu-0")
    assert (node.resource, node.held, node.free) == (b.PPU, 2, 14)
    assert node.elsewhere == (("aliyun.com/ppu", 2),)
    assert told(observed, PPU_PROFILE, "InventoryKnown") == ("True", "Listed", "2 devices on ppu-0 are held as aliyun.com/ppu")


def test_huawei_ascend_910_on_a_910a_belongs_to_nobody() -> None:
    """The same resource name on the old generation: no profile, an event, and no capacity."""
    old = b.node("old", b.ASCEND, 8, {"accelerator": "huawei-Ascend910", "node.kubernetes.io/npu.chip.name": "910A"})
    done = cycle(b.observed(profiles=b.profiles("huawei-910b3", A3_PROFILE), nodes=[old]))
    assert done.inputs.snapshot.nodes == ()
    (event,) = [note for note in done.report.events if note.reason == "NodeUnmatched"]
    assert "node.kubernetes.io/npu.chip.name=910A" in event.message
    assert "huawei-910b3" in event.message


def test_two_bins_on_one_node_are_no_capacity() -> None:
    """HAMi advertises 910B3 and 910B4 on one node: nobody's, and the event says which device is the odd one."""
    labels = {"accelerator": "huawei-Ascend910", "node.kubernetes.io/npu.chip.name": "910B3", "ascend": "on"}
    mixed = b.node("n", "huawei.com/Ascend910B3", 8, labels, extra={"huawei.com/Ascend910B4": 4})
    done = cycle(b.observed(profiles=b.profiles("huawei-910b3", "huawei-910b4-32"), nodes=[mixed]))
    assert done.inputs.snapshot.nodes == ()
    (event,) = [note for note in done.report.events if note.reason == "NodeUnmatched"]
    assert "4 of huawei.com/Ascend910B4" in event.message


SLICED: dict[str, tuple[dict[str, Any], str]] = {
    "time slices under the plain name": ({"devices": 32}, "32 devices advertised, 8 installed"),
    "time slices under their own name": ({"devices": 0, "extra": {"nvidia.com/gpu.shared": 32}}, "resource nvidia.com/gpu.shared"),
    "only MIG slices": ({"devices": None, "extra": {"nvidia.com/mig-1g.10gb": 56}}, "resource nvidia.com/mig-1g.10gb"),
    "MIG single": (
        {"devices": 56, "labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}},
        "label nvidia.com/gpu.product",
    ),
}


@pytest.mark.parametrize("case", SLICED)
def test_sliced_nodes_are_left_out(case: str) -> None:
    """Whatever dialect tells it: SharedDevices, with what gave it away in the pool's message."""
    given, why = SLICED[case]
    observed = b.observed(profiles=b.profiles(H100_PROFILE), nodes=[b.h100(**given)], pools=[b.pool(H100_PROFILE, H100_PROFILE)])
    status = cycle(observed).status("AcceleratorPool", H100_PROFILE)
    assert [row["reason"] for row in status["excluded"]] == ["SharedDevices"]
    assert why in b.condition(status, "Schedulable")[2]


def test_slices_are_a_profile_of_their_own() -> None:
    """A slice profile with a more specific entry takes the node; its slices are single devices for models that share, and no model with
    tensor 2 finds a size."""
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
        "nvidia.com/mig.strategy": "single",
        "nvidia.com/gpu.count": "56",
    }
    spec = {
        **b.profile(H100_PROFILE).spec, "unit": {"kind": "slice", "memory": "10Gi"}, "allocation": {"sizes": [1]}, "throughput": [],
        "match": [{"labels": {"nvidia.com/mig.strategy": ["single"]}, "labelPatterns": {"nvidia.com/gpu.product": ".+-MIG-1g\\.10gb"}}],
    }  # fmt: skip
    slices = b.custom("HardwareProfile", "h100-1g", spec)
    observed = b.observed(
        models=[b.big_model("two", tensor=2, footprint="8Gi"), b.big_model("one", tensor=1, footprint="8Gi")],
        profiles=[b.profile(H100_PROFILE), slices], nodes=[b.h100(devices=56, labels=labels)],
    )  # fmt: skip
    done = cycle(observed)
    assert done.inputs.fleet.pool_of == {"h100-0": "h100-1g"}
    assert {start.model for start in done.plan.starts} == {"llm/one"}
    assert b.condition(done.status("ModelDeployment", "two"), "ProfilesResolved")[:2] == ("False", "SizeNotAllowed")


def test_complete_cards_are_counted() -> None:
    """Dies 2 and 5 of an A3 node are taken: 14 dies are free and 6 whole cards; where a pod does not tell its dies, nothing is claimed."""
    pools = [b.pool(A3_PROFILE, A3_PROFILE, {"scheduler": "volcano"})]
    real = {"huawei.com/AscendReal": "Ascend910-2,Ascend910-5"}
    for told_by, blocks in ((real, 6), ({}, None)):
        pod = b.holder("x", "a3-0", b.ASCEND, 2, annotations=told_by)
        inputs = prepare(b.observed(profiles=b.profiles(A3_PROFILE), nodes=[b.a3()], pods=[pod], pools=pools))
        assert only_node(inputs, "a3-0").free == 14
        assert inputs.snapshot.nodes[0].free_blocks == blocks


# ---- OC-025: who a device is


def test_oc_025_identity_is_never_the_engines_word() -> None:
    """OC-025: a PPU that calls itself cuda is filed as a PPU; planned for an H100 and run on a PPU is WrongDevice."""
    ppu = b.ppu(labels={"nvidia.com/cuda.driver-version.full": "13.0", "feature.node/torch-device": "cuda"})
    inputs = prepare(b.observed(profiles=b.profiles(H100_PROFILE, PPU_PROFILE), nodes=[b.h100(), ppu]))
    assert inputs.fleet.pool_of == {"h100-0": H100_PROFILE, "ppu-0": PPU_PROFILE}
    model = b.big_model(tensor=1, spec={"placement": {"profiles": [H100_PROFILE]}})
    done = cycle(b.observed(models=[model], profiles=b.profiles(H100_PROFILE, PPU_PROFILE), nodes=[b.h100()]))
    child = b.child(b.applied(done.actions, "Deployment")[0])
    astray = b.replica(child, "r", node="ppu-0", serving=True, requests={b.PPU: 1})
    observed = b.observed(
        models=[model], profiles=b.profiles(H100_PROFILE, PPU_PROFILE), nodes=[b.h100(), ppu], deployments=[child], pods=[astray]
    )
    word, reason, message = b.condition(cycle(observed).status("ModelDeployment", "m"), "HardwareVerified")
    assert (word, reason) == ("False", "WrongDevice")
    assert "planned for nvidia-h100-sxm" in message
    assert "alibaba-ppu-810e" in message


# ---- pools that somebody edits


def started(spec: dict[str, Any], *, replicas: int = 4, tensor: int = 2, nodes: Any = None, **more: Any) -> Any:
    pools = [b.pool(H100_PROFILE, H100_PROFILE, spec)]
    model = b.big_model(tensor=tensor, spec={"replicas": replicas, **more.pop("model", {})})
    return cycle(b.observed(models=[model], profiles=b.profiles(H100_PROFILE), nodes=nodes or [b.h100()], pools=pools, **more))


def test_a_limit_caps_what_a_pool_gives() -> None:
    """limits.devices 5 of 8: two replicas of two devices; without it four."""
    assert len(started({}).plan.starts) == 4
    assert len(started({"limits": {"devices": 5}}).plan.starts) == 2


def test_a_reserve_stays_free() -> None:
    """reserve.devices 3 of 8: two replicas of two devices, and the status says what is kept."""
    done = started({"reserve": {"devices": 3}})
    assert len(done.plan.starts) == 2
    assert done.status("AcceleratorPool", H100_PROFILE)["devices"]["reserved"] == 3


def test_a_cordoned_pool_takes_nothing_new_and_keeps_what_runs() -> None:
    """schedulable false: no start, Schedulable=False (Cordoned); a replica that runs there stays."""
    done = started({"schedulable": False})
    assert done.plan.starts == ()
    assert b.condition(done.status("AcceleratorPool", H100_PROFILE), "Schedulable")[:2] == ("False", "Cordoned")
    child = b.child(b.applied(started({}, replicas=1).actions, "Deployment")[0])
    runs = b.replica(child, "r", node="h100-0", serving=True)
    kept = started({"schedulable": False}, replicas=1, deployments=[child], pods=[runs])
    assert (kept.plan.stop, kept.plan.starts) == ((), ())


def test_the_capacity_type_is_on_the_pods() -> None:
    """capacityType is told to everybody who selects by label, and an edit of it restarts nothing: the revision stays."""
    found = {}
    for word in ("Reserved", "Spot"):
        done = started({"capacityType": word})
        (manifest,) = b.applied(done.actions, "Deployment")
        assert manifest["spec"]["template"]["metadata"]["labels"]["polyfleet.io/capacity-class"] == word
        found[word] = b.revision(done.actions)
    assert found["Reserved"] == found["Spot"]


@pytest.mark.parametrize(("enforcement", "exact"), [("Node", True), ("Pool", False)])
def test_enforcement_says_whether_the_node_is_exact(enforcement: str, exact: bool) -> None:
    """Pool: the pool's scheduler chooses the node, so capacity is exact per pool only."""
    (cell,) = started({"enforcement": enforcement}).inputs.snapshot.cells
    assert cell.exact_nodes is exact


def node_named(done: Any, name: str) -> FleetNode:
    return only_node(done.inputs, name)


def test_sharing_is_staged() -> None:
    """sharing: Shared on a pool where an exclusive replica runs: its node stays exclusive and is listed, the empty one follows at once;
    when the replica is gone, both are shared. A replica of a model that shares holds nothing up."""
    nodes = [b.h100("n1"), b.h100("n2")]
    child = b.child(b.applied(started({}, replicas=1).actions, "Deployment")[0])
    runs = b.replica(child, "r", node="n1", serving=True)
    done = started({"sharing": "Shared"}, replicas=1, nodes=nodes, deployments=[child], pods=[runs])
    assert {name: (node_named(done, name).sharing, node_named(done, name).staged) for name in ("n1", "n2")} == {
        "n1": (False, True), "n2": (True, False),
    }  # fmt: skip
    assert sorted((cell.shared, cell.name) for cell in done.inputs.snapshot.cells) == [
        (False, H100_PROFILE), (True, f"{H100_PROFILE}/shared"),
    ]  # fmt: skip
    assert done.plan.stop == ()
    text = b.condition(done.status("AcceleratorPool", H100_PROFILE), "InventoryKnown")[2]
    assert text == "sharing: Shared waits on n1 for the exclusive replicas there"
    empty = started({"sharing": "Shared"}, replicas=1, nodes=nodes, deployments=[child])
    assert [node_named(empty, name).sharing for name in ("n1", "n2")] == [True, True]
    willing = started(
        {"sharing": "Shared"}, replicas=1, nodes=nodes, deployments=[child], pods=[runs], model={"placement": {"sharing": "Shared"}}
    )
    assert [node_named(willing, name).sharing for name in ("n1", "n2")] == [True, True]


def test_a_pools_tolerations_open_its_nodes() -> None:
    """A taint that neither profile nor pool tolerates shuts the node; a toleration in the pool opens it."""
    nodes = [b.h100(taints=[Taint("gpu", "dedicated", "NoSchedule")])]
    assert started({}, nodes=nodes).plan.starts == ()
    assert len(started({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, nodes=nodes).plan.starts) == 4
