"""The usage report: sums by hand, unknown that stays unknown, and what no replica could carry."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaling.usage import Holding, Interval, UsageError, usage


def holding(model: str = "m", profile: str = "h100", replicas: int = 1, capacity: float | None = 1.0, cost: float = 10.0) -> Holding:
    return Holding(model, "nvidia", profile, f"{profile}-a", replicas, 2 * replicas, cost, capacity)


def test_two_hours_by_hand():
    # One hour with 2 replicas of 1 work/s at 1.5 work/s, then half an hour with 3 of them and 4 work/s to do.
    first = Interval(3600.0, (holding(replicas=2, capacity=2.0, cost=20.0),), (("m", 1.5),))
    then = Interval(1800.0, (holding(replicas=3, capacity=3.0, cost=30.0),), (("m", 4.0),))
    report = usage([first, then])
    (row,) = report.rows
    assert (row.replica_hours, row.device_hours, row.cost) == (3.5, 7.0, 35.0)
    assert row.capacity == 2 * 3600 + 3 * 1800
    assert row.work == 1.5 * 3600 + 3 * 1800  # in the second interval all of it, and no more
    assert row.utilisation == pytest.approx(10_800 / 12_600)
    assert row.cost_per_work == pytest.approx(35 / 10_800)
    assert report.unserved == (("m", 1800.0),)
    assert (report.seconds, report.cost) == (5400.0, 35.0)


def test_load_goes_by_what_each_can_carry():
    rows = usage([Interval(3600.0, (holding(capacity=3.0), holding(profile="910c", capacity=1.0)), (("m", 2.0),))]).rows
    assert [(row.profile, row.work) for row in rows] == [("910c", 1800.0), ("h100", 5400.0)]
    assert {row.utilisation for row in rows} == {0.5}


def test_unknown_is_never_zero():
    unmeasured = usage([Interval(3600.0, (holding(capacity=None), holding(profile="910c")), (("m", 1.0),))])
    assert [row.work for row in unmeasured.rows] == [None, None]  # the share of the known one is unknown too
    assert unmeasured.unserved == (("m", None),)
    unstated = usage([Interval(3600.0, (holding(),))])
    assert (unstated.rows[0].work, unstated.rows[0].utilisation, unstated.rows[0].cost_per_work) == (None, None, None)
    # One unknown interval makes the whole unknown.
    both = usage([Interval(60.0, (holding(),), (("m", 1.0),)), Interval(60.0, (holding(),), (("m", None),))])
    assert both.rows[0].work is None
    assert both.rows[0].cost == pytest.approx(20 / 60)


def test_nobody_serves_and_all_that_arrives_is_unserved():
    report = usage([Interval(100.0, (holding(capacity=0.0),), (("m", 2.0),)), Interval(100.0, (), (("m", 1.0),))])
    assert report.unserved == (("m", 300.0),)
    assert report.rows[0].work == 0.0
    assert report.rows[0].utilisation is None


def test_sums_by_device_type():
    report = usage([Interval(7200.0, (holding("a"), holding("b", replicas=2), holding("b", profile="910c", cost=1.0)))])
    assert report.of_profile() == [("910c", "nvidia", 2.0, 4.0, 2.0), ("h100", "nvidia", 6.0, 12.0, 40.0)]


@pytest.mark.parametrize(
    ("interval", "named"),
    [
        (Interval(-1.0, ()), "seconds: -1"),
        (Interval(math.nan, ()), "seconds: nan"),
        (Interval(1.0, (holding(capacity=-1.0),)), "m on h100-a: capacity: -1"),
        (Interval(1.0, (holding(cost=math.nan),)), "hourly_cost: nan"),
        (Interval(1.0, (), (("m", -2.0),)), "m: load: -2"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(interval: Interval, named: str):
    with pytest.raises(UsageError, match=named):
        usage([interval])


holdings = st.builds(
    holding,
    model=st.sampled_from("ab"),
    profile=st.sampled_from(["h100", "910c", "ppu"]),
    replicas=st.integers(0, 9),
    capacity=st.floats(0.0, 100.0),
    cost=st.floats(0.0, 100.0),
)


@given(st.lists(holdings, max_size=6), st.floats(0.0, 300.0), st.floats(0.0, 5000.0), st.randoms())
def test_work_done_and_left_is_what_arrived_and_order_changes_nothing(found, load, seconds, random):
    report = usage([Interval(seconds, tuple(found), (("a", load),))])
    done = sum(row.work for row in report.rows if row.model == "a")
    assert done + dict(report.unserved)["a"] == pytest.approx(load * seconds)
    assert all(row.utilisation is None or 0.0 <= row.utilisation <= 1.0 + 1e-9 for row in report.rows)
    random.shuffle(found)
    again = usage([Interval(seconds, tuple(found), (("a", load),))])
    assert [(r.model, r.profile, r.replica_hours) for r in again.rows] == [(r.model, r.profile, r.replica_hours) for r in report.rows]
    assert again.cost == pytest.approx(report.cost)
