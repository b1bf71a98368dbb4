"""From the last cycle's view of a model and the newest readings to what `autoscaling.decide` may see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoscaling.types import Gateway, Look, Replica, ReplicaState, Sample, Settings
from placement.types import Plan
from polyfleet import cells
from polyfleet.clearance.standing import State
from polyfleet.inputs import Inputs, ModelView
from polyfleet.inventory import node_of
from polyfleet.scaling import settings, stuck, units
from polyfleet.scaling.force import Reference
from polyfleet.snapshot import Standing, holders, standings, verified


@dataclass(frozen=True, slots=True)
class Readings:
    """The newest reading of every replica, by pod uid, whatever its age; `failed`: why the last poll of one gave none; `second`: those that
    did not answer themselves, and whose reading is of Prometheus."""

    samples: Mapping[str, Sample] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    gateways: Mapping[str, Gateway] = field(default_factory=dict)  # by model
    second: frozenset[str] = frozenset()


NOTHING = Readings()
_COUNTED = (ReplicaState.READY, ReplicaState.LOADING)


def build(
    inputs: Inputs,
    plan: Plan,
    view: ModelView,
    unit: Reference,
    starts: Sequence[tuple[str, float]],
    readings: Readings,
    now: float,
    *,
    wake_fault: str = "",
    slowest: float | None = None,
) -> Look:
    """Of a model with `spec.scaling`. `starts`: (option, P90 of its cold start, s); `slowest`: P95 of the slowest option; `wake_fault`:
    why it may not sleep."""
    spec = view.spec
    assert spec is not None
    assert spec.scaling is not None
    at_zero = not any(not item.leaving for item in standings(view))
    wanted = settings.of(spec, inputs.policy, now, at_zero=at_zero)
    if wake_fault:
        wanted = replace(wanted, sleep=None, min_replicas=max(1, wanted.min_replicas))
    known = dict(starts)
    replicas = tuple(_replica(inputs, view, item, unit, known, readings, now) for item in standings(view))
    startable = {option.id for option in view.resolution.options if verified(view, option)}
    return Look(
        now=now,
        model=view.key,
        settings=_capped(_in_move(wanted, view, replicas)),
        costs=unit.costs,
        replicas=replicas,
        gateway=readings.gateways.get(view.key),
        start_s=tuple(sorted((option, took) for option, took in known.items() if option in startable)),
        stock_known=not inputs.fleet.unknown,
        smallest_stop=_smallest_stop(plan, view, replicas),
        wake_s=slowest,
        aimed=_aimed(view),
    )


def _aimed(view: ModelView) -> int | None:
    """The size that was aimed at last; None = there is none."""
    told = view.state.status.get("desiredReplicas")
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else None


def _in_move(wanted: Settings, view: ModelView, replicas: Sequence[Replica]) -> Settings:
    """A move or a rollout brings the new replicas before the old ones go. Beyond the maximum these are not too many: what is aimed at is
    within it, and the placer holds the maximum in any case."""
    count, aimed = sum(replica.state in _COUNTED for replica in replicas), _aimed(view)
    if aimed is None or not aimed <= wanted.max_replicas < count:
        return wanted
    return replace(wanted, max_replicas=count)


def _capped(wanted: Settings) -> Settings:
    """A fallback above the maximum is the maximum."""
    back = wanted.fallback
    if back is None or back.replicas <= wanted.max_replicas:
        return wanted
    return replace(wanted, fallback=replace(back, replicas=wanted.max_replicas))


def _replica(
    inputs: Inputs, view: ModelView, item: Standing, unit: Reference, starts: Mapping[str, float], readings: Readings, now: float
) -> Replica:
    pod, child = item.pod, item.child
    state = state_of(view, item, now)
    pool = inputs.fleet.pool(inputs.fleet.pool_of.get(node_of(pod), "")) or inputs.fleet.pool(child.pool)
    bound = pod.conditions.get("PodScheduled")
    since = (stuck.seconds(bound.last_transition) if bound is not None and pod.node else None) or stuck.seconds(pod.created) or now
    took = starts.get(child.option)
    option = view.resolution.option(child.option)
    spec = view.spec
    return Replica(
        id=pod.uid,
        option=child.option,
        state=state,
        work_per_s=units.work_of(option, units.stated(spec), unit) if option is not None and spec is not None else None,
        since=since,
        eta=since + took if state is ReplicaState.LOADING and took is not None else None,
        sample=readings.samples.get(pod.uid),
        failed=readings.failed.get(pod.uid, ""),
        hourly_cost=cells.price(pool) * child.devices if pool is not None else 0.0,
    )


def state_of(view: ModelView, item: Standing, now: float) -> ReplicaState:
    """A replica of a verified pair that waits for its entry check is on its way; one whose pair has no verdict is a candidate."""
    if item.leaving:
        return ReplicaState.DRAINING
    if item.serving:
        return ReplicaState.READY
    stand = view.clearance.of(item.pod)
    refused = stand is not None and view.clearance.required and stand.state in (State.CANDIDATE, State.BLOCKED, State.REFUSED)
    if refused or any(item.pod.uid == other.pod.uid for other in holders(view)):
        return ReplicaState.CANDIDATE
    return ReplicaState.STUCK if stuck.stuck(item.pod, now) else ReplicaState.LOADING


def _smallest_stop(plan: Plan, view: ModelView, replicas: Sequence[Replica]) -> float | None:
    """Work of the next replica less: the plan's prepared step; a plan that must not shrink has none, and then the dearest work goes first,
    as the placer would choose."""
    step = next((row for row in plan.ladder if row.model == view.key and row.delta == -1), None)
    if step is not None and step.work_per_s > 0:
        return step.work_per_s
    serving = [r for r in replicas if r.state is ReplicaState.READY and r.work_per_s]
    first = min(serving, key=lambda r: (-r.hourly_cost / (r.work_per_s or 1.0), r.work_per_s or 0.0, r.id), default=None)
    return first.work_per_s if first is not None else None


def wake(starts: Sequence[tuple[str, float]], view: ModelView) -> tuple[float | None, str]:
    """(P90 of the quickest option, why scale to zero is refused or ""). A wait that is not known refuses nothing."""
    quickest = min((took for option, took in starts if view.resolution.option(option) is not None), default=None)
    spec = view.spec
    sleep = spec.scaling.scale_to_zero if spec is not None and spec.scaling is not None else None
    most = sleep.max_wake_seconds if sleep is not None else None
    if quickest is None or most is None or quickest <= most:
        return quickest, ""
    return quickest, (
        f"a start takes {quickest:.0f} s (P90) and spec.scaling.scaleToZero.maxWakeSeconds is {most}: one replica stays;"
        f" set maxWakeSeconds to {math.ceil(quickest)} or more, or minReplicas to 1"
    )
