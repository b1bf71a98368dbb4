"""Evidence that may be read at any time: mixtures of bets on variables in [0, 1] (e-processes).

Against "the mean is at least m" the capital of a bet lambda is multiplied by 1 - lambda (x - m)/(1 - m) at every x, against "the mean is
at most m" by 1 + lambda (x - m)/m. If the claim is true, no such capital grows in the mean, so the weighted average of several reaches
1/alpha at any time at all with probability alpha at most (Ville's inequality).

Logarithms of capitals are whole numbers of 2^-30 nats, every step rounded down: sums are exact, so neither order nor platform nor a stop in
between changes a bit of them, and what rounding costs is on the safe side (at most one millionth of a nat in 1000 steps).
The functions on arrays do the same as those on single numbers, for simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, floor, inf, log, log1p
from typing import Literal

import numpy as np
from numpy.typing import NDArray

UNIT = 1 << 30  # steps of log-capital per nat
LAMBDAS = (0.1, 0.3, 0.5, 0.7, 0.9)
EQUAL = (0.2, 0.2, 0.2, 0.2, 0.2)
# For a rate that is nearly 0: two bold bets, of which the bolder has most of the capital.
RATE_LAMBDAS = (0.5, 0.95)
RATE_WEIGHTS = (1 / 3, 2 / 3)
_LARGEST = 700.0  # nats; beyond it a float is infinite

Side = Literal["promote", "block"]
Logs = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bets:
    """One mixture. `boundary` is m, inside (0, 1); `weights` add up to 1."""

    side: Side
    boundary: float
    lambdas: tuple[float, ...] = LAMBDAS
    weights: tuple[float, ...] = EQUAL

    def start(self) -> Logs:
        return (0,) * len(self.lambdas)

    def steps(self, x: float) -> Logs:
        """What one observation in [0, 1] adds to each log-capital."""
        m = self.boundary
        gain = (m - x) / (1 - m) if self.side == "promote" else (x - m) / m
        return tuple([floor(log1p(bet * gain) * UNIT) for bet in self.lambdas])

    def evidence(self, logs: Sequence[int]) -> float:
        """The average capital; infinite beyond e^700."""
        return mixture(logs, self.weights)

    def reaches(self, logs: Sequence[int], threshold: float) -> bool:
        """Whether the evidence is at least `threshold` (above 0). Most of the time one comparison says no."""
        return max(logs) >= log(threshold) * UNIT and self.evidence(logs) >= threshold


def mixture(logs: Sequence[int], weights: Sequence[float]) -> float:
    if max(logs) > _LARGEST * UNIT:
        return inf
    return sum(weight * exp(value / UNIT) for weight, value in zip(weights, logs, strict=True))


def added(logs: Logs, steps: Logs) -> Logs:
    return tuple([a + b for a, b in zip(logs, steps, strict=True)])


def restarted(logs: Logs, steps: Logs) -> Logs:
    """As `added`, but no capital is below 1 before the step: what went before cannot hide a change."""
    return tuple([max(a, 0) + b for a, b in zip(logs, steps, strict=True)])


def fewest(bets: Bets, threshold: float) -> int:
    """Observations with which the evidence can reach `threshold`: each the best that there is."""
    best = 0.0 if bets.side == "promote" else 1.0
    steps, logs, count = bets.steps(best), bets.start(), 0
    while not bets.reaches(logs, threshold):
        logs, count = added(logs, steps), count + 1
    return count


def promote_bets(boundary: float) -> Bets:
    return Bets("promote", boundary)


def block_bets(boundary: float) -> Bets:
    return Bets("block", boundary)


def rate_bets(boundary: float) -> Bets:
    """For promotion by a rate of bad prompts."""
    return Bets("promote", boundary, RATE_LAMBDAS, RATE_WEIGHTS)


def rate_bound(prompts: int, bad: int, confidence: float) -> float:
    """Upper bound of the rate of bad prompts after `bad` of `prompts`: the lowest rate that the evidence of `rate_bets` speaks against.

    Every rate above it has reached 1/(1 - confidence), so the bound holds with that confidence however often one looks. 1.0 where
    nothing can be said. Bisection to 1e-9, rounded up.
    """
    threshold = 1 / (1 - confidence)
    if _rate_evidence(1 - 1e-9, prompts, bad) < threshold:
        return 1.0
    low, high = 0.0, 1 - 1e-9
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if _rate_evidence(middle, prompts, bad) >= threshold else (middle, high)
    return high


def _rate_evidence(rate: float, prompts: int, bad: int) -> float:
    """Evidence against "the rate is at least `rate`", which grows with `rate`: a bad prompt costs the same share whatever the rate."""
    logs = [bad * log1p(-bet) + (prompts - bad) * log1p(bet * rate / (1 - rate)) for bet in RATE_LAMBDAS]
    if max(logs) > _LARGEST:
        return inf
    return sum(weight * exp(value) for weight, value in zip(RATE_WEIGHTS, logs, strict=True))


# ---- the same on arrays

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def steps_of(bets: Bets, x: Floats) -> Ints:
    """Shape of `x` plus one axis at the end for the bets."""
    m = bets.boundary
    gain = (m - x) / (1 - m) if bets.side == "promote" else (x - m) / m
    found: Ints = np.floor(np.log1p(gain[..., None] * np.array(bets.lambdas)) * UNIT).astype(np.int64)
    return found


def evidence_of(bets: Bets, logs: Ints) -> Floats:
    """Averages over the last axis."""
    capped = np.minimum(logs / UNIT, _LARGEST)
    found: Floats = np.exp(capped) @ np.array(bets.weights)
    return np.where(logs.max(axis=-1) > _LARGEST * UNIT, np.inf, found)


def path(bets: Bets, x: Floats) -> Floats:
    """Evidence after each of the observations along the last axis of `x`."""
    return evidence_of(bets, np.cumsum(steps_of(bets, x), axis=-2))


def restarted_path(bets: Bets, x: Floats) -> Floats:
    """The same in the restarted form."""
    steps = steps_of(bets, x)
    logs = np.zeros_like(steps[..., 0, :])
    out = np.empty(x.shape)
    for at in range(x.shape[-1]):
        logs = np.maximum(logs, 0) + steps[..., at, :]
        out[..., at] = evidence_of(bets, logs)
    return out
