"""From logits to a token and its log-probabilities."""

from __future__ import annotations

import numpy as np

from sandbox.engine.backend import Sampling, TokenLogprobs
from sandbox.engine.numerics import F32


def log_softmax(logits: F32) -> F32:
    """Log-probabilities of one row; −inf stays −inf. A NaN anywhere makes everything NaN, as it should."""
    shifted = logits - logits.max()
    with np.errstate(divide="ignore", invalid="ignore"):
        out: F32 = shifted - np.log(np.exp(shifted).sum(dtype=np.float32))
    return out


def describe(logits: F32, token: int, count: int) -> TokenLogprobs:
    """The chosen token's log-probability and rank (1 is the most likely), and the `count` most likely; ties: lower id first."""
    values = log_softmax(logits)
    if count:
        candidates = np.argpartition(-values, min(count, len(values) - 1))[: count + 1]
        # argpartition cuts ties at random; take every token that is as likely as the last one that made it
        floor = np.sort(values[candidates])[::-1][min(count, len(candidates)) - 1]
        candidates = np.flatnonzero(values >= floor)
        order = candidates[np.lexsort((candidates, -values[candidates]))][:count]
        top = tuple((int(i), float(values[i])) for i in order)
    else:
        top = ()
    return TokenLogprobs(token, float(values[token]), int((values > values[token]).sum()) + 1, top)


def choose(logits: F32, sampling: Sampling, rng: np.random.Generator) -> int:
    """Greedy at temperature 0, otherwise a draw after temperature, top-k and top-p in this order (as vLLM applies them).

    Logits that are not finite cannot be drawn from: argmax returns the first NaN, as devices that overflow are seen to do.
    """
    if sampling.temperature == 0 or np.isnan(logits).any() or np.isposinf(logits).any():
        return int(np.argmax(logits))
    scaled = logits.astype(np.float64) / sampling.temperature
    order = np.argsort(-scaled, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    probs = np.exp(scaled[order] - scaled[order[0]])
    probs /= probs.sum()
    if sampling.top_p < 1:
        keep = int(np.searchsorted(np.cumsum(probs), sampling.top_p)) + 1  # the token that crosses the line stays
        order, probs = order[:keep], probs[:keep] / probs[:keep].sum()
    return int(order[min(int(np.searchsorted(np.cumsum(probs), rng.random(), side="right")), len(order) - 1)])
