"""Readings of one serving replica over time, and what follows from them: restarts, saturation, lengths, rates per batch. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# 97.5 % quantiles of Student's t by degrees of freedom (tables of any textbook); between two the smaller number of degrees counts.
_T = ((1, 12.71), (2, 4.30), (3, 3.18), (4, 2.78), (5, 2.57), (7, 2.36), (9, 2.262), (14, 2.145), (19, 2.093), (29, 2.045), (59, 2.001))


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of a replica. Counters never fall while the engine runs; None = the engine does not export it."""

    at_s: float
    output_tokens: float  # counter
    running: float | None = None
    waiting: float | None = None
    prompt_tokens: float | None = None  # counter
    finished: float | None = None  # counter of finished requests
    preemptions: float | None = None  # counter


def since_reset(samples: Sequence[Sample]) -> list[Sample]:
    """The samples after the last restart of the counters."""
    start = 0
    for place in range(1, len(samples)):
        before, now = samples[place - 1], samples[place]
        pairs = [
            (before.output_tokens, now.output_tokens),
            (before.prompt_tokens, now.prompt_tokens),
            (before.finished, now.finished),
        ]
        if any(old is not None and new is not None and new < old for old, new in pairs):
            start = place
    return list(samples[start:])


def saturated(samples: Sequence[Sample], longest_gap_s: float) -> float:
    """Seconds between two neighbouring samples that both show a waiting request and are close enough to vouch for the time between."""
    total = 0.0
    for before, now in pairwise(samples):
        gap = now.at_s - before.at_s
        if gap <= longest_gap_s and (before.waiting or 0.0) > 0.0 and (now.waiting or 0.0) > 0.0:
            total += gap
    return total


def grown(samples: Sequence[Sample], counter: str) -> float | None:
    """Growth of one counter from the first to the last reading; None = not exported."""
    first, last = getattr(samples[0], counter), getattr(samples[-1], counter)
    return None if first is None or last is None else float(last - first)


def lengths(samples: Sequence[Sample]) -> tuple[list[tuple[float, float]], float, float] | None:
    """(mean input, mean output) tokens per finished request in each third of the time, and over all of it."""
    start, seconds = samples[0].at_s, samples[-1].at_s - samples[0].at_s
    cuts = [min(range(len(samples)), key=lambda place: abs(samples[place].at_s - start - seconds * part / 3)) for part in range(4)]
    means = []
    for first, last in [*pairwise(cuts), (0, len(samples) - 1)]:
        piece = samples[first : last + 1]
        requests, prompt = grown(piece, "finished"), grown(piece, "prompt_tokens")
        if requests is None or prompt is None or requests <= 0:
            return None
        means.append((prompt / requests, (piece[-1].output_tokens - piece[0].output_tokens) / requests))
    return means[:-1], means[-1][0], means[-1][1]


def mean_running(samples: Sequence[Sample]) -> float | None:
    """Mean of the readings that show it; None = no reading does."""
    known = [sample.running for sample in samples if sample.running is not None]
    return sum(known) / len(known) if known else None


def batch_rates(samples: Sequence[Sample], batches: int) -> tuple[float, ...]:
    """Tokens/s in each of the equal batches of time; the counter is interpolated at their borders."""
    start, width = samples[0].at_s, (samples[-1].at_s - samples[0].at_s) / batches
    marks = [_counter_at(samples, start + width * place) for place in range(batches)] + [samples[-1].output_tokens]
    return tuple((after - before) / width for before, after in pairwise(marks))


def _counter_at(samples: Sequence[Sample], at_s: float) -> float:
    for before, now in pairwise(samples):
        if at_s <= now.at_s:
            part = max(0.0, (at_s - before.at_s) / (now.at_s - before.at_s))
            return before.output_tokens + (now.output_tokens - before.output_tokens) * part
    return samples[-1].output_tokens


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of the mean of independent values."""
    count = len(values)
    mean = sum(values) / count
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return [t for degrees, t in _T if degrees <= count - 1][-1] * spread / math.sqrt(count)
