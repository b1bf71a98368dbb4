"""The smallest change that makes a short model fit, found and verified by the placer: each one shown was solved with.

One solve per change that is tried, so a fleet with many short models gets them for the most important ones only; `explain` does any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import placement
from placement import whatif
from placement.types import Demand, Plan, Snapshot
from polyfleet.cli.planning import Planned

SHOWN = 2  # changes per model
MODELS = 3  # short models for which `plan` looks
_LARGE = 200  # models of a fleet above which fewer changes are tried
_EFFORT = replace(placement.DEFAULT, ladder=False)

Solver = Callable[[Snapshot, Demand], Plan]


@dataclass(frozen=True, slots=True)
class Fix:
    change: str
    command: str
    cost: float  # per hour more, of the whole fleet
    before: int  # replicas that the model lacks
    after: int

    @property
    def text(self) -> str:
        return f"{self.change.replace('->', '→')} ({self.cost:+.2f} /h)"


@dataclass(frozen=True, slots=True)
class Fixes:
    found: tuple[Fix, ...] = ()
    message: str = ""  # why there is none


def of_fleet(planned: Planned) -> dict[str, Fixes]:
    """Of the short models that matter most: highest priority first, then most missing replicas."""
    priority = {model.name: model.priority for model in planned.situation.snapshot.models}
    order = sorted(planned.plan.shortfalls, key=lambda short: (-priority[short.model], -short.replicas, short.model))
    return {short.model: of_model(planned, short.model) for short in order[:MODELS]}


def of_model(planned: Planned, model: str, *, pool: str = "", most: int = SHOWN) -> Fixes:
    """`pool`: a pool or profile; only changes after which the model has more replicas there than now."""
    if model not in planned.shortfalls:
        return Fixes()
    situation = planned.situation
    plans: dict[int, Plan] = {}

    def solve(snapshot: Snapshot, demand: Demand) -> Plan:
        plan, _ = placement.plan(snapshot, demand, warm=planned.warm, effort=_EFFORT)
        plans[id(snapshot)] = plan
        return plan

    tries = whatif.TRIES if len(situation.snapshot.models) <= _LARGE else 3
    search = whatif.fixes(
        situation.snapshot, situation.demand, planned.plan, model, solve_plan=solve, most=tries if pool else most, tries=tries
    )
    good = [fix for fix in search.fixes if not pool or _more(situation.snapshot, planned.plan, plans[id(fix.snapshot)], model, pool)]
    found = tuple(Fix(fix.change, fix.command, fix.cost_per_hour, fix.before[0], fix.after[0]) for fix in good[:most])
    return Fixes(found, "" if found else search.message if not pool else f"no single change gives {model} more on {pool}")


def _more(snapshot: Snapshot, before: Plan, after: Plan, model: str, pool: str) -> bool:
    cells = {cell.name for cell in snapshot.cells if pool in (cell.pool, cell.profile)}

    def there(plan: Plan) -> int:
        return sum(item.replicas for item in plan.assignments if item.model == model and item.cell in cells)

    return there(after) > there(before)
