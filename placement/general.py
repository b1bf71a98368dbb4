"""The general form, solved in passes: the reference, the neighbourhood solver, and the engine of small fleets. Its rows: `generalform`.

Order of goals (lexicographic, highest rank first): disruption of rank 0, shortfall of rank 0, disruption of rank 1, ... then money. So a
rank is never short for a lower one, nobody is stopped for an equal or lower rank, and among plans that serve a rank the one that stops
least is taken. No large weight stands for an order (OC-076): each goal is a solve of its own, with the finished goals held by rows. The
first solve adds all goals up; where that sum is 0 (the normal day) all are reached at once and only money is left.

While somebody is short and quotas lend to each other, what each tenant is short of with its own quota alone bounds what it may be short of
in the plan (`quota`).

A move for money is taken only if it earns its price, and only by the last solve, when no model is short: while one is, nobody moves for
money, unless what runs costs more than the budget or the model's own maximum: then moves that end below it are made, no model served less.
Moves left (`max_moves`) and residence bind moves for money only: what the goals need is exempt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from placement._solver import Answer, Limits, Solve, SolverError, Watchdog
from placement.form import Coefficients, add
from placement.generalform import Model as Model
from placement.generalform import build as build
from placement.problem import EPS_DOMAIN, Problem

WEIGHT = 100.0  # of one missing device-equivalent in the published objective, in median prices of a device-hour
TOLERANCE = 1e-6
SETTLED = 1e-6  # relative gap; measured: 0 costs 9 s instead of 1 s for the last 3e-4 of money on 100 scarce nodes


@dataclass(frozen=True, slots=True)
class Counts:
    """A plan as counts: starts per way, stops per group, and how nodes are cut where sizes are no chain."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    slots: dict[int, dict[str, dict[int, int]]]  # cell -> node -> size in blocks -> count
    tiers: tuple[float, ...]  # disruption and shortfall per rank, what no plan can avoid taken off
    money: float
    proven: bool
    goals_proven: bool  # nothing can be less disrupted or less short; `bound` needs it
    bound: float | None  # of money, for all plans that are as good in every goal
    deadline: bool


def _held(value: float) -> float:
    """The bound of the row that holds a finished goal. Whole numbers are held exactly: with 1e-5 in place of 0 CBC called plans optimal
    that cost twice the optimum (3 of 500 tiny instances)."""
    whole = round(value)
    return float(whole) if abs(value - whole) < TOLERANCE else value + TOLERANCE


def solve(problem: Problem, engine: Solve, limits: Limits) -> Counts:
    """The passes. SolverError if the solver gives nothing; a later pass that finds nothing keeps what the earlier ones found."""
    model = build(problem)
    watchdog = Watchdog(limits.seconds)
    run = _Run(problem, model, engine, limits, watchdog)
    return run.all_passes()


@dataclass(slots=True)
class _Run:
    problem: Problem
    model: Model
    engine: Solve
    limits: Limits
    watchdog: Watchdog
    proven: bool = True
    goals_proven: bool = False
    deadline: bool = False
    owed: list[tuple[Coefficients, float]] = field(default_factory=list)  # rows: what tenants may be short of at most

    def _solve(self, rows: list[tuple[Coefficients, float]], objective: Coefficients) -> Answer:
        # Fixed sizes are solved until the tie-breaks are settled up to a fleet of some hundred devices; work ends at the policy's gap.
        settled = EPS_DOMAIN * self.problem.unit / 4.0
        narrow = None if any(w.needs.any for w in self.problem.wants) else SETTLED
        limits = Limits(self.limits.nodes, self.limits.relative_gap, self.watchdog.left(), settled, narrow)
        answer = self.engine(self.model.extended([*self.owed, *rows]), objective, limits)
        self.proven = self.proven and answer.proven
        self.deadline = self.deadline or answer.deadline
        return answer

    def all_passes(self) -> Counts:
        model = self.model
        if not model.form.lower:
            self.goals_proven = True
            return self._counts(Answer([], True, 0.0, 0.0, False))
        goals: Coefficients = {}
        for tier in model.tiers:
            for v, c in tier.items():
                add(goals, v, c)
        best = self._solve([], goals)
        try:
            rows = [(t, self._base(i)) for i, t in enumerate(model.tiers)]
            if any(self._tier(best, t) > TOLERANCE for t in range(len(model.tiers))):
                if model.lending.beyond:
                    best = self._owe(goals)
                best, rows = self._by_rank(best)
            self.goals_proven = self.proven
            return self._money(best, rows)
        except SolverError:  # what the earlier passes found still stands
            self.proven, self.goals_proven, self.deadline = False, False, True
            return self._counts(best)

    def _owe(self, goals: Coefficients) -> Answer:
        """What each tenant of quotas that lend is short of, per rank, when nothing is borrowed, as rows; then the sum of all goals anew."""
        model = self.model
        least = self._solve([], model.lending.beyond)
        own = (model.lending.beyond, _held(model.form.value(model.lending.beyond, least.values)))
        alone, _ = self._by_rank(self._solve([own], goals), [own])
        for (tenant, _), shortfall in sorted(model.owed.items()):
            if tenant in model.lending.tenants and shortfall:
                self.owed.append((shortfall, _held(model.form.value(shortfall, alone.values))))
        return self._solve([], goals)

    def _money(self, best: Answer, rows: list[tuple[Coefficients, float]]) -> Counts:
        model, most = self.model, self.problem.snapshot.policy.max_moves
        moves: list[tuple[Coefficients, float]] = []
        # What the goals need is no move for money.
        if model.rooted:
            needed = self._moves(best, rooted=True)
            if needed:
                best = self._solve(rows, model.rooted)
                needed = self._moves(best, rooted=True)
            moves.append((model.rooted, float(needed)))
        if most is not None and model.moves:
            needed = self._moves(best)
            if needed:
                needed = self._moves(self._solve([*rows, *moves], model.moves))
            moves.append((model.moves, float(most + needed)))
        still = self._solve([*rows, *moves], model.money)
        short = any(self._tier(best, t) > TOLERANCE for t in range(1, len(model.tiers), 2))
        over = self._over() if short else set()
        if (short and not over) or not self._may_earn(still):
            return self._counts(still)
        served = [row for i, row in enumerate(rows) if i % 2]
        if short:
            served += self._as_before(still, over)
        young: list[tuple[Coefficients, float]] = []
        if model.early:
            least = still if self._early(still) < TOLERANCE else self._solve(served, model.early)
            young = [(model.early, float(round(self._early(least))))]
        moved = self._solve([*served, *moves, *young], model.money)
        money = [model.form.value(model.money, a.values) + model.fixed_money for a in (still, moved)]
        # Two solves that end at a gap of their own differ by noise; fixed sizes are searched to a far narrower one.
        noise = 2.0 * (self.limits.relative_gap if any(w.work > 0 for w in self.problem.wants) else SETTLED)
        if money[1] < money[0] - noise * abs(money[0]) - 1e-9:
            return self._counts(moved)
        return self._counts(still, moved.bound)

    def _over(self) -> set[int]:
        """Models that may move for money although somebody is short: what runs costs more than it may, so nothing can start that costs
        money until less of it runs. The rows let nothing start that does not end below the limit."""
        problem = self.problem
        cost = [sum(problem.groups[g].cost * len(problem.groups[g].ids) for g in mine) for mine in problem.groups_of]
        budget = problem.snapshot.policy.max_hourly_cost
        if budget is not None and sum(cost) > budget + 1e-9:
            return set(range(len(cost)))
        return {m for m, x in enumerate(problem.models) if x.max_hourly_cost is not None and cost[m] > x.max_hourly_cost + 1e-9}

    def _as_before(self, still: Answer, over: set[int]) -> list[tuple[Coefficients, float]]:
        """Rows: no model lacks more than in this plan, and models that are not `over` stop no more."""
        form, rows = self.model.form, []
        for m in range(len(self.problem.models)):
            lacks = self.model.lacks.get(m)
            if lacks:
                rows.append((lacks, _held(form.value(lacks, still.values))))
            stops = {self.model.stops[g]: 1.0 for g in self.problem.groups_of[m] if g in self.model.stops}
            if stops and m not in over:
                rows.append((stops, _held(form.value(stops, still.values))))
        return rows

    def _early(self, answer: Answer) -> float:
        return self.model.form.value(self.model.early, answer.values)

    def _moves(self, answer: Answer, *, rooted: bool = False) -> int:
        """Replicas that stop while their model starts others; `rooted`: those of pools with a scheduler of their own."""
        models = len(self.problem.models)
        starts, stops, elsewhere = [0] * models, [0] * models, [0] * models
        for w in self.problem.ways:
            starts[w.model] += round(answer.values[self.model.starts[w.index]])
        for g in self.problem.groups:
            if g.stoppable:
                counted = elsewhere if rooted and not g.stays else stops
                counted[g.model] += round(answer.values[self.model.stops[g.index]])
        return sum(min(max(0, a - other), b) for a, b, other in zip(starts, stops, elsewhere, strict=True))

    def _tier(self, answer: Answer, tier: int) -> float:
        return self.model.form.value(self.model.tiers[tier], answer.values) - self.model.bases[tier]

    def _base(self, tier: int) -> float:
        return self.model.bases[tier]

    def _by_rank(
        self, best: Answer, first: list[tuple[Coefficients, float]] | None = None
    ) -> tuple[Answer, list[tuple[Coefficients, float]]]:
        """Each goal in its turn. `best` minimised their sum: while the goals before are 0 in it, the last goal is at its least already.
        `first` = rows of every solve. Returns one row per goal."""
        fixed = first or []
        rows: list[tuple[Coefficients, float]] = []
        tiers = self.model.tiers
        last = max(t for t, tier in enumerate(tiers) if tier)
        summed = best.proven
        for t, tier in enumerate(tiers):
            if tier and self._tier(best, t) > TOLERANCE and not (summed and t == last):
                best, summed = self._solve([*fixed, *rows], tier), False
            rows.append((tier, _held(max(0.0, self._tier(best, t)) + self._base(t))))
        return best, rows

    def _may_earn(self, best: Answer) -> bool:
        """Whether a move could earn anything: a running replica, or one that starts, that has a cheaper way than its own."""
        problem = self.problem
        cheapest: dict[int, float] = {}
        for w in problem.ways:
            cheapest[w.model] = min(0.0 if problem.wants[w.model].needs.any else w.cost, cheapest.get(w.model, w.cost))
        if not self.model.stops:
            return False
        for g in problem.groups:
            if g.stoppable and g.model in cheapest and cheapest[g.model] < g.cost - problem.stop_price(g):
                return True
        return any(best.values[self.model.starts[w.index]] > 0.5 and w.cost > cheapest[w.model] for w in problem.ways)

    def _counts(self, answer: Answer, bound: float | None = None) -> Counts:
        model, values = self.model, answer.values
        whole = [round(x) for x in values]
        money = (model.form.value(model.money, values) if values else 0.0) + model.fixed_money
        found = answer.bound if bound is None else bound
        return Counts(
            starts=tuple(whole[model.starts[w.index]] for w in self.problem.ways),
            stops=tuple(whole[model.stops[g.index]] if g.index in model.stops else 0 for g in self.problem.groups),
            slots={c: cuts.slots(whole) for c, cuts in sorted(model.cuts.items())},
            tiers=tuple(max(0.0, self._tier(answer, t)) if values else 0.0 for t in range(len(model.tiers))),
            money=money,
            proven=self.proven,
            goals_proven=self.goals_proven,
            bound=None if found is None else min(found + model.fixed_money, money),
            deadline=self.deadline,
        )
