"""A linear program with integers as plain lists: variables are indexes, rows are sparse dictionaries.

It stands between the formulation and the solvers, so that one model can be solved several times with different objectives and by
different solvers, and can be looked at in a test. No name of a user's object enters it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Sense = Literal["<=", ">=", "=="]
Coefficients = dict[int, float]


@dataclass(frozen=True, slots=True)
class Row:
    coefficients: Coefficients
    sense: Sense
    bound: float


@dataclass(slots=True)
class Form:
    lower: list[float] = field(default_factory=list)
    upper: list[float | None] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def variable(self, lower: float = 0.0, upper: float | None = None, *, integer: bool = True) -> int:
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.lower) - 1

    def row(self, coefficients: Coefficients, sense: Sense, bound: float) -> None:
        kept = {v: c for v, c in coefficients.items() if c != 0.0}
        if kept:
            self.rows.append(Row(kept, sense, bound))
        elif not _holds(0.0, sense, bound):
            raise AssertionError(f"an empty row cannot hold: 0 {sense} {bound}")

    def value(self, coefficients: Coefficients, values: list[float]) -> float:
        return sum(c * values[v] for v, c in sorted(coefficients.items()))

    def violated(self, values: list[float], tolerance: float = 1e-6) -> int:
        """How many rows the values break: for tests and for solutions that a solver calls optimal."""
        return sum(1 for r in self.rows if not _holds(self.value(r.coefficients, values), r.sense, r.bound, tolerance))


def _holds(left: float, sense: Sense, bound: float, tolerance: float = 0.0) -> bool:
    if sense == "<=":
        return left <= bound + tolerance
    if sense == ">=":
        return left >= bound - tolerance
    return abs(left - bound) <= tolerance


def add(target: Coefficients, variable: int, coefficient: float) -> None:
    target[variable] = target.get(variable, 0.0) + coefficient
