"""A program in, its proven optimum out: the solver of referees and baselines. The placer's solver layer stays unused on purpose."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

INFINITY: float = highspy.kHighsInf


@dataclass(slots=True)
class Program:
    """Minimise cost * x within bounds and rows, built piece by piece."""

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def variable(self, cost: float = 0.0, upper: float = INFINITY, *, whole: bool = False) -> int:
        self.cost.append(cost)
        self.lower.append(0.0)
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.cost) - 1

    def row(self, least: float, most: float, terms: Sequence[tuple[int, float]]) -> int:
        self.row_lower.append(least)
        self.row_upper.append(most)
        self.index += [i for i, _ in terms]
        self.value += [v for _, v in terms]
        self.starts.append(len(self.index))
        return len(self.row_lower) - 1

    def solved(self, *, relative_gap: float = 0.0) -> Solved:
        """The optimum. AssertionError if the solver ends with anything else."""
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.cost), len(self.row_lower)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = np.array(self.cost), np.array(self.lower), np.array(self.upper)
        if any(self.whole):
            kinds = highspy.HighsVarType
            lp.integrality_ = [kinds.kInteger if w else kinds.kContinuous for w in self.whole]
        lp.row_lower_, lp.row_upper_ = np.array(self.row_lower), np.array(self.row_upper)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.array(self.starts, dtype=np.int32)
        lp.a_matrix_.index_ = np.array(self.index, dtype=np.int32)
        lp.a_matrix_.value_ = np.array(self.value)
        solver = _quiet()
        solver.setOptionValue("mip_rel_gap", relative_gap)
        solver.setOptionValue("mip_abs_gap", 1e-7)
        solver.passModel(lp)
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise AssertionError(f"the referee's own program ended with {solver.getModelStatus()}")
        answer = solver.getSolution()
        return Solved(np.array(answer.col_value), np.array(answer.row_dual), float(solver.getInfo().objective_function_value))


@dataclass(frozen=True, slots=True)
class Solved:
    x: NDArray[np.float64]
    row_dual: NDArray[np.float64]  # empty for integer programs
    objective: float


def _quiet() -> Any:
    _banner()
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    return solver


@lru_cache(maxsize=1)
def _banner() -> None:
    """HiGHS greets on the first object of a process, whatever its options say; standard output belongs to the JSON line."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()  # type: ignore[no-untyped-call]
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)
