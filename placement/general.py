"""The general form: integers per (option, cell) for starts and per (model, option, node) for stops, solved in passes.

Variables   x_w   starts of way w (an option in a cell)             integer
            r_g   stops of group g (equal replicas on one node)     integer
            v_m   missing replicas, u_m = u1 + u2 unmet share of work (second half three times as dear)
            k_m   disruption: stops beyond the model's surplus, and running coverage that is lost

Rows        replicas   sum + v_m >= min, sum <= max (what may not stop counts, so max is never the cause of "no plan")
            work       sum T x + work * (u1 + u2) >= work
            bins       `bins`: exact per node
            limits     pool limit and reserve, hourly cost of a model and of the fleet: hard for everything that starts. Where what runs
                       is already above, a binary says "nothing starts under this limit"
            spread     distinct vendors >= min(minVendors, replicas) and replicas per vendor <= 1 + share * (replicas - 1): hard for what
                       starts; running replicas that break them may stay and cost half a missing replica each

Order of goals (lexicographic, highest rank first): disruption of rank 0, shortfall of rank 0, disruption of rank 1, ... then money. So a
rank is never short for a lower one, nobody is stopped for an equal or lower rank, and among plans that serve a rank the one that stops
least is taken. No large weight stands for an order (OC-076): each goal is a solve of its own, with the finished goals held by rows. The
first solve adds all goals up; where that sum is 0 (the normal day) all are reached at once and only money is left.

Money = cost per hour of all replicas + `minSavingPercent` of each stopped replica's cost + tie-breaks (`problem`). A move for money is
therefore taken only if it earns its price, and only by the last solve, when no model is short: while one is, nobody moves for money.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from placement._solver import Answer, Limits, Solve, SolverError, Watchdog
from placement.bins import Cuts, add_cell
from placement.form import Coefficients, Form, add
from placement.problem import EPS_DEVICE, EPS_DOMAIN, EPS_STOP, Problem
from placement.rules import add_limits, add_moves, add_spread

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


@dataclass(slots=True)
class Model:
    """The built form and where its parts are."""

    form: Form
    starts: dict[int, int]
    stops: dict[int, int]
    tiers: list[Coefficients]
    bases: list[float]
    money: Coefficients
    fixed_money: float
    cuts: dict[int, Cuts] = field(default_factory=dict)

    def extended(self, rows: list[tuple[Coefficients, float]]) -> Form:
        form = Form(self.form.lower, self.form.upper, self.form.integer, list(self.form.rows))
        for coefficients, bound in rows:
            form.row(coefficients, "<=", bound)
        return form


def build(problem: Problem) -> Model:
    form = Form()
    starts = {w.index: form.variable(0.0, float(_most(problem, w.index))) for w in problem.ways}
    stops = {g.index: form.variable(0.0, float(len(g.ids))) for g in problem.groups if g.stoppable}
    ranks = max(problem.rank, default=-1) + 1
    model = Model(form, starts, stops, [{} for _ in range(2 * ranks)], [0.0] * (2 * ranks), {}, 0.0)
    for cell in range(len(problem.cells)):
        mine = {w: v for w, v in starts.items() if problem.ways[w].cell == cell}
        cuts = add_cell(form, problem, cell, mine, stops) if mine else None
        if cuts is not None:
            model.cuts[cell] = cuts
    for m in range(len(problem.models)):
        _add_model(problem, model, m)
    add_limits(problem, form, starts, stops)
    add_moves(problem, form, starts, stops)
    _add_money(problem, model)
    return model


def _most(problem: Problem, way: int) -> int:
    return max(0, problem.wants[problem.ways[way].model].maximum)


def _add_model(problem: Problem, model: Model, m: int) -> None:
    form, want = model.form, problem.wants[m]
    ways = [w for w in problem.ways if w.model == m]
    groups = [g for g in problem.groups if g.model == m]
    count: Coefficients = {}
    work: Coefficients = {}
    for w in ways:
        add(count, model.starts[w.index], 1.0)
        add(work, model.starts[w.index], w.work)
    for g in groups:
        if g.stoppable:
            add(count, model.stops[g.index], -1.0)
            add(work, model.stops[g.index], -g.work)
    fixed = sum(len(g.ids) for g in groups if not g.stoppable)
    if count:
        form.row(count, "<=", float(max(want.maximum, fixed) - want.running))
    if problem.models[m].hold:
        return
    rank = problem.rank[m]
    disruption, shortfall = model.tiers[2 * rank], model.tiers[2 * rank + 1]
    model.bases[2 * rank + 1] += want.base_loss
    missing = form.variable(0.0, float(want.minimum), integer=False)
    form.row({**count, missing: 1.0}, ">=", float(want.minimum - want.running))
    add(shortfall, missing, 2.0 * want.smallest)
    stops: Coefficients = {model.stops[g.index]: 1.0 for g in groups if g.stoppable}
    if stops:
        disrupted = form.variable(0.0, None, integer=False)
        form.row({**stops, disrupted: -1.0}, "<=", float(want.surplus))
        add(disruption, disrupted, float(want.smallest))
        if not problem.snapshot.policy.preemption:
            kept = min(want.running, want.minimum)
            form.row(dict(count), ">=", float(kept - want.running))
    if want.work > 0:
        first = form.variable(0.0, 0.5, integer=False)
        second = form.variable(0.0, 0.5, integer=False)
        form.row({**work, first: want.work, second: want.work}, ">=", want.work - want.running_work)
        add(shortfall, first, want.need)
        add(shortfall, second, 3.0 * want.need)
        if stops:
            lost = form.variable(0.0, 1.0, integer=False)
            covered = min(want.work, want.running_work)
            form.row({**work, lost: want.work}, ">=", covered - want.running_work)
            add(disruption, lost, want.need)
    add_spread(problem, form, m, model.starts, model.stops, shortfall)


def _add_money(problem: Problem, model: Model) -> None:
    unit = problem.unit
    for w in problem.ways:
        add(model.money, model.starts[w.index], w.cost + EPS_DEVICE * unit * w.size)
    for g in problem.groups:
        each = g.cost + EPS_DEVICE * unit * g.devices
        model.fixed_money += each * len(g.ids)
        if g.stoppable:
            price = problem.stop_price(g) + EPS_STOP * unit * (1.0 + g.preference)
            add(model.money, model.stops[g.index], price - each)
    for m in range(len(problem.models)):
        _add_evenness(problem, model, m)


def _add_evenness(problem: Problem, model: Model, m: int) -> None:
    """Among plans of equal money: few replicas of a model in its fullest failure domain."""
    ways = [w for w in problem.ways if w.model == m]
    domains = sorted({w.domain for w in ways})
    if len(domains) < 2 or problem.wants[m].maximum < 2:
        return
    fullest = model.form.variable(0.0, None, integer=False)
    for domain in domains:
        row: Coefficients = {model.starts[w.index]: 1.0 for w in ways if w.domain == domain}
        running = 0
        for g in problem.groups:
            if g.model == m and g.domain == domain:
                running += len(g.ids)
                if g.stoppable:
                    add(row, model.stops[g.index], -1.0)
        model.form.row({**row, fullest: -1.0}, "<=", -float(running))
    add(model.money, fullest, EPS_DOMAIN * problem.unit)


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

    def _solve(self, rows: list[tuple[Coefficients, float]], objective: Coefficients) -> Answer:
        # Fixed sizes are solved until the tie-breaks are settled up to a fleet of some hundred devices; work ends at the policy's gap.
        settled = EPS_DOMAIN * self.problem.unit / 4.0
        narrow = None if any(w.work > 0 for w in self.problem.wants) else SETTLED
        limits = Limits(self.limits.nodes, self.limits.relative_gap, self.watchdog.left(), settled, narrow)
        answer = self.engine(self.model.extended(rows), objective, limits)
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
                best, rows = self._by_rank(best)
            self.goals_proven = self.proven
            still = self._solve(rows, model.money)
            if any(self._tier(best, t) > TOLERANCE for t in range(1, len(model.tiers), 2)) or not self._may_earn(still):
                return self._counts(still)
            best = still
            served = [row for i, row in enumerate(rows) if i % 2]
            moved = self._solve(served, model.money)
            money = [model.form.value(model.money, a.values) + model.fixed_money for a in (still, moved)]
            if money[1] < money[0] - 2.0 * self.limits.relative_gap * abs(money[0]) - 1e-9:
                return self._counts(moved)
            return self._counts(still, moved.bound)
        except SolverError:  # what the earlier passes found still stands
            self.proven, self.goals_proven, self.deadline = False, False, True
            return self._counts(best)

    def _tier(self, answer: Answer, tier: int) -> float:
        return self.model.form.value(self.model.tiers[tier], answer.values) - self.model.bases[tier]

    def _base(self, tier: int) -> float:
        return self.model.bases[tier]

    def _by_rank(self, best: Answer) -> tuple[Answer, list[tuple[Coefficients, float]]]:
        """Each goal in its turn. `best` minimised their sum: while the goals before are 0 in it, the last goal is at its least already."""
        rows: list[tuple[Coefficients, float]] = []
        tiers = self.model.tiers
        last = max(t for t, tier in enumerate(tiers) if tier)
        summed = best.proven
        for t, tier in enumerate(tiers):
            if tier and self._tier(best, t) > TOLERANCE and not (summed and t == last):
                best, summed = self._solve(rows, tier), False
            rows.append((tier, _held(max(0.0, self._tier(best, t)) + self._base(t))))
        return best, rows

    def _may_earn(self, best: Answer) -> bool:
        """Whether a move could earn anything: a running replica, or one that starts, that has a cheaper way than its own."""
        problem = self.problem
        cheapest: dict[int, float] = {}
        for w in problem.ways:
            cheapest[w.model] = min(w.cost if w.work == 0 or problem.wants[w.model].work == 0 else 0.0, cheapest.get(w.model, w.cost))
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
