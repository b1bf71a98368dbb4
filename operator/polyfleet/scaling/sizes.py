"""How an automatically scaled model is asked for, and what its size is. Pure.

Two forms, one size:

    range   the placer gets bounds and work, and chooses how many replicas of which option carry it. Its plan gives the size
    count   the placer gets a number, as for a fixed size: while nothing is known of the load, while the model is held, while replicas of an
            earlier revision are replaced, and while no option may start. It follows a need that grows, and never shrinks

`ModelView.target` is the size in force: what the last plan aimed at (`status.desiredReplicas`), inside today's bounds. Rollouts, drains and
the accuracy gate reckon with it like with a fixed size. Once a plan is settled, the plan's own number takes its place (`settle`), and that
is what `status.desiredReplicas` says. Candidates are in neither.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from autoscaling.types import MetricState
from placement.types import ModelDemand, Outcome, Plan, Reason, Shortfall
from polyfleet import demand
from polyfleet.api import ModelDeploymentSpec
from polyfleet.children import Child, recorded_size
from polyfleet.inputs import Inputs, ModelView
from polyfleet.scaling import units
from polyfleet.scaling.force import Force
from polyfleet.snapshot import Standing, holders, option_of, standings, unasked, verified
from polyfleet.state import CustomState
from polyfleet.wake import path

AUTO, ADVISE, EXTERNAL = "Auto", "Advise", "External"
_EPS = 1e-9


def automatic(spec: ModelDeploymentSpec | None) -> bool:
    """Whether the operator writes the size."""
    return spec is not None and spec.scaling is not None and spec.scaling.mode == AUTO


def bounds(spec: ModelDeploymentSpec, force: Force | None, least: int = 0) -> tuple[int, int]:
    """Lowest and highest size that count now: of the spec as it is at this moment, raised by what the decision knows (cron floors,
    fallback). Where a wake takes longer than is allowed, the lowest is one. `least`: one where nobody would wake it."""
    scaling = spec.scaling
    assert scaling is not None
    high = scaling.max_replicas
    low = min(max(scaling.min_replicas, least), high)
    if force is not None:
        low = max(low, force.demand.min_replicas, 1 if force.wake_fault else 0)
    return min(low, high), high


def last(state: CustomState, owned: Sequence[Child]) -> int | None:
    """The size that was aimed at last: as told, else as the children say; None = there is no trace of any."""
    told = state.status.get("desiredReplicas")
    if isinstance(told, int) and not isinstance(told, bool) and told >= 0:
        return told
    return recorded_size(tuple(owned)) if owned else None


def target(spec: ModelDeploymentSpec, state: CustomState, owned: Sequence[Child], force: Force | None, *, least: int = 0) -> int:
    """Replicas that the spec asks for before any plan is made. `least`: as for `bounds`."""
    before = last(state, owned)
    if spec.scaling is None or spec.suspend or spec.scaling.mode == EXTERNAL:
        return demand.target(spec, before or 0)
    if spec.scaling.mode == ADVISE:
        return demand.target(spec, before if before is not None else recorded_size(tuple(owned)))
    low, high = bounds(spec, force, least)
    if before is None or (before == 0 and state.status.get("desiredReplicas") is None):
        # Nobody has decided on it yet: an unknown load must not put a model to sleep.
        return min(max(low, 1), high)
    return min(max(before, low), high)


def sized(view: ModelView) -> ModelView:
    """An automatically scaled model in the form in which the placer is asked for it. Call it once `earlier` is known."""
    spec, force = view.spec, view.force
    if spec is None or force is None or not automatic(spec) or spec.suspend or view.hold or not _carries(view):
        return view
    low, high = bounds(spec, force, 1 if path.awake(view) or path.waits(view, len(_carrying(view))) else 0)
    found = force.demand
    if found.metrics is MetricState.UNKNOWN:
        low = max(low, min(view.target, high))  # what is lost meanwhile is replaced
    if _mixed(view) or unasked(view):
        size = min(max(view.target, _needed(view, found.work_per_s), low), high)
        return replace(view, target=size, wanted=size)
    shrink, work = found.may_shrink, found.work_per_s
    if not shrink and low <= view.target < len(_carrying(view)):
        # More run than were aimed at: a move or a rollout brings the new ones before the old ones go, and those are still to go. What was
        # aimed at are the youngest; their work stays, for two weak old ones are no more than two strong new ones by number only.
        low, shrink, work = min(view.target, high), True, max(work, _youngest(view, view.target))
    asked = ModelDemand(
        view.key, work_per_s=work, bucket_work=found.bucket_work, kv_floor=_cache(view), may_shrink=shrink,
        reason=f"Load since {force.since}",
    )  # fmt: skip
    return replace(view, bounds=(low, high), asked=asked, surplus=shrink and _surplus(view, work, low))


def _cache(view: ModelView) -> float:
    """Tokens of KV cache that must stay, so that those who stay can hold what the others held (`Demand.kv_floor`). Not asked for where the
    cache of some replica is not known, and never more than there is: it keeps, and is no reason to grow."""
    force = view.force
    if force is None or force.demand.kv_floor <= 0.0:
        return 0.0
    each = dict(force.cache)
    there = [each.get(item.child.option) for item in _carrying(view)]
    known = [tokens for tokens in there if tokens is not None]
    return min(force.demand.kv_floor, sum(known)) if len(known) == len(there) else 0.0


def _youngest(view: ModelView, count: int) -> float:
    """Work/s of so many of the replicas that stay, the youngest first; 0 for one without a number."""
    known = rates(view)
    order = sorted(_carrying(view), key=lambda item: (item.pod.created, item.pod.uid), reverse=True)
    return sum(known.get(item.child.option, 0.0) for item in order[:count])


def _surplus(view: ModelView, work: float, low: int) -> bool:
    """Whether some replica is one too many. `stability.minResidence` is about moves for money, and not about what a decision gives back."""
    known = rates(view)
    mine = [known[item.child.option] for item in _carrying(view) if item.child.option in known]
    return len(mine) > low and bool(mine) and sum(mine) - min(mine) >= work - _EPS


def _carries(view: ModelView) -> bool:
    """Whether some option that may start has a number: else work is no question that a plan could answer."""
    load = units.stated(view.spec) if view.spec is not None else None
    return any(verified(view, option) and units.work_of(option, load, view.unit) for option in view.resolution.options)


def _mixed(view: ModelView) -> bool:
    """Whether replicas stay that carry work and of which the placer does not know it: those of an earlier revision."""
    known = {option.id for option in view.resolution.options}
    return any(not item.leaving and option_of(view, item.child) not in known for item in standings(view))


def _needed(view: ModelView, work: float) -> int:
    """Replicas like those that stay, else of the weakest option, for this much work."""
    known = rates(view)
    mine = [known[item.child.option] for item in _carrying(view) if item.child.option in known]
    each = sum(mine) / len(mine) if mine else min(known.values(), default=0.0)
    return math.ceil(work / each - _EPS) if each > 0 else 0


def rates(view: ModelView) -> dict[str, float]:
    """Work/s of one replica of each option that has a number."""
    load = units.stated(view.spec) if view.spec is not None else None
    return {option.id: rate for option in view.resolution.options if (rate := units.work_of(option, load, view.unit))}


def _carrying(view: ModelView) -> list[Standing]:
    """Replicas that stay, candidates left out."""
    apart = {item.pod.uid for item in holders(view)}
    return [item for item in standings(view) if not item.leaving and item.pod.uid not in apart]


def advised(view: ModelView) -> int:
    """The size that is recommended where somebody else sets it: replicas like those that run, or of the weakest option, for the work that
    is asked; what runs while nothing is known or nothing may shrink."""
    spec, force = view.spec, view.force
    if spec is None or spec.scaling is None or force is None:
        return view.target
    low, high = bounds(spec, force, 1 if path.awake(view) else 0)
    found = force.demand
    size = max(low, _needed(view, found.work_per_s))
    if not found.may_shrink:
        size = max(size, view.target)
    return min(size, high)


# ---- after the plan


def settle(inputs: Inputs, plan: Plan) -> tuple[Inputs, Plan]:
    """The views with the plan's own sizes, and the plan without a shortfall that only says "the maximum is reached": that is no missing
    device but `ScalingActive`, reason AtMaximum. A plan that moves nothing because it could not be made changes no size."""
    ranged = {key: view for key, view in inputs.models.items() if view.bounds is not None}
    if not ranged or inputs.fleet.unknown or (plan.outcome is Outcome.KEPT_OLD and not plan.starts and not plan.stop):
        return inputs, plan
    placed: Counter[str] = Counter()
    for share in plan.assignments:
        placed[share.model] += share.replicas
    kept = set(plan.keep)
    full = {key for key, view in ranged.items() if placed[key] - _apart(inputs, view, kept) >= (view.bounds or (0, 0))[1]}
    shortfalls = tuple(item for item in plan.shortfalls if not (item.model in full and _only_maximum(item)))
    short = {item.model: item.replicas for item in shortfalls}
    models = dict(inputs.models)
    for key, view in ranged.items():
        size = placed[key] - _apart(inputs, view, kept) + short.get(key, 0)
        models[key] = replace(view, target=size, wanted=size)
    return replace(inputs, models=models), replace(plan, shortfalls=shortfalls)


def _apart(inputs: Inputs, view: ModelView, kept: set[str]) -> int:
    """Candidates among the plan's replicas."""
    return sum(1 for item in holders(view) if item.pod.uid in kept) + (view.key in inputs.trials)


def _only_maximum(short: Shortfall) -> bool:
    return bool(short.reasons) and short.reasons[0].reason is Reason.SLO_UNREACHABLE
