"""What a parallel layout means for the closed form: how weights and KV are cut, who talks to whom over which link, which derate applies."""

from __future__ import annotations

from dataclasses import dataclass

from hwprofiles.estimate.hardware import Hardware
from hwprofiles.estimate.values import LayoutClass
from hwprofiles.model import Layout
from hwprofiles.shape import Shape

WIDE_UNITS = 8
WIDE_PARAMS_B = 200.0
# Low ends, used only where the profile is silent and always named: PCIe 4.0 x16 one way inside a node, 200 Gb/s RDMA between nodes.
UNKNOWN_NODE_LINK = 32e9
UNKNOWN_CROSS_LINK = 25e9


@dataclass(frozen=True, slots=True)
class Links:
    """Bytes/s of the slowest link inside each kind of group; None = that group is one unit."""

    tensor: float | None
    stages: float | None
    experts: float | None
    assumptions: tuple[str, ...]


def exchanges_experts(shape: Shape, layout: Layout) -> bool:
    """Experts are spread over attention groups or asked for as expert parallel, so that tokens travel to them."""
    return shape.experts > 0 and (layout.data > 1 or (layout.expert or 1) > 1)


def links(shape: Shape, hardware: Hardware, layout: Layout) -> Links:
    """A group that fits into the units of one node uses the node's link, any other the link between nodes."""
    notes: list[str] = []
    per_node = layout.devices // layout.span

    def slowest(units: int) -> float | None:
        if units <= 1:
            return None
        if units <= per_node:
            return _known(hardware.node_link, UNKNOWN_NODE_LINK, "topology.nodeLinkGBps", notes)
        return _known(hardware.cross_link, UNKNOWN_CROSS_LINK, "topology.crossNodeLinkGBps", notes)

    tensor = slowest(layout.tensor)
    stages = slowest(layout.tensor * layout.pipeline) if layout.pipeline > 1 else None
    experts = slowest(layout.devices) if exchanges_experts(shape, layout) else None
    return Links(tensor, stages, experts, tuple(dict.fromkeys(notes)))


def _known(value: float | None, usual: float, name: str, notes: list[str]) -> float:
    if value is not None:
        return value
    notes.append(f"{name} {usual / 1e9:g} assumed")
    return usual


def layout_class(shape: Shape, layout: Layout, hardware: Hardware, *, split: bool = False) -> tuple[LayoutClass, float]:
    """The class and its derate; where two apply, the lower factor wins (ties: the first named).

    `split` = prefill runs elsewhere. A tuned split with wide expert parallelism is its own class; a generic engine is wide from more than
    8 units or 200 billion parameters of a mixture of experts on, and crosses nodes when the replica spans several.
    """
    wide = shape.experts > 0 and (layout.devices > WIDE_UNITS or shape.params_b > WIDE_PARAMS_B)
    if split and shape.experts > 0:
        found = [LayoutClass.PD_WIDE_EP]
    else:
        found = [LayoutClass.WIDE_MOE] * wide + [LayoutClass.CROSS_NODE] * (layout.span > 1)
    kind = min(found or [LayoutClass.IN_NODE], key=lambda one: hardware.derate[one])
    return kind, hardware.derate[kind]
