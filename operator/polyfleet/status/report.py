"""The statuses of all kinds and the events of one cycle; a function of what was observed, the plan, and the time it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from placement.types import Plan, Shortfall, Start, Why
from polyfleet.actions import Report, StatusApply
from polyfleet.inputs import Inputs
from polyfleet.state import CustomState, Observed
from polyfleet.status import events as notes
from polyfleet.status import fleet, model


def report(observed: Observed, inputs: Inputs, plan: Plan, *, now: str) -> Report:
    """`now` is RFC 3339; it is used only for conditions whose status word changed."""
    statuses: list[StatusApply] = []
    events = [*notes.of_nodes(observed, inputs), *notes.of_pools(inputs)]
    plans, nothing = by_model(plan), replace(plan, starts=(), shortfalls=(), why=())
    ready = 0
    for key, view in sorted(inputs.models.items()):
        own = plans.get(key, nothing)
        status = model.build(observed, inputs, own, view, now)
        ready += _is_ready(status)
        statuses.append(_apply(view.state, status))
        events.extend(notes.of_model(inputs, own, view))
    statuses += [
        _apply(parsed.state, fleet.profile(inputs.fleet, parsed, now)) for parsed in inputs.objects.profiles if not parsed.state.deleting
    ]
    statuses += [
        _apply(pool.parsed.state, fleet.pool(inputs.fleet, pool, pool.parsed.state, now))
        for pool in inputs.fleet.pools
        if pool.parsed is not None
    ]
    if observed.policy is not None and not observed.policy.deleting:
        statuses.append(_apply(observed.policy, fleet.policy(inputs, plan, observed.policy, ready, now)))
    return Report(
        statuses=tuple(sorted(statuses, key=lambda item: (item.kind, item.namespace, item.name))),
        events=notes.ordered(events),
        summary=_summary(inputs, plan, ready),
    )


def by_model(plan: Plan) -> dict[str, Plan]:
    """The plan as each model sees it: its own starts, shortfall and reasons. One pass, so a large fleet is not searched per model."""
    starts: dict[str, list[Start]] = {}
    shortfalls: dict[str, list[Shortfall]] = {}
    why: dict[str, list[Why]] = {}
    for start in plan.starts:
        starts.setdefault(start.model, []).append(start)
    for shortfall in plan.shortfalls:
        shortfalls.setdefault(shortfall.model, []).append(shortfall)
    for row in plan.why:
        why.setdefault(row.model, []).append(row)
    return {
        key: replace(plan, starts=tuple(starts.get(key, ())), shortfalls=tuple(shortfalls.get(key, ())), why=tuple(why.get(key, ())))
        for key in {*starts, *shortfalls, *why}
    }


def _apply(state: CustomState, status: Mapping[str, Any]) -> StatusApply:
    return StatusApply(state.kind, state.namespace, state.name, state.uid, status)


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(row["type"] == "Ready" and row["status"] == "True" for row in status["conditions"])


def _summary(inputs: Inputs, plan: Plan, ready: int) -> dict[str, Any]:
    return {
        "models": len(inputs.models),
        "ready": ready,
        "pools": len(inputs.fleet.pools),
        "starts": len(plan.starts),
        "stops": len(plan.stop),
        "short": sum(short.replicas for short in plan.shortfalls),
        "outcome": str(plan.outcome),
    }
