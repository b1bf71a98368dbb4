"""Level, volatility, floor, backlog, horizon and capacity against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from math import exp, inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling import capacity, floor, level
from autoscaling.capacity import Supply, missing
from autoscaling.floor import Bins, fill, late_share, rescaled, smallest
from autoscaling.need import quantile
from autoscaling.types import Look, Replica, ReplicaState
from tests.unit.autoscaling.scene import COSTS
from tests.unit.autoscaling.scene import settings as wants

OLD = replace(level.begin(10.0), age=1e6)


def test_the_level_is_an_ewma_of_180_s() -> None:
    after, stepped = level.follow(replace(OLD, spread=9.0, weight=1.0), 10.9, 10.9, 10.0)
    assert after.level == pytest.approx(10.0 + (1.0 - exp(-10.0 / 180.0)) * 0.9)
    assert not stepped


def test_a_young_level_is_the_plain_mean() -> None:
    known = replace(level.begin(4.0), age=10.0)
    for value in (6.0, 8.0):
        known, _ = level.follow(known, value, value, 10.0)
    assert known.level == pytest.approx(6.0)


def test_a_step_is_3_4_deviations_of_the_fast_level() -> None:
    """sigma 1 and a = 1 - e^(-1/2) = 0.393: the fast level deviates by sqrt(0.393 / 1.607) = 0.495, so a step is 1.68 away."""
    a = 1.0 - exp(-0.5)
    known = replace(OLD, spread=1.0, weight=1.0)
    keep = exp(-10.0 / 180.0)  # D itself moves on by 1 - keep of the jump
    limit = 3.4 * sqrt(a / (2.0 - a))
    for jump, expected in ((0.95, False), (1.1, True)):
        to = 10.0 + jump * limit / (a - (1.0 - keep))
        after, stepped = level.follow(known, to, to, 10.0)
        assert stepped is expected
        assert (after.level == pytest.approx(after.fast)) is expected


def test_the_noise_is_clipped_at_four_deviations() -> None:
    known = replace(OLD, spread=1.0, weight=1.0)
    after, stepped = level.follow(known, 14.8, 14.8, 10.0)
    assert not stepped
    assert after.spread == pytest.approx(1.0 + (1.0 - exp(-10.0 / 1100.0)) * 15.0)


def test_the_variance_goes_with_the_level_at_a_step() -> None:
    """As that of independent requests does. One tick of 50: D drifts to 10 + 0.054 x 40 = 12.2, the fast level is 10 + 0.393 x 40 = 25.7,
    a step, and the variance is 25.7 / 12.2 times what it was. One tick of 0 is a step to 6.07 from 9.46."""
    for to in (50.0, 0.0):
        known = replace(OLD, spread=1.0, weight=1.0)
        after, stepped = level.follow(known, to, to, 10.0)
        assert stepped
        drifted = 10.0 + (1.0 - exp(-10.0 / 180.0)) * (to - 10.0)
        fast = 10.0 + (1.0 - exp(-0.5)) * (to - 10.0)
        assert after.level == pytest.approx(fast)
        clipped = 1.0 + (1.0 - exp(-10.0 / 1100.0)) * 15.0
        assert after.spread == pytest.approx(clipped * fast / drifted)


def test_a_load_that_stops_has_not_unlearned_its_noise() -> None:
    """Steps down to nothing leave a deviation of 5 % of the slow level, which after a minute is 10 e^(-60/300) = 8.2 still."""
    known = replace(OLD, spread=1.0, weight=1.0)
    for _ in range(6):
        known, _ = level.follow(known, 0.0, 0.0, 10.0)
    assert known.level < 2.0
    assert known.sigma >= 0.05 * 8.1


def test_an_open_interval_neither_lowers_nor_teaches() -> None:
    known = replace(OLD, spread=1.0, weight=1.0)
    after, stepped = level.follow(known, 0.0, inf, 10.0)
    assert (after.level, after.fast, after.sigma, stepped) == (10.0, 10.0, known.sigma, False)


def test_a_load_nobody_has_seen_deviates_by_a_quarter() -> None:
    assert level.begin(8.0).sigma == pytest.approx(2.0)
    assert level.begin(8.0, 0.5).sigma == pytest.approx(0.5)


# --- floor --------------------------------------------------------------------------------------------------------------------------------
def test_the_late_share_of_one_burst() -> None:
    """100 work-seconds within a bin of 10 s, capacity 4, 2 s: the queue grows by 6/s and passes 8 after 1.33 s; what comes later is late:
    86.7 %. Nothing else arrives."""
    arrivals = np.array([0.0, 10.0, 0.0, 0.0])
    assert late_share(arrivals, np.ones(4), 4.0, 2.0) == pytest.approx(1.0 - 8.0 / 60.0)


def test_the_least_capacity_of_one_burst() -> None:
    """At most 5 % late of 10 work/s for 10 s within 2 s: (10 - c) x 9.5 s = 2 c, so c = 95 / 11.5 = 8.26."""
    arrivals = np.array([0.0, 10.0, 0.0, 0.0])
    assert smallest(arrivals, np.ones(4), 2.0, 0.05) == pytest.approx(95.0 / 11.5, abs=10.0 / 4096)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=30), st.floats(0.5, 20.0), st.floats(0.5, 10.0))
def test_the_late_share_against_a_queue_in_small_steps(arrivals: list[float], served: float, ttft: float) -> None:
    """A queue that moves in steps of 10 ms."""
    dt, queue, late = 0.01, 0.0, 0.0
    for rate in arrivals:
        for _ in range(1000):
            queue = max(0.0, queue + (rate - served) * dt)
            late += rate * dt if queue > served * ttft else 0.0
    total = sum(arrivals) * 10.0
    expected = late / total if total > 0.0 else 0.0
    assert late_share(np.array(arrivals), np.ones(len(arrivals)), served, ttft) == pytest.approx(expected, abs=0.02)


def test_a_steady_past_has_its_own_shape() -> None:
    assert rescaled((5.0,) * 200) == pytest.approx(np.full(200, 5.0))


def test_a_lasting_step_is_no_burst_on_either_side() -> None:
    """Half an hour of 10, then of 2, and the other way round: no bin stands out over those of now."""
    past = rescaled((10.0,) * 180 + (2.0,) * 180)
    level_now = past[-1]
    assert past.max() == pytest.approx(level_now)
    past = rescaled((2.0,) * 180 + (10.0,) * 180)
    assert past.max() == pytest.approx(past[-1])


def test_the_floor_of_a_steady_hour() -> None:
    """thin = 1 / 61; 0.6 x (1 + 0.5 / 61) x 6; a fluid queue of a steady load needs the load itself."""
    assert floor.backtest((6.0,) * 360, 2.0, 95.0) == pytest.approx(0.6 * (1.0 + 0.5 / 61.0) * 6.0, rel=1e-3)


def test_bins_hold_work_whatever_the_tick() -> None:
    bins = Bins()
    for _ in range(4):
        bins = fill(bins, 3.0, 5.0)
    assert bins.done == pytest.approx((3.0, 3.0))
    bins = fill(Bins(), 2.0, 30.0)
    assert bins.done == pytest.approx((2.0, 2.0, 2.0))


def test_a_stated_quantile_is_of_30_s_work() -> None:
    """Ten groups of 30 s with 1 to 10 work/s, the newest the largest: aged by up to 270 s, the lower eight weigh 79 %."""
    bins = tuple(float(x) for x in range(1, 11) for _ in range(3))
    assert quantile(bins, 0.78) == 8.0
    assert quantile(bins, 0.8) == 9.0


# --- capacity -----------------------------------------------------------------------------------------------------------------------------
def supply(ready: float, coming: tuple[tuple[float, float], ...] = (), horizon: float = 130.0) -> Supply:
    pending = sum(work for _, work in coming)
    return Supply(ready, pending, coming, 1, False, 1.0, horizon, ready + pending)


@pytest.mark.parametrize(
    ("ready", "coming", "backlog", "extra"),
    [
        (4.0, ((60.0, 2.0),), 500.0, (500.0 - 60.0 - 70.0 * 3.0) / 60.0),  # 1 work/s is free for 60 s, then 3
        (4.0, (), 130.0, 0.0),  # 1 work/s for 130 s clears it
        (2.0, (), 60.0, 1.0),  # nothing is free
        (2.0, ((500.0, 9.0),), 60.0, 1.0),  # comes too late
    ],
)
def test_a_backlog_is_net_of_what_is_free(ready: float, coming: tuple[tuple[float, float], ...], backlog: float, extra: float) -> None:
    assert missing(supply(ready, coming), 3.0, backlog, 60.0) == pytest.approx(extra)


def test_the_horizon_is_that_of_the_option_that_serves_soonest() -> None:
    look = Look(0.0, "a/m", wants(), COSTS, (), start_s=(("slow", 300.0), ("fast", 90.0)))
    assert capacity.horizon(look) == 100.0
    assert capacity.horizon(replace(look, start_s=())) == 250.0


def test_capacity_counts_those_who_serve_and_those_who_will() -> None:
    def one(name: str, state: ReplicaState, work: float | None, eta: float | None = None) -> Replica:
        return Replica(name, "o", state, work, 0.0, eta)

    replicas = (
        one("a", ReplicaState.READY, 2.0),
        one("b", ReplicaState.READY, None),  # unknown
        one("c", ReplicaState.LOADING, 1.0, 1060.0),
        one("d", ReplicaState.LOADING, 1.5),  # expected when it began plus the cold start
        one("e", ReplicaState.DRAINING, 9.0),
        one("f", ReplicaState.CANDIDATE, 9.0),
        one("g", ReplicaState.STUCK, 9.0),
    )
    look = Look(1000.0, "a/m", wants(), COSTS, replicas, start_s=(("o", 1200.0),))
    found = capacity.supply(look, replicas, (("o", 0.8),))
    assert (found.ready, found.pending, found.count, found.stated) == (pytest.approx(1.6), pytest.approx(2.0), 4, pytest.approx(4.5))
    assert found.coming == (pytest.approx((60.0, 0.8)), pytest.approx((200.0, 1.2)))
    assert found.kappa == pytest.approx(0.8)
