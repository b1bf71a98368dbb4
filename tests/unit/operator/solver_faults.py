"""What goes wrong inside of the solver's process, on request: every function here runs in the child."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyfleet import solver_child

import placement
from placement import _solver
from placement._solver.selftest import market_split
from placement.types import Demand, Plan, Snapshot, Warm

_real = placement.plan
Report = Callable[[Plan], None]


def _hang() -> None:
    ctypes.PyDLL(None).sleep(3600)  # keeps the interpreter's lock: no thread of the child could end it


def _stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _leaves() -> None:
    os._exit(3)


def _memory() -> None:
    held = []
    while True:
        held.append(bytearray(64 << 20))


def _raises() -> None:
    raise ValueError("a defect")


def _nonsense() -> None:
    """The next answer is no pickle."""

    class Garbler:
        loads = staticmethod(solver_child.pickle.loads)
        dumps = staticmethod(lambda _: b"no pickle at all")

    solver_child.pickle = Garbler  # type: ignore[misc, assignment]


def _pack(length: Callable[[int], int]) -> None:
    real = solver_child.HEADER

    class Header:
        size = real.size
        unpack = staticmethod(real.unpack)
        pack = staticmethod(lambda n: real.pack(length(n)))

    solver_child.HEADER = Header  # type: ignore[misc, assignment]


def _endless_message() -> None:
    _pack(lambda n: 2**63)


def _short_message() -> None:
    """One byte less comes than was announced, and then nothing."""
    _pack(lambda n: n + 1)


FAULTS: dict[str, Callable[[], None]] = {
    "hang": _hang,
    "stopped": _stopped,
    "killed": _killed,
    "leaves": _leaves,
    "memory": _memory,
    "raises": _raises,
    "nonsense": _nonsense,
    "endless message": _endless_message,
    "short message": _short_message,
}


def install(fault: str, incumbents: bool) -> None:
    """The placer reports what the greedy placer finds and then an over-full plan, which no check lets pass; then it fails."""

    def plan(snapshot: Snapshot, demand: Demand, *, warm: Warm | None = None, report: Report | None = None, **_: Any) -> tuple[Plan, Warm]:
        found, warmer = _real(snapshot, demand, solvers=[])
        if incumbents and report is not None:
            report(found)
            report(over_full(found))
        FAULTS[fault]()
        return found, warmer

    placement.plan = plan


def over_full(plan: Plan) -> Plan:
    return replace(plan, assignments=tuple(replace(a, replicas=a.replicas + 100) for a in plan.assignments))


def install_wrong() -> None:
    """The placer's last word is an over-full plan."""

    def plan(snapshot: Snapshot, demand: Demand, **_: Any) -> tuple[Plan, Warm]:
        found, warmer = _real(snapshot, demand, solvers=[])
        return over_full(found), warmer

    placement.plan = plan


def install_other_type() -> None:
    placement.plan = lambda *_, **__: (None, Warm())
    placement.check = lambda *_: ()  # type: ignore[assignment]


def install_cache() -> None:
    """A placer that counts in its cache how often it was asked; the plan's message tells the count."""

    def plan(snapshot: Snapshot, demand: Demand, *, warm: Warm | None = None, **_: Any) -> tuple[Plan, Warm]:
        found, _warm = _real(snapshot, demand, solvers=[])
        before = warm.cache if warm is not None else None
        assert before is None or isinstance(before, Uncopied)
        cache = Uncopied(before.count + 1 if before else 1)
        return replace(found, message=str(cache.count)), Warm(covered=demand.models, cache=cache)

    placement.plan = plan


class Uncopied:
    """Columns: must never leave the process."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __reduce__(self) -> Any:
        raise AssertionError("the cache was sent")


def long_cbc() -> None:
    """Minutes of CBC."""
    _solver.solver("CBC")(*market_split(60, 7), _solver.Limits(nodes=10**9, relative_gap=0.0, seconds=600.0))


def wait_for(path: str) -> bool:
    while not Path(path).exists():
        time.sleep(0.01)
    return True


def leave_a_file(path: str, size: int = 1 << 20) -> str:
    import tempfile

    place = Path(tempfile.mkdtemp()) / path
    place.write_bytes(bytes(size))
    return str(place)


def full_disk(snapshot: Snapshot, demand: Demand) -> tuple[str, str, int]:
    """No file may grow beyond 16 bytes: what CBC needs cannot be written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
    plan, _ = placement.plan(snapshot, demand, solvers=["CBC"])
    return str(plan.outcome), plan.message, len(placement.check(snapshot, demand, plan))
