"""The statuses of all kinds and the events of one cycle; a function of what was observed, the plan, and the time it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from placement.types import Assignment, Plan, Shortfall, Start, Why
from polyfleet import faults
from polyfleet.actions import Refusal, Report, StatusApply
from polyfleet.clearance.candidates import main_name
from polyfleet.inputs import Inputs
from polyfleet.plans.told import NOTHING, Told
from polyfleet.state import CustomState, Observed
from polyfleet.status import events as notes
from polyfleet.status import fleet, model, placed

log = logging.getLogger(__name__)


def report(observed: Observed, inputs: Inputs, plan: Plan, *, now: str, refusals: Sequence[Refusal] = (), told: Told = NOTHING) -> Report:
    """`now` is RFC 3339; it is used only for conditions whose status word changed. `refusals`: what the API server does not take of
    what this cycle or an earlier one wanted, and still wants; and models on which `act` failed. `told`: the plan in force, and the one
    that waits for a person."""
    found: list[StatusApply | None] = []
    events = [*notes.of_nodes(observed, inputs), *notes.of_pools(inputs), *notes.of_profiles(inputs, now), *notes.preempted(inputs, plan)]
    events += notes.moved_for_room(inputs, plan)
    queue = placed.queue(inputs, plan)
    plans, nothing = by_model(plan), replace(plan, assignments=(), starts=(), shortfalls=(), why=())
    ready = failed = 0
    for key, view in sorted(inputs.models.items()):
        own = plans.get(key, nothing)
        try:
            status = model.build(observed, inputs, own, view, now, refusals, told, queue.get(key))
            events.extend(notes.of_model(inputs, own, view, told, status))
        except Exception as error:  # one object must not stop the others
            log.exception("cannot report on a model", extra={"model": key})
            failed += 1
            status = model.failed(view, faults.internal(error), now)
        ready += _is_ready(status)
        found.append(_apply(view.state, status))
    found += [
        _guarded(parsed.state, partial(fleet.profile, inputs, parsed, now, refusals))
        for parsed in inputs.objects.profiles
        if not parsed.state.deleting
    ]
    found += [
        _guarded(pool.parsed.state, partial(fleet.pool, inputs.fleet, pool, pool.parsed.state, now))
        for pool in inputs.fleet.pools
        if pool.parsed is not None
    ]
    if observed.policy is not None and not observed.policy.deleting:
        found.append(_guarded(observed.policy, partial(fleet.policy, inputs, plan, observed.policy, ready, now, told)))
    statuses = [item for item in found if item is not None]
    return Report(
        statuses=tuple(sorted(statuses, key=lambda item: (item.kind, item.namespace, item.name))),
        events=notes.ordered(events),
        summary=_summary(inputs, plan, ready, failed + sum(1 for item in refusals if item.status == 0)),
    )


def _guarded(state: CustomState, build: Callable[[], dict[str, Any]]) -> StatusApply | None:
    """The status that an object has stays if this program fails on it."""
    try:
        return _apply(state, build())
    except Exception:
        log.exception("cannot report on an object", extra={"object": f"{state.kind} {state.key}"})
        return None


def by_model(plan: Plan) -> dict[str, Plan]:
    """The plan as each model sees it: its own share, starts, shortfall and reasons. One pass: a large fleet is not searched per model."""
    shares: dict[str, list[Assignment]] = {}
    starts: dict[str, list[Start]] = {}
    shortfalls: dict[str, list[Shortfall]] = {}
    why: dict[str, list[Why]] = {}
    for share in plan.assignments:
        shares.setdefault(share.model, []).append(share)
    for start in plan.starts:
        starts.setdefault(start.model, []).append(start)
    for shortfall in plan.shortfalls:
        shortfalls.setdefault(main_name(shortfall.model), []).append(shortfall)
    for row in plan.why:
        why.setdefault(row.model, []).append(row)
    return {
        key: replace(
            plan,
            assignments=tuple(shares.get(key, ())),
            starts=tuple(starts.get(key, ())),
            shortfalls=tuple(shortfalls.get(key, ())),
            why=tuple(why.get(key, ())),
        )
        for key in {*shares, *starts, *shortfalls, *why}
    }


def _apply(state: CustomState, status: Mapping[str, Any]) -> StatusApply:
    return StatusApply(state.kind, state.namespace, state.name, state.uid, status)


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(row["type"] == "Ready" and row["status"] == "True" for row in status["conditions"])


def _summary(inputs: Inputs, plan: Plan, ready: int, failed: int) -> dict[str, Any]:
    return {
        "models": len(inputs.models),
        "ready": ready,
        "failed": failed + sum(1 for view in inputs.models.values() if view.failed),  # of this program, not of the objects
        "pools": len(inputs.fleet.pools),
        "starts": len(plan.starts),
        "stops": len(plan.stop),
        "short": sum(short.replicas for short in plan.shortfalls if short.model in inputs.models),
        "outcome": str(plan.outcome),
    }
