"""Spill-over: replicas on dearer hardware because the preferred type has no room. Pure.

The preferred option is the one with the least money per work among those that may start and that some node of the fleet can hold. What runs
elsewhere at a higher price is spilled while the preferred one has no room for one more; once told, it stays told until nothing runs at the
higher price any more, for the way back takes moves. A spread over vendors that the user asked for is no spill-over.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from polyfleet import cells
from polyfleet.fleet import Pool
from polyfleet.inputs import Inputs, ModelView
from polyfleet.resolve import ResolvedOption
from polyfleet.scaling import units
from polyfleet.snapshot import holders, standings, verified

REASON = "SpillOver"
_EPS = 1e-9


@dataclass(frozen=True, slots=True)
class Over:
    """`replicas`: ((preferred profile, profile), count), sorted. `room`: the preferred type could take one again."""

    preferred: str
    replicas: tuple[tuple[tuple[str, str], int], ...]
    room: bool
    text: str

    @property
    def count(self) -> int:
        return sum(count for _, count in self.replicas)


def told(view: ModelView) -> bool:
    """Whether the stored status says so."""
    rows = view.state.status.get("conditions") or ()
    return any(row.get("type") == "Degraded" and row.get("status") == "True" and row.get("reason") == REASON for row in rows)


def over(inputs: Inputs, view: ModelView) -> Over | None:
    """None where nothing is spilled, or nothing can be said."""
    if view.bounds is None or view.spec is None or inputs.fleet.unknown or _spread(view):
        return None
    prices = {option.id: price for option in view.resolution.options if (price := _price(inputs, view, option)) is not None}
    options = {option.id: option for option in view.resolution.options}
    if not prices:
        return None
    best = min(prices, key=lambda name: (prices[name], name))
    apart = {item.pod.uid for item in holders(view)}
    dearer: Counter[str] = Counter()
    for item in standings(view):
        name = item.child.option
        if not item.leaving and item.pod.uid not in apart and name in prices and prices[name] > prices[best] + _EPS:
            dearer[options[name].profile] += 1
    room = any(_room(pool, options[best]) for pool in _pools(inputs, view, options[best]))
    if not dearer or (room and not told(view)):
        return None
    profile = options[best].profile
    rows = tuple(((profile, name), count) for name, count in sorted(dearer.items()))
    where = ", ".join(f"{count} on {name}" for (_, name), count in rows)
    pools = ", ".join(sorted(pool.name for pool in _pools(inputs, view, options[best])))
    left = f"{profile} has room again: they go back as FleetPolicy stability allows" if room else f"{profile} has no room ({pools})"
    return Over(profile, rows, room, f"{where} instead of {profile}, the cheapest per work: {left}")


def _spread(view: ModelView) -> bool:
    spread = view.spec.placement.spread if view.spec is not None else None
    return spread is not None and ((spread.min_vendors or 1) > 1 or spread.max_vendor_share_percent is not None)


def _pools(inputs: Inputs, view: ModelView, option: ResolvedOption) -> list[Pool]:
    """Where a new replica of it may start by every rule, exhausted pools included."""
    names = set(verified(view, option))
    return [pool for pool in inputs.fleet.pools if pool.name in names and pool.schedulable]


def _price(inputs: Inputs, view: ModelView, option: ResolvedOption) -> float | None:
    """Money per work of one replica in its cheapest pool; None where it may not start, nothing could ever hold it, or it has no number."""
    spec = view.spec
    work = units.work_of(option, units.stated(spec), view.unit) if spec is not None else None
    found = [pool for pool in _pools(inputs, view, option) if any(node.installed >= option.devices for node in pool.nodes)]
    if not work or not found:
        return None
    return min(cells.price(pool) for pool in found) * option.devices / work


def _room(pool: Pool, option: ResolvedOption) -> bool:
    return any(not node.reason and node.free >= option.devices for node in pool.nodes)
