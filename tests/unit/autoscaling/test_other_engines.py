"""Engines that count less than others: llama.cpp counts no requests, SGLang has no counter before its first event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaling.types import MetricState, Replica
from tests.unit.autoscaling.scene import Scene, settings

KNOWN = (MetricState.VALUE, MetricState.ZERO)


def llamacpp(replica: Replica) -> Replica:
    """Tokens and gauges only, and no size of its cache."""
    sample = replica.sample
    return replace(replica, sample=replace(sample, arrived=None, uncounted=True, kv_capacity=None) if sample is not None else None)


def sglang(replica: Replica) -> Replica:
    """A series that has had no event is not there; the gauges are."""
    sample = replica.sample
    if sample is None or sample.arrived != 0.0:
        return replica
    return replace(replica, sample=replace(sample, arrived=None, prompt_tokens=None, output_tokens=None))


def test_without_a_counter_of_requests_the_tokens_are_the_load() -> None:
    """8 replicas for 5.5 work/s, as 1,000 prompt and 200 output tokens each: known, and nothing else is seen than with the counter."""
    scene, counted = Scene(count=8, settings=settings()), Scene(count=8, settings=settings())
    demand, same = scene.run(5.5, 1800.0, llamacpp), counted.run(5.5, 1800.0)
    assert demand.metrics is MetricState.VALUE
    assert demand.now_work == pytest.approx(5.5, rel=0.01)
    assert scene.size == counted.size
    assert demand.work_per_s == pytest.approx(same.work_per_s, rel=0.05)


def test_it_follows_the_load_down_and_up() -> None:
    """From 5.5 to 1.5, which at most 4 are needed for; then to 9, which 4 cannot compute: what waits says how much is missing."""
    scene = Scene(count=8, settings=settings(prompt_tokens=1000.0, output_tokens=200.0))
    scene.run(5.5, 1800.0, llamacpp)
    scene.run(1.5, 1800.0, llamacpp)
    assert scene.size <= 4
    scene.run(9.0, 1200.0, llamacpp)
    assert scene.size >= 9


def test_flat_tokens_and_nobody_inside_are_a_true_zero() -> None:
    scene = Scene(count=7, settings=settings(1, 40))
    demand = scene.run(0.0, 600.0, llamacpp)
    assert demand.metrics is MetricState.ZERO
    assert scene.size == 1


def test_a_rate_of_requests_cannot_be_told_from_tokens() -> None:
    scene = Scene(count=7, settings=settings(1, 40, metric="RequestRate", target_per_replica=1.0))
    demand = scene.run(0.0, 600.0, llamacpp)
    assert (scene.size, demand.metrics) == (7, MetricState.UNKNOWN)


def test_tokens_do_not_stand_in_for_a_counter_that_is_gone() -> None:
    """An engine that counts requests, and of which the counter is missing, is unknown (OC-036, OC-040)."""
    scene = Scene(count=7, settings=settings(1, 40))
    demand = scene.run(0.0, 600.0, lambda r: replace(r, sample=replace(r.sample, arrived=None) if r.sample else None))
    assert (scene.size, demand.metrics) == (7, MetricState.UNKNOWN)


def test_replicas_that_never_had_a_request_are_unknown_and_stay() -> None:
    """Absent is not zero, although here it is: three stay however long it lasts."""
    scene = Scene(count=3, settings=settings(1, 40))
    demand = scene.run(0.0, 3600.0, sglang)
    assert (scene.size, demand.metrics) == (3, MetricState.UNKNOWN)


def test_the_first_requests_make_them_known_at_the_second_reading() -> None:
    scene = Scene(count=3, settings=settings(1, 40))
    scene.run(0.0, 600.0, sglang)
    assert scene.tick(2.0, sglang).metrics not in KNOWN  # the counters have appeared: a baseline
    scene.tick(2.0, sglang)
    demand = scene.run(2.0, 600.0, sglang)
    assert demand.metrics is MetricState.VALUE
    assert demand.now_work == pytest.approx(2.0, rel=0.05)


def test_a_new_replica_without_counters_among_others_lowers_and_raises_nothing() -> None:
    """One of six has had no request yet: the five that were read are enough, and the sixth counts neither as idle nor as full."""
    scene = Scene(count=6, settings=settings(1, 40))
    scene.run(4.0, 1200.0)
    fresh = scene.pods[-1].id

    def distort(replica: Replica) -> Replica:
        none = replica.id == fresh and replica.sample is not None
        return replace(replica, sample=replace(replica.sample, arrived=None, prompt_tokens=None, output_tokens=None)) if none else replica  # type: ignore[type-var]

    before = scene.size
    demand = scene.run(4.0, 600.0, distort)
    assert (scene.size, demand.metrics) == (before, MetricState.PARTIAL)
