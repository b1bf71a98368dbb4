"""Replicas that will not come up soon: the scheduler finds no room for them where the plan saw some, or their image cannot be pulled.

A stuck replica counts as no capacity that is coming and holds nobody up. One that cannot be scheduled also means that its pool does not
have what it seemed to have: it is taken away, its option does not start in that pool for a while, and the plan goes on to the next type.
So does one without an image where the model has another way to run; where it has none, the pod stays and tells why. A revision that is
being rolled out is left to the rollout, which gives it up by its own deadline.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from polyfleet import naming
from polyfleet.children import Child
from polyfleet.inputs import ModelView
from polyfleet.scaling.force import Exhausted, Force
from polyfleet.snapshot import standings, verified
from polyfleet.state import PodState

UNSCHEDULABLE_S = 60.0  # a planned node was free when it was chosen, and the scheduler needs seconds
PULL_S = 300.0  # without an image for so long
BACKOFF_S = 600.0  # a pool rests so long before the option is tried there again
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


def unschedulable(pod: PodState, now: float) -> bool:
    """Its gate is lifted, and the scheduler has not placed it for `UNSCHEDULABLE_S`."""
    row = pod.conditions.get("PodScheduled")
    if pod.node or pod.gates or pod.deleting or row is None or row.status != "False" or row.reason != "Unschedulable":
        return False
    since = seconds(row.last_transition) or seconds(pod.created)
    return since is not None and now - since >= UNSCHEDULABLE_S


def without_image(pod: PodState, now: float) -> bool:
    since = seconds(pod.created)
    return any(c.reason in _NO_IMAGE for c in pod.containers) and since is not None and now - since >= PULL_S


def stuck(pod: PodState, now: float) -> bool:
    return unschedulable(pod, now) or without_image(pod, now)


def found(view: ModelView, now: float) -> list[Exhausted]:
    """Pools that proved to be exhausted for an option of this model; sorted."""
    until = stamp(now + BACKOFF_S)
    rows = {
        (item.child.option, item.child.pool): item.pod.conditions["PodScheduled"].message
        for item in standings(view)
        if unschedulable(item.pod, now)
    }
    resting = {(row.option, row.pool) for row in view.force.exhausted} if view.force is not None else set()
    ways = {(option.id, pool) for option in view.resolution.options for pool in verified(view, option)} - resting
    for item in standings(view) if not view.superseded and not view.hold else ():
        place = (item.child.option, item.child.pool)
        if place in ways and ways - rows.keys() - {place} and without_image(item.pod, now):
            rows[place] = next(f"{c.reason}: {c.message}" for c in item.pod.containers if c.reason in _NO_IMAGE)
    return [Exhausted(option, pool, until, why) for (option, pool), why in sorted(rows.items())]


def merged(before: Iterable[Exhausted], more: Iterable[Exhausted], now: float) -> tuple[Exhausted, ...]:
    """Those that still rest, and new ones; one that is found again rests anew."""
    rows = {(row.option, row.pool): row for row in before if (seconds(row.until) or 0.0) > now}
    for row in more:
        rows.setdefault((row.option, row.pool), row)
    return tuple(rows[key] for key in sorted(rows))


def given_up(owned: Iterable[Child], force: Force | None, now: float) -> tuple[PodState, ...]:
    """Pods that wait in vain in a pool that is known to be exhausted: they are taken away, and the need is planned anew."""
    if force is None or not force.exhausted:
        return ()
    rows = {(row.option, row.pool) for row in force.exhausted}
    waiting = (pod for child in owned if (child.option, child.pool) in rows for pod in child.live)
    return tuple(pod for pod in waiting if pod.labels.get(naming.DRAINING) != "true" and stuck(pod, now))


# ---- time


def seconds(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 stamp; None if it is none."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def stamp(at: float) -> str:
    """The stamp as the API writes it, whole seconds, UTC."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(at))).isoformat().replace("+00:00", "Z")
