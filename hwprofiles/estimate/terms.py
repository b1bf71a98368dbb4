"""From names and shapes to the numbers of the closed form, or to the reason why there are none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hwprofiles.estimate import formats, memory
from hwprofiles.estimate.formula import EXCHANGE_BYTES, EXCHANGE_LATENCY_S, LINK_SHARE, REDUCE_LATENCY_S, Terms
from hwprofiles.estimate.hardware import Hardware
from hwprofiles.estimate.layouts import exchanges_experts, layout_class, links
from hwprofiles.estimate.refusals import (
    context_exceeded,
    no_data,
    precision_unsupported,
    shape_unknown,
    weights_too_large,
)
from hwprofiles.estimate.values import LayoutClass, Load, Refusal, Slo
from hwprofiles.model import Layout
from hwprofiles.shape import Shape

# Stands for "no window": longer than any context.
ENDLESS = 1e15
NO_LIMITS = Slo()


@dataclass(frozen=True, slots=True)
class Item:
    """One question, ready for the arithmetic."""

    terms: Terms[float]
    weight_bytes: float
    kv_tokens: int
    layout_class: LayoutClass
    derate: float
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that one estimate depends on."""

    shape: Shape
    hardware: Hardware
    layout: Layout
    precision: str | None
    load: Load
    slo: Slo = NO_LIMITS
    kv_precision: str | None = None
    model: str | None = None
    split: bool = False


def check_load(load: Load) -> None:
    """Lengths and concurrency are whole and positive; anything else is a fault of the caller."""
    for name, value in (("input_tokens", load.input_tokens), ("output_tokens", load.output_tokens), ("concurrency", load.concurrency)):
        if value is not None and value < 1:
            raise ValueError(f"load.{name} is {value}; it must be at least 1")


def prepare(q: Question) -> Item | Refusal:
    """The terms of one question. The first thing that is missing or impossible decides: precision, memory, shape, data, context."""
    check_load(q.load)
    shape, hardware, layout = q.shape, q.hardware, q.layout
    stored = formats.loaded_as(q.precision, hardware.dtypes, hardware.peaks)
    loaded = ""
    if stored != q.precision:
        loaded, q = f"{q.precision} weights, loaded as 16 bit", replace(q, precision=stored)
    if formats.support(q.precision, hardware.dtypes) == "Unsupported":
        return precision_unsupported(hardware, q.precision, q.model)
    dense, experts = memory.weights_per_unit(shape, layout, q.precision)
    left = memory.room(shape, hardware, layout, q.precision)
    if left <= 0:
        return weights_too_large(shape, hardware, layout, q.precision, q.model)
    per_layer = memory.kv_layer_bytes(shape, layout, q.kv_precision)
    if not shape.complete or shape.layers is None or shape.hidden is None or per_layer is None:
        return shape_unknown(hardware, shape, q.model)
    speed = formats.compute(q.precision, hardware.dtypes, hardware.peaks)
    if hardware.bandwidth is None or speed is None:
        return no_data(hardware, q.precision, q.model, q.load, bandwidth=hardware.bandwidth is not None, peak=speed is not None)
    if shape.max_context is not None and q.load.input_tokens + q.load.output_tokens > shape.max_context:
        return context_exceeded(shape.max_context, q.load, hardware, q.model)

    wires = links(shape, hardware, layout)
    fixed, per_token = _collectives(shape.layers, shape.hidden, shape, layout, wires.tensor, wires.stages, wires.experts)
    windowed = memory.window_layers(shape)
    growing = max(0, shape.layers - shape.stateless_layers - windowed)
    tensor, stages, units = float(layout.tensor), float(layout.pipeline), float(layout.devices)
    flop = 2.0 * shape.active_params_b * 1e9
    attention = 2.0 * shape.hidden / (speed.attention * hardware.mfu * tensor)
    kind, derate = layout_class(shape, layout, hardware, split=q.split)
    asked = math.inf if q.load.concurrency is None else float(q.load.concurrency)
    # Prefill elsewhere: prompts cost this replica nothing, so only decoding is left.
    prefill = 0.0 if q.split else 1.0
    terms = Terms(
        dense_read=dense * stages,
        expert_read=experts * stages,
        miss=max(0.0, 1.0 - shape.experts_per_token / shape.experts) if shape.experts else 1.0,
        kv_growing=per_layer * growing,
        kv_window=per_layer * windowed,
        window=float(shape.window) if windowed and shape.window else ENDLESS,
        room=left,
        groups=float(layout.data),
        stages=stages,
        memory_rate=hardware.bandwidth * hardware.mbu,
        decode_flop_s=flop / (speed.peak * hardware.mfu * units),
        prefill_token_s=flop / (speed.peak * hardware.mfu * tensor),
        attention_growing_s=attention * growing,
        attention_window_s=attention * windowed,
        comm_fixed_s=fixed,
        comm_token_s=per_token,
        overhead_s=hardware.step_overhead_s,
        prefill_share=prefill,
        input_tokens=float(q.load.input_tokens),
        output_tokens=float(q.load.output_tokens),
        asked=asked,
        ttft_limit=math.inf if q.slo.ttft_s is None else q.slo.ttft_s,
        itl_limit=math.inf if q.slo.itl_s is None else q.slo.itl_s,
    )
    words = (formats.bytes_assumed(q.precision), formats.bytes_assumed(q.kv_precision), hardware.derate_assumed.get(kind, ""), loaded)
    notes = (*hardware.assumptions, *speed.assumptions, *wires.assumptions, *(word for word in dict.fromkeys(words) if word))
    if q.precision is None:
        notes = (*notes, f"precision {formats.DEFAULT_PRECISION} assumed")
    held = memory.kv_capacity(shape, hardware, layout, q.precision, kv_precision=q.kv_precision)
    return Item(terms, dense + experts, held or 0, kind, derate, notes)


def _collectives(
    layers: int, hidden: int, shape: Shape, layout: Layout, tensor: float | None, stages: float | None, experts: float | None
) -> tuple[float, float]:
    """Seconds per step of latency, and per token of the group.

    All-reduce after attention and after the feed-forward part; where experts are exchanged, the exchange takes the second one's place:
    every unit sends its share of the tokens to k experts and gets their results. Pipeline stages hand the activations on.
    """
    fixed = per_token = 0.0
    exchange = exchanges_experts(shape, layout) and experts is not None
    if tensor is not None:
        count = layers * (1.0 if exchange else 2.0)
        fixed += count * REDUCE_LATENCY_S
        per_token += count * 2.0 * (layout.tensor - 1) / layout.tensor * hidden * 2.0 / (tensor * LINK_SHARE)
    if exchange and experts is not None:
        fixed += layers * EXCHANGE_LATENCY_S
        per_token += layers * shape.experts_per_token * hidden * EXCHANGE_BYTES / layout.tensor / (experts * LINK_SHARE)
    if stages is not None:
        hops = layout.pipeline - 1
        fixed += hops * REDUCE_LATENCY_S
        per_token += hops * hidden * 2.0 / (stages * LINK_SHARE)
    return fixed, per_token
