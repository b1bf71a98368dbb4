"""Cold starts as they were here: from bound to serving, the entry check included, per option and state of the node's cache.

*Warm* is a node on which weights of this address were loaded before, as far as this process has seen; every other one is *Cold*. A replica
counts once, when it is let in for the first time, and only if its container never restarted; one that was under test does not count, for a
verdict is no cold start. P90 is the nearest rank of the newest 32. Where nothing was measured the profile's entry is used, and without one
nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polyfleet import naming
from polyfleet.inputs import ModelView
from polyfleet.scaling.stuck import seconds
from polyfleet.snapshot import Standing, holders, listed_start, standings

COLD, WARM = "Cold", "Warm"
KEPT = 32  # of each (option, cache state)
MOST_OPTIONS = 64
LONGEST_S = 6 * 3600.0  # what took longer was no start but a wait for somebody
Measured = tuple[str, str, float]  # option, cache state, s


@dataclass(slots=True)
class Starts:
    """Of one model. `rows`: (option, cache state) -> seconds, oldest first."""

    rows: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)  # uids that are counted or do not count
    loaded: set[tuple[str, str]] = field(default_factory=set)  # (node, address of the weights)
    _tested: set[str] = field(default_factory=set)

    def look(self, view: ModelView, *, first: bool) -> list[Measured]:
        """What came up since the last look. `first`: replicas that serve already were counted by an earlier process."""
        items = standings(view)
        self._tested |= {item.pod.uid for item in holders(view)}
        found: list[Measured] = []
        for item in sorted(items, key=lambda item: (_admitted(item) or 0.0, item.pod.uid)):
            uid, place = item.pod.uid, (item.pod.node, item.child.text(naming.WEIGHTS))
            if uid in self.seen or not item.serving:
                continue
            self.seen.add(uid)
            cache = WARM if place in self.loaded else COLD
            self.loaded.add(place)
            took = _took(item)
            if first or took is None or uid in self._tested:
                continue
            self.add(item.child.option, cache, took)
            found.append((item.child.option, cache, took))
        there = {item.pod.uid for item in items}
        self.seen &= there
        self._tested &= there
        return found

    def add(self, option: str, cache: str, took: float) -> None:
        row = self.rows.setdefault((option, cache), [])
        row.append(round(took, 3))
        del row[:-KEPT]
        while len(self.rows) > MOST_OPTIONS:
            del self.rows[min(self.rows)]

    def p90(self, option: str) -> float | None:
        return self.rank(option, 0.9)

    def rank(self, option: str, share: float) -> float | None:
        """Over both cache states, the slower counts: which node a replica gets is not known beforehand."""
        rows = [row for (name, _), row in self.rows.items() if name == option and row]
        return max((nearest_rank(row, share) for row in rows), default=None)

    def dump(self) -> list[dict[str, Any]]:
        return [{"option": option, "cache": cache, "seconds": row} for (option, cache), row in sorted(self.rows.items())]


def load(stored: Any) -> Starts:
    """What `dump` gave; rows that cannot be read are left out."""
    found = Starts()
    for row in stored if isinstance(stored, list) else ():
        if not isinstance(row, Mapping) or not isinstance(row.get("seconds"), list):
            continue
        for value in row["seconds"][-KEPT:]:
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST_S:
                found.add(str(row.get("option")), WARM if row.get("cache") == WARM else COLD, float(value))
    return found


def nearest_rank(row: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(row)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def expected(view: ModelView, starts: Starts) -> tuple[tuple[str, float], ...]:
    """(option, P90) of every option for which something is known; sorted."""
    found = {}
    for option in view.resolution.options:
        known = starts.p90(option.id)
        took = known if known is not None else listed_start(option)
        if took is not None:
            found[option.id] = took
    return tuple(sorted(found.items()))


def slowest(view: ModelView, starts: Starts) -> float | None:
    """P95 of the slowest option: a wake takes the cheapest that has room, which may be any. None = nothing is known of any."""
    known = ((starts.rank(option.id, 0.95), listed_start(option)) for option in view.resolution.options)
    return max((took for measured, listed in known if (took := measured if measured is not None else listed) is not None), default=None)


def _admitted(item: Standing) -> float | None:
    """When it became Ready, which the kubelet says once the last readiness gate is True. The gate's own condition has no time: nobody
    fills in `lastTransitionTime` of a pod's condition but who writes it."""
    row = item.pod.conditions.get("Ready")
    return seconds(row.last_transition) if row is not None and row.status == "True" else None


def _took(item: Standing) -> float | None:
    bound, ready = item.pod.conditions.get("PodScheduled"), _admitted(item)
    since = seconds(bound.last_transition) if bound is not None else None
    if since is None or ready is None or any(container.restarts for container in item.pod.containers):
        return None
    return ready - since if 0 < ready - since <= LONGEST_S else None
