"""From distances by position to what the decision reads of each prompt, for all prompts of a variant at once.

`accuracy.measure` and `accuracy.layout` define it for one sample; a test holds this against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accuracy.hard import LEAST_OVERLAP
from accuracy.policy import Policy
from accuracy.types import Condition, Mode, Sample
from bench.accuracy.distances import FEW, LEAST, TOP, Bools, Columns, Floats

CLIP = 2.0  # nats: the most that one position's difference counts
IMPOSSIBLE = -25.0  # nats below the reference: only a logit of minus infinity, which `distances` floors, comes so low


@dataclass(frozen=True, slots=True)
class Observed:
    """One value per prompt, [prompt]."""

    kl: Floats | None  # None: the answers tell the golden token only
    sq: Floats
    bias: Floats
    worst: Floats  # divergence at the worst position; 0 where there is none
    flip: Floats  # largest margin of a swapped likeliest token; 0 = none swapped
    overlap: Floats  # mean of the shared mass; 1 where it cannot be told
    ruled_out: Bools  # a golden token that the candidate takes for impossible
    lone: Floats  # the least of it at any position
    finite: Bools


def observe(columns: Columns, *, top: int = TOP, positions: int | None = None) -> Observed:
    """What `top` alternatives tell (20, 5, or 1 for the golden token alone) at all positions, or at so many spread evenly."""
    if top not in (1, FEW, TOP):
        raise ValueError(f"top: {top}, allowed 1, {FEW}, {TOP}")
    if positions is not None:
        columns = columns.take(np.linspace(0, columns.delta.shape[1] - 1, positions).round().astype(np.intp))
    delta = np.clip(columns.delta, -CLIP, CLIP)
    finite = np.asarray(columns.finite.all(1), np.bool_)
    ruled_out = np.asarray((columns.delta < IMPOSSIBLE).any(1), np.bool_)
    none = np.zeros(len(delta))
    sq, bias, golden = (delta**2).mean(1), delta.mean(1), _golden(columns)
    if top == 1:
        return Observed(None, sq, bias, golden.max(1), none, none + 1, ruled_out, none + 1, finite)
    kl, flip, overlap = (
        (columns.kl_top, columns.flip, columns.overlap) if top == TOP else (columns.kl_few, columns.flip_few, columns.overlap_few)
    )
    kl = np.maximum(kl, 0)
    return Observed(kl.mean(1), sq, bias, np.maximum(kl, golden).max(1), flip.max(1), overlap.mean(1), ruled_out, overlap.min(1), finite)


def _golden(columns: Columns) -> Floats:
    """Divergence of the golden token against all others, by position."""
    with np.errstate(invalid="ignore"):
        p, q = np.exp(columns.own), np.exp(columns.own + columns.delta)
        rest_p, rest_q = np.maximum(1 - p, LEAST), np.maximum(1 - q, LEAST)
        found: Floats = np.maximum(rest_p * np.log(rest_p / rest_q) - p * columns.delta, 0)
    return found


def hard(seen: Observed, policy: Policy) -> Bools:
    """Prompts that block at sight."""
    found = ~seen.finite
    return found if seen.kl is None else found | ~(seen.kl <= policy.hard_kl)


def doubted(seen: Observed) -> Bools:
    """Prompts that are asked once more: most of what the reference takes for likely is missing, or a golden token is impossible."""
    return (seen.overlap < LEAST_OVERLAP) | seen.ruled_out


def bad(seen: Observed, policy: Policy) -> Bools:
    """Violations of the tail."""
    return (seen.worst > policy.margins.tail_kl) | (seen.flip > policy.margins.flip_margin_nats)


def samples(
    order: Sequence[int], seen: Observed, noise: Observed, strata: Sequence[str], *, hard_codes: Sequence[str] = ()
) -> tuple[Sample, ...]:
    """The prompts of `order` as the decision's own samples, to be decided by `accuracy.decision`. Where a prompt is told to be a hard fault
    that is its code."""

    def sample(index: int, at: int) -> Sample:
        return Sample(
            index=index,
            item=f"prompt-{at}",
            stratum=strata[index],
            modality="Text",
            condition=Condition(),
            mode=Mode.PROMPT_LOGPROBS,
            d_kl=None if seen.kl is None else float(seen.kl[at]),
            d_sq=float(seen.sq[at]),
            noise_kl=None if noise.kl is None else float(noise.kl[at]),
            noise_sq=float(noise.sq[at]),
            bias=float(seen.bias[at]),
            max_kl=float(seen.worst[at]),
            flip=float(seen.flip[at]) or None,
            positions=1,
            hard=hard_codes[at] if hard_codes else "",
        )

    return tuple(sample(index, int(at)) for index, at in enumerate(order))
