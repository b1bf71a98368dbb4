"""The corpus without a server: log-probabilities of a whole variant at once, for tests and benchmarks of the gate.

A variant is a comma-separated list of `dtype=fp32|bf16|fp16` (bf16 unless said) and faults as on the command line; "" is the
reference. The same code computes it as in a replica. Divergences are the caller's business: nothing here knows what a gate is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sandbox.engine import byte_model
from sandbox.engine.faults.switched import SwitchedModel, build
from sandbox.engine.faults.switches import Fault, FaultError, parse
from sandbox.engine.gguf_weights import GgufFile
from sandbox.engine.numerics import DTYPES, F32, Dtype, Numerics
from sandbox.engine.numpy_llama import LlamaWeights, load_gguf
from sandbox.engine.step_model import Chunk

WINDOW, FIRST = 64, 17  # bytes per window, and the first one that is scored
SCORED = WINDOW - FIRST  # positions per window: bytes 17 to 63
TOGETHER = 32  # windows per pass: their intermediate results stay in the processor's cache
PROMPTS = 8  # of the large model per pass: what unpacks its head is shared
_NEEDS_SERVER = ("batch", "hit", "mixed", "logprobs", "nologprobs")

# Name → variant, as in the design's corpus. A benign variant must be promoted, a fault never; `BYTE_INSIDE` and `SMOL_INSIDE` are faults
# smaller than the margin by design.
BYTE_BENIGN: dict[str, str] = {
    "rerun": "",
    "split-K 2": "split-k=2",
    "split-K 4": "split-k=4",
    "fp16": "dtype=fp16",
    "fp32": "dtype=fp32",
    "fp32 head": "fp32-head",
    "position offset 50": "position-offset=50",
    "int8 KV": "int8-kv",
    "W8": "w8",
    "W8A8": "w8a8",
}
BYTE_FAULTS: dict[str, str] = {
    "RoPE base 5e3": "rope-base=5e3",
    "RoPE base 1e5": "rope-base=1e5",
    "interleaved layout": "rope-layout",
    "1 future key": "future-keys=1",
    "first 8 keys hidden": "hide-first=8",
    "V zero for 8 keys from 20 on": "zero-v=8@above=20",
    "neighbour's KV, 8 tokens": "neighbour-kv=8",
    "neighbour's KV, 1 token": "neighbour-kv=1",
    "no 1/sqrt(d)": "no-scale",
    "eps 1e-2": "norm-eps=1e-2",
    "layer 1 skipped": "skip-layer=1",
    "head 1 of layer 1 zeroed": "head-zero=1:1",
    "FFN of layer 1 cut by 25 %": "ffn-drop=0.25:1",
    "FFN of layer 1 cut by 5 %": "ffn-drop=0.05:1",
    "GELU": "gelu",
    "fp16 overflow x3e4": "overflow=3e4:0",
    "vocabulary cut at 122": "vocab-cut=122",
    "logit scale 1.02": "logit-scale=1.02",
    "logit scale 1.10": "logit-scale=1.1",
    "sliding window 32": "sliding-window=32",
    "chunk boundary 32": "chunk-boundary=32",
    "stale weights 1 %": "stale=0.01",
    "stale weights 5 %": "stale=0.05",
    "stale weights 20 %": "stale=0.2",
}
BYTE_INSIDE: tuple[str, ...] = ("logit scale 1.02", "stale weights 1 %")

SMOL_BENIGN: dict[str, str] = {
    "rerun": "",
    "split-K 2": "split-k=2",
    "split-K 4": "split-k=4",
    "fp16": "dtype=fp16",
    "fp16 split-K 4": "dtype=fp16,split-k=4",
    "fp32": "dtype=fp32",
    "fp32 head": "fp32-head",
    "position offset 100": "position-offset=100",
}
# Harmless where they are declared, to be blocked where they are not
SMOL_DECLARED: dict[str, str] = {
    "int8 KV": "int8-kv",
    "int8 activations": "int8-activations",
    "fp8 KV": "fp8-kv",
    "W8": "w8",
    "fp8 weights": "fp8-weights",
    "W8A8": "w8a8",
    "W4 groups of 64": "w4=64",
}
SMOL_FAULTS: dict[str, str] = {
    "RoPE base 1e4": "rope-base=1e4",
    "other layout": "rope-layout",
    "bf16 cos/sin cache at 4000": "rope-cache-bf16=4000",
    "1 future key": "future-keys=1",
    "first 8 keys hidden": "hide-first=8",
    "first key hidden": "hide-first=1",
    "V zero in 16 keys beyond 28": "zero-v=16@above=28",
    "neighbour's KV, 16 tokens": "neighbour-kv=16",
    "neighbour's KV, 2 tokens": "neighbour-kv=2",
    "no 1/sqrt(d)": "no-scale",
    "eps 1e-3": "norm-eps=1e-3",
    "layer 15 skipped": "skip-layer=15",
    "head 3 of layer 10 zeroed": "head-zero=10:3",
    "FFN of layer 10 cut by 25 %": "ffn-drop=0.25:10",
    "FFN of layer 10 cut by 5 %": "ffn-drop=0.05:10",
    "GELU": "gelu",
    "fp16 overflow at layer 20 x600": "overflow=600:20",
    "vocabulary cut at 40000": "vocab-cut=40000",
    "logit scale 1.02": "logit-scale=1.02",
    "logit scale 1.1": "logit-scale=1.1",
    "sliding window 32": "sliding-window=32",
    "chunk 32": "chunk-boundary=32",
    "stale weights 1 %": "stale=0.01",
    "stale weights 5 %": "stale=0.05",
    "stale weights 20 %": "stale=0.2",
    "extra BOS": "extra-bos",
}
SMOL_INSIDE: tuple[str, ...] = ("logit scale 1.02", "bf16 cos/sin cache at 4000")


def byte_windows(count: int = 800, seed: int = 9) -> npt.NDArray[np.uint8]:
    """`count` windows of 64 bytes of the text that the byte model has not seen, at seeded places (they may overlap)."""
    data = byte_model.validation_bytes()
    starts = np.random.default_rng(seed).integers(0, len(data) - WINDOW, count)
    return np.stack([data[start : start + WINDOW] for start in starts])


def split(variant: str) -> tuple[Dtype, tuple[Fault, ...]]:
    """The number format and the faults of a variant. Raises FaultError."""
    dtype: Dtype = "bf16"
    faults: list[Fault] = []
    for word in filter(None, (part.strip() for part in variant.split(","))):
        name, _, value = word.partition("=")
        if name == "dtype":
            known = {each: each for each in DTYPES}
            if value not in known:
                raise FaultError(f"variant {variant!r}: dtype is {value!r}; allowed: {', '.join(DTYPES)}. Next: correct the variant")
            dtype = known[value]
            continue
        fault = parse(word)
        for trigger in fault.triggers:
            if trigger.kind in _NEEDS_SERVER:
                message = f"variant {variant!r}: the trigger {trigger.kind} needs a server"
                raise FaultError(f"{message}. Next: compute both variants and choose per prompt")
        faults.append(fault)
    return dtype, tuple(faults)


def byte_logits(variant: str, windows: npt.NDArray[np.integer]) -> F32:
    """Log-probabilities [window, 47, 128] of bytes 17 to 63 of each window [n, 64] under a variant. A request is a window: the trigger
    `share` draws windows, `alternate` takes every second one. Raises FaultError."""
    if windows.ndim != 2 or windows.shape[1] != WINDOW:
        raise FaultError(f"windows: shape {windows.shape}; allowed: [any number, {WINDOW}]. Next: take byte_windows()")
    dtype, faults = split(variant)
    if any(fault.switch.place == "request" for fault in faults):
        raise FaultError(f"variant {variant!r}: a difference in reading the request needs a server. Next: use --fault")
    model = _byte_model(dtype, faults)
    out: F32 = np.empty((len(windows), SCORED, model.vocab), np.float32)
    per = WINDOW // 16
    for low in range(0, len(windows), TOGETHER):
        part = windows[low : low + TOGETHER]
        batch = [
            Chunk(tuple(window.tolist()), 0, tuple(range(i * per, i * per + per)), 0, True, request=low + i)
            for i, window in enumerate(part)
        ]
        hidden = model.forward(batch).reshape(len(part), WINDOW, -1)[:, FIRST - 1 : -1]
        rows = model.logits(np.ascontiguousarray(hidden).reshape(len(part) * SCORED, -1))
        out[low : low + TOGETHER] = log_softmax(rows).reshape(len(part), SCORED, -1)
    return out


def smol_logits(variant: str, path: Path, prompts: Sequence[Sequence[int]], first: int) -> Iterator[F32]:
    """Log-probabilities [position, vocabulary] of tokens `first` and later of each prompt under a variant of the GGUF model at `path`,
    one prompt at a time (a prompt of 48 tokens is 8 MB). `extra-bos` puts the model's token of that name before each prompt.
    Loading takes seconds and 540 MB, which are kept for the next variant of this number format. Raises FaultError, WeightsError."""
    dtype, faults = split(variant)
    numerics = Numerics(dtype)
    longest = max(len(prompt) for prompt in prompts) + 1
    blocks = -(-longest // 16)
    weights, bos = _loaded(path, dtype, max(longest, 64))
    weights = replace(weights, layers=list(weights.layers))  # `build` may put others into the list
    model, _ = build(weights, numerics, PROMPTS * blocks, 16, faults)
    extra = (bos,) if any(fault.name == "extra-bos" for fault in faults) else ()
    for low in range(0, len(prompts), PROMPTS):
        batch = [
            Chunk((*extra, *prompt), 0, tuple(range(at * blocks, (at + 1) * blocks)), 0, True, request=low + at)
            for at, prompt in enumerate(prompts[low : low + PROMPTS])
        ]
        hidden = model.forward(batch)
        ends = np.cumsum([len(chunk.tokens) for chunk in batch]).tolist()
        parts = [hidden[end - len(chunk.tokens) + len(extra) + first - 1 : end - 1] for chunk, end in zip(batch, ends, strict=True)]
        rows = model.logits(np.concatenate(parts))
        for part in parts:
            yield log_softmax(rows[: len(part)])
            rows = rows[len(part) :]


@lru_cache(maxsize=1)
def _loaded(path: Path, dtype: Dtype, context: int) -> tuple[LlamaWeights, int]:
    """The weights, and the id of the token that begins a text."""
    file = GgufFile(path)
    try:
        return load_gguf(file, Numerics(dtype), context), int(file.metadata["tokenizer.ggml.bos_token_id"])
    finally:
        file.close()


def log_softmax(logits: F32) -> F32:
    """Row by row; −inf stays −inf, and a NaN makes its whole row NaN."""
    with np.errstate(all="ignore"):
        shifted = logits - logits.max(axis=-1, keepdims=True)
        out: F32 = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float32))
    return out


def _byte_model(dtype: Dtype, faults: Sequence[Fault]) -> SwitchedModel:
    numerics = Numerics(dtype)
    return build(byte_model.load(numerics), numerics, TOGETHER * (WINDOW // 16), 16, faults)[0]
