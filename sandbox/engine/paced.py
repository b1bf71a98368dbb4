"""The paced model: sleeps the time that a large accelerator's iteration takes, and computes nothing.

Why: two cores do not give more throughput by more replicas, so scaling cannot be shown with a real model on one machine. A paced
replica has the queueing behaviour of a real one. It says `paced: true` in /v1/models, and its text is plainly a filler.

Iteration time (the replica model of the autoscaling benchmark): 30 ms + 0.25 ms per prefill token + 0.5 ms per running sequence;
at most 512 tokens per iteration, 48 sequences, 80 000 cache tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from sandbox.engine.numerics import F32
from sandbox.engine.step_model import Chunk

BASE_SECONDS, SECONDS_PER_PREFILL_TOKEN, SECONDS_PER_SEQUENCE = 0.030, 0.00025, 0.0005
MAX_TOKENS_PER_ITERATION, MAX_SEQUENCES, CACHE_TOKENS, CONTEXT = 512, 48, 80_000, 32_768
FILLER = b"paced reply. "


def iteration_seconds(batch: Sequence[Chunk]) -> float:
    prefill = sum(len(chunk.tokens) for chunk in batch if chunk.prefill)
    return BASE_SECONDS + SECONDS_PER_PREFILL_TOKEN * prefill + SECONDS_PER_SEQUENCE * len(batch)


class PacedModel:
    """A `StepModel` whose answer to any prompt is a fixed text, token by token, for ever."""

    def __init__(
        self,
        vocab: int,
        filler: Sequence[int],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.vocab = vocab
        self._filler = np.asarray(filler, np.int64)
        self._sleep, self._clock = sleep, clock
        self._due = 0.0

    def forward(self, batch: Sequence[Chunk]) -> F32:
        """Returns once the iteration's time is over, counted from the end of the last one if that followed closely: the
        scheduler's own work between two iterations is part of the time, as it overlaps on a real device."""
        seconds = iteration_seconds(batch)
        now = self._clock()
        start = self._due if now - self._due < BASE_SECONDS else now
        self._due = start + seconds
        self._sleep(max(0.0, self._due - now))
        positions = np.concatenate([np.arange(c.start, c.start + len(c.tokens)) for c in batch])
        return positions.astype(np.float32)[:, None]

    def logits(self, hidden: F32) -> F32:
        out: F32 = np.full((len(hidden), self.vocab), -20.0, np.float32)
        chosen = self._filler[hidden[:, 0].astype(np.int64) % len(self._filler)]
        out[np.arange(len(hidden)), chosen] = 0.0
        return out
