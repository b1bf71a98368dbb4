"""How many replicas may still be moved in this hour (`stability.maxMovesPerHour`).

Moves are counted over time from the plans that were begun, not per plan, so neither a restart nor many small plans give more of them.
A plan counts for one hour from its condition Applied, which turned when it was carried out or begun. Moves of the plan that is being
carried out and are still to be made were paid for when it was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from placement.types import Plan, Snapshot
from polyfleet.plans.stored import APPLYING, Stored

WINDOW = timedelta(hours=1)


def of_plan(plan: Plan, snapshot: Snapshot) -> dict[str, int]:
    """Per model: replicas that stop while the model starts others."""
    owner = {replica.id: replica.model for replica in snapshot.replicas}
    stops = Counter(owner[uid] for uid in plan.stop if uid in owner)
    starts = Counter(start.model for start in plan.starts)
    return {model: min(stops[model], starts[model]) for model in sorted(stops.keys() & starts.keys())}


@dataclass(frozen=True, slots=True)
class ForRoom:
    """Replicas of `model` that go to other nodes so that one of `other`, which is of no higher priority, fits on `node` of `pool`."""

    model: str
    other: str
    node: str
    pool: str
    replicas: tuple[str, ...]


def for_room(plan: Plan, snapshot: Snapshot) -> tuple[ForRoom, ...]:
    """What `stability.defragment` moves in this plan and is still to be moved; in the order of the models."""
    if not snapshot.policy.defragment:
        return ()
    owner = {replica.id: replica.model for replica in snapshot.replicas}
    priority = {model.name: model.priority for model in snapshot.models}
    pools = {cell.name: cell.pool for cell in snapshot.cells}
    moved = of_plan(plan, snapshot)
    stops = set(plan.stop)
    found: list[ForRoom] = []
    for start in plan.starts:
        going: dict[str, list[str]] = {}
        for uid in sorted(stops.intersection(start.after)):
            model = owner[uid]
            if model in moved and model != start.model and priority.get(start.model, 0) <= priority[model]:
                going.setdefault(model, []).append(uid)
        pool = pools.get(start.cell, "")
        found += [ForRoom(model, start.model, start.node, pool, tuple(uids)) for model, uids in going.items()]
    return tuple(sorted(found, key=lambda item: (item.model, item.other, item.node)))


def spent(stored: Iterable[Stored], now: str) -> int:
    since = datetime.fromisoformat(now) - WINDOW
    return sum(item.moves for item in stored if item.begun and (item.phase == APPLYING or _at(item) > since))


def _at(item: Stored) -> datetime:
    _, _, moment = item.condition
    return datetime.fromisoformat(moment or item.state.created)


def left(per_hour: int, stored: Iterable[Stored], now: str, outstanding: int) -> int:
    """`outstanding`: moves of the plan being carried out that are still to be made."""
    return max(0, per_hour - spent(stored, now) + outstanding)
