"""`plan`: snapshot and demand in, a checked plan out, whatever the solvers do.

Small fleets are solved whole in the general form, in passes; large ones by columns, split and polish (`fleetplan`). Ladder of solvers:
HiGHS, CBC, greedy; the old plan as the last step down. A plan leaves only if `check` finds no fault in it, and the plan that keeps
everything stays unless another is better in the order of the goals. Stateless: everything that a plan depends on is in its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from placement import _solver, fleetplan, general, greedy, makeroom
from placement import value as worth
from placement.bind import BindError, bind
from placement.check import check
from placement.finish import How, Sheet, finish
from placement.general import Counts
from placement.problem import Problem, build
from placement.snapshot import demand_by_model, normalised, validated
from placement.steady import steady
from placement.types import DEFAULT, Demand, Effort, Outcome, Plan, RowPrice, Snapshot, Warm

# A plan is called optimal up to this relative distance from its bound.
OPTIMAL_GAP = 1e-4

Report = Callable[[Plan], None]


def plan(
    snapshot: Snapshot,
    demand: Demand,
    *,
    warm: Warm | None = None,
    effort: Effort = DEFAULT,
    solvers: Sequence[str] | None = None,
    report: Report | None = None,
) -> tuple[Plan, Warm]:
    """The plan for this snapshot, and what a later call may start from. PlacementError for input that makes no sense, nothing else.

    The plan covers `effective(demand, warm)`: the demand itself, or what the standing plan covers while the demand stays within +-5 % of
    it. `solvers` overrides the ladder of healthy solvers (tests; an empty list is greedy only). `report` is called with each improved,
    checked plan on the way, so that a caller whose patience ends has the best one. Of explanations such a plan says what is missing and
    why; why other pools were not taken and the ladder are worked out for the plan that is returned.
    """
    warm = warm or Warm()
    snapshot = normalised(snapshot)
    validated(snapshot, demand)
    demand = effective(demand, warm)
    asked = demand_by_model(snapshot, demand)
    small = _size(snapshot) <= effort.exact_size
    problem = build(snapshot, asked, with_ways=small)
    run = _Run(problem, demand, effort, warm, report, _solver.Watchdog(snapshot.policy.time_limit_s))
    found = run.small(solvers) if small else run.large(solvers)
    if snapshot.policy.defragment:
        found = run.with_room(found, solvers)
    covered = tuple(sorted((d for d in demand.models if sum(d.loads) > 0), key=lambda d: (d.model, d.role)))
    return found, Warm(prices=run.prices or warm.prices, covered=covered, cache=Cache(run.memory, run.past))


def effective(demand: Demand, warm: Warm | None) -> Demand:
    """The demand that `plan` covers; `check` its plan against this one."""
    return demand if warm is None else steady(demand, warm.covered)


def solver_health() -> tuple[tuple[str, str], ...]:
    """Every solver of the ladder with what its self-test found; an empty text is healthy. The first healthy one is used."""
    return _solver.available()


def _size(snapshot: Snapshot) -> int:
    """Integers of the general form, about: starts per option and cell, stops per group."""
    cells: dict[str, int] = {}
    for c in snapshot.cells:
        cells[c.profile] = cells.get(c.profile, 0) + 1
    groups = {(r.model, r.option, r.node) for r in snapshot.replicas}
    return sum(cells.get(o.profile, 0) for o in snapshot.options) + len(groups)


@dataclass(frozen=True, slots=True)
class Cache:
    """What stays in memory from plan to plan. It saves time and changes no plan that is proven without it."""

    memory: object | None = None
    past: object | None = None


@dataclass(slots=True)
class _Run:
    problem: Problem
    demand: Demand
    effort: Effort
    warm: Warm
    report: Report | None
    watchdog: _solver.Watchdog
    notes: list[str] = field(default_factory=list)
    prices: tuple[RowPrice, ...] = ()
    memory: object | None = None  # of the columns, for the next plan
    past: object | None = None  # of the explanations, likewise

    @property
    def ended_by(self) -> str:
        """What decided where every solver has failed."""
        return "Deadline" if self.watchdog.left() <= 0 else "Effort"

    @property
    def cache(self) -> Cache:
        return self.warm.cache if isinstance(self.warm.cache, Cache) else Cache()

    # ---- small fleets

    def small(self, solvers: Sequence[str] | None) -> Plan:
        if self.report is not None and not self.problem.groups:
            # Who listens to a first plan has nothing to fall back on while the passes go on. What is returned stays the same.
            best = _Best(self)
            best.offer(_kept(self.problem), How(Outcome.KEPT_OLD, "none", "General"), told=False)
            self._offer_greedy(best)
        for name in self._ladder(solvers):
            try:
                found = self._exact(name, _solver.solver(name))
            except (_solver.SolverError, BindError) as error:
                self.notes.append(str(error))
                continue
            if self._passes(found, name):
                return found
        return self._last_resort()

    def _exact(self, name: str, engine: _solver.Solve) -> Plan:
        policy = self.problem.snapshot.policy
        limits = _solver.Limits(self.effort.mip_nodes, policy.relative_gap, self.watchdog.left())
        counts = general.solve(self.problem, engine, limits)
        binding = bind(self.problem, counts.starts, counts.stops, counts.slots)
        # The distance to the bound is taken with the tie-breaks, as the solver saw both; what is published is without them.
        distance = None if counts.bound is None or not counts.goals_proven else max(0.0, counts.money - counts.bound)
        gap = None if distance is None else distance / max(1e-9, abs(counts.money), distance)
        proven = counts.proven and gap is not None and gap <= max(OPTIMAL_GAP, policy.relative_gap)
        how = How(
            outcome=Outcome.OPTIMAL if proven else Outcome.FEASIBLE,
            solver=name,
            engine="General",
            decided_by="Deadline" if counts.deadline else "Effort",
            distance=distance,
            relative=gap,
            rows=self._rows(name),
        )
        return finish(self.problem, binding, how, self.effort)

    def _rows(self, solver: str) -> tuple[RowPrice, ...]:
        """Prices for the explanations; without HiGHS there are none."""
        if not self.effort.explain or solver != "HiGHS":
            return ()
        self.prices = fleetplan.prices(self.problem, self.watchdog)
        return self.prices

    # ---- large fleets

    def large(self, solvers: Sequence[str] | None) -> Plan:
        best = _Best(self)
        kept = How(Outcome.KEPT_OLD, "none", "Columns", message="the new plan does not earn its changes")
        best.offer(_kept(self.problem), kept, told=False)  # who asked knows what runs
        empty = not self.problem.groups
        if empty:
            # A first plan has nothing to fall back on while the columns are made.
            self._offer_greedy(best)
        for name in self._ladder(solvers):
            try:
                self._columns(name, _solver.solver(name), best)
                break
            except (_solver.SolverError, BindError) as error:
                self.notes.append(str(error))
        else:
            self.notes = self.notes or ["no solver passed its self-test"]
            if not empty:
                self._offer_greedy(best)
            best.unsolved()
        found = best.finished()
        return found if found is not None else self._last_resort()

    def _columns(self, name: str, engine: _solver.Solve, best: _Best) -> None:
        how = How(Outcome.FEASIBLE, name, "Columns")
        got = fleetplan.solve(
            self.problem,
            engine,
            self.effort,
            self.watchdog,
            self.warm.prices,
            lambda counts, last: best.offer(counts, how, told=not last),
            self.cache.memory,
            self._fits,
        )
        self.prices, self.memory = got.prices, got.memory
        best.priced(got)

    def _fits(self, counts: Counts) -> bool:
        """Whether the counts find their nodes and break no rule; what they leave unexplained is not asked."""
        try:
            binding = bind(self.problem, counts.starts, counts.stops, counts.slots)
        except BindError:
            return False
        bare = Sheet(self.problem, binding).plan(How(Outcome.FEASIBLE, "none", "Columns", explained=False), self.effort)
        return not check(self.problem.snapshot, self.demand, bare, explained=False)

    def _offer_greedy(self, best: _Best) -> None:
        try:
            starts, stops, slots = greedy.place(self.problem)
        except BindError as error:
            self.notes.append(f"greedy: {error}")
            return
        best.offer(Counts(starts, stops, slots, (), 0.0, False, False, None, False), How(Outcome.GREEDY, "Greedy", "Greedy"))

    # ---- shared

    def with_room(self, found: Plan, solvers: Sequence[str] | None) -> Plan:
        """The plan after moves that make room for who is short; `found` itself where none help, or no solver is healthy."""
        name = next(iter(self._ladder(solvers)), None)
        if name is None or not found.shortfalls:
            return found
        solver = found.solver if found.outcome is not Outcome.KEPT_OLD else name  # a plan that keeps all names none
        how = How(found.outcome, solver, found.engine, rows=found.rows)
        better = makeroom.with_room(self.problem, self.demand, found, _solver.solver(name), self.effort, how, self.watchdog.left)
        if better is not found and self.report is not None:
            self.report(better)
        return better

    def _ladder(self, solvers: Sequence[str] | None) -> Iterable[str]:
        return _solver.ladder() if solvers is None else solvers

    def _passes(self, found: Plan, name: str) -> bool:
        faults = check(self.problem.snapshot, self.demand, found, explained=self.effort.explain)
        if faults:
            self.notes.append(f"{name}: refused by check: {faults[0]}")
            return False
        if self.report is not None:
            self.report(found)
        return True

    def _last_resort(self) -> Plan:
        message = "; ".join(self.notes) or "no solver passed its self-test"
        problem = self.problem
        for keep_only in (False, True):
            try:
                binding = bind(problem, *greedy.place(problem, keep_only=keep_only))
            except BindError as error:
                message += f"; {error}"
                continue
            outcome = Outcome.KEPT_OLD if keep_only else Outcome.GREEDY
            found = finish(problem, binding, How(outcome, "Greedy", "Greedy", self.ended_by, message=message), self.effort)
            faults = check(problem.snapshot, self.demand, found, explained=self.effort.explain)
            if not faults or keep_only:
                return found
            message += f"; greedy: refused by check: {faults[0]}"
        raise AssertionError("the plan that keeps everything can always be bound")


def _kept(problem: Problem) -> Counts:
    nothing = tuple(0 for _ in problem.ways)
    return Counts(nothing, tuple(0 for _ in problem.groups), {}, (), 0.0, False, False, None, False)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Counts that fit the nodes, and how they came about."""

    value: worth.Value
    sheet: Sheet
    how: How


@dataclass(slots=True)
class _Best:
    """The incumbents of a large fleet, the best one last. The first one that is offered stays unless another is better.

    What somebody is told of is checked at once, and says what is missing. The others are checked when they are to leave: the best that
    passes leaves.
    """

    run: _Run
    found: list[_Candidate] = field(default_factory=list)

    def offer(self, counts: Counts, how: How, *, told: bool = True) -> bool:
        """Takes the counts if they are better, fit the nodes and, if reported, pass the check. `told` False: the caller has this plan, or
        gets it next."""
        problem = self.run.problem
        value = worth.value(problem, counts.starts, counts.stops)
        if self.found and not self._better(value, self.found[-1].value):
            return False
        try:
            past = self.run.cache.past
            sheet = Sheet(problem, bind(problem, counts.starts, counts.stops, counts.slots), past, value)
        except BindError as error:
            self.run.notes.append(f"{how.engine}: {error}")
            return False
        if self.run.report is not None and told:
            # Whoever is told of incumbents may have to live with this one: it says what is missing and why.
            plan = self._checked(sheet, replace(how, brief=True))
            if plan is None:
                return False
            self.run.report(plan)
        self.found.append(_Candidate(value, sheet, how))
        return True

    def _checked(self, sheet: Sheet, how: How) -> Plan | None:
        plan = sheet.plan(how, self.run.effort)
        faults = check(self.run.problem.snapshot, self.run.demand, plan, explained=self.run.effort.explain)
        if faults:
            self.run.notes.append(f"{how.engine}: refused by check: {faults[0]}")
            return None
        return plan

    def _better(self, one: worth.Value, other: worth.Value) -> bool:
        """Serving all comes first; among plans that do, money; else the goals as one number."""
        problem = self.run.problem
        lacks = worth.short(problem, one), worth.short(problem, other)
        if lacks[0] != lacks[1]:
            return lacks[1]
        a, b = (worth.weighed(problem, v) for v in (one, other)) if lacks[0] else (one.money, other.money)
        return a < b - 1e-9 * max(1.0, abs(b))

    def priced(self, got: fleetplan.Large) -> None:
        """Prices, and the bound if exact pricing gave one, for whichever plan leaves."""
        self.found = [replace(c, how=self._how(c, got)) for c in self.found]

    def _how(self, candidate: _Candidate, got: fleetplan.Large) -> How:
        how = replace(candidate.how, rows=got.prices, pool_gap=got.pool_gap, decided_by="Deadline" if got.deadline else "Effort")
        if how.outcome is Outcome.KEPT_OLD and not any(got.counts.starts) and not any(got.counts.stops):
            # What runs is the plan: nothing was turned down.
            how = replace(how, outcome=Outcome.FEASIBLE, solver=got.solver, message="")
        if got.bound is not None:
            total = worth.weighed(self.run.problem, candidate.value)
            distance = max(0.0, total - got.bound)
            relative = distance / max(1e-9, abs(total), distance)
            outcome = Outcome.OPTIMAL if relative <= OPTIMAL_GAP else how.outcome
            how = replace(how, distance=distance, relative=relative, outcome=outcome)
        return how

    def unsolved(self) -> None:
        """No solver came to its end: that everything is kept is then no choice among plans, it is what greedy could do."""
        greedily = How(Outcome.GREEDY, "Greedy", "Greedy")
        hows = [greedily if c.how.outcome is Outcome.KEPT_OLD else c.how for c in self.found]
        by = self.run.ended_by
        self.found = [replace(c, how=replace(how, decided_by=by)) for c, how in zip(self.found, hows, strict=True)]

    def finished(self) -> Plan | None:
        """The plan with its explanations; None if nothing could be bound, or nothing passed the check."""
        while self.found:
            candidate = self.found.pop()
            how = candidate.how
            if self.run.notes and how.engine != "Columns":
                how = replace(how, message="; ".join(self.run.notes))
            plan = self._checked(candidate.sheet, how)
            if plan is not None:
                self.run.past = candidate.sheet.teller.now if self.run.effort.explain or self.run.effort.ladder else None
                return plan
        return None
