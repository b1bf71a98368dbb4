"""What a PlacementPlan's status says.

The figures of a plan are written once, with the plan: a later solve of the same target may prove another bound, and an object at rest
must not change. Later only state, condition and steps move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hwprofiles.schema import format_decimal
from placement.types import Outcome, Plan, RowPrice
from polyfleet.actions import StatusApply
from polyfleet.clearance import candidates
from polyfleet.inputs import Inputs
from polyfleet.plans import moves
from polyfleet.plans.stored import ABANDONED, APPLIED, APPLYING, CONDITION, PROPOSED, REJECTED, SUPERSEDED, Stored
from polyfleet.plans.told import gap_text
from polyfleet.status.conditions import FALSE, TRUE, Judged, shorten, write

MAX_SHORTFALLS, MAX_ROWS, MAX_STEPS = 1_000, 64, 20


def figures(plan: Plan, inputs: Inputs, millis: int | None) -> dict[str, Any]:
    """The part of the status that never changes."""
    moved = sum(moves.of_plan(plan, inputs.snapshot).values())
    changes = {"add": len(plan.starts) - moved, "move": moved, "remove": len(plan.stop) - moved}
    found: dict[str, Any] = {
        "outcome": str(plan.outcome),
        "hourlyCost": format_decimal(plan.hourly_cost),
        "objective": f"{plan.objective:.6f}".rstrip("0").rstrip("."),
        "bound": f"{plan.bound:.6f}".rstrip("0").rstrip(".") if plan.bound is not None else None,
        "gapPercent": gap_text(plan.gap) or None,
        "decidedBy": plan.decided_by,
        "solver": plan.solver,
        "solveMillis": millis,
        "changes": changes,
        "changesText": f"+{changes['add']} ~{changes['move']} -{changes['remove']}",
        "shortfalls": [
            {"deployment": item.model, "replicas": item.replicas, "reason": str(item.reasons[0].reason) if item.reasons else "Unknown"}
            for item in plan.shortfalls
            if item.replicas > 0 and not item.model.endswith(candidates.SUFFIX)  # a candidate is no missing capacity
        ][:MAX_SHORTFALLS],
        "bindingConstraints": [_constraint(row) for row in plan.rows[:MAX_ROWS]],
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def _constraint(row: RowPrice) -> dict[str, Any]:
    return {"name": shorten(row.name, 250), "slack": max(0, int(row.slack)), "shadowPrice": format_decimal(max(0.0, row.price))}


# ---- how far


def judged(phase: str, detail: str = "") -> Judged:
    """The condition Applied for a state; `detail` says what a state's own word does not."""
    if phase == APPLIED:
        return Judged(CONDITION, TRUE, "Applied", "every replica has its place")
    if phase == APPLYING:
        return Judged(CONDITION, FALSE, "PartRefused" if detail else "InProgress", detail)
    reasons = {PROPOSED: "Proposed", REJECTED: "Rejected", ABANDONED: "CannotBeRealised", SUPERSEDED: "Superseded"}
    return Judged(CONDITION, FALSE, reasons[phase], detail)


def moved_to(stored: Stored, phase: str, now: str, detail: str = "", base: Mapping[str, Any] | None = None) -> StatusApply:
    """The whole status with another state. A begun plan that is superseded keeps its condition: it tells when its moves were made."""
    before = {**(base or {}), **stored.state.status}
    status = {**before, "observedGeneration": stored.state.generation, "state": phase}
    if phase == ABANDONED:
        status["outcome"] = str(Outcome.KEPT_OLD)
    if not (phase == SUPERSEDED and stored.begun):
        status["conditions"] = write([judged(phase, detail)], before, stored.state.generation, now)
    return StatusApply(stored.state.kind, "", stored.name, stored.state.uid, status)


def first(plan: Plan, inputs: Inputs, millis: int | None, waits: str, now: str) -> dict[str, Any]:
    """The status of a plan that was just written. `waits`: what a person is asked to do; "" if nobody is asked."""
    room = moves.for_room(plan, inputs.snapshot)
    why = shorten(plan.message, 900) if room else ""
    row = Judged(CONDITION, FALSE, "AwaitingApproval", f"{waits}; {why}" if why else waits) if waits else judged(PROPOSED, why)
    status = {"state": PROPOSED, **figures(plan, inputs, millis), "conditions": write([row], {}, 1, now)}
    return {**status, "steps": _steps(room, now)} if room else status


def _steps(room: Sequence[moves.ForRoom], now: str) -> list[dict[str, Any]]:
    """Which models move (0: as many as before) for which other's replica."""
    rows = [
        *({"deployment": item.model, "pool": item.pool, "delta": 0, "reason": "MovedForRoom"} for item in room),
        *(
            {"deployment": other, "pool": pool, "delta": 1, "reason": "RoomMade"}
            for other, pool, _ in sorted({(i.other, i.pool, i.node) for i in room})
        ),
    ]
    return [{"at": now, **row} for row in rows[:MAX_STEPS]]


def reference(current: Stored | None, plan: Plan) -> tuple[str, str, str]:
    """(name, outcome, gapPercent) of the plan in force as ModelDeployments repeat them."""
    if current is None:
        return "", "", ""
    status = current.state.status
    return current.name, str(status.get("outcome") or plan.outcome), str(status.get("gapPercent") or "")


def refused(messages: Sequence[str]) -> str:
    if not messages:
        return ""
    more = f" and {len(messages) - 1} more" if len(messages) > 1 else ""
    return shorten(f"the API server refuses a part, so nothing that runs is stopped for it: {messages[0]}{more}", 900)
