"""A bound set of counts as a Plan: costs, objective, bound, routes, moves, ladder, explanations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from placement import value as worth
from placement.bind import Binding
from placement.live import Live
from placement.problem import Problem
from placement.retold import Teller
from placement.routes import routes_of
from placement.types import Effort, LadderStep, Outcome, Plan, Route, RowPrice, Shortfall, Why

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
    brief: bool = False  # of explanations only what is missing and why, and no ladder: for a plan that others are about to follow


def finish(problem: Problem, binding: Binding, how: How, effort: Effort) -> Plan:
    return Sheet(problem, binding).plan(how, effort)


class Sheet:
    """One set of counts on its way to a plan: what depends on the counts alone is worked out once, however often `how` is told anew."""

    def __init__(self, problem: Problem, binding: Binding, past: object | None = None, value: worth.Value | None = None) -> None:
        """`past` = `teller.now` of the plan before; `value` = what the counts are worth, if that is known."""
        self.problem, self.binding, self.past = problem, binding, past
        self._value = value

    @cached_property
    def value(self) -> worth.Value:
        return self._value or worth.value(self.problem, *counts_of(self.problem, self.binding))

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        return routes_of(self.problem, self.binding.assignments)

    @cached_property
    def moves(self) -> int:
        return moves_of(self.problem, self.binding)

    @cached_property
    def teller(self) -> Teller:
        return Teller(Live.of_problem(self.problem, self.binding), self.past)

    @cached_property
    def ladder(self) -> tuple[LadderStep, ...]:
        return self.teller.ladder()

    def plan(self, how: How, effort: Effort) -> Plan:
        found, binding = self.value, self.binding
        objective = worth.objective(self.problem, found, found.hourly + found.change)
        shortfalls, why = self._told(how) if how.explained and effort.explain else ((), ())
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
            moves=self.moves,
            routes=self.routes,
            rows=how.rows[:ROWS],
            ladder=self.ladder if how.explained and effort.ladder and not how.brief else (),
        )

    def _told(self, how: How) -> tuple[tuple[Shortfall, ...], tuple[Why, ...]]:
        exact = how.outcome is Outcome.OPTIMAL
        if not how.brief:
            return self.teller.told(exact=exact)
        if max(self.value.loss_by_rank, default=0.0) <= 0.0 and not any(want.unreachable for want in self.problem.wants):
            return (), ()  # nobody lacks anything: the free devices need not be looked at
        return self.teller.lacking(exact=exact), ()


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
