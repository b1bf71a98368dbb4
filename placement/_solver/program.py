"""An integer program as numpy arrays, and the recount of a solution: which of its rows and bounds hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from placement._solver.answers import Floats, SolverError
from placement.form import Coefficients, Form

Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
EACH = 1e-6  # what a solver's tolerances may leave in each value


@dataclass(frozen=True, slots=True)
class Program:
    """Minimise `cost · x`; rows are compressed by row (`ptr` has one entry more than there are rows)."""

    cost: Floats
    lower: Floats
    upper: Floats
    integer: Bools
    row_lower: Floats
    row_upper: Floats
    ptr: Ints
    cols: Ints
    values: Floats

    @classmethod
    def of(cls, form: Form, objective: Coefficients) -> Program:
        cost = np.zeros(len(form.lower))
        cost[list(objective)] = list(objective.values())
        endless = [np.inf if u is None else u for u in form.upper]
        bounds = floats([r.bound for r in form.rows])
        senses = np.array([r.sense for r in form.rows], dtype="U2")
        return cls(
            cost,
            floats(form.lower),
            floats(endless),
            np.array(form.integer, bool),
            np.where(senses == "<=", -np.inf, bounds),
            np.where(senses == ">=", np.inf, bounds),
            np.concatenate([[0], np.cumsum([len(r.coefficients) for r in form.rows])]).astype(np.int32),
            ints([v for r in form.rows for v in r.coefficients]),
            floats([c for r in form.rows for c in r.coefficients.values()]),
        )

    def __post_init__(self) -> None:
        """A solver's library reads arrays without asking for their length: one that is too short is refused here."""
        n, rows = len(self.cost), len(self.row_lower)
        of_length("lower bounds", self.lower, n)
        of_length("upper bounds", self.upper, n)
        of_length("integer marks", self.integer, n)
        of_length("row upper bounds", self.row_upper, rows)
        of_length("row values", self.values, len(self.cols))
        pointers(self.ptr, rows, len(self.cols))
        if len(self.cols) and not 0 <= self.cols.min() <= self.cols.max() < n:
            raise SolverError(f"rows: column {self.cols.max()} of {n}")
        if not (np.isfinite(self.cost).all() and np.isfinite(self.values).all()):
            raise SolverError("costs or rows hold a value that is no number")
        if any(np.isnan(side).any() for side in (self.lower, self.upper, self.row_lower, self.row_upper)):
            raise SolverError("bounds hold a value that is no number")

    def value(self, x: Floats) -> float:
        return float(self.cost @ x)

    def value_tolerance(self, x: Floats) -> float:
        return EACH * float(1.0 + np.abs(self.cost) @ (1.0 + np.abs(x)))

    def broken(self, x: Floats, *, rounded: bool = True) -> int:
        """Rows and bounds that `x` breaks.

        Every value may be off by a millionth of its size, and by that much times its coefficients a row may be; a row of whole numbers
        (capacity, quotas) has no tolerance that could hide one. Ten times that, everywhere, before integers were rounded.
        """
        each = EACH if rounded else 10.0 * EACH
        left = self._sums(self.values * x[self.cols])
        slack = each * self._sums(np.abs(self.values) * (1.0 + np.abs(x[self.cols])))
        room = each * (1.0 + np.abs(x))
        if rounded:
            part = ~self.integer[self.cols] | (self.values != np.round(self.values))
            slack = np.where(self._sums(part.astype(np.float64)) == 0.0, each, slack)
            room = np.where(self.integer, 0.0, room)
        rows = ~((left <= self.row_upper + slack) & (left >= self.row_lower - slack))
        columns = ~((x >= self.lower - room) & (x <= self.upper + room) & np.isfinite(x))
        return int(np.count_nonzero(rows)) + int(np.count_nonzero(columns))

    def _sums(self, terms: Floats) -> Floats:
        rows = np.repeat(np.arange(len(self.ptr) - 1), np.diff(self.ptr))
        return floats(np.bincount(rows, weights=terms, minlength=len(self.ptr) - 1))


def of_length(what: str, values: npt.NDArray[Any], n: int) -> None:
    if values.shape != (n,):
        raise SolverError(f"{what}: {values.size} values for {n}")


def pointers(ptr: Ints, n: int, entries: int) -> None:
    if ptr.shape != (n + 1,) or ptr[0] != 0 or ptr[-1] != entries or (np.diff(ptr) < 0).any():
        raise SolverError(f"{n} rows or columns with {entries} entries need {n + 1} pointers that rise from 0 to {entries}")


def floats(values: npt.ArrayLike) -> Floats:
    return np.ascontiguousarray(values, np.float64)


def ints(values: npt.ArrayLike) -> Ints:
    return np.ascontiguousarray(values, np.int32)
