"""A solver that answers every kind of wrong: a typed error, never its values; the plan comes from the next rung and is checked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import placement
from placement import _solver
from placement._solver import Answer, InfeasibleError, Limits, MipAnswer, NoSolutionError, Solve, SolverError, mip
from placement._solver.program import Floats, Program
from placement.form import Coefficients, Form
from placement.types import Outcome
from tests.unit.placement.instances import instance
from tests.unit.placement.test_solver import install, simple
from tests.unit.placement.test_solver_arrays import knapsack_master

GOOD = _solver.ENGINES["HiGHS"]
NAN, INF = float("nan"), float("inf")

Twist = Callable[[Answer], Answer]


def values(change: Callable[[list[float]], list[float]]) -> Twist:
    """Other values; the objective is told as it was."""
    return lambda answer: replace(answer, values=change(list(answer.values)))


def at_first(value: float) -> Callable[[list[float]], list[float]]:
    return lambda old: [value, *old[1:]]


WRONG: dict[str, Twist] = {
    "no values": values(lambda old: []),
    "one value too few": values(lambda old: old[:-1]),
    "one value too many": values(lambda old: [*old, 0.0]),
    "all zero": values(lambda old: [0.0] * len(old)),
    "zero, and told so": lambda answer: replace(answer, values=[0.0] * len(answer.values), objective=0.0, bound=0.0),
    "not a number": values(at_first(NAN)),
    "all not a number": values(lambda old: [NAN] * len(old)),
    "infinite": values(at_first(INF)),
    "negative": values(at_first(-1.0)),
    "above its bound": values(at_first(1e6)),
    "half of a whole number": values(at_first(0.5)),
    "everything at 1e30": values(lambda old: [1e30] * len(old)),
    "objective told too low": lambda answer: replace(answer, objective=answer.objective - 100.0, bound=answer.objective - 100.0),
    "objective told too high": lambda answer: replace(answer, objective=answer.objective + 100.0),
    "objective not a number": lambda answer: replace(answer, objective=NAN),
    "bound above the value": lambda answer: replace(answer, bound=answer.objective + 100.0),
}


def raising(error: Exception) -> Solve:
    def solve(form: Form, objective: Coefficients, limits: Limits) -> Answer:
        raise error

    return solve


def twisted(twist: Twist) -> Solve:
    return lambda form, objective, limits: twist(GOOD.solve(form, objective, limits))


def nothing(form: Form, objective: Coefficients, limits: Limits) -> Any:
    return None


THROWN: dict[str, Solve] = {
    "no incumbent": raising(NoSolutionError("no solution within the limit")),
    "infeasible": raising(InfeasibleError("infeasible")),
    "a library's error": raising(RuntimeError("internal error 7")),
    "no memory": raising(MemoryError()),
    "a full disk": raising(OSError(28, "No space left on device")),
    "a missing status": raising(KeyError(14)),
    "an assertion": raising(AssertionError("presolve")),
    "no answer": nothing,
}
LIARS: dict[str, Solve] = {**{name: twisted(twist) for name, twist in WRONG.items()}, **THROWN}


def assigned() -> tuple[Form, Coefficients]:
    """Three of five, each at most once, the dear ones last; and a continuous rest that is paid for."""
    form = Form()
    x = [form.variable(0, 1) for _ in range(5)]
    rest = form.variable(integer=False)
    form.row({**dict.fromkeys(x, 1.0), rest: 1.0}, ">=", 3.5)
    form.row(dict.fromkeys(x, 1.0), "<=", 3.0)
    return form, {**{v: float(i + 1) for i, v in enumerate(x)}, rest: 50.0}


def test_the_true_answer_passes() -> None:
    """1 + 2 + 3 and half of 50; and the fuzz below starts from it."""
    answer = _solver.audited("HiGHS", GOOD.solve)(*assigned(), Limits())
    assert answer.objective == pytest.approx(31.0)
    assert answer.proven


@pytest.mark.parametrize("liar", sorted(LIARS))
def test_every_wrong_answer_is_a_typed_error(liar: str) -> None:
    with pytest.raises(SolverError):
        _solver.audited("HiGHS", LIARS[liar])(*assigned(), Limits())


@pytest.mark.parametrize("liar", sorted(LIARS))
def test_the_plan_comes_from_the_next_rung(liar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS lies: CBC's plan, as good as ever. Both lie: the greedy plan, which says why. Each is checked."""
    snapshot, demand = simple()
    honest, _ = placement.plan(snapshot, demand, solvers=["HiGHS"])
    install(monkeypatch, "HiGHS", LIARS[liar])
    second, _ = placement.plan(snapshot, demand, solvers=["HiGHS", "CBC"])
    assert (second.solver, second.hourly_cost, placement.check(snapshot, demand, second)) == ("CBC", honest.hourly_cost, ())
    install(monkeypatch, "CBC", LIARS[liar])
    third, _ = placement.plan(snapshot, demand, solvers=["HiGHS", "CBC"])
    assert (third.solver, third.outcome, placement.check(snapshot, demand, third)) == ("Greedy", Outcome.GREEDY, ())
    assert third.message


def test_noise_on_any_answer_is_a_checked_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 seeded fleets whose solver changes up to three values at random, in any size: no exception, never a plan that breaks a rule."""
    rng = random.Random(17)

    def noisy(form: Form, objective: Coefficients, limits: Limits) -> Answer:
        answer = GOOD.solve(form, objective, limits)
        new = list(answer.values)
        for _ in range(rng.randint(0, 3)):
            new[rng.randrange(len(new))] += rng.choice([-1.0, 1.0, 0.5, 1e-7, -1e-7, 1e-3, 1e9, NAN])
        told = form.value(objective, new) if rng.random() < 0.7 else answer.objective
        return replace(answer, values=new, objective=told, bound=min(told, answer.bound or told))

    install(monkeypatch, "HiGHS", noisy)
    outcomes = set()
    for seed in range(60):
        snapshot, demand = instance(seed)
        plan, _ = placement.plan(snapshot, demand, solvers=["HiGHS"])
        assert placement.check(snapshot, demand, plan) == (), f"seed {seed}"
        outcomes.add(plan.outcome)
    assert {Outcome.OPTIMAL, Outcome.GREEDY} <= outcomes


@pytest.mark.parametrize(("near", "whole"), [(0.9999999, 1.0), (1.0000001, 1.0), (-0.0, 0.0), (-1e-9, 0.0), (2.00001, 2.0)], ids=str)
def test_near_whole_numbers_are_rounded(near: float, whole: float) -> None:
    """OC-076: what a tolerance leaves is rounded, and -0.0 is 0.0."""
    form = Form()
    x, y = form.variable(0, 5), form.variable(0, 5)
    form.row({x: 1.0, y: 1.0}, "<=", 8.0)

    def solve(form: Form, objective: Coefficients, limits: Limits) -> Answer:
        return Answer([near, 3.0], True, near, None, False)

    answer = _solver.audited("near", solve)(form, {x: 1.0}, Limits())
    assert (answer.values, answer.objective) == ([whole, 3.0], whole)
    assert str(answer.values[0]) == str(whole)  # the sign of zero too


def test_a_row_that_rounding_breaks_is_refused() -> None:
    """OC-076: 8 devices and 9 taken, within the solver's tolerance of a large number: no tolerance of ours."""
    form = Form()
    x = form.variable(0, None)
    form.row({x: 2.0}, ">=", 2.8)

    def solve(form: Form, objective: Coefficients, limits: Limits) -> Answer:
        return Answer([1.40001], True, 1.40001, None, False)

    with pytest.raises(SolverError, match="of a whole number"):
        _solver.audited("near", solve)(form, {x: 1.0}, Limits())
    tight = Form()
    y = tight.variable(0, None)
    tight.row({y: 1.0}, "<=", 999_999.5)
    with pytest.raises(SolverError, match="breaks 1 rows"):
        _solver.audited("near", lambda *_: Answer([999_999.99999], True, 999_999.99999, None, False))(tight, {y: 1.0}, Limits())


def test_the_rest_is_solved_anew_for_rounded_integers() -> None:
    """x = 0.99999 opened 999.99 of 1000: with x = 1 the whole 1000 may be used, and less is bought."""
    form = Form()
    x, z, bought = form.variable(0, 1), form.variable(integer=False), form.variable(integer=False)
    form.row({z: 1.0, x: -1e6}, "<=", 0.0)
    form.row({z: 1.0, bought: 1.0}, "==", 5.0)

    def solve(form: Form, objective: Coefficients, limits: Limits) -> Answer:
        return Answer([4e-6, 4.0, 1.0], True, 1.0, None, False)  # x rounds to 0, and then z = 4 is too much

    answer = _solver.audited("near", solve)(form, {bought: 1.0}, Limits())
    assert answer.values == [0.0, 0.0, 5.0]
    assert answer.objective == 5.0


def test_a_proof_needs_a_bound_that_is_near() -> None:
    """A solver that says "proven" with a bound half as high is taken at its bound."""
    form, objective = assigned()
    twist = twisted(lambda answer: replace(answer, bound=answer.objective / 2.0))
    answer = _solver.audited("far", twist)(form, objective, Limits())
    assert (answer.proven, answer.bound) == (False, pytest.approx(15.5))
    endless = twisted(lambda answer: replace(answer, bound=-INF))
    answer = _solver.audited("far", endless)(form, objective, Limits())
    assert (answer.proven, answer.bound) == (False, None)


MIP_WRONG: dict[str, Callable[[MipAnswer], Any]] = {
    "too few": lambda a: replace(a, x=a.x[:-1]),
    "zeros": lambda a: replace(a, x=np.zeros_like(a.x)),
    "zeros, and told so": lambda a: replace(a, x=np.zeros_like(a.x), objective=0.0, bound=0.0),
    "not a number": lambda a: replace(a, x=np.full_like(a.x, NAN)),
    "halves": lambda a: replace(a, x=a.x * 0.5, objective=a.objective * 0.5, bound=None),
    "twice": lambda a: replace(a, x=a.x * 2.0, objective=a.objective * 2.0, bound=None),
    "a lie": lambda a: replace(a, objective=a.objective * 0.9, bound=None),
    "a bound above": lambda a: replace(a, bound=a.objective * 1.1),
    "no answer": lambda a: None,
    "no array": lambda a: replace(a, x="zeros"),
}


@pytest.mark.parametrize("liar", sorted(MIP_WRONG))
def test_every_wrong_answer_on_arrays_is_a_typed_error(liar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(program: Program, start: Floats | None, limits: Limits) -> Any:
        return MIP_WRONG[liar](GOOD.mip(program, start, limits))

    monkeypatch.setitem(_solver.ENGINES, "HiGHS", replace(GOOD, mip=run))
    with pytest.raises(SolverError):
        mip(**knapsack_master(1), limits=Limits())
    assert mip(**knapsack_master(1), limits=Limits(), solver="CBC").proven


def test_the_recount_is_exact_on_whole_rows_and_tolerant_on_others() -> None:
    """8 devices hold 8 and not 9, whatever the size of the numbers; a continuous row may be off by a millionth of what is in it."""
    whole = Program(
        np.ones(2), np.zeros(2), np.full(2, 1e7), np.ones(2, bool), np.array([-INF]), np.array([8e6]),
        np.array([0, 2], np.int32), np.array([0, 1], np.int32), np.array([1.0, 1.0]),
    )  # fmt: skip
    assert whole.broken(np.array([8e6 - 1.0, 1.0])) == 0
    assert whole.broken(np.array([8e6, 1.0])) == 1
    loose = Program(
        np.ones(2), np.zeros(2), np.full(2, 1e7), np.zeros(2, bool), np.array([-INF]), np.array([8e6]),
        np.array([0, 2], np.int32), np.array([0, 1], np.int32), np.array([1.0, 1.0]),
    )  # fmt: skip
    assert loose.broken(np.array([8e6, 1.0])) == 0
    assert loose.broken(np.array([8e6, 100.0])) == 1
    assert loose.broken(np.array([-1.0, 1.0])) == 1
    assert loose.broken(np.array([np.nan, 1.0])) == 2
