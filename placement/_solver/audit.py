"""What every answer of every solver goes through: rounded, completed, recounted; a wrong one is a typed error and never a plan.

A solver's tolerance is no permission: integers are rounded, the rows are recounted, objective and bound are counted anew and compared with
what the solver said. Anything that a solver's library throws becomes a SolverError here, so that the ladder goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from placement._solver import highs, native
from placement._solver.answers import Answer, Floats, Limits, MipAnswer, NoSolutionError, Solve, SolverError
from placement._solver.program import Program, floats
from placement.form import Coefficients, Form

Result = TypeVar("Result", Answer, MipAnswer)
_NEAR_WHOLE = 1e-4  # an integer further off than this was never one


def audited(name: str, solve: Solve) -> Solve:
    """The same solver with every answer checked."""

    def run(form: Form, objective: Coefficients, limits: Limits) -> Answer:
        def judged() -> Answer:
            raw, program = solve(form, objective, limits), Program.of(form, objective)
            x, value, bound, proven = verdict(program, floats(raw.values), raw.objective, raw.bound, raw.proven, limits)
            return Answer(x.tolist(), proven, value, bound, raw.deadline)

        return guarded(name, limits, judged)

    return run


def audited_mip(name: str, solve: Callable[[], MipAnswer], program: Program, limits: Limits) -> MipAnswer:
    def judged() -> MipAnswer:
        raw = solve()
        x, value, bound, proven = verdict(program, floats(raw.x), raw.objective, raw.bound, raw.proven, limits)
        return MipAnswer(x, value, bound, proven, raw.deadline)

    return guarded(name, limits, judged)


def guarded(name: str, limits: Limits, solve: Callable[[], Result]) -> Result:
    if limits.seconds <= 0:
        raise NoSolutionError(f"{name}: no time left")
    try:
        return solve()
    except SolverError:
        raise
    except Exception as error:  # whatever a library throws, MemoryError included: the next solver may do better
        raise SolverError(f"{name}: {type(error).__name__}: {error}") from error


def verdict(
    program: Program, raw: Floats, said: float, bound: float | None, proven: bool, limits: Limits
) -> tuple[Floats, float, float | None, bool]:
    """(solution, its value, bound, proven), or SolverError."""
    if raw.shape != program.cost.shape:
        raise SolverError(f"the solution has {raw.size} values for {program.cost.size} variables")
    if not np.isfinite(raw).all() or not math.isfinite(said):
        raise SolverError("the solution holds a value that is no number")
    if abs(program.value(raw) - said) > program.value_tolerance(raw):
        raise SolverError(f"the solution is worth {program.value(raw):g}, the solver said {said:g}")
    x = whole(program, raw)
    value, slack = program.value(x), program.value_tolerance(x) + limits.absolute_gap
    if bound is None or not math.isfinite(bound):
        return x, value, None, proven and bound is None
    if bound > value + slack:
        raise SolverError(f"the solver's bound {bound:g} is above its own solution {value:g}")
    near = value - bound <= limits.relative_gap * abs(value) + slack
    return x, value, min(bound, value), proven and near


def whole(program: Program, raw: Floats) -> Floats:
    """Integers rounded; where that breaks a row, the rest solved anew for them. What broke a row before is no solution at all."""
    if broken := program.broken(raw, rounded=False):
        raise SolverError(f"the solution breaks {broken} rows")
    rounded = np.round(raw)
    off = np.abs(raw - rounded)[program.integer]
    if off.size and off.max() > _NEAR_WHOLE:
        raise SolverError(f"the solution holds {off.max():g} of a whole number")
    x = np.where(program.integer, rounded, np.clip(raw, program.lower, program.upper)) + 0.0  # + 0.0: no -0.0
    broken = program.broken(x)
    if broken and not program.integer.all() and native.highspy is not None:
        x = highs.completed(program, x) + 0.0
        broken = program.broken(x)
    if broken:
        raise SolverError(f"the rounded solution breaks {broken} rows")
    return x
