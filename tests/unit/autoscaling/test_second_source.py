"""A source that reads less often than the autoscaler asks: what it read last stands until its next reading is overdue, and no longer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaling.types import MetricState, Replica, Sample
from tests.unit.autoscaling.scene import Distort, Scene, steady

KNOWN = (MetricState.VALUE, MetricState.ZERO, MetricState.RECOVERING)


def every(seconds: float, scene: Scene, *, ends: float = float("inf"), tell: bool = True) -> Distort:
    """Each replica is read every so many seconds, until `ends`; between two readings the last one is given again."""
    kept: dict[str, Sample] = {}

    def distort(replica: Replica) -> Replica:
        before = kept.get(replica.id)
        if replica.sample is not None and scene.now <= ends and (before is None or scene.now - before.at >= seconds):
            kept[replica.id] = replace(replica.sample, every=seconds if tell else None)
        return replace(replica, sample=kept.get(replica.id))

    return distort


@pytest.mark.parametrize("seconds", [15.0, 30.0, 60.0])
def test_between_two_readings_the_load_is_known_and_may_fall(seconds: float) -> None:
    """8 replicas for 5.5 work/s; then 1.5 work/s, which at most 4 are needed for."""
    scene = steady()
    begun = len(scene.said)
    slow = every(seconds, scene)
    scene.run(5.5, 600.0, slow)
    assert {demand.metrics for demand in scene.said[begun + 12 :]} <= set(KNOWN)
    scene.run(1.5, 1800.0, slow)
    assert scene.size <= 4


def test_a_minute_between_readings_that_nobody_tells_of_is_doubt_and_lowers_nothing() -> None:
    scene = steady()
    before = scene.size
    scene.run(1.5, 1800.0, every(60.0, scene, tell=False))
    assert scene.size == before


def test_a_source_that_ends_is_unknown_after_90_s_and_lowers_nothing() -> None:
    """Its last reading stands for 1.5 intervals, 45 s; its own stamp ends it in any case."""
    scene = steady()
    before, begun = scene.size, scene.now
    slow = every(30.0, scene, ends=begun + 300.0)
    scene.run(5.5, 300.0, slow)
    at = len(scene.said)
    scene.run(0.0, 900.0, slow)
    states = [demand.metrics for demand in scene.said[at:]]
    assert all(state not in KNOWN for state in states[5:])
    assert scene.size == before
