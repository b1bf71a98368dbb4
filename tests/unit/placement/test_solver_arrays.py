"""`Lp` and `mip` on arrays: certificates for linear programs, enumeration for integer ones, both solvers against each other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from placement import _solver
from placement._solver import InfeasibleError, Limits, Lp, NoSolutionError, SolverError, mip, native

BOTH = pytest.mark.parametrize("solver", _solver.NAMES)
INF = np.inf
EXACT = Limits(nodes=100_000, relative_gap=0.0, seconds=60.0)


def by_column(dense: Any) -> tuple[Any, Any, Any]:
    """(pointers, rows, values) of a dense matrix."""
    columns, rows = np.nonzero(dense.T)
    return np.searchsorted(columns, np.arange(dense.shape[1] + 1)), rows, dense[rows, columns]


def by_row(dense: Any) -> tuple[Any, Any, Any]:
    rows, columns = np.nonzero(dense)
    return np.searchsorted(rows, np.arange(dense.shape[0] + 1)), columns, dense[rows, columns]


class Dense:
    """A random linear program, min c x, A x >= b, 0 <= x <= u, kept beside the `Lp` under test."""

    def __init__(self, seed: int, rows: int = 8, columns: int = 12) -> None:
        self.rng = np.random.default_rng(seed)
        self.a = self._columns(rows, columns)
        self.cost = self.rng.integers(1, 20, columns).astype(float)
        self.upper = np.full(columns, 50.0)
        self.b = self.rng.integers(1, 30, rows).astype(float)
        self.lp = Lp(self.b, np.full(rows, INF))
        # A dear column in every row keeps it feasible.
        self.lp.add_columns(np.full(rows, 500.0), np.zeros(rows), np.full(rows, INF), np.arange(rows + 1), np.arange(rows), np.ones(rows))
        self.a, self.cost, self.upper = np.eye(rows), np.full(rows, 500.0), np.full(rows, INF)
        self.add(columns)

    def _columns(self, rows: int, columns: int) -> Any:
        return self.rng.integers(0, 5, (rows, columns)) * self.rng.integers(0, 2, (rows, columns)).astype(float)

    def add(self, columns: int) -> None:
        part = self._columns(len(self.b), columns)
        cost, upper = self.rng.integers(1, 20, columns).astype(float), self.rng.integers(1, 9, columns).astype(float)
        assert self.lp.add_columns(cost, np.zeros(columns), upper, *by_column(part)) == len(self.cost)
        self.a, self.cost, self.upper = np.hstack([self.a, part]), np.append(self.cost, cost), np.append(self.upper, upper)

    def certified(self) -> float:
        """The value, after a proof that needs no solver: x feasible, prices feasible, both worth the same."""
        answer = self.lp.solve(seconds=30.0)
        x, y = answer.x, answer.row_dual
        assert answer.optimal
        assert answer.reduced is not None
        assert (self.a @ x >= self.b - 1e-6).all()
        assert (x >= -1e-7).all()
        assert (x <= self.upper + 1e-6).all()
        assert (y >= -1e-7).all()  # rows bind from below: one more unit costs
        reduced = self.cost - y @ self.a
        assert answer.reduced == pytest.approx(reduced, abs=1e-6)
        bounded = np.isfinite(self.upper)
        assert (reduced[~bounded] >= -1e-7).all()
        bound = y @ self.b + np.minimum(reduced[bounded], 0.0) @ self.upper[bounded]
        assert self.cost @ x == pytest.approx(bound, rel=1e-7)
        assert answer.objective == pytest.approx(bound, rel=1e-7)
        return float(bound)


@pytest.mark.parametrize("seed", range(10))
def test_a_warm_linear_program_is_optimal_after_every_change(seed: int) -> None:
    """New columns, costs, bounds and row bounds, in turn: every solve ends with a certificate, and none is idle."""
    dense = Dense(seed)
    values = [dense.certified()]
    for _ in range(3):
        dense.add(10)
        values.append(dense.certified())
        assert values[-1] <= values[-2] + 1e-6  # more columns never cost more
        at = np.array([9, 12, 15])
        dense.cost[at] += 7.0
        dense.lp.set_costs(at, dense.cost[at])
        values.append(dense.certified())
        assert values[-1] >= values[-2] - 1e-6  # dearer columns never cost less
        dense.upper[at] = 0.0
        dense.lp.set_bounds(at, np.zeros(3), np.zeros(3))
        values.append(dense.certified())
        rows = np.array([1, 4])
        dense.b[rows] += 10.0
        dense.lp.set_rows(rows, dense.b[rows], np.full(2, INF))
        values.append(dense.certified())
        assert values[-1] >= values[-2] - 1e-6
    assert len({round(v, 6) for v in values}) > 4


def test_a_second_solve_of_the_same_program_needs_no_step() -> None:
    """The basis is kept; and two programs made alike answer alike to the last bit."""
    one, two = Dense(3), Dense(3)
    first, again, other = one.lp.solve(seconds=30.0), one.lp.solve(seconds=30.0), two.lp.solve(seconds=30.0)
    assert first.iterations > 0
    assert again.iterations == 0
    assert again.objective == first.objective
    assert (first.x == other.x).all()
    assert (first.row_dual == other.row_dual).all()


def test_an_iteration_limit_leaves_prices_that_bound_the_value() -> None:
    """Stopped in the middle: no `x` to read, prices that are dual feasible, and the next solve goes on to the optimum."""
    dense, whole = Dense(5, rows=30, columns=60), Dense(5, rows=30, columns=60)
    best = whole.certified()
    stopped = dense.lp.solve(iterations=4, seconds=30.0)
    assert not stopped.optimal
    assert np.isnan(stopped.x).all()
    reduced = dense.cost - stopped.row_dual @ dense.a
    bounded = np.isfinite(dense.upper)
    assert (reduced[~bounded] >= -1e-7).all()
    assert stopped.row_dual @ dense.b + np.minimum(reduced[bounded], 0.0) @ dense.upper[bounded] <= best + 1e-6
    assert stopped.objective <= best + 1e-6
    assert dense.certified() == pytest.approx(best)


def test_the_time_of_an_instance_counts_anew_in_every_solve() -> None:
    """HiGHS adds up the time of all runs of an object: a hundred solves within a limit of what one may take must all end."""
    dense = Dense(1, rows=40, columns=80)
    for _ in range(100):
        assert dense.lp.solve(seconds=1.0).optimal
        dense.add(2)
    assert dense.lp._model.getOptionValue("time_limit")[1] > 1.0 + dense.lp._model.getRunTime() * 0.5


def test_what_is_no_linear_program_is_a_typed_error() -> None:
    lp = Lp([4.0], [INF])
    with pytest.raises(SolverError, match="Empty"):
        lp.solve(seconds=5.0)  # no columns
    lp.add_columns([-1.0], [0.0], [INF], [0, 1], [0], [1.0])
    with pytest.raises(InfeasibleError, match="nbounded"):
        lp.solve(seconds=5.0)
    with pytest.raises(NoSolutionError):
        lp.solve(seconds=0.0)
    with pytest.raises(SolverError, match="need 3 pointers"):
        lp.add_columns([1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0, 1], [0], [1.0])
    with pytest.raises(SolverError, match="refused"):
        lp.set_costs([0, 0], [1.0, 2.0])
    with pytest.raises(SolverError, match="costs: 2 values for 1"):
        lp.set_costs([0], [1.0, 2.0])
    with pytest.raises(SolverError, match="refused"):
        lp.add_columns([1.0], [0.0], [1.0], [0, 1], [7], [1.0])  # there is no row 7
    with pytest.raises(SolverError, match="no number"):
        lp.set_costs([0], [np.nan])
    with pytest.raises(SolverError, match="no number"):
        lp.add_columns([np.nan], [0.0], [1.0], [0, 1], [0], [1.0])
    lp.set_costs([0], [2.0])
    assert lp.solve(seconds=5.0).objective == pytest.approx(8.0)  # and none of it was taken


def random_mip(seed: int) -> tuple[Any, Any, Any, Any, Any]:
    """(cost, dense rows, row lower, row upper, upper): six integers of 0 to 3, capacity and demand rows."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 6, (5, 6)).astype(float)
    upper = rng.integers(1, 4, 6).astype(float)
    full = a @ upper
    row_upper = np.array([np.floor(full[0] * 0.5), np.floor(full[1] * 0.4), INF, INF, np.floor(full[4] * 0.5)])
    row_lower = np.array([-INF, -INF, np.floor(full[2] * 0.4), np.floor(full[3] * 0.45), np.floor(full[4] * 0.3)])
    return rng.integers(1, 30, 6).astype(float), a, row_lower, row_upper, upper


def enumerated(cost: Any, a: Any, row_lower: Any, row_upper: Any, upper: Any) -> float | None:
    best = None
    for x in itertools.product(*(range(int(u) + 1) for u in upper)):
        left = a @ x
        if (left >= row_lower).all() and (left <= row_upper).all():
            value = float(cost @ x)
            best = value if best is None else min(best, value)
    return best


@BOTH
def test_integer_programs_equal_enumeration(solver: str) -> None:
    """40 seeded programs: the optimum, or infeasible where no point of the grid fits. Both kinds occur."""
    kinds = set()
    for seed in range(40):
        cost, a, low, high, upper = random_mip(seed)
        best = enumerated(cost, a, low, high, upper)
        kinds.add(best is None)
        try:
            answer = mip(cost, np.zeros(6), upper, np.ones(6), low, high, *by_row(a), limits=EXACT, solver=solver)
        except InfeasibleError:
            assert best is None, f"seed {seed}"
            continue
        assert answer.objective == best, f"seed {seed}"
        assert answer.proven
        assert answer.bound == pytest.approx(best, abs=1e-6)
        assert (answer.x == np.round(answer.x)).all()
    assert kinds == {False, True}


def knapsack_master(seed: int, models: int = 12, per: int = 6, links: int = 3) -> dict[str, Any]:
    """A small column master: one column of each model, links of a limited stock that may be exceeded at a price (continuous)."""
    rng = np.random.default_rng(seed)
    n = models * per
    a = np.zeros((models + links, n + links))
    for j in range(n):
        a[j // per, j] = 1.0
        for _ in range(2):
            a[models + rng.integers(links), j] += rng.integers(1, 9)
    a[models:, n:] = -np.eye(links)
    stock = np.floor(a[models:, :n].sum(axis=1) / per * 0.7)
    return {
        "cost": np.append(rng.integers(10, 90, n).astype(float), np.full(links, 40.0)),
        "lower": np.zeros(n + links),
        "upper": np.append(np.ones(n), np.full(links, INF)),
        "integer": np.append(np.ones(n, bool), np.zeros(links, bool)),
        "row_lower": np.append(np.ones(models), np.full(links, -INF)),
        "row_upper": np.append(np.ones(models), stock),
        **dict(zip(("ptr", "cols", "values"), by_row(a), strict=True)),
    }


def test_both_solvers_agree_on_column_masters() -> None:
    """The master through PuLP and CBC equals the one on arrays: same optimum, each bound below the other's value."""
    for seed in range(6):
        master = knapsack_master(seed)
        one, two = (mip(**master, limits=EXACT, solver=name) for name in ("HiGHS", "CBC"))
        assert one.objective == pytest.approx(two.objective, rel=1e-7)
        assert one.proven
        assert two.proven
        assert one.bound is not None
        assert two.bound is not None
        assert max(one.bound, two.bound) <= min(one.objective, two.objective) + 1e-6


@BOTH
def test_a_start_is_never_lost(solver: str) -> None:
    """With no node to search, the answer is at least as good as the start; a start that is no solution does no harm."""
    master = knapsack_master(11, models=15)
    best = mip(**master, limits=EXACT, solver=solver)
    none = Limits(nodes=0, relative_gap=0.0, seconds=30.0)
    assert mip(**master, limits=none, start=best.x, solver=solver).objective == pytest.approx(best.objective)
    nowhere = np.full(len(best.x), 1.0)
    assert mip(**master, limits=EXACT, start=nowhere, solver=solver).objective == pytest.approx(best.objective)


@BOTH
def test_the_same_program_gives_the_same_bits(solver: str) -> None:
    master = knapsack_master(4)
    limits = Limits(nodes=5, relative_gap=0.0, seconds=60.0)
    one, two = mip(**master, limits=limits, solver=solver), mip(**master, limits=limits, solver=solver)
    assert one.x.tobytes() == two.x.tobytes()
    assert (one.objective, one.bound) == (two.objective, two.bound)


def test_a_program_without_integers_and_without_rows() -> None:
    """The edges of the array form: a linear program has its own value as bound; no row at all leaves each variable at its bound."""
    for solver in _solver.NAMES:
        linear = mip([1.0, 3.0], [0, 0], [9, 9], [0, 0], [5.0], [INF], [0, 2], [0, 1], [1.0, 1.0], limits=EXACT, solver=solver)
        assert linear.objective == pytest.approx(5.0)
        assert linear.bound == pytest.approx(5.0, abs=1e-6)
        free = mip([1.0, -2.0], [2, 0], [9, 4], [1, 1], [], [], [0], [], [], limits=EXACT, solver=solver)
        assert free.x.tolist() == [2.0, 4.0]
        nothing = mip([], [], [], [], [0.0], [1.0], [0, 0], [], [], limits=EXACT, solver=solver)
        assert (nothing.x.size, nothing.objective, nothing.proven) == (0, 0.0, True)
        with pytest.raises(InfeasibleError):
            mip([], [], [], [], [1.0], [1.0], [0, 0], [], [], limits=EXACT, solver=solver)


def test_arrays_that_do_not_fit_are_a_typed_error() -> None:
    for solver in _solver.NAMES:
        with pytest.raises(SolverError, match="lower bounds: 1 values for 2"):
            mip([1.0, 1.0], [0.0], [1.0, 1.0], [1, 1], [1.0], [INF], [0, 2], [0, 1], [1.0, 1.0], limits=EXACT, solver=solver)
        with pytest.raises(SolverError, match="pointers"):
            mip([1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [1, 1], [1.0], [INF], [0, 3], [0, 1], [1.0, 1.0], limits=EXACT, solver=solver)
        with pytest.raises(SolverError, match="column 2 of 2"):
            mip([1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [1, 1], [1.0], [INF], [0, 2], [0, 2], [1.0, 1.0], limits=EXACT, solver=solver)
        with pytest.raises(SolverError, match="start: 1 values for 2"):
            mip([1, 1], [0, 0], [1, 1], [1, 1], [1.0], [INF], [0, 2], [0, 1], [1.0, 1.0], limits=EXACT, solver=solver, start=[1.0])
        with pytest.raises(SolverError, match="no number"):
            mip([np.nan], [0.0], [1.0], [1], [1.0], [INF], [0, 1], [0], [1.0], limits=EXACT, solver=solver)
    with pytest.raises(SolverError, match="'gurobi' is unknown, allowed are HiGHS, CBC"):
        mip([1.0], [0.0], [1.0], [1], [1.0], [INF], [0, 1], [0], [1.0], limits=EXACT, solver="gurobi")


def test_without_highspy_cbc_still_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """OC-078: an image without it. The linear program is a typed error, the integer master runs through PuLP."""
    monkeypatch.setattr(native, "highspy", None)
    with pytest.raises(SolverError, match="install highspy"):
        Lp([1.0], [INF])
    master = knapsack_master(2)
    with pytest.raises(SolverError, match="install highspy"):
        mip(**master, limits=EXACT)
    assert mip(**master, limits=EXACT, solver="CBC").proven
