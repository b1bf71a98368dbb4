"""What the status says of scaling: `status.autoscaler` and the conditions MetricsAvailable, ScalingActive and Degraded. Pure.

Everything here changes on decisions and on what happens in the cluster, never with a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoscaling.types import Direction, MetricState, Why
from placement.types import Plan
from polyfleet.inputs import Inputs, ModelView
from polyfleet.resolve import Fault
from polyfleet.scaling import sizes, spill, stuck, units
from polyfleet.scaling.settings import TICK_S
from polyfleet.snapshot import holders, standings
from polyfleet.status.conditions import FALSE, TRUE, Judged, shorten
from polyfleet.wake import path

METRICS, ACTIVE, DEGRADED = "MetricsAvailable", "ScalingActive", "Degraded"
FALLBACK, STALE, MISSING = "MetricsFallback", "MetricsStale", "MetricsMissing"
TOO_FAST = "BurstFasterThanColdStart"
CONFLICT = "ConflictingScaler"
WAKE_TOO_SLOW = "WakeTooSlow"
_EPS = 1e-6


def conditions(inputs: Inputs, plan: Plan, view: ModelView) -> list[Judged]:
    """None for a fixed size, unless somebody else scales it, and none for a spec that is not accepted: it is held."""
    if view.accepted is not None:
        return []
    if view.spec is None or view.spec.scaling is None:
        return [Judged(ACTIVE, FALSE, CONFLICT, view.conflict)] if view.conflict else []
    degraded = _degraded(inputs, view)
    return [_metrics(view), _active(plan, view), *([degraded] if degraded is not None else [])]


def wake_fault(view: ModelView) -> Fault | None:
    """Scale to zero is refused; the model goes on with one replica at least."""
    text = view.force.wake_fault if view.force is not None else ""
    if text:
        return Fault(WAKE_TOO_SLOW, text)
    return Fault(path.NO_WAKE_PATH, why) if (why := path.awake(view)) else None


def _metrics(view: ModelView) -> Judged:
    force = view.force
    if force is None or force.metrics is None:
        if (row := _stored(view, METRICS)) is not None:  # as an earlier operator told it
            return Judged(METRICS, row.get("status", ""), row.get("reason", ""), row.get("message", ""))
        return Judged(
            METRICS, FALSE, MISSING, f"the load was not read yet; it is read every {TICK_S:.0f} s, and the size is kept until then"
        )
    if force.metrics is MetricState.FALLBACK:
        return Judged(METRICS, FALSE, FALLBACK, f"{force.metrics_text}; spec.scaling.fallback holds; {_NEXT}")
    if force.metrics is MetricState.UNKNOWN:
        return Judged(METRICS, FALSE, STALE if force.stale else MISSING, f"{force.metrics_text}; nothing shrinks meanwhile; {_NEXT}")
    second = f"replicas that do not answer GET /metrics are read from Prometheus; {_NEXT}" if force.second else ""
    if force.metrics is MetricState.RECOVERING:
        text = "the load is known again; nothing shrinks before the first window is full"
        return Judged(METRICS, TRUE, "Recovering", "; ".join(part for part in (text, second) if part))
    return Judged(METRICS, TRUE, "Read", second)


_NEXT = "see whether the replicas answer GET /metrics: kubectl get pods -l polyfleet.io/deployment, and the operator's log"


def _stored(view: ModelView, kind: str) -> Mapping[str, Any] | None:
    return next((row for row in view.state.status.get("conditions") or () if row.get("type") == kind), None)


def _active(plan: Plan, view: ModelView) -> Judged:
    spec, force = view.spec, view.force
    assert spec is not None
    assert spec.scaling is not None
    if view.conflict:
        return Judged(ACTIVE, FALSE, CONFLICT, view.conflict)
    if spec.paused:
        return Judged(ACTIVE, FALSE, "Paused", "spec.paused is true: sizes stay, dead replicas are replaced")
    if spec.scaling.mode == sizes.ADVISE:
        return Judged(ACTIVE, FALSE, "AdvisoryOnly", "spec.scaling.mode is Advise: status.autoscaler recommends, and nothing is changed")
    if spec.scaling.mode == sizes.EXTERNAL:
        text = "spec.scaling.mode is External: spec.replicas is the size; polyfleet_desired_replicas tells what it should be"
        return Judged(ACTIVE, FALSE, "ExternallyScaled", text)
    if spec.suspend:
        return Judged(ACTIVE, FALSE, "Paused", "spec.suspend is true: no replicas are wanted")
    if view.bounds is not None and force is not None and view.target >= view.bounds[1]:
        have, need = _supply(plan, view), force.demand.work_per_s
        if need > have + _EPS:
            text = f"{need:.2f} work/s are asked, {view.target} replicas carry {have:.2f}: raise spec.scaling.maxReplicas {view.bounds[1]}"
            return Judged(ACTIVE, FALSE, "AtMaximum", text)
    return Judged(ACTIVE, TRUE, "Active")


def _supply(plan: Plan, view: ModelView) -> float:
    load = units.stated(view.spec) if view.spec is not None else None
    rates = {option.id: units.work_of(option, load, view.unit) or 0.0 for option in view.resolution.options}
    return sum(rates.get(share.option, 0.0) * share.replicas for share in plan.assignments if share.model == view.key)


def _degraded(inputs: Inputs, view: ModelView) -> Judged | None:
    """Told only while it is so."""
    if (found := spill.over(inputs, view)) is not None:
        return Judged(DEGRADED, TRUE, spill.REASON, found.text)
    if view.force is not None and view.force.too_fast:
        return Judged(DEGRADED, TRUE, TOO_FAST, view.force.too_fast)
    return None


# ---- status.autoscaler


def status(view: ModelView) -> dict[str, Any] | None:
    """The last decision, of this operator or of an earlier one; None for a fixed size and before the first one."""
    if view.spec is None or view.spec.scaling is None:
        return None
    told = view.force.told if view.force is not None else None
    before = view.state.status.get("autoscaler")
    earlier = told is None or (told.first and bool(before))
    if told is None or earlier:
        if not before:
            return None
        direction, first, at = before.get("direction"), str(before.get("reason", "")).split("; ")[0], before.get("at")
    else:
        direction, first, at = told.direction, f"{told.reason}: {told.text}", told.at
    if path.asleep(view) and (earlier or direction == Direction.UP) and not first.startswith(Why.IDLE):
        direction, first = str(Direction.HOLD), ""  # suspended and resumed: no decision brought it to zero, the last one was about replicas
    automatic = view.spec.scaling.mode == sizes.AUTO
    desired = (
        str(view.target if automatic else sizes.advised(view)) if view.force is not None or automatic else (before or {}).get("desired")
    )
    text = "; ".join(part for part in (first, coming(view), asleep(view), _exhausted(view)) if part)
    return {"desired": desired, "direction": direction, "reason": shorten(text), "at": at}


def coming(view: ModelView) -> str:
    """Replicas that are on their way, and when the last of them is expected; "" = none."""
    starts = dict(view.force.starts) if view.force is not None else {}
    apart = {item.pod.uid for item in holders(view)}
    loading = [item for item in standings(view) if not item.leaving and not item.serving and item.pod.uid not in apart]
    due: list[float] = []
    for item in loading:
        bound, took = item.pod.conditions.get("PodScheduled"), starts.get(item.child.option)
        since = (stuck.seconds(bound.last_transition) if bound is not None and item.pod.node else None) or stuck.seconds(item.pod.created)
        if since is not None and took is not None:
            due.append(since + took)
    if not loading:
        return ""
    when = f", the last expected at {stuck.stamp(max(due))}" if due else ", no cold start was measured yet"
    return f"{len(loading)} on {'its' if len(loading) == 1 else 'their'} way{when}"


def asleep(view: ModelView) -> str:
    """Of a model at zero: what wakes it, and how long that takes; of one that is awake: why it would not sleep. "" = neither."""
    way, force = view.way, view.force
    if not path.asleep(view):
        return f"it would not sleep: {force.awake}" if force is not None and force.awake and way is not None and not way.refused else ""
    if force is None:  # this operator has not read yet what earlier ones measured
        wake = "until it serves"
    else:
        wake = f"about {force.wake_s:.0f} s" if force.wake_s is not None else "until it serves; no start was measured yet"
    if way is None:
        return "asleep, and nobody can say who holds requests: EndpointSlices were not read (the operator's log says why)"
    if not way.stands:
        return f"asleep, and no pod of the activator is ready to hold requests; next: kubectl get pods -A -l {path.LABEL}"
    return f"asleep; a POST to /v1/... wakes it and waits {wake}"


def _exhausted(view: ModelView) -> str:
    rows = view.force.exhausted if view.force is not None else ()
    return "; ".join(f"pool {row.pool} is left out until {row.until}: {row.why or 'its devices could not be had'}" for row in rows[:2])
