"""Which solvers there are, in which order they are tried, and which of them passed the self-test."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from placement._solver import cbc, highs
from placement._solver.answers import InfeasibleError, Limits, MipAnswer, Solve, SolverError
from placement._solver.audit import audited, audited_mip
from placement._solver.linear import Lp
from placement._solver.program import Program, floats, ints, of_length
from placement._solver.selftest import Engine, healthy

# In the order of the ladder. A test puts a stand-in here.
ENGINES: dict[str, Engine] = {
    "HiGHS": Engine(highs.solve, highs.mip, Lp),
    "CBC": Engine(cbc.solve, cbc.mip, None),
}
NAMES = tuple(ENGINES)


def engine(name: str) -> Engine:
    if name not in ENGINES:
        raise SolverError(f"solver: {name!r} is unknown, allowed are {', '.join(NAMES)}")
    return ENGINES[name]


def solver(name: str) -> Solve:
    """The named solver for forms, with every answer checked; SolverError for a name that is none."""
    return audited(name, engine(name).solve)


def mip(
    cost: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    integer: npt.ArrayLike,
    row_lower: npt.ArrayLike,
    row_upper: npt.ArrayLike,
    ptr: npt.ArrayLike,
    cols: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    start: npt.ArrayLike | None = None,
    limits: Limits,
    solver: str = "HiGHS",
) -> MipAnswer:
    """Minimises `cost · x` over rows compressed by row, with every answer checked as those of forms are.

    `start` is a whole solution to begin with (integers and the rest); one that is none is left aside. Through PuLP with `solver="CBC"`.
    Raises InfeasibleError, NoSolutionError at a limit, SolverError for everything else.
    """
    sides = (floats(cost), floats(lower), floats(upper), np.ascontiguousarray(integer, bool), floats(row_lower), floats(row_upper))
    program = Program(*sides, ints(ptr), ints(cols), floats(values))
    run, begin = engine(solver).mip, None if start is None else floats(start)
    if begin is not None:
        of_length("start", begin, len(program.cost))
    if not len(program.cost):  # HiGHS calls it empty, whatever its rows say
        if program.broken(program.cost):
            raise InfeasibleError(f"{solver}: no column, and a row that needs one")
        return MipAnswer(program.cost, 0.0, 0.0, True, False)
    return audited_mip(solver, lambda: run(program, begin, limits), program, limits)


@lru_cache
def _fault(name: str, engine: Engine) -> str:
    """Once per process and engine; `name` only tells apart."""
    del name
    return healthy(engine)


def available() -> tuple[tuple[str, str], ...]:
    """Every solver with its self-test result, in the order of the ladder."""
    return tuple((name, _fault(name, engine)) for name, engine in ENGINES.items())


def ladder() -> Iterator[str]:
    """The healthy ones in their order; one that is never asked for is never tested."""
    for name, engine in list(ENGINES.items()):
        if not _fault(name, engine):
            yield name
