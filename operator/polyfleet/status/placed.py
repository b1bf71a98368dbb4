"""The row `Placed` and `status.shortfall`: what is missing, why, and the way out, in numbers.

The placer knows sizes and counts; what only the inventory knows is added here: a node whose devices are not listed yet, a healthy
device that waits behind a pod on a failed one, devices that a plugin took out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from placement.types import Plan, Reason, Shortfall, ShortfallReason
from polyfleet.clearance.candidates import SUFFIX, main_name, of_main
from polyfleet.fleet import Fleet
from polyfleet.inputs import Inputs, ModelView
from polyfleet.inventory import DEVICES_MISSING, DRIVER_TOO_OLD, driver_fault
from polyfleet.plans.told import NOTHING, Told
from polyfleet.snapshot import standings
from polyfleet.status import accuracy
from polyfleet.status.conditions import FALSE, TRUE, UNKNOWN, Judged, shorten

ROW = "Placed"
AWAITING_APPROVAL = "AwaitingApproval"  # the placer knows nothing of it
MAX_REASONS = 8
MAX_POOLS = 64
MAX_NOTES = 3


def shortfall_of(plan: Plan, view: ModelView) -> Shortfall | None:
    """What the model lacks. A candidate that found no room is no missing capacity, but where nothing is verified it is what all
    replicas wait for."""
    found = next((item for item in plan.shortfalls if item.model == view.key and item.replicas > 0), None)
    if found is None and (waiting := accuracy.awaiting(view)) and (tried := candidate_short(plan, view)) is not None:
        return replace(tried, model=view.key, replicas=waiting)
    return found


def candidate_short(plan: Plan, view: ModelView) -> Shortfall | None:
    """A candidate of this model that found no room."""
    found = next((item for item in plan.shortfalls if item.model == view.key + SUFFIX and item.replicas > 0), None)
    return of_main(found) if found is not None else None


def missing(plan: Plan, view: ModelView) -> Shortfall | None:
    """What the model lacks, but for what only an update or a verdict waits for."""
    short = shortfall_of(plan, view)
    return None if short is None or only_update_waits(short, view) or only_verdict_waits(short, view) else short


def only_update_waits(short: Shortfall, view: ModelView) -> bool:
    """Nothing is missing but room for the new revision: the old replicas still count."""
    return 0 < short.replicas <= len(view.superseded)


def only_verdict_waits(short: Shortfall, view: ModelView) -> bool:
    """Candidates under test stand where the missing replicas would be: their verdict is what is missing."""
    return 0 < short.replicas <= len(accuracy.undecided(view))


def queue(inputs: Inputs, plan: Plan) -> dict[str, int]:
    """Place of each model that is short, from 1: by priority, then by age, then by name."""
    names = {main_name(item.model) for item in plan.shortfalls if item.replicas > 0} & inputs.models.keys()
    short = {key for key in names if shortfall_of(plan, inputs.models[key]) is not None}
    priority = {model.name: model.priority for model in inputs.snapshot.models}
    order = sorted(short, key=lambda key: (-priority.get(key, 0), inputs.models[key].state.created, key))
    return {key: place for place, key in enumerate(order, start=1)}


def judge(inputs: Inputs, plan: Plan, view: ModelView, told: Told = NOTHING) -> Judged:
    if inputs.fleet.unknown:
        return Judged(
            ROW,
            UNKNOWN,
            str(Reason.INVENTORY_UNKNOWN),
            f"nodes cannot be read ({inputs.fleet.unknown}); nothing grows and nothing shrinks until they can",
        )
    short = shortfall_of(plan, view)
    if view.key in told.waiting and missing(plan, view) is None:
        running = sum(1 for item in standings(view) if not item.leaving)
        return Judged(ROW, FALSE, AWAITING_APPROVAL, f"{view.target} replicas are wanted, {running} are there; {told.wish}")
    waiting = accuracy.awaiting(view) if short is None else short.replicas if only_verdict_waits(short, view) else 0
    if waiting:
        return Judged(
            ROW,
            TRUE,
            accuracy.AWAITING,
            f"{max(0, view.target - waiting)} of {view.target} replicas have a place; the others get one when a pair is verified:"
            f" see {accuracy.ROW}",
        )
    if short is None:
        return Judged(ROW, TRUE, "Planned", f"{view.target} of {view.target} replicas have a place")
    if only_update_waits(short, view):
        why = message(inputs.fleet, short.reasons[0]) if short.reasons else "no place"
        return Judged(
            ROW,
            TRUE,
            "UpdateWaits",
            f"all replicas have a place, {short.replicas} of them with an earlier revision: the update finds no room beside them"
            f" ({why}); free devices, or set spec.rollout.allowDowntime: true to replace them where they are",
        )
    if not short.reasons:
        return Judged(ROW, FALSE, str(Reason.DEVICES_UNAVAILABLE), f"{short.replicas} replicas have no place")
    first, *others = short.reasons
    # The rest too: where a spread needs another vendor, what keeps that vendor's pool from being used is in a later row.
    more = [f"{_reason(row)}: {message(inputs.fleet, row)}" for row in others[: MAX_NOTES - 1]]
    return Judged(
        ROW, FALSE, _reason(first), shorten("; ".join([message(inputs.fleet, first), *more, *_left_out(inputs.fleet, view, short)]))
    )


def lasting(fleet: Fleet, view: ModelView, short: Shortfall) -> str:
    """A shortfall for an Event: the same words while it is the same one. What is free changes with every pod of anybody, and a check's
    progress by itself: both are told in the condition, which is read in the same place."""
    first = short.reasons[0] if short.reasons else ShortfallReason(Reason.DEVICES_UNAVAILABLE)
    needs = [f"{free.pool}: need {free.need}{' on one node' if free.need > 1 else ''}" for free in first.free[:MAX_NOTES]]
    needs += [f"and {len(first.free) - MAX_NOTES} more pools"] if len(first.free) > MAX_NOTES else []
    # Where several pools are full, the one that the hint names is the one with most room at this moment.
    hint = first.hint if len(first.free) < 2 else ""
    parts = ["; ".join(needs), *_left_out(fleet, view, short, numbers=False), hint]
    return (
        f"{short.replicas} of {view.target} replicas have no place: {_reason(first)}: {'; '.join(part for part in parts if part)}".rstrip(
            ": "
        )
    )


def _left_out(fleet: Fleet, view: ModelView, short: Shortfall, *, numbers: bool = True) -> list[str]:
    """Hardware that is not used because it may not serve, or not yet; what lacks devices even for a candidate is named as that already.
    `numbers`: with the progress of what is under test."""
    lacking = {pool.spec.profile for row in short.reasons for name in row.pools if (pool := fleet.pool(name)) is not None and pool.spec}
    open_ = [name for name in (accuracy.untried(view) if numbers else accuracy.unverified(view)) if name not in lacking]
    found = [*(accuracy.under_test(view) if numbers else []), *accuracy.blocked(view)][:MAX_NOTES]
    found += [f"no verdict yet on {', '.join(open_)}"] if open_ else []
    return [f"{accuracy.AWAITING}: not used: {'; '.join(found)}"] if found else []


def _reason(row: ShortfallReason) -> str:
    # "No option" is what ProfilesResolved says; where a profile does resolve, no pool has the size.
    return str(Reason.NEVER_FITS if row.reason is Reason.NO_OPTION else row.reason)


def message(fleet: Fleet, row: ShortfallReason) -> str:
    text = row.message or "; ".join(
        f"{free.pool}: need {free.need} on one node, largest free {free.largest_free}, total {free.total_free}" for free in row.free
    )
    found = notes(fleet, row) if row.reason in (Reason.DEVICES_UNAVAILABLE, Reason.NEVER_FITS) else []
    return shorten("; ".join(part for part in (text, *found) if part))


def notes(fleet: Fleet, row: ShortfallReason) -> list[str]:
    found: list[str] = []
    for pool in fleet.pools:
        if pool.name not in row.pools:
            continue
        for node in pool.nodes:
            if node.reason == DEVICES_MISSING:
                found.append(f"waiting for devices on {node.name}")
            elif node.stranded:
                found.append(f"{node.stranded} healthy device on {node.name} waits behind the pod on a failed one")
            elif node.withdrawn:
                found.append(f"{node.name}: allocatable {node.allocatable} of capacity {node.installed}")
            elif node.reason == DRIVER_TOO_OLD and pool.profile is not None:
                found.append(f"{node.name}: {driver_fault(node.state, pool.profile)}")
            elif node.reason:
                found.append(f"{node.name} is left out ({node.reason})")
    return found[:MAX_NOTES] + ([f"and {len(found) - MAX_NOTES} more nodes"] if len(found) > MAX_NOTES else [])


def status(inputs: Inputs, plan: Plan, view: ModelView, place: int | None = None) -> dict[str, Any] | None:
    """`status.shortfall`; None while nothing is missing, or while it is not known. `place`: in the queue, from 1."""
    short = missing(plan, view)
    if short is None or inputs.fleet.unknown:
        return None
    found = {
        "replicas": short.replicas,
        "queuePosition": place,
        "reasons": [_row(inputs.fleet, row) for row in short.reasons[:MAX_REASONS]],
    }
    return {key: value for key, value in found.items() if value is not None}


def _row(fleet: Fleet, row: ShortfallReason) -> dict[str, Any]:
    found: dict[str, Any] = {
        "reason": _reason(row),
        "pools": list(row.pools[:MAX_POOLS]),
        "missing": row.missing,
        "largestFree": row.largest_free,
        "totalFree": row.total_free,
        "message": message(fleet, row),
        "hint": shorten(row.hint),
    }
    return {key: value for key, value in found.items() if value not in (None, "", [])}
