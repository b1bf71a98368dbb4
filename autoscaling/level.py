"""The level of a load and its own volatility (§4.2b): what head-room is measured in.

    level   D  <- D + (1 - e^(-dt/180)) (x - D)
    fast    F  <- F + (1 - e^(-dt/20)) (x - F);   |F - D| > 3.4 sigma_F: a step, D = F      sigma_F = sigma sqrt(a / (2 - a)), a of F;
              the variance goes with the level then, as that of independent requests does: sigma^2 <- sigma^2 F / D
    noise   sigma^2 = EWMA over 1100 s of (x - M)^2, M the EWMA of x over 60 s; |x - M| is clipped at 4 sigma

A measurement is an interval; x is the point of it that is nearest to what each mean says already, so an open interval changes nothing.
Before anything was seen, sigma is a quarter of the level (`FIRST_NOISE`), with the weight of one minute. A young mean is the plain mean of
what was seen, and the noise is learned after the first minute: what the first readings lack is not noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, sqrt

from autoscaling.policy import (
    CALM_S,
    CLIP_SIGMAS,
    FIRST_NOISE,
    FIRST_NOISE_S,
    LEAST_NOISE,
    LEVEL_S,
    NOISE_MEAN_S,
    NOISE_S,
    STEP_S,
    STEP_SIGMAS,
)


@dataclass(frozen=True, slots=True)
class Level:
    """Work/s. `spread` is the decayed sum of squares and `weight` (0 to 1) that of the weights behind it."""

    level: float
    fast: float
    mean: float
    calm: float  # EWMA over `CALM_S`, steps not followed
    spread: float = 0.0
    weight: float = 0.0
    first_sigma: float | None = None  # learned earlier; None = a quarter of the level
    age: float = 0.0  # s of measurements

    @property
    def sigma(self) -> float:
        """Standard deviation of 10-s work around its one-minute mean, work/s."""
        prior = FIRST_NOISE_S / NOISE_S * (1.0 - self.weight)
        first = self.first_sigma if self.first_sigma is not None else FIRST_NOISE * self.level
        return sqrt((self.spread + prior * first * first) / (self.weight + prior)) if self.weight + prior > 0.0 else 0.0


def share(seconds: float, decay: float) -> float:
    """Weight of a new value after `seconds` under this decay: 1 - e^(-seconds/decay)."""
    return -expm1(-seconds / decay)


def begin(work: float, first_sigma: float | None = None) -> Level:
    """A level that knows one measurement."""
    return Level(work, work, work, work, first_sigma=first_sigma)


def follow(level: Level, low: float, high: float, seconds: float) -> tuple[Level, bool]:
    """The level after `seconds` with a measurement in [low, high], and whether the load stepped."""
    if seconds <= 0.0:
        return level, False
    sigma = level.sigma
    off = _near(level.mean, low, high) - level.mean
    clipped = min(abs(off), CLIP_SIGMAS * sigma) if sigma > 0.0 else abs(off)
    noise = share(seconds, NOISE_S) if level.age >= NOISE_MEAN_S else 0.0
    first = seconds / (level.age + seconds)  # a young mean is the plain mean of what was seen
    if off != 0.0 or (low <= level.mean <= high and low == high):  # an interval that holds the mean tells nothing of the noise
        spread = level.spread + noise * (clipped * clipped - level.spread)
        weight = level.weight + noise * (1.0 - level.weight)
    else:
        spread, weight = level.spread, level.weight
    mean = level.mean + max(first, share(seconds, NOISE_MEAN_S)) * off
    a = share(seconds, STEP_S)
    fast = level.fast + a * (_near(level.fast, low, high) - level.fast)
    value = level.level + max(first, share(seconds, LEVEL_S)) * (_near(level.level, low, high) - level.level)
    calm = level.calm + max(first, share(seconds, CALM_S)) * (_near(level.calm, low, high) - level.calm)
    after = Level(value, fast, mean, calm, spread, weight, level.first_sigma, level.age + seconds)
    stepped = abs(fast - value) > STEP_SIGMAS * after.sigma * sqrt(a / (2.0 - a)) and abs(fast - value) > 1e-9 * max(1.0, value)
    if stepped:
        spread = _carried(spread, weight, value, fast, calm)
        after = Level(fast, fast, mean, calm, spread, weight, level.first_sigma, level.age + seconds)
    return after, stepped


def _carried(spread: float, weight: float, value: float, fast: float, calm: float) -> float:
    """The noise at a step from `value` to `fast`: upwards at most that of a load of the new level which nobody has seen, downwards at least
    `LEAST_NOISE` of the slow level, so that a load which stops has not unlearned its noise when it is back."""
    if value <= 0.0:
        return spread
    there = spread * fast / value
    if fast > value:
        return max(spread, min(there, weight * (FIRST_NOISE * fast) ** 2))
    return min(spread, max(there, weight * (LEAST_NOISE * calm) ** 2))


def _near(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
