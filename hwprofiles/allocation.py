"""Which sizes a pod may request, per scheduler.

The scheduler matters because it decides who picks the devices. Where the kubelet picks them arbitrarily (an Ascend A3 node under
the default scheduler: the plugin answers no preferred allocation), a pair of dies may come from two cards, so only single devices
and whole nodes are safe. A scheduler that rounds up (HAMi on A3: 1 becomes 2) makes the smaller sizes a lie, so they are left out.
"""

from __future__ import annotations

from hwprofiles.model import HardwareProfileSpec


def whole_node_only(spec: HardwareProfileSpec, scheduler: str) -> bool:
    """Above size 1 only whole nodes under this scheduler."""
    return scheduler in spec.allocation.whole_node_schedulers


def legal_sizes(spec: HardwareProfileSpec, scheduler: str = "default", per_node: int | None = None) -> tuple[int, ...]:
    """Sizes of one pod, ascending. `per_node` is the node's own full size where it differs from the profile's."""
    rule = spec.allocation
    full = per_node if per_node is not None else spec.unit.per_node
    sizes = sorted(set(rule.sizes))
    if scheduler in rule.round_up_schedulers:
        sizes = [size for size in sizes if size % rule.align_to == 0]
    if whole_node_only(spec, scheduler):
        sizes = [size for size in sizes if size == 1 or size == full]
    if full is not None:
        sizes = [size for size in sizes if size <= full]
    return tuple(sizes)


def granted_size(spec: HardwareProfileSpec, scheduler: str, wanted: int) -> int | None:
    """What a request for `wanted` devices becomes under this scheduler; None if it is refused."""
    rule = spec.allocation
    if scheduler in rule.round_up_schedulers and wanted == 1:
        wanted = rule.align_to
    return wanted if wanted in legal_sizes(spec, scheduler) else None
