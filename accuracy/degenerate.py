"""Degenerate text: endless repetition, garbled characters, a model that believes in nothing it says. Pure; no vocabulary is needed.

The limits are the defaults of msprobe's response-anomaly detector (documentation of Ascend/msprobe): windows of 128 with stride 64,
top-k mass below 0.4, most likely token below -5, garbled share 0.2 in two windows, distinct 3-grams below 0.2, autocorrelation above 0.65.
That tool judges token ids with a table of their categories for each model. Here words, and characters where there are no words, stand
for tokens, and a repetition must show in both of its measures: tables, source code and lists repeat themselves and are healthy.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np

WINDOW, STRIDE = 128, 64  # characters or log-probabilities
SHORTEST = 24  # characters of one window: less proves nothing
DISTINCT = 0.2  # share of different 3-grams
AUTOCORRELATION = 0.65
GARBLED, GARBLED_WINDOWS = 0.2, 2
LEAST_MASS = 0.4  # of the top-20 alternatives
LEAST_LOGPROB = -5.0  # of the most likely token, nats
_GARBLE = {"Cn", "Co", "Cs"}  # unassigned, private use, half a pair: what a healthy tokenizer's text does not hold


def degenerate(text: str, token_logprobs: Sequence[float] = (), *, masses: Sequence[float] = ()) -> str:
    """Why the answer is degenerate, or "".

    `token_logprobs`: of the most likely token at each generated position, nats. `masses`: probability of the top-20 alternatives there
    (fewer than 20 hold less, so leave it out for them).
    """
    if any(math.isnan(v) for v in (*token_logprobs, *masses)):
        return "a log-probability is NaN"
    return _believes(token_logprobs, masses) or _garbled(text) or _repeats(text)


def _windows(length: int) -> list[tuple[int, int]]:
    if length <= WINDOW:
        return [(0, length)]
    return [(start, start + WINDOW) for start in range(0, length - WINDOW + 1, STRIDE)]


def _believes(logprobs: Sequence[float], masses: Sequence[float]) -> str:
    """Whether a fifth of a window's positions have next to no likely token. A few open positions are healthy."""
    for values, limit, what in ((logprobs, LEAST_LOGPROB, "a most likely token below"), (masses, LEAST_MASS, "top-20 mass below")):
        for start, end in _windows(len(values)):
            part = values[start:end]
            share = sum(v < limit for v in part) / len(part) if len(part) >= 8 else 0.0
            if share > GARBLED:
                return f"{share:.0%} of positions {start} to {end} have {what} {limit:g}"
    return ""


def _garbled(text: str) -> str:
    bad, first, needed = 0, 0, GARBLED_WINDOWS if len(text) > WINDOW else 1
    for start, end in _windows(len(text)):
        part = text[start:end]
        if len(part) < SHORTEST:
            continue
        share = sum(c == "\ufffd" or _control(c) or unicodedata.category(c) in _GARBLE for c in part) / len(part)
        if share >= GARBLED:
            first = start if not bad else first
            bad += 1
    return f"{bad} windows from character {first} are garbled" if bad >= needed else ""


def _control(char: str) -> bool:
    return unicodedata.category(char) == "Cc" and char not in "\t\n\r"


def _repeats(text: str) -> str:
    """One unit again and again, in windows of the text's end: an answer may begin well and get stuck."""
    for start, end in reversed(_windows(len(text))):
        part = text[start:end]
        if len(part.strip()) < SHORTEST:
            continue
        grams = {part[i : i + 3] for i in range(len(part) - 2)}
        distinct = len(grams) / (len(part) - 2)
        if distinct < DISTINCT and (peak := _autocorrelation(part)) > AUTOCORRELATION:
            return f"characters {start} to {end} repeat themselves (distinct 3-grams {distinct:.2f}, autocorrelation {peak:.2f})"
    return ""


def _autocorrelation(part: str) -> float:
    """Highest share of characters that equal the one some steps earlier, over steps up to half of the window. 1 for a constant text.

    Equality instead of a product of code points: those are names and not amounts.
    """
    codes = np.asarray([ord(c) for c in part])
    return max(float(np.mean(codes[lag:] == codes[:-lag])) for lag in range(1, len(codes) // 2 + 1))
