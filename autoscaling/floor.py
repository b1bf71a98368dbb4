"""The floor by backtest (§4.2b.4): the smallest capacity that would have met the goal on the last hour, rescaled to today.

The past is a row of bins of arriving work. A fluid queue with constant capacity c serves them; work that arrives when the queue holds more
than c x d seconds of work is late. `smallest` finds the least c at which the late share, each bin weighted, is at most 1 - p.

    scaled past  a_k / mean10(k) x level        level: EWMA over `FLOOR_LEVEL_S`, 10 min
    mean10       mean over the 10 minutes around the bin; of those before and after it too, where they are whole, and then the highest:
                 at a lasting step the mean around it lies half way, and either side would look like a burst
    floor = 0.6 (1 + 0.5 thin) x smallest(1 - p) (1 - thin)      thin = 1 / (1 + minutes seen): little knowledge asks for more
            + 6 x 1.5 / (1.5 + minutes) x min(1, excess / mean) x excess      excess: `smallest` less the mean, in full where the
                                                                              variance is twice what chance explains, nothing where it is
                                                                              all chance; a first burst is seldom the largest. The constants
                                                                              are those of `policy`
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoscaling.level import share
from autoscaling.policy import (
    BIN_S,
    FLOOR_BINS,
    FLOOR_HALF_LIFE_S,
    FLOOR_LEVEL_S,
    FLOOR_MEAN_BINS,
    FLOOR_SCALE,
    FLOOR_STEPS,
    SIZES,
    THIN_BURST,
    THIN_BURST_MINUTES,
    THIN_MINUTES,
    THIN_MORE,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bins:
    """Arrived work of the last hour in bins of `BIN_S`, work/s, oldest first, and the bin that fills."""

    done: tuple[float, ...] = ()
    work: float = 0.0  # work-seconds in the bin that fills
    seconds: float = 0.0


def fill(bins: Bins, work: float, seconds: float) -> Bins:
    """After `seconds` at this rate. A tick longer than a bin is one entry per bin."""
    work_sum, span, done = bins.work + work * seconds, bins.seconds + seconds, bins.done
    while span >= BIN_S - 1e-6:
        rate = work_sum / span
        done = (*done[-(FLOOR_BINS - 1) :], rate)
        work_sum, span = work_sum - rate * min(BIN_S, span), max(0.0, span - BIN_S)
        if span < 1e-6:
            work_sum = span = 0.0
    return Bins(done, work_sum, span)


def late_share(arrivals: Array, weights: Array, capacity: float, ttft: float, *, width: float = BIN_S) -> float:
    """Weighted share of the work that waits longer than `ttft` seconds in a fluid queue, arrivals uniform within a bin. The queue starts
    empty."""
    total = float((arrivals * weights).sum())
    if total <= 0.0:
        return 0.0
    if capacity <= 0.0:
        return 1.0
    change = (arrivals - capacity) * width
    ends = np.cumsum(change)
    # Lindley: the queue is the sum of changes since it was last empty
    after = ends - np.minimum(np.minimum.accumulate(ends), 0.0)
    before = np.concatenate(([0.0], after[:-1]))
    limit = capacity * ttft
    raw = before + change  # at the end of the bin, if it did not run empty; the queue is linear until then
    top = np.maximum(before, raw)
    bottom = np.minimum(before, raw)
    span = np.where(top > bottom, top - bottom, 1.0)
    over = np.clip(np.where(top > bottom, (top - limit) / span, np.where(before > limit, 1.0, 0.0)), 0.0, 1.0)
    return float((arrivals * weights * over).sum()) / total


def smallest(arrivals: Array, weights: Array, ttft: float, allowed: float, *, width: float = BIN_S) -> float:
    """Least capacity (work/s) at which at most the share `allowed` is late, by bisection between 0 and the largest bin."""
    if arrivals.size == 0:
        return 0.0
    low, high = 0.0, float(arrivals.max())
    for _ in range(FLOOR_STEPS):
        middle = 0.5 * (low + high)
        if late_share(arrivals, weights, middle, ttft, width=width) <= allowed:
            high = middle
        else:
            low = middle
    return high


def rescaled(bins: tuple[float, ...]) -> Array:
    """The shape of the past on the level of today: each bin over the mean of 10 minutes at it, times the decayed mean."""
    past = np.asarray(bins, dtype=np.float64)
    n, width = past.size, FLOOR_MEAN_BINS
    sums = np.concatenate(([0.0], np.cumsum(past)))
    at = np.arange(n)
    begin, end = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, n)
    means = (sums[end] - sums[begin]) / (end - begin)
    if n >= width:
        whole = (sums[width:] - sums[:-width]) / width  # of the bins i to i + width - 1
        means[width - 1 :] = np.maximum(means[width - 1 :], whole)
        means[: n - width + 1] = np.maximum(means[: n - width + 1], whole)
    keep = 1.0 - share(BIN_S, FLOOR_LEVEL_S)
    decay = keep ** np.arange(n - 1, -1, -1, dtype=np.float64)
    level = float((past * decay).sum() / decay.sum())
    return np.where(means > 0.0, past / np.where(means > 0.0, means, 1.0), 0.0) * level


def chance(mean: float, each: float) -> float:
    """Variance of the work of a bin, (work/s)^2, if requests of `each` work came independently of one another: of a Poisson number of them,
    n = mean x 10 s / each per bin, n x `SIZES` x each^2 / (10 s)^2. On one replica this alone is as large as a burst, and is none."""
    return SIZES * each * mean / BIN_S


def backtest(bins: tuple[float, ...], ttft: float, percentile: float, each: float = 0.0) -> float:
    """The floor in work/s; 0 with nothing seen. Errors: none; `percentile` in percent. `each`: work of a mean request."""
    n = len(bins)
    if n == 0:
        return 0.0
    minutes = n * BIN_S / 60.0
    thin = THIN_MINUTES / (THIN_MINUTES + minutes)
    past = rescaled(bins)
    weights = 0.5 ** (np.arange(n - 1, -1, -1, dtype=np.float64) * (BIN_S / FLOOR_HALF_LIFE_S))
    allowed = (1.0 - percentile / 100.0) * (1.0 - thin)
    least = smallest(past, weights, ttft, allowed)
    mean = float(past.mean())
    variance = float(past.var())
    lucky = chance(mean, each)
    bursty = min(1.0, max(0.0, variance / lucky - 1.0)) if lucky > 0.0 else 1.0
    excess = bursty * max(0.0, least - mean)
    more = THIN_BURST * THIN_BURST_MINUTES / (THIN_BURST_MINUTES + minutes) * min(1.0, excess / mean) if mean > 0.0 else 0.0
    return FLOOR_SCALE * (1.0 + THIN_MORE * thin) * least + more * excess
