"""Explanations of a finished plan: what every model lacks and why, and the answer to one question ("why so?", "why not on X?").

All numbers come from the snapshot and the plan (`live`), not from the solver. The prices of binding rows are those of the LP relaxation and
are called so. Nothing here solves: a question is answered from the plan alone; the fix that is verified by solving is in `whatif`.
"""

from __future__ import annotations

from dataclasses import dataclass

from placement import bars
from placement.facts import Facts
from placement.live import Acts, Live
from placement.problem import Problem
from placement.shortfall import shortfall_of
from placement.types import Demand, PlacementError, Plan, RowPrice, Shortfall, Snapshot, Why
from placement.verdict import Check, checks
from placement.why import used_by, why_of

LP_NOTE = (
    "prices are those of the LP relaxation: by how much one more unit would lower the objective, in which a shortage "
    "weighs far more than its hourly cost"
)
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Question:
    """About a model, or about a model and a profile or pool that it does not use ("why not X?")."""

    model: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`reason` and `message` answer the question; `also` are further checks that `about` fails, which would stand in the way next."""

    model: str
    about: str
    reason: str
    message: str
    also: tuple[Check, ...] = ()
    shortfall: Shortfall | None = None
    why: tuple[Why, ...] = ()  # of every profile of the model
    prices: tuple[RowPrice, ...] = ()  # of the binding rows that this question touches, of the LP relaxation
    note: str = ""

    def lines(self) -> list[str]:
        """As plain text, one fact a line."""
        found = [f"{self.reason}: {self.message}"]
        found += [f"then {c.reason}: {c.message}" for c in self.also]
        if self.shortfall is not None and not self.about:
            found += [f"{r.reason}: {r.message} -> {r.hint}" for r in self.shortfall.reasons]
        if not self.about:
            found += [f"{w.profile}{f' in {w.pool}' if w.pool else ''}: {w.reason}, {w.message}" for w in self.why]
        found += [f"one more {_unit(row.name)} is worth {row.price:g} in the objective (LP price)" for row in self.prices]
        return found


def _unit(row: str) -> str:
    kind, _, rest = row.partition("/")
    if kind == "bins":
        cell, _, size = rest.rpartition("/")
        return f"place of {size} device{'' if size == '1' else 's'} in {cell}"
    if kind in ("limit", "reserve"):
        return f"device under the {kind} of {rest}"
    if kind == "quota":
        return f"device in the quota of {rest}"
    return "unit of budget" if kind == "budget" else kind


def explain_plan(problem: Problem, acts: Acts, *, exact: bool, live: Live | None = None) -> tuple[tuple[Shortfall, ...], tuple[Why, ...]]:
    """Every shortfall with its reasons, and why each profile was taken or not. `acts` = what stops and what starts."""
    facts = Facts(live or Live.of_problem(problem, acts))
    found = [explained(facts, model.name, exact=exact) for model in problem.models]
    return tuple(s for s, _ in found if s is not None), tuple(w for _, why in found for w in why)


def explained(facts: Facts, model: str, *, exact: bool) -> tuple[Shortfall | None, tuple[Why, ...]]:
    """What one model lacks, and why each of its profiles was taken or not."""
    return shortfall_of(facts, model, exact=exact), tuple(why_of(facts, model))


def explain(snapshot: Snapshot, demand: Demand, plan: Plan, question: Question, *, live: Live | None = None) -> Explanation:
    """Why the model is placed as it is, or why it does not use a profile or pool. PlacementError for a name that is not in the snapshot."""
    live = live or Live.of(snapshot, demand, plan)
    if question.model not in live.models:
        near = ", ".join(sorted(live.models)[:SHOWN])
        raise PlacementError(f"question.model: {question.model!r} is no model of this snapshot; there are: {near or 'none'}")
    facts = Facts(live)
    short = next((s for s in plan.shortfalls if s.model == question.model), None)
    why = tuple(w for w in plan.why if w.model == question.model) or tuple(why_of(facts, question.model))
    if question.about:
        return _why_not(facts, plan, question, short, why)
    prices = _prices(live, plan, question.model, set(range(len(live.cells))))
    if short is not None and short.reasons:
        first = short.reasons[0]
        return Explanation(question.model, "", str(first.reason), first.message, (), short, why, prices, LP_NOTE if prices else "")
    count = live.count(question.model)
    served = [w for w in why if w.pool]
    reason = served[0].reason if served else "NotNeeded"
    places = ", ".join(f"{w.profile} in {w.pool}" for w in served)
    text = f"{count} of {count} replicas have a place: {places}" if served else f"{count} replicas are planned and none is missing"
    return Explanation(question.model, "", reason, text, (), None, why, prices, LP_NOTE if prices else "")


def _why_not(facts: Facts, plan: Plan, question: Question, short: Shortfall | None, why: tuple[Why, ...]) -> Explanation:
    live, model, about = facts.live, question.model, question.about
    cells = {c for c, cell in enumerate(live.cells) if about in (cell.profile, cell.pool)}
    options = [o for o in live.options_of[model] if about == o.profile or any(live.cells[c].profile == o.profile for c in cells)]
    if not cells and not options:
        names = sorted({c.pool for c in live.cells} | {c.profile for c in live.cells})
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise PlacementError(f"question.about: {about!r} is no profile or pool; there are: {', '.join(names[:SHOWN])}{more}")

    def answer(reason: str, text: str, also: tuple[Check, ...] = (), priced: bool = True) -> Explanation:
        prices = _prices(live, plan, model, cells) if priced else ()
        return Explanation(model, about, reason, text, also, short, why, prices, LP_NOTE if prices else "")

    if not options:
        return answer("NoOption", f"{model} has no size, image and data for {about}; condition ProfilesResolved says why", priced=False)
    if not cells:
        return answer("NoPool", f"no pool of this fleet has the profile {about}", priced=False)
    used, _ = used_by(live, model)
    taken = [w for w in why if w.pool and about in (w.profile, w.pool)]
    pairs = [(o, c) for o in options for c in sorted(cells) if live.cells[c].profile == o.profile]
    # The option that comes furthest, then the cheapest: the least that would have to change.
    lists = [(list(checks(facts, o, c)), live.price(o, c), o.id, c) for o, c in pairs]
    best = min(lists, key=lambda e: (len(e[0]), -_position(e[0]), e[1], e[2], e[3]))
    failed, cost, _, _ = best
    if taken and not failed:
        return answer(taken[0].reason, f"it is used: {taken[0].message}")
    if failed:
        text = failed[0].message if not taken else f"it is used, and one more replica there is not possible: {failed[0].message}"
        return answer(failed[0].reason, text, tuple(failed[1:]))
    base = min(used.values(), default=None)
    if base is not None and cost > base + bars.EPS:
        return answer("CostsMore", f"costs {cost - base:g} more per hour and replica than what is used")
    if short is not None:
        return answer("SolverTimeout", "one more replica would fit there: the solver stopped at its limit before it found this place")
    return answer("NotNeeded", "one more replica would fit there, and none is missing")


def _position(failed: list[Check]) -> int:
    return ORDER.index(failed[0].reason) if failed and failed[0].reason in ORDER else len(ORDER)


ORDER = (
    "NotEligible",
    "Excluded",
    "SizeNotAllowed",
    "NeverFits",
    "PoolRestricted",
    "InventoryUnknown",
    "SharedDevices",
    "PoolCordoned",
    "BudgetExceeded",
    "QuotaExceeded",
    "SpreadUnsatisfied",
    "SloUnreachable",
    "DevicesUnavailable",
)


def _prices(live: Live, plan: Plan, model: str, cells: set[int]) -> tuple[RowPrice, ...]:
    """The binding rows that the model's options in these cells use."""
    names, pools = {live.cells[c].name for c in cells}, {live.cells[c].pool for c in cells}
    profiles = {o.profile for o in live.options_of[model]}
    names = {live.cells[c].name for c in cells if live.cells[c].profile in profiles}
    pools = {live.cells[c].pool for c in cells if live.cells[c].profile in profiles}
    found = []
    for row in plan.rows:
        kind, _, rest = row.name.partition("/")
        mine = (
            (kind == "bins" and rest.rpartition("/")[0] in names)
            or (kind in ("limit", "reserve") and rest in pools)
            or (kind == "quota" and rest.split("/")[0] == live.models[model].tenant)
            or (kind == "budget" and live.snapshot.policy.max_hourly_cost is not None)
        )
        if mine and row.price > 0:
            found.append(row)
    return tuple(found[:SHOWN])
