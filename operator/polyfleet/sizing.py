"""How many devices one replica takes: the smallest legal layout whose usable memory holds the model.

Order of trust for the memory: the footprint of a throughput entry of this engine version, `model.footprint`, parameters times
bytes times an overhead. Legal sizes depend on the pool's scheduler (`hwprofiles.legal_sizes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hwprofiles import legal_sizes
from hwprofiles.schema import decimal, quantity_bytes
from polyfleet.catalog import params_billion
from polyfleet.merge import Wanted

GIB = 1 << 30
# Weights plus KV cache and activations over the bare weights: our own assumption, which makes a size Estimated (2026-11).
SHAPE_OVERHEAD = Decimal("1.2")
# vLLM's default for --gpu-memory-utilization (vLLM documentation, 2026-08); used where the profile states no usableFraction.
DEFAULT_USABLE = Decimal("0.9")
# Bytes per parameter of a number format; a format that is not listed counts as two, the size of bf16.
BYTES: dict[str, Decimal] = {
    "fp32": Decimal(4),
    "bf16": Decimal(2),
    "fp16": Decimal(2),
    "fp8": Decimal(1),
    "int8": Decimal(1),
    "w8a8": Decimal(1),
    "w8a16": Decimal(1),
    "fp4": Decimal("0.5"),
    "int4": Decimal("0.5"),
    "awq": Decimal("0.5"),
    "gptq": Decimal("0.5"),
    "w4a8": Decimal("0.5"),
    "w4a16": Decimal("0.5"),
    "w4a4": Decimal("0.5"),
}

MODEL_SHAPE_UNKNOWN = "ModelShapeUnknown"
SIZE_NOT_ALLOWED = "SizeNotAllowed"
MODEL_TOO_LARGE = "ModelTooLarge"


@dataclass(frozen=True, slots=True)
class Rejection:
    profile: str
    reason: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    tensor: int
    pipeline: int = 1
    data: int = 1
    expert: int | None = None

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data


def footprint_bytes(wanted: Wanted) -> tuple[int, str] | None:
    """Memory of one replica and the evidence for it, by order of trust; None if nothing is known."""
    for entry in wanted.profile.throughput:
        same_version = wanted.engine_version is None or entry.engine_version in (None, wanted.engine_version)
        if entry.footprint is not None and entry.model == wanted.model_id and entry.engine == wanted.engine and same_version:
            return quantity_bytes(entry.footprint), entry.evidence
    if wanted.footprint is not None:
        return quantity_bytes(wanted.footprint), "Estimated"
    shape = wanted.shape
    params = decimal(shape.params_b) if shape is not None and shape.params_b is not None else params_billion(wanted.model_id)
    if params is None:
        return None
    per_parameter = BYTES.get(wanted.precision or "bf16", Decimal(2))
    return int(params * 1_000_000_000 * per_parameter * SHAPE_OVERHEAD), "Estimated"


def choose_layout(wanted: Wanted, scheduler: str, full: int | None) -> tuple[Layout, str] | Rejection:
    """The smallest legal layout that holds the model under this scheduler."""
    profile = wanted.profile
    parallelism = wanted.parallelism
    if (parallelism.span or 1) > 1:
        return _reject_size(wanted, f"parallelism.span {parallelism.span}: replicas over several nodes are not supported", "set span 1")
    legal = legal_sizes(profile, scheduler, full)
    pipeline, data = parallelism.pipeline or 1, parallelism.data or 1
    allowed = f"{wanted.profile_name} allows {', '.join(map(str, legal)) or 'none'} devices per replica under scheduler {scheduler}"
    choices = (parallelism.tensor,) if parallelism.tensor is not None else tuple(parallelism.tensor_choices or ())
    if choices:
        layouts = [Layout(t, pipeline, data, parallelism.expert) for t in sorted(set(choices)) if t * pipeline * data in legal]
        if not layouts:
            asked = ", ".join(str(t * pipeline * data) for t in sorted(set(choices)))
            return _reject_size(wanted, f"parallelism asks for {asked} devices; {allowed}", "choose one of the allowed sizes")
    else:
        layouts = [
            Layout(size // (pipeline * data), pipeline, data, parallelism.expert)
            for size in legal
            if size % (pipeline * data) == 0 and _divides(wanted, size // (pipeline * data))
        ]
        if not layouts:
            return _reject_size(wanted, f"no size fits pipeline {pipeline} x data {data} and the head count; {allowed}", "set tensor")
    return _fitting(wanted, layouts, explicit=parallelism.tensor is not None)


def _divides(wanted: Wanted, tensor: int) -> bool:
    heads = wanted.shape.heads if wanted.shape is not None else None
    return heads is None or heads % tensor == 0


def _fitting(wanted: Wanted, layouts: list[Layout], *, explicit: bool) -> tuple[Layout, str] | Rejection:
    known = footprint_bytes(wanted)
    if known is None:
        if explicit:
            return layouts[0], "Estimated"
        return Rejection(
            wanted.profile_name,
            MODEL_SHAPE_UNKNOWN,
            f"how much memory {wanted.model_id} needs is not known",
            "set spec.model.footprint (for example 24Gi) or spec.model.shape.paramsB, set spec.runtime.parallelism.tensor,"
            f" or measure: polyfleet bench --profile {wanted.profile_name} --model {wanted.model_id}",
        )
    need, evidence = known
    usable = decimal(wanted.profile.unit.usable_fraction) if wanted.profile.unit.usable_fraction else DEFAULT_USABLE
    per_device = Decimal(quantity_bytes(wanted.profile.unit.memory)) * usable
    for layout in sorted(layouts, key=lambda item: item.devices):
        if per_device * layout.devices >= need:
            return layout, evidence
    largest = max(layout.devices for layout in layouts)
    return Rejection(
        wanted.profile_name,
        MODEL_TOO_LARGE,
        f"needs {_gib(need)} GiB; {largest} x {wanted.profile.unit.memory} hold {_gib(int(per_device * largest))} GiB usable",
        "use a smaller precision in a variant, or allow more devices in runtime.parallelism",
    )


def _reject_size(wanted: Wanted, message: str, hint: str) -> Rejection:
    return Rejection(wanted.profile_name, SIZE_NOT_ALLOWED, message, hint)


def _gib(value: int) -> str:
    return f"{value / GIB:.1f}"
