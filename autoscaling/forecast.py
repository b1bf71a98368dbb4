"""Rolling-origin backtest of forecasts on a series of 10-minute means: what a forecast was worth, judged at the time it was made.

Each forecast of value t made h bins before uses values up to t - h only. Errors are mean absolute errors as a share of the mean value,
beside `short`, the part of it by which the forecast was too low: that is what a user waits for. The prior of `autoscaling.season` is judged
exactly as it would be used: it may only raise the level, and only while its own trial wins.

Forecasts: `naive` (the last value), `seasonal naive` (the same bin yesterday), `level` (moving average, 180 s, of values that are constant
within their bin), `season` (median of the same bin of up to seven earlier days), `raised` (the higher of `level` and `season`), `moved`
(last value plus a share of the median rise of earlier days, the share chosen on the tuning days), `used` (`raised` while its trial wins,
else `level`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoscaling.season import BIN_S, DAY_BINS, DAYS, LEAST_DAYS, LEVEL_S, Trial, prior

Series = NDArray[np.float64]
METHODS = ("naive", "seasonal naive", "level", "season", "raised", "moved", "used")
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the rise of earlier days, tried on the tuning days
TUNING_DAYS = 7


class ForecastError(ValueError):
    """The series or the horizon cannot be judged."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one forecast at one horizon over the days reported. Errors as shares of the mean value of those days."""

    method: str
    horizon_s: float
    error: float
    short: float
    values: int  # how many values were judged


@dataclass(frozen=True, slots=True)
class Verdict:
    horizon_s: float
    scores: tuple[Score, ...]
    share: float  # of `moved`, chosen on the tuning days
    open: float  # share of the values for which the prior was in use

    def error(self, method: str) -> float:
        return next(score.error for score in self.scores if score.method == method)


def levels(values: Series) -> Series:
    """The moving average at the end of each bin, of a rate that is constant within its bin; starts at the first value."""
    keep = math.exp(-BIN_S / LEVEL_S)
    found = np.empty_like(values)
    level = float(values[0])
    for place, value in enumerate(values):
        level = float(value) + (level - float(value)) * keep
        found[place] = level
    return found


def backtest(values: Sequence[float] | Series, horizon_bins: int) -> Verdict:
    """Judged on every value after day `TUNING_DAYS`. Raises ForecastError for a series that is too short, holds anything but finite
    numbers >= 0, or for a horizon that is not 1 to 143 bins."""
    series = np.asarray(values, dtype=np.float64)
    if not 1 <= horizon_bins < DAY_BINS:
        raise ForecastError(f"horizon_bins: {horizon_bins} is not in 1 to {DAY_BINS - 1}")
    begin = TUNING_DAYS * DAY_BINS
    if series.ndim != 1 or len(series) <= begin:
        raise ForecastError(f"series: {series.size} values; more than {begin} are needed ({TUNING_DAYS} days to tune on)")
    if not np.all(np.isfinite(series)) or np.any(series < 0.0):
        place = int(np.flatnonzero(~(np.isfinite(series) & (series >= 0.0)))[0])
        raise ForecastError(f"series[{place}]: {series[place]} is no finite number >= 0")
    level = levels(series)
    rises = _rises(series, horizon_bins)
    tuned = range(LEAST_DAYS * DAY_BINS + horizon_bins, begin)
    share = min(SHARES, key=lambda tried: (_error(series, tuned, lambda t: _moved(series, rises, t, horizon_bins, tried)), tried))
    bins = series.tolist()
    medians = [prior(bins, t, 0.5) if t >= LEAST_DAYS * DAY_BINS else None for t in range(len(bins))]
    used, opened = _gated(series, level, medians, horizon_bins)
    reported = range(begin, len(series))

    def season(t: int) -> float:
        found = medians[t]
        return found if found is not None else float(level[t - horizon_bins])

    made: dict[str, Callable[[int], float]] = {
        "naive": lambda t: float(series[t - horizon_bins]),
        "seasonal naive": lambda t: float(series[t - DAY_BINS]),
        "level": lambda t: float(level[t - horizon_bins]),
        "season": season,
        "raised": lambda t: max(float(level[t - horizon_bins]), season(t)),
        "moved": lambda t: _moved(series, rises, t, horizon_bins, share),
        "used": lambda t: used[t],
    }
    horizon_s = horizon_bins * BIN_S
    scores = tuple(_score(name, horizon_s, series, reported, made[name]) for name in METHODS)
    return Verdict(horizon_s, scores, share, sum(1 for t in reported if opened[t]) / len(reported))


def _rises(series: Series, horizon: int) -> Series:
    """Median, over up to seven earlier days, of the rise from h bins before to this bin; 0 where fewer than three are known."""
    found = np.zeros_like(series)
    for t in range(LEAST_DAYS * DAY_BINS + horizon, len(series)):
        places = [t - day * DAY_BINS for day in range(1, DAYS + 1) if t - day * DAY_BINS - horizon >= 0]
        if len(places) >= LEAST_DAYS:
            found[t] = float(np.median([series[place] - series[place - horizon] for place in places]))
    return found


def _moved(series: Series, rises: Series, t: int, horizon: int, share: float) -> float:
    return max(0.0, float(series[t - horizon] + share * rises[t]))


def _gated(series: Series, level: Series, medians: list[float | None], horizon: int) -> tuple[list[float], list[bool]]:
    """`used` by value, and whether the prior was in use. The trial that decides on value t knows values up to t - h only."""
    used, opened = [0.0] * len(series), [False] * len(series)
    trial = Trial()
    for t in range(horizon, len(series)):
        known = t - horizon
        median = medians[known]
        if known >= horizon and median is not None:
            holder = float(level[known - horizon])
            trial = trial.judged(max(holder, median), holder, float(series[known]))
        now, offered = float(level[t - horizon]), medians[t]
        opened[t] = trial.wins and offered is not None
        used[t] = max(now, offered) if opened[t] and offered is not None else now
    return used, opened


def _error(series: Series, places: range, made: Callable[[int], float]) -> float:
    mean = float(np.mean(series[places.start : places.stop]))
    return sum(abs(made(t) - float(series[t])) for t in places) / len(places) / mean if mean else 0.0


def _score(method: str, horizon_s: float, series: Series, places: range, made: Callable[[int], float]) -> Score:
    mean = float(np.mean(series[places.start : places.stop]))
    short = sum(max(0.0, float(series[t]) - made(t)) for t in places) / len(places)
    return Score(method, horizon_s, _error(series, places, made), short / mean if mean else 0.0, len(places))
