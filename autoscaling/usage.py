"""What a fleet is used for: work, cost and utilisation per model and device type, idle devices, and what one vendor alone would do.

A report is a sum over intervals in which nothing changed: one interval of an hour for a fleet as it stands, many for a simulated day. Work
of one model is in one unit (reference work-seconds, or output tokens where a model has no work unit yet), so it is added up per model and
never over models. None is unknown: a load that nobody stated or measured gives no utilisation, and a sum with an unknown part is unknown.

Load goes to the replicas of a model in proportion to what they can carry, as the router shares it out, and beyond that to nobody: what the
replicas cannot carry is `unserved`. Pure; who makes the plans for one vendor is the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HOUR_S = 3600.0


class UsageError(ValueError):
    """An interval that makes no sense; names the field and the value."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Replicas of one model on one device type in one pool while nothing changed."""

    model: str
    vendor: str
    profile: str
    pool: str
    replicas: int
    devices: int  # of all of them
    hourly_cost: float  # of all of them
    capacity: float | None  # work/s of those that serve; None = unknown


@dataclass(frozen=True, slots=True)
class Interval:
    seconds: float
    holdings: tuple[Holding, ...]
    load: tuple[tuple[str, float | None], ...] = ()  # model -> work/s that arrives; None or absent = unknown


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one device type over all intervals."""

    model: str
    vendor: str
    profile: str
    replica_hours: float
    device_hours: float
    cost: float
    capacity: float | None  # work that could have been done
    work: float | None  # work that was done

    @property
    def utilisation(self) -> float | None:
        """Share of the capacity that was used, 0 to 1; None = unknown, or nothing that could do work."""
        return self.work / self.capacity if self.work is not None and self.capacity else None

    @property
    def cost_per_work(self) -> float | None:
        """Money per unit of work done; None = unknown, or none was done."""
        return self.cost / self.work if self.work else None


@dataclass(frozen=True, slots=True)
class Stock:
    """Devices of one pool as they stand. The parts add up: allocatable = ours + others + free, and stranded is a part of free."""

    pool: str
    vendor: str
    profile: str
    installed: int
    allocatable: int
    ours: int
    others: int
    free: int
    stranded: int  # free, but on nodes where no model of the fleet could start a replica
    closed: int  # free, but nothing may start there: node or pool out, limit or reserve of the pool
    known: bool = True  # False: the inventory cannot be read, and these numbers are what was last known

    @property
    def withdrawn(self) -> int:
        return max(0, self.installed - self.allocatable)


@dataclass(frozen=True, slots=True)
class Alternative:
    """The same demand on one vendor's pools alone."""

    vendor: str
    hourly_cost: float
    placed: int
    missing: int  # replicas that do not fit there
    short: tuple[str, ...]  # models that are short or cannot run there, sorted
    failed: str = ""  # why no plan was made


@dataclass(frozen=True, slots=True)
class Usage:
    seconds: float
    rows: tuple[Row, ...]  # by model, profile
    unserved: tuple[tuple[str, float | None], ...]  # model -> work that no replica could carry; None = unknown
    stock: tuple[Stock, ...] = ()
    alternatives: tuple[Alternative, ...] = ()

    @property
    def cost(self) -> float:
        return sum(row.cost for row in self.rows)

    def of_profile(self) -> list[tuple[str, str, float, float, float]]:
        """(profile, vendor, replica-hours, device-hours, cost) of each device type over all models, by name."""
        found: dict[tuple[str, str], tuple[float, float, float]] = {}
        for row in self.rows:
            replicas, devices, cost = found.get((row.profile, row.vendor), (0.0, 0.0, 0.0))
            found[(row.profile, row.vendor)] = (replicas + row.replica_hours, devices + row.device_hours, cost + row.cost)
        return [(profile, vendor, *sums) for (profile, vendor), sums in sorted(found.items())]


def usage(intervals: Iterable[Interval], stock: Sequence[Stock] = (), alternatives: Sequence[Alternative] = ()) -> Usage:
    """The report. Sums run in sorted order, so that the order of holdings changes nothing. Raises UsageError."""
    seconds = 0.0
    sums: dict[tuple[str, str, str], list[float | None]] = {}
    unserved: dict[str, float | None] = {}
    for interval in intervals:
        _sensible(interval)
        seconds += interval.seconds
        load = dict(interval.load)
        by_model: dict[str, list[Holding]] = {}
        for holding in sorted(interval.holdings, key=lambda item: (item.model, item.profile, item.vendor, item.pool, item.replicas)):
            by_model.setdefault(holding.model, []).append(holding)
        for model in sorted({*by_model, *load}):
            own = by_model.get(model, [])
            arriving = load.get(model)
            total = _sum([item.capacity for item in own])
            share = None if arriving is None or total is None else min(1.0, arriving / total) if total > 0 else 0.0
            left = None if arriving is None or total is None else max(0.0, arriving - total) * interval.seconds
            unserved[model] = _plus(unserved.get(model, 0.0), left)
            for item in own:
                row = sums.setdefault((item.model, item.profile, item.vendor), [0.0, 0.0, 0.0, 0.0, 0.0])
                could = None if item.capacity is None else item.capacity * interval.seconds
                did = None if could is None or share is None else could * share
                hours = interval.seconds / HOUR_S
                added = (item.replicas * hours, item.devices * hours, item.hourly_cost * hours, could, did)
                for place, value in enumerate(added):
                    row[place] = _plus(row[place], value)
    rows = tuple(
        Row(model, vendor, profile, found[0] or 0.0, found[1] or 0.0, found[2] or 0.0, found[3], found[4])
        for (model, profile, vendor), found in sorted(sums.items())
    )
    ordered = tuple(sorted(alternatives, key=lambda item: item.vendor))
    return Usage(seconds, rows, tuple(sorted(unserved.items())), tuple(sorted(stock, key=lambda item: item.pool)), ordered)


def _plus(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else one + two


def _sum(values: Sequence[float | None]) -> float | None:
    total: float | None = 0.0
    for value in values:
        total = _plus(total, value)
    return total


def _sensible(interval: Interval) -> None:
    if not interval.seconds >= 0.0:
        raise UsageError(f"seconds: {interval.seconds} is not >= 0")
    for item in interval.holdings:
        for name in ("replicas", "devices", "hourly_cost", "capacity"):
            value = getattr(item, name)
            if value is not None and not value >= 0:
                raise UsageError(f"{item.model} on {item.pool}: {name}: {value} is not >= 0")
    for model, value in interval.load:
        if value is not None and not value >= 0.0:
            raise UsageError(f"{model}: load: {value} is not >= 0")
