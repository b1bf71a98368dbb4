"""Bursts and what looks like them: the chance of few requests, a source that stood still, a burst that is over before it is answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autoscaling import floor
from autoscaling.counters import Late, Reading, step
from autoscaling.floor import Bins
from autoscaling.guard import Guard, watch
from autoscaling.level import begin
from autoscaling.memory import Memory, Need
from autoscaling.need import needed
from autoscaling.observe import Seen, observe
from autoscaling.safety import bounds
from autoscaling.shrink import shrink
from autoscaling.trials import Verdict
from autoscaling.types import Direction, Look, Replica, ReplicaState, Sample, Why
from tests.unit.autoscaling.scene import BEGIN, COSTS, Scene, settings, steady


def chance_loads(per_s: float, ticks: int, seed: int) -> list[float]:
    """Work/s of ticks of 10 s: a Poisson number of requests, each of exponential work with a mean of one."""
    dice = np.random.default_rng([seed, 3])
    return [float(dice.exponential(1.0, dice.poisson(10.0 * per_s)).sum()) / 10.0 for _ in range(ticks)]


def test_the_chance_of_few_requests() -> None:
    """0.5 requests/s of one work-second each: 5 per bin, whose work has a variance of 5 x 2, so (10 / 10^2) per second squared."""
    assert floor.chance(0.5, 1.0) == pytest.approx(0.1)
    assert floor.chance(10.0, 0.6) == pytest.approx(1.2)


@pytest.mark.parametrize("seed", [0, 1])
def test_chance_on_one_replica_is_no_burst_and_a_step_there_is_followed(seed: int) -> None:
    """Half a request a second varies by sqrt(0.1) / 0.5 = 0.63 of its mean, which is more than 0.5 and all chance. Five times as much is
    (2.5 - 0.5) / sqrt(0.1) = 6 deviations more. A level that is only decayed is at 0.5 + 2 (1 - e^(-40/180)) = 0.9 after four ticks."""
    scene = Scene(count=1, settings=settings(), cold=120.0)
    for load in chance_loads(0.5, 200, seed):
        scene.tick(load)
        assert scene.memory is not None
        assert not scene.memory.verdict.calm
    for load in chance_loads(2.5, 4, seed):
        scene.tick(load)
    assert scene.memory is not None
    assert scene.memory.level is not None
    assert scene.memory.level.level > 1.3
    assert scene.said[-1].direction is Direction.UP or scene.size > 1


def test_bursts_on_one_replica_are_bursts_still() -> None:
    """A hundred requests at once every ten minutes: 10 work/s in one bin of sixty, so 7.7 times the mean of 0.17, of which chance is
    sqrt(2 / 1.7) = 1.1 times."""
    scene = Scene(count=1, settings=settings(), cold=120.0)
    for number in range(180):
        scene.tick(10.0 if number % 60 == 30 else 0.0)
    assert scene.memory is not None
    assert scene.memory.verdict.calm


def test_zeros_of_a_frozen_source_make_no_burst_of_the_load_that_is_back() -> None:
    """Ten minutes of zeros before 5.5 work/s would be sixty empty bins and one full: eleven times the mean around it."""
    scene = steady()
    size = scene.size
    scene.run(0.0, 500.0)
    scene.run(5.5, 300.0)
    assert set(scene.sizes[-80:]) == {size}
    assert scene.memory is not None
    assert scene.memory.backtest[0] < 5.5


def test_a_load_that_is_gone_for_ten_minutes_is_learned_as_gone() -> None:
    """The zeros that were not believed are filled in when they are: as many bins of nothing as there were ticks."""
    scene = steady()
    scene.run(0.0, 590.0)
    assert scene.memory is not None
    assert scene.memory.bins.done[-1] > 5.0
    scene.run(0.0, 60.0)
    assert scene.memory.bins.done[-60:] == (0.0,) * 60
    assert scene.memory.bins.done[-70] > 5.0


@pytest.mark.parametrize(("served", "rate"), [(60.0, 1.0), (91.0, None)])
def test_a_replica_first_read_long_after_it_began_to_serve_tells_no_rate(served: float, rate: float | None) -> None:
    """60 requests in the 60 s since it serves are one a second; in more than the 90 s that a reading lasts nobody knows when they came."""
    now = 1_000.0
    before = Reading("p", 700.0, None)  # seen while it loaded
    sample = Sample(now, served, None, 1.0, 0.0, served * 1000.0, served * 200.0, kv_used=0.1, kv_capacity=1.0)
    replica = Replica("p", "o", ReplicaState.READY, 1.0, now - served, None, sample)
    _, part = step(before, replica, now, 10.0, True, (2.0, None), 60.0)
    assert (part.rates.requests if part.rates is not None else None) == rate


def test_where_it_stands_still_an_overload_counts_once_a_replica_would_have_helped() -> None:
    look = Look(BEGIN, "a/m", settings(), COSTS, ())
    _, seen = observe(None, look)
    late = replace(seen.measured, seconds=10.0, ttft=Late(100.0, 50.0))
    for least, ticks in ((30.0, 3), (130.0, 13)):
        state, said = Guard(), []
        for _ in range(ticks):
            state, wrong = watch(state, look, late, 1.0, least)
            said.append(wrong)
        assert said[-2] == ""
        assert said[-1].startswith("50.0% of the requests")


def still(kept: float, ready: int, level: float = 2.0, calm: float = 2.0) -> tuple[Memory, Seen]:
    """A load that stands still on this floor, with so many replicas of one work/s ready, seen at one tick; a start takes 110 s."""
    replicas = tuple(Replica(f"p{n}", "o", ReplicaState.READY, 1.0, 0.0, None, None) for n in range(ready))
    memory, seen = observe(None, Look(BEGIN, "a/m", settings(), COSTS, replicas, start_s=(("o", 110.0),)))
    known = replace(begin(level), calm=calm)
    return replace(memory, level=known, bins=Bins((calm,) * 40), verdict=Verdict(kept, True, 20.0, kept)), seen


def test_where_it_stands_still_a_floor_that_crept_up_is_not_run_after() -> None:
    """A floor of 9.2 is 8 by bins of 10 s, and 15 % for bursts inside of them: 8 replicas stay; beyond, it grows to all of it."""
    need = needed(*still(9.2, 8))
    assert need is not None
    assert (need.ask, need.give) == pytest.approx((8.0, 9.2))
    need = needed(*still(9.25, 8))
    assert need is not None
    assert need.ask > 8.0


def test_where_it_stands_still_what_waits_is_cleared_against_what_comes_on_average() -> None:
    """600 work-seconds wait at 8 replicas in a burst of 20 work/s over a mean of 2: (8 - 2) x 120 s clears them before one more serves; 900
    leave 180, to be cleared in 60 s."""
    memory, seen = still(9.2, 8, level=20.0)
    for waits, extra in ((600.0, 0.0), (900.0, 3.0)):
        need = needed(memory, replace(seen, measured=replace(seen.measured, backlog=waits)))
        assert need is not None
        assert need.extra == pytest.approx(extra)


@pytest.mark.parametrize(("calm", "why"), [(True, Why.WINDOW), (False, None)])
def test_where_it_stands_still_an_event_waits_for_what_the_window_lets_go(calm: bool, why: Why | None) -> None:
    """14 run, 10 are needed, 13 within the window: one of four now, or four in one event a little later."""
    memory, seen = still(10.0, 14)
    memory = replace(memory, verdict=Verdict(10.0, calm), needs=(Need(0.0, 13.0, 13.0),), began=-1e6)
    need = needed(memory, seen)
    assert need is not None
    need = replace(need, ask=8.7, give=10.0, extra=0.0)
    limits = bounds(memory, seen)
    seen = replace(seen, measured=replace(seen.measured, fresh=1.0))
    assert shrink(memory, seen, limits, need, "", 14.0).why is why
