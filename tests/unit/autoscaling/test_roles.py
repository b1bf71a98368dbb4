"""Prefill and decode made to fit each other; work and ratios by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaling.roles import Ratio, repair
from autoscaling.types import Demand, Direction, MetricState, Slice, Why


def demand(role: Slice, work: float, least: int = 0, *, shrinks: bool = True, why: Why = Why.WITHIN_BAND) -> Demand:
    state = MetricState.VALUE
    return Demand(
        "a/m", role, work, (), least, 20, shrinks, 0.0, Direction.HOLD, why, "numbers", state, work, work, 0.0, work, 0.0, 0.0, 130.0
    )


def both(p: float, d: float, lowest: float = 0.0, highest: float = inf) -> tuple[float, float]:
    one, two = repair(demand(Slice.PREFILL, p), demand(Slice.DECODE, d), Ratio(lowest, highest))
    return one.work_per_s, two.work_per_s


@pytest.mark.parametrize(
    ("asked", "ratio", "given"),
    [
        ((2.0, 4.0), (0.25, 1.0), (2.0, 4.0)),  # 0.5 fits
        ((0.5, 4.0), (0.25, 1.0), (1.0, 4.0)),  # prefill is raised to a quarter
        ((6.0, 4.0), (0.25, 1.0), (6.0, 6.0)),  # decode is raised; prefill is not lowered
        ((3.0, 0.0), (0.25, 1.5), (3.0, 2.0)),  # never n : 0
        ((0.0, 3.0), (0.5, 2.0), (1.5, 3.0)),  # never 0 : n
    ],
)
def test_the_role_that_is_short_is_raised(asked: tuple[float, float], ratio: tuple[float, float], given: tuple[float, float]) -> None:
    assert both(*asked, *ratio) == pytest.approx(given)


def test_a_range_that_allows_nothing_still_gives_one_of_each() -> None:
    """A ratio of 0 to infinity allows 0 : n on paper."""
    p, d = repair(demand(Slice.PREFILL, 0.0), demand(Slice.DECODE, 3.0), Ratio())
    assert p.work_per_s > 0.0
    assert (p.min_replicas, d.min_replicas) == (1, 1)


def test_both_reach_zero_together_or_neither() -> None:
    p, d = repair(demand(Slice.PREFILL, 0.0), demand(Slice.DECODE, 0.0), Ratio(0.5, 2.0))
    assert (p.work_per_s, p.min_replicas, d.work_per_s, d.min_replicas) == (0.0, 0, 0.0, 0)
    p, d = repair(demand(Slice.PREFILL, 0.0), demand(Slice.DECODE, 0.0, least=1), Ratio(0.5, 2.0))
    assert (p.min_replicas, d.min_replicas) == (1, 1)
    assert p.work_per_s > 0.0


def test_neither_shrinks_on_doubt_of_the_other() -> None:
    doubt = demand(Slice.DECODE, 3.0, shrinks=False, why=Why.UNKNOWN_LOAD)
    p, d = repair(demand(Slice.PREFILL, 1.0), doubt, Ratio())
    assert (p.may_shrink, d.may_shrink) == (False, False)
    p, d = repair(demand(Slice.PREFILL, 1.0), demand(Slice.DECODE, 3.0, shrinks=False), Ratio())
    assert (p.may_shrink, d.may_shrink) == (True, False)


@given(st.floats(0.0, 100.0), st.floats(0.0, 100.0), st.floats(0.0, 4.0), st.floats(0.01, 4.0))
def test_nothing_is_lowered_and_the_ratio_holds(p: float, d: float, lowest: float, more: float) -> None:
    highest = lowest + more
    one, two = both(p, d, lowest, highest)
    assert one >= p
    assert two >= d
    if one > 0.0 or two > 0.0:
        assert min(one, two) > 0.0 or lowest == 0.0
        assert lowest * (1.0 - 1e-6) <= one / two <= highest * (1.0 + 1e-6)
    again = both(one, two, lowest, highest)
    assert again == pytest.approx((one, two))


@pytest.mark.parametrize(("lowest", "highest"), [(-1.0, 1.0), (2.0, 1.0), (0.0, 0.0), (nan, 1.0), (0.5, nan), (inf, inf)])
def test_a_range_that_is_none_is_refused(lowest: float, highest: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        Ratio(lowest, highest)


def test_two_of_a_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="roles"):
        repair(demand(Slice.DECODE, 1.0), demand(Slice.PREFILL, 1.0), Ratio())
    with pytest.raises(ValueError, match="roles"):
        repair(demand(Slice.PREFILL, 1.0), replace(demand(Slice.DECODE, 1.0), model="a/other"), Ratio())
