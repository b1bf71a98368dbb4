"""Tells nodes whose devices are time-sliced or partitioned: their units are not whole devices and must not be planned as such."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hwprofiles.model import HardwareProfileSpec

_PRODUCT = "nvidia.com/gpu.product"
_COUNT = "nvidia.com/gpu.count"
_REPLICAS = "nvidia.com/gpu.replicas"
_SUFFIX = re.compile(r"-SHARED$|-MIG-[0-9a-z.+]+$")
_SLICE_RESOURCE = re.compile(r"^nvidia\.com/mig-|^alibabacloud\.com/ppu-[0-9]+u\.|^huawei\.com/Ascend[0-9A-Za-z]+-[0-9]+c|\.shared$")


def shared_reason(spec: HardwareProfileSpec, labels: Mapping[str, str], capacity: Mapping[str, int]) -> str | None:
    """Why this node's devices are not whole ones, in words; None if they are. Slices that nobody advertises (0) do not count."""
    product = labels.get(_PRODUCT, "")
    if _SUFFIX.search(product):
        return f"label {_PRODUCT}={product}"
    replicas = labels.get(_REPLICAS, "1")
    if replicas.isdigit() and int(replicas) > 1:
        return f"label {_REPLICAS}={replicas}"
    for name in sorted(capacity):
        if capacity[name] > 0 and _SLICE_RESOURCE.search(name):
            return f"resource {name}"
    names = {alias.name for alias in spec.resources}
    most = max((amount for name, amount in capacity.items() if name in names), default=0)
    physical = int(labels[_COUNT]) if labels.get(_COUNT, "").isdigit() else spec.unit.per_node
    if physical is not None and most > physical:
        return f"{most} devices advertised, {physical} installed"
    return None
