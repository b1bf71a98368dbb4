"""The solver's child: killed at its deadline, replaced after a crash, never an exception in the operator."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from polyfleet.solver_process import SolverFailed, SolverProcess, remove_left_over

Scenario = Callable[[SolverProcess], Awaitable[Any]]


def run(scenario: Scenario, folder: Path, *, deadline_s: float = 60.0, memory_mib: int = 0) -> Any:
    async def with_solver() -> Any:
        solver = SolverProcess(asyncio.get_running_loop().time, deadline_s=deadline_s, memory_mib=memory_mib, folder=folder)
        try:
            return await scenario(solver)
        finally:
            await solver.close()

    answer = asyncio.run(with_solver())
    assert list(folder.iterdir()) == []  # no file is left behind
    return answer


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_child_lives_on_between_requests(tmp_path: Path) -> None:
    """Two requests are answered by one process, so that the imports are paid once."""

    async def scenario(solver: SolverProcess) -> tuple[Any, Any, Any]:
        first = await solver.request("call", ("os.getpid", ()))
        second = await solver.request("call", ("os.getpid", ()))
        return first, second, solver.pid

    first, second, pid = run(scenario, tmp_path)
    assert first == second == pid != os.getpid()


def test_a_request_beyond_its_deadline_is_killed_and_the_next_one_works(tmp_path: Path) -> None:
    """An endless solve ends as a value of kind Deadline, its process is gone, and a new child answers."""

    async def scenario(solver: SolverProcess) -> tuple[Any, bool, Any]:
        pid = await solver.request("call", ("os.getpid", ()))
        solver._deadline = 0.2
        late = await solver.request("call", ("time.sleep", (3600,)))
        solver._deadline = 60.0
        return late, alive(pid), await solver.request("call", ("math.sqrt", (4.0,)))

    late, still_there, answer = run(scenario, tmp_path)
    assert isinstance(late, SolverFailed)
    assert late.kind == "Deadline"
    assert not still_there
    assert answer == 2.0


def test_a_crash_is_a_typed_outcome(tmp_path: Path) -> None:
    """A native crash ends the child, and the message names the signal."""

    async def scenario(solver: SolverProcess) -> tuple[Any, Any]:
        return await solver.request("call", ("os.abort", ())), await solver.request("call", ("math.sqrt", (9.0,)))

    crashed, answer = run(scenario, tmp_path)
    assert isinstance(crashed, SolverFailed)
    assert crashed.kind == "Crashed"
    assert "SIGABRT" in crashed.message
    assert answer == 3.0


def test_an_exception_is_a_typed_outcome_and_the_child_stays(tmp_path: Path) -> None:
    """An error of the placer is told with its type; the process goes on."""

    async def scenario(solver: SolverProcess) -> tuple[Any, Any, Any]:
        before = await solver.request("call", ("os.getpid", ()))
        return await solver.request("call", ("math.sqrt", (-1.0,))), before, await solver.request("call", ("os.getpid", ()))

    failed, before, after = run(scenario, tmp_path)
    assert isinstance(failed, SolverFailed)
    assert failed.kind == "Error"
    assert failed.message.startswith("ValueError")
    assert before == after


def test_more_memory_than_allowed_is_refused(tmp_path: Path) -> None:
    """A solve that wants 4 GiB under a limit of 1 GiB fails as a value; the operator keeps its own memory."""

    async def scenario(solver: SolverProcess) -> Any:
        return await solver.request("call", ("builtins.bytearray", (4 << 30,)))

    failed = run(scenario, tmp_path, memory_mib=1024)
    assert isinstance(failed, SolverFailed)
    assert "POLYFLEET_SOLVER_MEMORY_MIB" in failed.message


def test_what_a_solver_prints_does_not_break_the_answers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the protocol: prints go to standard error."""

    async def scenario(solver: SolverProcess) -> Any:
        await solver.request("call", ("os.system", ("echo a solver says hello",)))
        return await solver.request("call", ("math.sqrt", (16.0,)))

    assert run(scenario, tmp_path) == 4.0
    assert "a solver says hello" in capfd.readouterr().err


def test_processes_of_the_solver_end_with_it(tmp_path: Path) -> None:
    """A solver that was started by the solver is in the same group and is killed at the deadline too."""

    async def scenario(solver: SolverProcess) -> tuple[Any, Any]:
        handle = os.pidfd_open(await solver.request("call", ("os.spawnlp", (os.P_NOWAIT, "sleep", "sleep", "3600"))))
        solver._deadline = 0.2
        return handle, await solver.request("call", ("time.sleep", (3600,)))

    handle, late = run(scenario, tmp_path)
    assert isinstance(late, SolverFailed)
    ended, _, _ = select.select([handle], [], [], 30)  # readable once the process has ended
    os.close(handle)
    assert ended == [handle]


def test_files_of_a_solve_are_removed(tmp_path: Path) -> None:
    """What a solver writes into its temporary folder is gone after the answer."""

    async def scenario(solver: SolverProcess) -> Any:
        path = await solver.request("call", ("tempfile.mkdtemp", ()))
        return path, await solver.request("call", ("os.path.exists", (path,)))

    path, exists = run(scenario, tmp_path)
    assert path.startswith(str(tmp_path))
    assert not exists


def test_folders_of_killed_operators_are_removed(tmp_path: Path) -> None:
    """A folder of a process that is gone, or of an earlier one with our id, is removed; that of a living process stays."""
    gone, earlier, living = (tmp_path / f"polyfleet-solver-{pid}-x" for pid in (2**22 + 1, os.getpid(), 1))
    for path in (gone, earlier, living):
        path.mkdir()
    remove_left_over(tmp_path)
    assert [path.exists() for path in (gone, earlier, living)] == [False, False, True]
