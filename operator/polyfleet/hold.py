"""The plan that changes nothing: what runs stays, what is missing is said. Used when no trustworthy plan could be made.

Keeping the *last* plan literally would be wrong: pods have come and gone since, and its starts may name devices that are taken now.
"Nothing moves" is the part of it that is always safe.
"""

from __future__ import annotations

from collections import Counter

from placement.types import Assignment, Demand, Outcome, Plan, Reason, ReplicaState, Shortfall, ShortfallReason, Snapshot


def hold_plan(snapshot: Snapshot, demand: Demand, message: str, solver: str = "None") -> Plan:
    """Every replica that exists is kept; a model below its minimum is short because of the solver."""
    cell_of = {node.name: node.cell for node in snapshot.nodes}
    kept = [replica for replica in snapshot.replicas if replica.state is not ReplicaState.DRAINING]
    groups = Counter((r.model, r.option, cell_of.get(r.node, ""), r.node) for r in kept if r.option is not None)
    have = Counter(replica.model for replica in kept)
    cost = {cell.name: cell.cost_per_device_hour for cell in snapshot.cells}
    hourly = sum(cost.get(cell_of.get(r.node, ""), 0.0) * r.devices for r in kept)
    short = [
        Shortfall(
            model.name,
            model.min_replicas - have[model.name],
            (ShortfallReason(Reason.SOLVER_TIMEOUT, missing=model.min_replicas - have[model.name], message=message),),
        )
        for model in snapshot.models
        if have[model.name] < model.min_replicas
    ]
    return Plan(
        assignments=tuple(Assignment(m, o or "", c, n, count) for (m, o, c, n), count in sorted(groups.items(), key=lambda kv: str(kv[0]))),
        keep=tuple(sorted(replica.id for replica in kept)),
        stop=(),
        starts=(),
        shortfalls=tuple(short),
        why=(),
        outcome=Outcome.KEPT_OLD,
        solver=solver,
        hourly_cost=hourly,
        objective=hourly,
        bound=None,
        gap=None,
        decided_by="Deadline",
        message=message,
    )


def solver_failed(plan: Plan) -> bool:
    """Whether no solver gave this plan. The greedy placer may also have been the better one beside a healthy solver: that plan has no
    message."""
    if plan.outcome is Outcome.GREEDY:
        return bool(plan.message)
    return plan.outcome is Outcome.KEPT_OLD and plan.decided_by == "Deadline"
