"""The forward pass with faults in it: each operation that a fault touches is overridden, everything else is the right one.

One object stands for one set of faults that act together. It shares the cache of the right model, so that a fault which acts in some
passes only meets what the right passes stored, and leaves behind what it stored itself: as on a device.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from sandbox.engine.faults.quantise import e4m3, e4m3_read_as_e5m2, grouped, symmetric
from sandbox.engine.faults.switches import Fault
from sandbox.engine.faults.weights import changed
from sandbox.engine.numerics import F32, Numerics
from sandbox.engine.numpy_llama import Layer, LlamaConfig, NumpyLlama, rope_tables
from sandbox.engine.step_model import Chunk

Mask = np.ndarray[Any, np.dtype[np.bool_]]
REMEMBERED = 8  # requests whose first keys are kept for `neighbour-kv`
_BF16, _FP16 = Numerics("bf16"), Numerics("fp16")


class FaultyLlama(NumpyLlama):
    """A `NumpyLlama` beside a right one, with these faults always on; when they act is decided by the caller (`switched`)."""

    def __init__(self, right: NumpyLlama, faults: Sequence[Fault]) -> None:
        weights = changed(right.weights, faults, right.numerics)
        self._on = {fault.name: fault.values for fault in faults}
        config = self._config(right.config)
        blocks = right._keys.shape[1]
        super().__init__(replace(weights, config=config), right.numerics, blocks, right.block_size, right)
        shift = int(self._on.get("position-offset", (0,))[0] + self._on.get("rope-cache-bf16", (0,))[0])
        if shift:
            self._cos, self._sin = (table[shift:] for table in rope_tables(replace(config, context=config.context + shift)))
        if "rope-cache-bf16" in self._on:
            self._cos, self._sin = _BF16.round(self._cos), _BF16.round(self._sin)
        self._index = 0  # layer at work
        # per layer: request → its first keys and values, right ones
        self._first: list[OrderedDict[int, tuple[F32, F32]]] = [OrderedDict() for _ in range(config.layers)]

    def _config(self, config: LlamaConfig) -> LlamaConfig:
        if "rope-base" in self._on:
            config = replace(config, rope_base=self._on["rope-base"][0])
        if "rope-layout" in self._on:
            config = replace(config, rope_layout="interleaved" if config.rope_layout == "half-split" else "half-split")
        if "norm-eps" in self._on:
            config = replace(config, eps=self._on["norm-eps"][0])
        return config

    def forward(self, batch: Sequence[Chunk]) -> F32:
        with np.errstate(all="ignore"):  # infinities and what follows from them are the purpose here
            return super().forward(batch)

    # products and norms

    def linear(self, x: F32, weight: F32) -> F32:
        if "w8a8" in self._on:
            x = symmetric(x, 127, -1)
        if "int8-activations" in self._on:
            x = grouped(x, 127, 32)
        if "split-k" not in self._on:
            return super().linear(x, weight)
        return self._split(x, weight)

    def _split(self, x: F32, weight: F32) -> F32:
        """Partial sums over slices of the inner dimension, each rounded, then added one by one and rounded."""
        bounds = np.linspace(0, x.shape[-1], int(self._on["split-k"][0]) + 1).astype(int)
        total = self.numerics.round(x[:, : bounds[1]] @ weight[:, : bounds[1]].T)
        for low, high in pairwise(bounds[1:]):
            total = self.numerics.round(total + self.numerics.round(x[:, low:high] @ weight[:, low:high].T))
        return total

    def activation(self, gate: F32) -> F32:
        if "gelu" not in self._on:
            return super().activation(gate)
        inner = np.float32(np.sqrt(2 / np.pi)) * (gate + np.float32(0.044715) * gate * gate * gate)
        return self.numerics.round(np.multiply(np.float32(0.5) * gate, np.float32(1) + np.tanh(inner), dtype=np.float32))

    def feed_forward(self, layer: Layer, h: F32) -> F32:
        if "gemm-overflow" not in self._on or layer is not self.weights.layers[int(self._on["gemm-overflow"][1])]:
            return super().feed_forward(layer, h)
        scale = np.float32(self._on["gemm-overflow"][0])
        gate = _FP16.round(self.linear(h, layer.gate) * scale) / scale
        return self.linear(self.numerics.round(self.activation(gate) * self.linear(h, layer.up)), layer.down)

    def layer_output(self, index: int, x: F32) -> F32:
        if "overflow" in self._on and index == self._on["overflow"][1]:
            scale = np.float32(self._on["overflow"][0])
            x = self.numerics.round(_FP16.round(x * scale) / scale)
        return x

    # positions and keys

    def rope(self, x: F32, positions: np.ndarray[Any, Any]) -> F32:
        if "clamp-positions" in self._on:
            positions = np.minimum(positions, int(self._on["clamp-positions"][0]))
        return super().rope(x, positions)

    @property
    def score_scale(self) -> np.float32:
        return np.float32(1) if "no-scale" in self._on else super().score_scale

    def hidden_keys(self, start: int, tokens: int, length: int) -> Mask | None:
        query, key = (start + np.arange(tokens))[:, None], np.arange(length)[None, :]
        future = int(self._on.get("future-keys", (0,))[0])
        hidden = key > query + future
        before = key < query  # a query always sees itself
        if "hide-first" in self._on:
            hidden |= before & (key < self._on["hide-first"][0])
        if "sliding-window" in self._on:
            hidden |= key <= query - self._on["sliding-window"][0]
        if "chunk-boundary" in self._on:
            at, keys = self._on["chunk-boundary"]
            hidden |= (query >= at) & (key < at) & (key >= at - keys)
        return hidden if hidden.any() else None

    # the cache

    def attention(self, index: int, layer: Layer, h: F32, positions: np.ndarray[Any, Any], batch: Sequence[Chunk]) -> F32:
        self._index = index
        return super().attention(index, layer, h, positions, batch)

    def store(self, index: int, chunk: Chunk, k: F32, v: F32) -> None:
        super().store(index, chunk, self._cached(k), self._cached(v))

    def _cached(self, x: F32) -> F32:
        if "int8-kv" in self._on:
            return symmetric(x, 127, -1)
        if "fp8-kv" in self._on:
            return e4m3(x)
        if "kv-scale" in self._on:
            return e4m3(x) * np.float32(self._on["kv-scale"][0])
        return e4m3_read_as_e5m2(x) if "kv-reinterpret" in self._on else x

    def attend(self, q: F32, keys: F32, values: F32, chunk: Chunk) -> F32:
        if len(keys) == self.config.kv_heads:  # not the pieces by which long scores are computed
            keys, values = self._seen(keys, values, chunk)
        return super().attend(q, keys, values, chunk)

    def _seen(self, keys: F32, values: F32, chunk: Chunk) -> tuple[F32, F32]:
        """Keys and values [kv head, position, dim] as the fault has them."""
        if not {"zero-kv", "zero-v", "neighbour-kv"} & self._on.keys():
            return keys, values
        keys, values = keys.copy(), values.copy()
        if "neighbour-kv" in self._on:
            count = int(self._on["neighbour-kv"][0])
            other = self._neighbour(chunk.request, keys[:, :count].copy(), values[:, :count].copy())
            kept = min(other[0].shape[1], keys.shape[1])
            keys[:, :kept], values[:, :kept] = other[0][:, :kept], other[1][:, :kept]
        if "zero-kv" in self._on:
            keys[:, : int(self._on["zero-kv"][0])] = 0
            values[:, : int(self._on["zero-kv"][0])] = 0
        if "zero-v" in self._on:
            values[:, : int(self._on["zero-v"][0])] = 0
        return keys, values

    def _neighbour(self, request: int, keys: F32, values: F32) -> tuple[F32, F32]:
        """The first keys and values of the request before this one; of a cache never written, if there was none."""
        first = self._first[self._index]
        before = [number for number in first if number < request]
        other = first[max(before)] if before else (np.zeros_like(keys), np.zeros_like(values))
        first[request] = (keys, values)
        while len(first) > REMEMBERED:
            first.popitem(last=False)
        return other

    # the head

    def logits(self, hidden: F32) -> F32:
        with np.errstate(all="ignore"):
            out = self.head(hidden) if "fp32-head" in self._on else super().logits(hidden)
            return self._told(out)

    def _told(self, out: F32) -> F32:
        if "logit-scale" in self._on:
            out = self.numerics.round(out * np.float32(self._on["logit-scale"][0]))
        if "vocab-cut" in self._on:
            out[:, int(self._on["vocab-cut"][0]) :] = -np.inf
        if "cut-logits" in self._on:
            low = round(self._on["cut-logits"][0] * out.shape[1])
            np.put_along_axis(out, np.argsort(out, axis=1, kind="stable")[:, :low], np.float32(-np.inf), axis=1)
        if "reinterpret-logits" in self._on:
            # two 16-bit numbers make one of 32 bits: half as many, and the buffer is read twice to fill the row
            bits = _BF16.pack(out)
            half = np.ascontiguousarray(bits[:, : bits.shape[1] // 2 * 2]).view(np.float32)
            out = np.resize(np.concatenate([half, half], axis=1), out.shape) if out.shape[1] % 2 else np.concatenate([half, half], axis=1)
        if "nan" in self._on:
            out[...] = np.nan
        return out
