"""Runs instances whose answers are known through a solver, before it plans anything: one that is wrong is not used (OC-075).

A version of HiGHS (1.14.0) called a plan optimal that was a quarter worse. Whether it does depends on the order of rows and columns, so the
instance is run in both. The others: a program without solution, limits far below what a proof needs, a second instance after other options
(the thread pool's trap), a start that is optimal, poor, or no solution, a linear program with known prices that is solved again.
`python -m bench.solver_selftest` runs it against any version of highspy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from placement._solver.answers import Answer, Floats, InfeasibleError, Limits, MipAnswer, NoSolutionError, Solve, SolverError
from placement._solver.audit import audited, audited_mip
from placement._solver.linear import Lp
from placement._solver.program import Program
from placement.form import Coefficients, Form

Run = Callable[[Form, Coefficients, Limits], Answer | MipAnswer]
RunMip = Callable[[Program, Floats | None, Limits], MipAnswer]
OTHER = Limits(nodes=50, relative_gap=1e-3, seconds=5.0)
# Starts for `two_models`: x, z and what is missing, of each model.
BEST = [1.0, 0.0, 1000.0, 0.0, 0.0, 1000.0]
POOR = [0.0, 0.0, 0.0, 0.0, 1000.0, 1000.0]
NO_SOLUTION = [1.0, 1.0, 9.0, 9.0, 9.0, 9.0]
MARKET_SPLIT = 2.0  # by enumeration of all 2^24 (a test)


@dataclass(frozen=True, slots=True)
class Engine:
    """One solver: its three doors."""

    solve: Solve
    mip: RunMip
    lp: type[Lp] | None  # None: it has no warm linear program


def healthy(engine: Engine | Solve) -> str:
    """Empty if the solver passes the self-test, else what is wrong with it."""
    if not isinstance(engine, Engine):
        return _failure([lambda: _forms(audited("self-test", engine))])
    probes: list[Callable[[], str]] = [lambda: _forms(audited("self-test", engine.solve)), lambda: _arrays(engine.mip)]
    if engine.lp is not None:
        kind = engine.lp
        probes.append(lambda: _linear(kind))
    return _failure(probes)


def _failure(probes: list[Callable[[], str]]) -> str:
    try:
        for probe in probes:
            if fault := probe():
                return f"self-test: {fault}"
    except SolverError as error:
        return f"self-test: {error}"
    except Exception as error:  # a library of another version may throw anything: it is not used, and that is all
        return f"self-test: {type(error).__name__}: {error}"
    return ""


def _forms(solve: Solve) -> str:
    for order, limits in (((0, 1), Limits()), ((0, 1), OTHER), ((1, 0), Limits()), ((0, 1), Limits())):
        answer = solve(*two_models(order), limits)
        if abs(answer.objective - 8000.0) > 1e-3:
            return f"objective {answer.objective:g}, must be 8000"
        if not answer.proven:
            return "an optimum without proof"
    return _refused(solve) or _limited(solve, Limits(nodes=1, relative_gap=0.0))


def _arrays(run: RunMip) -> str:
    def solve(form: Form, objective: Coefficients, limits: Limits, start: list[float] | None = None) -> MipAnswer:
        program = Program.of(form, objective)
        begin = None if start is None else np.array(start)
        return audited_mip("self-test", lambda: run(program, begin, limits), program, limits)

    for start in (None, BEST, POOR, NO_SOLUTION):
        answer = solve(*two_models(), Limits(), start)
        if abs(answer.objective - 8000.0) > 1e-3:
            return f"objective {answer.objective:g}, must be 8000 (arrays)"
    return _refused(solve) or _limited(solve, Limits(nodes=10**6, relative_gap=0.0, seconds=1e-3))


def _refused(run: Run) -> str:
    for relaxed in (True, False):
        try:
            run(*infeasible(relaxed=relaxed), Limits())
        except InfeasibleError:
            continue
        except NoSolutionError:
            return "an infeasible model came out as a limit"
        return "an infeasible model got an answer"
    return ""


def _limited(run: Run, limits: Limits) -> str:
    """A limit far below what a proof needs: a solution without proof, or none; and a proof only for what is the optimum."""
    try:
        answer = run(*market_split(), limits)
    except NoSolutionError:
        return ""
    return "a limit was called optimal" if answer.proven and answer.objective > MARKET_SPLIT + 0.5 else ""


def _linear(kind: type[Lp]) -> str:
    """min 2 x + 3 y, x + y >= 4, x + 3 y >= 6: 9 at (3, 1), prices 3/2 and 1/2; 6 with a third column of cost 1 in both rows."""
    lp = kind([4.0, 6.0], [np.inf, np.inf])
    lp.add_columns([2.0, 3.0], [0.0, 0.0], [np.inf, np.inf], [0, 2, 4], [0, 1, 0, 1], [1.0, 1.0, 1.0, 3.0])
    first = lp.solve(seconds=5.0)
    if not first.optimal or abs(first.objective - 9.0) > 1e-6 or abs(first.x - [3.0, 1.0]).max() > 1e-6:
        return f"a linear program of value 9 came out as {first.objective:g}"
    if abs(first.row_dual - [1.5, 0.5]).max() > 1e-6:
        return f"a linear program with prices 1.5 and 0.5 came out with {first.row_dual.tolist()}"
    lp.add_columns([1.0], [0.0], [np.inf], [0, 2], [0, 1], [1.0, 1.0])
    second = lp.solve(seconds=5.0)
    if not second.optimal or abs(second.objective - 6.0) > 1e-6:
        return f"a linear program of value 6 came out as {second.objective:g} when it was solved again"
    lp.set_bounds([0, 1, 2], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    try:
        lp.solve(seconds=5.0)
    except InfeasibleError:
        return ""
    return "an infeasible linear program got an answer"


def two_models(order: tuple[int, ...] = (0, 1)) -> tuple[Form, Coefficients]:
    """Two models of weight 10 and 8, room for one: the weight-10 model is served, 8000 is the optimum (OC-075)."""
    weights = [(10.0, 8.0)[i] for i in order]
    form = Form()
    x = [form.variable(0, 1), form.variable(0, 1)]
    z = [form.variable(integer=False), form.variable(integer=False)]
    d = [form.variable(integer=False), form.variable(integer=False)]
    for i in range(2):
        form.row({z[i]: 1.0, x[i]: -1000.0}, "<=", 0.0)
        form.row({z[i]: 1.0, d[i]: 1.0}, "==", 1000.0)
    form.row({x[0]: 1.0, x[1]: 1.0}, "<=", 1.0)
    return form, {d[0]: weights[0], d[1]: weights[1]}


def infeasible(*, relaxed: bool) -> tuple[Form, Coefficients]:
    """x + y >= 3 of two that are at most 1; or 3 x + 5 y + 7 z = 11 in 0 or 1, which only fractions can reach."""
    form = Form()
    x = [form.variable(0, 1) for _ in range(3)]
    if relaxed:
        form.row({x[0]: 1.0, x[1]: 1.0}, ">=", 3.0)
    else:
        form.row({x[0]: 3.0, x[1]: 5.0, x[2]: 7.0}, "==", 11.0)
    return form, {x[0]: 1.0}


def market_split(size: int = 24, rows: int = 4) -> tuple[Form, Coefficients]:
    """Small and hard: equal halves of several lists at once. No bound helps, so that every limit is reached. Optimum: MARKET_SPLIT."""
    form = Form()
    x = [form.variable(0, 1) for _ in range(size)]
    objective: Coefficients = {}
    state = 7
    for _ in range(rows):
        weights = []
        for _ in range(size):
            state = state * 1103515245 + 12345 & 0x7FFFFFFF
            weights.append(float(state >> 16 & 0x3F))
        over, under = form.variable(integer=False), form.variable(integer=False)
        row = dict(zip(x, weights, strict=True))
        form.row({**row, over: -1.0, under: 1.0}, "==", float(int(sum(weights)) // 2))
        objective |= {over: 1.0, under: 1.0}
    return form, objective
