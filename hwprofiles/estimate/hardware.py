"""The numbers of one profile that the estimator reads, as floats in base units, with every assumed one named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwprofiles.estimate.values import LayoutClass
from hwprofiles.model import Efficiency, HardwareProfileSpec, Topology
from hwprofiles.schema import decimal_float, quantity_bytes

# Planning defaults of the closed form, each replaced by the profile's own field. Fitted by hand on the published points of
# tests/unit/hwprofiles/test_calibration.py: (share of peak compute, share of bandwidth, seconds of overhead per decode step).
_EFFICIENCY: dict[str, tuple[float, float, float]] = {"nvidia": (0.5, 0.7, 0.004), "amd": (0.5, 0.7, 0.004)}
_OTHER_VENDORS = (0.4, 0.6, 0.010)  # those of Ascend, the lower ones
# vLLM's default for --gpu-memory-utilization (vLLM documentation, 2026-08).
DEFAULT_USABLE = 0.9
DERATE: dict[LayoutClass, float] = {
    LayoutClass.IN_NODE: 1.0,
    LayoutClass.PD_WIDE_EP: 0.8,
    LayoutClass.WIDE_MOE: 0.45,
    LayoutClass.CROSS_NODE: 0.35,
}


@dataclass(frozen=True, slots=True)
class Hardware:
    """One schedulable unit. Bytes, bytes/s, FLOP/s, seconds; None or a missing key = unknown."""

    memory_bytes: float
    bandwidth: float | None
    peaks: Mapping[str, float]  # dense, by number format
    dtypes: Mapping[str, str] = field(default_factory=dict)  # Native | Emulated | WeightOnly | Unsupported by number format
    usable_fraction: float = DEFAULT_USABLE
    mfu: float = _OTHER_VENDORS[0]
    mbu: float = _OTHER_VENDORS[1]
    step_overhead_s: float = _OTHER_VENDORS[2]
    node_link: float | None = None  # of one unit inside the node, one way
    cross_link: float | None = None  # of one unit between nodes, one way
    derate: Mapping[LayoutClass, float] = field(default_factory=lambda: dict(DERATE))
    derate_assumed: Mapping[LayoutClass, str] = field(default_factory=dict)  # classes whose factor is the default, in words
    sizes: tuple[int, ...] = ()  # legal units per pod; empty = not known
    units_per_node: int | None = None
    assumed: frozenset[str] = frozenset()  # fields of the profile whose value is an assumption: bandwidthTBps, peakTflops.bf16, ...
    assumptions: tuple[str, ...] = ()  # the same in words, plus every planning default
    profile: str | None = None  # name, for messages
    engine: str | None = None


def hardware_of(spec: HardwareProfileSpec, engine: str, *, profile: str | None = None) -> Hardware:
    """The profile's numbers for one engine (derates belong to engines). A published number wins over an assumed one of the same field.

    An unknown bandwidth or peak stays unknown unless `assume` states it. Absent efficiency parameters and an absent usable fraction take
    the planning defaults above and are named in `assumptions`; absent derates too, in `derate_assumed`, because only the one of the
    layout's class touches a result. The default of 1 changes nothing and is not named.
    """
    notes: list[str] = []
    assumed: set[str] = set()
    peaks = {name: decimal_float(value) * 1e12 for name, value in sorted((spec.peak_tflops or {}).items())}
    bandwidth = None if spec.bandwidth_tbps is None else decimal_float(spec.bandwidth_tbps) * 1e12
    if spec.assume is not None:
        if bandwidth is None and spec.assume.bandwidth_tbps is not None:
            bandwidth = decimal_float(spec.assume.bandwidth_tbps) * 1e12
            assumed.add("bandwidthTBps")
            notes.append(f"bandwidthTBps {spec.assume.bandwidth_tbps} assumed")
        for name, value in sorted((spec.assume.peak_tflops or {}).items()):
            if name not in peaks:
                peaks[name] = decimal_float(value) * 1e12
                assumed.add(f"peakTflops.{name}")
                notes.append(f"peakTflops.{name} {value} assumed")
    peaks = {name: value for name, value in peaks.items() if value > 0}
    efficiency, topology = spec.efficiency or Efficiency(), spec.topology or Topology()
    usual = _EFFICIENCY.get(spec.vendor, _OTHER_VENDORS)
    mfu = _given(efficiency.mfu, usual[0], "efficiency.mfu", notes)
    mbu = _given(efficiency.mbu, usual[1], "efficiency.mbu", notes)
    overhead = _given(efficiency.step_overhead_ms, usual[2] * 1e3, "efficiency.stepOverheadMs", notes) / 1e3
    usable = _given(spec.unit.usable_fraction, DEFAULT_USABLE, "unit.usableFraction", notes)
    derate, derate_assumed = _derate(spec, engine)
    return Hardware(
        memory_bytes=float(quantity_bytes(spec.unit.memory)),
        bandwidth=bandwidth or None,
        peaks=peaks,
        dtypes=dict(spec.dtypes or {}),
        usable_fraction=usable,
        mfu=mfu,
        mbu=mbu,
        step_overhead_s=overhead,
        node_link=_link(topology.node_link_gbps),
        cross_link=_link(topology.cross_node_link_gbps),
        derate=derate,
        derate_assumed=derate_assumed,
        sizes=tuple(sorted(set(spec.allocation.sizes))),
        units_per_node=spec.unit.per_node,
        assumed=frozenset(assumed),
        assumptions=tuple(notes),
        profile=profile,
        engine=engine,
    )


def _given(value: str | None, usual: float, name: str, notes: list[str]) -> float:
    """The profile's number; zero would divide by zero and says nothing, so it counts as absent."""
    if value is not None and decimal_float(value) > 0:
        return decimal_float(value)
    notes.append(f"{name} {usual:g} assumed")
    return usual


def _link(value: str | None) -> float | None:
    return None if value is None or decimal_float(value) == 0 else decimal_float(value) * 1e9


def _derate(spec: HardwareProfileSpec, engine: str) -> tuple[dict[LayoutClass, float], dict[LayoutClass, str]]:
    """The engine's own factors; a class without one, or with zero, which would say that nothing runs, takes the planning default, named."""
    own = (spec.derate or {}).get(engine)
    given = {} if own is None else {kind: getattr(own, name) for kind, name in _DERATE_FIELDS.items()}
    known = {kind: decimal_float(value) for kind, value in given.items() if value is not None}
    factors = {kind: known.get(kind) or usual for kind, usual in DERATE.items()}
    assumed = {kind: f"derate.{engine}.{kind} {usual:g} assumed" for kind, usual in DERATE.items() if usual != 1.0 and not known.get(kind)}
    return factors, assumed


_DERATE_FIELDS = {
    LayoutClass.IN_NODE: "in_node",
    LayoutClass.PD_WIDE_EP: "pd_wide_ep",
    LayoutClass.WIDE_MOE: "wide_moe",
    LayoutClass.CROSS_NODE: "cross_node",
}
