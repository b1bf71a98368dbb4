"""`rollout.progressDeadline`: which wanted revision does not come up, how long already, and whether it is given up. Pure.

Progress is read from the cluster: a pod that was created, bound, or came up. The clock of a revision begins anew with each of them. A
candidate that is up is judged by its verdict and by no deadline: an undecided check goes on with its own pauses, and time never
promotes or ends it.

Only what something else can do the work of is given up, where `autoRollback` allows it: then the revision's replicas leave, the earlier
one goes on, and the revision is not tried again. What would leave nothing behind stays, and the status says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from hwprofiles.schema import duration_seconds
from polyfleet import naming, revisions
from polyfleet.clearance.standing import State
from polyfleet.inputs import ModelView
from polyfleet.progress import MOST, Late, RolledBack, stored
from polyfleet.serving import engine_up
from polyfleet.snapshot import Standing, current, holders, stale, standings
from polyfleet.state import PodState

Key = tuple[str, str, str]  # profile, variant, revision


def wanted(view: ModelView) -> frozenset[Key]:
    """What the model asks for now."""
    found = set()
    for item in view.rendered:
        profile, variant = (item.annotations.get(name) or item.labels.get(name, "") for name in (naming.PROFILE, naming.VARIANT))
        found.add((profile, variant, item.revision))
    return frozenset(found)


def late(view: ModelView, now: str | None) -> tuple[Late, ...]:
    """Every revision that is on its way beside something that serves, and has replicas that are not up. Sorted."""
    if view.spec is None or view.hold or now is None:
        return ()
    coming = _coming(view)
    deadline = timedelta(seconds=duration_seconds(view.spec.rollout.progress_deadline))
    moment, found = datetime.fromisoformat(now), []
    for key in sorted({_key(item) for item in coming}):
        own = [item for item in standings(view) if not item.leaving and _key(item) == key]
        others = [item for item in standings(view) if not item.leaving and item.serving and _key(item) != key]
        since = max((text for item in own for text in _progress(item.pod)), default="")
        if not since or not others or view.given_up(*key):
            continue
        due = datetime.fromisoformat(since) + deadline
        youngest = max((item for item in coming if _key(item) == key), key=lambda item: (item.pod.created, item.pod.uid))
        found.append(Late(*key, due.isoformat().replace("+00:00", "Z"), moment >= due, _says(youngest.pod)))
    return tuple(found)


def _coming(view: ModelView) -> list[Standing]:
    """Bound replicas of the wanted revision that are not up: candidates, or without a gate those of a rollout."""
    if view.clearance.required:
        states = ((item, view.clearance.of(item.pod)) for item in holders(view))
        found = [item for item, stand in states if stand is not None and stand.state is State.CANDIDATE and not engine_up(item.pod)]
    elif any(stale(view, item) and item.serving for item in standings(view)):
        found = [i for i in standings(view) if not i.leaving and not i.serving and not engine_up(i.pod) and current(view, i.child)]
    else:
        found = []
    return [item for item in found if item.pod.node]


def _key(item: Standing) -> Key:
    return item.child.profile, item.child.variant, item.child.revision


def _progress(pod: PodState) -> Iterable[str]:
    """When it was bound, when it came up; the pod's own age only where nothing else is told."""
    times = [pod.conditions[kind] for kind in ("PodScheduled", "ContainersReady", "Ready") if kind in pod.conditions]
    found = [row.last_transition for row in times if row.status == "True" and row.last_transition]
    return found or [text for text in (pod.created,) if text]


def _says(pod: PodState) -> str:
    for container in pod.containers:
        if container.reason:
            return f"{container.reason} on {pod.node}"
    return f"it is not up on {pod.node}"


def given_up(view: ModelView, now: str) -> tuple[RolledBack, ...]:
    """What `status.rolledBack` is to say: entries that still speak of what is wanted, and those that are added now."""
    asked = wanted(view) if view.accepted is None and not view.hold else None
    kept = [item for item in stored(view.state) if asked is None or (item.profile, item.variant, item.revision) in asked]
    if view.spec is not None and view.spec.rollout.auto_rollback:
        kept += [_entry(view, item, now) for item in view.late if item.over and replaceable(view, item)]
    return tuple(kept[-MOST:])


def _entry(view: ModelView, item: Late, at: str = "") -> RolledBack:
    after = view.spec.rollout.progress_deadline if view.spec is not None else ""
    return RolledBack(item.profile, item.variant, item.revision, f"no progress for {after}: {item.text}", at)


def replaceable(view: ModelView, item: Late) -> bool:
    """Whether anything is left if it goes: a candidate is no capacity; without a gate an earlier revision must be able to grow again."""
    if view.clearance.required:
        return True
    return bool(revisions.earlier(replace(view, rolled_back=(*view.rolled_back, _entry(view, item)))))


def next_due(views: Iterable[ModelView], now: str) -> float | None:
    """Seconds until the next deadline passes; None while none runs."""
    moment = datetime.fromisoformat(now)
    left = [(datetime.fromisoformat(item.due) - moment).total_seconds() for view in views for item in view.late if not item.over]
    return min(left, default=None)
