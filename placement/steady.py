"""Which one number per bucket the placer covers: the one that the standing plan was made for, while the asked one stays near it.

`autoscaling` asks with a band (now, horizon, burst); the cycle hands over their maximum, head-room included. That number moves with the
noise of the load. Inside +-5 % of the number that the standing plan covers, the old number stands: head-room is made for this, and a plan
that follows noise moves replicas for nothing. Outside, or when anything else of the demand changed, the new number counts at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from placement.types import Demand, ModelDemand

BAND = 0.05  # of the covered number, per bucket


def steady(demand: Demand, covered: Iterable[ModelDemand]) -> Demand:
    """The demand to plan for. `covered` is what the standing plan was made for (`Warm.covered`); empty = nothing is known."""
    before = {(d.model, d.role): d for d in covered}
    return Demand(tuple(_one(d, before.get((d.model, d.role))) for d in demand.models))


def _one(asked: ModelDemand, before: ModelDemand | None) -> ModelDemand:
    if before is None or len(asked.loads) != len(before.loads):
        return asked
    same = (asked.may_shrink, asked.reason, asked.kv_floor) == (before.may_shrink, before.reason, before.kv_floor)
    near = all(abs(a - b) <= BAND * b + 1e-12 for a, b in zip(asked.loads, before.loads, strict=True))
    return before if same and near else asked
