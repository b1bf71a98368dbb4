"""What the scheduler asks of a model: one iteration over a mixed batch, and logits of chosen rows.

The seam between scheduling (which tokens, whose cache blocks) and computing. The numpy Llama and the paced model implement it;
tests put a model in its place that blocks until they say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sandbox.engine.numerics import F32


@dataclass(frozen=True)
class Chunk:
    """The tokens that one sequence contributes to an iteration.

    `start` is the position of the first of them; everything before it lies in the cache `blocks` already. `cached_tokens` of
    these came from another request's prefix. `prefill` is false for the single new token of a running sequence. `request` counts the
    requests in order of arrival; `logprobs`: its client asked for log-probabilities. A right model looks at neither.
    """

    tokens: tuple[int, ...]
    start: int
    blocks: tuple[int, ...]
    cached_tokens: int
    prefill: bool
    request: int = 0
    logprobs: bool = False


class StepModel(Protocol):
    @property
    def vocab(self) -> int: ...

    def forward(self, batch: Sequence[Chunk]) -> F32:
        """Final hidden states, one row per token, chunks one after another; fills the cache."""
        ...

    def logits(self, hidden: F32) -> F32:
        """Logits [row, vocabulary] of hidden rows. The caller keeps the number of rows small: a row is the whole vocabulary."""
        ...
