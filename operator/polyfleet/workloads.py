"""Sizes of the children, and which pods leave now.

A child's size = replicas that stay + starts of the plan + victims that are not seen draining yet or whose requests have not ended.

A victim leaves in four looks at the cluster, so that its requests end first and the ReplicaSet removes the right pod:
1. `polyfleet.io/serving` False, the lowest deletion cost and the draining label are patched; the size still counts it;
2. the cache shows the label: it is waited for until nothing is in flight, or `drainTimeout` is over (`drain`);
3. the size no longer counts it, and the ReplicaSet removes the not-ready pod with the lowest cost. Where a pod that must stay would go
   before it (one that is not bound, still Pending, or draining with requests in flight), the victim is deleted by its uid instead;
4. it terminates, holding its devices until it is gone.

A serving victim is not drained below the wanted size while a replacement is on its way, unless its devices are what the
replacement waits for, or what another model waits for. For a model that is asked for work the work counts as well: four weak replicas
leave when the strong one that replaces them serves, and not three of them before. With `stability.defragment` the other model must be of
higher priority to take devices at once: who only makes room for an equal one serves in its new place before it leaves the old one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from placement.types import Outcome, Plan
from polyfleet import revisions, rollout
from polyfleet.binding import Slot
from polyfleet.inputs import Inputs, ModelView
from polyfleet.scaling.sizes import rates as rates_of
from polyfleet.snapshot import Standing, standings
from polyfleet.state import PodState

_EPS = 1e-9


@dataclass(frozen=True, slots=True)
class Workload:
    """One model's decision."""

    sizes: dict[str, int]  # Deployment -> replicas; names that do not exist yet included
    drain: tuple[Standing, ...]  # begin to leave now
    remove: tuple[PodState, ...]  # seen draining; deleted by uid
    held: tuple[str, ...]  # victims that stay until their replacement serves


def frozen_sizes(inputs: Inputs, plan: Plan) -> bool:
    """Nothing shrinks on what is not known, nor on a plan that only says "as it is"."""
    return bool(inputs.fleet.unknown) or (plan.outcome is Outcome.KEPT_OLD and not plan.starts and not plan.stop)


def decide(inputs: Inputs, plan: Plan, view: ModelView, slots: tuple[Slot, ...], *, kept: bool = False) -> Workload:
    """`kept`: the plan is not carried out for this model (it waits for an approval): no size moves and nobody begins to leave."""
    items = standings(view)
    frozen = kept or frozen_sizes(inputs, plan)
    victims = [] if frozen else _victims(plan, view, items)
    drain, held = _drainable(plan, view, items, victims, _needed(inputs, plan, view))
    staying = [item for item in items if not item.leaving]
    sizes: Counter[str] = Counter(slot.child for slot in slots)
    for item in staying:
        sizes[item.child.name] += 1
    for item in items:
        if item.leaving and not item.pod.deleting and item.pod.uid in view.in_drain:
            sizes[item.child.name] += 1
    for child in view.children:
        sizes.setdefault(child.name, 0)
        if frozen:
            sizes[child.name] = max(sizes[child.name], child.deployment.replicas)
        elif view.conflict:
            sizes[child.name] = child.deployment.replicas  # whoever writes it has the last word
        elif view.hold:
            # The size of a held model is what its children say: nothing but a finished drain lowers it.
            drained = sum(1 for item in items if item.child.name == child.name and _drained(view, item))
            sizes[child.name] = max(sizes[child.name], child.deployment.replicas - drained)
    remove = () if frozen else tuple(pod for child in view.children for pod in _direct(view, child.name, sizes[child.name], items))
    return Workload(dict(sorted(sizes.items())), tuple(drain), remove, tuple(held))


def _drained(view: ModelView, item: Standing) -> bool:
    """Leaving, with nothing left to wait for, and not removed yet."""
    return item.leaving and not item.pod.deleting and item.pod.uid not in view.in_drain


def _victims(plan: Plan, view: ModelView, items: tuple[Standing, ...]) -> list[Standing]:
    """Staying replicas that the plan stops, in its order, then superseded ones."""
    by_uid = {item.pod.uid: item for item in items if not item.leaving}
    order = [uid for uid in plan.stop if uid in by_uid]
    order += sorted(uid for uid in view.superseded if uid in by_uid)
    return [by_uid[uid] for uid in order]


def _needed(inputs: Inputs, plan: Plan, view: ModelView) -> set[str]:
    """Replicas for whose devices somebody waits who may not be kept waiting for a replacement to serve."""
    priority = {model.name: model.priority for model in inputs.snapshot.models}
    own = priority.get(view.key, 0)
    # Who waits for a replacement that itself waits for somebody could wait for ever.
    own_starts = [start for start in plan.starts if start.model == view.key]
    makes_room = inputs.policy.stability.defragment and not any(start.after for start in own_starts)
    return {
        uid
        for start in plan.starts
        for uid in start.after
        if not makes_room or start.model == view.key or priority.get(start.model, own) > own
    }


def _drainable(
    plan: Plan, view: ModelView, items: tuple[Standing, ...], victims: list[Standing], needed: set[str]
) -> tuple[list[Standing], list[str]]:
    leaving = {item.pod.uid for item in victims}
    coming = any(start.model == view.key for start in plan.starts) or any(
        not item.serving and not item.leaving and item.pod.uid not in leaving for item in items
    )
    serving = sum(1 for item in items if item.serving and not item.leaving)
    floor, last = _floor(plan, view), _last(view)
    rates = rates_of(view) if view.asked is not None else {}
    work = sum(rates.get(item.child.option, 0.0) for item in items if item.serving and not item.leaving)
    least_work = _least_work(view, work, floor)
    drain: list[Standing] = []
    held: list[str] = []
    for item in victims:
        must_wait = item.pod.uid in view.superseded or coming
        # Whatever may be unavailable in a rollout: what must not serve is still better than nothing, until something else is up.
        least = max(floor, last) if revisions.must_go(view, item) else floor
        rate = rates.get(item.child.option, 0.0)
        enough = serving - 1 >= least and (work - rate >= least_work - _EPS or revisions.must_go(view, item))
        if not item.serving or item.pod.uid in needed or not must_wait or enough:
            drain.append(item)
            serving -= item.serving
            work -= rate * item.serving
        else:
            held.append(item.pod.uid)
    return drain, held


def _least_work(view: ModelView, serving: float, floor: int) -> float:
    """Work/s that must go on being served until what replaces it serves: what is asked, as far as it is served today, less what the
    rollout allows to be unavailable; all that is served where nothing may shrink."""
    if view.asked is None:
        return 0.0
    share = min(1.0, floor / view.target) if view.target > 0 else 0.0
    return (min(serving, view.asked.work_per_s) if view.asked.may_shrink else serving) * share


def _last(view: ModelView) -> int:
    """Serving replicas that a Block leaves, where nobody said that there may be none for a while."""
    return 0 if view.spec is None or view.spec.rollout.allow_downtime else min(1, view.target)


def _floor(plan: Plan, view: ModelView) -> int:
    """Serving replicas that a change must leave."""
    if view.spec is None:
        return view.target
    unavailable = rollout.max_unavailable(view.spec, view.target)
    short = sum(item.replicas for item in plan.shortfalls if item.model == view.key)
    if view.spec.rollout.allow_downtime and view.superseded and short:
        # Replicas that have no place in any revision are no reason to keep the old one.
        unavailable = max(1, unavailable) + max(0, short - len(view.superseded))
    return max(0, view.target - unavailable)


def _direct(view: ModelView, name: str, size: int, items: tuple[Standing, ...]) -> list[PodState]:
    """Drained pods of a child that the ReplicaSet would not remove first, or not remove at all."""
    child = next(child for child in view.children if child.name == name)
    drained = [item.pod for item in items if item.child.name == name and _drained(view, item)]
    if not drained:
        return []
    gone = {pod.uid for pod in drained}
    others = [pod for pod in child.live if pod.uid not in gone]
    surplus = max(0, len(others) - size)
    before = sum(1 for pod in others if not pod.node or pod.phase == "Pending" or pod.uid in view.in_drain)
    return drained if len(others) < size or before > surplus else []
