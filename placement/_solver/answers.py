"""What goes into a solver and what comes out of it: limits, answers, typed failures, the watchdog.

Effort is counted in nodes and iterations; seconds are only the watchdog. Time is read here and nowhere else in the placer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from placement.form import Coefficients, Form

Floats = npt.NDArray[np.float64]


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


@dataclass(frozen=True, slots=True)
class LpAnswer:
    objective: float
    x: Floats  # NaN throughout if the run was stopped at a point that is not feasible
    row_dual: Floats  # d objective / d row bound: <= 0 for a row that binds from above; NaN throughout if not dual feasible
    reduced: Floats | None  # reduced costs; None if not dual feasible
    iterations: int  # of this solve
    optimal: bool  # False: a limit ended it


@dataclass(frozen=True, slots=True)
class MipAnswer:
    x: Floats  # integers are whole
    objective: float  # counted anew from `x`
    bound: float | None  # of the solver; None = none known
    proven: bool  # within `relative_gap`, by the solver's word
    deadline: bool  # the watchdog ended it


class Watchdog:
    """Seconds that are left for a whole plan."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()
