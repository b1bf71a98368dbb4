"""A linear program on numpy arrays that stays warm between solves: the column engine's master. HiGHS only, minimising.

Measured (highspy 1.16.0, one core of a shared machine, `python -m bench.solver`): column masters of 600 rows x 12,000 columns and of
2,000 x 49,000. Cold 0.2 s and 4 s by the dual simplex, 0.5 s and 16 s by the primal; fixing an eighth of the fractional columns and
solving again 13 ms and 0.08 to 0.13 s (primal 25 ms and 0.3 s); a solve that changes nothing 5 ms and 20 to 30 ms. Presolve gains nothing
cold, is skipped by HiGHS once there is a basis, and loses all progress at a limit; without it a stopped run leaves dual feasible prices and
goes on from there. So: dual simplex, no presolve. Only where nothing but columns and costs came since the last optimum, that one still is
feasible and the primal simplex goes on from it: a third of the iterations and a quarter of the time (10,000 nodes: 7,000 to 2,300
iterations, 1.75 s to 0.4 s).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from placement._solver import native
from placement._solver.answers import LpAnswer, NoSolutionError, SolverError
from placement._solver.program import floats, ints, of_length, pointers

_ITERATIONS = 2**31 - 1  # HiGHS' own "no limit"
_DUAL, _PRIMAL = 1, 4  # HiGHS' numbers of the two


class Lp:
    """A linear program that is solved many times: columns, costs and bounds change, the basis stays.

    Within one call no index may come twice (HiGHS refuses it: SolverError).
    """

    def __init__(self, row_lower: npt.ArrayLike, row_upper: npt.ArrayLike) -> None:
        lower, upper = floats(row_lower), floats(row_upper)
        self._model = native.instance(solver="simplex", simplex_strategy=_DUAL, presolve="off")
        self.rows, self.columns = len(lower), 0
        self._feasible = False  # the last answer is an optimum, and only columns and costs came since
        no = np.zeros(0, np.int32)
        self._do("rows", "addRows", len(lower), lower, upper, 0, np.zeros(len(lower), np.int32), no, np.zeros(0))

    def _change(self, what: str, call: str, index: npt.ArrayLike, *values: npt.ArrayLike) -> None:
        at, arrays = ints(index), [floats(v) for v in values]
        for array in arrays:
            of_length(what, array, len(at))
            if np.isnan(array).any():
                raise SolverError(f"{what}: a value is no number")
        if len(at):
            self._feasible = self._feasible and call == "changeColsCost"
            self._do(what, call, len(at), at, *arrays)

    def _do(self, what: str, call: str, *arguments: object) -> None:
        with native.guard():
            native.good(getattr(self._model, call)(*arguments), what)

    def add_columns(
        self,
        cost: npt.ArrayLike,
        lower: npt.ArrayLike,
        upper: npt.ArrayLike,
        ptr: npt.ArrayLike,
        rows: npt.ArrayLike,
        values: npt.ArrayLike,
    ) -> int:
        """Adds columns (compressed by column, `ptr` has one entry more than there are columns); returns the index of the first."""
        costs, starts, entries, filled = floats(cost), ints(ptr), ints(rows), floats(values)
        first, n = self.columns, len(costs)
        if n == 0:
            return first
        pointers(starts, n, len(entries))
        of_length("column values", filled, len(entries))
        low, high = floats(lower), floats(upper)
        of_length("lower bounds", low, n)
        of_length("upper bounds", high, n)
        if not (np.isfinite(costs).all() and np.isfinite(filled).all()):
            raise SolverError("columns: a cost or a coefficient is no number")  # HiGHS takes them, and answers anything
        self._do(f"{n} columns", "addCols", n, costs, low, high, len(entries), starts[:-1], entries, filled)
        self.columns += n
        return first

    def set_costs(self, index: npt.ArrayLike, cost: npt.ArrayLike) -> None:
        self._change("costs", "changeColsCost", index, cost)

    def set_bounds(self, index: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> None:
        self._change("bounds", "changeColsBounds", index, lower, upper)

    def set_rows(self, index: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> None:
        self._change("row bounds", "changeRowsBounds", index, lower, upper)

    def solve(self, *, iterations: int | None = None, seconds: float) -> LpAnswer:
        """Solves from the last basis.

        At a limit of iterations `optimal` is False: the prices are dual feasible then (and `objective` is a lower bound of the program),
        while `x` is mostly not feasible yet and therefore NaN; the next solve goes on from there. A limit of seconds may leave either.
        NoSolutionError if there is not even that, InfeasibleError if the program has no solution, SolverError for everything else.
        """
        if seconds <= 0:
            raise NoSolutionError("HiGHS: no time left")
        model = self._model
        self._do("iterations", "setOptionValue", "simplex_iteration_limit", _ITERATIONS if iterations is None else iterations)
        # A run that may be stopped on the way is dual: only then are there prices to read.
        self._do("the simplex", "setOptionValue", "simplex_strategy", _PRIMAL if self._feasible and iterations is None else _DUAL)
        self._feasible = False
        # HiGHS counts the time of an instance over all its runs.
        self._do("time limit", "setOptionValue", "time_limit", model.getRunTime() + seconds)
        with native.guard():
            limited = native.stopped(model, model.run())
            info, solution = model.getInfo(), model.getSolution()
            feasible = native.has_solution(model)
            priced = bool(info.dual_solution_status == native.module().SolutionStatus.kSolutionStatusFeasible)
            if not (feasible or priced) or not (limited or (feasible and priced)):
                raise NoSolutionError(f"HiGHS: no solution, {model.modelStatusToString(model.getModelStatus())}")
            self._feasible = not limited
            return LpAnswer(
                objective=float(info.objective_function_value),
                x=floats(solution.col_value) if feasible else np.full(self.columns, np.nan),
                row_dual=floats(solution.row_dual) if priced else np.full(self.rows, np.nan),
                reduced=floats(solution.col_dual) if priced else None,
                iterations=int(info.simplex_iteration_count),
                optimal=not limited,
            )
