"""CBC through PuLP: the solver that remains where HiGHS is not to be had.

What has to be closed here (each was seen or is reported):
- it is a program of its own: it leaves model files behind, and outlives a parent that is killed. So always a time limit, and a private
  folder that is removed; who kills the placer kills its whole process group;
- its own threads hang at random and are never asked for;
- its values stay in the variables also where there is no solution (fractional, or x = 2 for x <= 1): nothing is read unless PuLP's
  `sol_status` says that there is one, and only 1 of its values is a proof;
- it may pass its time limit in preprocessing: the outer deadline counts;
- its preprocessing calls a feasible program infeasible now and then (1 of 200 tiny fleets whose finished goals are held by rows; 2.10.3),
  so "infeasible" is believed only if it says so without preprocessing as well.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pulp

from placement._solver.answers import Answer, Floats, InfeasibleError, Limits, MipAnswer, NoSolutionError, SolverError
from placement._solver.model import problem_from, problem_of, value_of
from placement._solver.program import Program, floats
from placement.form import Coefficients, Form


def solve(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    problem, variables = problem_of(form, objective, for_file=True)
    try:
        proven, values = _run(problem, variables, limits, warm=False)
    except InfeasibleError:
        problem, variables = problem_of(form, objective, for_file=True)
        proven, values = _run(problem, variables, limits, warm=False, more=("preprocess off",))
    reached = form.value(objective, values)
    return Answer(values, proven, reached, _bound(proven, reached, limits), not proven)


def mip(program: Program, start: Floats | None, limits: Limits) -> MipAnswer:
    problem, variables = problem_from(program)
    if start is not None:
        for variable, value in zip(variables, start.tolist(), strict=True):
            variable.setInitialValue(value, check=False)
    proven, values = _run(problem, variables, limits, warm=start is not None)
    x = floats(values)
    reached = program.value(x)
    return MipAnswer(x, reached, _bound(proven, reached, limits), proven, not proven)


def _bound(proven: bool, reached: float, limits: Limits) -> float | None:
    """CBC tells no bound through PuLP: a proof means that the gap of the search was reached."""
    return reached - max(limits.ends_at() * abs(reached), limits.absolute_gap) if proven else None


def _run(
    problem: pulp.LpProblem, variables: list[pulp.LpVariable], limits: Limits, *, warm: bool, more: tuple[str, ...] = ()
) -> tuple[bool, list[float]]:
    """(proven, values). With `warm` the values that the variables hold are the start."""
    with tempfile.TemporaryDirectory(prefix="polyfleet-cbc-", ignore_cleanup_errors=True) as folder:
        back_end = pulp.PULP_CBC_CMD(
            msg=False,
            timeLimit=max(0.01, limits.seconds),
            gapRel=limits.ends_at(),
            gapAbs=limits.absolute_gap,
            maxNodes=limits.nodes,
            warmStart=warm,
            options=["randomSeed 1", "randomCbcSeed 1", *more],
        )
        back_end.tmpDir = folder
        if not os.access(str(back_end.path), os.X_OK):
            raise SolverError(f"CBC: {Path(str(back_end.path)).name} is missing or may not be executed")
        try:
            problem.solve(back_end)
        except (pulp.PulpSolverError, OSError, ValueError, IndexError) as error:
            raise SolverError(f"CBC: {error}") from error
    # "Integer infeasible" is in `status` only: PuLP has no `sol_status` for it.
    if problem.status in (pulp.LpStatusInfeasible, pulp.LpStatusUnbounded):
        raise InfeasibleError(f"CBC: {pulp.LpStatus[problem.status]}")
    if problem.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        raise NoSolutionError("CBC: no solution within the limit")
    return problem.sol_status == pulp.LpSolutionOptimal, [value_of(v) for v in variables]
