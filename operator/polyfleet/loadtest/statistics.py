"""Estimators of a load test: warm-up cut, confidence interval, percentile. Pure; arrays are one-dimensional float64.

Warm-up: MSER-5 (White, Cobb and Spratt 2000: averages of five observations, cut where the standard error of what is left is smallest).
It is used in place of a fixed share because the length of the transient is not known beforehand: a first request that compiles kernels
takes a minute on one engine and nothing on another. At most the first half is cut; what still drifts then never settled, which is
reported and not hidden.

Interval: batch means with Student's t. Token counts of neighbouring moments hang together through the requests in flight, so a batch is at
least as long as a mean request, and there are at least ten of them (with fewer the half width is itself too uncertain to publish).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LEAST_BATCHES, MOST_BATCHES = 10, 30
GROUP = 5  # the five of MSER-5
DRIFT = 0.1

# Student's t, 97.5 % quantile, degrees of freedom 1 to 30 (NIST/SEMATECH e-Handbook, table 1.3.6.7.2).
_T975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """`mean` ± `half_width` at 95 %, from `batches` batches."""

    mean: float
    half_width: float
    batches: int


def t975(degrees: int) -> float:
    """97.5 % quantile of Student's t; above 30 degrees two terms of the expansion about the normal
    quantile z = 1.95996: (z³ + z) / 4n and (5z⁵ + 16z³ + 3z) / 96n² (Abramowitz and Stegun 26.7.5)."""
    if degrees < 1:
        return math.inf
    return _T975[degrees - 1] if degrees <= len(_T975) else 1.95996 + 2.3723 / degrees + 2.823 / degrees**2


def mser5(series: Sequence[float] | F64) -> int | None:
    """How many leading observations to leave out, a multiple of five, at most half; None below 50 or if what is left does not stand still.

    It stands still if the means of its two halves differ by at most a tenth, or by no more than their own scatter explains (three standard
    errors). A tenth, because a smaller drift widens the interval of the batches, where it is seen.
    """
    values = np.asarray(series, np.float64)
    groups = len(values) // GROUP
    if groups < 2 * GROUP:
        return None
    means = values[: groups * GROUP].reshape(groups, GROUP).mean(axis=1)
    # Statistic of cutting d groups: sum of squares of the rest over the square of their number.
    best, least = 0, math.inf
    for cut in range(groups // 2 + 1):
        rest = means[cut:]
        value = float(((rest - rest.mean()) ** 2).sum()) / len(rest) ** 2
        if value < least * (1 - 1e-9):  # the earlier one on a tie, and for rounding errors of a constant series
            best, least = cut, value
    return best * GROUP if _stands(means[best:]) else None


def _stands(means: F64) -> bool:
    first, second = means[: len(means) // 2], means[len(means) // 2 :]
    apart = abs(float(first.mean() - second.mean()))
    scatter = math.sqrt(sum(float(half.var(ddof=1)) / len(half) for half in (first, second)))
    return apart <= max(DRIFT * abs(float(means.mean())), 3 * scatter)


def batch_means(means: Sequence[float] | F64) -> Interval | None:
    """The interval of the given batch means; None below ten batches."""
    values = np.asarray(means, np.float64)
    count = len(values)
    if count < LEAST_BATCHES:
        return None
    error = float(values.std(ddof=1)) / math.sqrt(count)
    return Interval(float(values.mean()), t975(count - 1) * error, count)


def percentile(values: Sequence[float] | F64, percent: int) -> float | None:
    """Nearest rank: the smallest observed value that at least `percent` % of the values do not exceed. None without values.

    An observed value on purpose, and with few of them the largest: 12 answers do not know a 95th percentile, and interpolating between
    them would promise less waiting than was seen.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    if len(ordered) == 0:
        return None
    return float(ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)])
