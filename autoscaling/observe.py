"""The first half of a tick: readings become knowledge. Nothing is decided here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

from autoscaling import capacity, floor, level, trials
from autoscaling.capacity import Supply
from autoscaling.memory import Memory
from autoscaling.policy import (
    BIN_S,
    DEFAULT_TTFT_S,
    FIRST_HORIZONS,
    FIRST_S,
    FLOOR_EVERY_S,
    FLOOR_YOUNG_BINS,
    VANISHED_S,
    VANISHED_SIGMAS,
    WINDOW_S,
)
from autoscaling.types import Look, MetricState, Replica
from autoscaling.windows import Measured, Windows, measure


@dataclass(frozen=True, slots=True)
class Seen:
    """One tick as the decision sees it."""

    look: Look
    ordered: tuple[Replica, ...]  # by id
    supply: Supply
    measured: Measured
    clock: float
    stepped: bool  # the load jumped in this tick
    stop: float  # work/s that the fleet loses with the next replica less
    window: float  # scale-down window, s
    first: float  # nothing goes down before the load was known for so long, s

    @property
    def known(self) -> bool:
        return self.measured.known


def window_of(look: Look, horizon: float) -> float:
    """The scale-down window in s: as set, else `WINDOW_S`."""
    set_to = look.settings.down_window_s
    return set_to if set_to is not None else WINDOW_S


def observe(memory: Memory | None, look: Look) -> tuple[Memory, Seen]:
    """The memory with this tick's readings in it, and the tick."""
    ordered = tuple(sorted(look.replicas, key=lambda r: r.id))
    supplied = capacity.supply(look, ordered, memory.kappas if memory is not None else ())
    stop = look.smallest_stop if look.smallest_stop else supplied.unit
    shrunk = max(0.0, 1.0 - stop / supplied.ready) if supplied.ready > 0.0 else 0.0
    windows, measured = measure(memory.windows if memory is not None else None, look, ordered, shrunk)
    if memory is None:
        memory = Memory(windows)
    clock = memory.clock + measured.seconds
    memory = replace(memory, windows=windows, clock=clock, began=clock if measured.gap else memory.began)
    window = window_of(look, supplied.horizon)
    stepped = False
    # What a frozen counter makes up for when it moves again came over minutes: as one tick's work it would be a step of the load.
    learnt = measured if measured.state is not MetricState.ZERO else _believed(memory, look, measured, clock)
    if measured.known and learnt is not None and not (memory.vanished and measured.low > 0.0):
        memory, stepped = _learn(memory, look, learnt, windows, supplied.horizon, window)
    memory = replace(memory, kappas=capacity.learn(memory.kappas, look, measured.parts, windows.mix, measured.seconds))
    set_to = look.settings.down_window_s
    first = set_to if set_to is not None else max(FIRST_S, FIRST_HORIZONS * supplied.horizon)
    return memory, Seen(look, ordered, supplied, measured, clock, stepped, stop, window, first)


def vanishes(memory: Memory, look: Look) -> bool:
    """Whether a zero that begins now comes out of the blue: neither the load's own noise nor the chance of few requests explains it. Frozen
    counters and empty gauges look like that, too."""
    if memory.level is None:
        return False
    calm = memory.level.calm
    return calm > VANISHED_SIGMAS * max(memory.level.sigma, sqrt(floor.chance(calm, request(memory.windows, look))))


def request(windows: Windows, look: Look) -> float:
    """Work of a mean request as of late, reference work-seconds; 0 = not known."""
    return windows.mix.work(look.costs, look.role, 1.0, None) or 0.0


def _believed(memory: Memory, look: Look, measured: Measured, clock: float) -> Measured | None:
    """What a zero teaches: nothing while it may be a frozen source (None), and all of it at once when it has lasted for long enough. Else
    ten minutes of false zeros would make a burst of the load that is there again."""
    out_of_the_blue = memory.vanished if memory.idle is not None else vanishes(memory, look)
    if not out_of_the_blue or look.settings.down_window_s is not None:
        return measured
    idle = clock - (memory.idle if memory.idle is not None else clock)
    if idle < VANISHED_S:
        return None
    return measured if idle - measured.seconds >= VANISHED_S else replace(measured, seconds=idle)


def _learn(memory: Memory, look: Look, measured: Measured, windows: Windows, horizon: float, window: float) -> tuple[Memory, bool]:
    known, stepped = memory.level, False
    if known is None:
        if measured.high == float("inf"):
            return memory, False  # part of a load is no level
        known = level.begin(measured.low, memory.first_sigma)
    else:
        known, stepped = level.follow(known, measured.low, measured.high, measured.seconds)
    work = min(max(known.fast, measured.low), measured.high)
    bins = floor.fill(memory.bins, work, measured.seconds)
    slo = look.settings.slo
    ttft = slo.ttft_s or DEFAULT_TTFT_S
    tried = memory.trials
    for _ in range(int((memory.bins.seconds + measured.seconds + 1e-6) // BIN_S)):
        tried = trials.run(tried, bins.done[-1], memory.clock, horizon, window, ttft)
    backtest, verdict = memory.backtest, memory.verdict
    if memory.clock - backtest[1] >= (FLOOR_EVERY_S if len(bins.done) > FLOOR_YOUNG_BINS else 0.0) and bins.done:
        backtest = (floor.backtest(bins.done, ttft, slo.percentile, request(windows, look)), memory.clock)
        if tried.seconds > 0.0:
            verdict = trials.verdict(tried, slo.percentile, verdict.calm, request(windows, look))
    return replace(memory, level=known, bins=bins, trials=tried, backtest=backtest, verdict=verdict), stepped
