"""Every dialect in which nodes say what they are: labels and resources as the vendors' own plugins and installers write them.

Sources of the fixtures, per row: NVIDIA k8s-device-plugin and gpu-feature-discovery; NVIDIA DRA driver chart; HAMi `pkg/device`; Huawei
MindCluster documentation and device plugin; Huawei Cloud CCE; Alibaba Cloud ACK documentation of ack-ppu-device-plugin; a private PPU
plugin as tensor-fusion's samples show it; AMD device plugin.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from hwprofiles import MatchReason, advertised_alias, held_devices, load_shipped, match_node, shared_reason
from hwprofiles.allocation import granted_size, legal_sizes
from hwprofiles.match import Matcher
from hwprofiles.resources import class_resource, installed_devices
from hwprofiles.sharing import slice_reason

VENDOR = load_shipped(sandbox=False)
CHIP, MEMORY, TYPE = "node.kubernetes.io/npu.chip.name", "mind-cluster/npu-chip-memory", "accelerator-type"
SERVER = {"workerselector": "dls-worker-node", "host-arch": "huawei-arm", "huawei.com/driver.version": "25.2.0"}
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.replicas": "1", "nvidia.com/mig.capable": "true"}  # fmt: skip
A2 = {"accelerator": "huawei-Ascend910", TYPE: "module-910b-8", CHIP: "910B3", MEMORY: "64G", "servertype": "Ascend910B-20", **SERVER}
A3 = {"accelerator": "huawei-Ascend910", TYPE: "module-a3-16", CHIP: "Ascend910", MEMORY: "64G", **SERVER}
PPU = {"aliyun.accelerator/xpu_type": "ppu", "aliyun.accelerator/ppu_name": "PPU-ZW810E", "aliyun.accelerator/ppu_count": "16",
       "aliyun.accelerator/ppu_mem": "98304MiB", "alibabacloud.com/lingjun-worker": "true"}  # fmt: skip
HAMI = {"ascend": "on"}


@dataclass(frozen=True)
class Row:
    """What a node says, and what is to be read from it. `devices`: installed, by the profile; None: it belongs to no profile."""

    labels: dict[str, str]
    capacity: dict[str, int]
    profile: str | None
    alias: str = ""
    devices: int = 0
    reason: MatchReason = MatchReason.MATCHED
    shared: bool = False
    says: tuple[str, ...] = field(default_factory=tuple)  # parts of the message


NO, CONTRADICTS, AMBIGUOUS, MIXED = MatchReason.NO_ENTRY, MatchReason.CONTRADICTION, MatchReason.AMBIGUOUS, MatchReason.MIXED
ASCEND, GPU = "huawei.com/Ascend910", "nvidia.com/gpu"
ROWS = {
    "NVIDIA device plugin": Row(H100, {GPU: 8}, "nvidia-h100-sxm", GPU, 8),
    "NVIDIA, MIG mixed: whole GPUs beside slices": Row(
        {**H100, "nvidia.com/mig.strategy": "mixed"}, {GPU: 4, "nvidia.com/mig-3g.40gb": 8}, "nvidia-h100-sxm", GPU, 4
    ),
    "NVIDIA, MIG single: the plain name means slices": Row(
        {**H100, "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "nvidia.com/gpu.count": "56"},
        {GPU: 56}, "nvidia-h100-sxm", GPU, 56, shared=True,
    ),
    "NVIDIA, time slicing under the plain name": Row(
        {**H100, "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED", "nvidia.com/gpu.replicas": "4"}, {GPU: 32}, "nvidia-h100-sxm",
        GPU, 32, shared=True,
    ),
    "NVIDIA, time slicing under the plain name, labels silent": Row(H100, {GPU: 32}, "nvidia-h100-sxm", GPU, 32, shared=True),
    "NVIDIA, time slicing, renamed": Row(
        {**H100, "nvidia.com/gpu.replicas": "4"}, {GPU: 0, "nvidia.com/gpu.shared": 32}, "nvidia-h100-sxm", GPU, 0, shared=True
    ),
    "NVIDIA, HAMi splits each GPU into ten": Row(
        H100, {GPU: 80, "nvidia.com/gpumem": 652480, "nvidia.com/gpucores": 800}, "nvidia-h100-sxm", GPU, 80, shared=True
    ),
    "NVIDIA DRA driver: no plugin, one class": Row(H100, {class_resource("gpu.nvidia.com"): 8}, "nvidia-h100-sxm", "", 8),
    "NVIDIA H20": Row({"nvidia.com/gpu.product": "NVIDIA-H20", "nvidia.com/gpu.memory": "97871"}, {GPU: 8}, "nvidia-h20-96", GPU, 8),
    "NVIDIA H20 with 141 GB is not the one with 96": Row(
        {"nvidia.com/gpu.product": "NVIDIA-H20", "nvidia.com/gpu.memory": "143771"}, {GPU: 8}, None, reason=NO, says=("NVIDIA-H20",)
    ),
    "Ascend A2, MindCluster": Row(A2, {ASCEND: 8}, "huawei-910b3", ASCEND, 8),
    "Ascend A2, other bin": Row({**A2, CHIP: "910B2", "servertype": "Ascend910B-24"}, {ASCEND: 8}, "huawei-910b2", ASCEND, 8),
    "Ascend A2, 32 GiB": Row({**A2, CHIP: "910B4", MEMORY: "32G"}, {ASCEND: 8}, "huawei-910b4-32", ASCEND, 8),
    "Ascend A2, 64 GiB of the same chip": Row({**A2, CHIP: "910B4", MEMORY: "64G"}, {ASCEND: 8}, "huawei-910b4-64", ASCEND, 8),
    "Ascend A2 Box16 is no Box8": Row({**A2, TYPE: "module-910b-16"}, {ASCEND: 16}, None, reason=NO, says=("module-910b-16",)),
    "Ascend A3": Row(A3, {ASCEND: 16}, "huawei-910c-752", ASCEND, 16),
    "Ascend A3 SuperPoD": Row(
        {**A3, TYPE: "module-a3-16-super-pod", "huawei.com/topotree.superpodid": "3"}, {ASCEND: 16}, "huawei-910c-752", ASCEND, 16
    ),
    "Ascend A3 without the administrator's label": Row(
        {"accelerator": "huawei-Ascend910", CHIP: "Ascend910"}, {ASCEND: 16}, "huawei-910c-752", ASCEND, 16
    ),
    "Ascend A3, label of an A2": Row({**A3, TYPE: "module-910b-8"}, {ASCEND: 16}, None, reason=NO, says=("module-910b-8",)),
    "Ascend A2, label of an A3": Row(
        {**A2, TYPE: "module-a3-16"}, {ASCEND: 8}, None, reason=CONTRADICTS, says=("accelerator-type=module-a3-16", "16 devices", "has 8"),
    ),
    "Ascend 910A advertises the same name": Row(
        {"accelerator": "huawei-Ascend910", CHIP: "910A", TYPE: "module", **SERVER}, {ASCEND: 8}, None, reason=NO, says=(f"{CHIP}=910A",)
    ),
    "Ascend 910A without a chip name": Row({"accelerator": "huawei-Ascend910"}, {ASCEND: 8}, None, reason=CONTRADICTS, says=("has 8",)),
    "Ascend, resource name only": Row({}, {ASCEND: 16}, None, reason=NO, says=("no known label", "huawei-910b3", "huawei-910c-752")),
    "Ascend 950": Row({"accelerator": "huawei-npu", CHIP: "Ascend950PR"}, {"huawei.com/npu": 8}, None, reason=NO, says=("Ascend950PR",)),
    "Ascend A2 under the new common name": Row(A2, {"huawei.com/npu": 8}, "huawei-910b3", "huawei.com/npu", 8),
    "Ascend A2, vNPU templates only": Row(A2, {"huawei.com/Ascend910-8c": 16}, None, reason=MatchReason.DEVICES_MISSING),
    "Ascend A3, HAMi": Row(HAMI, {"huawei.com/Ascend910C": 16, "huawei.com/Ascend910C-memory": 1048576}, "huawei-910c-752",
                           "huawei.com/Ascend910C", 16),
    "Ascend A2, HAMi": Row(HAMI, {"huawei.com/Ascend910B3": 8, "huawei.com/Ascend910B3-memory": 524288, "huawei.com/Ascend910B3-core": 800},
                           "huawei-910b3", "huawei.com/Ascend910B3", 8),
    "Ascend A2, HAMi, 32 GiB": Row(HAMI, {"huawei.com/Ascend910B4": 8}, "huawei-910b4-32", "huawei.com/Ascend910B4", 8),
    "Ascend A2, HAMi, 64 GiB": Row(HAMI, {"huawei.com/Ascend910B4-1": 8}, "huawei-910b4-64", "huawei.com/Ascend910B4-1", 8),
    "Ascend A2, HAMi and MindCluster labels": Row(
        {**A2, **HAMI}, {"huawei.com/Ascend910B3": 8}, "huawei-910b3", "huawei.com/Ascend910B3", 8
    ),
    "Ascend, HAMi's label without a chip": Row(HAMI, {ASCEND: 8}, None, reason=AMBIGUOUS, says=("huawei-910b2", "huawei-910b3")),
    "Ascend A2, two names of one silicon": Row(A2, {ASCEND: 8, "huawei.com/Ascend910B3": 8}, "huawei-910b3", ASCEND, 8),
    "Ascend, two bins on one node": Row(
        A2, {"huawei.com/Ascend910B3": 8, "huawei.com/Ascend910B4": 4}, None, reason=MIXED,
        says=("huawei-910b3", "4 of huawei.com/Ascend910B4"),
    ),
    "Ascend A3, Huawei Cloud CCE": Row({"accelerator/huawei-npu": "ascend-snt9c"}, {"huawei.com/ascend-1980": 16}, "huawei-910c-752",
                                       "huawei.com/ascend-1980", 16),
    "Ascend A2, CCE's resource": Row(A2, {"huawei.com/ascend-1980": 8}, "huawei-910b3", "huawei.com/ascend-1980", 8),
    "Ascend A2, DRA": Row(A2, {class_resource("npu.huawei.com"): 8}, "huawei-910b3", "", 8),
    "PPU, ACK": Row(PPU, {"alibabacloud.com/ppu": 16}, "alibaba-ppu-810e", "alibabacloud.com/ppu", 16),
    "PPU, private plugin": Row({**PPU, "aliyun.com/ppu.present": "true"}, {"aliyun.com/ppu": 16}, "alibaba-ppu-810e", "aliyun.com/ppu", 16),
    "PPU, both names": Row(PPU, {"aliyun.com/ppu": 16, "alibabacloud.com/ppu": 16}, "alibaba-ppu-810e", "alibabacloud.com/ppu", 16),
    "PPU with its RDMA devices": Row(PPU, {"alibabacloud.com/ppu": 16, "rdma/hca": 63}, "alibaba-ppu-810e", "alibabacloud.com/ppu", 16),
    "AMD": Row({"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.device-id": "74a1"}, {"amd.com/gpu": 8}, "amd-mi300x",
               "amd.com/gpu", 8),
    "two vendors on one node": Row({**H100, **PPU}, {GPU: 8, "alibabacloud.com/ppu": 16}, "", reason=MIXED),
    "a label of other silicon": Row(
        {**H100, "polyfleet.test/x": "y"}, {"alibabacloud.com/ppu": 16}, None, reason=CONTRADICTS,
        says=("NVIDIA-H100-80GB-HBM3", "nvidia-h100-sxm", "alibabacloud.com/ppu"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_what_a_node_says(case: str) -> None:
    """Profile, alias, installed devices and sharing of every dialect, or the words for why it is nobody's."""
    row = ROWS[case]
    found = match_node(VENDOR, row.labels, row.capacity)
    if row.profile == "":  # either of two honest answers; never a profile
        assert found.profile is None
        assert found.reason in (MIXED, AMBIGUOUS)
        return
    assert (found.profile, found.reason) == (row.profile, row.reason), found.message
    for part in row.says:
        assert part in found.message
    if row.profile is None:
        return
    spec = VENDOR[row.profile]
    alias = advertised_alias(spec, row.capacity, row.capacity)
    assert (alias.name if alias is not None else "") == row.alias
    assert installed_devices(spec, row.capacity) == row.devices
    own = {
        name: count
        for name, count in row.capacity.items()
        if name.startswith(tuple(a.name for a in spec.resources)) and "/mig-" not in name
    }
    assert (shared_reason(spec, row.labels, own) is not None) is row.shared


def test_a_matcher_that_remembers_says_the_same() -> None:
    """One Matcher for all rows, asked twice and in the other order, answers as one that is new each time."""
    matcher = Matcher(VENDOR)
    for case in [*ROWS, *reversed(ROWS)]:
        row = ROWS[case]
        assert matcher.match(row.labels, row.capacity) == match_node(VENDOR, row.labels, row.capacity), case


def test_memory_and_cores_are_no_devices() -> None:
    """HAMi's `-memory` (MiB) and `-core` beside a device are not counted as devices, neither installed nor held."""
    spec = VENDOR["huawei-910b3"]
    assert spec.resources[1].memory_resource == "huawei.com/Ascend910B3-memory"
    requests = [{"huawei.com/Ascend910B3": 2, "huawei.com/Ascend910B3-memory": 131072}, {"huawei.com/Ascend910B3-memory": 4096}]
    assert held_devices(spec, requests) == 2


def test_held_under_every_name_counts() -> None:
    """Five dialects of one chip, and the name of its DeviceClass: what is held is the sum."""
    names = (ASCEND, "huawei.com/Ascend910B3", "huawei.com/ascend-1980", "huawei.com/npu", class_resource("npu.huawei.com"))
    assert held_devices(VENDOR["huawei-910b3"], [{name: 1} for name in names]) == 5


@pytest.mark.parametrize(("wanted", "granted"), [(1, 2), (2, 2), (3, None), (4, 4), (5, None), (7, None), (15, None), (16, 16)])
def test_hami_rounds_on_910c(wanted: int, granted: int | None) -> None:
    """HAMi makes 2 of a request for 1 die of a 910C, and refuses every other odd size; so size 1 is none of the legal ones."""
    spec = VENDOR["huawei-910c-752"]
    assert granted_size(spec, "hami", wanted) == granted
    assert legal_sizes(spec, "hami") == (2, 4, 6, 8, 10, 12, 14, 16)


@pytest.mark.parametrize(
    ("profile", "scheduler", "sizes"),
    [
        ("huawei-910b3", "default", (1, 2, 3, 4, 5, 6, 7, 8)),
        ("huawei-910c-752", "default", (1, 16)),
        ("huawei-910c-752", "volcano", (1, 2, 4, 6, 8, 10, 12, 14, 16)),
        ("alibaba-ppu-810e", "default", (1, 2, 4, 8, 16)),
        ("nvidia-h100-sxm", "default", (1, 2, 4, 8)),
    ],
)
def test_sizes_by_scheduler(profile: str, scheduler: str, sizes: tuple[int, ...]) -> None:
    """The allocation table of the vendors."""
    assert legal_sizes(VENDOR[profile], scheduler) == sizes


SLICES = (
    "nvidia.com/mig-1g.10gb",
    "nvidia.com/gpu.shared",
    "huawei.com/Ascend910-8c",
    "huawei.com/npu-core",
    "alibabacloud.com/ppu-4u.4g48gb",
)
WHOLE = (GPU, ASCEND, "huawei.com/Ascend910B4-1", "huawei.com/Ascend910B3-core", "huawei.com/npu", "alibabacloud.com/ppu", "aliyun.com/ppu")


def test_slices_are_told_from_devices() -> None:
    """By name: each vendor's parts of devices are parts, and no whole device is taken for one, however close its name."""
    assert [name for name in SLICES if slice_reason({name: 1}) != f"resource {name}"] == []
    assert [name for name in WHOLE if slice_reason({name: 1}) is not None] == []
    assert slice_reason({"nvidia.com/mig-1g.10gb": 0}) is None
