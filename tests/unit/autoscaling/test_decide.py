"""The decision: cases that went wrong elsewhere (OC-…), pitfalls of other scalers (§6 of the design), sleep, budgets and floors."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from autoscaling.memory import learned, restore
from autoscaling.types import CronFloor, Demand, Direction, FallbackRule, Histogram, MetricState, Replica, Sample, SleepRule, Why
from tests.unit.autoscaling.scene import BEGIN, Scene, settings, steady


def rate(least: int = 1, most: int = 40, **more: object) -> object:
    """Settings of a model that is scaled by requests per second, 1 per replica."""
    return settings(least, most, metric="RequestRate", target_per_replica=1.0, **more)


def silent(replica: Replica) -> Replica:
    return replace(replica, sample=None, failed="timed out")


def changed(**fields: object):  # type: ignore[no-untyped-def]
    return lambda r: replace(r, sample=replace(r.sample, **fields) if r.sample is not None else None)


# --- signals ------------------------------------------------------------------------------------------------------------------------------
def test_oc_034_the_fallback_reaches_a_model_at_zero_and_it_sleeps_again() -> None:
    scene = Scene(count=0, settings=settings(0, 5, fallback=FallbackRule(1, 3), sleep=SleepRule(600.0)))
    scene.tick(0.0)
    scene.tick(0.0)
    assert scene.size == 0
    demand = scene.tick(0.0)
    assert (scene.size, demand.metrics) == (1, MetricState.FALLBACK)
    scene.run(0.0, 150.0, silent)
    scene.gateway = True
    scene.run(0.0, 560.0)
    assert scene.size == 1
    demand = scene.run(0.0, 240.0)
    assert (scene.size, demand.reason) == (0, Why.IDLE)


def test_oc_035_one_failed_poll_is_no_fallback() -> None:
    scene = steady(fallback=FallbackRule(2, 3))
    assert scene.tick(5.5, silent).reason is Why.UNKNOWN_LOAD
    assert scene.memory is not None
    assert scene.memory.blind is not None
    assert scene.memory.blind.polls == 1
    scene.tick(5.5)  # the counters have grown by two ticks: known at once
    assert scene.memory is not None
    assert scene.memory.blind is None
    assert set(scene.sizes[-2:]) == {6}


def test_oc_036_a_flat_counter_beside_nan_averages_is_nobody() -> None:
    scene = Scene(count=7, settings=settings(1, 40))
    broken = Histogram((1.0, float("inf")), (nan, nan), nan)
    demand = scene.run(0.0, 190.0, changed(ttft=broken))
    assert (scene.size, demand.metrics) == (7, MetricState.ZERO)
    scene.run(0.0, 40.0, changed(ttft=broken))
    assert scene.size == 1


def test_oc_036_an_absent_counter_is_not() -> None:
    scene = Scene(count=7, settings=settings(1, 40))
    demand = scene.run(0.0, 600.0, changed(arrived=None))
    assert (scene.size, demand.metrics) == (7, MetricState.UNKNOWN)


def test_oc_037_nan_and_no_data_are_not_zero() -> None:
    scene = Scene(count=8, settings=rate())  # type: ignore[arg-type]
    scene.run(8.0, 600.0)
    for distort in (changed(arrived=nan), silent, None):
        scene.tick(8.0, distort)
        assert scene.size == 8


def test_oc_038_a_counter_is_no_level() -> None:
    """50 requests since the start, none now: nothing is needed, not 50."""
    scene = Scene(count=1, settings=rate(1, 40))  # type: ignore[arg-type]
    scene.pods[0].arrived = scene.pods[0].served = 50.0
    demand = scene.run(0.0, 300.0)
    assert (scene.size, demand.now_work) == (1, 0.0)


def test_oc_039_no_baseline_is_no_zero() -> None:
    scene = Scene(count=6, settings=rate())  # type: ignore[arg-type]
    scene.run(6.0, 600.0)
    scene.memory = None  # the operator restarts
    for _ in range(2):
        demand = scene.tick(6.0)
        assert (scene.size, demand.may_shrink) == (6, False)


def test_oc_040_cache_use_that_nobody_publishes_holds() -> None:
    scene = Scene(count=4, settings=settings(1, 40, metric="KVCacheUse", target_per_replica=0.9))
    demand = scene.run(3.0, 300.0, changed(kv_used=0.9))
    assert (scene.size, demand.now_work) == (4, pytest.approx(4.0))
    demand = scene.run(3.0, 600.0, changed(kv_used=None))
    assert (scene.size, demand.metrics, demand.direction) == (4, MetricState.UNKNOWN, Direction.HOLD)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("load", [0.0, 9.0])
def test_oc_041_bounds_that_contradict_each_other_freeze(count: int, load: float) -> None:
    scene = Scene(count=count, settings=settings(5, 2))
    demand = scene.run(load, 900.0)
    assert scene.sizes == [count] * 90
    assert demand.max_replicas <= max(2, count)


def test_oc_042_a_minimum_set_on_a_fleet_that_runs_keeps_it() -> None:
    scene = Scene(count=4, settings=settings(3, 40))
    scene.run(3.2, 600.0)
    assert scene.sizes[0] == 4
    assert min(scene.sizes) >= 3
    scene.run(0.0, 3000.0)
    assert scene.size == 3


# --- dynamics -----------------------------------------------------------------------------------------------------------------------------
def test_oc_045_capacity_that_is_coming_is_counted() -> None:
    scene = Scene(count=2, cold=300.0, settings=rate(1, 16, tick_s=15.0))  # type: ignore[arg-type]
    scene.run(4.0, 330.0)
    assert scene.sizes[0] == 2
    assert set(scene.sizes[1:]) == {4}


def test_oc_045_by_work_too_if_nothing_waits() -> None:
    scene = Scene(count=2, cold=300.0, settings=settings(1, 16, tick_s=15.0))
    scene.run(4.0, 330.0, changed(waiting=0.0))
    assert len(set(scene.sizes[2:])) == 1


def test_oc_046_nothing_goes_while_something_loads() -> None:
    scene = Scene(count=1, cold=400.0, settings=rate(down_window_s=30.0))  # type: ignore[arg-type]
    scene.run(3.0, 60.0)
    assert scene.size == 3
    demand = scene.run(0.5, 340.0)
    assert (scene.size, demand.reason) == (3, Why.LOADING)
    scene.run(0.5, 60.0)
    assert scene.size == 1


def test_oc_046_an_image_that_never_comes_does_not_block_for_ever() -> None:
    scene = Scene(count=1, cold=1e6, settings=rate(down_window_s=30.0, progress_deadline_s=300.0))  # type: ignore[arg-type]
    scene.run(3.0, 60.0)
    scene.run(0.5, 250.0)
    assert scene.size == 3
    scene.run(0.5, 400.0)
    assert scene.size == 1


def test_oc_047_only_raw_needs_enter_the_window() -> None:
    scene = Scene(count=10, settings=rate(down_window_s=300.0, tick_s=15.0))  # type: ignore[arg-type]
    scene.tick(2.0)  # the baseline; the window begins here
    for _ in range(19):
        scene.tick(2.0)
    assert set(scene.sizes) == {10}
    scene.tick(2.0)
    assert scene.size == 2


def test_oc_048_the_count_does_not_rise_while_it_falls() -> None:
    wants = rate(1, 40, up_window_s=300.0, down_window_s=600.0, tick_s=15.0)
    scene = Scene(count=17, settings=wants)  # type: ignore[arg-type]
    scene.run(16.5, 900.0)
    scene.run(21.0, 150.0, changed(waiting=0.0))
    scene.run(11.9, 1800.0, changed(waiting=0.0))
    assert max(scene.sizes) == 17
    assert scene.size == 12


# --- pitfalls of peers --------------------------------------------------------------------------------------------------------------------
def test_a_leaked_in_flight_counter_does_not_keep_the_fleet() -> None:
    scene = steady()
    scene.run(0.0, 3600.0, changed(running=3.0))
    assert scene.size == 1


def test_replicas_on_their_way_do_not_block_a_further_rise() -> None:
    scene = steady()
    scene.run(9.0, 60.0)
    first = scene.size
    assert first > 6
    scene.run(18.0, 60.0)
    assert scene.size >= 18 > first


def test_a_jump_is_answered_at_once_and_not_step_by_step() -> None:
    scene = steady()
    scene.tick(30.0)
    assert scene.size >= 12
    scene.run(30.0, 50.0)
    assert scene.size >= 30


def test_a_thousandfold_load_in_a_second_stays_within_the_bounds() -> None:
    scene = steady(most=12)
    demand = scene.run(5500.0, 120.0)
    assert (scene.size, demand.reason) == (12, Why.MAXIMUM)


def test_every_replica_gone_at_once_is_no_zero() -> None:
    scene = steady()
    held = scene.said[-1].work_per_s
    scene.pods.clear()
    demand = scene.tick(0.0)
    assert demand.work_per_s == held
    assert scene.size == 6


def test_status_and_work_are_the_same_at_constant_load() -> None:
    scene = steady()
    scene.run(5.5, 1200.0)
    assert {(d.work_per_s, d.may_shrink, d.direction, d.kv_floor) for d in scene.said[-100:]} == {
        (scene.said[-1].work_per_s, True, Direction.HOLD, scene.said[-1].kv_floor)
    }


# --- sleep and wake -----------------------------------------------------------------------------------------------------------------------
def sleeper() -> Scene:
    scene = Scene(count=1, settings=settings(0, 20, sleep=SleepRule(1800.0)), gateway=True)
    scene.run(0.5, 60.0)
    scene.run(0.0, 1800.0)
    return scene


def test_a_true_zero_for_long_enough_sleeps_and_not_before() -> None:
    scene = sleeper()
    assert scene.size == 1
    demand = scene.run(0.0, 30.0)
    assert (scene.size, demand.reason, demand.work_per_s, demand.min_replicas) == (0, Why.IDLE, 0.0, 0)


def test_nobody_sleeps_without_a_way_to_wake() -> None:
    scene = sleeper()
    scene.gateway = False
    demand = scene.run(0.0, 3600.0)
    assert (scene.size, demand.reason) == (1, Why.MINIMUM)
    assert "nothing counts the requests that come at zero" in demand.message


def test_who_may_sleep_is_told_what_it_waits_for() -> None:
    scene = Scene(count=1, settings=settings(0, 20, sleep=SleepRule(7200.0)), gateway=True)
    scene.run(0.5, 60.0)
    assert scene.run(0.0, 4200.0).message.endswith("nobody asks; the last replica goes after 7200 s of that")


def test_nobody_sleeps_on_doubt() -> None:
    scene = sleeper()
    scene.gateway = False
    scene.run(0.0, 3600.0, silent)
    assert scene.size == 1


def test_a_wake_is_as_large_as_what_waits() -> None:
    """60 requests came in 10 s and wait, at one work-second each: 60 / 60 s to clear, and 6 work/s that arrive: 7."""
    scene = sleeper()
    scene.run(0.0, 300.0)
    assert scene.size == 0
    demand = scene.tick(6.0)
    assert (demand.direction, demand.reason, demand.horizon_s) == (Direction.UP, Why.WAKE, 130.0)
    assert demand.work_per_s == pytest.approx(7.0, rel=0.02)
    assert scene.size == 7


def test_a_wake_by_one_request_is_one_replica() -> None:
    scene = sleeper()
    scene.run(0.0, 300.0)
    scene.tick(0.1)
    assert scene.size == 1


def test_the_first_step_from_zero_is_sized_by_who_waits_and_not_by_the_minimum() -> None:
    """The minimum was raised to one while the model slept; 60 requests of 10 s wait."""
    scene = sleeper()
    scene.run(0.0, 300.0)
    scene.settings = replace(scene.settings, min_replicas=1)
    demand = scene.tick(6.0)
    assert (demand.direction, demand.reason, demand.min_replicas, scene.size) == (Direction.UP, Why.WAKE, 1, 7)


@pytest.mark.parametrize("load", [0.0, 6.0])
def test_a_counter_that_comes_back_wakes_nobody_but_for_who_waits(load: float) -> None:
    """The gateway cannot be read for two minutes while the model sleeps. Then it can: nobody there is no reason to wake, and who waits gets
    capacity for the load and not twice the nothing that ran in the outage."""
    scene = sleeper()
    scene.run(0.0, 300.0)
    scene.gateway = False
    scene.run(0.0, 120.0)
    scene.gateway = True
    scene.run(0.0, 30.0)
    assert (scene.size, scene.said[-1].reason) == (0, Why.IDLE)
    scene.run(load, 20.0)
    assert scene.size == 0 if load == 0.0 else scene.size >= 7


def through(scene: Scene, seconds: float, load: float, **door: object) -> Demand:
    """Ticks with a gateway that differs in these fields."""
    for _ in range(round(seconds / scene.settings.tick_s)):
        demand = scene.tick(load, look=lambda what: replace(what, gateway=replace(what.gateway, **door) if what.gateway else None))
    return demand


@pytest.mark.parametrize(
    ("door", "words"),
    [
        ({"arrived": None}, "who counts the requests at zero was not read within the last 60 s"),
        ({"at": BEGIN}, "who counts the requests at zero was not read within the last 60 s"),
        ({"holds_s": None}, "a wake takes up to 130 s, and who holds the requests meanwhile promises nothing"),
        ({"holds_s": 129.0}, "a wake takes up to 130 s, and who holds the requests meanwhile promises 129 s"),
    ],
)
def test_the_last_replica_stays_where_whoever_wakes_it_is_not_sure_to(door: dict[str, object], words: str) -> None:
    """A start takes 120 s and a tick is 10 s. Once the doubt is over the idle time counts as it was."""
    scene = sleeper()
    demand = through(scene, 3600.0, 0.0, only_at_zero=True, **door)
    assert (scene.size, demand.reason) == (1, Why.MINIMUM)
    assert demand.message.endswith(f"one replica stays: {words}")
    assert demand.awake == words
    through(scene, 30.0, 0.0, only_at_zero=True)
    assert (scene.size, scene.said[-1].awake) == (0, "")


def test_a_promise_is_held_against_the_slowest_starts_where_they_were_measured() -> None:
    scene = sleeper()
    for wake_s, size in ((601.0, 1), (600.0, 0)):
        for _ in range(3):
            scene.tick(0.0, look=lambda what, wake_s=wake_s: replace(what, wake_s=wake_s))  # type: ignore[misc]
        assert scene.size == size


def test_who_counts_at_zero_only_is_not_asked_for_the_load_of_those_who_serve() -> None:
    """Its counter stands still while two replicas serve 1.5 work/s; a counter that sees everything would say the same by moving."""
    scene = Scene(count=2, settings=settings(0, 20, sleep=SleepRule(1800.0)), gateway=True)
    demand = through(scene, 600.0, 1.5, only_at_zero=True, arrived=0.0, waiting=0.0)
    assert demand.now_work == pytest.approx(1.5, rel=0.05)
    assert through(Scene(count=2, settings=scene.settings, gateway=True), 600.0, 1.5, arrived=0.0, waiting=0.0).metrics is MetricState.VALUE


def test_who_waits_wakes_though_not_every_counter_was_read() -> None:
    """One of two counters is not read: the sum is unknown, which wakes nobody. Somebody waits at the other one: that does."""
    scene = sleeper()
    scene.run(0.0, 300.0)
    for _ in range(12):
        through(scene, 10.0, 0.0, only_at_zero=True, arrived=None, waiting=None)
    assert scene.size == 0
    demand = through(scene, 10.0, 0.0, only_at_zero=True, arrived=None, waiting=1.0)
    assert (demand.reason, scene.size) == (Why.WAKE, 1)


def test_a_model_at_zero_serves_again_where_nobody_sees_for_long_who_knocks() -> None:
    """Unread for `hold_unknown_s`, 300 s: no replica before, one after, and it stays for as long as nobody is sure to wake it."""
    scene = sleeper()
    scene.run(0.0, 300.0)
    unread: dict[str, object] = {"only_at_zero": True, "arrived": None, "waiting": None}
    through(scene, 300.0, 0.0, **unread)
    assert scene.size == 0
    demand = through(scene, 20.0, 0.0, **unread)
    assert (scene.size, demand.min_replicas) == (1, 1)
    up = next(d for d in reversed(scene.said) if d.direction is Direction.UP)
    assert (up.reason, "was not read for more than 300 s" in up.message) == (Why.UNKNOWN_LOAD, True)
    through(scene, 3600.0, 0.0, **unread)
    assert scene.size == 1
    through(scene, 30.0, 0.0, only_at_zero=True)
    assert scene.size == 0


@pytest.mark.parametrize("slept_s", [300.0, 7200.0])
def test_after_a_restart_at_zero_nothing_wakes_it_but_who_asks(slept_s: float) -> None:
    """0.5 work/s for an hour, then nobody. The bins of that hour are remembered over the restart and wake nobody; 60 requests that wait
    get 60 / 60 s and the 6 work/s that arrive."""
    scene = Scene(count=1, settings=settings(0, 20, sleep=SleepRule(1800.0)), gateway=True)
    scene.run(0.5, 3600.0)
    scene.run(0.0, 1830.0 + slept_s)
    assert scene.size == 0
    scene.memory = replace(restore(learned(scene.memory), scene.now), asleep=True)  # type: ignore[arg-type]
    demand = scene.run(0.0, 120.0)
    assert (scene.size, demand.reason) == (0, Why.IDLE)
    demand = scene.tick(6.0)
    assert demand.reason is Why.WAKE
    assert scene.size >= 7


def test_a_first_decision_in_the_middle_of_a_move_asks_for_what_was_aimed_at() -> None:
    """One replica of 1 work/s was aimed at; the old one runs beside the new one when the operator starts. Two would be wrong."""
    for aimed, work in ((1, 1.0), (2, 2.0), (None, 2.0), (0, 2.0)):
        scene = Scene(count=2, follow=False)
        demand = scene.tick(0.5, look=lambda what, aimed=aimed: replace(what, aimed=aimed))  # type: ignore[misc]
        assert (demand.work_per_s, demand.may_shrink) == (work, False)


# --- budgets, floors ----------------------------------------------------------------------------------------------------------------------
def test_no_more_than_the_budget_of_events_within_an_hour() -> None:
    scene = Scene(count=20, settings=rate(down_window_s=20.0, down_events_per_hour=3))  # type: ignore[arg-type]
    for load in (18.0, 15.0, 12.0, 9.0, 6.0, 3.0):
        demand = scene.run(load, 500.0)
    assert sum(d.direction is Direction.DOWN for d in scene.said) == 3
    assert demand.reason is Why.EVENT_BUDGET
    scene.run(3.0, 1500.0)
    assert scene.size <= 4


def test_a_cron_floor_holds_from_its_begin_to_its_end() -> None:
    scene = steady(floors=(CronFloor(BEGIN + 4300.0, BEGIN + 5000.0, 9),))
    sizes = {}
    for _ in range(140):
        scene.tick(5.5)
        sizes[scene.now - BEGIN] = scene.size
    assert sizes[4290.0] == 6
    assert sizes[4300.0] == 9
    assert sizes[4990.0] == 9
    assert sizes[5100.0] == 6
    assert next(d for d in scene.said if d.reason is Why.CRON_FLOOR).direction is Direction.UP


@pytest.mark.parametrize(("season", "size"), [(11.5, 12), (1.0, 6)])
def test_a_season_may_only_raise(season: float, size: int) -> None:
    scene = steady()
    scene.tick(5.5, look=lambda what: replace(what, season=season))
    assert scene.size == size


def test_a_stated_utilisation_is_headroom() -> None:
    """FleetPolicy's 0.7: asked for at level / 0.7 > capacity, made for level / (0.92 x 0.7)."""
    scene = Scene(count=4, settings=settings(utilization=0.7, burst_quantile=0.0))
    scene.run(3.5, 30.0)
    assert scene.said[-1].high_work == pytest.approx(3.5 / (0.92 * 0.7), rel=1e-6)
    assert scene.size == 6


def test_the_guard_asks_for_one_more_whatever_the_model_says() -> None:
    """Half of the requests later than 2 s, the work well within the capacity."""
    scene = steady()

    def late(replica: Replica) -> Replica:
        s = replica.sample
        if s is None or s.arrived is None:
            return replica
        return replace(replica, sample=replace(s, ttft=Histogram((2.0, float("inf")), (s.arrived / 2.0, s.arrived), 0.0)))

    scene.run(5.5, 60.0, late)
    assert scene.size == 7
    assert any(d.reason is Why.SLO_GUARD and d.direction is Direction.UP for d in scene.said[-6:])
    assert scene.memory is not None
    assert dict(scene.memory.kappas)["o"] == pytest.approx(0.98, abs=1e-3)
    scene.run(5.5, 100.0, late)
    assert scene.size == 7  # what was asked for has not shown yet


def test_the_cache_of_those_who_leave_is_kept_for() -> None:
    """Six replicas with caches 80 % full cannot become four: 6 x 0.8 / 0.9 = 5.3 must stay."""
    scene = steady()
    scene.run(3.2, 3000.0, changed(kv_used=0.8))
    assert scene.size == 6
    assert scene.said[-1].reason is Why.CONSOLIDATION


def test_a_page_without_work_is_a_sample_without_numbers() -> None:
    scene = steady()
    demand = scene.run(5.5, 300.0, lambda r: replace(r, sample=Sample(scene.now)))
    assert (scene.size, demand.metrics) == (6, MetricState.UNKNOWN)
