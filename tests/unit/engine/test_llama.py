"""The forward pass against hand-computed values and a scalar implementation that shares no code with it."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sandbox.engine import byte_model
from sandbox.engine.numerics import F32, Numerics
from sandbox.engine.numpy_llama import Layer, LlamaConfig, LlamaWeights, NumpyLlama, PackedMatrix
from sandbox.engine.sampling import log_softmax
from sandbox.engine.step_model import Chunk

Vector = list[float]
FP32 = Numerics("fp32")


def _tiny(layout: str, seed: int = 5) -> LlamaWeights:
    """Two layers, four query heads over two key heads of four dimensions, a vocabulary of 11."""
    config = LlamaConfig(
        layers=2,
        width=12,
        heads=4,
        kv_heads=2,
        head_dim=4,
        ffn=10,
        vocab=11,
        context=32,
        eps=1e-3,
        rope_base=50.0,
        rope_layout="interleaved" if layout == "interleaved" else "half-split",
    )
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> F32:
        return np.asarray(rng.standard_normal((rows, columns)) / np.sqrt(columns), np.float32)

    def norm() -> F32:
        return np.asarray(1 + 0.3 * rng.standard_normal(12), np.float32)

    layers = [
        Layer(norm(), matrix(16, 12), matrix(8, 12), matrix(8, 12), matrix(12, 16), norm(), matrix(10, 12), matrix(10, 12), matrix(12, 10))
        for _ in range(2)
    ]
    return LlamaWeights(config, PackedMatrix(matrix(11, 12) * 3, FP32), layers, norm())


# A scalar Llama in plain Python floats, written from the model's definition.


def _times(matrix: F32, x: Vector) -> Vector:
    return [sum(float(w) * v for w, v in zip(row, x, strict=True)) for row in matrix]


def _norm(x: Vector, weight: F32, eps: float) -> Vector:
    scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v * scale * float(w) for v, w in zip(x, weight, strict=True)]


def _rotated(head: Vector, position: int, base: float, layout: str) -> Vector:
    half, out = len(head) // 2, list(head)
    for pair in range(half):
        angle = position / base ** (2 * pair / len(head))
        i, j = (2 * pair, 2 * pair + 1) if layout == "interleaved" else (pair, pair + half)
        out[i] = head[i] * math.cos(angle) - head[j] * math.sin(angle)
        out[j] = head[i] * math.sin(angle) + head[j] * math.cos(angle)
    return out


def _scalar_logits(weights: LlamaWeights, tokens: list[int]) -> list[Vector]:
    config = weights.config
    embedding = weights.embedding.slice(0, config.vocab)
    stream = [[float(v) for v in embedding[token]] for token in tokens]
    for layer in weights.layers:
        keys: list[list[Vector]] = []
        values: list[list[Vector]] = []
        for position, x in enumerate(stream):
            h = _norm(x, layer.attn_norm, config.eps)

            def heads(matrix: F32, h: Vector = h) -> list[Vector]:
                flat = _times(matrix, h)
                return [flat[i : i + config.head_dim] for i in range(0, len(flat), config.head_dim)]

            keys.append([_rotated(head, position, config.rope_base, config.rope_layout) for head in heads(layer.k)])
            values.append(heads(layer.v))
            mixed: Vector = []
            for number, query in enumerate(heads(layer.q)):
                q = _rotated(query, position, config.rope_base, config.rope_layout)
                kv = number * config.kv_heads // config.heads
                raw = [sum(a * b for a, b in zip(q, past[kv], strict=True)) / math.sqrt(config.head_dim) for past in keys]
                odds = [math.exp(r - max(raw)) for r in raw]
                for d in range(config.head_dim):
                    mixed.append(sum(o * past[kv][d] for o, past in zip(odds, values, strict=True)) / sum(odds))
            x = [a + b for a, b in zip(x, _times(layer.attn_output, mixed), strict=True)]
            h = _norm(x, layer.ffn_norm, config.eps)
            gate = [g / (1 + math.exp(-g)) for g in _times(layer.gate, h)]
            product = [g * u for g, u in zip(gate, _times(layer.up, h), strict=True)]
            stream[position] = [a + b for a, b in zip(x, _times(layer.down, product), strict=True)]
    return [_times(embedding, _norm(x, weights.output_norm, config.eps)) for x in stream]


TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]


@pytest.mark.parametrize("layout", ["interleaved", "half-split"])
def test_logits_equal_a_scalar_implementation(layout: str) -> None:
    weights = _tiny(layout)
    model = NumpyLlama(weights, FP32, blocks=4, block_size=4)
    hidden = model.forward([Chunk(tuple(TOKENS), 0, (2, 0, 3), 0, True)])
    np.testing.assert_allclose(model.logits(hidden), _scalar_logits(weights, TOKENS), rtol=1e-4, atol=1e-4)


def test_pieces_over_scattered_blocks_equal_one_pass() -> None:
    """A prompt in pieces of 3, then single tokens, beside another sequence in the same iterations."""
    weights = _tiny("interleaved")
    model = NumpyLlama(weights, FP32, blocks=8, block_size=4)
    other = Chunk((7, 7), 0, (6,), 0, True)
    rows = []
    for start, end in ((0, 3), (3, 6), (6, 7), (7, 8), (8, 9), (9, 10)):
        batch = [other, Chunk(tuple(TOKENS[start:end]), start, (5, 1, 4), 0, end - start > 1)]
        rows.append(model.forward(batch)[2:])
    np.testing.assert_allclose(model.logits(np.concatenate(rows)), _scalar_logits(weights, TOKENS), rtol=1e-4, atol=1e-4)


def test_long_scores_are_computed_by_key_head_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = _tiny("half-split")
    monkeypatch.setattr("sandbox.engine.numpy_llama.LARGE_SCORES", 1)
    model = NumpyLlama(weights, FP32, blocks=4, block_size=4)
    hidden = model.forward([Chunk(tuple(TOKENS), 0, (0, 1, 2), 0, True)])
    np.testing.assert_allclose(model.logits(hidden), _scalar_logits(weights, TOKENS), rtol=1e-4, atol=1e-4)


def test_rms_norm_of_three_and_four() -> None:
    """sqrt((9 + 16) / 2) = 3.5355339, so (3, 4) becomes (0.8485281, 1.1313708); the weight doubles the second."""
    weights = _tiny("interleaved")
    weights.config = LlamaConfig(**{**weights.config.__dict__, "eps": 0.0})
    model = NumpyLlama(weights, FP32, 1, 4)
    given, weight = np.array([[3, 4]], np.float32), np.array([1, 2], np.float32)
    np.testing.assert_allclose(model.norm(given, weight), [[0.8485281, 2.2627417]], rtol=1e-6)


def test_rope_turns_the_right_pairs() -> None:
    """At position 1 the first pair turns by 1 radian, the second by 1/sqrt(50): (1, 0) becomes (cos, sin)."""
    first, second = (math.cos(1), math.sin(1)), (math.cos(50**-0.5), math.sin(50**-0.5))
    position = np.array([1])
    interleaved = NumpyLlama(_tiny("interleaved"), FP32, 1, 4).rope(np.array([[[1, 0, 1, 0]]], np.float32), position)
    np.testing.assert_allclose(interleaved[0, 0], [*first, *second], rtol=1e-6)
    halves = NumpyLlama(_tiny("half-split"), FP32, 1, 4).rope(np.array([[[1, 1, 0, 0]]], np.float32), position)
    np.testing.assert_allclose(halves[0, 0], [first[0], second[0], first[1], second[1]], rtol=1e-6)


def test_fp16_overflow_shows() -> None:
    """A residual beyond 65504 is infinite in fp16 and makes NaN of what follows; bf16 and fp32 have the range."""
    big = np.full((1, 12), 60000, np.float32)
    for dtype, finite in (("fp16", False), ("bf16", True), ("fp32", True)):
        numerics = Numerics("fp16" if dtype == "fp16" else "bf16" if dtype == "bf16" else "fp32")
        model = NumpyLlama(_tiny("interleaved"), numerics, 1, 4)
        assert bool(np.isfinite(model.residual(big, big)).all()) is finite


def _trainer() -> ModuleType:
    path = Path(__file__).parents[3] / "tools" / "train_byte_model.py"
    spec = importlib.util.spec_from_file_location("train_byte_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gradients_of_the_trainer_equal_finite_differences() -> None:
    trainer, rng = _trainer(), np.random.default_rng(3)
    weights = {name: w.astype(np.float64) * (3 if w.ndim == 2 else 1) for name, w in trainer.initial_weights(rng).items()}
    tokens = rng.integers(0, 128, (2, 9))
    _, gradients = trainer.loss_and_gradients(weights, tokens)
    for name in sorted(weights):
        at = (int(tokens[0, 3]), 5) if name == "token_embd" else tuple(int(rng.integers(0, size)) for size in weights[name].shape)
        kept, step = weights[name][at], 1e-5
        weights[name][at] = kept + step
        above, _ = trainer.loss_and_gradients(weights, tokens)
        weights[name][at] = kept - step
        below, _ = trainer.loss_and_gradients(weights, tokens)
        weights[name][at] = kept
        assert gradients[name][at] == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-8), name


def test_byte_model_predicts_unseen_text_as_the_trainer_says() -> None:
    """The committed weights have about 1.3 nats per byte on the validation text, and the engine's forward pass agrees with the
    trainer's, which is written separately."""
    trainer = _trainer()
    data = byte_model.validation_bytes().astype(np.int64)
    starts = np.random.default_rng(1).integers(0, len(data) - 65, 24)
    windows = np.stack([data[s : s + 65] for s in starts])
    with np.load(byte_model.DATA) as stored:
        weights = {name: stored[name].astype(np.float32) for name in stored.files if name != "validation_bytes"}
    assert sum(w.size for w in weights.values()) == 233_952
    expected, _ = trainer.loss_and_gradients(weights, windows)
    model = NumpyLlama(byte_model.load(FP32), FP32, 4, 16)
    losses = []
    for window in windows:
        logits = model.logits(model.forward([Chunk(tuple(int(t) for t in window[:64]), 0, (0, 1, 2, 3), 0, True)]))
        losses += [-float(log_softmax(row)[target]) for row, target in zip(logits, window[1:], strict=True)]
    assert np.mean(losses) == pytest.approx(expected, abs=1e-4)
    assert expected < 1.45
