"""How the report compares policies at equal attainment, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bench.autoscaling import judge


def row(attained: float, hours: float, *, seed: int = 0, knob: float = 1.0, **more: Any) -> judge.Row:
    return {
        "load": "conv3", "cold_start_s": 120.0, "seed": seed, "policy": "p", "knob": knob, "attainment_2s": attained, "attainment_10s": 1.0,
        "replica_hours": hours, "clairvoyant_hours": None, **more,
    }  # fmt: skip


CURVE = [row(0.80, 10.0, knob=0.8), row(0.90, 11.0, knob=0.9), row(0.99, 13.0), row(0.95, 14.0, knob=1.15)]  # the last is beaten


@pytest.mark.parametrize(
    ("attained", "hours", "ours", "cheaper", "bound"),
    [
        (0.85, 10.6, 10.5, True, False),  # half way between 10 and 11
        (0.85, 10.4, 10.5, False, False),
        (0.945, 12.5, 12.0, True, False),  # half way between 11 and 13
        (0.50, 10.5, 10.0, True, True),  # below the curve its cheapest run is dear enough
        (0.50, 9.0, 10.0, None, True),  # and says nothing where the other is cheaper
        (0.995, 99.0, None, None, False),  # above the curve nothing is known
    ],
)
def test_at_equal_attainment(attained: float, hours: float, ours: float | None, cheaper: bool | None, bound: bool) -> None:
    found = judge.compare(CURVE, [row(attained, hours, knob=0.7)])
    assert (found.ours, found.cheaper, found.bound) == (ours if ours is None else pytest.approx(ours), cheaper, bound)


def test_every_seed_is_compared_on_its_own() -> None:
    """One at 0.85, one at 0.945: 10.5 and 12 hours; the mean attainment 0.8975 would say 10.975."""
    found = judge.compare(CURVE, [row(0.85, 11.0, seed=0), row(0.945, 11.4, seed=1)])
    assert found.ours == pytest.approx(11.25)
    assert found.hours == pytest.approx(11.2)
    assert found.cheaper is False


def test_the_cost_at_an_attainment_is_read_off_a_straight_line() -> None:
    curve = [row(0.8, 0.0, cost=10.0), row(0.9, 0.0, cost=12.0)]
    assert judge.cost_at(curve, 0.85) == pytest.approx(11.0)
    assert judge.cost_at(curve, 0.7) is None
    assert judge.cost_at(curve, 0.95) is None


def test_the_one_knob_for_all_loads_misses_least() -> None:
    """0.5 misses conv3 by a point, 0.7 misses code1 by five: one knob for all is 0.5, although it costs more."""
    rows = [
        row(0.975, 20.0, knob=0.5), row(0.985, 15.0, knob=0.7),
        {**row(0.9, 9.0, knob=0.5), "load": "code1", "attainment_10s": 0.95},
        {**row(0.9, 6.0, knob=0.7), "load": "code1", "attainment_10s": 0.90},
    ]  # fmt: skip
    assert judge.best_knob(rows, {"conv3": 0.985, "code1": 0.95}) == 0.5
