"""The smallest change that gives a short model more, verified by solving with it.

Candidates are single changes (`relax`, `relax_devices`), ranked by what they touch: an edit of one number or word before devices that
somebody must give up, those before new hardware, then by money. The best are solved in this order; a change is called a fix only if in the
new plan the model lacks less and no model of equal or higher priority lacks more than before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from placement.lack import lack
from placement.live import Live
from placement.relax import Relaxation, by_rules
from placement.relax_devices import by_devices
from placement.types import Demand, PlacementError, Plan, Snapshot

TRIES = 12
SMALLEST_SHARE = 1e-6  # of the work; what is less than this is no change
SolvePlan = Callable[[Snapshot, Demand], Plan]
Gap = tuple[int, float]  # replicas, share of the work


@dataclass(frozen=True, slots=True)
class Fix:
    """A verified change. `cost_per_hour` is the difference of the whole plans."""

    model: str
    change: str  # the field to edit, from -> to
    command: str
    cost_per_hour: float
    before: Gap  # missing replicas, unmet share of the work
    after: Gap
    price: float | None = None  # of one more unit of the row in the plan's LP relaxation, where the row has a price
    snapshot: Snapshot | None = field(default=None, repr=False, compare=False)  # with the change

    def text(self) -> str:
        """As one line: change, money, shortfall before and after."""
        found = f"{self.change} ({self.cost_per_hour:+.2f} /h), shortfall {self.before[0]}->{self.after[0]}"
        if self.before[1] > SMALLEST_SHARE:
            found += f", unmet work {100 * self.before[1]:.3g}->{100 * self.after[1]:.3g} %"
        return found


@dataclass(frozen=True, slots=True)
class Search:
    """What was found and what was tried without success, each in words."""

    fixes: tuple[Fix, ...]
    tried: tuple[str, ...]
    message: str


def smallest_fix(snapshot: Snapshot, demand: Demand, plan: Plan, model: str, *, solve_plan: SolvePlan, tries: int = TRIES) -> Fix | None:
    """The cheapest verified single change, or None if the model lacks nothing or no single change of those tried helps."""
    found = fixes(snapshot, demand, plan, model, solve_plan=solve_plan, tries=tries).fixes
    return found[0] if found else None


def fixes(
    snapshot: Snapshot, demand: Demand, plan: Plan, model: str, *, solve_plan: SolvePlan, most: int = 1, tries: int = TRIES
) -> Search:
    """Up to `most` verified changes after at most `tries` solves. `solve_plan` plans a snapshot (`placement.plan`, warm, less effort).

    PlacementError for a model that is not in the snapshot.
    """
    live = Live.of(snapshot, demand, plan)
    if model not in live.models:
        raise PlacementError(f"model: {model!r} is no model of this snapshot")
    if lack(live, model) is None:
        return Search((), (), f"{model} lacks nothing")
    candidates = candidates_of(live, model)
    verified: list[Fix] = []
    failed: list[str] = []
    for candidate in candidates[:tries]:
        fix = _verified(live, demand, plan, model, candidate, solve_plan)
        if fix is None:
            failed.append(candidate.change)
        else:
            verified.append(fix)
            if len(verified) == most:
                break
    if verified:
        return Search(tuple(verified), tuple(failed), verified[0].text())
    if not candidates:
        return Search((), (), "no single change helps: there is no rule, node or device whose change alone makes room")
    more = f" ({len(candidates) - tries} more were not tried)" if len(candidates) > tries else ""
    return Search((), tuple(failed), f"no single change helps; tried: {'; '.join(failed)}{more}")


def candidates_of(live: Live, model: str) -> list[Relaxation]:
    """Every single change that may help, the smallest first."""
    return sorted([*by_rules(live, model), *by_devices(live, model)], key=lambda r: r.key)


def _verified(live: Live, demand: Demand, plan: Plan, model: str, candidate: Relaxation, solve_plan: SolvePlan) -> Fix | None:
    after = solve_plan(candidate.snapshot, demand)
    old, new = _gaps(plan), _gaps(after)
    none: Gap = (0, 0.0)
    if not _less(new.get(model, none), old.get(model, none)):
        return None
    mine = live.models[model].priority
    for name, other in live.models.items():
        if name != model and other.priority >= mine and _less(old.get(name, none), new.get(name, none)):
            return None
    price = next((row.price for row in plan.rows if row.name == candidate.rule), None)
    return Fix(
        model=model,
        change=candidate.change,
        command=candidate.command,
        cost_per_hour=round(after.hourly_cost - plan.hourly_cost, 6),
        before=old.get(model, none),
        after=new.get(model, none),
        price=price,
        snapshot=candidate.snapshot,
    )


def _gaps(plan: Plan) -> dict[str, Gap]:
    return {s.model: (s.replicas, s.unmet_share) for s in plan.shortfalls}


def _less(a: Gap, b: Gap) -> bool:
    """Whether `a` lacks less than `b`."""
    return (a[0] < b[0] and a[1] <= b[1] + SMALLEST_SHARE) or (a[0] <= b[0] and a[1] < b[1] - SMALLEST_SHARE)
