"""The inventory read from a real API server: amounts of devices as they may be written, and dynamic resource allocation in each state."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from polyfleet import fleet, parse_dra
from polyfleet.cache import Cache
from polyfleet.client import Client, load_configuration
from polyfleet.objects import parse_all
from polyfleet.parse import MOST
from polyfleet.reflector import NOT_SERVED, Reflector, Source, Timing
from polyfleet.resources import Resource
from polyfleet.state import Observed

from sandbox.controlplane import ControlPlane
from tests.control import cycling
from tests.control.cycling import H100, NAMESPACE, Kubectl
from tests.unit.operator import builders as b

pytestmark = pytest.mark.control

WAIT_S = 30.0  # only a limit against a hanging test: every wait below ends with its event
BARE = "bare-node"  # a node of an H100 board without a device plugin
CLASS = "gpu.nvidia.com"


@asynccontextmanager
async def reading(kubeconfig: Path) -> AsyncIterator[Cache]:
    async with Client(await load_configuration({"KUBECONFIG": str(kubeconfig)})) as client:
        cache = Cache(client, time.monotonic)
        task = asyncio.create_task(cache.run())
        try:
            async with asyncio.timeout(WAIT_S):
                await cache.wait_synced()
            yield cache
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def create(kubectl: Kubectl, body: dict[str, Any], *extra: str) -> str:
    """The words of a refusal; "" if the API server took it."""
    done = kubectl("create", *extra, "-f", "-", stdin=json.dumps(body))
    return "" if done.returncode == 0 else str(done.stderr)


def pod(name: str, amount: object) -> dict[str, Any]:
    """A pod that is told to go to node A and never does: a gate that nobody lifts."""
    amounts = {H100: amount}
    container = {"name": "c", "image": "none", "resources": {"limits": amounts, "requests": amounts}}
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [cycling.A]}]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "schedulingGates": [{"name": "example.com/never"}],
            "containers": [container],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
        },
    }


# OC-085 and OC-086: what is written, and what the operator reads; None where the API server itself refuses it (1Ei, because its own check
# for whole numbers counts in thousandths and overflows there).
AMOUNTS: dict[str, tuple[object, int | None]] = {
    "a": (4, 4), "b": ("4", 4), "c": ("4000m", 4), "d": ("4k", 4000), "e": ("1500m", None), "f": ("0.5", None), "g": ("4e0", 4),
    "h": ("1Ei", None), "i": ("1Pi", MOST),
}  # fmt: skip


def test_oc_085_and_oc_086_amounts_on_the_real_server(apiserver: Path, clean: Kubectl) -> None:
    """OC-085: each way of writing four devices is read as four, and thousandths that are no whole device are refused. OC-086: 1Ei is
    refused, and what is just below is taken, fills the node, and makes no number grow out of bounds."""
    refused = {name: text for name, (amount, _) in AMOUNTS.items() if (text := create(clean, pod(f"amount-{name}", amount)))}
    assert refused.keys() == {name for name, (_, number) in AMOUNTS.items() if number is None}
    assert all("must be an integer" in text for text in refused.values()), refused

    async def scenario() -> None:
        async with reading(apiserver) as cache:
            seen = cache.observe()
            read = {p.name: p.requests[H100] for p in seen.pods if p.name.startswith("amount-")}
            assert read == {f"amount-{name}": number for name, (_, number) in AMOUNTS.items() if number is not None}
            built = fleet.build(seen, parse_all(seen))
            node = next(node for pool in built.pools for node in pool.nodes if node.name == cycling.A)
            assert (node.allocatable, node.free) == (8, 0)

    run(scenario)


# ---- dynamic resource allocation


def a_slice() -> dict[str, Any]:
    devices = [{"name": f"gpu-{index}", "attributes": {"type": {"string": "gpu"}}} for index in range(8)]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{BARE}-gpus"},
        "spec": {
            "driver": CLASS,
            "nodeName": BARE,
            "pool": {"name": BARE, "generation": 1, "resourceSliceCount": 1},
            "devices": [*devices, {"name": "vfio-0", "attributes": {"type": {"string": "vfio"}}}],
        },
    }


def a_class(extended: str = H100) -> dict[str, Any]:
    expression = f"device.driver == '{CLASS}' && device.attributes['{CLASS}'].type == 'gpu'"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": CLASS},
        "spec": {"selectors": [{"cel": {"expression": expression}}], **({"extendedResourceName": extended} if extended else {})},
    }


def allocate(kubectl: Kubectl, name: str, devices: list[str]) -> None:
    """A claim, and the allocation that a scheduler would write into its status."""
    request = {"name": "gpus", "exactly": {"deviceClassName": CLASS, "allocationMode": "ExactCount", "count": len(devices)}}
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"devices": {"requests": [request]}},
    }
    assert create(kubectl, body) == ""
    results = [{"request": "gpus", "driver": CLASS, "pool": BARE, "device": device} for device in devices]
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [BARE]}]}]
    status = {"allocation": {"devices": {"results": results}, "nodeSelector": {"nodeSelectorTerms": terms}}}
    patch = json.dumps({"status": status})
    done = kubectl("-n", NAMESPACE, "patch", "resourceclaim", name, "--subresource=status", "--type=merge", "-p", patch)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def bare(clean: Kubectl) -> Iterator[Kubectl]:
    """A node without a plugin whose devices a slice shows."""
    labels = {**b.H100_LABELS, "kubernetes.io/hostname": BARE}
    assert create(clean, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": BARE, "labels": labels}}) == ""
    assert create(clean, a_slice()) == ""
    clean("apply", "--server-side", "-f", "hwprofiles/shipped/nvidia-h100-sxm.yaml", check=True)
    try:
        yield clean
    finally:
        clean("-n", NAMESPACE, "delete", "resourceclaims", "--all")
        clean("delete", "deviceclass", CLASS, "--ignore-not-found")
        clean("delete", "resourceslice", f"{BARE}-gpus", "--ignore-not-found")
        clean("delete", "node", BARE, "--ignore-not-found")


def on_bare(seen: Observed) -> fleet.FleetNode | None:
    built = fleet.build(seen, parse_all(seen))
    return next((node for pool in built.pools for node in pool.nodes if node.name == BARE), None)


def test_devices_of_slices_and_claims(apiserver: Path, bare: Kubectl) -> None:
    """Eight devices that only a slice shows: seen without a class, usable with one that names the extended resource; a claim that a
    scheduler allocated holds its two."""

    async def scenario() -> None:
        async with reading(apiserver) as cache:

            async def until(what: str, reached: Callable[[fleet.FleetNode], bool]) -> fleet.FleetNode:
                def there() -> bool:
                    node = on_bare(cache.observe())
                    return node is not None and reached(node)

                assert await cache.wait_for(there, WAIT_S), f"{what}: {on_bare(cache.observe())}"
                node = on_bare(cache.observe())
                assert node is not None
                return node

            node = await until("seen", lambda node: bool(node.detail))
            assert node.detail == f"DeviceClass {CLASS} does not exist, so what a DRA driver publishes here is not counted"
            assert await asyncio.to_thread(create, bare, a_class(extended="")) == ""
            node = await until("the class", lambda node: "no extendedResourceName" in node.detail)
            assert (node.installed, node.resource) == (8, "")
            await asyncio.to_thread(bare, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(a_class()))
            node = await until("the resource", lambda node: node.resource == H100)
            assert (node.installed, node.allocatable, node.held) == (8, 8, 0)
            await asyncio.to_thread(allocate, bare, "held", ["gpu-1", "gpu-6"])
            node = await until("the claim", lambda node: node.held == 2)
            assert node.free == 6

    run(scenario)


def test_a_cluster_that_does_not_let_us_read_it_is_known_to(control_plane: ControlPlane, clean: Kubectl, tmp_path: Path) -> None:
    """Without the right: said once and asked once, everything else is read as ever and the cycle may run."""
    user = f"reader-{uuid.uuid4().hex[:8]}"
    rules = [
        {"apiGroups": ["", "apps", "policy", "polyfleet.io"], "resources": ["*"], "verbs": ["list", "watch"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}
    bind = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    assert create(clean, role) == create(clean, bind) == ""
    kubeconfig = control_plane.user_kubeconfig(tmp_path / "reader.kubeconfig", user)

    async def scenario() -> None:
        async with reading(kubeconfig) as cache:
            optional = ("deviceclasses", "horizontalpodautoscalers", "resourceclaims", "resourceslices")
            assert cache.unknown() == dict.fromkeys(optional, "ListForbidden")
            assert cache.usable
            assert {"resourceslices", "nodes"} & cache.watch_ages().keys() == {"nodes"}
            assert await asyncio.to_thread(create, clean, pod("later", 1)) == ""
            assert await cache.wait_for(lambda: cache.find("Pod", NAMESPACE, "later") is not None, WAIT_S)
        asked = [
            event["objectRef"]["resource"]
            for line in control_plane.audit_log.read_text().splitlines()
            if (event := json.loads(line))["user"]["username"] == user and event["stage"] == "ResponseComplete"
            and event.get("objectRef", {}).get("apiGroup") == "resource.k8s.io"
        ]  # fmt: skip
        assert sorted(asked) == ["deviceclasses", "resourceclaims", "resourceslices"]

    try:
        run(scenario)
    finally:
        clean("delete", "clusterrole,clusterrolebinding", user)


def test_a_cluster_without_the_api_is_known_to(apiserver: Path) -> None:
    """A version that this server does not serve, as on a cluster before resource.k8s.io/v1: known after one request, no loop of errors."""
    absent = Resource("resource.k8s.io", "v1beta9", "resourceslices", "ResourceSlice", False)

    async def scenario() -> None:
        marks: list[str] = []
        async with Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as client:
            source = Source("resourceslices", absent, parse_dra.resource_slice, optional=True)
            reader = Reflector(client, source, "", marks.append, lambda: None, time.monotonic, Timing())
            task = asyncio.create_task(reader.run())
            async with asyncio.timeout(WAIT_S):
                await reader.tried.wait()
            assert (reader.unknown, reader.resting, reader.lists) == (NOT_SERVED, True, 0)
            assert marks == ["resourceslices"]
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await reader.list_once()  # a command that looks and ends takes it as it is
            assert reader.values() == ()

    run(scenario)
