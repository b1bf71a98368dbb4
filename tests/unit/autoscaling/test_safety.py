"""Every row of the safety table (§4.6 of the autoscaling design), each by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan

import pytest

from autoscaling.decide import decide
from autoscaling.memory import Memory, learned, restore
from autoscaling.types import Direction, FallbackRule, Look, MetricState, Replica, Sample, SleepRule, Why
from tests.unit.autoscaling.scene import COSTS, Distort, Scene, settings, steady

WINDOW = 195.0  # 1.5 x (120 s + 10 s)


def silent(replica: Replica) -> Replica:
    """Nothing could be read."""
    return replace(replica, sample=None, failed="timed out")


def only(ids: set[str], distort: Distort) -> Distort:
    return lambda replica: distort(replica) if replica.id in ids else replica


def ids(scene: Scene, count: int) -> set[str]:
    return {pod.id for pod in scene.pods[:count]}


# --- some replicas unscraped --------------------------------------------------------------------------------------------------------------
def test_some_replicas_unread_neither_raise_nor_lower() -> None:
    scene = steady()
    before = scene.size
    demand = scene.run(5.5, 600.0, only(ids(scene, before // 2 - 1), silent))
    assert scene.size == before
    assert demand.metrics is MetricState.PARTIAL


def test_an_unread_replica_counts_with_its_own_value_for_60_s_and_at_target_for_down() -> None:
    """Two replicas of 1 work/s with 0.5 requests/s each; one goes silent: the low end keeps its 0.5 up to 60 s, then only the read one
    counts; the high end takes it at its target."""
    from autoscaling.windows import measure

    def look(now: float, sample: Sample | None) -> Look:
        from autoscaling.types import ReplicaState

        a = Replica("a", "o", ReplicaState.READY, 1.0, 0.0, sample=Sample(now, now * 0.5, None, 1.0, 0.0, now * 500.0, now * 100.0))
        b = Replica("b", "o", ReplicaState.READY, 1.0, 0.0, sample=sample)
        return Look(now, "a/m", settings(prompt_tokens=1000.0, output_tokens=200.0), COSTS, (a, b))

    def full(now: float) -> Sample:
        return Sample(now, now * 0.5, None, 1.0, 0.0, now * 500.0, now * 100.0)

    windows = None
    for now in (1000.0, 1010.0, 1020.0):
        seen = look(now, full(now))
        windows, measured = measure(windows, seen, seen.replicas, 0.5)
    assert (measured.low, measured.high) == (pytest.approx(1.0), pytest.approx(1.0))
    for now in range(1030, 1081, 10):
        seen = look(float(now), None)
        windows, measured = measure(windows, seen, seen.replicas, 0.5)
        assert (measured.low, measured.high) == (pytest.approx(1.0), pytest.approx(1.5)), now
    seen = look(1090.0, None)
    windows, measured = measure(windows, seen, seen.replicas, 0.5)
    assert (measured.low, measured.high) == (pytest.approx(0.5), pytest.approx(1.5))


def test_fewer_than_half_read_never_scale_down_although_those_are_idle() -> None:
    scene = steady()
    before = scene.size
    unread = ids(scene, before // 2 + 1)
    scene.run(0.0, 1800.0, only(unread, silent))
    assert scene.size == before
    assert all(d.direction is not Direction.DOWN for d in scene.said[-180:])


def test_half_read_still_follow_a_load_that_rises() -> None:
    scene = steady()
    before = scene.size
    scene.run(16.0, 120.0, only(ids(scene, before // 2), silent))
    assert scene.size > before


# --- all unknown --------------------------------------------------------------------------------------------------------------------------
def test_unknown_for_fewer_polls_than_the_threshold_holds() -> None:
    scene = steady(fallback=FallbackRule(12, 3))
    held, before = scene.said[-1].work_per_s, scene.size
    for _ in range(2):
        demand = scene.tick(5.5, silent)
        assert (demand.direction, demand.reason, demand.metrics) == (Direction.HOLD, Why.UNKNOWN_LOAD, MetricState.UNKNOWN)
        assert (demand.work_per_s, demand.min_replicas, demand.may_shrink, scene.size) == (held, 1, False, before)


def test_unknown_replicas_but_a_gateway_that_counts_may_raise() -> None:
    scene = Scene(count=6, settings=settings(), gateway=True)
    scene.run(4.0, 600.0)
    before = scene.size
    scene.run(12.0, 120.0, silent)
    assert scene.size >= 12 > before


def test_the_gateway_alone_does_not_lower() -> None:
    scene = Scene(count=6, settings=settings(), gateway=True)
    scene.run(4.0, 600.0)
    before = scene.size
    scene.run(0.5, 3600.0, silent)
    assert scene.size == before


@pytest.mark.parametrize(
    ("behavior", "replicas", "size"),
    [
        ("CurrentReplicasIfHigher", 12, 12),  # raised
        ("CurrentReplicasIfHigher", 2, 6),  # never lowers
        ("CurrentReplicas", 2, 6),
        ("Static", 2, 2),  # lowers because the user said so
        ("Static", 9, 9),
    ],
)
def test_fallback_after_the_threshold(behavior: str, replicas: int, size: int) -> None:
    scene = steady(fallback=FallbackRule(replicas, 3, behavior))
    assert scene.size == 6
    scene.tick(5.5, silent)
    scene.tick(5.5, silent)
    assert scene.size == 6
    demand = scene.tick(5.5, silent)
    assert demand.metrics is MetricState.FALLBACK
    assert scene.size == size


def test_unknown_for_longer_than_hold_takes_the_highest_of_current_fallback_and_burst_floor() -> None:
    for fallback, floor, size in ((9, 3.0, 9), (3, 11.0, 11), (3, 3.0, 6)):
        scene = steady(fallback=FallbackRule(fallback, 3))
        assert scene.memory is not None
        scene.memory = replace(scene.memory, backtest=(floor, scene.memory.clock))
        scene.run(5.5, 290.0, silent)
        assert scene.size == max(6, fallback)
        scene.run(5.5, 60.0, silent)
        assert scene.size == size


# --- after recovery -----------------------------------------------------------------------------------------------------------------------
def test_after_an_outage_nothing_goes_down_for_a_window() -> None:
    scene = steady(load=6.5)
    before = scene.size
    scene.run(7.0, 600.0, silent)
    first = scene.tick(0.5)  # a new baseline
    assert first.metrics in (MetricState.UNKNOWN, MetricState.RECOVERING)
    for _ in range(int(WINDOW // 10) - 1):
        demand = scene.tick(0.5)
        assert demand.metrics is MetricState.RECOVERING
        assert not demand.may_shrink
        assert scene.size == before


def test_after_an_outage_capacity_at_most_doubles_within_a_window() -> None:
    scene = steady(load=3.5, count=4)
    before = scene.size
    scene.run(30.0, 600.0, silent)
    assert scene.size == before
    scene.run(30.0, WINDOW - 20.0)
    assert scene.size == 2 * before
    scene.run(30.0, 60.0)
    assert scene.size > 2 * before


# --- numbers that are none ----------------------------------------------------------------------------------------------------------------
BAD = {
    "NaN": lambda s: replace(s, arrived=nan),
    "infinite": lambda s: replace(s, arrived=inf),
    "negative": lambda s: replace(s, arrived=-1.0),
    "minus infinity": lambda s: replace(s, arrived=-inf),
    "absent": lambda s: replace(s, arrived=None),
    "prompt NaN, requests absent": lambda s: replace(s, arrived=None, prompt_tokens=nan),
    "everything NaN": lambda s: Sample(s.at, nan, nan, nan, nan, nan, nan),
}


@pytest.mark.parametrize("name", sorted(BAD))
@pytest.mark.parametrize("load", [0.0, 6.0])
def test_a_number_that_is_none_is_unknown_and_never_zero(name: str, load: float) -> None:
    change: Callable[[Sample], Sample] = BAD[name]
    scene = steady()
    held, before = scene.said[-1].work_per_s, scene.size
    scene.run(load, 1800.0, lambda r: replace(r, sample=change(r.sample) if r.sample is not None else None))
    assert scene.size == before
    assert scene.said[-1].work_per_s == held
    assert scene.said[-1].metrics is MetricState.UNKNOWN


def test_a_counter_that_goes_back_is_a_new_baseline() -> None:
    """Half of the replicas restart; what they count from zero on is neither negative nor a load of its own."""
    scene = steady()
    before = scene.size
    for pod in scene.pods[: before // 2]:
        pod.arrived = pod.served = 0.0
    scene.run(5.5, 600.0)
    assert scene.size == before
    assert {d.direction for d in scene.said[-60:]} == {Direction.HOLD}


def test_zero_over_zero_with_a_flat_counter_is_a_true_zero() -> None:
    scene = steady(fallback=FallbackRule(12, 3))
    demand = scene.run(0.0, 60.0)
    assert demand.metrics is MetricState.ZERO
    scene.run(0.0, 2 * 3600.0)
    assert scene.size == 1


# --- zero-fill ----------------------------------------------------------------------------------------------------------------------------
def zeros(replica: Replica) -> Replica:
    at = replica.sample.at if replica.sample is not None else 0.0
    return replace(replica, sample=Sample(at, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))


def test_all_replicas_at_zero_in_one_poll_is_not_believed() -> None:
    scene = steady()
    held, before = scene.said[-1].work_per_s, scene.size
    for _ in range(120):
        demand = scene.tick(6.0, zeros)
        assert demand.metrics in (MetricState.UNKNOWN, MetricState.FALLBACK)
        assert (demand.work_per_s, scene.size) == (held, before)
    scene.run(6.0, 60.0)
    assert scene.size <= before + 1  # the overshoot of a zero-filled outage is not made
    assert scene.size >= before


def test_flat_counters_are_believed_at_the_second_poll() -> None:
    scene = steady()
    assert scene.tick(0.0).metrics is MetricState.UNKNOWN
    assert scene.tick(0.0).metrics is MetricState.ZERO


def test_replicas_that_all_restarted_are_believed_as_soon_as_they_count() -> None:
    scene = steady()
    for pod in scene.pods:
        pod.arrived = pod.served = pod.waiting = 0.0
    scene.tick(0.0, zeros)
    demand = scene.run(5.5, 60.0)
    assert demand.metrics is MetricState.VALUE
    assert demand.now_work == pytest.approx(5.5, rel=0.1)


# --- the checker's own requests -----------------------------------------------------------------------------------------------------------
def test_the_accuracy_checkers_own_requests_are_no_demand() -> None:
    def checked(replica: Replica) -> Replica:
        s = replica.sample
        if s is None or s.arrived is None or s.prompt_tokens is None or s.output_tokens is None:
            return replica
        half = s.arrived / 2.0
        return replace(
            replica, sample=replace(s, checker_requests=half, checker_prompt_tokens=half * 1000.0, checker_output_tokens=half * 200.0)
        )

    scene = Scene(count=8, settings=settings())
    demand = scene.run(6.0, 1200.0, checked)
    assert demand.now_work == pytest.approx(3.0, rel=0.02)


# --- clocks -------------------------------------------------------------------------------------------------------------------------------
def test_a_reading_older_than_90_s_by_its_stamp_is_dropped() -> None:
    scene = steady()
    before = scene.size
    frozen = {p.id: p.sample(scene.now, 3.0) for p in scene.pods}
    scene.run(0.0, 600.0, lambda r: replace(r, sample=frozen[r.id]))
    assert scene.size == before
    assert scene.said[-1].metrics is MetricState.UNKNOWN


def test_a_frozen_page_with_a_fresh_stamp_is_a_true_zero_only_if_nothing_runs() -> None:
    """A load that vanishes while requests run for ever is a page that stands still: those who run are not nobody."""
    scene = steady(sleep=SleepRule(600.0), least=0)
    frozen = {p.id: p.sample(scene.now, 3.0) for p in scene.pods}
    scene.run(5.5, 600.0, lambda r: replace(r, sample=replace(frozen[r.id], at=scene.now)))
    assert scene.said[-1].metrics is not MetricState.ZERO
    assert scene.size > 0


def test_a_reading_from_the_future_is_dropped() -> None:
    scene = steady()
    before = scene.size
    scene.run(0.0, 600.0, lambda r: replace(r, sample=replace(r.sample, at=scene.now + 3600.0) if r.sample else None))
    assert scene.size == before


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_step_of_the_rooms_clock_lowers_nothing_for_a_window(jump: float) -> None:
    scene = steady()
    before = scene.size
    scene.now += jump
    for _ in range(int(WINDOW // 10)):
        demand = scene.tick(0.2)
        assert demand.direction is not Direction.DOWN
        assert scene.size == before


# --- restart ------------------------------------------------------------------------------------------------------------------------------
def test_after_a_restart_nothing_goes_down_in_the_first_window_and_the_learned_state_is_there() -> None:
    scene = steady(load=6.0)
    assert scene.memory is not None
    before, memory = scene.size, scene.memory
    scene.memory = restore(learned(memory), scene.now)
    assert scene.memory.bins.done == pytest.approx(memory.bins.done, rel=1e-2)
    assert scene.memory.windows.mix.mean_output == pytest.approx(200.0, rel=0.01)
    for _ in range(int(WINDOW // 10)):
        demand = scene.tick(0.5)
        assert (demand.direction is Direction.DOWN, demand.may_shrink) == (False, False)
        assert scene.size == before


def test_after_a_restart_in_mid_ramp_it_goes_on_up() -> None:
    scene = steady(load=6.0)
    before = scene.size
    assert scene.memory is not None
    scene.memory = restore(learned(scene.memory), scene.now)
    scene.run(20.0, 120.0)
    assert scene.size >= 20 > before


# --- bounds -------------------------------------------------------------------------------------------------------------------------------
def test_min_replicas_holds_before_any_metric_is_read() -> None:
    scene = Scene(count=0, settings=settings(3, 10))
    demand = scene.tick(0.0)
    assert (demand.min_replicas, demand.direction, demand.reason) == (3, Direction.UP, Why.MINIMUM)
    assert scene.size == 3


def test_min_replicas_holds_in_an_outage() -> None:
    scene = steady(load=2.0, count=3)
    scene.settings = settings(7, 40)
    demand = scene.tick(2.0, silent)
    assert (demand.min_replicas, scene.size) == (7, 7)


def test_max_replicas_is_honoured_at_once_whatever_is_known() -> None:
    scene = steady(load=7.0)
    scene.settings = settings(1, 4)
    demand = scene.tick(7.0, silent)
    assert (demand.max_replicas, demand.reason) == (4, Why.MAXIMUM)
    assert scene.size == 4


def test_max_replicas_lowered_takes_away_no_more_than_that() -> None:
    scene = steady(load=3.0)
    for _ in range(10 - scene.size):
        scene.start(scene.now, 0.0)  # by hand
    scene.settings = settings(1, 8)
    scene.tick(3.0, silent)
    assert scene.size == 8


def test_an_edit_by_hand_is_no_load_and_is_not_fought() -> None:
    scene = steady()
    before = scene.size
    for _ in range(3):
        scene.start(scene.now, 0.0)
    held = scene.said[-1].work_per_s
    for _ in range(18):
        demand = scene.tick(5.5)
        assert (demand.direction, demand.work_per_s) == (Direction.HOLD, held)
    assert scene.size == before  # what was added by hand is drift, and the placer's to repair


def test_an_unknown_inventory_freezes() -> None:
    scene = steady(load=6.0)
    before = scene.size
    scene.stock_known = False
    demand = scene.run(20.0, 300.0)
    assert (scene.size, demand.reason) == (before, Why.UNKNOWN_STOCK)
    demand = scene.run(0.2, 2 * 3600.0)
    assert (scene.size, demand.reason) == (before, Why.UNKNOWN_STOCK)


# --- Advise -------------------------------------------------------------------------------------------------------------------------------
def test_a_recommendation_is_a_value_that_changes_nothing() -> None:
    """`Advise` writes what `decide` returns; asking twice returns the same, and what was given is as it was."""
    scene = steady()
    memory = scene.memory
    scene.follow = False
    first = scene.tick(20.0)
    assert isinstance(memory, Memory)
    looked: list[Look] = []
    scene.tick(20.0, look=lambda what: looked.append(what) or what)  # type: ignore[func-returns-value]
    kept = learned(memory)
    assert decide(memory, looked[0]) == decide(memory, looked[0])
    assert learned(memory) == kept
    assert first.model == "a/m"


# --- counters frozen, gauges at zero ------------------------------------------------------------------------------------------------------
def test_a_load_that_vanishes_between_two_polls_is_believed_after_ten_minutes() -> None:
    """A frozen source looks like a true zero. 5.5 work/s of noise 0.3 do not end between two polls, so nothing goes for 600 s; then the
    zero is believed. A load that fades is believed at once."""
    scene = steady()
    before = scene.size
    scene.run(0.0, 590.0)
    assert scene.size == before
    assert scene.said[-1].reason is Why.WINDOW
    assert "vanished between two polls" in scene.said[-1].message
    scene.run(0.0, 300.0)
    assert scene.size == 1


def test_a_load_that_fades_goes_down_within_the_window() -> None:
    scene = steady()
    for load in (4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.1):
        scene.run(load, 120.0)
    scene.run(0.0, 400.0)
    assert scene.size == 1
