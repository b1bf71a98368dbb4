"""A bound set of counts as a Plan: costs, objective, bound, routes, moves, ladder, explanations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from placement import value as worth
from placement.bind import Binding
from placement.explain import explain_plan
from placement.ladder import ladder
from placement.live import Live
from placement.problem import Problem
from placement.routes import routes_of
from placement.types import Effort, Outcome, Plan, RowPrice

ROWS = 50  # binding rows that a plan carries


@dataclass(frozen=True, slots=True)
class How:
    """How a plan came about, for its record."""

    outcome: Outcome
    solver: str
    engine: str
    decided_by: str = "Effort"
    message: str = ""
    distance: float | None = None  # money to the bound that holds for all plans, both with tie-breaks; None = no bound
    relative: float | None = None  # the same, relative
    pool_gap: float | None = None
    rows: tuple[RowPrice, ...] = ()
    explained: bool = True


def finish(problem: Problem, binding: Binding, how: How, effort: Effort) -> Plan:
    starts, stops = counts_of(problem, binding)
    found = worth.value(problem, starts, stops)
    objective = worth.objective(problem, found, found.hourly + found.change)
    exact = how.outcome is Outcome.OPTIMAL
    explained = how.explained and effort.explain
    steps = how.explained and effort.ladder
    live = Live.of_problem(problem, binding) if explained or steps else None
    shortfalls, why = explain_plan(problem, binding, exact=exact, live=live) if explained else ((), ())
    return Plan(
        assignments=binding.assignments,
        keep=binding.keep,
        stop=binding.stop,
        starts=binding.starts,
        shortfalls=shortfalls,
        why=why,
        outcome=how.outcome,
        solver=how.solver,
        hourly_cost=round(found.hourly, 6),
        objective=round(objective, 6),
        bound=None if how.distance is None else round(objective - how.distance, 6),
        gap=None if how.relative is None else round(how.relative, 9),
        decided_by=how.decided_by,
        message=how.message,
        engine=how.engine,
        pool_gap=None if how.pool_gap is None else round(how.pool_gap, 9),
        moves=moves_of(problem, binding),
        routes=routes_of(problem, binding.assignments),
        rows=how.rows[:ROWS],
        ladder=ladder(problem, binding, live=live) if steps else (),
    )


def counts_of(problem: Problem, binding: Binding) -> tuple[list[int], list[int]]:
    """(starts per way, stops per group) of a binding; every start has a way."""
    ways = {(problem.options[w.option].id, problem.cells[w.cell].name): w.index for w in problem.ways}
    starts = [0] * len(problem.ways)
    for s in binding.starts:
        starts[ways[(s.option, s.cell)]] += 1
    stopped = set(binding.stop)
    return starts, [sum(1 for i in g.ids if i in stopped) for g in problem.groups]


def moves_of(problem: Problem, binding: Binding) -> int:
    """Replicas that stop while their model starts others."""
    model_of = {i: problem.models[g.model].name for g in problem.groups for i in g.ids}
    stops = Counter(model_of[i] for i in binding.stop)
    starts = Counter(s.model for s in binding.starts)
    return sum(min(n, starts[m]) for m, n in stops.items())
