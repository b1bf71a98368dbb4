"""The series of the placer: what is unknown has no sample, what happened is counted."""

from __future__ import annotations

from dataclasses import replace

from polyfleet.metrics import Metrics

from placement.types import Outcome, Plan
from tests.unit.operator import builders as b
from tests.unit.operator.looks import NVIDIA_ONLY, look


def plan() -> Plan:
    return look(b.model("m", NVIDIA_ONLY)).plan


def lines(metrics: Metrics, series: str) -> list[str]:
    return [line for line in metrics.render().decode().splitlines() if line.startswith(series)]


def test_the_gap_is_absent_while_no_bound_is_known() -> None:
    """Absent before the first solve, there with a bound, absent again: nought would claim a proof."""
    metrics = Metrics(lambda: 0.0)
    assert lines(metrics, "polyfleet_gap_ratio") == []
    metrics.solved(replace(plan(), gap=0.0125), 0.1)
    assert lines(metrics, "polyfleet_gap_ratio") == ["polyfleet_gap_ratio 0.0125"]
    metrics.solved(replace(plan(), gap=None, bound=None), 0.1)
    assert lines(metrics, "polyfleet_gap_ratio") == []


def test_the_solvers_health_and_the_outcomes() -> None:
    """A plan of the greedy placer with a message means that no solver worked; without one it was the better of two."""
    metrics = Metrics(lambda: 0.0)
    metrics.solved(plan(), 0.1)
    assert lines(metrics, "polyfleet_solver_healthy") == ["polyfleet_solver_healthy 1.0"]
    greedy = replace(plan(), outcome=Outcome.GREEDY, solver="Greedy", gap=None)
    for message, healthy in (("CBC: died", "0.0"), ("", "1.0")):
        metrics.solved(replace(greedy, message=message), 0.1)
        assert lines(metrics, "polyfleet_solver_healthy") == [f"polyfleet_solver_healthy {healthy}"]
    totals = lines(metrics, "polyfleet_solver_outcomes_total")
    assert 'polyfleet_solver_outcomes_total{outcome="Greedy",solver="Greedy"} 2.0' in totals
    assert len(totals) == 2


def test_moves_are_counted_by_what_triggered_them() -> None:
    metrics = Metrics(lambda: 0.0)
    metrics.moved(2, "LoadChanged")
    metrics.moved(1, "LoadChanged")
    assert lines(metrics, "polyfleet_moves_total") == ['polyfleet_moves_total{reason="LoadChanged"} 3.0']
