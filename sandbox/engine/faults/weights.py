"""Differences that lie in the weights: quantised, stale, missing or wrongly scaled matrices. The originals stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from sandbox.engine.faults.quantise import E4M3_MAX, e4m3, grouped, symmetric
from sandbox.engine.faults.switches import EVERY, Fault, FaultError
from sandbox.engine.numerics import F32, Numerics
from sandbox.engine.numpy_llama import Layer, LlamaConfig, LlamaWeights

MATRICES = ("q", "k", "v", "attn_output", "gate", "up", "down")
_QUANTISED: dict[str, Callable[[F32, tuple[float, ...]], F32]] = {
    "w8": lambda w, _: symmetric(w, 127, 1),
    "w8a8": lambda w, _: symmetric(w, 127, 1),
    "w8-tensor": lambda w, _: symmetric(w, 127, None),
    "w4": lambda w, values: grouped(w, 7, int(values[0])),
    "w4-tensor": lambda w, _: symmetric(w, 7, None),
    "fp8-weights": lambda w, _: _fp8(w),
}


def check(fault: Fault, config: LlamaConfig) -> None:
    """Refuses a layer, head or token that the model does not have. Raises FaultError."""
    bounds = {"LAYER": config.layers, "HEAD": config.heads, "ID": config.vocab}
    for number, value in zip(fault.switch.numbers, fault.values, strict=True):
        bound = bounds.get(number.name)
        if bound is not None and value >= bound:
            message = f"fault {fault.text!r}: {number.name} is {value:g}; allowed for this model: {number.low:g} to {bound - 1}"
            raise FaultError(f"{message}. Next: choose another, or take the fault away")


def changed(weights: LlamaWeights, faults: Iterable[Fault], numerics: Numerics, *, release: bool = False) -> LlamaWeights:
    """The weights with these faults in them. `release`: the given ones are not needed again, so that no second copy of all exists."""
    layers = weights.layers if release else list(weights.layers)
    for fault in faults:
        if fault.switch.place != "weights":
            continue
        noise = np.random.default_rng(int(fault.values[1])) if fault.name == "stale" else None
        for index, layer in enumerate(layers):
            layers[index] = _layer(index, layer, fault, weights.config, numerics, noise)
    return replace(weights, layers=layers)


def _layer(index: int, layer: Layer, fault: Fault, config: LlamaConfig, numerics: Numerics, noise: np.random.Generator | None) -> Layer:
    values = fault.values
    if fault.name in _QUANTISED:
        return _each(layer, lambda w: _QUANTISED[fault.name](w, values))
    if noise is not None:
        return _each(layer, lambda w: numerics.round(w + values[0] * w.std() * noise.standard_normal(w.shape, np.float32)))
    numbers = {number.name: value for number, value in zip(fault.switch.numbers, values, strict=True)}
    if numbers["LAYER"] not in (EVERY, index):
        return layer
    if fault.name == "weight-scale":
        return _each(layer, lambda w: w * np.float32(values[0]))
    if fault.name == "skip-layer":
        return replace(layer, attn_output=np.zeros_like(layer.attn_output), down=np.zeros_like(layer.down))
    if fault.name == "double-reduce":
        return replace(layer, attn_output=layer.attn_output * np.float32(2))
    if fault.name == "head-zero":
        attn_output, low = layer.attn_output.copy(), int(numbers["HEAD"]) * config.head_dim
        attn_output[:, low : low + config.head_dim] = 0
        return replace(layer, attn_output=attn_output)
    down = layer.down.copy()  # ffn-drop: a rank's slice that never arrived
    down[:, config.ffn - round(numbers["SHARE"] * config.ffn) :] = 0
    return replace(layer, down=down)


def _each(layer: Layer, change: Callable[[F32], F32]) -> Layer:
    """Every matrix of the layer changed; the embedding, which is also the head, is what quantisers leave alone."""
    out = replace(layer)
    for name in MATRICES:
        setattr(out, name, np.asarray(change(getattr(layer, name)), np.float32))
    return out


def _fp8(w: F32) -> F32:
    scale = np.float32(max(float(np.abs(w).max()), 1e-30) / E4M3_MAX)
    return e4m3(w / scale) * scale
