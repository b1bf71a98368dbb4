"""Gates in use elsewhere, re-implemented from their description, on the same prompts: how often each passes a variant.

What had to be assumed. A task score is the share of positions at which the likeliest token is the text's own, over 1319 positions (as
many as GSM8K has questions); both sides are scored on the same positions, which favours these gates, because their baselines are fixed
figures of another run. Greedy text is compared position by position after the same golden prefix, up to the first difference: the
continuation of one side after it cannot be seen from here. A tensor is one row of log-probabilities, infinite entries left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bench.accuracy.distances import Bools, Columns

QUESTIONS = 1319
PROMPTS = 8  # of a comparison of texts or tensors
Draw = npt.NDArray[np.int64]  # [run, prompt]


def relative(columns: Columns, runs: int, chance: np.random.Generator) -> Bools:
    """vllm-ascend's accuracy tests: the score differs from the recorded one by at most 5 % of it."""
    ours, theirs = _scores(columns, runs, chance)
    return np.asarray(np.abs(ours - theirs) <= 0.05 * theirs, np.bool_)


def tolerance(columns: Columns, runs: int, chance: np.random.Generator) -> Bools:
    """vLLM's GSM8K tests: the score is at least the expected one less 0.08 (called relative there, and subtracted)."""
    ours, theirs = _scores(columns, runs, chance)
    return np.asarray(ours >= theirs - 0.08, np.bool_)


def top_five(columns: Columns, runs: int, chance: np.random.Generator) -> Bools:
    """vLLM's model tests: at the first token that differs each side's is among the other's five likeliest."""
    differs = ~columns.same
    first = differs.argmax(1)
    passes = ~differs.any(1) | columns.close[np.arange(len(first)), first]
    return _all(np.asarray(passes & columns.finite.all(1)), runs, chance)


def greedy(columns: Columns, runs: int, chance: np.random.Generator) -> Bools:
    """The greedy text of eight prompts is the same."""
    return _all(np.asarray((columns.same & columns.finite).all(1)), runs, chance)


def tensors(columns: Columns, runs: int, chance: np.random.Generator) -> Bools:
    """msprobe's comparison: no tensor with a cosine below 0.99 and a largest difference above 0.001, below 0.9, or a difference above 1."""
    with np.errstate(invalid="ignore"):
        fails = ((columns.cosine < 0.99) & (columns.apart > 1e-3)) | (columns.cosine < 0.9) | (columns.apart > 1)
    # A NaN is told as such and not judged; read as a failure here.
    return _all(np.asarray(~(fails | np.isnan(columns.cosine)).any(1)), runs, chance)


def cosine(columns: Columns, runs: int, chance: np.random.Generator) -> Bools:
    """Its cosine threshold of 0.99 alone."""
    return _all(np.asarray((columns.cosine >= 0.99).all(1)), runs, chance)


GATES: dict[str, Callable[[Columns, int, np.random.Generator], Bools]] = {
    "vllm-ascend, 5 % of the score": relative,
    "vLLM, score less 0.08": tolerance,
    "vLLM, top-5 check": top_five,
    "greedy text equal": greedy,
    "msprobe, cosine and difference": tensors,
    "msprobe, cosine alone": cosine,
}


def passed(columns: Columns, *, runs: int, seed: int) -> dict[str, float]:
    """Share of runs that each gate passes."""
    return {name: float(gate(columns, runs, np.random.default_rng(seed)).mean()) for name, gate in GATES.items()}


def _scores(columns: Columns, runs: int, chance: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    which = chance.integers(0, columns.right.size, (runs, QUESTIONS))
    right = columns.right & columns.finite
    return right.reshape(-1)[which].mean(1), columns.right_reference.reshape(-1)[which].mean(1)


def _all(passes: npt.NDArray[np.bool_], runs: int, chance: np.random.Generator) -> Bools:
    return np.asarray(passes[chance.integers(0, len(passes), (runs, PROMPTS))].all(1), np.bool_)
