"""One tick of one model: from what is seen to what it needs."""

from __future__ import annotations

from autoscaling.memory import Memory
from autoscaling.types import Decision, Demand, Direction, Look, MetricState, ReplicaState, Why


def decide(memory: Memory | None, look: Look) -> Decision:
    """Pure: the same memory and look give the same decision, whatever the order of the replicas."""
    replicas = sorted(look.replicas, key=lambda r: r.id)
    ready = sum(r.work_per_s or 0.0 for r in replicas if r.state is ReplicaState.READY)
    pending = sum(r.work_per_s or 0.0 for r in replicas if r.state is ReplicaState.LOADING)
    held = memory.held if memory is not None else ready + pending
    demand = Demand(
        look.model, look.role, held, (), look.settings.min_replicas, look.settings.max_replicas, False, 0.0, Direction.HOLD,
        Why.UNKNOWN_LOAD, "the load is not known yet: everything stays", MetricState.UNKNOWN, None, None, 0.0, ready, pending, None, 0.0,
    )  # fmt: skip
    return Decision(demand, Memory(look.now, held))
