"""A step model that can be made to err while it runs: the right model, and beside it one for each set of faults that acts now.

Without a fault a pass goes straight to the right model. With faults each sequence of a pass is given to the model of the faults that
act on it, and the hidden rows carry one more column that says which model's head they belong to.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from sandbox.engine.faults.model import FaultyLlama
from sandbox.engine.faults.switches import Fault
from sandbox.engine.faults.triggers import Situation
from sandbox.engine.faults.weights import changed, check
from sandbox.engine.numerics import F32, Numerics
from sandbox.engine.numpy_llama import LlamaConfig, LlamaWeights, NumpyLlama
from sandbox.engine.step_model import Chunk

Acting = frozenset[int]  # faults that act, by their place in the list


class SwitchedModel:
    """A `StepModel`. `set` may be called from any thread; all else belongs to the scheduler's."""

    def __init__(self, right: NumpyLlama) -> None:
        self.right = right
        self._faults: tuple[Fault, ...] = ()
        self._pending: tuple[Fault, ...] | None = None
        self._lock = threading.Lock()
        self._models: dict[Acting, NumpyLlama] = {frozenset(): right}
        self._heads: list[NumpyLlama] = [right]

    @property
    def vocab(self) -> int:
        return self.right.vocab

    @property
    def config(self) -> LlamaConfig:
        return self.right.config

    def set(self, faults: Sequence[Fault]) -> None:
        """From the next pass on exactly these. Raises FaultError for a layer, head or token that the model does not have."""
        wanted = tuple(fault for fault in faults if fault.switch.place != "request")
        for fault in wanted:
            check(fault, self.config)
        with self._lock:
            self._pending = wanted

    def forward(self, batch: Sequence[Chunk]) -> F32:
        if self._pending is not None:
            self._take()
        if not self._faults:
            return self.right.forward(batch)
        return self._mixed(batch)

    def logits(self, hidden: F32) -> F32:
        width = self.config.width
        if hidden.shape[1] == width:
            return self.right.logits(hidden)
        out: F32 = np.empty((len(hidden), self.vocab), np.float32)
        marks = hidden[:, width].astype(int)
        for mark in np.unique(marks):
            rows = np.flatnonzero(marks == mark)
            out[rows] = self._heads[mark].logits(np.ascontiguousarray(hidden[rows, :width]))
        return out

    def _take(self) -> None:
        with self._lock:
            wanted, self._pending = self._pending, None
        if wanted is not None and wanted != self._faults:
            self._faults, self._models, self._heads = wanted, {frozenset(): self.right}, [self.right]

    def _mixed(self, batch: Sequence[Chunk]) -> F32:
        """Each part of each sequence through its model. Parts of one sequence come in order, because the set of faults that act grows
        with the position, and a smaller set goes first."""
        longest = max(len(chunk.tokens) for chunk in batch)
        parts: dict[Acting, list[tuple[int, Chunk]]] = {}
        row = 0
        for chunk in batch:
            situation = Situation(chunk.request, len(chunk.tokens), len(batch), longest, chunk.cached_tokens, chunk.logprobs)
            on = [(index, fault.above) for index, fault in enumerate(self._faults) if all(t.holds(situation) for t in fault.triggers)]
            end = chunk.start + len(chunk.tokens)
            bounds = sorted({chunk.start, end} | {above for _, above in on if chunk.start < above < end})
            for low, high in pairwise(bounds):
                acting = frozenset(index for index, above in on if above <= low)
                piece = replace(chunk, tokens=chunk.tokens[low - chunk.start : high - chunk.start], start=low)
                parts.setdefault(acting, []).append((row + low - chunk.start, piece))
            row += len(chunk.tokens)
        hidden: F32 = np.empty((row, self.config.width + 1), np.float32)
        for acting in sorted(parts, key=lambda each: (len(each), sorted(each))):
            model = self._model(acting)
            rows = np.concatenate([np.arange(at, at + len(piece.tokens)) for at, piece in parts[acting]])
            hidden[rows, :-1] = model.forward([piece for _, piece in parts[acting]])
            hidden[rows, -1] = self._heads.index(model)
        return hidden

    def _model(self, acting: Acting) -> NumpyLlama:
        if acting not in self._models:
            self._models[acting] = FaultyLlama(self.right, [self._faults[index] for index in sorted(acting)])
            self._heads.append(self._models[acting])
        return self._models[acting]


def build(
    weights: LlamaWeights, numerics: Numerics, blocks: int, block_size: int, faults: Sequence[Fault]
) -> tuple[SwitchedModel, tuple[Fault, ...]]:
    """A model that starts with these faults, and those of them that are settled: a difference of the weights that always acts is put into
    the only copy there is, because a second one would double a replica's memory. Raises FaultError."""
    for fault in faults:
        check(fault, weights.config)
    # w8a8 has a part in the operations too
    settled = tuple(fault for fault in faults if fault.switch.place == "weights" and fault.always and fault.name != "w8a8")
    if settled:
        weights = changed(weights, settled, numerics, release=True)
    model = SwitchedModel(NumpyLlama(weights, numerics, blocks, block_size))
    model.set([fault for fault in faults if fault not in settled])
    return model, settled
