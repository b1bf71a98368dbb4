"""A solver that dies, hangs, answers garbage or runs out of memory, each with a real process (guarantees i and j).

What was found before counts; without it there is a typed failure. No process and no file stays behind.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from polyfleet.solver_child import CacheToken
from polyfleet.solver_process import Solved, SolverFailed, SolverProcess

import placement
from placement.types import Demand, ModelDemand, Outcome, RowPrice, Snapshot, Warm
from tests.unit.operator.groups import gone, members
from tests.unit.placement.fleet import cell, model, node, option, snap

FAULTS = "tests.unit.operator.solver_faults"
H100 = cell("h100")

Scenario = Callable[[SolverProcess], Awaitable[Any]]


def fleet() -> tuple[Snapshot, Demand]:
    snapshot = snap([H100], [node("n1", H100, 8), node("n2", H100, 8)], [model("a", 3)], [option("a", "h100", 4)])
    return snapshot, Demand((ModelDemand("ns/a"),))


def run(scenario: Scenario, folder: Path, *, memory_mib: int = 0) -> Any:
    groups: list[int] = []

    async def with_solver() -> Any:
        solver = SolverProcess(asyncio.get_running_loop().time, deadline_s=120.0, memory_mib=memory_mib, folder=folder)
        real = solver._start

        async def start() -> Any:
            child = await real()
            groups.append(child.pid)
            return child

        solver._start = start  # type: ignore[method-assign]
        try:
            return await scenario(solver)
        finally:
            await solver.close()

    answer = asyncio.run(with_solver())
    assert list(folder.iterdir()) == []  # no file is left behind
    assert groups
    for group in set(groups):
        gone([group])
    return answer


async def with_fault(solver: SolverProcess, fault: str, incumbents: bool) -> tuple[Any, Any]:
    """(outcome of the solve that fails, outcome of the one after it)."""
    assert await solver.request("call", (f"{FAULTS}.install", (fault, incumbents))) is None
    snapshot, demand = fleet()
    waits = fault in ("hang", "stopped", "short message")
    solver._deadline = 4.0 if waits else 120.0
    failed = await solver.solve(snapshot, demand, Warm((RowPrice("budget", 0.0, 1.5),)))
    solver._deadline = 120.0
    return failed, await solver.solve(snapshot, demand, None)


KINDS = {
    "hang": ("Deadline", "POLYFLEET_SOLVER_DEADLINE"),
    "stopped": ("Deadline", "POLYFLEET_SOLVER_DEADLINE"),
    "short message": ("Deadline", "POLYFLEET_SOLVER_DEADLINE"),
    "killed": ("Crashed", "signal SIGKILL"),
    "leaves": ("Crashed", "exit code 3"),
    "nonsense": ("Crashed", "garbage"),
    "endless message": ("Crashed", "garbage"),
    "memory": ("Error", "POLYFLEET_SOLVER_MEMORY_MIB"),
    "raises": ("Error", "ValueError: a defect"),
}


@pytest.mark.parametrize("fault", sorted(KINDS))
def test_what_was_found_before_a_failure_is_the_plan(fault: str, tmp_path: Path) -> None:
    """The checked plan of 3 replicas counts, the over-full one that came after it does not; the next solve works."""
    failed, after = run(lambda solver: with_fault(solver, fault, True), tmp_path, memory_mib=2048)
    kind, words = KINDS[fault]
    assert isinstance(failed, Solved)
    assert failed.failure is not None
    assert (failed.failure.kind, failed.plan.decided_by, failed.violations) == (kind, "Deadline", ())
    assert words in failed.failure.message
    assert kind in failed.plan.message
    assert failed.plan.outcome is Outcome.GREEDY  # as the placer reported it
    snapshot, demand = fleet()
    assert sum(a.replicas for a in failed.plan.assignments) == 3
    assert placement.check(snapshot, demand, failed.plan) == ()
    assert failed.warm == Warm((RowPrice("budget", 0.0, 1.5),), demand.models)
    if fault != "raises":  # that child goes on with its fault
        assert isinstance(after, Solved)
        assert (after.failure, after.violations, len(after.plan.starts)) == (None, (), 3)


@pytest.mark.parametrize("fault", ["killed", "nonsense", "stopped", "memory"])
def test_without_anything_found_a_failure_is_typed(fault: str, tmp_path: Path) -> None:
    failed, after = run(lambda solver: with_fault(solver, fault, False), tmp_path, memory_mib=2048)
    assert isinstance(failed, SolverFailed)
    assert failed.kind == KINDS[fault][0]
    assert KINDS[fault][1] in failed.message
    assert isinstance(after, Solved)


def test_a_last_word_that_breaks_a_rule_is_told(tmp_path: Path) -> None:
    """An over-full plan arrives with its violations, so that it is never carried out."""

    async def scenario(solver: SolverProcess) -> Any:
        await solver.request("call", (f"{FAULTS}.install_wrong", ()))
        return await solver.solve(*fleet(), None)

    solved = run(scenario, tmp_path)
    assert isinstance(solved, Solved)
    assert solved.violations


def test_a_solution_of_another_type_is_garbage(tmp_path: Path) -> None:
    async def scenario(solver: SolverProcess) -> Any:
        await solver.request("call", (f"{FAULTS}.install_other_type", ()))
        return await solver.solve(*fleet(), None), await solver.solve(*fleet(), None)

    failed, after = run(scenario, tmp_path)
    assert isinstance(failed, SolverFailed)
    assert (failed.kind, "garbage" in failed.message) == ("Crashed", True)
    assert isinstance(after, Solved)


def test_the_cache_stays_in_the_child(tmp_path: Path) -> None:
    """It is found again by its token, once; an older token, another child or no warm state start without it."""

    async def scenario(solver: SolverProcess) -> list[Any]:
        await solver.request("call", (f"{FAULTS}.install_cache", ()))
        first = await solver.solve(*fleet(), None)
        second = await solver.solve(*fleet(), first.warm)
        old = await solver.solve(*fleet(), first.warm)
        none = await solver.solve(*fleet(), None)
        await solver._kill()
        await solver.request("call", (f"{FAULTS}.install_cache", ()))
        return [first, second, old, none, await solver.solve(*fleet(), none.warm)]

    solved = run(scenario, tmp_path)
    assert [s.plan.message for s in solved] == ["1", "2", "1", "1", "1"]
    assert all(isinstance(s.warm.cache, CacheToken) for s in solved)
    assert solved[0].warm.covered == fleet()[1].models


def test_the_event_loop_goes_on_during_a_solve(tmp_path: Path) -> None:
    """The child waits for what only the loop can do; and what is sent is packed outside of the loop's thread."""

    class Packed:
        def __reduce__(self) -> Any:
            threads.append(threading.get_ident())
            return (str, (str(tmp_path / "go"),))

    threads: list[int] = []

    async def scenario(solver: SolverProcess) -> Any:
        waiting = asyncio.create_task(solver.request("call", (f"{FAULTS}.wait_for", (Packed(),))))
        await until(lambda: bool(threads))
        (tmp_path / "go").touch()
        answer = await waiting
        (tmp_path / "go").unlink()
        return answer

    assert run(scenario, tmp_path) is True
    assert threads
    assert threading.get_ident() not in threads


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - another process's doing has no event
        await asyncio.sleep(0.02)


async def cbc_of(group: int) -> None:
    await until(lambda: "cbc" in members(group).values())


def test_cbc_ends_with_the_solve_that_started_it(tmp_path: Path) -> None:
    """A cycle that is cancelled takes CBC and its files with it (`run` looks for both)."""

    async def scenario(solver: SolverProcess) -> int:
        task = asyncio.create_task(solver.request("call", (f"{FAULTS}.long_cbc", ())))
        await until(lambda: solver.pid is not None)
        group = solver.pid
        assert group is not None
        await cbc_of(group)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return group

    assert members(run(scenario, tmp_path)) == {}


OPERATOR = f"""
import asyncio, sys
from pathlib import Path
from polyfleet.solver_process import SolverProcess

async def main():
    solver = SolverProcess(asyncio.get_running_loop().time, deadline_s=600.0, folder=Path(sys.argv[1]))
    task = asyncio.create_task(solver.request("call", ("{FAULTS}.long_cbc", ())))
    while solver.pid is None:
        await asyncio.sleep(0.02)
    print(solver.pid, flush=True)
    await task

asyncio.run(main())
"""


def test_oc_074_cbc_does_not_outlive_a_killed_operator(tmp_path: Path) -> None:
    """SIGKILL leaves the operator no moment to clean up: child and CBC end all the same, the next operator removes the files."""
    with subprocess.Popen([sys.executable, "-c", OPERATOR, str(tmp_path)], stdout=subprocess.PIPE, text=True) as operator:
        try:
            assert operator.stdout is not None
            group = int(operator.stdout.readline())
            asyncio.run(asyncio.wait_for(cbc_of(group), 60))
        finally:
            operator.kill()
    gone([group])
    assert members(group) == {}
    assert list(tmp_path.iterdir()) != []

    async def next_operator() -> None:
        await SolverProcess(asyncio.get_running_loop().time, deadline_s=1.0, folder=tmp_path).close()

    asyncio.run(next_operator())
    assert list(tmp_path.iterdir()) == []


def test_oc_074_nothing_piles_up_over_many_cycles(tmp_path: Path) -> None:
    """60 cycles that each leave 1 MiB behind, some killed in the middle, some with errors: the folder is empty after each one."""

    async def scenario(solver: SolverProcess) -> int:
        seen = 0
        for cycle in range(60):
            path = await solver.request("call", (f"{FAULTS}.leave_a_file", (f"{cycle}-pulp.mps",)))
            assert path.startswith(str(solver._folder))
            if cycle % 20 == 7:
                await solver.request("call", ("os.kill", (solver.pid, signal.SIGKILL)))
            if cycle % 20 == 13:
                assert isinstance(await solver.request("call", ("math.sqrt", (-1.0,))), SolverFailed)
            assert list(solver._folder.iterdir()) == []
            seen += 1
        return seen

    assert run(scenario, tmp_path) == 60


def test_oc_074_a_full_disk_ends_in_the_greedy_plan(tmp_path: Path) -> None:
    """CBC cannot write its model: no crash, a checked plan of the greedy placer that says so."""

    async def scenario(solver: SolverProcess) -> Any:
        return await solver.request("call", (f"{FAULTS}.full_disk", fleet()))

    outcome, message, violations = run(scenario, tmp_path)
    assert (outcome, violations) == ("Greedy", 0)
    assert "CBC" in message


def test_no_answer_needs_the_childs_own_main_module() -> None:
    """What the child sends is known to the operator by the module's name, not as `__main__`."""
    assert b"__main__" not in pickle.dumps(CacheToken("x"))
