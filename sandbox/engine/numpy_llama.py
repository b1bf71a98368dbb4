"""The Llama forward pass in numpy: RMSNorm, rotary positions, grouped-query attention over a paged cache, SwiGLU, tied head.

One iteration takes a ragged batch: all tokens go through the matrices together (the weights are read once), attention runs per
sequence over that sequence's cache blocks. Each operation is a method of its own that rounds its result to the number format,
so that a deliberately wrong device is a subclass that overrides one method (`faults/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from sandbox.engine.gguf_weights import GgufFile, WeightsError, q8_0_parts
from sandbox.engine.numerics import F32, Numerics, Stored
from sandbox.engine.step_model import Chunk

HEAD_ROWS = 2048  # rows of the head unpacked at a time: 2048 x 576 float32 = 4.7 MB, about one L2 cache

LARGE_SCORES = 1 << 18  # attention scores computed at once: 1 MB of float32


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of the model. `rope_layout`: GGUF stores q and k so that neighbours are a pair, other files pair i with i + half."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    eps: float
    rope_base: float
    rope_layout: Literal["interleaved", "half-split"]


class Matrix(Protocol):
    """A matrix that is kept packed and unpacked by rows: the embedding, which is also the head."""

    def take(self, ids: np.ndarray[Any, Any]) -> F32: ...

    def slice(self, low: int, high: int) -> F32: ...


class PackedMatrix:
    """Rows in the storage of the number format: half the memory of float32 for the 16-bit ones."""

    def __init__(self, stored: Stored, numerics: Numerics) -> None:
        self._stored, self._numerics = stored, numerics

    def take(self, ids: np.ndarray[Any, Any]) -> F32:
        return self._numerics.unpack(self._stored[ids])

    def slice(self, low: int, high: int) -> F32:
        return self._numerics.unpack(self._stored[low:high])


class Q8Matrix:
    """Rows as the file's Q8_0 blocks: the same float32 values in 28 % of the memory. Used where nothing is rounded (fp32)."""

    def __init__(self, quants: np.ndarray[Any, np.dtype[np.int8]], scales: F32) -> None:
        self._quants, self._scales = quants, scales  # [row, block, 32] and [row, block]

    def take(self, ids: np.ndarray[Any, Any]) -> F32:
        return self._unpack(self._quants[ids], self._scales[ids])

    def slice(self, low: int, high: int) -> F32:
        return self._unpack(self._quants[low:high], self._scales[low:high])

    @staticmethod
    def _unpack(quants: np.ndarray[Any, Any], scales: F32) -> F32:
        values: F32 = np.multiply(quants, scales[..., None], dtype=np.float32)
        return values.reshape(len(quants), -1)


@dataclass
class Layer:
    """Weights of one layer, matrices as [out, in] so that y = x Wᵀ."""

    attn_norm: F32
    q: F32
    k: F32
    v: F32
    attn_output: F32
    ffn_norm: F32
    gate: F32
    up: F32
    down: F32


@dataclass
class LlamaWeights:
    config: LlamaConfig
    embedding: Matrix
    layers: list[Layer]
    output_norm: F32


class NumpyLlama:
    """A `StepModel`. Not for two threads at once: the scheduler's thread owns it."""

    def __init__(self, weights: LlamaWeights, numerics: Numerics, blocks: int, block_size: int, beside: NumpyLlama | None = None) -> None:
        """`beside`: another model of the same shape and number format, whose cache this one reads and writes instead of its own."""
        self.config, self.weights, self.numerics = weights.config, weights, numerics
        self.block_size = block_size
        config = weights.config
        shape = (config.layers, blocks, block_size, config.kv_heads, config.head_dim)
        # zeros are not touched before use, so an unused part of the pool costs no memory
        self._keys: Stored = np.zeros(shape, numerics.storage) if beside is None else beside._keys
        self._values: Stored = np.zeros(shape, numerics.storage) if beside is None else beside._values
        self._cos, self._sin = rope_tables(config)

    @property
    def vocab(self) -> int:
        return self.config.vocab

    def forward(self, batch: Sequence[Chunk]) -> F32:
        positions = np.concatenate([np.arange(c.start, c.start + len(c.tokens)) for c in batch])
        x = self.embed(np.concatenate([np.asarray(c.tokens, np.int64) for c in batch]))
        for index, layer in enumerate(self.weights.layers):
            x = self.residual(x, self.attention(index, layer, self.norm(x, layer.attn_norm), positions, batch))
            x = self.residual(x, self.feed_forward(layer, self.norm(x, layer.ffn_norm)))
            x = self.layer_output(index, x)
        return self.norm(x, self.weights.output_norm)

    def logits(self, hidden: F32) -> F32:
        return self.numerics.round(self.head(hidden))

    # The operations, one method each.

    def head(self, hidden: F32) -> F32:
        """Logits before they are rounded."""
        out: F32 = np.empty((len(hidden), self.config.vocab), np.float32)
        for low in range(0, self.config.vocab, HEAD_ROWS):
            high = min(low + HEAD_ROWS, self.config.vocab)
            np.matmul(hidden, self.weights.embedding.slice(low, high).T, out=out[:, low:high])
        return out

    def embed(self, ids: np.ndarray[Any, np.dtype[np.int64]]) -> F32:
        return self.numerics.round(self.weights.embedding.take(ids))

    def norm(self, x: F32, weight: F32) -> F32:
        scale = 1.0 / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + np.float32(self.config.eps))
        return self.numerics.round(x * scale * weight)

    def linear(self, x: F32, weight: F32) -> F32:
        return self.numerics.round(x @ weight.T)

    def residual(self, x: F32, change: F32) -> F32:
        return self.numerics.round(x + change)

    def layer_output(self, index: int, x: F32) -> F32:
        """What layer `index` hands on. A right device hands on what it computed."""
        return x

    def rope(self, x: F32, positions: np.ndarray[Any, Any]) -> F32:
        """Rotates each pair of x [token, head, dim] by position times the pair's frequency."""
        cos, sin = self._cos[positions][:, None, :], self._sin[positions][:, None, :]
        out: F32 = np.empty_like(x)
        if self.config.rope_layout == "interleaved":
            first, second, out_first, out_second = x[..., 0::2], x[..., 1::2], out[..., 0::2], out[..., 1::2]
        else:
            half = self.config.head_dim // 2
            first, second, out_first, out_second = x[..., :half], x[..., half:], out[..., :half], out[..., half:]
        out_first[...] = first * cos - second * sin
        out_second[...] = second * cos + first * sin
        return self.numerics.round(out)

    def attention(self, index: int, layer: Layer, h: F32, positions: np.ndarray[Any, Any], batch: Sequence[Chunk]) -> F32:
        config = self.config
        q = self.rope(self.linear(h, layer.q).reshape(-1, config.heads, config.head_dim), positions)
        k = self.rope(self.linear(h, layer.k).reshape(-1, config.kv_heads, config.head_dim), positions)
        v = self.linear(h, layer.v).reshape(-1, config.kv_heads, config.head_dim)
        mixed: F32 = np.empty_like(q)
        low = 0
        for chunk in batch:
            high = low + len(chunk.tokens)
            self.store(index, chunk, k[low:high], v[low:high])
            keys, values = self.gather(index, chunk, chunk.start + len(chunk.tokens))
            mixed[low:high] = self.attend(q[low:high], keys, values, chunk)
            low = high
        return self.linear(mixed.reshape(len(h), -1), layer.attn_output)

    def store(self, index: int, chunk: Chunk, k: F32, v: F32) -> None:
        at = np.arange(chunk.start, chunk.start + len(chunk.tokens))
        blocks = np.asarray(chunk.blocks, np.int64)[at // self.block_size]
        self._keys[index, blocks, at % self.block_size] = self.numerics.pack(k)
        self._values[index, blocks, at % self.block_size] = self.numerics.pack(v)

    def gather(self, index: int, chunk: Chunk, length: int) -> tuple[F32, F32]:
        """Keys and values [kv head, position, dim] of the sequence's first `length` positions."""
        blocks = np.asarray(chunk.blocks[: -(-length // self.block_size)], np.int64)
        flat = (-1, self.config.kv_heads, self.config.head_dim)
        keys = self.numerics.unpack(self._keys[index, blocks].reshape(flat)[:length])
        values = self.numerics.unpack(self._values[index, blocks].reshape(flat)[:length])
        return keys.transpose(1, 0, 2), values.transpose(1, 0, 2)

    def attend(self, q: F32, keys: F32, values: F32, chunk: Chunk) -> F32:
        """Causal attention of q [token, head, dim]; query heads share a key head in groups."""
        tokens, heads, dim = q.shape
        kv_heads, length = len(keys), keys.shape[1]
        if kv_heads > 1 and tokens * heads * length > LARGE_SCORES:  # by key head: the scores stay in the processor's cache
            group = heads // kv_heads
            parts = [self.attend(q[:, i * group : (i + 1) * group], keys[i : i + 1], values[i : i + 1], chunk) for i in range(kv_heads)]
            return np.concatenate(parts, axis=1)
        group = heads // kv_heads
        grouped = q.reshape(tokens, kv_heads, group, dim).transpose(1, 2, 0, 3).reshape(kv_heads, group * tokens, dim)
        scores = grouped @ keys.transpose(0, 2, 1)
        scores *= self.score_scale
        scores = self.numerics.round(scores).reshape(kv_heads, group, tokens, length)
        hidden = self.hidden_keys(chunk.start, tokens, length)
        if hidden is not None:
            np.putmask(scores, np.broadcast_to(hidden, scores.shape), -np.inf)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = self.numerics.round(self.numerics.round(scores).reshape(kv_heads, group * tokens, length) @ values)
        return mixed.reshape(kv_heads, group, tokens, dim).transpose(2, 0, 1, 3).reshape(tokens, heads, dim)

    @property
    def score_scale(self) -> np.float32:
        return np.float32(self.config.head_dim**-0.5)

    def hidden_keys(self, start: int, tokens: int, length: int) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """[token, key]: True where the query at position start + token must not see the key; None where all see all."""
        return None if tokens == 1 else np.arange(length) > (start + np.arange(tokens))[:, None]

    def activation(self, gate: F32) -> F32:
        with np.errstate(over="ignore"):  # exp of a large negative gate is infinite, and x / inf is the right zero
            silu: F32 = np.divide(gate, np.float32(1) + np.exp(-gate), dtype=np.float32)
        return self.numerics.round(silu)

    def feed_forward(self, layer: Layer, h: F32) -> F32:
        product = self.numerics.round(self.activation(self.linear(h, layer.gate)) * self.linear(h, layer.up))
        return self.linear(product, layer.down)


def rope_tables(config: LlamaConfig) -> tuple[F32, F32]:
    """cos and sin [position, pair] of position · base^(−2·pair/dim), computed in float64."""
    frequency = config.rope_base ** (-np.arange(config.head_dim // 2) * 2.0 / config.head_dim)
    angle = np.arange(config.context)[:, None] * frequency[None, :]
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def gguf_config(file: GgufFile, context: int) -> LlamaConfig:
    meta = file.metadata
    if meta.get("general.architecture") != "llama":
        raise WeightsError(f"weights {file.path}: architecture {meta.get('general.architecture')!r}; only llama is computed here")
    try:
        heads, width = int(meta["llama.attention.head_count"]), int(meta["llama.embedding_length"])
        return LlamaConfig(
            layers=int(meta["llama.block_count"]),
            width=width,
            heads=heads,
            kv_heads=int(meta.get("llama.attention.head_count_kv", heads)),
            head_dim=int(meta.get("llama.rope.dimension_count", width // heads)),
            ffn=int(meta["llama.feed_forward_length"]),
            vocab=file.info("token_embd.weight").rows,
            context=context,
            eps=float(meta["llama.attention.layer_norm_rms_epsilon"]),
            rope_base=float(meta.get("llama.rope.freq_base", 10000.0)),
            rope_layout="interleaved",
        )
    except KeyError as error:
        raise WeightsError(f"weights {file.path}: metadata {error} is missing") from error


def load_gguf(file: GgufFile, numerics: Numerics, context: int) -> LlamaWeights:
    """Dequantises the layers to float32 (rounded to the number format); the embedding stays packed, it is a fifth of the model."""
    config = gguf_config(file, context)
    if "output.weight" in file.tensors:
        raise WeightsError(f"weights {file.path}: a separate output matrix; only tied embeddings are computed here")

    def matrix(layer: int, name: str) -> F32:
        values = file.read(f"blk.{layer}.{name}.weight")
        for low in range(0, len(values), 512):  # in place by pieces: rounding needs temporaries of the same size
            values[low : low + 512] = numerics.round(values[low : low + 512])
        return values

    layers = [
        Layer(
            attn_norm=matrix(i, "attn_norm"),
            q=matrix(i, "attn_q"),
            k=matrix(i, "attn_k"),
            v=matrix(i, "attn_v"),
            attn_output=matrix(i, "attn_output"),
            ffn_norm=matrix(i, "ffn_norm"),
            gate=matrix(i, "ffn_gate"),
            up=matrix(i, "ffn_up"),
            down=matrix(i, "ffn_down"),
        )
        for i in range(config.layers)
    ]
    return LlamaWeights(config, _embedding(file, numerics), layers, numerics.round(file.read("output_norm.weight")))


def _embedding(file: GgufFile, numerics: Numerics) -> Matrix:
    info = file.info("token_embd.weight")
    if numerics.dtype == "fp32" and info.quant.name == "Q8_0":
        quants, scales = q8_0_parts(file.raw(info, 0, info.rows))
        return Q8Matrix(quants.reshape(info.rows, -1, 32), scales.reshape(info.rows, -1))
    stored: Stored = np.empty(info.shape, numerics.storage)
    for low, values in file.rows(info):
        stored[low : low + len(values)] = numerics.pack(values)
    return PackedMatrix(stored, numerics)
