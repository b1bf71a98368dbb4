"""What `up` decides before it starts anything, and what it waits for."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox import cluster, devices, dns, fleet, processkind, realnode, state, virtual
from sandbox.errors import SandboxError

_READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("status", "lack"),
    [
        ({}, "not Ready (no report yet)"),
        ({"conditions": [{"type": "Ready", "status": "False", "message": "no network"}]}, "not Ready (no network)"),
        (_READY, "0 of 8 nvidia.com/gpu allocatable"),
        ({**_READY, "allocatable": {"nvidia.com/gpu": "7"}}, "7 of 8 nvidia.com/gpu allocatable"),
        ({**_READY, "allocatable": {"nvidia.com/gpu": "8"}}, ""),
    ],
)
def test_node_is_complete_with_readiness_and_devices(status: dict[str, Any], lack: str) -> None:
    """Ready alone is not enough: the device plugin must have registered."""
    assert cluster.missing_on_node(fleet.load("three-vendors").nodes[1], status) == lack


def test_large_fleets_become_virtual_by_themselves() -> None:
    """A hundred nodes cannot run for real, and the reason says so."""
    kind, why = cluster.choose(None, fleet.load("mixed:100"))
    assert kind == "virtual"
    assert "100 nodes" in why


@pytest.mark.parametrize("kind", ["real", "process"])
def test_large_fleets_are_refused_for_running_nodes(kind: str) -> None:
    """Asking for a hundred kubelets names the limit and the way out."""
    with pytest.raises(SandboxError, match=r"at most 16\. Use --nodes virtual"):
        cluster.choose(kind, fleet.load("mixed:100"))


def test_asked_kind_is_taken() -> None:
    """--nodes wins over the probe."""
    assert cluster.choose("process", fleet.load("tiny")) == ("process", "as asked by --nodes")


def test_kubelets_are_ended_first() -> None:
    """A kubelet would start containers again while they are being ended."""
    names = ["containerd-a", "etcd", "kube-apiserver", "kubelet-a", "forwarder"]
    assert min(names, key=cluster._stop_order) == "kubelet-a"


def test_running_cluster_of_another_kind_is_not_replaced() -> None:
    """A second `up` with other wishes says how to end the first cluster."""
    tiny = fleet.load("tiny")
    running = state.Cluster(kind="real", fleet="tiny", why="", fleet_text=tiny.text, ready=True)
    cluster._refuse_another(running, cluster.Wanted("tiny", "real"), tiny)
    with pytest.raises(SandboxError, match=r"--nodes process: .*polyfleet-sandbox down"):
        cluster._refuse_another(running, cluster.Wanted(None, "process"), None)
    with pytest.raises(SandboxError, match=r"--fleet three-vendors: .*fleet tiny runs here"):
        cluster._refuse_another(running, cluster.Wanted("three-vendors", None), fleet.load("three-vendors"))


def test_device_ids_as_kubelets_know_them() -> None:
    """The ids of the three vendors' plugins."""
    ids = [devices.device_ids(node) for node in fleet.load("three-vendors").nodes]
    assert [each[:1] + each[-1:] for each in ids] == [
        [], ["GPU-h100-0-0", "GPU-h100-0-7"], ["Ascend910-0", "Ascend910-15"], ["ppu-0", "ppu-15"],
    ]  # fmt: skip


def test_withdrawing_writes_the_plugins_file(tmp_path: Any) -> None:
    """One id per line, in the devices' order; restoring takes it out; unknown ids and nodes are refused with what there is."""
    loaded = fleet.load("three-vendors")
    found = state.Cluster(kind="process", fleet=loaded.name, why="", fleet_text=loaded.text, ready=True)
    for device in ("Ascend910-10", "Ascend910-2"):
        devices.change(tmp_path, found, "withdraw", "a3-0", device)
    file = processkind.node_state(tmp_path, "a3-0") / "withdrawn"
    assert file.read_text() == "Ascend910-2\nAscend910-10\n"
    assert "15 of 16" in devices.change(tmp_path, found, "restore", "a3-0", "Ascend910-2")
    assert file.read_text() == "Ascend910-10\n"
    with pytest.raises(SandboxError, match=r"'Ascend910-16'; allowed: Ascend910-0 to Ascend910-15"):
        devices.change(tmp_path, found, "withdraw", "a3-0", "Ascend910-16")
    with pytest.raises(SandboxError, match=r"no node 'a4-0'; there are: a3-0, h100-0"):
        devices.change(tmp_path, found, "withdraw", "a4-0", "x")


def test_addresses_of_real_nodes_do_not_meet(tmp_path: Any) -> None:
    """Every node has its own address and its own range of pods, and none is the control plane's."""
    nodes = realnode.layout(tmp_path, fleet.load("three-vendors").nodes)
    assert [node.address for node in nodes] == ["10.77.0.10", "10.77.0.11", "10.77.0.12", "10.77.0.13"]
    assert [node.pods for node in nodes] == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]
    assert realnode.CONTROL_ADDRESS not in [node.address for node in nodes]


def test_pods_ask_the_address_where_cluster_dns_answers(tmp_path: Any) -> None:
    """The kubelet writes this address into each pod's resolv.conf; CoreDNS listens there."""
    node = realnode.layout(tmp_path, fleet.load("tiny").nodes)[0]
    config = realnode._kubelet_config(node, "/pods")
    assert (config["clusterDNS"], config["clusterDomain"]) == (["10.77.0.1"], "cluster.local")
    assert dns.corefile(realnode.DNS_ADDRESS, tmp_path / "k").count("bind 10.77.0.1\n") == 2


def test_cluster_dns_reads_what_it_answers_for_and_nothing_else() -> None:
    """No Secrets, no pods, no writing; and the rights belong to its own user alone."""
    (_, role), (_, binding) = dns.rights()
    granted = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert granted == {(resource, verb) for resource in ("namespaces", "services", "endpointslices") for verb in ("list", "watch")}
    assert [subject["name"] for subject in binding["subjects"]] == ["polyfleet-sandbox:dns"]


def test_paths_with_quotes_survive_the_mount_script(tmp_path: Any) -> None:
    """A checkout may lie in a folder with blanks and quotes."""
    node = realnode.layout(tmp_path / "it's a b", fleet.load("tiny").nodes)[0]
    assert "it'\\''s a b" in realnode.mount_script(node, tmp_path)


@pytest.mark.parametrize("name", ["/a/.sandbox", "/b/.sandbox", "/c/d/.sandbox"])
def test_process_nodes_stay_off_the_common_loopback_range(name: str) -> None:
    """127.0.x.x belongs to everybody else; 127.255.x.x holds the broadcast address."""
    from pathlib import Path

    second = int(processkind.pod_range(Path(name), 3).split(".")[1])
    assert 1 <= second <= 254


def test_virtual_pods_wait_for_their_readiness_gates() -> None:
    """No stage sets a gate; Ready asks for all of them."""
    stages = {stage["metadata"]["name"]: stage["spec"] for stage in virtual.stages()}
    assert "readinessGates" not in str([spec["next"] for spec in stages.values()])
    keys = [each["key"] for each in stages["pod-ready"]["selector"]["matchExpressions"]]
    assert any("readinessGates" in key for key in keys)


def test_virtual_node_offers_its_devices() -> None:
    """Allocatable is what the fleet says."""
    node = virtual.node_object(fleet.load("three-vendors").nodes[2])
    assert node["status"]["allocatable"]["huawei.com/Ascend910"] == "16"
