"""What a comparison of two models says at each position, for all positions of a variant at once.

The definitions are those of `accuracy.measure` (and of the design, §7), in array form: a test holds the two against each other. Beside
them stands what other gates look at: the likeliest token, the five likeliest, the cosine of the whole row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
TOP, FEW = 20, 5  # alternatives that are compared: as most engines tell them, and as MindIE does
FLOOR = -50.0  # log-probabilities are not taken below this
LEAST = 1e-9  # and the mass outside the shared alternatives not below this


@dataclass(frozen=True, slots=True)
class Columns:
    """One value per prompt and position, [prompt, position]; nats. NaN where a log-probability is none."""

    kl: Floats  # over the whole vocabulary
    kl_top: Floats  # over the shared ids of both top-20 lists and the rest
    kl_few: Floats  # over those of both top-5 lists
    own: Floats  # log-probability of the golden token by the reference
    delta: Floats  # the candidate's less that
    flip: Floats  # reference margin where the likeliest token differs (by its top-20 list), else 0
    flip_few: Floats  # the same by its top-5 list
    overlap: Floats  # reference mass of the shared ids over that of its top-20 list
    overlap_few: Floats
    finite: Bools  # golden and likeliest log-probabilities are numbers
    same: Bools  # the likeliest token is the same
    close: Bools  # each likeliest token is among the other side's five likeliest
    right: Bools  # the candidate's likeliest token is the text's
    right_reference: Bools
    cosine: Floats  # of the two whole rows
    apart: Floats  # largest difference in them

    def take(self, positions: npt.NDArray[np.intp]) -> Columns:
        """Only these positions of every prompt."""
        return Columns(*(getattr(self, f.name)[:, positions] for f in fields(self)))


def compare(reference: npt.NDArray[Any], candidate: npt.NDArray[Any], golden: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """`Columns` of rows [position, vocabulary] of log-probabilities and their golden tokens [position], one value per position."""
    ref, cand = reference.astype(np.float64), candidate.astype(np.float64)
    rows = np.arange(len(ref))
    with np.errstate(all="ignore"):
        p = np.exp(ref)
        floored = np.where(np.isnan(cand), np.nan, np.maximum(cand, FLOOR))
        terms = np.where(p > 0, p * (np.maximum(ref, FLOOR) - floored), 0.0)
        top_ref, top_cand = _likeliest(ref), _likeliest(cand)
        best_ref, best_cand = top_ref[:, 0], top_cand[:, 0]
        same = best_ref == best_cand
        few_ref, few_cand = top_ref[:, :FEW], top_cand[:, :FEW]
        both = np.where(np.isfinite(ref) & np.isfinite(cand), True, False)
        a, b = np.where(both, ref, 0.0), np.where(both, cand, 0.0)
        cosine = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
        cosine[np.isnan(cand).any(1)] = np.nan
        kl_top, overlap = _shared(ref, floored, top_ref, top_cand)
        kl_few, overlap_few = _shared(ref, floored, few_ref, few_cand)
        own, others = np.maximum(ref[rows, golden], FLOOR), floored[rows, golden]
        return {
            "kl": terms.sum(1),
            "kl_top": kl_top,
            "kl_few": kl_few,
            "own": own,
            "delta": others - own,
            "flip": np.where(same, 0.0, _margin(ref, top_ref, best_cand)),
            "flip_few": np.where(same, 0.0, _margin(ref, few_ref, best_cand)),
            "overlap": overlap,
            "overlap_few": overlap_few,
            "finite": ~np.isnan(others) & ~np.isnan(cand[rows, best_cand]),
            "same": same,
            "close": (few_cand == best_ref[:, None]).any(1) & (few_ref == best_cand[:, None]).any(1),
            "right": best_cand == golden,
            "right_reference": best_ref == golden,
            "cosine": cosine,
            "apart": np.abs(np.maximum(ref, FLOOR) - floored).max(1),
        }


def stacked(prompts: Sequence[dict[str, npt.NDArray[Any]]]) -> Columns:
    """One `compare` per prompt, all of the same length."""
    return Columns(*(np.stack([each[f.name] for each in prompts]) for f in fields(Columns)))


def reshaped(rows: dict[str, npt.NDArray[Any]], prompts: int) -> Columns:
    """One `compare` over all prompts' positions, one prompt after another."""
    return Columns(*(rows[f.name].reshape(prompts, -1) for f in fields(Columns)))


def _likeliest(rows: Floats) -> npt.NDArray[np.intp]:
    """Ids of the `TOP` likeliest of each row, likeliest first, the lower id first among equals."""
    count = min(TOP, rows.shape[1])
    ordered = np.where(np.isnan(rows), -np.inf, rows)
    ids = np.sort(np.argpartition(-ordered, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(ordered, ids, 1), axis=1, kind="stable")
    return np.take_along_axis(ids, order, 1)


def _shared(ref: Floats, cand: Floats, top_ref: npt.NDArray[np.intp], top_cand: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Divergence over the ids in both lists and one bucket for all others, and the overlap of the lists by the reference's mass."""
    shared = (top_ref[:, :, None] == top_cand[:, None, :]).any(2)
    lp, lq = np.maximum(np.take_along_axis(ref, top_ref, 1), FLOOR), np.take_along_axis(cand, top_ref, 1)
    p, q = np.where(shared, np.exp(lp), 0.0), np.where(shared, np.exp(lq), 0.0)
    rest_p, rest_q = np.maximum(1 - p.sum(1), LEAST), np.maximum(1 - q.sum(1), LEAST)
    inside = np.where(shared, p * (lp - lq), 0.0).sum(1)
    return inside + rest_p * np.log(rest_p / rest_q), p.sum(1) / np.exp(lp).sum(1)


def _margin(ref: Floats, top: npt.NDArray[np.intp], best: npt.NDArray[np.intp]) -> Floats:
    """How much likelier the reference takes its own first token than the candidate's; if that is outside its list, than the list's last."""
    rows = np.arange(len(ref))
    first, last = ref[rows, top[:, 0]], ref[rows, top[:, -1]]
    known = (top == best[:, None]).any(1)
    margin: Floats = first - np.where(known, ref[rows, best], last)
    return margin
