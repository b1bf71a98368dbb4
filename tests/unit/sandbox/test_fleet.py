"""Fleet files: the shipped ones say what the vendors document, and bad ones are refused with field, value and allowed range."""

from __future__ import annotations

import json

import pytest

from sandbox import fleet
from sandbox.errors import SandboxError


def test_three_vendors_has_the_documented_resources_and_counts() -> None:
    """One node without devices, 8 H100, 16 dies of an Atlas 800 A3, 16 PPUs, under the vendors' resource names."""
    nodes = fleet.load("three-vendors").nodes
    found = [(node.name, node.devices and (node.devices.resource, node.devices.count)) for node in nodes]
    assert found == [
        ("system-0", None),
        ("h100-0", ("nvidia.com/gpu", 8)),
        ("a3-0", ("huawei.com/Ascend910", 16)),
        ("ppu-0", ("alibabacloud.com/ppu", 16)),
    ]


def test_device_nodes_tell_the_plugin_what_to_advertise() -> None:
    """The labels of the sandbox's own device plugin: kind, count and resource ("/" is not allowed in a label value)."""
    node = fleet.load("three-vendors").nodes[2]
    own = {key.rpartition("/")[2]: value for key, value in node.labels.items() if key.startswith("sandbox.polyfleet.io/")}
    assert own == {"device-kind": "ascend", "device-count": "16", "device-resource": "huawei.com_Ascend910"}
    assert node.labels["polyfleet.io/sandbox"] == "true"


def test_tiny_is_a_fleet() -> None:
    """The second shipped fleet can be read."""
    assert [node.name for node in fleet.load("tiny").nodes] == ["system-0", "h100-0"]


def test_mixed_makes_as_many_nodes_as_asked_and_cycles_the_vendors() -> None:
    """mixed:8 is one system node and seven vendor nodes in turn, with names of their own."""
    nodes = fleet.load("mixed:8").nodes
    assert [node.name for node in nodes] == ["system-0", "h100-0", "a3-0", "ppu-0", "h100-1", "a3-1", "ppu-1", "h100-2"]
    assert len({node.name for node in fleet.load("mixed:300").nodes}) == 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes: []", ["nodes must be a list of 1 to 5000"]),
        ("nodes: [{name: a, labels: {x: 8}}]", ["nodes[0].labels[x]", "8", "quote numbers"]),
        ("nodes: [{name: Big}]", ["nodes[0].name", "'Big'", "lower-case"]),
        ("nodes: [{name: a}, {name: a}]", ["nodes[1].name", "'a'", "unique"]),
        ("nodes: [{name: a, gpus: 8}]", ["unknown field 'gpus'", "devices"]),
        ("nodes: [{name: a, devices: {resource: gpu, count: 8, kind: nvidia}}]", ["devices.resource", "'gpu'", "nvidia.com/gpu"]),
        ("nodes: [{name: a, devices: {resource: nvidia.com/gpu, count: 0, kind: nvidia}}]", ["devices.count", "0", "1 to 128"]),
        ("nodes: [{name: a, devices: {resource: nvidia.com/gpu, count: true, kind: nvidia}}]", ["devices.count", "True", "1 to 128"]),
        ("nodes: [{name: a, devices: {resource: nvidia.com/gpu, count: 8, kind: tpu}}]", ["devices.kind", "'tpu'", "nvidia, ascend, ppu"]),
        ("nodes: [{name: a, labels: {node-role.kubernetes.io/x: y}}]", ["labels", "node-role.kubernetes.io/x", "outside kubernetes.io"]),
        ("nodes: [{name: a, taints: [{key: k, effect: Never}]}]", ["taints[0]", "Never", "NoSchedule"]),
        ("nodes: [", ["not YAML"]),
        ("- a", ["expected a mapping"]),
    ],
)
def test_refusals_name_field_value_and_range(text: str, words: list[str]) -> None:
    """Each bad file is refused in one sentence that a user can act on."""
    with pytest.raises(SandboxError) as refused:
        fleet.parse(text, "mine.yaml")
    for word in ["mine.yaml", *words]:
        assert word in str(refused.value)


def test_unknown_fleet_lists_the_shipped_ones() -> None:
    """A misspelled name is answered with the names that exist."""
    with pytest.raises(SandboxError, match=r"--fleet three-vendor: .*three-vendors, tiny, vendors, mixed:N"):
        fleet.load("three-vendor")


@pytest.mark.parametrize("count", [0, 5001])
def test_mixed_out_of_range(count: int) -> None:
    """The generator refuses sizes that no single control plane carries."""
    with pytest.raises(SandboxError, match="1 to 5000"):
        fleet.load(f"mixed:{count}")


def test_node_as_plain_data_reads_back() -> None:
    """What is handed to a node agent says the same as the file."""
    for node in fleet.load("three-vendors").nodes:
        data = node.as_dict()
        again = fleet.parse(f"nodes: [{json.dumps(data)}]", "again").nodes[0]
        assert (again.name, again.labels, again.devices) == (node.name, node.labels, node.devices)
