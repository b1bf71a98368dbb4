"""HiGHS: a `Form` through PuLP, an array program through its own module (which alone takes a start).

What has to be closed here (each was seen):
- PuLP calls a time-limited answer "Optimal", and has no entry for a stop at a node limit (KeyError): the HiGHS object itself is asked;
- a run that fails leaves zeros: nothing is read before the three statuses were (`native`);
- one thread pool per process: `threads` is never set;
- with presolve it found the optimum of a feasible program and called it infeasible (1 of 1,700 tiny fleets, 1.16.0), so "infeasible" is
  believed only if it says so without presolve as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pulp

from placement._solver import native
from placement._solver.answers import Answer, Floats, InfeasibleError, Limits, MipAnswer, SolverError
from placement._solver.model import problem_of
from placement._solver.program import Program, floats
from placement.form import Coefficients, Form

_SEED = 1


def solve(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    native.module()
    try:
        return _solve(form, objective, limits)
    except InfeasibleError:
        return _solve(form, objective, limits, presolve="off")


def _solve(form: Form, objective: Coefficients, limits: Limits, **more: object) -> Answer:
    problem, variables = problem_of(form, objective)
    options = {"mip_max_nodes": limits.nodes, "random_seed": _SEED, "mip_feasibility_tolerance": 1e-7, **more}
    back_end = pulp.HiGHS(msg=False, timeLimit=limits.seconds, gapRel=limits.ends_at(), gapAbs=limits.absolute_gap, **options)
    try:
        problem.solve(back_end)
    except KeyError:
        pass  # a status that PuLP's table lacks (node limit); the HiGHS object below knows it
    except pulp.PulpSolverError as error:
        raise SolverError(f"HiGHS: {error}") from error
    model = problem.solverModel
    optimal, reached, bound = _outcome(model, any(form.integer))
    columns = list(model.getSolution().col_value)
    near = bound is not None and reached - bound <= limits.relative_gap * abs(reached) + limits.absolute_gap
    return Answer([columns[v.index] for v in variables], optimal or near, reached, bound, native.out_of_time(model))


def mip(program: Program, start: Floats | None, limits: Limits) -> MipAnswer:
    model = native.instance(
        mip_rel_gap=limits.ends_at(), mip_abs_gap=limits.absolute_gap, mip_max_nodes=limits.nodes, time_limit=limits.seconds
    )
    _pass(model, program, program.integer, program.lower, program.upper)
    if start is not None:
        solution = native.module().HighsSolution()
        solution.col_value = start.tolist()
        model.setSolution(solution)  # one that is no solution is left aside by HiGHS
    run = model.run()
    optimal, reached, bound = _outcome(model, bool(program.integer.any()), run)
    near = bound is not None and reached - bound <= limits.relative_gap * abs(reached) + limits.absolute_gap
    return MipAnswer(floats(model.getSolution().col_value), reached, bound, optimal or near, native.out_of_time(model))


def completed(program: Program, x: Floats) -> Floats:
    """The best solution with the integers of `x`: where rounding them left the continuous part a little wrong."""
    model = native.instance(solver="simplex", time_limit=30.0)
    fixed_lower, fixed_upper = (np.where(program.integer, x, side) for side in (program.lower, program.upper))
    _pass(model, program, None, fixed_lower, fixed_upper)
    run = model.run()
    try:
        _outcome(model, False, run)
    except InfeasibleError as error:
        raise SolverError("the rounded solution breaks its rows") from error
    return np.where(program.integer, x, floats(model.getSolution().col_value))


def _outcome(model: Any, integers: bool, run: Any = None) -> tuple[bool, float, float | None]:
    """(ended by itself, objective, bound), or a typed error if there is no solution to read."""
    limited = native.stopped(model, run)
    native.need_solution(model)
    info = model.getInfo()
    reached = float(info.objective_function_value)
    if not integers:
        return not limited, reached, None if limited else reached
    bound = float(info.mip_dual_bound)
    return not limited, reached, bound if abs(bound) < 1e29 else None


def _pass(model: Any, program: Program, integer: Any, lower: Floats, upper: Floats) -> None:
    """Hands the arrays over; without `integer` it is a linear program."""
    kinds = np.zeros(len(program.cost), np.int32) if integer is None else integer.astype(np.int32)
    rowwise, minimise = 2, 1
    size = (len(program.cost), len(program.row_lower), len(program.cols))
    rows = (program.row_lower, program.row_upper, program.ptr, program.cols, program.values)
    native.good(model.passModel(*size, rowwise, minimise, 0.0, program.cost, lower, upper, *rows, kinds), "the model")
