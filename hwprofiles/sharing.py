"""Tells nodes whose devices are time-sliced or partitioned: their units are not whole devices and must not be planned as such."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from hwprofiles.model import HardwareProfileSpec

_PRODUCT = "nvidia.com/gpu.product"
_COUNT = "nvidia.com/gpu.count"
_REPLICAS = "nvidia.com/gpu.replicas"
LABELS = (_PRODUCT, _COUNT, _REPLICAS)  # all that `shared_reason` looks at
_SUFFIX = re.compile(r"-SHARED$|-MIG-[0-9a-z.+]+$")
# Parts of devices, by the names that the vendors' plugins give them: time slices, MIG, PPU slices, vNPU templates and vNPU cores.
_SLICE_RESOURCE = re.compile(
    r"^nvidia\.com/mig-|^alibabacloud\.com/ppu-[0-9]+u\.|^huawei\.com/Ascend[0-9A-Za-z]+-[0-9]+c|^huawei\.com/npu-core$|\.shared$"
)


def is_slice(resource: str) -> bool:
    """Whether the resource names parts of devices."""
    return _is_slice(resource)


@lru_cache(maxsize=4096)
def _is_slice(resource: str) -> bool:
    return _SLICE_RESOURCE.search(resource) is not None


def slice_reason(amounts: Mapping[str, int]) -> str | None:
    """The first resource of parts of devices that the node really has, in words; None if there is none. A name with 0 does not count."""
    found = [name for name, amount in amounts.items() if amount > 0 and is_slice(name)]
    return f"resource {min(found)}" if found else None


def shared_reason(spec: HardwareProfileSpec, labels: Mapping[str, str], capacity: Mapping[str, int]) -> str | None:
    """Why this node's devices are not whole ones, in words; None if they are. Slices that nobody advertises (0) do not count."""
    product = labels.get(_PRODUCT, "")
    if _SUFFIX.search(product):
        return f"label {_PRODUCT}={product}"
    replicas = labels.get(_REPLICAS, "1")
    if replicas.isdigit() and int(replicas) > 1:
        return f"label {_REPLICAS}={replicas}"
    if found := slice_reason(capacity):
        return found
    most = max([capacity.get(alias.name, 0) for alias in spec.resources], default=0)
    physical = int(labels[_COUNT]) if labels.get(_COUNT, "").isdigit() else spec.unit.per_node
    if physical is not None and most > physical:
        return f"{most} devices advertised, {physical} installed"
    return None
