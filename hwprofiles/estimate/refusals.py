"""The refusals in words: what was asked, which numbers decide, the allowed range, and the command that changes it."""

from __future__ import annotations

import math

from hwprofiles.estimate import values
from hwprofiles.estimate.formats import DEFAULT_PRECISION, bytes_per_parameter
from hwprofiles.estimate.formula import RESERVE_BYTES
from hwprofiles.estimate.hardware import Hardware
from hwprofiles.estimate.memory import weights_per_unit
from hwprofiles.estimate.values import Load, Refusal, Slo, bench_command
from hwprofiles.model import Layout
from hwprofiles.shape import Shape

GIB = float(1 << 30)


def _gib(value: float) -> str:
    return f"{value / GIB:.1f} GiB"


def _name(hardware: Hardware) -> str:
    return hardware.profile or "the profile"


def _edit(hardware: Hardware) -> str:
    return f"kubectl edit hwp/{hardware.profile or 'PROFILE'}"


def precision_unsupported(hardware: Hardware, precision: str | None, model: str | None) -> Refusal:
    wanted = precision or DEFAULT_PRECISION
    able = ", ".join(sorted(name for name, level in hardware.dtypes.items() if level != "Unsupported")) or "none"
    return Refusal(
        values.PRECISION_UNSUPPORTED,
        f"{_name(hardware)} marks precision {wanted} Unsupported; it serves {able}",
        f"give a variant with weights in one of these precisions (spec.variants[].model.precision), or measure one: "
        f"{bench_command(hardware.profile, model)}",
    )


def weights_too_large(shape: Shape, hardware: Hardware, layout: Layout, precision: str | None, model: str | None) -> Refusal:
    dense, experts = weights_per_unit(shape, layout, precision)
    usable = hardware.memory_bytes * hardware.usable_fraction
    text = (
        f"{shape.params_b:g} billion parameters in {precision or DEFAULT_PRECISION} need {_gib(dense + experts)} per unit over"
        f" {layout.devices} units plus {_gib(RESERVE_BYTES)} reserve; one unit has {_gib(usable)} usable of {_gib(hardware.memory_bytes)}"
    )
    return Refusal(values.MODEL_TOO_LARGE, f"{text}; {_sizes(shape, hardware, layout, precision)}", _smaller(hardware, model))


def _sizes(shape: Shape, hardware: Hardware, layout: Layout, precision: str | None) -> str:
    """Which legal size would hold the weights in one attention group."""
    free = hardware.memory_bytes * hardware.usable_fraction - RESERVE_BYTES
    total = shape.params_b * bytes_per_parameter(precision) * 1e9
    least = math.floor(total / free) + 1 if free > 0 else None
    if not hardware.sizes:
        return f"at least {least} units would hold it" if least else "no number of units holds it"
    enough = [size for size in hardware.sizes if least is not None and size >= least and size > layout.devices]
    allowed = ", ".join(map(str, hardware.sizes))
    return f"of the sizes {allowed} the smallest that holds it is {enough[0]}" if enough else f"none of the sizes {allowed} holds it"


def _smaller(hardware: Hardware, model: str | None) -> str:
    return (
        "use a smaller precision or more units (spec.runtime.parallelism), or measure its footprint: "
        f"{bench_command(hardware.profile, model)}"
    )


def request_too_large(need: float, left: float, load: Load, hardware: Hardware, model: str | None) -> Refusal:
    return Refusal(
        values.MODEL_TOO_LARGE,
        f"the weights fit, but {_gib(left)} per unit are left for KV and one request of {load.input_tokens} + {load.output_tokens} tokens"
        f" needs {_gib(need)}",
        f"use shorter requests, a smaller precision or more units, or measure: {bench_command(hardware.profile, model, load)}",
    )


def shape_unknown(hardware: Hardware, shape: Shape, model: str | None) -> Refusal:
    needed: dict[str, float | None] = {"layers": shape.layers, "hidden": shape.hidden, "heads": shape.heads}
    if not shape.kv_lora:
        needed |= {"kvHeads": shape.kv_heads, "headDim": shape.head_dim}
    if shape.experts:
        needed |= {"expertsPerToken": shape.experts_per_token or None, "expertParamsB": shape.expert_params_b or None}
    missing = ", ".join(sorted(name for name, value in needed.items() if value is None)) or "some of its numbers"
    return Refusal(
        values.MODEL_SHAPE_UNKNOWN,
        f"the shape of {model or 'the model'} lacks {missing}; speed cannot be estimated from {shape.params_b:g} billion parameters alone",
        f"set spec.model.shape (polyfleet model show --config config.json reads it from the model), or measure: "
        f"{bench_command(hardware.profile, model)}",
    )


def no_data(hardware: Hardware, precision: str | None, model: str | None, load: Load | None, *, bandwidth: bool, peak: bool) -> Refusal:
    missing = [] if bandwidth else ["bandwidthTBps"]
    if not peak:
        known = ", ".join(sorted(hardware.peaks)) or "none"
        missing.append(f"a peak for {precision or DEFAULT_PRECISION} (known peaks: {known})")
    return Refusal(
        values.NO_PERFORMANCE_DATA,
        f"{_name(hardware)} has no measurement of {model or 'this model'} and lacks {' and '.join(missing)}, so nothing can be estimated",
        f"{bench_command(hardware.profile, model, load)}, or state an assumption under spec.assume: {_edit(hardware)}",
    )


def context_exceeded(longest: int, load: Load, hardware: Hardware, model: str | None) -> Refusal:
    total = load.input_tokens + load.output_tokens
    return Refusal(
        values.LOAD_OUTSIDE_RANGE,
        f"a request of {load.input_tokens} + {load.output_tokens} = {total} tokens exceeds the context of {model or 'the model'},"
        f" {longest} tokens",
        f"lower spec.workload.inputTokens and outputTokens to at most {longest} together, then {bench_command(hardware.profile, model)}",
    )


def slo_unreachable(
    hardware: Hardware, model: str | None, load: Load, slo: Slo, concurrency: int, ttft_s: float, itl_s: float, best: int
) -> Refusal:
    broken = []
    if slo.ttft_s is not None and ttft_s > slo.ttft_s:
        broken.append(f"time to first token {ttft_s:.3g} s, allowed {slo.ttft_s:g} s")
    if slo.itl_s is not None and itl_s > slo.itl_s:
        broken.append(f"time between tokens {itl_s * 1e3:.3g} ms, allowed {slo.itl_s * 1e3:g} ms")
    where = f"at concurrency {concurrency}: {' and '.join(broken)}"
    best_text = f"the largest that keeps the SLO is {best}" if best else "not even one request at a time keeps it"
    return Refusal(
        values.SLO_UNREACHABLE,
        f"{_name(hardware)} {where}; {best_text}",
        f"relax spec.slo, use more units per replica, or measure: {bench_command(hardware.profile, model, load)}",
    )
