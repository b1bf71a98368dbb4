"""From two answers to numbers: distances between log-probabilities, position by position, and the sample of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accuracy.policy import Policy
from accuracy.types import Item, Sample, Scores


@dataclass(frozen=True, slots=True)
class Divergence:
    """Distance of one answer from another; None = cannot be said. Nats, per token where it is a mean."""

    d_kl: float | None
    d_sq: float | None
    bias: float | None
    max_kl: float
    worst: int | None
    flip: float | None
    overlap: float | None
    used: int
    unusable: int


def divergence(reference: Scores, candidate: Scores) -> Divergence:
    raise NotImplementedError


def sample(
    index: int,
    item: Item,
    reference: Scores | None,
    candidate: Scores | Sequence[Scores],
    noise_kl: float | None,
    noise_sq: float | None,
    policy: Policy,
    *,
    consistent: Sequence[Scores | tuple[Scores, Scores]] | None = None,
    hard: str = "",
    intermittent: str = "",
    task: float | None = None,
) -> Sample:
    raise NotImplementedError
