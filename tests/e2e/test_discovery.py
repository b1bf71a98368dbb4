"""Discovery with the vendors' own label sets on running kubelets: profile, alias and devices per node, and nobody's nodes told.

The nodes of the cluster that is there wear the labels of `sandbox/fleets/vendors.yaml` one after the other, so that no second cluster is
needed. The sandbox's own profiles, which stand before the vendors' on sandbox nodes, match nothing meanwhile; labels, devices and profiles
are as they were when a scenario ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import fleet
from tests.e2e.lib import Cluster, Object, condition_row, labels

PREFIXES = ("nvidia.com/", "aliyun", "accelerator", "node.kubernetes.io/npu", "mind-cluster/", "servertype", "host-arch", "workerselector",
            "huawei.com/")  # fmt: skip
SLICES = "nvidia.com/mig-3g.40gb"
MATCH = {"sandbox-nvidia": [], "sandbox-ascend": [], "sandbox-ppu": []}
NOWHERE = [{"labels": {"polyfleet.io/nowhere": ["true"]}}]


def vendor_labels(given: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in given.items() if key.startswith(PREFIXES)}


WORN = {node.name: vendor_labels(node.labels) for node in fleet.load("vendors").nodes}


def wear(cluster: Cluster, node: str, wanted: dict[str, str], **more: str) -> None:
    """The node says what another says: its vendor labels are taken off, these are put on."""
    before = vendor_labels(labels(cluster.get("node", node)))
    wanted = {**wanted, **more}
    gone = [f"{key}-" for key in before if key not in wanted]
    cluster.kubectl("label", "node", node, "--overwrite", *gone, *(f"{key}={value}" for key, value in wanted.items()))


def profile_has(cluster: Cluster, name: str, devices: int, resource: str) -> Object:
    """Waits until the profile has one node with these devices under this name."""

    def reached(objects: list[Object]) -> bool:
        status = next((o.get("status", {}) for o in objects if o["metadata"]["name"] == name), {})
        found = (status.get("nodes"), status.get("devices", {}).get("total"), status.get("resourceNames"))
        return found == (1, devices, [resource])

    found = cluster.until(f"{name}: 1 node, {devices} x {resource}", "hwp", reached, namespace="*", timeout_s=60)
    return next(o for o in found if o["metadata"]["name"] == name)


def pool_status(cluster: Cluster, name: str, what: str, reached: Any) -> Object:
    found = cluster.until(
        f"pool {name}: {what}", "apool",
        lambda pools: any(o["metadata"]["name"] == name and reached(o.get("status", {})) for o in pools), namespace="*", timeout_s=60,
    )  # fmt: skip
    return dict(next(o for o in found if o["metadata"]["name"] == name)["status"])


def matched(count: int) -> Any:
    return lambda status: status.get("nodes", {}).get("matched") == count


def unmatched_notes(cluster: Cluster, node: str) -> list[str]:
    found = cluster.get("events", "-n", "default", "--field-selector", f"reason=NodeUnmatched,involvedObject.name={node}")["items"]
    return [str(event["message"]) for event in found]


@pytest.fixture
def vendors(cluster: Cluster) -> Iterator[Cluster]:
    if cluster.kind == "external":
        pytest.skip("changes the labels of nodes")
    cluster.settled()
    nodes = {o["metadata"]["name"]: labels(o) for o in cluster.items("nodes") if vendor_labels(labels(o))}
    stored = {name: cluster.get("hwp", name)["spec"]["match"] for name in MATCH}
    pools = {o["metadata"]["name"] for o in cluster.items("apool")}
    for name in MATCH:
        cluster.kubectl("patch", "hwp", name, "--type=merge", "-p", json.dumps({"spec": {"match": NOWHERE}}))
    try:
        yield cluster
    finally:
        remove = json.dumps([{"op": "remove", "path": f"/status/capacity/{SLICES.replace('/', '~1')}"}])
        cluster.kubectl("patch", "node", "h100-0", "--subresource=status", "--type=json", "-p", remove, check=False)  # if it is there
        for node, worn in nodes.items():
            wear(cluster, node, vendor_labels(worn))
            cluster.kubectl("label", "node", node, "--overwrite", *(f"{k}={v}" for k, v in worn.items() if k.startswith("sandbox.")))
        for name, match in stored.items():
            cluster.kubectl("patch", "hwp", name, "--type=merge", "-p", json.dumps({"spec": {"match": match}}))
        # Only when every node is back in its own pool is no other pool made any more: between two labels a node may match another profile.
        for name in MATCH:
            pool_status(cluster, name, "its node is back", matched(1))
        for name in sorted({o["metadata"]["name"] for o in cluster.items("apool")} - pools):
            cluster.kubectl("delete", "apool", name)
        cluster.until("the pools as before", "apool", lambda found: {o["metadata"]["name"] for o in found} <= pools, namespace="*")


def test_vendors_nodes_are_found(vendors: Cluster) -> None:
    """A3, H20, PPU, then MIG mixed: profile, alias, devices; then a label that contradicts the devices, and time slicing."""
    wear(vendors, "h100-0", WORN["h20-0"])
    wear(vendors, "a3-0", WORN["a3-0"])
    wear(vendors, "ppu-0", WORN["ppu-0"])
    profile_has(vendors, "nvidia-h20-96", 8, "nvidia.com/gpu")
    profile_has(vendors, "alibaba-ppu-810e", 16, "alibabacloud.com/ppu")
    found = profile_has(vendors, "huawei-910c-752", 16, "huawei.com/Ascend910")
    assert condition_row(found, "Discovered")["status"] == "True"
    status = pool_status(vendors, "huawei-910c-752", "sixteen dies", lambda s: s.get("devices", {}).get("capacity") == 16)
    assert (status["resourceName"], status["vendor"], status["scheduler"]) == ("huawei.com/Ascend910", "huawei", "default")
    assert status["devices"]["free"] == 16

    # MIG mixed: slices beside whole GPUs, put into the node's status as an administrator may; the whole ones stay whole.
    wear(vendors, "h100-0", WORN["h100-mig-0"])
    patch = json.dumps([{"op": "add", "path": f"/status/capacity/{SLICES.replace('/', '~1')}", "value": "8"}])
    vendors.kubectl("patch", "node", "h100-0", "--subresource=status", "--type=json", "-p", patch)
    profile_has(vendors, "nvidia-h100-sxm", 8, "nvidia.com/gpu")
    status = pool_status(vendors, "nvidia-h100-sxm", "eligible", lambda s: s.get("nodes") == {"matched": 1, "eligible": 1})
    assert status["devices"]["free"] == 8

    # OC-023: sixteen dies under the label of an eight-card board belong to nobody, and one event says which label it is.
    wear(vendors, "a3-0", WORN["a2-0"], **{"accelerator-type": "module-910b-8"})
    pool_status(vendors, "huawei-910c-752", "no node", matched(0))
    vendors.until("told", "hwp", lambda _: bool(unmatched_notes(vendors, "a3-0")), namespace="*", timeout_s=60)
    (note,) = unmatched_notes(vendors, "a3-0")
    assert "node.kubernetes.io/npu.chip.name=910B3" in note
    assert "huawei-910b3 with 8 devices, but the node has 16 installed" in note

    # OC-021: what is time-sliced is no whole device.
    wear(vendors, "h100-0", WORN["h100-mig-0"], **{"nvidia.com/gpu.replicas": "4"})
    status = pool_status(vendors, "nvidia-h100-sxm", "shared", lambda s: s.get("nodes", {}).get("eligible") == 0)
    assert status["excluded"] == [{"reason": "SharedDevices", "nodes": 1, "examples": ["h100-0"]}]
    assert "nvidia.com/gpu.replicas=4" in condition_row({"status": status}, "Schedulable")["message"]


def test_an_a2_board_of_eight(vendors: Cluster) -> None:
    """The same resource name with eight devices and the labels of an A2: the 910B3, once its plugin advertises eight."""
    if vendors.kind != "real":
        pytest.skip("a process node advertises what it was started with")
    wear(vendors, "a3-0", WORN["a2-0"], **{"accelerator-type": "module-910b-8"})
    restart_plugin(vendors, "a3-0", 8)
    try:
        profile_has(vendors, "huawei-910b3", 8, "huawei.com/Ascend910")
    finally:
        restart_plugin(vendors, "a3-0", 16)


def restart_plugin(cluster: Cluster, node: str, devices: int) -> None:
    """The plugin reads the count from its node's labels when it starts, as vendors' plugins look at the hardware."""
    cluster.kubectl("label", "node", node, "--overwrite", f"sandbox.polyfleet.io/device-count={devices}")
    cluster.kubectl("delete", "pod", "-n", "polyfleet-sandbox", "--field-selector", f"spec.nodeName={node}", "--wait=false")

    def advertised(nodes: list[Object]) -> bool:
        found = next(o for o in nodes if o["metadata"]["name"] == node)["status"]
        return {str(found[part].get("huawei.com/Ascend910")) for part in ("capacity", "allocatable")} == {str(devices)}

    cluster.until(f"{devices} devices on {node}", "nodes", advertised, namespace="*", timeout_s=120)
