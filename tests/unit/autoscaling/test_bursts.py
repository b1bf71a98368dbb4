"""Bursts that are over before a cold start: kept for, not followed, and told with the floor and the horizon."""

from __future__ import annotations

from autoscaling.types import Direction, Why
from tests.unit.autoscaling.scene import Scene, settings


def test_bursts_shorter_than_a_cold_start_are_kept_for_and_told() -> None:
    """12 work/s for 20 s in every 5 minutes, nothing between; a replica that is asked for serves after 120 s and a tick, so 130 s."""
    scene = Scene(count=2, settings=settings(1, 40), cold=120.0)
    for _ in range(12):
        scene.run(12.0, 20.0)
        scene.run(0.1, 280.0)
    demand = scene.said[-1]
    assert "130 s" in demand.too_fast
    assert f"{demand.floor_work:.3g} work/s are kept" in demand.too_fast
    late = scene.said[-30:]
    assert all(each.too_fast for each in late)
    assert not any(each.direction is Direction.DOWN for each in late)
    assert min(each.floor_work for each in late) > 1.0  # the mean load is 0.9


def test_a_steady_load_is_followed() -> None:
    scene = Scene(count=8, settings=settings(1, 40))
    demand = scene.run(5.5, 3600.0)
    assert demand.too_fast == ""
    assert demand.reason in (Why.WITHIN_BAND, Why.NEED_BELOW_CAPACITY)
