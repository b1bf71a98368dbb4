"""The plan without a solver: nothing moves, and what is missing is said."""

from __future__ import annotations

import pytest
from polyfleet.hold import hold_plan

from placement.types import Cell, Demand, Model, ModelDemand, Node, Outcome, Reason, Replica, ReplicaState, Snapshot


def snapshot(*replicas: Replica) -> Snapshot:
    cell = Cell("ppu-1", "ppu-1", "ppu", "alibaba", sizes=(1, 2), cost_per_device_hour=2.5)
    model = Model("llm/m", min_replicas=3, max_replicas=3)
    return Snapshot(cells=(cell,), nodes=(Node("n1", "ppu-1", 16, 16, 0),), models=(model,), options=(), replicas=replicas)


def test_every_replica_is_kept_and_the_rest_is_short() -> None:
    """Two of three replicas exist, one of them starting: both stay, one is missing because of the solver."""
    running = (Replica("a", "llm/m", "o", "n1", 2), Replica("b", "llm/m", "o", "n1", 2, ReplicaState.STARTING))
    plan = hold_plan(snapshot(*running), Demand((ModelDemand("llm/m"),)), "no plan within 60 s")
    assert plan.keep == ("a", "b")
    assert plan.stop == ()
    assert plan.starts == ()
    assert [(a.node, a.replicas) for a in plan.assignments] == [("n1", 2)]
    assert plan.outcome is Outcome.KEPT_OLD
    assert plan.hourly_cost == pytest.approx(2 * 2 * 2.5)
    short = plan.shortfalls[0]
    assert (short.model, short.replicas, short.reasons[0].reason) == ("llm/m", 1, Reason.SOLVER_TIMEOUT)
    assert short.reasons[0].message == "no plan within 60 s"


def test_a_draining_replica_is_not_kept_and_counts_as_none() -> None:
    """It goes on draining: keeping it would call it back."""
    plan = hold_plan(snapshot(Replica("a", "llm/m", "o", "n1", 2, ReplicaState.DRAINING)), Demand(), "x")
    assert plan.keep == ()
    assert plan.shortfalls[0].replicas == 3
