"""Legal sizes per scheduler, resource aliases and shared devices."""

from __future__ import annotations

import pytest

from hwprofiles import (
    advertised_alias,
    granted_size,
    held_devices,
    installed_devices,
    legal_sizes,
    load_shipped,
    shared_reason,
    whole_node_only,
)

PROFILES = load_shipped()
A3 = PROFILES["huawei-910c-752"]
H100 = PROFILES["nvidia-h100-sxm"]
PPU = PROFILES["alibaba-ppu-810e"]
EVEN = (2, 4, 6, 8, 10, 12, 14, 16)


@pytest.mark.parametrize(
    ("profile", "scheduler", "sizes"),
    [
        ("huawei-910c-752", "default", (1, 16)),
        ("huawei-910c-752", "volcano", (1, *EVEN)),
        ("huawei-910c-752", "hami", EVEN),
        ("sandbox-ascend", "default", (1, 16)),
        ("huawei-910b3", "default", (1, 2, 3, 4, 5, 6, 7, 8)),
        ("nvidia-h100-sxm", "default", (1, 2, 4, 8)),
        ("alibaba-ppu-810e", "default", (1, 2, 4, 8, 16)),
    ],
)
def test_sizes_per_scheduler(profile: str, scheduler: str, sizes: tuple[int, ...]) -> None:
    """A3: whole nodes or single dies where the kubelet picks dies, pairs where the scheduler packs cards, no 1 where it is rounded up."""
    assert legal_sizes(PROFILES[profile], scheduler) == sizes


def test_whole_node_rule_follows_the_scheduler() -> None:
    """Only the default scheduler restricts A3; no scheduler restricts H100."""
    assert whole_node_only(A3, "default")
    assert not whole_node_only(A3, "volcano")
    assert not whole_node_only(H100, "default")


def test_smaller_node_limits_sizes() -> None:
    """A node with 4 GPUs offers no 8, and a 8-die A3 node is whole at 8."""
    assert legal_sizes(H100, "default", per_node=4) == (1, 2, 4)
    assert legal_sizes(A3, "default", per_node=8) == (1, 8)


@pytest.mark.parametrize(
    ("scheduler", "wanted", "granted"), [("hami", 1, 2), ("hami", 4, 4), ("hami", 3, None), ("volcano", 1, 1), ("default", 2, None)]
)
def test_hami_rounds_one_up_and_refuses_odd(scheduler: str, wanted: int, granted: int | None) -> None:
    """HAMi makes 2 of 1 on A3 and refuses other odd requests; the default scheduler cannot be trusted with a pair."""
    assert granted_size(A3, scheduler, wanted) == granted


def test_first_alias_with_devices_wins() -> None:
    """A node that advertises two names of the same silicon has one set of devices, under the profile's first name."""
    both = {"huawei.com/npu": 16, "huawei.com/Ascend910": 16}
    alias = advertised_alias(A3, both, both)
    assert alias is not None
    assert alias.name == "huawei.com/Ascend910"
    assert installed_devices(A3, both) == 16


def test_alias_with_devices_is_preferred_to_an_empty_one() -> None:
    """The leftover of a removed plugin (0 devices) does not hide the name that has devices."""
    alias = advertised_alias(A3, {"huawei.com/Ascend910": 0, "huawei.com/ascend-1980": 16}, {})
    assert alias is not None
    assert alias.name == "huawei.com/ascend-1980"


def test_capacity_is_the_fallback() -> None:
    """All devices withdrawn: the name is still known from capacity; no name at all is unknown, not zero."""
    alias = advertised_alias(PPU, {"aliyun.com/ppu": 0}, {"aliyun.com/ppu": 16})
    assert alias is not None
    assert alias.name == "aliyun.com/ppu"
    assert advertised_alias(PPU, {"cpu": 4}, {"cpu": 4}) is None
    assert installed_devices(PPU, {"cpu": 4}) is None


def test_held_devices_are_summed_over_aliases() -> None:
    """Pods that hold the same silicon under different names all count."""
    held = held_devices(A3, [{"huawei.com/Ascend910": 2, "cpu": 8}, {"huawei.com/npu": 4}, {"nvidia.com/gpu": 1}])
    assert held == 6


@pytest.mark.parametrize(
    ("labels", "capacity", "word"),
    [
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED"}, {"nvidia.com/gpu": 8}, "-SHARED"),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}, {"nvidia.com/gpu": 56}, "-MIG-1g.10gb"),
        ({"nvidia.com/gpu.replicas": "4"}, {"nvidia.com/gpu": 32}, "gpu.replicas=4"),
        ({}, {"nvidia.com/gpu.shared": 32}, "nvidia.com/gpu.shared"),
        ({}, {"nvidia.com/mig-1g.10gb": 7}, "nvidia.com/mig-1g.10gb"),
        ({"nvidia.com/gpu.count": "8"}, {"nvidia.com/gpu": 32}, "32 devices advertised, 8 installed"),
        ({}, {"nvidia.com/gpu": 16}, "16 devices advertised, 8 installed"),
    ],
)
def test_shared_devices_are_found(labels: dict[str, str], capacity: dict[str, int], word: str) -> None:
    """Each sign of time-slicing or partitioning is found and named."""
    reason = shared_reason(H100, labels, capacity)
    assert reason is not None
    assert word in reason


def test_whole_devices_are_not_shared() -> None:
    """Whole devices stay whole, also beside the empty resource of a removed MIG set-up and on PPU and A3 nodes."""
    assert shared_reason(H100, {"nvidia.com/gpu.replicas": "1", "nvidia.com/gpu.count": "8"}, {"nvidia.com/gpu": 8}) is None
    assert shared_reason(H100, {}, {"nvidia.com/gpu": 8, "nvidia.com/mig-1g.10gb": 0}) is None
    assert shared_reason(PPU, {}, {"alibabacloud.com/ppu": 16}) is None
    assert shared_reason(A3, {}, {"huawei.com/Ascend910": 16}) is None
    assert shared_reason(PPU, {}, {"alibabacloud.com/ppu-4u.4g48gb": 16}) is not None
