"""Runs the placer in a child process that can be killed: the event loop never waits for a solver that does not end.

The child lives between solves (its imports take a second) and is ended when it was idle for a while, missed its deadline, or
crashed; the next solve starts a new one. It has a process group of its own, so that a solver started by the solver dies with it, a
limit of memory, and a folder for its files that is emptied after each solve. Every failure is a value, never an exception: the last checked
plan that the child sent on the way, if there is one, else a failure, and then the cycle keeps the last plan and says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from placement.types import Demand, Plan, Snapshot, Warm
from polyfleet.queue import Clock
from polyfleet.solver_child import DONE, ERROR, HEADER, INCUMBENT, LONGEST

PREFIX = "polyfleet-solver-"

Kind = Literal["Deadline", "Crashed", "Error", "Violations"]


@dataclass(frozen=True, slots=True)
class SolverFailed:
    kind: Kind
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Solved:
    plan: Plan
    warm: Warm
    violations: tuple[str, ...]  # of the independent check; a plan with any is never carried out
    seconds: float
    failure: SolverFailed | None = None  # why this is only the best plan that was found before the solver failed


class _GarbageError(Exception):
    """The child sent what is no answer."""


def remove_left_over(parent: Path) -> None:
    """Folders of operators that were killed: a restarted container keeps its volume, and would fill it one kill at a time."""
    for path in parent.glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        # Our own id in a name is an earlier process's: in a container every operator has the same one.
        if pid.isdigit() and (int(pid) == os.getpid() or not Path("/proc", pid).exists()):
            shutil.rmtree(path, ignore_errors=True)


class SolverProcess:
    def __init__(self, clock: Clock, *, deadline_s: float, memory_mib: int = 0, idle_s: float = 60.0, folder: Path | None = None) -> None:
        self._clock, self._deadline, self._memory, self._idle = clock, deadline_s, memory_mib, idle_s
        parent = folder or Path(tempfile.gettempdir())
        remove_left_over(parent)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
        self._child: asyncio.subprocess.Process | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def solve(self, snapshot: Snapshot, demand: Demand, warm: Warm | None) -> Solved | SolverFailed:
        started = self._clock()
        incumbents: list[Plan] = []
        outcome = await self.request("solve", (snapshot, demand, warm), incumbents)
        if isinstance(outcome, SolverFailed):
            return _rescued(outcome, incumbents, demand, warm)
        plan, warmer, violations = outcome
        return Solved(plan, warmer, violations, self._clock() - started)

    async def request(self, call: str, arguments: tuple[Any, ...], incumbents: list[Plan] | None = None) -> Any:
        """The child's answer, or SolverFailed. One request at a time. What the child found on the way is added to `incumbents`."""
        async with self._lock:
            started = self._clock()

            def failed(kind: Kind, message: str) -> SolverFailed:
                return SolverFailed(kind, message, self._clock() - started)

            try:
                async with asyncio.timeout(self._deadline):
                    answer = await self._exchange(call, arguments, failed, [] if incumbents is None else incumbents)
                    if call == "solve" and not isinstance(answer, SolverFailed) and not _is_solution(answer):
                        raise _GarbageError("what came as a solution is none")
                    return answer
            except TimeoutError:
                await self._kill()
                return failed("Deadline", f"no plan within {self._deadline:g} s; the solver was ended (POLYFLEET_SOLVER_DEADLINE)")
            except _GarbageError as garbage:
                await self._kill()  # nobody knows where in its stream the next answer begins
                return failed("Crashed", f"the solver's process answered garbage ({garbage}) and was ended")
            except asyncio.CancelledError:
                await self._kill()
                raise
            finally:
                self._empty()
                self._rest()

    async def _exchange(
        self, call: str, arguments: tuple[Any, ...], failed: Callable[[Kind, str], SolverFailed], incumbents: list[Plan]
    ) -> Any:
        child = await self._start()
        assert child.stdin is not None  # pipes were asked for in _start
        assert child.stdout is not None  # 1
        try:
            # In a thread: a fleet of 10,000 nodes takes a while, and the event loop renews a Lease meanwhile.
            data = await asyncio.to_thread(pickle.dumps, (call, arguments))
            child.stdin.write(HEADER.pack(len(data)) + data)
            await child.stdin.drain()
            while True:
                kind, value = await _message(child.stdout)
                if kind != INCUMBENT:
                    break
                if not isinstance(value, Plan):
                    raise _GarbageError("what came as a plan is none")
                incumbents.append(value)
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await child.wait()
            await self._kill()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return failed("Crashed", f"the solver's process ended with {how}")
        if kind == ERROR:
            if value[0] == "MemoryError":
                await self._kill()  # what it holds is not given back otherwise
            return failed("Error", f"{value[0]}: {value[1]}"[:2000])
        return value

    # ---- the child's life

    async def _start(self) -> asyncio.subprocess.Process:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "polyfleet.solver_child",
                str(os.getpid()),
                str(self._memory),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self._folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        return self._child

    def _rest(self) -> None:
        if self._child is not None:
            self._idle_timer = asyncio.get_running_loop().call_later(self._idle, self._end_idle)

    def _end_idle(self) -> None:
        if self._child is not None and self._child.stdin is not None and not self._lock.locked():
            self._child.stdin.close()  # the child ends at the end of its input
            self._child = None

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # the group: solvers that the solver started go with it
        await child.wait()

    def _empty(self) -> None:
        """Files of a solve (models, logs) must not fill the volume; a plan needs none of them."""
        for entry in self._folder.iterdir() if self._folder.exists() else ():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    async def close(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        await self._kill()
        shutil.rmtree(self._folder, ignore_errors=True)


async def _message(answers: asyncio.StreamReader) -> tuple[str, Any]:
    """One whole answer. _GarbageError for bytes that are none: whoever broke them, they are not a plan."""
    size = HEADER.unpack(await answers.readexactly(HEADER.size))[0]
    if size > LONGEST:
        raise _GarbageError(f"a message of {size} bytes")
    data = await answers.readexactly(size)
    try:
        kind, value = await asyncio.to_thread(pickle.loads, data)  # from our own child
    except Exception as error:  # unpickling garbage may raise anything
        raise _GarbageError(f"{type(error).__name__}: {error}"[:200]) from error
    if kind == ERROR and not (isinstance(value, tuple) and len(value) == 2):
        raise _GarbageError("an error without a text")
    if kind not in (INCUMBENT, DONE, ERROR):
        raise _GarbageError("an answer of an unknown kind")
    return kind, value


def _is_solution(value: Any) -> bool:
    kinds = (Plan, Warm, tuple)
    return isinstance(value, tuple) and len(value) == len(kinds) and all(map(isinstance, value, kinds))


def _rescued(failure: SolverFailed, incumbents: list[Plan], demand: Demand, warm: Warm | None) -> Solved | SolverFailed:
    """The last plan that was found before the failure: checked, and told to be decided by the clock (such a run cannot be replayed)."""
    if not incumbents:
        return failure
    message = f"the best plan found before the solver failed: {failure.kind}: {failure.message}"
    best = replace(incumbents[-1], decided_by="Deadline", message=message[:300])
    # The plan was made for this demand; what the child held for later solves is gone with it or of unknown state.
    return Solved(best, Warm(warm.prices if warm else (), demand.models), (), failure.seconds, failure)
