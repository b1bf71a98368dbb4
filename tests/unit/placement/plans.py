"""Plans by hand for the tests of the recount, and a small fleet for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import placement
from placement.types import (
    Assignment,
    Demand,
    Option,
    Outcome,
    Plan,
    Reason,
    Route,
    Shortfall,
    ShortfallReason,
    Snapshot,
    Start,
)
from tests.unit.placement.fleet import cell, node, option

NOTHING = Demand()


def go(o: Option, at: str, where: str, *after: str) -> Start:
    return Start(o.model, o.id, where, at, after)


def made(
    snapshot: Snapshot,
    *,
    keep: Sequence[str] = (),
    stop: Sequence[str] = (),
    starts: Sequence[Start] = (),
    shortfalls: Sequence[Shortfall] = (),
    routes: Sequence[Route] = (),
) -> Plan:
    """A plan with the assignments and the cost that follow from its parts."""
    cell_of = {n.name: n.cell for n in snapshot.nodes}
    price = {c.name: c.cost_per_device_hour for c in snapshot.cells}
    devices = {o.id: o.devices for o in snapshot.options}
    target: Counter[tuple[str, str, str, str]] = Counter()
    cost = 0.0
    for r in snapshot.replicas:
        if r.id in keep:
            where = cell_of.get(r.node.split(",")[0], "")
            target[(r.model, r.option or "", where, r.node)] += 1
            cost += r.devices * price.get(where, 0.0)
    for s in starts:
        target[(s.model, s.option, s.cell, s.node)] += 1
        cost += devices.get(s.option, 0) * price.get(s.cell, 0.0)
    return Plan(
        assignments=tuple(Assignment(*key, replicas=n) for key, n in sorted(target.items())),
        keep=tuple(keep), stop=tuple(stop), starts=tuple(starts), shortfalls=tuple(shortfalls), why=(), outcome=Outcome.FEASIBLE,
        solver="by hand", hourly_cost=cost, objective=cost, bound=None, gap=None, routes=tuple(routes),
    )  # fmt: skip


def passes(snapshot: Snapshot, plan: Plan, demand: Demand = NOTHING) -> None:
    assert placement.check(snapshot, demand, plan) == ()


def refused(text: str, snapshot: Snapshot, plan: Plan, demand: Demand = NOTHING) -> None:
    faults = placement.check(snapshot, demand, plan)
    assert len(faults) == 1, faults
    assert text in faults[0]


def short(name: str, replicas: int, unmet: float = 0.0, reason: Reason = Reason.DEVICES_UNAVAILABLE) -> Shortfall:
    return Shortfall(f"ns/{name}", replicas, (ShortfallReason(reason),), unmet)


H = cell("h100")
A1, A2, A4, A8 = (option("a", "h100", k) for k in (1, 2, 4, 8))
B2, B4 = option("b", "h100", 2), option("b", "h100", 4)
FREE = [node("n1", H, 8), node("n2", H, 8)]
