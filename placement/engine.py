"""`plan`: snapshot and demand in, a checked plan out, whatever the solvers do.

Ladder: HiGHS, CBC, greedy; the old plan as the last step down. A plan leaves only if `check` finds no fault in it. Stateless: everything
that a plan depends on is in its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from placement import _solver, general, greedy
from placement.bind import BindError, Binding, bind
from placement.check import check
from placement.explain import explain_plan, loss_of
from placement.problem import Problem, build
from placement.snapshot import demand_by_model, normalised, validated
from placement.types import DEFAULT, Demand, Effort, Outcome, Plan, Snapshot, Warm

# A plan is called optimal up to this relative distance from its bound.
OPTIMAL_GAP = 1e-4


def plan(
    snapshot: Snapshot,
    demand: Demand,
    *,
    warm: Warm | None = None,
    effort: Effort = DEFAULT,
    solvers: Sequence[str] | None = None,
) -> tuple[Plan, Warm]:
    """The plan for this snapshot. `solvers` overrides the ladder of healthy solvers (tests; an empty list is greedy only)."""
    snapshot = normalised(snapshot)
    validated(snapshot, demand)
    problem = build(snapshot, demand_by_model(snapshot, demand))
    notes: list[str] = []
    for name in _solver.ladder() if solvers is None else solvers:
        try:
            found = solve_with(problem, demand, _solver.solver(name), name, effort)
        except (_solver.SolverError, BindError) as error:
            notes.append(str(error))
            continue
        faults = check(snapshot, demand, found)
        if not faults:
            return found, warm or Warm()
        notes.append(f"{name}: refused by check: {faults[0]}")
    return _last_resort(problem, demand, notes), warm or Warm()


def solver_health() -> tuple[tuple[str, str], ...]:
    """Every solver of the ladder with what its self-test found; an empty text is healthy. The first healthy one is used."""
    return _solver.available()


def solve_with(problem: Problem, demand: Demand, engine: _solver.Solve, name: str, effort: Effort) -> Plan:
    policy = problem.snapshot.policy
    limits = _solver.Limits(effort.mip_nodes, policy.relative_gap, policy.time_limit_s)
    counts = general.solve(problem, engine, limits)
    binding = bind(problem, counts.starts, counts.stops, counts.slots)
    # The distance to the bound is taken with the tie-breaks, as the solver saw both; what is published is without them.
    distance = None if counts.bound is None or not counts.goals_proven else max(0.0, counts.money - counts.bound)
    gap = None if distance is None else distance / max(1e-9, abs(counts.money), distance)
    proven = counts.proven and gap is not None and gap <= max(OPTIMAL_GAP, policy.relative_gap)
    return _plan(
        problem,
        binding,
        outcome=Outcome.OPTIMAL if proven else Outcome.FEASIBLE,
        solver=name,
        distance=distance,
        gap=gap,
        decided_by="Deadline" if counts.deadline else "Effort",
        message="",
    )


def _last_resort(problem: Problem, demand: Demand, notes: list[str]) -> Plan:
    message = "; ".join(notes) or "no solver passed its self-test"
    for keep_only in (False, True):
        try:
            binding = bind(problem, *greedy.place(problem, keep_only=keep_only))
        except BindError as error:
            message += f"; {error}"
            continue
        outcome = Outcome.KEPT_OLD if keep_only else Outcome.GREEDY
        found = _plan(problem, binding, outcome=outcome, solver="Greedy", distance=None, gap=None, decided_by="Effort", message=message)
        faults = check(problem.snapshot, demand, found)
        if not faults or keep_only:
            return found
        message += f"; greedy: refused by check: {faults[0]}"
    raise AssertionError("the plan that keeps everything can always be bound")


def _plan(
    problem: Problem,
    binding: Binding,
    *,
    outcome: Outcome,
    solver: str,
    distance: float | None,
    gap: float | None,
    decided_by: str,
    message: str,
) -> Plan:
    cells = {c.name: c for c in problem.cells}
    devices = {o.id: o.devices for o in problem.options}
    running = {i: g for g in problem.groups for i in g.ids}
    kept = sum(running[i].cost for i in binding.keep)
    started = sum(cells[s.cell].cost_per_device_hour * devices[s.option] for s in binding.starts)
    stops = sum(problem.stop_price(running[i]) for i in binding.stop)
    shortfalls, why = explain_plan(problem, binding, exact=outcome is Outcome.OPTIMAL)
    loss = loss_of(problem, binding)
    money = kept + started
    objective = money + stops + general.WEIGHT * problem.unit * loss
    return Plan(
        assignments=binding.assignments,
        keep=binding.keep,
        stop=binding.stop,
        starts=binding.starts,
        shortfalls=shortfalls,
        why=why,
        outcome=outcome,
        solver=solver,
        hourly_cost=round(money, 6),
        objective=round(objective, 6),
        bound=None if distance is None else round(objective - distance, 6),
        gap=None if gap is None else round(gap, 9),
        decided_by=decided_by,
        message=message,
    )
