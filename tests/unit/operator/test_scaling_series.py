"""The autoscaler's series (interface §9): names, labels, and that a model's go with it."""

from __future__ import annotations

import pytest
from polyfleet.metrics import Metrics
from polyfleet.scaling.series import ScalingSeries
from prometheus_client import CollectorRegistry, generate_latest

from autoscaling.types import Direction, MetricState, Why
from tests.unit.operator import builders as b
from tests.unit.operator.forces import aimed, child_of, demand, force, look, scaled


def page(registry: CollectorRegistry) -> list[str]:
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if not line.startswith("#") and "_created" not in line]


def test_one_decision_shows_in_every_series() -> None:
    registry = CollectorRegistry()
    series = ScalingSeries(registry)
    up = demand(3.0, direction=Direction.UP, reason=Why.STEP, now_work=2.5, ready_work=2.0, pending_work=1.0, horizon_s=70.0)
    series.decided("llm", "m", up, 4.0)
    series.cold_start("llm", "m", "nvidia-h100-sxm", 61.0)
    found = page(registry)
    model = 'model="m",namespace="llm"'
    assert f"polyfleet_demand_work{{{model}}} 2.5" in found
    assert f"polyfleet_covered_work{{{model}}} 3.0" in found
    assert f'polyfleet_capacity_work{{{model},state="ready"}} 2.0' in found
    assert f'polyfleet_capacity_work{{{model},state="pending"}} 1.0' in found
    assert f'polyfleet_decision_info{{{model},reason="Step"}} 1.0' in found
    assert f'polyfleet_decisions_total{{direction="Up",{model},reason="Step"}} 1.0' in found
    assert f"polyfleet_metrics_state{{{model}}} 2.0" in found
    assert f"polyfleet_metrics_age_seconds{{{model}}} 4.0" in found
    assert f"polyfleet_horizon_seconds{{{model}}} 70.0" in found
    assert 'polyfleet_cold_start_seconds_bucket{le="60.0",model="m",profile="nvidia-h100-sxm"} 0.0' in found
    assert 'polyfleet_cold_start_seconds_bucket{le="90.0",model="m",profile="nvidia-h100-sxm"} 1.0' in found


def test_an_unknown_load_has_no_sample_and_is_no_zero() -> None:
    registry = CollectorRegistry()
    series = ScalingSeries(registry)
    series.decided("llm", "m", demand(3.0), 4.0)
    series.decided("llm", "m", demand(3.0, now_work=None, metrics=MetricState.UNKNOWN, reason=Why.UNKNOWN_LOAD), None)
    found = "\n".join(page(registry))
    assert "polyfleet_demand_work" not in found
    assert "polyfleet_metrics_age_seconds" not in found
    assert 'polyfleet_metrics_state{model="m",namespace="llm"} 0.0' in found
    assert 'reason="WithinBand"' not in found.replace("decisions_total", "").split("polyfleet_decision_info")[1].splitlines()[0]


def test_a_true_zero_is_told_apart() -> None:
    registry = CollectorRegistry()
    ScalingSeries(registry).decided("llm", "m", demand(0.0, metrics=MetricState.ZERO), 1.0)
    assert 'polyfleet_metrics_state{model="m",namespace="llm"} 1.0' in page(registry)


def test_the_gauges_of_a_model_go_with_it_and_its_counters_stay() -> None:
    registry = CollectorRegistry()
    series = ScalingSeries(registry)
    series.decided("llm", "m", demand(3.0), 4.0)
    series.decided("llm", "n", demand(1.0), 4.0)
    series.keep({("llm", "n")})
    left = [line for line in page(registry) if 'model="m"' in line]
    assert [line.split("{")[0] for line in left] == ["polyfleet_decisions_total"]


@pytest.mark.parametrize(("mode", "published"), [("Auto", 3.0), ("Advise", 2.0), ("External", 2.0)])
def test_outside_scalers_are_told_the_size_that_it_should_be(mode: str, published: float) -> None:
    """Three run (External: three are set), two would carry the work; in mode Auto nothing was decided that takes one away."""
    sized = {"replicas": 3} if mode != "Auto" else {}
    model = aimed(scaled({**sized, "scaling": {"minReplicas": 1, "maxReplicas": 5, "mode": mode}}), 3)
    child = child_of(model, "sandbox-ppu", 3)
    pods = tuple(b.replica(child, f"p{i}", node="ppu-0", serving=True) for i in range(3))
    done = look(model, force(2.0, shrink=mode != "Auto"), deployments=(child,), pods=pods)
    metrics = Metrics(lambda: 0.0)
    metrics.reported(done.observed, done.report)
    assert metrics.registry.get_sample_value("polyfleet_desired_replicas", {"namespace": "llm", "model": "m"}) == published
