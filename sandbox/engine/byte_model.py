"""The byte model: a two-layer decoder over ASCII with committed weights, for tests that must start in a second.

Trained by `tools/train_byte_model.py` on the help topics of CPython; `validation_bytes` in the same file is the text that it has
not seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sandbox.engine.numerics import F32, Numerics
from sandbox.engine.numpy_llama import Layer, LlamaConfig, LlamaWeights, PackedMatrix

DATA = Path(__file__).parent / "data" / "byte_model.npz"
CONTEXT = 64
CONFIG = LlamaConfig(
    layers=2,
    width=96,
    heads=4,
    kv_heads=4,
    head_dim=24,
    ffn=256,
    vocab=128,
    context=CONTEXT,
    eps=1e-5,
    rope_base=1e4,
    rope_layout="half-split",
)


def load(numerics: Numerics) -> LlamaWeights:
    with np.load(DATA) as data:

        def read(name: str) -> F32:
            return numerics.round(data[name].astype(np.float32))

        layers = [
            Layer(
                attn_norm=read(f"blk.{i}.attn_norm"),
                q=read(f"blk.{i}.attn_q"),
                k=read(f"blk.{i}.attn_k"),
                v=read(f"blk.{i}.attn_v"),
                attn_output=read(f"blk.{i}.attn_output"),
                ffn_norm=read(f"blk.{i}.ffn_norm"),
                gate=read(f"blk.{i}.ffn_gate"),
                up=read(f"blk.{i}.ffn_up"),
                down=read(f"blk.{i}.ffn_down"),
            )
            for i in range(CONFIG.layers)
        ]
        return LlamaWeights(CONFIG, PackedMatrix(numerics.pack(read("token_embd")), numerics), layers, read("output_norm"))


def validation_bytes() -> np.ndarray[Any, np.dtype[np.uint8]]:
    with np.load(DATA) as data:
        return np.asarray(data["validation_bytes"], np.uint8)
