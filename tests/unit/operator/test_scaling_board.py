"""What of the decisions reaches the cycle: every decision, and nothing that only moves with a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.scaling.board import STEADY_S, Board
from polyfleet.scaling.force import Force

from autoscaling.memory import Memory
from autoscaling.types import Decision, Direction, MetricState, Why
from autoscaling.windows import Windows
from tests.unit.operator.forces import KEY, demand

T0 = 1_700_000_000.0


class Told:
    """A board, and ticks of ten seconds."""

    def __init__(self) -> None:
        self.board, self.now = Board(), T0
        self.board.entry(KEY, "uid")

    def tick(self, work: float = 1.0, *, wake: Any = (None, ""), starts: Any = (), second: bool = False, **more: Any) -> bool:
        self.now += 10
        made = Decision(demand(work, **more), Memory(Windows(self.now)))
        return self.board.tell(KEY, made, self.now, starts=starts, wake=wake, second=second)

    def ticks(self, count: int, work: float = 1.0, **more: Any) -> int:
        return sum(self.tick(work, **more) for _ in range(count))

    @property
    def force(self) -> Force:
        return self.board.forces()[KEY]


def test_a_constant_load_is_told_once_whatever_its_samples_are() -> None:
    told = Told()
    assert told.tick(now_work=0.8)
    shown = told.board.forces()
    noise = [told.tick(now_work=0.8 + 0.01 * i, ready_work=1.0 + i, message=f"sample {i}", high_work=0.9 + 0.02 * i) for i in range(50)]
    assert not any(noise)
    assert told.board.forces() is shown  # the same object: the next cycle sees nothing new


def test_what_keeps_a_model_awake_is_told_when_it_lasts_and_not_for_each_number() -> None:
    told = Told()
    told.tick(awake="a wake takes up to 130 s")
    assert told.force.awake == ""
    assert told.ticks(6, awake="a wake takes up to 131 s") == 1
    assert told.force.awake == "a wake takes up to 131 s"
    assert told.ticks(20, awake="a wake takes up to 150 s") == 0
    assert told.ticks(10, awake="nobody was read") == 1
    assert told.ticks(3) == 0
    assert told.force.awake == "nobody was read"
    assert told.ticks(10) == 1
    assert told.force.awake == ""


@pytest.mark.parametrize("change", [{"work_per_s": 2.0}, {"min_replicas": 2}, {"max_replicas": 5}, {"may_shrink": True}])
def test_what_the_placer_is_asked_is_told_at_once(change: dict[str, Any]) -> None:
    told = Told()
    told.tick()
    assert told.tick(**change)
    assert told.force.since == "2023-11-14T22:13:40Z"  # 20 s after the start


def test_a_decision_is_told_once_with_its_numbers_and_its_time() -> None:
    told = Told()
    told.tick()
    up = {"direction": Direction.UP, "reason": Why.STEP}
    assert told.tick(3.0, message="3.0 > 0.9 x 1", **up)
    said = told.force.told
    assert said is not None
    assert (said.direction, said.reason, said.text) == ("Up", "Step", "3.0 > 0.9 x 1")
    assert not told.tick(3.0, message="3.1 > 0.9 x 1", **up)  # it goes on in the same direction without a new number
    assert told.tick(4.0, message="4.0 > 0.9 x 3", **up)


def test_a_hold_for_no_reason_leaves_the_last_decision_standing() -> None:
    """As the status shows it: the last decision, not the last tick."""
    told = Told()
    told.tick()
    told.tick(3.0, direction=Direction.UP, reason=Why.STEP)
    assert told.ticks(100, 3.0, reason=Why.WITHIN_BAND) == 0
    assert told.ticks(100, 3.0, reason=Why.WINDOW) == 0
    assert told.force.told is not None
    assert told.force.told.reason == "Step"


def test_an_obstacle_is_told_when_it_lasts_and_again_when_it_is_gone() -> None:
    told = Told()
    told.tick()
    assert told.ticks(int(STEADY_S / 10), reason=Why.EVENT_BUDGET) == 0
    assert told.tick(reason=Why.EVENT_BUDGET)
    assert told.force.told is not None
    assert told.force.told.reason == "EventBudget"
    assert told.ticks(20, reason=Why.EVENT_BUDGET) == 0
    assert told.ticks(20, reason=Why.WITHIN_BAND) == 1
    said = told.force.told
    assert said is not None
    assert said.reason == "WithinBand"


def test_an_obstacle_that_flickers_is_not_told() -> None:
    told = Told()
    told.tick()
    flicker = [told.tick(reason=Why.CONSOLIDATION if i % 3 else Why.WITHIN_BAND) for i in range(90)]
    assert not any(flicker)


def test_one_failed_poll_is_no_news_and_an_outage_is() -> None:
    """The placer knows at once, since nothing may shrink on it; people are told after 30 s without a reading."""
    told = Told()
    told.tick()
    assert told.tick(metrics=MetricState.UNKNOWN, message="no reading")
    assert told.force.demand.metrics is MetricState.UNKNOWN
    assert told.force.metrics is MetricState.VALUE
    told.tick()
    assert told.ticks(4, metrics=MetricState.UNKNOWN, message="no reading") >= 1
    assert told.board.forces()[KEY].metrics is MetricState.UNKNOWN


@pytest.mark.parametrize("known", [MetricState.VALUE, MetricState.ZERO, MetricState.PARTIAL, MetricState.RECOVERING])
def test_the_end_of_an_outage_is_told_with_the_second_good_poll(known: MetricState) -> None:
    told = Told()
    told.tick()
    told.ticks(5, metrics=MetricState.UNKNOWN)
    shown = MetricState.RECOVERING if known is MetricState.RECOVERING else MetricState.VALUE
    assert [told.force.metrics for _ in range(3) if told.tick(metrics=known) or True] == [MetricState.UNKNOWN, shown, shown]


def test_metrics_that_come_and_go_with_every_poll_are_told_nothing_of() -> None:
    told = Told()
    told.tick()
    shown = {(told.tick(metrics=(MetricState.UNKNOWN, MetricState.VALUE)[i % 2]), told.force.metrics)[1] for i in range(40)}
    assert shown == {MetricState.VALUE}


def test_a_decision_to_shrink_ends_what_is_told_of_an_outage() -> None:
    """The status of an outage says that nothing shrinks; it waits for a steady state, and the decision does not."""
    told = Told()
    told.tick(4.0)
    told.ticks(5, 4.0, metrics=MetricState.UNKNOWN)
    assert told.force.metrics is MetricState.UNKNOWN
    told.tick(4.0, metrics=MetricState.VALUE)
    assert told.force.metrics is MetricState.UNKNOWN  # one good poll is no news
    assert told.tick(2.0, metrics=MetricState.VALUE, direction=Direction.DOWN, reason=Why.NEED_BELOW_CAPACITY, shrink=True)
    assert told.force.metrics is MetricState.VALUE


def test_a_new_operator_says_nothing_before_it_knows_something() -> None:
    """Its first ticks have no baseline. What the earlier one told stands for so long."""
    told = Told()
    assert told.tick(metrics=MetricState.UNKNOWN, reason=Why.UNKNOWN_LOAD)
    assert told.force.metrics is None
    assert told.force.told is not None
    assert told.force.told.first
    told.ticks(20, reason=Why.WITHIN_BAND)
    assert told.force.metrics is MetricState.VALUE
    assert told.force.told.first
    told.tick(2.0, direction=Direction.UP, reason=Why.STEP)
    said = told.force.told
    assert said is not None
    assert (said.first, said.reason) == (False, "Step")


def test_a_fallback_is_told_at_once_and_its_end_too() -> None:
    told = Told()
    told.tick()
    assert told.tick(metrics=MetricState.FALLBACK, message="3 polls failed")
    assert told.force.metrics is MetricState.FALLBACK
    assert told.tick()
    assert told.board.forces()[KEY].metrics is MetricState.VALUE


def test_a_cold_start_is_told_anew_only_when_it_moved_by_a_tenth() -> None:
    told = Told()
    told.tick(starts=(("o", 100.0),))
    assert not told.tick(starts=(("o", 109.0),))
    assert told.force.starts == (("o", 100.0),)
    assert told.tick(starts=(("o", 120.0),))
    assert told.board.forces()[KEY].starts == (("o", 120.0),)


def test_a_model_made_again_is_another_model_and_a_deleted_one_is_forgotten() -> None:
    told = Told()
    told.tick()
    told.board.entry(KEY, "another")
    assert told.board.forces() == {}
    told.tick()
    assert told.board.keep(set())
    assert told.board.forces() == {}
    assert not told.board.keep(set())


def test_exhausted_hardware_comes_back_when_its_time_is_over() -> None:
    from polyfleet.scaling.force import Exhausted
    from polyfleet.scaling.stuck import stamp

    told = Told()
    told.tick()
    entry = told.board.entry(KEY, "uid")
    entry.exhausted = (Exhausted("o", "pool", stamp(told.now + 35), "no room"),)
    assert told.tick()
    assert told.force.exhausted
    assert told.ticks(3) == 1
    assert told.board.forces()[KEY].exhausted == ()


def test_a_force_says_nothing_that_moves_with_a_sample() -> None:
    """Equal but for live numbers: equal for the cycle."""
    told = Told()
    told.tick(now_work=0.5)
    first = told.force
    told.tick(now_work=0.7)
    assert told.force == first
    assert replace(first, demand=demand(1.0, now_work=0.7)) != first  # so it is the first number that is kept


def test_a_second_source_is_told_when_it_lasts_and_one_tick_of_it_is_no_news() -> None:
    told = Told()
    told.tick()
    for second in (True, False) * 30:
        assert not told.tick(second=second)
    assert not told.force.second
    assert told.ticks(int(STEADY_S / 10) + 1, second=True) == 1
    assert told.force.second
