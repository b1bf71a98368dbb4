"""Each trap of the solvers that is known (measured, or from their issue trackers), by name, and how it is closed."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import pulp
import pytest

import placement
from placement import _solver, general
from placement._solver import InfeasibleError, Limits, NoSolutionError, SolverError, mip
from placement._solver.model import problem_of
from placement._solver.selftest import market_split, two_models
from placement.form import Form
from placement.problem import build
from placement.snapshot import demand_by_model, normalised
from placement.types import Demand, ModelDemand
from tests.unit.placement.fleet import cell, model, node, option, snap
from tests.unit.placement.test_solver_arrays import knapsack_master

BOTH = pytest.mark.parametrize("solver", _solver.NAMES)
SOURCES = sorted(Path(placement.__file__).parent.rglob("*.py"))


def everything_once() -> None:
    """Every door to HiGHS."""
    _solver.solver("HiGHS")(*two_models(), Limits())
    mip(**knapsack_master(1), limits=Limits())
    lp = _solver.Lp([1.0], [2.0])
    lp.add_columns([1.0], [0.0], [9.0], [0, 1], [0], [1.0])
    lp.solve(seconds=5.0)


def test_the_option_threads_is_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS' thread pool is one per process and sticky: a second value makes every later run fail and leave zeros."""
    asked: list[str] = []

    class Watched(highspy.Highs):
        def setOptionValue(self, name: str, value: Any) -> Any:
            asked.append(name)
            return super().setOptionValue(name, value)

    monkeypatch.setattr(highspy, "Highs", Watched)
    everything_once()
    assert "time_limit" in asked
    assert "threads" not in asked
    assert not [path for path in SOURCES if re.search(r"""threads["']?\s*[=,:]""", path.read_text())]


STICKY = """
import highspy
import numpy as np
from placement import _solver
from placement._solver import native
from placement._solver.selftest import two_models

first = native.instance(threads=1)
first.addVar(0.0, 1.0)
first.run()
real = native.instance
native.instance = lambda **options: real(threads=2, **options)
lp_error = mip_error = None
try:
    lp = _solver.Lp([1.0], [2.0])
    lp.add_columns([1.0], [0.0], [9.0], [0, 1], [0], [1.0])
    lp.solve(seconds=5.0)
except _solver.SolverError as error:
    lp_error = error
try:
    _solver.mip([-1.0], [0.0], [9.0], [1], [0.0], [5.5], [0, 1], [0], [1.0], limits=_solver.Limits())
except _solver.SolverError as error:
    mip_error = error
print(lp_error, mip_error, sep="|")
"""


def test_a_run_that_the_thread_pool_spoils_is_an_error_and_never_zeros() -> None:
    """The trap itself, in a process of its own: somebody else has set the option. Both doors raise, neither answers."""
    found = subprocess.run([sys.executable, "-c", STICKY], capture_output=True, text=True, check=True, timeout=120).stdout
    for message in found.strip().splitlines()[-1].split("|"):
        assert message.startswith("HiGHS: the run failed"), found


@BOTH
def test_oc_072_a_time_limited_incumbent_is_not_optimal(solver: str) -> None:
    """PuLP says "Optimal" for it. Here: no proof, the watchdog is named, the bound stays below the value."""
    try:
        answer = _solver.solver(solver)(*market_split(60, 7), Limits(nodes=10**9, relative_gap=0.0, seconds=0.5))
    except NoSolutionError:
        return
    assert (answer.proven, answer.deadline) == (False, True)
    assert answer.bound is None or answer.bound < answer.objective


@BOTH
def test_oc_072_twelve_thousand_binaries_in_one_second(solver: str) -> None:
    """Proven only if value and bound meet; and what is there is a solution by our own recount, or there is a typed error."""
    master = knapsack_master(3, models=1500, per=8, links=40)
    try:
        answer = mip(**master, limits=Limits(nodes=10**9, relative_gap=1e-9, seconds=1.0), solver=solver)
    except NoSolutionError:
        return
    met = answer.bound is not None and answer.objective - answer.bound <= 1e-5 * abs(answer.objective)
    assert answer.proven == met
    chosen = answer.x[:12000].reshape(1500, 8)
    assert (chosen.sum(axis=1) == 1.0).all()
    assert answer.objective == pytest.approx(float(np.dot(master["cost"], answer.x)))


SAYS = """#!/bin/sh
while [ "$1" != "-solution" ]; do shift; done
printf '%s' '{text}' > "$2"
"""
ROWS = "\n      0 X0000000  {0}  1\n      1 X0000001  {1}  1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Optimal - objective value 3" + ROWS.format(1, 2), [1.0, 2.0, True]),
        ("Stopped on time - objective value 3" + ROWS.format(1, 2), [1.0, 2.0, False]),
        ("Stopped on nodes - objective value 3" + ROWS.format(1, 2), [1.0, 2.0, False]),
        ("Stopped on time (no integer solution - continuous used) - objective value 2.5" + ROWS.format(0.5, 2), NoSolutionError),
        ("Infeasible - objective value 2" + ROWS.format(2, 5), InfeasibleError),
        ("Integer infeasible - objective value 2" + ROWS.format(2, 5), InfeasibleError),
        ("Unbounded - objective value 2" + ROWS.format(2, 5), InfeasibleError),
        ("Optimal - objective value 2" + ROWS.format(2, 1), SolverError),  # x <= 1
        ("Optimal - objective value 1" + ROWS.format(0, 0), SolverError),  # x + y >= 3
        ("Optimal - objective value 1" + ROWS.format("nan", 3), SolverError),
        ("Segmentation fault", SolverError),
        ("Optimal - objective value 3\n      0 X0000000", SolverError),
        ("", SolverError),
    ],
)
def test_of_cbc_only_a_solution_is_read(text: str, expected: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """min x + y, x + y >= 3, x <= 1: by what CBC writes. It leaves values also where it has no solution, fractions and x = 2 among them."""
    cbc = tmp_path / "cbc"
    cbc.write_text(SAYS.format(text=text))
    cbc.chmod(0o755)
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(cbc))
    form = Form()
    x, y = form.variable(0, 1), form.variable(0, 9)
    form.row({x: 1.0, y: 1.0}, ">=", 3.0)
    if isinstance(expected, list):
        answer = _solver.solver("CBC")(form, {x: 1.0, y: 1.0}, Limits())
        assert [*answer.values, answer.proven] == expected
        assert answer.bound == (pytest.approx(3.0, abs=1e-3) if answer.proven else None)
        return
    with pytest.raises(SolverError) as raised:
        _solver.solver("CBC")(form, {x: 1.0, y: 1.0}, Limits())
    assert raised.type is expected


def test_a_cbc_that_writes_nothing_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", "/bin/true")
    with pytest.raises(SolverError, match="Error while executing"):
        _solver.solver("CBC")(*two_models(), Limits())


def test_of_highs_no_zeros_are_read_where_there_is_no_solution() -> None:
    form, objective = market_split(40, 5)
    with pytest.raises(NoSolutionError, match="no solution, Time limit reached"):
        _solver.solver("HiGHS")(form, objective, Limits(nodes=10**9, seconds=1e-9))


@BOTH
def test_values_of_an_infeasible_model_are_never_read(solver: str) -> None:
    """Also where only the integers are impossible: PuLP has no `sol_status` for CBC's "Integer infeasible"."""
    form = Form()
    x, y = form.variable(0, 9), form.variable(0, 9)
    form.row({x: 4.0, y: 6.0}, "==", 21.0)
    with pytest.raises(InfeasibleError):
        _solver.solver(solver)(form, {x: 1.0}, Limits())
    with pytest.raises(InfeasibleError):
        mip([1.0, 0.0], [0, 0], [9, 9], [1, 1], [21.0], [21.0], [0, 2], [0, 1], [4.0, 6.0], limits=Limits(), solver=solver)


@BOTH
def test_a_variable_that_stands_nowhere_does_no_harm(solver: str) -> None:
    """PuLP writes its bounds into the model file but no column, and CBC refuses the file. It gets the value nearest to 0."""
    form = Form()
    x, idle, low, high = form.variable(0, 5), form.variable(0, 1), form.variable(2, 4), form.variable(-3, -1, integer=False)
    form.row({x: 1.0}, ">=", 3.0)
    assert _solver.solver(solver)(form, {x: 1.0, idle: 0.0}, Limits()).values == [3.0, 0.0, 2.0, -1.0]
    answer = mip([1.0, 0.0], [0.0, 0.0], [5.0, 1.0], [1, 1], [3.0], [9.0], [0, 1], [0], [1.0], limits=Limits(), solver=solver)
    assert answer.x.tolist() == [3.0, 0.0]
    assert (low, high) == (2, 3)


def test_names_are_indexes_and_never_user_text() -> None:
    """OC-073, OC-079: two of a user's names may become one in a solver, or break its file."""
    problem, variables = problem_of(*two_models())
    assert [v.name for v in variables] == [f"x{i}" for i in range(6)]
    assert sorted(problem.constraints) == [f"r{i}" for i in range(5)]


def test_cbc_is_asked_for_a_limit_and_for_no_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own threads hang at random, and without a limit it outlives everybody; its files go where they are removed."""
    calls: list[list[str]] = []
    real = subprocess.Popen

    def watched(arguments: list[str], *rest: Any, **more: Any) -> Any:
        calls.append(arguments)
        return real(arguments, *rest, **more)

    monkeypatch.setattr(subprocess, "Popen", watched)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _solver.solver("CBC")(*two_models(), Limits(seconds=7.0))
    mip(**knapsack_master(1), limits=Limits(seconds=7.0), solver="CBC", start=np.zeros(75))
    assert len(calls) == 2
    for call in calls:
        words = " ".join(call)
        assert "-sec 7.0" in words
        assert "threads" not in words
        assert str(tmp_path / "polyfleet-cbc-") in words
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_more_time_than_there_is_is_never_asked_for(solver: str) -> None:
    """A watchdog that has run out is a typed error before any solver starts (limits in presolve are not kept by all of them)."""
    for seconds in (0.0, -1.0):
        with pytest.raises(NoSolutionError, match="no time left"):
            _solver.solver(solver)(*two_models(), Limits(seconds=seconds))
        with pytest.raises(NoSolutionError, match="no time left"):
            mip(**knapsack_master(1), limits=Limits(seconds=seconds), solver=solver)


def test_oc_077_identical_replicas_and_nodes_are_counts() -> None:
    """100 models x 10 equal replicas on 200 equal nodes give the same integers as x 1 on 20: symmetry takes minutes otherwise."""
    h100 = cell("h100")

    def integers(nodes: int, replicas: int) -> int:
        snapshot = normalised(
            snap(
                [h100],
                [node(f"n{i}", h100, 8) for i in range(nodes)],
                [model(f"m{i}", replicas) for i in range(100)],
                [option(f"m{i}", "h100", 1) for i in range(100)],
            )
        )
        demand = Demand(tuple(ModelDemand(f"ns/m{i}") for i in range(100)))
        return sum(general.build(build(snapshot, demand_by_model(snapshot, demand))).form.integer)

    assert integers(200, 10) == integers(20, 1) <= 200


def test_no_iis_is_used() -> None:
    """HiGHS' default strategy returns an empty one with status OK, and the true one took a minute: reasons come from rows and prices."""
    words = re.compile(r"getIis|feasibilityRelaxation|iis_strategy")
    assert [path for path in SOURCES if words.search(path.read_text())] == []


def test_an_option_that_highs_does_not_know_is_an_error() -> None:
    """It would go on without it."""
    from placement._solver import native

    with pytest.raises(SolverError, match="option no_such_option"):
        native.instance(no_such_option=1)
