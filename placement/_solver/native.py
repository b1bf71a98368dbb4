"""HiGHS' own Python module, imported in one place so that an image without it still has CBC.

HiGHS keeps one thread pool per process: an instance with another value of `threads` makes every later run of the process fail and leave a
solution of zeros. So that option is never touched, by anybody, and every run's three statuses are read (`read`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from placement._solver.answers import InfeasibleError, NoSolutionError, SolverError

highspy: Any = None
WHY_MISSING = ""
try:
    import highspy
except ImportError as error:  # an image without it: the ladder goes on with CBC
    WHY_MISSING = str(error)


def module() -> Any:
    """`highspy`, or a SolverError that says what is missing."""
    if highspy is None:
        raise SolverError(f"HiGHS: highspy cannot be imported ({WHY_MISSING}); install highspy>=1.16")
    _silence_banner()
    return highspy


@lru_cache(maxsize=1)
def _silence_banner() -> None:
    """HiGHS writes its version to standard output when the first object of a process is made; the caller's output may be a protocol."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def instance(**options: object) -> Any:
    """A quiet HiGHS object with a fixed seed."""
    model = module().Highs()
    for name, value in {"output_flag": False, "random_seed": 1, **options}.items():
        good(model.setOptionValue(name, value), f"option {name}={value}")
    return model


@contextmanager
def guard() -> Iterator[None]:
    """Whatever HiGHS' library throws (no memory, arrays that it cannot read) is a SolverError: the ladder goes on."""
    try:
        yield
    except SolverError:
        raise
    except Exception as error:
        raise SolverError(f"HiGHS: {type(error).__name__}: {error}") from error


def good(status: Any, what: str) -> None:
    """Any call that HiGHS did not carry out is an error: it would go on with the old model."""
    if status == module().HighsStatus.kError:
        raise SolverError(f"HiGHS: {what} was refused")


def stopped(model: Any, run: Any = None) -> bool:
    """True if a limit ended the run, False if it ended by itself; a typed error if there is nothing to read.

    `run` is the status that the run returned (None if something else ran it). Whether there is a solution: `has_solution`.
    """
    highs = module()
    status, kinds = model.getModelStatus(), highs.HighsModelStatus
    if run is not None and run == highs.HighsStatus.kError:
        raise SolverError(f"HiGHS: the run failed, {model.modelStatusToString(status)}")
    if status in (kinds.kInfeasible, kinds.kUnboundedOrInfeasible, kinds.kUnbounded):
        raise InfeasibleError(f"HiGHS: {model.modelStatusToString(status)}")
    if status == kinds.kOptimal:
        return False
    if status in (kinds.kTimeLimit, kinds.kSolutionLimit, kinds.kIterationLimit, kinds.kInterrupt):
        return True
    raise SolverError(f"HiGHS: {model.modelStatusToString(status)}")


def has_solution(model: Any) -> bool:
    return bool(model.getInfo().primal_solution_status == module().SolutionStatus.kSolutionStatusFeasible)


def need_solution(model: Any) -> None:
    if not has_solution(model):
        raise NoSolutionError(f"HiGHS: no solution, {model.modelStatusToString(model.getModelStatus())}")


def out_of_time(model: Any) -> bool:
    return bool(model.getModelStatus() == module().HighsModelStatus.kTimeLimit)
