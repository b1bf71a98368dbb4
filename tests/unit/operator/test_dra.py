"""Dynamic resource allocation: which devices slices show, which claims hold, and that each counts once.

Raw objects are written as the API server stores them (resource.k8s.io/v1); the classes are those of the NVIDIA and Ascend drivers' charts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from polyfleet import dra, parse_dra
from polyfleet.decide import prepare
from polyfleet.state import DeviceClassState, NodeState, Observed, PodState

from hwprofiles.resources import class_resource
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.test_fleet import only_node

PROFILE, DRIVER = "nvidia-h100-sxm", "gpu.nvidia.com"
SELECTOR = "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'"


def device(name: str, kind: str = "gpu", **more: Any) -> dict[str, Any]:
    return {"name": name, "attributes": {"type": {"string": kind}, "uuid": {"string": f"GPU-{name}"}}, **more}


def gpus(count: int) -> list[dict[str, Any]]:
    return [device(f"gpu-{index}") for index in range(count)]


def slice_(node: str, devices: list[dict[str, Any]], *, name: str = "", generation: int = 1, driver: str = DRIVER) -> dict[str, Any]:
    spec = {
        "driver": driver,
        "nodeName": node,
        "pool": {"name": node, "generation": generation, "resourceSliceCount": 1},
        "devices": devices,
    }
    return {"metadata": {"name": name or f"{node}-{driver}-{generation}"}, "spec": spec}


def claim(
    name: str, node: str, devices: Iterable[str], *, pods: Iterable[str] = (), extended: bool = False, **result: Any
) -> dict[str, Any]:
    results = [{"request": "r", "driver": DRIVER, "pool": node, "device": each, **result} for each in devices]
    selector = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}
    metadata: dict[str, Any] = {"namespace": "other", "name": name, "uid": f"uid-{name}"}
    if extended:
        metadata["annotations"] = {"resource.kubernetes.io/extended-resource-claim": "true"}
    return {
        "metadata": metadata,
        "status": {
            "allocation": {"devices": {"results": results}, "nodeSelector": selector},
            "reservedFor": [{"resource": "pods", "name": uid, "uid": uid} for uid in pods],
        },
    }


def a_class(name: str = DRIVER, extended: str = b.H100, selector: str | None = SELECTOR) -> dict[str, Any]:
    spec: dict[str, Any] = {"selectors": [{"cel": {"expression": selector}}]} if selector is not None else {}
    return {"metadata": {"name": name}, "spec": {**spec, **({"extendedResourceName": extended} if extended else {})}}


def bare(name: str = "h100-0", **more: Any) -> NodeState:
    """An H100 node without a device plugin."""
    return b.h100(name, devices=None, **more)


def seen(
    *,
    nodes: Iterable[NodeState] = (),
    slices: Iterable[dict[str, Any]] = (),
    claims: Iterable[dict[str, Any]] = (),
    classes: Iterable[dict[str, Any]] = (),
    pods: Iterable[PodState] = (),
    **more: Any,
) -> Observed:
    given = b.observed(
        profiles=b.profiles(PROFILE), pools=[b.pool(PROFILE, PROFILE)], nodes=list(nodes) or [bare()], pods=pods, **more
    )  # fmt: skip
    return replace(
        given,
        slices=tuple(parse_dra.resource_slice(raw) for raw in slices),
        claims=tuple(state for raw in claims if (state := parse_dra.resource_claim(raw)) is not None),
        device_classes=tuple(parse_dra.device_class(raw) for raw in classes),
    )


def counted(observed: Observed, name: str = "h100-0") -> tuple[int, int, int, str]:
    """(installed, allocatable, held, reason)."""
    node = only_node(prepare(observed), name)
    return node.installed, node.allocatable, node.held, node.reason


def test_devices_that_only_slices_show_are_capacity() -> None:
    """Eight devices of the class, no plugin: eight devices under the class's extended resource, and a replica asks for that name."""
    observed = seen(models=[b.big_model(tensor=4)], slices=[slice_("h100-0", gpus(8))], classes=[a_class()])
    assert counted(observed) == (8, 8, 0, "")
    done = cycle(observed)
    assert len(done.plan.starts) == 1
    (manifest,) = b.applied(done.actions, "Deployment")
    assert manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {b.H100: "4"}


def test_a_device_that_plugin_and_slice_show_counts_once() -> None:
    """Eight in allocatable and the same eight in a slice are eight; the plugin's number wins where they differ, as for the scheduler."""
    assert counted(seen(nodes=[b.h100()], slices=[slice_("h100-0", gpus(8))], classes=[a_class()])) == (8, 8, 0, "")
    assert counted(seen(nodes=[b.h100(devices=4)], slices=[slice_("h100-0", gpus(8))], classes=[a_class()])) == (4, 4, 0, "")


def test_a_plugin_that_was_taken_away_leaves_the_devices_to_the_driver() -> None:
    """The kubelet keeps the name with nought; the scheduler then looks at DRA, and so is counted here."""
    gone = b.h100(devices=8, allocatable=0)
    assert counted(seen(nodes=[gone], slices=[slice_("h100-0", gpus(8))], classes=[a_class()])) == (8, 8, 0, "")


def test_only_devices_of_the_class_on_their_node_count() -> None:
    """Other types of the same driver, other drivers, older generations of the pool and other nodes do not."""
    mixed = [*gpus(4), device("mig-1", "mig"), device("vfio-1", "vfio"), device("gpu-bad", taints=[{"key": "x", "effect": "NoExecute"}])]
    slices = [
        slice_("h100-0", gpus(8), generation=1), slice_("h100-0", mixed, generation=2), slice_("h100-1", gpus(2)),
        slice_("h100-0", gpus(3), driver="nic.example.com"),
    ]  # fmt: skip
    observed = seen(nodes=[bare(), bare("h100-1")], slices=slices, classes=[a_class()])
    assert counted(observed) == (5, 4, 0, "")
    assert counted(observed, "h100-1") == (2, 2, 0, "")


HELD: dict[str, tuple[list[dict[str, Any]], list[PodState], int]] = {
    "a claim whose pod asks for nothing by name": ([claim("c", "h100-0", ["gpu-0", "gpu-1"], pods=["uid-p"])], [], 2),
    "two claims of one device": ([claim("c", "h100-0", ["gpu-0"]), claim("d", "h100-0", ["gpu-0", "gpu-1"])], [], 2),
    "the scheduler's claim and the pod whose request it answers": (
        [claim("c", "h100-0", ["gpu-0", "gpu-1"], pods=["uid-p"], extended=True)], [b.holder("p", "h100-0", b.H100, 2)], 2,
    ),
    "the scheduler's claim, and the pod is not seen": ([claim("c", "h100-0", ["gpu-0", "gpu-1"], pods=["uid-p"], extended=True)], [], 2),
    "a pod with a request and a claim of its own": (
        [claim("c", "h100-0", ["gpu-2"], pods=["uid-p"])], [b.holder("p", "h100-0", b.H100, 2)], 3,
    ),
    "a pod that names the class": ([], [b.holder("p", "h100-0", class_resource(DRIVER), 3)], 3),
    "administrators look, and take nothing": ([claim("c", "h100-0", ["gpu-0"], adminAccess=True)], [], 0),
    "a claim on another node": ([claim("c", "h100-1", ["gpu-0"])], [], 0),
    "a claim that waits": ([{"metadata": {"namespace": "x", "name": "c", "uid": "u"}, "spec": {}}], [], 0),
    "a device whose slice is gone": ([claim("c", "h100-0", ["gpu-99"])], [], 1),
}  # fmt: skip


@pytest.mark.parametrize("case", HELD)
def test_what_claims_hold(case: str) -> None:
    """Devices held through claims count, each once, whoever the pod is."""
    claims, pods, held = HELD[case]
    slices = [slice_("h100-0", gpus(8)), slice_("h100-1", gpus(8))]
    observed = seen(nodes=[bare(), bare("h100-1")], slices=slices, claims=claims, pods=pods, classes=[a_class()])
    assert counted(observed)[2] == held
    assert next(node for node in prepare(observed).snapshot.nodes if node.name == "h100-0").held_by_others == held


def test_a_claimed_part_makes_the_whole_unavailable() -> None:
    """A MIG device that draws on the counters of GPU 0 is allocated: GPU 0 is held, GPU 1 is free."""
    parts = [
        device(f"gpu-{index}", consumesCounters=[{"counterSet": f"gpu-{index}", "counters": {}}]) for index in range(2)
    ] + [device("mig-0", "mig", consumesCounters=[{"counterSet": "gpu-0", "counters": {}}])]  # fmt: skip
    observed = seen(slices=[slice_("h100-0", parts)], claims=[claim("c", "h100-0", ["mig-0"])], classes=[a_class()])
    assert counted(observed) == (2, 2, 1, "")


UNUSABLE: dict[str, tuple[list[dict[str, Any]], dict[str, str], int, str]] = {
    "no extended resource": ([a_class(extended="")], {}, 8, "has no extendedResourceName"),
    "another resource than the profile's": (
        [a_class(extended="example.com/gpu")],
        {},
        8,
        "example.com/gpu, which is none of spec.resources",
    ),
    "no such class": ([], {}, 0, f"DeviceClass {DRIVER} does not exist"),
    "classes may not be read": ([], {"deviceclasses": "ListForbidden"}, 0, "cannot be read (ListForbidden)"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_devices_that_pods_cannot_ask_for_are_seen_and_not_used(case: str) -> None:
    """The node is its profile's; devices of a known class are counted, those of an unknown one are unknown. It takes no replica, and the
    pool says why in words."""
    classes, unknown, devices, text = UNUSABLE[case]
    observed = seen(models=[b.big_model(tensor=1)], slices=[slice_("h100-0", gpus(8))], classes=classes, unknown=unknown)
    assert counted(observed) == (devices, devices, 0, "DevicesMissing")
    done = cycle(observed)
    assert done.plan.starts == ()
    status = done.status("AcceleratorPool", PROFILE)
    assert status["devices"]["capacity"] == devices
    assert status["devices"]["free"] == 0
    assert text in b.condition(status, "Schedulable")[2]
    assert text in b.condition(status, "InventoryKnown")[2]


def test_a_selector_that_is_not_understood_is_not_guessed_at() -> None:
    """CEL that says more than equality: the class's devices are unknown, none is counted and none is made up."""
    odd = a_class(selector="device.attributes['gpu.nvidia.com'].memory.compareTo(quantity('80Gi')) >= 0")
    observed = seen(slices=[slice_("h100-0", gpus(8))], classes=[odd])
    assert counted(observed) == (0, 0, 0, "DevicesMissing")
    text = b.condition(cycle(observed).status("AcceleratorPool", PROFILE), "InventoryKnown")[2]
    assert "selects its devices by more than driver and attributes" in text


SELECTORS = {
    SELECTOR: True,
    'device.driver == "gpu.nvidia.com"': True,
    "device.driver == 'npu.huawei.com'": False,
    "device.attributes['gpu.nvidia.com'].type == 'mig'": False,
    "device.attributes['gpu.nvidia.com'].absent == 'x'": False,
    "device.driver == 'gpu.nvidia.com' || true": None,
}


@pytest.mark.parametrize("text", SELECTORS)
def test_selectors(text: str) -> None:
    """What each expression selects of a plain GPU, and None for what is not understood."""
    observed = replace(
        seen(slices=[slice_("h100-0", gpus(1))]), device_classes=(DeviceClassState(DRIVER, b.H100, (text,)),)
    )  # fmt: skip
    found = dra.view(observed, frozenset({DRIVER}))
    assert (None if DRIVER in found.faults else bool(found.stock)) is SELECTORS[text]


def test_unreadable_slices_are_said_and_stop_nothing() -> None:
    """Without the API, or without the right: the plugin's devices are used as ever, and the pool says what is not counted."""
    unknown = {"resourceslices": "NotServed", "resourceclaims": "NotServed", "deviceclasses": "NotServed"}
    observed = seen(models=[b.big_model(tensor=4)], nodes=[b.h100()], unknown=unknown)
    done = cycle(observed)
    assert len(done.plan.starts) == 1
    word, _, text = b.condition(done.status("AcceleratorPool", PROFILE), "InventoryKnown")
    assert word == "True"
    assert text.startswith("resourceslices (NotServed), resourceclaims (NotServed), deviceclasses (NotServed) cannot be read")


def test_an_ascend_node_by_its_drivers_slices() -> None:
    """npu.huawei.com publishes deviceType and physicId only: class and driver are enough."""
    npus = [
        {"name": f"npu-{index}", "attributes": {"deviceType": {"string": "Ascend910"}, "physicId": {"int": index}}} for index in range(16)
    ]
    node = b.a3(devices=None)
    observed = replace(
        b.observed(profiles=b.profiles("huawei-910c-752"), nodes=[node]),
        slices=(parse_dra.resource_slice(slice_("a3-0", npus, driver="npu.huawei.com")),),
        device_classes=(parse_dra.device_class(a_class("npu.huawei.com", b.ASCEND, "device.driver == 'npu.huawei.com'")),),
    )
    assert counted(observed, "a3-0") == (16, 16, 0, "")
