"""Two ways to serve a load, tried on its own past, hour after hour: follow it, or stand still and wait for its bursts.

A burst that is shorter than a cold start cannot be followed: what is asked for arrives when it is over. Whether a load is like that is
found out by trial. Two families of policies run beside the real one on each bin of arrivals, in fluid queues whose capacity is what the
family asked for one cold start ago (the highest of a window, as the real one holds it), but at least c, for every c of a grid:

    following   level + head-room, floor by backtest; bursts move it
    calm        the level alone; head-room comes from c only

Late work and mean capacity of every (family, c) are decayed sums with a half-life of hours; nothing is rescaled. The cheapest c of each
family that met the goal on this memory is its answer, and the calm family is taken where its answer is cheaper: then bursts are faster than
a cold start, and the floor comes from long memory. The measured cold start decides, not a setting: with a short one following wins. Only a
load that varies by more than the chance of independent requests explains may stand still.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

from autoscaling.floor import chance
from autoscaling.policy import (
    BIN_BURSTS,
    BIN_S,
    BURSTY,
    BURSTY_STAYS,
    THIN_MINUTES,
    TRIAL_FIRST,
    TRIAL_GRID,
    TRIAL_HALF_LIFE_S,
    TRIAL_MARGIN,
    TRIAL_STEP,
)

Array = NDArray[np.float64]
GRID: Array = TRIAL_FIRST * TRIAL_STEP ** np.arange(TRIAL_GRID, dtype=np.float64)
FAMILIES = 2
_NONE = np.zeros((FAMILIES, TRIAL_GRID)).tobytes()


@dataclass(frozen=True, slots=True)
class Trials:
    """Arrays of (family, c) as bytes, so that a value is a value. `asked` holds (clock, following, calm) back to one cold start and
    window ago."""

    queue: bytes = _NONE  # work-seconds
    late: bytes = _NONE  # decayed sum of late work
    supplied: bytes = _NONE  # decayed sum of capacity x seconds
    work: float = 0.0  # decayed sum of all work
    seconds: float = 0.0  # decayed sum of seconds
    square: float = 0.0  # decayed sum of (arrivals)^2 x seconds
    ttft: float = 0.0  # the goal that `late` is of
    asked: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer of the trials. Work/s; `following` and `calm` are the mean capacities that the two families need for the goal."""

    floor: float = 0.0  # of the calm family
    calm: bool = False
    following_cost: float = 0.0
    calm_cost: float = 0.0


def table(data: bytes) -> Array:
    return np.frombuffer(data, dtype=np.float64).reshape(FAMILIES, TRIAL_GRID)


def ask(trials: Trials, clock: float, following: float, calm: float, reach: float) -> Trials:
    """Note what the two families ask for now; `reach` is how far back it matters, s."""
    kept = tuple(entry for entry in trials.asked if entry[0] >= clock - reach)
    return replace(trials, asked=(*kept, (clock, following, calm)))


def run(trials: Trials, arrivals: float, clock: float, horizon: float, window: float, ttft: float) -> Trials:
    """One bin of arrivals (work/s) that ended at `clock`: the queues move on. Another goal starts the memory anew."""
    due = [entry for entry in trials.asked if clock - horizon - window <= entry[0] <= clock - horizon] or list(trials.asked[:1])
    if not due:
        return trials
    wanted = np.array([[max(entry[1] for entry in due)], [max(entry[2] for entry in due)]])
    capacity = np.maximum(GRID, wanted)
    keep = 0.5 ** (BIN_S / TRIAL_HALF_LIFE_S)
    if trials.ttft == ttft:
        queue, late, supplied = table(trials.queue), table(trials.late) * keep, table(trials.supplied) * keep
        work, seconds, square = trials.work * keep, trials.seconds * keep, trials.square * keep
    else:
        queue = late = supplied = table(_NONE)
        work = seconds = square = 0.0
    end = queue + (arrivals - capacity) * BIN_S
    limit = capacity * ttft
    top, bottom = np.maximum(queue, end), np.minimum(queue, end)
    over = np.clip((top - limit) / np.maximum(top - bottom, 1e-9), 0.0, 1.0)
    return Trials(
        np.maximum(end, 0.0).tobytes(),
        (late + over * (arrivals * BIN_S)).tobytes(),
        (supplied + capacity * BIN_S).tobytes(),
        work + arrivals * BIN_S,
        seconds + BIN_S,
        square + arrivals * arrivals * BIN_S,
        ttft,
        trials.asked,
    )


def verdict(trials: Trials, percentile: float, before: bool, each: float = 0.0) -> Verdict:
    """The cheapest answer of each family; `before` is whether the calm one was taken last, which it stays within a margin. `each`: work
    of a mean request, which says how much of the variation is chance."""
    if trials.work <= 0.0 or trials.seconds <= 0.0:
        return Verdict()
    minutes = trials.seconds / 60.0
    thin = THIN_MINUTES / (THIN_MINUTES + minutes)
    allowed = (1.0 - percentile / 100.0) * (1.0 - thin)
    share = table(trials.late) / trials.work
    cost = table(trials.supplied) / trials.seconds
    _, cost_0 = _least(share[0], cost[0], allowed)
    floor_1, cost_1 = _least(share[1], cost[1], allowed)
    margin = TRIAL_MARGIN if not before else 1.0 / TRIAL_MARGIN
    mean = trials.work / trials.seconds
    variation = sqrt(max(0.0, trials.square / trials.seconds - mean * mean - chance(mean, each))) / mean
    bursty = floor_1 > mean and variation > (BURSTY_STAYS if before else BURSTY)
    floor_1 *= BIN_BURSTS  # the same for every load, so that more load never asks for less
    return Verdict(floor_1, bursty and cost_1 * margin < cost_0, cost_0, cost_1)


def _least(share: Array, cost: Array, allowed: float) -> tuple[float, float]:
    """(c, mean capacity) where the late share first falls to `allowed`, between two grid values by the logarithm of c."""
    met = np.flatnonzero(share <= allowed)
    if met.size == 0:
        return float(GRID[-1]), float(cost[-1])
    i = int(met[0])
    if i == 0:
        return 0.0, float(cost[0])
    high, low = float(share[i - 1]), float(share[i])
    part = (high - allowed) / (high - low) if high > low else 1.0
    c = exp(log(float(GRID[i - 1])) + part * (log(float(GRID[i])) - log(float(GRID[i - 1]))))
    return c, float(cost[i - 1]) + part * (float(cost[i]) - float(cost[i - 1]))
