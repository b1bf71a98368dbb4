"""Node fixtures with the labels that the vendors' own software writes: which profile they belong to, or why to none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hwprofiles import HardwareProfileSpec, MatchReason, load_shipped, match_node

VENDOR = load_shipped(sandbox=False)
ALL = load_shipped()
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.memory": "81559"}
A3 = {"accelerator": "huawei-Ascend910", "accelerator-type": "module-a3-16", "node.kubernetes.io/npu.chip.name": "Ascend910"}
A2 = {"accelerator": "huawei-Ascend910", "accelerator-type": "module-910b-8", "mind-cluster/npu-chip-memory": "64G"}
PPU = {"aliyun.accelerator/xpu_type": "ppu", "aliyun.accelerator/ppu_name": "PPU-ZW810E", "aliyun.accelerator/ppu_count": "16"}
CHIP = "node.kubernetes.io/npu.chip.name"
ASCEND = "huawei.com/Ascend910"


def minimal(match: list[dict[str, Any]], resource: str = "example.com/dev") -> HardwareProfileSpec:
    return HardwareProfileSpec.parse(
        {
            "vendor": "v",
            "family": "f",
            "unit": {"kind": "card", "memory": "1Gi"},
            "resources": [{"name": resource}],
            "allocation": {"sizes": [1]},
            "match": match,
        }
    )


@pytest.mark.parametrize(
    ("labels", "capacity", "profile"),
    [
        pytest.param(H100, {"nvidia.com/gpu": 8}, "nvidia-h100-sxm", id="h100"),
        pytest.param(
            {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED"}, {"nvidia.com/gpu": 32}, "nvidia-h100-sxm", id="h100-shared"
        ),
        pytest.param({"nvidia.com/gpu.product": "NVIDIA-H200"}, {"nvidia.com/gpu": 8}, "nvidia-h200-sxm", id="h200"),
        pytest.param(
            {"nvidia.com/gpu.product": "NVIDIA-H20", "nvidia.com/gpu.memory": "97871"}, {"nvidia.com/gpu": 8}, "nvidia-h20-96", id="h20-96"
        ),
        pytest.param({"nvidia.com/gpu.product": "NVIDIA-L20"}, {"nvidia.com/gpu": 4}, "nvidia-l20", id="l20"),
        pytest.param({"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}, {"amd.com/gpu": 8}, "amd-mi300x", id="mi300x"),
        pytest.param(A3, {ASCEND: 16}, "huawei-910c-752", id="a3"),
        pytest.param({**A3, "accelerator-type": "module-a3-16-super-pod"}, {ASCEND: 16}, "huawei-910c-752", id="a3-super-pod"),
        pytest.param({"accelerator": "huawei-Ascend910", CHIP: "Ascend910"}, {ASCEND: 16}, "huawei-910c-752", id="a3-without-type"),
        pytest.param({**A2, CHIP: "910B3"}, {ASCEND: 8}, "huawei-910b3", id="910b3"),
        pytest.param({**A2, CHIP: "910B2"}, {ASCEND: 8}, "huawei-910b2", id="910b2"),
        pytest.param({CHIP: "910B4", "mind-cluster/npu-chip-memory": "32G"}, {ASCEND: 2}, "huawei-910b4-32", id="910b4-32"),
        pytest.param({CHIP: "910B4-1", "mind-cluster/npu-chip-memory": "64G"}, {ASCEND: 8}, "huawei-910b4-64", id="910b4-64"),
        pytest.param(PPU, {"alibabacloud.com/ppu": 16}, "alibaba-ppu-810e", id="ppu"),
        pytest.param({"aliyun.accelerator/xpu_type": "ppu"}, {"aliyun.com/ppu": 16}, "alibaba-ppu-810e", id="ppu-second-plugin"),
    ],
)
def test_vendor_nodes(labels: dict[str, str], capacity: dict[str, int], profile: str) -> None:
    """Every row of the identity tables finds its profile among all shipped vendor profiles."""
    found = match_node(VENDOR, labels, capacity)
    assert (found.profile, found.reason) == (profile, MatchReason.MATCHED)


def test_oc_023_label_contradicts_devices() -> None:
    """module-910b-8 with 16 units, profiles of 910C only: nobody's node; label, value and the profiles tried are named."""
    only_910c = {name: spec for name, spec in VENDOR.items() if name.startswith("huawei-910c")}
    found = match_node(only_910c, {"accelerator": "huawei-Ascend910", "accelerator-type": "module-910b-8"}, {ASCEND: 16})
    assert found.profile is None
    assert found.reason is MatchReason.NO_ENTRY
    assert "accelerator-type=module-910b-8" in found.message
    assert found.tried == ("huawei-910c-752",)
    assert dict(found.labels)["accelerator-type"] == "module-910b-8"


@pytest.mark.parametrize(("labels", "units"), [(A3, 8), ({**A2, CHIP: "910B3"}, 16)])
def test_contradiction_with_the_installed_count(labels: dict[str, str], units: int) -> None:
    """A label that says A3 on 8 units, or 910B3 on 16, is a contradiction and matches nothing."""
    found = match_node(VENDOR, labels, {ASCEND: units})
    assert (found.profile, found.reason) == (None, MatchReason.CONTRADICTION)
    assert f"{units} installed" in found.message


LABELS_AT_ODDS = {
    "A3 by the administrator, 910B3 by the driver": ({**A3, CHIP: "910B3"}, "huawei-910c-752", "huawei-910b3"),
    "A3 super pod, 910B2": ({**A3, "accelerator-type": "module-a3-16-super-pod", CHIP: "910B2"}, "huawei-910c-752", "huawei-910b2"),
    "CCE's A3 label, 910B3": (
        {"accelerator/huawei-npu": "ascend-snt9c", CHIP: "910B3", "accelerator-type": "module-a3-16"},
        "huawei-910b3",
    ),
}


@pytest.mark.parametrize("units", [8, 16])
@pytest.mark.parametrize("case", LABELS_AT_ODDS)
def test_labels_that_name_two_devices_match_nothing(case: str, units: int) -> None:
    """A contradiction matches no profile, whatever the count says: label, value and the profiles that each names are told."""
    labels, *named = LABELS_AT_ODDS[case]
    found = match_node(VENDOR, labels, {ASCEND: units})
    assert (found.profile, found.reason) == (None, MatchReason.CONTRADICTION)
    assert f"{CHIP}={labels[CHIP]}" in found.message
    assert all(name in found.message for name in named)


@pytest.mark.parametrize(
    ("labels", "units"),
    [
        ({**A3, "mind-cluster/npu-chip-memory": "32G"}, 16),
        ({**A3, "accelerator": "huawei-Ascend310P"}, 16),
        ({**A2, CHIP: "910B3", "mind-cluster/npu-chip-memory": "32G"}, 8),
        ({**A2, CHIP: "910B2", "accelerator": "huawei-Ascend310P"}, 8),
        ({**A2, CHIP: "910B4", "accelerator": "huawei-npu"}, 8),
        ({"accelerator/huawei-npu": "ascend-snt9c", CHIP: "910B3"}, 16),
        ({"accelerator/huawei-npu": "ascend-snt9c", "accelerator-type": "module-910b-16"}, 16),
    ],
)
def test_a_label_that_the_device_cannot_have_matches_nothing(labels: dict[str, str], units: int) -> None:
    """Memory, kind of device or administrator's label of another silicon than the chip's: nobody's node."""
    assert match_node(VENDOR, labels, {ASCEND: units}).profile is None


def test_the_910c_560_bin_is_never_automatic() -> None:
    """No label separates the bins, so the lower one has no match entry."""
    assert VENDOR["huawei-910c-560"].match == ()


def test_resource_name_alone_identifies_nothing() -> None:
    """910A, 910B and 910C all advertise huawei.com/Ascend910: without labels there is no profile, and the profiles tried are named."""
    found = match_node(VENDOR, {}, {ASCEND: 16})
    assert (found.profile, found.reason) == (None, MatchReason.NO_ENTRY)
    assert "huawei-910c-752" in found.tried


def test_ordinary_node_is_not_reported() -> None:
    """A node without devices, even one of the sandbox, is no accelerator node."""
    for labels in ({}, {"polyfleet.io/sandbox": "true"}, {"kubernetes.io/arch": "arm64"}):
        assert match_node(ALL, labels, {"cpu": 4}).reason is MatchReason.NO_DEVICES


def test_plugin_not_up_yet_waits() -> None:
    """An A3 node whose plugin has not registered is neither matched by count nor reported as unmatched."""
    found = match_node(VENDOR, A3, {})
    assert (found.profile, found.reason) == (None, MatchReason.DEVICES_MISSING)


def test_plugin_restarting_keeps_the_profile() -> None:
    """A resource left with 0 devices is unknown and contradicts nothing, so a restart of the plugin does not move the node."""
    assert match_node(VENDOR, A3, {ASCEND: 0}).profile == "huawei-910c-752"


def test_tie_belongs_to_nobody() -> None:
    """Two profiles that match with equally many label keys own nothing, and the message names both."""
    profiles = {"b": minimal([{"labels": {"k": ["v"]}}]), "a": minimal([{"labels": {"k": ["v", "w"]}}])}
    found = match_node(profiles, {"k": "v"}, {"example.com/dev": 1})
    assert (found.profile, found.reason) == (None, MatchReason.AMBIGUOUS)
    assert "a and b" in found.message
    assert match_node(profiles, {"k": "w"}, {"example.com/dev": 1}).profile == "a"


def test_more_label_keys_win_in_any_order() -> None:
    """The entry with more label keys wins, whichever profile comes first by name."""
    wide, narrow = minimal([{"labels": {"k": ["v"]}}]), minimal([{"labels": {"k": ["v"], "l": ["w"]}}])
    labels, capacity = {"k": "v", "l": "w"}, {"example.com/dev": 1}
    assert match_node({"a": wide, "b": narrow}, labels, capacity).profile == "b"
    assert match_node({"a": narrow, "b": wide}, labels, capacity).profile == "a"


def test_units_separate_profiles_with_equal_labels() -> None:
    """unitsPerNode tells two profiles with the same label apart; the one that fits wins over the one that contradicts."""
    profiles = {
        "eight": minimal([{"labels": {"k": ["v"]}, "unitsPerNode": 8}]),
        "sixteen": minimal([{"labels": {"k": ["v"]}, "unitsPerNode": 16}]),
    }
    assert match_node(profiles, {"k": "v"}, {"example.com/dev": 16}).profile == "sixteen"


def test_excluded_labels() -> None:
    """notLabels excludes the listed values, and any value when the list is empty."""
    some, every = (minimal([{"labels": {"k": ["v"]}, "notLabels": {"x": values}}]) for values in (["1"], []))
    capacity = {"example.com/dev": 1}
    assert match_node({"p": some}, {"k": "v", "x": "1"}, capacity).profile is None
    assert match_node({"p": some}, {"k": "v", "x": "2"}, capacity).profile == "p"
    assert match_node({"p": every}, {"k": "v", "x": "2"}, capacity).profile is None
    assert match_node({"p": every}, {"k": "v"}, capacity).profile == "p"


def test_patterns_match_whole_values() -> None:
    """A pattern must fit the whole value: an H100 NVL is not an H100 SXM."""
    assert match_node(VENDOR, {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-NVL"}, {"nvidia.com/gpu": 8}).profile is None


def _sandbox_nodes() -> list[Any]:
    folder = Path(__file__).parents[3] / "sandbox/fleets"
    nodes = [node for path in sorted(folder.glob("*.yaml")) for node in yaml.safe_load(path.read_text())["nodes"] if node.get("devices")]
    return [pytest.param(node, id=node["name"]) for node in nodes]


@pytest.mark.parametrize("node", _sandbox_nodes())
def test_sandbox_profile_wins_on_sandbox_nodes(node: dict[str, Any]) -> None:
    """On every shipped fleet's device node the sandbox profile of its kind wins over the vendor's; without the mark it loses."""
    wanted = {"nvidia": "sandbox-nvidia", "ascend": "sandbox-ascend", "ppu": "sandbox-ppu"}[node["devices"]["kind"]]
    capacity = {node["devices"]["resource"]: node["devices"]["count"]}
    assert match_node(ALL, {**node["labels"], "polyfleet.io/sandbox": "true"}, capacity).profile == wanted
    assert not (match_node(ALL, node["labels"], capacity).profile or "").startswith("sandbox-")


def test_a_label_that_is_not_there_is_named() -> None:
    """NVIDIA-H20 is sold with 96 and 141 GB: without the label of its memory it belongs to nobody, and the message names that label."""
    found = match_node(VENDOR, {"nvidia.com/gpu.product": "NVIDIA-H20"}, {"nvidia.com/gpu": 8})
    assert (found.profile, found.reason) == (None, MatchReason.NO_ENTRY)
    assert "only one label is missing for nvidia-h20-96 (label nvidia.com/gpu.memory)" in found.message
    other = match_node(VENDOR, {"nvidia.com/gpu.product": "NVIDIA-H20", "nvidia.com/gpu.memory": "143771"}, {"nvidia.com/gpu": 8})
    assert (other.reason, "missing" in other.message) == (MatchReason.NO_ENTRY, False)
