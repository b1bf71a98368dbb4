"""Runs the placer in a child process that can be killed: the event loop never waits for a solver that does not end.

The child lives between solves (its imports take a second) and is ended when it was idle for a while, missed its deadline, or
crashed; the next solve starts a new one. It has a process group of its own, so that a solver started by the solver dies with it, a
limit of memory, and a folder for its files that is emptied after each solve. Every failure is a value, never an exception: the cycle keeps
the last plan and says why.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from placement.types import Demand, Plan, Snapshot, Warm
from polyfleet.queue import Clock
from polyfleet.solver_child import HEADER

PREFIX = "polyfleet-solver-"


@dataclass(frozen=True, slots=True)
class Solved:
    plan: Plan
    warm: Warm
    violations: tuple[str, ...]  # of the independent check; a plan with any is never carried out
    seconds: float


@dataclass(frozen=True, slots=True)
class SolverFailed:
    kind: Literal["Deadline", "Crashed", "Error", "Violations"]
    message: str
    seconds: float


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
        outcome = await self.request("solve", (snapshot, demand, warm))
        seconds = self._clock() - started
        if isinstance(outcome, SolverFailed):
            return outcome
        plan, warmer, violations = outcome
        return Solved(plan, warmer, violations, seconds)

    async def request(self, call: str, arguments: tuple[Any, ...]) -> Any:
        """The child's answer, or SolverFailed. One request at a time."""
        async with self._lock:
            started = self._clock()

            def failed(kind: Literal["Deadline", "Crashed", "Error"], message: str) -> SolverFailed:
                return SolverFailed(kind, message, self._clock() - started)

            try:
                async with asyncio.timeout(self._deadline):
                    return await self._exchange(call, arguments, failed)
            except TimeoutError:
                await self._kill()
                return failed("Deadline", f"no plan within {self._deadline:g} s; the solver was ended (POLYFLEET_SOLVER_DEADLINE)")
            except asyncio.CancelledError:
                await self._kill()
                raise
            finally:
                self._empty()
                self._rest()

    async def _exchange(self, call: str, arguments: tuple[Any, ...], failed: Callable[..., SolverFailed]) -> Any:
        child = await self._start()
        assert child.stdin is not None  # pipes were asked for in _start
        assert child.stdout is not None  # 1
        try:
            data = pickle.dumps((call, arguments))
            child.stdin.write(HEADER.pack(len(data)) + data)
            await child.stdin.drain()
            header = await child.stdout.readexactly(HEADER.size)
            status, value = pickle.loads(await child.stdout.readexactly(HEADER.unpack(header)[0]))  # our own child
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await child.wait()
            await self._kill()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return failed("Crashed", f"the solver's process ended with {how}")
        if status == "error":
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
