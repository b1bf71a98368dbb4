"""What the load needs: the band around the level, and everything that may only raise it.

    following   ask = D + 1.1 sigma, give = D + 2 sigma, both at least the floor by backtest
    calm        give = max(slow level, floor of long memory), where the trials found bursts that are faster than a cold start; ask: that
                floor without its margin for bursts inside of a bin, so that a floor which creeps up is not run after
    FleetPolicy ask = D / rho, give = D / (0.92 rho), where a class states `utilization`; `burstQuantile` replaces the floor by backtest
    a metric with a target   ask = give = the level; what waits is not counted twice

Then the season, and what a backlog needs that the capacity will not clear until new capacity could serve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoscaling.capacity import missing
from autoscaling.memory import Memory
from autoscaling.observe import Seen
from autoscaling.policy import ASK_SIGMAS, BIN_BURSTS, BIN_S, CLEAR_S, FLOOR_HALF_LIFE_S, GIVE_SIGMAS, OLD_BAND, YOUNG_BINS
from autoscaling.types import MetricState, Why


@dataclass(frozen=True, slots=True)
class Needed:
    """Work/s. `why` names what made `ask` as large as it is."""

    level: float
    sigma: float
    ask: float
    give: float
    floor: float
    extra: float  # part of both that is for the backlog
    why: Why
    band: tuple[float, float]  # ask and give of the level alone
    following: float  # what following asks for, for the trials
    calm: float
    burst: float  # the floor of the load itself, without the season


def needed(memory: Memory, seen: Seen) -> Needed | None:
    """None while no level is known."""
    known = memory.level
    if known is None:
        return None
    settings = seen.look.settings
    load, sigma = known.level, known.sigma
    targeted = settings.metric != "Work" and bool(settings.target_per_replica)
    if seen.measured.state is MetricState.ZERO and memory.idle is not None and seen.clock - memory.idle >= seen.window:
        load = sigma = 0.0  # nobody for a whole window: what is left of the means is memory, not load
    if targeted:
        ask = give = load
        low = 0.0
    else:
        low = quantile(memory.bins.done, settings.burst_quantile) if settings.burst_quantile is not None else memory.backtest[0]
        if settings.utilization is not None:
            rho = settings.utilization
            ask, give = max(load, low) / rho, max(load, low) / (OLD_BAND * rho)
        else:
            ask, give = load + ASK_SIGMAS * sigma, load + GIVE_SIGMAS * sigma
    band = (ask, give)
    following, calm = max(give, low), known.calm
    why = Why.STEP if seen.stepped else Why.NEED_ABOVE_CAPACITY
    still = memory.verdict.calm and not targeted and settings.burst_quantile is None and settings.utilization is None
    if still:
        low = max(memory.verdict.floor, memory.backtest[0]) if len(memory.bins.done) < YOUNG_BINS else memory.verdict.floor
        ask = give = known.calm
    if low > ask:
        why = Why.BURST_FLOOR
    ask, give = max(ask, low / BIN_BURSTS if still and len(memory.bins.done) >= YOUNG_BINS else low), max(give, low)
    burst = low
    if seen.look.season is not None and seen.look.season > low:
        low = seen.look.season
        if low > ask:
            why = Why.SEASON
        ask, give = max(ask, low), max(give, low)
    # where the load stands still a burst is over before a new replica serves: what waits then is cleared against what comes on average
    extra = (
        missing(seen.supply, known.calm if still else load, seen.measured.backlog, CLEAR_S)
        if seen.measured.backlog and not targeted
        else 0.0
    )
    if extra > 0.0 and ask <= seen.supply.total < ask + extra:
        why = Why.BACKLOG
    return Needed(load, sigma, ask + extra, give + extra, low, extra, why, band, following, calm, burst)


def quantile(bins: tuple[float, ...], q: float | None) -> float:
    """Quantile of 30-s work with a half-life of 30 min (§4.2.3), work/s; 0 with nothing seen."""
    if q is None or not bins:
        return 0.0
    past = np.asarray(bins, dtype=np.float64)
    past = past[past.size % 3 :] if past.size >= 3 else past
    groups = past.reshape(-1, 3).mean(axis=1) if past.size >= 3 else past
    n = groups.size
    weights = 0.5 ** (np.arange(n - 1, -1, -1, dtype=np.float64) * (3.0 * BIN_S / FLOOR_HALF_LIFE_S))
    order = np.argsort(groups, kind="stable")
    reached = np.cumsum(weights[order])
    at = int(np.searchsorted(reached, q * reached[-1] - 1e-12))
    return float(groups[order[min(at, n - 1)]])
