"""`ModelDeployment.status`: counts from the cluster, reasons from the checks, nothing that changes while nothing happens.

Node names are not here (they are on pods and in plans), so the size does not grow with the fleet. If it still came near the limit,
detail goes before facts: first the merged arguments, then texts of rejected profiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from hwprofiles.schema import format_decimal
from placement.types import Plan, Why
from polyfleet import cells, naming, overdue
from polyfleet.actions import Refusal
from polyfleet.fleet import Pool
from polyfleet.inputs import Inputs, ModelView
from polyfleet.inventory import node_of
from polyfleet.plans.told import NOTHING, Told, gap_text
from polyfleet.prepare import INVALID_SPEC
from polyfleet.rating import PROFILE_STALE, SLO_UNREACHABLE, bench
from polyfleet.render import grace, service
from polyfleet.resolve import Fault, ResolvedOption
from polyfleet.scaling import rows as scaling_rows
from polyfleet.scaling import settings
from polyfleet.snapshot import Standing, standings
from polyfleet.state import Observed
from polyfleet.status import accuracy, placed, pods, promotion, refused, rows
from polyfleet.status.conditions import FALSE, TRUE, Judged, shorten, summary, write
from polyfleet.wake import path

SIZE_LIMIT = 60 * 1024  # of the status alone; the object's own limit of this project is 64 KiB
MAX_PLACEMENTS, MAX_REJECTED, MAX_EFFECTIVE = 128, 128, 64


def serving_count(view: ModelView) -> int:
    return sum(1 for item in standings(view) if item.serving and not item.leaving)


def build(
    observed: Observed,
    inputs: Inputs,
    plan: Plan,
    view: ModelView,
    now: str,
    refusals: Sequence[Refusal] = (),
    told: Told = NOTHING,
    queue: int | None = None,
) -> dict[str, Any]:
    """`queue`: place among the models that are short, from 1."""
    items = [item for item in standings(view) if not item.leaving]
    tried = {item.pod.uid for item in accuracy.candidates(view)}
    waiting = sum(len(child.waiting) for child in view.children) - accuracy.unplaced(view)
    serving = sum(1 for item in items if item.serving)
    judged = conditions(observed, inputs, plan, view, serving, refusals, told)
    groups = placements(inputs, plan, view, items, tried)
    found: dict[str, Any] = {
        "observedGeneration": view.state.generation,
        "url": service.url(view.state),
        "desiredReplicas": view.target,
        # A candidate is no replica: whoever scales by this number must not count it.
        "replicas": len(items) - len(tried) + waiting,
        "readyReplicas": serving,
        "selector": f"{naming.DEPLOYMENT}={naming.label_value(view.state.name)}",
        "summary": {**_summary(inputs, view, items, tried, serving), "reason": reason(judged)},
        "placements": groups[:MAX_PLACEMENTS],
        "shortfall": placed.status(inputs, plan, view, queue),
        "rejected": rejected(plan, view, {row["profile"] for row in groups})[:MAX_REJECTED],
        "effective": effective(view)[:MAX_EFFECTIVE],
        "plan": _plan(plan, told),
        "accuracy": accuracy.verdicts(view),
        "rolledBack": [item.row() for item in overdue.given_up(view, now)],
        "autoscaler": scaling_rows.status(view),
        "conditions": write(judged, view.state.status, view.state.generation, now),
    }
    return fit({key: value for key, value in found.items() if value not in (None, [], {})})


def failed(view: ModelView, message: str, now: str) -> dict[str, Any]:
    """The stored status, with the one row that is known to be true."""
    stored = {key: value for key, value in view.state.status.items() if key != "conditions"}
    bad = Judged("Accepted", FALSE, INVALID_SPEC, message)
    rows = [bad, Judged("Ready", bad.status, bad.reason, bad.message)]
    return {
        **stored,
        "observedGeneration": view.state.generation,
        "summary": {**(stored.get("summary") or {}), "reason": bad.reason},
        "conditions": write(rows, view.state.status, view.state.generation, now),
    }


def reason(judged: Sequence[Judged]) -> str:
    """The column: why it is not Ready; of one that is, why the wanted revision does not serve."""
    found = {row.type: row for row in judged}
    held = [row for row in (found.get("Ready"), found.get(promotion.ROW)) if row is not None and row.status != TRUE]
    ready = found.get("Ready")
    return str(held[0].reason) if held else ready.reason if ready is not None else "Ready"


# ---- conditions


def conditions(
    observed: Observed,
    inputs: Inputs,
    plan: Plan,
    view: ModelView,
    serving: int,
    refusals: Sequence[Refusal] = (),
    told: Told = NOTHING,
) -> list[Judged]:
    denied = refused.of_model(view, refusals)
    found: list[Judged | None] = [_accepted(view.accepted or denied.accepted or scaling_rows.wake_fault(view), view)]
    if view.accepted is None:
        found.append(_resolved(view))
        if view.resolution.options or view.target == 0:
            found.append(placed.judge(inputs, plan, view, told))
        elif (fault := view.resolution.unresolved) is not None and fault.reason == SLO_UNREACHABLE:
            found.append(Judged(placed.ROW, FALSE, fault.reason, fault.message))
    short = placed.missing(plan, view)
    places = max(0, view.target - (short.replicas if short is not None else 0))
    planned = max(0, places - _waiting(plan, view, short is None))
    if view.key in told.waiting:
        planned = min(planned, sum(1 for item in standings(view) if not item.leaving))
    found.append(_workloads(inputs, plan, view, planned, serving, denied.forbidden))
    checked = accuracy.verified(view)
    found += [rows.hardware_verified(inputs, view), checked, _route(observed, view, serving, planned)]
    told_rows = [row for row in found if row is not None]
    # A gate that only observes is told, and keeps nobody from being ready.
    ready = summary([row for row in told_rows if view.clearance.required or row is not checked], serving, view.target, "Ready")
    if ready.status == TRUE and not serving and path.asleep(view):
        ready = replace(ready, reason=path.ASLEEP, message=scaling_rows.asleep(view))
    available = Judged("Available", TRUE, "Serving") if serving else Judged("Available", FALSE, "NothingServes", "no replica serves")
    # The wanted revision is to serve also where it waits for its verdict.
    wanted = planned if view.key in told.waiting else view.target if accuracy.awaiting(view) else places
    promoted = promotion.judge(inputs.fleet, plan, view, wanted, told, inputs.fleet.profiles)
    if ready.status == TRUE and promoted is not None and promoted.reason in (promotion.BLOCKED, promotion.ROLLED_BACK):
        # `kubectl get mdep -o wide` shows this row's message alone: it is no reason to be unready, and not to be missed.
        ready = replace(ready, message=f"{ready.message}; {promoted.reason}: {promotion.obstacle(inputs.fleet, plan, view)}".rstrip(": "))
    return [*told_rows, ready, available, *([promoted] if promoted is not None else []), *scaling_rows.conditions(inputs, plan, view)]


def _waiting(plan: Plan, view: ModelView, whole: bool) -> int:
    """Replicas that only a verdict keeps from having a place. `whole`: nothing else is missing."""
    if not whole:
        return 0
    short = placed.shortfall_of(plan, view)
    return short.replicas if short is not None and placed.only_verdict_waits(short, view) else accuracy.awaiting(view)


def _workloads(inputs: Inputs, plan: Plan, view: ModelView, planned: int, serving: int, forbidden: Sequence[str]) -> Judged:
    """While verified replicas are fewer than wanted, candidates are waited for like replicas; else their troubles are the rollout's."""
    tried = {item.pod.uid for item in accuracy.candidates(view)}
    if serving >= view.target:
        return pods.judge(view.children, planned, forbidden, tried)
    late = [start.after for start in plan.starts if start.model == view.key and start.after]
    behind = pods.Behind(len(late), len({uid for after in late for uid in after}))
    coming = view.key in inputs.trials and not tried and placed.candidate_short(plan, view) is None
    return pods.judge(view.children, planned + len(tried) + coming, forbidden, behind=behind)


def _accepted(fault: Fault | None, view: ModelView) -> Judged:
    if fault is not None:
        return Judged("Accepted", FALSE, fault.reason, fault.message)
    spec = view.spec
    remarks = [text for text in (grace.of(spec).warning, *settings.remarks(spec)) if text] if spec is not None else []
    return Judged("Accepted", TRUE, "Valid", shorten("; ".join(remarks)))


def _resolved(view: ModelView) -> Judged:
    """At least one compatible profile with usable data. Data that shows an SLO to be out of reach is usable: then nothing is placed."""
    kind, fault = "ProfilesResolved", view.resolution.unresolved
    if fault is not None and not view.resolution.options:
        if fault.reason != SLO_UNREACHABLE:
            return Judged(kind, FALSE, fault.reason, fault.message)
        slow = [item.profile for item in view.resolution.rejected if item.reason == SLO_UNREACHABLE]
        return Judged(kind, TRUE, "Resolved", ", ".join(sorted(slow)))
    options = view.resolution.options
    names = ", ".join(sorted({option.profile for option in options}))
    old = sorted({f"{option.profile}: {option.stale}; {bench(option.wanted)}" for option in options if option.stale})
    return Judged(kind, TRUE, PROFILE_STALE if old else "Resolved", "; ".join([names, *old]))


def _route(observed: Observed, view: ModelView, serving: int, planned: int) -> Judged:
    name = naming.service_name(view.state.name)
    mine = any(s.namespace == view.state.namespace and s.name == name and s.owner_uid == view.state.uid for s in observed.services)
    if not mine:
        return Judged("RouteReady", FALSE, "NoGateway", f"service {name} is being created")
    if not serving and path.asleep(view):
        held = view.way is not None and view.way.stands
        return Judged("RouteReady", TRUE if held else FALSE, path.ASLEEP if held else path.NO_WAKE_PATH, scaling_rows.asleep(view))
    if not serving:
        why = "suspended: no replicas are wanted" if view.spec is not None and view.spec.suspend else "no replica serves yet"
        waits = "; requests wait at the activator" if view.way is not None and view.way.stands else ""
        return Judged("RouteReady", FALSE, "WeightsPending", why + waits)
    if serving < planned:
        text = f"{planned - serving} of {planned} replicas take no traffic yet"
        return Judged("RouteReady", FALSE, "WeightsPending", ": ".join(part for part in (text, accuracy.held_back(view)) if part))
    return Judged("RouteReady", TRUE, "ServiceReady", "; ".join([f"service {name}", *_steps(view)]))


def _steps(view: ModelView) -> list[str]:
    """Shares of the traffic need a gateway; a spec that asks for them is taken and told so."""
    steps = view.spec.rollout.steps if view.spec is not None else (100,)
    if tuple(steps) == (100,):
        return []
    return [f"NoGateway: spec.rollout.steps {list(steps)} is treated as [100]: a Service cannot divide traffic by shares"]


# ---- the rest, by field


def _vendor(inputs: Inputs, item: Standing) -> str:
    return item.child.text(naming.VENDOR)


def _pool(inputs: Inputs, item: Standing) -> Pool | None:
    """The pool that the replica's node is in now, else the one that it was made for."""
    return inputs.fleet.pool(inputs.fleet.pool_of.get(node_of(item.pod), "")) or inputs.fleet.pool(item.child.pool)


def _cost(inputs: Inputs, item: Standing) -> float:
    pool = _pool(inputs, item)
    return cells.price(pool) * item.child.devices if pool is not None else 0.0


def hourly_cost(inputs: Inputs, view: ModelView) -> float:
    return sum(_cost(inputs, item) for item in standings(view))


def _summary(inputs: Inputs, view: ModelView, items: list[Standing], tried: Collection[str], serving: int) -> dict[str, Any]:
    vendors = Counter(_vendor(inputs, item) for item in items if item.pod.uid not in tried)
    order = sorted(vendors.items(), key=lambda pair: (-pair[1], pair[0]))
    found = {
        "replicas": f"{serving}/{view.target}",
        "hardware": ",".join(f"{vendor}:{count}" for vendor, count in order),
        "hourlyCost": format_decimal(sum(_cost(inputs, item) for item in items)),
        "accuracy": accuracy.column(view),
    }
    return {key: text for key, text in found.items() if text}


def placements(inputs: Inputs, plan: Plan, view: ModelView, items: list[Standing], tried: Collection[str] = ()) -> list[dict[str, Any]]:
    """Where it runs. `tried`: uids of candidates, counted apart; they cost like replicas."""
    groups: dict[tuple[str, str, str, str, int], list[Standing]] = {}
    for item in items:
        pool = _pool(inputs, item)
        name = pool.name if pool is not None else item.child.pool
        child = item.child
        groups.setdefault((name, child.profile, child.variant, child.engine, child.devices), []).append(item)
    return [_placement(inputs, plan, view, key, groups[key], tried) for key in sorted(groups)]


def _placement(
    inputs: Inputs, plan: Plan, view: ModelView, key: tuple[str, str, str, str, int], members: list[Standing], tried: Collection[str]
) -> dict[str, Any]:
    pool, profile, variant, engine, devices = key
    option = view.resolution.option(naming.option_id(view.key, profile, variant, engine, devices))
    why = _why(plan, view, profile, pool)
    counted = [item for item in members if item.pod.uid not in tried]
    found: dict[str, Any] = {
        "pool": pool,
        "profile": profile,
        "vendor": _vendor(inputs, members[0]),
        "variant": variant,
        "engine": engine,
        "replicas": len(counted),
        "readyReplicas": sum(1 for item in counted if item.serving),
        "candidates": len(members) - len(counted) or None,
        "devicesPerReplica": devices,
        "tokensPerSecond": _tokens(option, len(counted)) if counted else None,
        "hourlyCost": format_decimal(sum(_cost(inputs, item) for item in members)),
        "evidence": option.evidence if option is not None else None,
        "reason": why.reason if why is not None else None,
        "message": shorten(_message(inputs, option, why, profile)),
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def _tokens(option: ResolvedOption | None, replicas: int) -> str | None:
    """Output tokens/s that these replicas are planned with; None = nothing is known."""
    if option is None or option.performance is None:
        return None
    return format_decimal(round(option.performance.output_tokens_per_s * replicas), 0)


def _message(inputs: Inputs, option: ResolvedOption | None, why: Why | None, profile: str) -> str:
    parts = [why.message if why is not None else "", option.caveat if option is not None else ""]
    if profile not in inputs.fleet.profiles and not inputs.fleet.unknown:
        parts.append(f"HardwareProfile {profile} does not exist any more: what runs stays, and none is added or replaced")
    return "; ".join(part for part in parts if part)


def _why(plan: Plan, view: ModelView, profile: str, pool: str) -> Why | None:
    mine = [row for row in plan.why if row.model == view.key and row.profile == profile]
    return next((row for row in mine if row.pool == pool), next((row for row in mine if row.pool), None))


def rejected(plan: Plan, view: ModelView, used: set[str]) -> list[dict[str, Any]]:
    """Why not, one line per profile: the checks of the spec first, then what the placer preferred something else to."""
    found: dict[str, dict[str, Any]] = {}
    for item in view.resolution.rejected:
        found[item.profile] = {"profile": item.profile, "reason": item.reason, "message": shorten(item.message)}
        if item.hint:
            found[item.profile]["hint"] = shorten(item.hint)
    for row in plan.why:
        if row.model == view.key and not row.pool and row.profile not in used:
            found.setdefault(row.profile, {"profile": row.profile, "reason": row.reason, "message": shorten(row.message)})
    return [found[name] for name in sorted(found)]


def effective(view: ModelView) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for option in view.resolution.options:
        wanted = option.wanted
        revision = next((item.revision for item in view.rendered if item.option == option.id), None)
        row: dict[str, Any] = {
            "profile": option.profile,
            "variant": wanted.variant,
            "engine": wanted.engine,
            "image": wanted.image,
            "args": list(wanted.args),
            "devices": option.devices,
            "revision": revision,
        }
        found[(option.profile, wanted.variant, option.devices)] = {key: value for key, value in row.items() if value not in (None, [])}
    return [found[key] for key in sorted(found)]


def _plan(plan: Plan, told: Told) -> dict[str, Any]:
    """The plan in force, in the figures that were written with it: a later solve of the same target changes no model's status."""
    if told.name:
        found = {"name": told.name, "outcome": told.outcome, "gapPercent": told.gap_percent}
    else:
        found = {"outcome": str(plan.outcome), "gapPercent": gap_text(plan.gap)}
    return {key: text for key, text in found.items() if text}


def fit(status: dict[str, Any]) -> dict[str, Any]:
    """Leaves detail out until the status is small enough: never conditions or counts."""

    def big(value: dict[str, Any]) -> bool:
        return len(naming.canonical(value).encode()) > SIZE_LIMIT

    if not big(status):
        return status
    if "effective" in status:
        status = {**status, "effective": [{k: v for k, v in row.items() if k != "args"} for row in status["effective"]]}
    for key in ("rejected", "placements"):
        if big(status) and key in status:
            status = {**status, key: [{k: v for k, v in row.items() if k not in ("message", "hint")} for row in status[key]]}
    for key in ("effective", "rejected"):
        if big(status):
            status = {k: v for k, v in status.items() if k != key}
    return status
