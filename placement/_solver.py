"""The only module that knows a solver: HiGHS and CBC through PuLP, with the traps of both closed.

What has to be closed (each was seen):
- a time-limited answer is called "Optimal" by PuLP, and values stay behind where there is no solution: nothing is read unless a solution
  was confirmed, and "proven" needs the solver's own word;
- a stop at a node limit has no entry in PuLP's table of HiGHS and raises KeyError: the HiGHS object itself is asked;
- HiGHS keeps one thread pool per process, and a second value of `threads` makes every later run fail silently: the option is never
  touched;
- CBC leaves files behind and outlives a killed parent: always a time limit, a private folder that is removed; its own threads can hang and
  are never asked for;
- a solver of a certain version called a wrong plan optimal (OC-075): `healthy` runs that instance, an infeasible one and a second run
  after it.

Time is read here and nowhere else in this package, as the watchdog of a whole plan; effort is counted in nodes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import highspy
import pulp

from placement.form import Coefficients, Form

NAMES = ("HiGHS", "CBC")


class SolverError(RuntimeError):
    """A solver gave no usable answer. The ladder goes on to the next one."""


class NoSolutionError(SolverError):
    """The limit was reached before any solution was found."""


class InfeasibleError(SolverError):
    """The solver says that no solution exists. Our models always have one, so this is a defect or a broken solver."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Effort in steps; `seconds` is only the watchdog."""

    nodes: int = 1000
    relative_gap: float = 1e-4  # near enough to be called proven
    seconds: float = 10.0
    absolute_gap: float = 1e-9
    search_gap: float | None = None  # relative gap at which the search ends, if it is to be narrower than `relative_gap`

    def ends_at(self) -> float:
        return self.relative_gap if self.search_gap is None else min(self.search_gap, self.relative_gap)


@dataclass(frozen=True, slots=True)
class Answer:
    values: list[float]
    proven: bool  # within `relative_gap`, by the solver's word
    objective: float
    bound: float | None
    deadline: bool  # the watchdog ended it


Solve = Callable[[Form, Coefficients, Limits], Answer]


class Watchdog:
    """Seconds that are left for a whole plan."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()


def solver(name: str) -> Solve:
    """The named solver; SolverError for a name that is none."""
    if name == "HiGHS":
        return _highs
    if name == "CBC":
        return _cbc
    raise SolverError(f"solver: {name!r} is unknown, allowed are {', '.join(NAMES)}")


def healthy(solve: Solve) -> str:
    """Empty if the solver passes the self-test, else what is wrong with it."""
    try:
        for _ in range(2):
            answer = solve(*_two_models())
            if abs(answer.objective - 8000.0) > 1e-3:
                return f"self-test: objective {answer.objective:g}, must be 8000"
            try:
                solve(*_infeasible())
            except InfeasibleError:
                continue
            return "self-test: an infeasible model got an answer"
    except SolverError as error:
        return f"self-test: {error}"
    return ""


@lru_cache(maxsize=1)
def available() -> tuple[tuple[str, str], ...]:
    """Every solver with its self-test result, in the order of the ladder. Run once per process."""
    return tuple((name, healthy(solver(name))) for name in NAMES)


def ladder() -> tuple[str, ...]:
    return tuple(name for name, fault in available() if not fault)


def _two_models() -> tuple[Form, Coefficients, Limits]:
    """Two models of weight 10 and 8, room for one: the weight-10 model is served, 8000 is the optimum (OC-075)."""
    form = Form()
    x = [form.variable(0, 1), form.variable(0, 1)]
    z = [form.variable(integer=False), form.variable(integer=False)]
    d = [form.variable(integer=False), form.variable(integer=False)]
    for i in range(2):
        form.row({z[i]: 1.0, x[i]: -1000.0}, "<=", 0.0)
        form.row({z[i]: 1.0, d[i]: 1.0}, "==", 1000.0)
    form.row({x[0]: 1.0, x[1]: 1.0}, "<=", 1.0)
    return form, {d[0]: 10.0, d[1]: 8.0}, Limits()


def _infeasible() -> tuple[Form, Coefficients, Limits]:
    form = Form()
    x = [form.variable(0, 1), form.variable(0, 1)]
    form.row({x[0]: 1.0, x[1]: 1.0}, ">=", 3.0)
    return form, {x[0]: 1.0}, Limits()


def _problem(form: Form, objective: Coefficients) -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
    problem = pulp.LpProblem("plan", pulp.LpMinimize)
    variables = [
        pulp.LpVariable(f"x{i}", form.lower[i], form.upper[i], pulp.LpInteger if form.integer[i] else pulp.LpContinuous)
        for i in range(len(form.lower))
    ]
    problem.addVariables(variables)
    problem.setObjective(pulp.LpAffineExpression({variables[v]: c for v, c in sorted(objective.items())}))
    senses = {"<=": pulp.LpConstraintLE, ">=": pulp.LpConstraintGE, "==": pulp.LpConstraintEQ}
    for i, row in enumerate(form.rows):
        left = pulp.LpAffineExpression({variables[v]: c for v, c in sorted(row.coefficients.items())})
        problem.addConstraint(pulp.LpConstraint(left, senses[row.sense], f"r{i}", row.bound))
    return problem, variables


@lru_cache(maxsize=1)
def _silence_banner() -> None:
    """HiGHS writes its version to standard output when the first object of a process is made; the caller's output may be a protocol."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()  # type: ignore[no-untyped-call]
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def _highs(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    if limits.seconds <= 0:
        raise NoSolutionError("HiGHS: no time left")
    _silence_banner()
    problem, variables = _problem(form, objective)
    options = {"mip_max_nodes": limits.nodes, "random_seed": 1, "mip_feasibility_tolerance": 1e-7}
    back_end = pulp.HiGHS(msg=False, timeLimit=limits.seconds, gapRel=limits.ends_at(), gapAbs=limits.absolute_gap, **options)
    try:
        problem.solve(back_end)
    except KeyError:
        pass  # a status that PuLP's table lacks (node limit); the HiGHS object below knows it
    except pulp.PulpSolverError as error:
        raise SolverError(f"HiGHS: {error}") from error
    model = problem.solverModel
    status = model.getModelStatus()
    info = model.getInfo()
    good = highspy.HighsModelStatus
    if status in (good.kInfeasible, good.kUnboundedOrInfeasible, good.kUnbounded):
        raise InfeasibleError(f"HiGHS: {model.modelStatusToString(status)}")
    if status not in (good.kOptimal, good.kTimeLimit, good.kSolutionLimit, good.kIterationLimit, good.kInterrupt):
        raise SolverError(f"HiGHS: {model.modelStatusToString(status)}")
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        raise NoSolutionError(f"HiGHS: no solution, {model.modelStatusToString(status)}")
    columns = list(model.getSolution().col_value)
    reached = float(info.objective_function_value)
    bound = float(info.mip_dual_bound) if any(form.integer) else reached
    near = reached - bound <= limits.relative_gap * abs(reached) + limits.absolute_gap
    return _answer(
        form,
        objective,
        [columns[v.index] for v in variables],
        proven=status == good.kOptimal or near,
        bound=bound if abs(bound) < 1e29 else None,
        deadline=status == good.kTimeLimit,
    )


def _cbc(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    if limits.seconds <= 0:
        raise NoSolutionError("CBC: no time left")
    problem, variables = _problem(form, objective)
    with tempfile.TemporaryDirectory(prefix="polyfleet-cbc-", ignore_cleanup_errors=True) as folder:
        back_end = pulp.PULP_CBC_CMD(
            msg=False,
            timeLimit=max(1.0, limits.seconds),
            gapRel=limits.ends_at(),
            gapAbs=limits.absolute_gap,
            maxNodes=limits.nodes,
            options=["randomSeed 1", "randomCbcSeed 1"],
        )
        back_end.tmpDir = folder
        if not os.access(str(back_end.path), os.X_OK):
            raise SolverError(f"CBC: {Path(str(back_end.path)).name} is missing or may not be executed")
        try:
            problem.solve(back_end)
        except (pulp.PulpSolverError, OSError, ValueError, IndexError) as error:
            raise SolverError(f"CBC: {error}") from error
    if problem.sol_status in (pulp.LpSolutionInfeasible, pulp.LpSolutionUnbounded):
        raise InfeasibleError(f"CBC: {pulp.LpSolution[problem.sol_status]}")
    if problem.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        raise NoSolutionError("CBC: no solution within the limit")
    values = [0.0 if v.varValue is None else float(v.varValue) for v in variables]
    proven = problem.sol_status == pulp.LpSolutionOptimal
    answer = _answer(form, objective, values, proven=proven, bound=None, deadline=not proven)
    if not proven:
        return answer
    bound = answer.objective - max(limits.ends_at() * abs(answer.objective), limits.absolute_gap)
    return Answer(answer.values, True, answer.objective, bound, False)


def _answer(form: Form, objective: Coefficients, raw: list[float], *, proven: bool, bound: float | None, deadline: bool) -> Answer:
    """Rounds what must be whole and refuses what breaks a row after that: a solver's tolerance is no permission."""
    values = [float(round(x)) if whole else x for x, whole in zip(raw, form.integer, strict=True)]
    scale = max([1.0, *(abs(r.bound) for r in form.rows)])
    broken = form.violated(values, 1e-5 * scale)
    if broken:
        raise SolverError(f"the rounded solution breaks {broken} rows")
    return Answer(values, proven, form.value(objective, values), bound, deadline)
