"""Trains the byte model that the engine's fast tests run on, and writes `sandbox/engine/data/byte_model.npz`.

Why our own training loop: the model is so small (233 952 parameters) that a hand-written backward pass in numpy trains it in about
two minutes on one core, and no deep-learning library has to be installed for a file that is made once and committed.

Model: Llama layout, vocabulary 128 (ASCII), d 96, 2 layers, 4 heads of 24, SwiGLU of 256, RMSNorm eps 1e-5, RoPE base 1e4 in the
half-split layout, tied embeddings, context 64.
Data: the help topics that ship with CPython (`pydoc_data.topics`, PSF licence), joined in sorted order, non-ASCII dropped; first
95 % for training, the rest for validation. The text differs between Python versions, so the weights and the validation bytes are
committed together.
Recipe: 500 steps of 16 windows of 64 bytes, Adam (.9, .98, 1e-8), gradients clipped element-wise at 1, learning rate 4e-3 with 30
warm-up steps and a cosine to 2 %; seeds 0 (weights), 1 (batches), 9 (validation windows).

    python tools/train_byte_model.py [--steps 500] [--out sandbox/engine/data/byte_model.npz]
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy reads them: one thread makes the result repeatable
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

Array = np.ndarray[Any, np.dtype[Any]]  # float32; the gradient check runs in float64
Weights = dict[str, Array]

VOCAB, D, LAYERS, HEADS, HEAD_DIM, FFN, CONTEXT = 128, 96, 2, 4, 24, 256, 64
EPS, ROPE_BASE = 1e-5, 1e4


def corpus() -> Array:
    """The training text as bytes 0..127."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    text = "\n".join(topics[name] for name in sorted(topics))
    data: Array = np.array(list(text.encode("ascii", "ignore")), np.uint8)
    return data


def initial_weights(rng: np.random.Generator) -> Weights:
    """Normal weights: .05 for the embedding, 1/sqrt(fan-in) for matrices, half of that for the two that write to the residual."""

    def matrix(rows: int, cols: int, scale: float = 1.0) -> Array:
        values: Array = (rng.standard_normal((rows, cols)) * scale / np.sqrt(cols)).astype(np.float32)
        return values

    out: Weights = {"token_embd": (rng.standard_normal((VOCAB, D)) * 0.05).astype(np.float32)}
    for i in range(LAYERS):
        out[f"blk.{i}.attn_norm"] = np.ones(D, np.float32)
        for name in ("attn_q", "attn_k", "attn_v"):
            out[f"blk.{i}.{name}"] = matrix(HEADS * HEAD_DIM, D)
        out[f"blk.{i}.attn_output"] = matrix(D, HEADS * HEAD_DIM, 0.5)
        out[f"blk.{i}.ffn_norm"] = np.ones(D, np.float32)
        out[f"blk.{i}.ffn_gate"] = matrix(FFN, D)
        out[f"blk.{i}.ffn_up"] = matrix(FFN, D)
        out[f"blk.{i}.ffn_down"] = matrix(D, FFN, 0.5)
    out["output_norm"] = np.ones(D, np.float32)
    return out


# Every forward helper returns (value, backward); backward takes the gradient of the value and returns that of the input(s).


def rms_norm(x: Array, weight: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    inv = 1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS)
    unit = x * inv

    def backward(grad: Array) -> tuple[Array, Array]:
        scaled = grad * weight
        dx = inv * (scaled - unit * np.mean(scaled * unit, axis=-1, keepdims=True))
        return dx, (grad * unit).reshape(-1, x.shape[-1]).sum(axis=0)

    return unit * weight, backward


def linear(x: Array, weight: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    def backward(grad: Array) -> tuple[Array, Array]:
        flat = grad.reshape(-1, grad.shape[-1])
        return grad @ weight, flat.T @ x.reshape(-1, x.shape[-1])

    return x @ weight.T, backward


def rope_tables(length: int) -> tuple[Array, Array]:
    freq = ROPE_BASE ** (-np.arange(HEAD_DIM // 2) * 2.0 / HEAD_DIM)
    angle = np.arange(length)[:, None] * freq
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotation of the pairs (i, i + half); its transpose, the backward pass, is `rotate(grad, cos, -sin)`."""
    a, b = x[..., : HEAD_DIM // 2], x[..., HEAD_DIM // 2 :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def split_heads(x: Array) -> Array:
    return x.reshape(x.shape[0], x.shape[1], HEADS, HEAD_DIM).transpose(0, 2, 1, 3)


def merge_heads(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(x.shape[0], x.shape[2], HEADS * HEAD_DIM)


def attention(q: Array, k: Array, v: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array]]]:
    """Causal softmax attention over [batch, head, time, dim]."""
    scale = np.float32(HEAD_DIM**-0.5)
    length = q.shape[2]
    scores = q @ k.transpose(0, 1, 3, 2) * scale
    scores[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
    probs = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probs /= probs.sum(axis=-1, keepdims=True)

    def backward(grad: Array) -> tuple[Array, Array, Array]:
        d_probs = grad @ v.transpose(0, 1, 3, 2)
        d_scores = probs * (d_probs - (d_probs * probs).sum(axis=-1, keepdims=True)) * scale
        return d_scores @ k, d_scores.transpose(0, 1, 3, 2) @ q, probs.transpose(0, 1, 3, 2) @ grad

    return probs @ v, backward


def loss_and_gradients(weights: Weights, tokens: np.ndarray[Any, Any]) -> tuple[float, Weights]:
    """Mean cross-entropy (nats per byte) of every next byte in `tokens` [batch, time + 1], and its gradient by every weight."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    cos, sin = rope_tables(inputs.shape[1])
    grads: Weights = {}
    x = weights["token_embd"][inputs]
    tape: list[Callable[[Array], Array]] = []

    def layer(x: Array, i: int) -> tuple[Array, Callable[[Array], Array]]:
        def w(name: str) -> Array:
            return weights[f"blk.{i}.{name}"]

        h, norm_back = rms_norm(x, w("attn_norm"))
        q, q_back = linear(h, w("attn_q"))
        k, k_back = linear(h, w("attn_k"))
        v, v_back = linear(h, w("attn_v"))
        mixed, att_back = attention(rotate(split_heads(q), cos, sin), rotate(split_heads(k), cos, sin), split_heads(v))
        att, out_back = linear(merge_heads(mixed), w("attn_output"))
        mid = x + att
        h2, norm2_back = rms_norm(mid, w("ffn_norm"))
        gate, gate_back = linear(h2, w("ffn_gate"))
        up, up_back = linear(h2, w("ffn_up"))
        sigmoid = 1.0 / (1.0 + np.exp(-gate))
        silu = gate * sigmoid
        down, down_back = linear(silu * up, w("ffn_down"))

        def keep(name: str, pair: tuple[Array, Array]) -> Array:
            grads[f"blk.{i}.{name}"] = pair[1]
            return pair[0]

        def backward(grad: Array) -> Array:
            d_prod = keep("ffn_down", down_back(grad))
            d_gate = d_prod * up * (sigmoid * (1.0 + gate * (1.0 - sigmoid)))
            d_h2 = keep("ffn_up", up_back(d_prod * silu)) + keep("ffn_gate", gate_back(d_gate))
            d_mid = grad + keep("ffn_norm", norm2_back(d_h2))
            d_q, d_k, d_v = att_back(split_heads(keep("attn_output", out_back(d_mid))))
            d_h = keep("attn_q", q_back(merge_heads(rotate(d_q, cos, -sin))))
            d_h = d_h + keep("attn_k", k_back(merge_heads(rotate(d_k, cos, -sin))))
            d_h = d_h + keep("attn_v", v_back(merge_heads(d_v)))
            return d_mid + keep("attn_norm", norm_back(d_h))

        return mid + down, backward

    for i in range(LAYERS):
        x, back = layer(x, i)
        tape.append(back)
    final, final_back = rms_norm(x, weights["output_norm"])
    logits, head_back = linear(final, weights["token_embd"])
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(log_probs, targets[..., None], axis=-1)
    d_logits = np.exp(log_probs)
    np.put_along_axis(d_logits, targets[..., None], np.take_along_axis(d_logits, targets[..., None], axis=-1) - 1.0, axis=-1)
    d_logits /= np.float32(targets.size)
    d_final, grads["token_embd"] = head_back(d_logits)
    grad, grads["output_norm"] = final_back(d_final)
    for back in reversed(tape):
        grad = back(grad)
    np.add.at(grads["token_embd"], inputs, grad)
    return float(-chosen.mean()), grads


def train(steps: int, report: Callable[[str], None]) -> tuple[Weights, np.ndarray[Any, Any]]:
    data = corpus().astype(np.int64)
    cut = int(len(data) * 0.95)
    training, validation = data[:cut], data[cut:]
    weights = initial_weights(np.random.default_rng(0))
    batches, windows = np.random.default_rng(1), np.random.default_rng(9)
    first = {k: np.zeros_like(v) for k, v in weights.items()}
    second = {k: np.zeros_like(v) for k, v in weights.items()}
    began = time.perf_counter()
    for step in range(1, steps + 1):
        starts = batches.integers(0, len(training) - CONTEXT - 1, 16)
        loss, grads = loss_and_gradients(weights, np.stack([training[s : s + CONTEXT + 1] for s in starts]))
        cosine = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * (step - 30) / max(1, steps - 30)))
        rate = 4e-3 * (step / 30 if step <= 30 else cosine)
        for name in sorted(weights):
            g = np.clip(grads[name], -1, 1)
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.98 * second[name] + 0.02 * g * g
            update = (first[name] / (1 - 0.9**step)) / (np.sqrt(second[name] / (1 - 0.98**step)) + 1e-8)
            weights[name] = (weights[name] - rate * update).astype(np.float32)
        if step % 50 == 0 or step == 1:
            report(f"step {step:4d}  loss {loss:.4f}  {time.perf_counter() - began:.0f} s")
    stored = {k: v.astype(np.float16).astype(np.float32) for k, v in weights.items()}
    starts = windows.integers(0, len(validation) - CONTEXT - 1, 400)
    loss, _ = loss_and_gradients(stored, np.stack([validation[s : s + CONTEXT + 1] for s in starts]))
    report(f"validation {loss:.4f} nats per byte over 400 windows, weights as stored (fp16)")
    return weights, validation


def main() -> None:
    parser = argparse.ArgumentParser(description="train the engine's byte model")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("sandbox/engine/data/byte_model.npz"))
    args = parser.parse_args()
    weights, validation = train(args.steps, print)
    arrays: dict[str, Any] = {name: weights[name].astype(np.float16) for name in sorted(weights)}
    arrays["validation_bytes"] = validation.astype(np.uint8)
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
