"""Whose rollout may go on while `stability.maxConcurrentRollouts` models are at it. Pure.

Those that have begun go on, then the most urgent ones have their turn. A rollout that has its turn and can do nothing with it, because no
replica may stop for its successor and the successor finds no devices, is *stuck*: it keeps trying and says so, and the next one in the
row has a turn beside it. Only a plan tells who is stuck, so it is asked once more then; the answer is a function of what is observed.
What the next one leaves may be just what the stuck one lacks: then it waits, and has its turn when the other has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from placement.types import Plan
from polyfleet import demand, revisions, rollout, snapshot
from polyfleet.inputs import Inputs, ModelView
from polyfleet.snapshot import current, standings


def in_turn(views: Mapping[str, ModelView], most: int) -> dict[str, ModelView]:
    """At most so many models roll at once. A model whose replicas must not serve waits for nobody."""
    rolling = [key for key, view in sorted(views.items()) if view.superseded and not _goes_back(view)]
    running = [key for key in rolling if begun(views[key])]
    others = _in_order(views, (key for key in rolling if key not in running))
    waiting = set(others[max(0, most - len(running)) :])
    return {key: _waits(view) if key in waiting else view for key, view in views.items()}


def passed_on(inputs: Inputs, plan: Plan, now: str | None, gave: Collection[str] = ()) -> Inputs | None:
    """The same with a turn for as many that wait as are stuck by this plan; None where nobody waits, or nobody is stuck.

    `gave`: models that earlier plans of this cycle found stuck. Where more would roll now than may, they wait, and have no other turn in
    this cycle."""
    views = dict(inputs.models)
    spare = inputs.policy.stability.max_concurrent_rollouts - len(_using(views, plan))
    if spare < 0:
        late = [key for key in _in_order(views, _using(views, plan)) if key in gave][spare:]
        changed = {key: _waits(views[key]) for key in late}
    else:
        waiting = _in_order(views, (key for key, view in views.items() if view.waits_turn and key not in gave))
        changed = {key: _turns_up(views[key]) for key in waiting[:spare]}
    if not changed:
        return None
    views |= changed
    built = snapshot.build(views, inputs.fleet, inputs.policy, now)
    shown = replace(built, policy=inputs.snapshot.policy)  # with the moves that this hour has left
    return replace(inputs, models=views, snapshot=shown, demand=demand.demand(shown.models, (view.asked for view in views.values())))


def too_many(inputs: Inputs, plan: Plan) -> bool:
    """Whether more models roll by this plan than may."""
    using = _using(inputs.models, plan)
    return len(using) > max(inputs.policy.stability.max_concurrent_rollouts, sum(1 for key in using if begun(inputs.models[key])))


def gave(inputs: Inputs, plan: Plan) -> frozenset[str]:
    """Models whose turn another one may have, by this plan."""
    return frozenset(key for key, view in inputs.models.items() if stuck(view, plan))


def stuck(view: ModelView, plan: Plan) -> bool:
    """Whether its rollout could begin, and this plan has no place for its successors."""
    if view.spec is None or not view.superseded or begun(view) or rollout.allowance(view.spec, view.target):
        return False
    if any(item.pod.uid in view.superseded and not item.serving for item in standings(view)):
        return False  # a broken one makes room
    short = sum(item.replicas for item in plan.shortfalls if item.model == view.key)
    return short >= len(view.superseded)


def begun(view: ModelView) -> bool:
    """Some of the earlier replicas are leaving already, or have a successor on their own hardware."""
    items = standings(view)
    profiles = {item.child.profile for item in items if item.pod.uid in view.superseded}
    return any((current(view, item.child) is None) == item.leaving and item.child.profile in profiles for item in items)


def _using(views: Mapping[str, ModelView], plan: Plan) -> list[str]:
    return [key for key, view in sorted(views.items()) if view.superseded and not _goes_back(view) and not stuck(view, plan)]


def _waits(view: ModelView) -> ModelView:
    return replace(view, frozen=frozenset(), superseded=frozenset(), waits_turn=True, queued=view.superseded)


def _turns_up(view: ModelView) -> ModelView:
    return replace(view, frozen=view.queued, superseded=view.queued, waits_turn=False, queued=frozenset())


def _goes_back(view: ModelView) -> bool:
    return any(item.pod.uid in view.superseded and revisions.must_go(view, item) for item in standings(view))


def _in_order(views: Mapping[str, ModelView], keys: Iterable[str]) -> list[str]:
    """The most urgent first, then by name."""
    return sorted(keys, key=lambda key: (-spec.priority if (spec := views[key].spec) is not None else 0, key))
