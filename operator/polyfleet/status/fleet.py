"""Statuses of HardwareProfile, AcceleratorPool and FleetPolicy: what discovery found, and what of it can be used.

While the inventory cannot be read, counts are left out instead of shown as zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from hwprofiles import HardwareProfileSpec
from hwprofiles.schema import decimal_float, duration_seconds, format_decimal
from hwprofiles.trust import Fault
from placement.types import Outcome, Plan
from polyfleet import quotas, remarks
from polyfleet.actions import Refusal
from polyfleet.clearance import sense
from polyfleet.fleet import Fleet, FleetNode, Pool
from polyfleet.hold import solver_failed
from polyfleet.inputs import Inputs
from polyfleet.inventory import DEVICES_MISSING, NOT_READY, SHARED_DEVICES
from polyfleet.objects import Parsed
from polyfleet.plans.told import NOTHING, Told
from polyfleet.rating import age_days
from polyfleet.state import CustomState
from polyfleet.status import accuracy, model, placed, refused
from polyfleet.status.conditions import FALSE, TRUE, UNKNOWN, Judged, shorten, write

MAX_EXAMPLES = 3
MAX_IGNORED, IGNORED_LENGTH = 32, 300
DAY_S = 86_400
BUDGET_WARNING = 0.9  # of the budget; the alert BudgetNearLimit fires there too


def _first(rows: Sequence[Judged], kind: str) -> Judged:
    bad = next((row for row in rows if row.status != TRUE), None)
    return Judged(kind, bad.status, bad.reason, bad.message) if bad is not None else Judged(kind, TRUE, "Ready")


# ---- AcceleratorPool


def pool(fleet: Fleet, found: Pool, state: CustomState, now: str) -> dict[str, Any]:
    status: dict[str, Any] = {"observedGeneration": state.generation}
    if found.profile is not None:
        status["vendor"] = found.profile.vendor
    if found.resource:
        status["resourceName"] = found.resource
    status["scheduler"] = found.scheduler
    if not fleet.unknown:
        eligible = [node for node in found.nodes if _usable(found, node)]
        status["nodes"] = {"matched": len(found.nodes), "eligible": len(eligible)}
        status["devices"] = _pool_devices(found, eligible)
        excluded = _excluded(found)
        if excluded:
            status["excluded"] = excluded
    status["conditions"] = write(_pool_conditions(fleet, found), state.status, state.generation, now)
    return status


def _usable(found: Pool, node: FleetNode) -> bool:
    return not node.reason and (found.shared or not node.shared)


def _pool_devices(found: Pool, eligible: Sequence[FleetNode]) -> dict[str, int]:
    reserve = found.spec.reserve.devices if found.spec is not None and found.spec.reserve is not None else None
    return {
        "capacity": sum(node.installed for node in found.nodes),
        "allocatable": sum(node.allocatable for node in found.nodes),
        "used": sum(node.held for node in found.nodes),
        "free": sum(node.free for node in eligible),
        "largestFree": max((node.free for node in eligible), default=0),
        "withdrawn": sum(node.withdrawn for node in found.nodes),
        "stranded": sum(node.stranded for node in found.nodes),
        "reserved": reserve or 0,
    }


def _excluded(found: Pool) -> list[dict[str, Any]]:
    by_reason: dict[str, list[str]] = {}
    for node in found.nodes:
        if not _usable(found, node):
            by_reason.setdefault(node.reason or SHARED_DEVICES, []).append(node.name)
    return [
        {"reason": reason, "nodes": len(names), "examples": sorted(names)[:MAX_EXAMPLES]} for reason, names in sorted(by_reason.items())
    ]


def _pool_conditions(fleet: Fleet, found: Pool) -> list[Judged]:
    if fleet.unknown:
        known = Judged("InventoryKnown", UNKNOWN, fleet.unknown, "nodes or pods cannot be listed; nothing grows and nothing shrinks")
        return [known]
    known = Judged("InventoryKnown", TRUE, "Listed", shorten(remarks.of_pool(fleet, found)))
    return [known, _schedulable(found), _healthy(found)]


def _schedulable(found: Pool) -> Judged:
    kind = "Schedulable"
    if found.profile is None:
        return Judged(kind, FALSE, "ProfileMissing", f"HardwareProfile {found.profile_name} does not exist; see kubectl get hwp")
    if not found.schedulable:
        return Judged(kind, FALSE, "Cordoned", "spec.schedulable is false: running replicas stay, no new one starts")
    if not any(_usable(found, node) for node in found.nodes):
        counts = ", ".join(f"{row['nodes']} {row['reason']}" for row in _excluded(found))
        return Judged(kind, FALSE, "AllNodesExcluded", shorten((counts or "no node matches") + remarks.why_left_out(found.nodes)))
    return Judged(kind, TRUE, "Schedulable")


def _healthy(found: Pool) -> Judged:
    kind = "Healthy"
    withdrawn = [node for node in found.nodes if node.withdrawn]
    if withdrawn:
        total, stranded = sum(node.withdrawn for node in withdrawn), sum(node.stranded for node in withdrawn)
        where = ", ".join(node.name for node in withdrawn[:MAX_EXAMPLES])
        waits = f"; {stranded} healthy wait behind pods on failed ones" if stranded else ""
        return Judged(kind, FALSE, "DevicesWithdrawn", f"{total} devices taken out by the plugin on {where}{waits}")
    not_ready = [node.name for node in found.nodes if node.reason == NOT_READY]
    if not_ready:
        return Judged(kind, FALSE, "NodesNotReady", f"{len(not_ready)} of {len(found.nodes)}: {', '.join(not_ready[:MAX_EXAMPLES])}")
    if found.overlaps:
        node, other = found.overlaps[0]
        return Judged(kind, FALSE, "NodeOverlap", f"{len(found.overlaps)} nodes belong to another pool, for example {node} to {other}")
    return Judged(kind, TRUE, "Healthy")


# ---- HardwareProfile


def profile(inputs: Inputs, parsed: Parsed[HardwareProfileSpec], now: str, refusals: Sequence[Refusal] = ()) -> dict[str, Any]:
    """Of the profile as it is stored: what planning leaves out of it stays in the counts and is listed under `ignored`."""
    fleet, state, spec = inputs.fleet, parsed.state, parsed.spec
    status: dict[str, Any] = {"observedGeneration": state.generation}
    if spec is None:
        bad = Judged("Ready", FALSE, "DataOutOfRange", parsed.fault)
        return {**status, "conditions": write([bad], state.status, state.generation, now)}
    pools = fleet.pools_of(parsed.name)
    nodes = [node for found in pools for node in found.nodes]
    if not fleet.unknown:
        usable = [node for found in pools for node in found.nodes if _usable(found, node)]
        status["nodes"] = len(nodes)
        status["devices"] = {
            "total": sum(node.installed for node in nodes),
            "allocatable": sum(node.allocatable for node in nodes),
            "used": sum(node.held for node in nodes),
            "free": sum(node.free for node in usable),
            "withdrawn": sum(node.withdrawn for node in nodes),
        }
        resources = sorted({node.resource for node in nodes if node.resource})
        if resources:
            status["resourceNames"] = resources
    status.update(_evidence(spec))
    refused_pools = [text for found in pools if found.parsed is None and (text := refused.of_pool(found.name, refusals))]
    faults = [fault for fault in inputs.profile_faults if fault.profile == parsed.name]
    if ignored := [fault for fault in faults if fault.ignored]:
        status["ignored"] = _ignored(ignored)
    rows = [_discovered(fleet, nodes, refused_pools), _calibrated(spec, faults, stale(inputs, parsed, now))]
    status["conditions"] = write([*rows, _first(rows, "Ready")], state.status, state.generation, now)
    return status


def _evidence(spec: HardwareProfileSpec) -> dict[str, Any]:
    words = ("Measured", "Published", "Estimated")
    counts = {word: sum(1 for entry in spec.throughput if entry.evidence == word) for word in words}
    best = next((word for word in words if counts[word]), "None")
    found: dict[str, Any] = {"evidence": {word.lower(): count for word, count in counts.items()}, "dataSummary": best}
    dates = sorted([entry.date for entry in spec.throughput] + [entry.date for entry in spec.provenance])
    if dates:
        found["oldestEvidence"] = dates[0]
    return found


def _discovered(fleet: Fleet, nodes: Iterable[FleetNode], refused_pools: Sequence[str]) -> Judged:
    kind, found = "Discovered", list(nodes)
    if fleet.unknown:
        return Judged(kind, UNKNOWN, fleet.unknown, "nodes cannot be read")
    if not found:
        return Judged(kind, FALSE, "MatchesNoNodes", "no node has the labels of spec.match; see kubectl get nodes --show-labels")
    if all(node.reason == DEVICES_MISSING for node in found):
        return Judged(kind, FALSE, "ResourceMissing", f"{len(found)} nodes match, none advertises a resource of spec.resources")
    return Judged(kind, TRUE, "NodesMatched", "; ".join([f"{len(found)} nodes", *(f"not created: {text}" for text in refused_pools)]))


def _ignored(faults: Sequence[Fault]) -> list[str]:
    found = [shorten(f"spec.{fault.field}: {fault.message}", IGNORED_LENGTH) for fault in faults]
    rest = len(found) - MAX_IGNORED
    return found if rest <= 0 else [*found[: MAX_IGNORED - 1], f"and {rest + 1} more"]


def _calibrated(spec: HardwareProfileSpec, faults: Sequence[Fault], old: str) -> Judged:
    """What is wrong comes before what is missing, and that before what is old."""
    kind = "Calibrated"
    if faults:
        first = faults[0]
        reason = {"ProvenanceMissing": "ProvenanceMissing", "AssumptionMissing": "NoData"}.get(first.reason, "DataOutOfRange")
        fate = "left out of planning, the rest is used" if first.ignored else "used as it is"
        more = f"; {len(faults) - 1} more objections: polyfleet profile validate" if len(faults) > 1 else ""
        return Judged(kind, FALSE, reason, f"spec.{first.field}: {first.message} ({fate}){more}")
    if not spec.throughput:
        return Judged(kind, FALSE, "NoData", "no throughput entry; measure with polyfleet bench")
    if old:
        return Judged(kind, UNKNOWN, "Stale", old)
    return Judged(kind, TRUE, "Calibrated")


def stale(inputs: Inputs, parsed: Parsed[HardwareProfileSpec], now: str) -> str:
    """The oldest measurement that is past FleetPolicy `profiles.maxAge`, with the way out; "" = none is. Others do not age."""
    limit, today = inputs.policy.profiles.max_age, date.fromisoformat(now[:10])
    entries = parsed.spec.throughput if parsed.spec is not None else ()
    old = [e for e in entries if e.evidence == "Measured" and age_days(e.date, today) * DAY_S > duration_seconds(limit)]
    if not old:
        return ""
    first = min(old, key=lambda entry: entry.date)
    return (
        f"{len(old)} measurements are older than FleetPolicy spec.profiles.maxAge {limit}, the oldest of {first.date}: {first.model}"
        f" on {first.engine}; they are used, measure again: polyfleet bench --profile {parsed.name} --model {first.model}"
    )


# ---- FleetPolicy


def policy(inputs: Inputs, plan: Plan, state: CustomState, ready: int, now: str, told: Told = NOTHING) -> dict[str, Any]:
    cost = sum(model.hourly_cost(inputs, view) for _, view in sorted(inputs.models.items()))
    blocked = accuracy.count_blocked(inputs.models.values())
    short = sum(1 for view in inputs.models.values() if placed.shortfall_of(plan, view) is not None)
    faults = [inputs.objects.policy_fault] if inputs.objects.policy_fault else _policy_faults(inputs)
    judged = [
        Judged("Accepted", FALSE, "InvalidSpec", "; ".join(faults)) if faults else Judged("Accepted", TRUE, "Valid"),
        _solver(plan),
        *_budget(inputs, cost),
        _converged(plan, told),
    ]
    return {
        "observedGeneration": state.generation,
        **({"plan": told.name} if told.name else {}),
        "hourlyCost": format_decimal(cost),
        "models": {"total": len(inputs.models), "ready": ready, "short": short, "blocked": blocked},
        "solver": plan.solver,
        "conditions": write(judged, state.status, state.generation, now),
    }


def _policy_faults(inputs: Inputs) -> list[str]:
    bad = quotas.fault(inputs.policy)
    return [text for text in (sense.fault(inputs.policy), bad) if text]


def _converged(plan: Plan, told: Told) -> Judged:
    kind = "Converged"
    if told.asks and told.waiting:
        return Judged(kind, FALSE, "AwaitingApproval", f"{len(told.waiting)} models are to change; {told.wish}")
    if plan.starts or plan.stop:
        return Judged(kind, FALSE, "PlanPending", f"{len(plan.starts)} starts and {len(plan.stop)} stops are being carried out")
    return Judged(kind, TRUE, "Applied")


def _solver(plan: Plan) -> Judged:
    kind = "SolverHealthy"
    if not solver_failed(plan):
        return Judged(kind, TRUE, "SelfTestPassed")
    what = "the greedy placer runs" if plan.outcome is Outcome.GREEDY else "nothing moves"
    return Judged(kind, FALSE, "SolverDegraded", f"{what}: {plan.message or 'no plan in time'}")


def _budget(inputs: Inputs, cost: float) -> list[Judged]:
    budget = inputs.policy.budget
    if budget is None or budget.max_hourly_cost is None:
        return []
    limit, kind = decimal_float(budget.max_hourly_cost), "WithinBudget"
    text = f"{format_decimal(cost)} of {format_decimal(limit)} {budget.currency} per hour"
    if cost > limit:
        return [Judged(kind, FALSE, "BudgetExceeded", text)]
    if cost > BUDGET_WARNING * limit:
        return [Judged(kind, FALSE, "BudgetNearLimit", text)]
    return [Judged(kind, TRUE, "WithinBudget", text)]
