"""The self-test: every solver that is wrong is named and not used; the instances' answers come from enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import highspy
import numpy as np
import pytest

import placement
from placement import _solver
from placement._solver import Answer, Engine, InfeasibleError, Limits, LpAnswer, MipAnswer, NoSolutionError, SolverError, choice, selftest
from placement._solver.program import Floats, Program
from placement.form import Coefficients, Form
from placement.types import Outcome
from tests.unit.placement.fleet import applied
from tests.unit.placement.test_solver import simple

GOOD = _solver.ENGINES["HiGHS"]


@pytest.fixture
def fresh() -> Iterator[None]:
    """The self-test's result is kept for the life of a process: forgotten before and after."""
    choice._fault.cache_clear()
    yield
    choice._fault.cache_clear()


def test_both_solvers_pass() -> None:
    assert _solver.available() == (("HiGHS", ""), ("CBC", ""))
    assert tuple(_solver.ladder()) == ("HiGHS", "CBC")
    assert placement.solver_health() == _solver.available()


def test_the_answers_are_right_by_enumeration() -> None:
    """8000 by both placements, the split's optimum by all 2^24 halves, and no sum of 3, 5, 7 is 11."""
    served = [sum(weight * 1000.0 * (1 - x) for weight, x in zip((10, 8), xs, strict=True)) for xs in ((0, 0), (1, 0), (0, 1))]
    assert min(served) == 8000.0
    assert served[2] == 10000.0  # the known wrong answer
    assert not [xs for xs in itertools.product((0, 1), repeat=3) if np.dot(xs, (3, 5, 7)) == 11]
    form, _ = selftest.market_split()
    weights = np.array([[row.coefficients.get(v, 0.0) for v in range(24)] for row in form.rows], np.int32)
    halves = np.array([row.bound for row in form.rows], np.int32)
    grid = np.array(list(itertools.product((0, 1), repeat=12)), np.int32)
    left, right = grid @ weights[:, :12].T - halves, grid @ weights[:, 12:].T
    assert min(int(np.abs(right + part).sum(axis=1).min()) for part in left) == selftest.MARKET_SPLIT


def lies(form: Form, values: list[float], value: float) -> Answer:
    return Answer(values, True, value, value, False)


def as_1_14_0(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    """HiGHS 1.14.0: the weight-8 model is served, 10000, status Optimal; everything else is right."""
    if len(form.rows) == 5 and objective == {4: 10.0, 5: 8.0}:
        return lies(form, [0.0, 1.0, 0.0, 1000.0, 1000.0, 0.0], 10000.0)
    return GOOD.solve(form, objective, limits)


def mip_as_1_14_0(program: Program, start: Floats | None, limits: Limits) -> MipAnswer:
    if program.cost.tolist() == [0, 0, 0, 0, 10, 8]:
        return MipAnswer(np.array([0.0, 1.0, 0.0, 1000.0, 1000.0, 0.0]), 10000.0, 10000.0, True, False)
    return GOOD.mip(program, start, limits)


@pytest.mark.usefixtures("fresh")
def test_the_wrong_answer_of_1_14_0_is_caught_and_the_next_solver_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in the health, left out of the ladder, and the plan is CBC's and says so (OC-075)."""
    monkeypatch.setitem(_solver.ENGINES, "HiGHS", replace(GOOD, solve=as_1_14_0, mip=mip_as_1_14_0))
    assert placement.solver_health() == (("HiGHS", "self-test: objective 10000, must be 8000"), ("CBC", ""))
    assert tuple(_solver.ladder()) == ("CBC",)
    plan, _ = placement.plan(*simple())
    assert (plan.solver, plan.outcome) == ("CBC", Outcome.OPTIMAL)


@pytest.mark.usefixtures("fresh")
def test_the_wrong_answer_is_caught_in_the_library_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with everything of ours in place: only what HiGHS leaves in its solution is 1.14.0's."""

    class As1140(highspy.Highs):
        def getSolution(self) -> Any:
            found = super().getSolution()
            if self.getNumCol() == 6 and list(self.getLp().col_cost_) == [0, 0, 0, 0, 10, 8]:
                found.col_value = [0.0, 1.0, 0.0, 1000.0, 1000.0, 0.0]
            return found

        def getInfo(self) -> Any:
            found = super().getInfo()
            if self.getNumCol() == 6 and list(self.getLp().col_cost_) == [0, 0, 0, 0, 10, 8]:
                found.objective_function_value = found.mip_dual_bound = 10000.0
            return found

    monkeypatch.setattr(highspy, "Highs", As1140)
    assert _solver.available() == (("HiGHS", "self-test: objective 10000, must be 8000"), ("CBC", ""))


@pytest.mark.usefixtures("fresh")
def test_oc_078_none_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither solver passes: both are named with their faults, the plan is greedy and checked, nothing exits."""

    def broken(*_: object) -> Any:
        raise OSError("no execute permission")

    for name in _solver.NAMES:
        monkeypatch.setitem(_solver.ENGINES, name, replace(GOOD, solve=broken))
    assert [fault for _, fault in placement.solver_health()] == [
        "self-test: self-test: OSError: no execute permission",
        "self-test: self-test: OSError: no execute permission",
    ]
    snapshot, demand = simple()
    for effort in (placement.DEFAULT, placement.Effort(exact_size=0)):
        plan, _ = placement.plan(snapshot, demand, effort=effort)
        assert (plan.outcome, plan.solver, plan.message) == (Outcome.GREEDY, "Greedy", "no solver passed its self-test")
        assert placement.check(snapshot, demand, plan) == ()
        # A fleet at rest says so too: that nothing changes is no solver's word.
        rest, _ = placement.plan(applied(snapshot, plan), demand, effort=effort)
        assert (rest.starts, rest.stop, rest.outcome, rest.message) == ((), (), Outcome.GREEDY, plan.message)


def test_the_first_solver_that_passes_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """OC-078: CBC is missing, HiGHS is there: the plan is HiGHS' and nobody complains about CBC."""

    def missing(*_: object) -> Any:
        raise SolverError("CBC: cbc is missing or may not be executed")

    monkeypatch.setitem(_solver.ENGINES, "CBC", replace(_solver.ENGINES["CBC"], solve=missing, mip=missing))
    choice._fault.cache_clear()
    try:
        assert tuple(_solver.ladder()) == ("HiGHS",)
        assert placement.plan(*simple())[0].solver == "HiGHS"
        assert "cbc is missing" in placement.solver_health()[1][1]
    finally:
        choice._fault.cache_clear()


def too_kind(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    """Answers an infeasible model, with the values that CBC leaves behind: x = 2 for x <= 1."""
    try:
        return GOOD.solve(form, objective, limits)
    except InfeasibleError:
        return lies(form, [2.0, 1.0, 0.0], 2.0)


def gives_up(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    try:
        return GOOD.solve(form, objective, limits)
    except InfeasibleError:
        raise NoSolutionError("limit") from None


def boasts(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    """Calls every incumbent optimal, as PuLP does (OC-072)."""
    found = GOOD.solve(form, objective, limits)
    return replace(found, proven=True, bound=None)


def modest(form: Form, objective: Coefficients, limits: Limits) -> Answer:
    return replace(GOOD.solve(form, objective, limits), proven=False)


class Sticky:
    """The thread pool's trap: right once, zeros after other options were seen."""

    def __init__(self) -> None:
        self.first: Limits | None = None

    def __call__(self, form: Form, objective: Coefficients, limits: Limits) -> Answer:
        self.first = self.first or limits
        if limits != self.first:
            return lies(form, [0.0] * len(form.lower), 0.0)
        return GOOD.solve(form, objective, limits)


@pytest.mark.parametrize(
    ("solve", "fault"),
    [
        (as_1_14_0, "objective 10000, must be 8000"),
        (too_kind, "breaks"),
        (gives_up, "an infeasible model came out as a limit"),
        (boasts, "a limit was called optimal"),
        (modest, "an optimum without proof"),
        (Sticky(), "breaks"),
    ],
)
def test_a_solver_that_is_wrong_on_forms_is_named(solve: _solver.Solve, fault: str) -> None:
    assert fault in _solver.healthy(replace(GOOD, solve=solve))


def mip_that(**changes: Any) -> Any:
    def run(program: Program, start: Floats | None, limits: Limits) -> MipAnswer:
        return replace(GOOD.mip(program, start, limits), **changes)

    return run


def keeps_the_start(program: Program, start: Floats | None, limits: Limits) -> MipAnswer:
    """Calls the start optimal."""
    found = GOOD.mip(program, start, limits)
    return found if start is None else MipAnswer(start, program.value(start), program.value(start), True, False)


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (mip_as_1_14_0, "objective 10000, must be 8000 (arrays)"),
        (keeps_the_start, "must be 8000 (arrays)"),
        (mip_that(objective=0.0), "the solver said 0"),
        (mip_that(x=np.zeros(6)), "the solver said"),
    ],
)
def test_a_solver_that_is_wrong_on_arrays_is_named(run: Any, fault: str) -> None:
    assert fault in _solver.healthy(replace(GOOD, mip=run))


class Twisted(_solver.Lp):
    """Right value, prices of the wrong sign."""

    def solve(self, *, iterations: int | None = None, seconds: float) -> LpAnswer:
        found = super().solve(iterations=iterations, seconds=seconds)
        return replace(found, row_dual=-found.row_dual)


class Forgetful(_solver.Lp):
    """Does not see columns that come later."""

    def add_columns(self, *arguments: Any) -> int:
        return super().add_columns(*arguments) if self.columns == 0 else self.columns


class Yielding(_solver.Lp):
    """Bounds that are set change nothing."""

    def set_bounds(self, *arguments: Any) -> None:
        return None


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(Twisted, "prices"), (Forgetful, "of value 6 came out as 9"), (Yielding, "an infeasible linear program got an answer")],
)
def test_a_linear_program_that_is_wrong_is_named(kind: type[_solver.Lp], fault: str) -> None:
    assert fault in _solver.healthy(replace(GOOD, lp=kind))


def test_a_plain_function_can_be_tested_too() -> None:
    assert _solver.healthy(GOOD.solve) == ""
    assert "10000" in _solver.healthy(as_1_14_0)


def test_a_solver_without_a_linear_program_may_be_healthy() -> None:
    assert _solver.healthy(Engine(GOOD.solve, GOOD.mip, None)) == ""
