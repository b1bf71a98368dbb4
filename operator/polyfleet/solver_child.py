"""The solver's process: reads pickled requests from standard input, runs the placer, writes pickled answers.

It imports the placer only, never the cluster client: whatever happens in here (a crash in native code, no memory, an endless
solve) ends this process and not the operator. Started by `solver_process`; one request at a time. On the way to a plan it sends each
improved one that the independent check passes, so that ending it costs nothing.

What a later solve may start from and that is too large to send (columns) stays in here; the operator holds a token for it.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import select
import signal
import struct
import sys
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

HEADER = struct.Struct(">Q")  # length of the message that follows
LONGEST = 1 << 31  # of an answer: a longer one is garbage (a plan of 10,000 nodes takes a few MiB)
INCUMBENT, DONE, ERROR = "incumbent", "ok", "error"  # kinds of answers: any number of the first, then one of the others
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Send = Callable[[str, Any], None]


@dataclass(frozen=True, slots=True)
class CacheToken:
    """Stands for `Warm.cache` outside of the process that holds it."""

    key: str


_caches: dict[str, object] = {}  # the last one only


def main() -> None:
    parent, memory_mib = int(sys.argv[1]), int(sys.argv[2])
    _guard()
    _die_with(parent)
    if memory_mib:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    # The answers own the real standard output; whatever a solver prints goes to standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


def _die_with(parent: int) -> None:
    """The kernel ends this process when the operator ends, even by SIGKILL; a parent that is gone already is noticed too."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


def _guard() -> None:
    """A second process that waits for the operator's end of the pipe to close, and then kills the group.

    The kernel's signal reaches this process only; a solver that this process started (CBC) would run on to its own limit.
    """
    if os.fork():
        return
    try:
        # No standard output: the operator must see the end of the answers when this process's parent ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        waiting = select.poll()
        waiting.register(0, 0)  # hang-up only: what is sent is not for this process
        waiting.poll()
        os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(0)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    def send(kind: str, value: Any) -> None:
        data = pickle.dumps((kind, value))
        answers.write(HEADER.pack(len(data)) + data)
        answers.flush()

    while True:
        header = requests.read(HEADER.size)
        if len(header) < HEADER.size:
            return  # the operator closed the pipe
        try:
            call, arguments = pickle.loads(requests.read(HEADER.unpack(header)[0]))  # from our own parent
            value = _run(call, arguments, send)
        except MemoryError:
            _caches.clear()
            send(ERROR, ("MemoryError", "the solver needs more memory than POLYFLEET_SOLVER_MEMORY_MIB allows"))
        except Exception as error:  # the answer carries it: the operator decides
            send(ERROR, (type(error).__name__, f"{error}\n{traceback.format_exc(limit=-5)}"))
        else:
            send(DONE, value)


def _run(call: str, arguments: tuple[Any, ...], send: Send) -> Any:
    if call == "solve":
        snapshot, demand, warm = arguments
        return _solve(snapshot, demand, warm, send)
    if call == "call":  # for tests of the process itself: any function by its dotted name
        import importlib

        name, values = arguments
        module, _, function = name.rpartition(".")
        return getattr(importlib.import_module(module), function)(*values)
    raise ValueError(f"unknown call {call!r}")


def _solve(snapshot: Any, demand: Any, warm: Any, send: Send) -> Any:
    import placement  # here, so that a broken solver library is an answer and not a process that cannot start

    covered = placement.effective(demand, warm)

    def report(plan: Any) -> None:
        if not placement.check(snapshot, covered, plan):
            send(INCUMBENT, plan)

    if warm is not None:
        held = _caches.pop(warm.cache.key, None) if isinstance(warm.cache, CacheToken) else None
        warm = replace(warm, cache=held)
    plan, warmer = placement.plan(snapshot, demand, warm=warm, report=report)
    violations = tuple(str(violation) for violation in placement.check(snapshot, covered, plan))
    return plan, replace(warmer, cache=_kept(warmer.cache)), violations


def _kept(cache: object | None) -> CacheToken | None:
    _caches.clear()
    if cache is None:
        return None
    token = CacheToken(uuid.uuid4().hex)
    _caches[token.key] = cache
    return token


if __name__ == "__main__":
    from polyfleet import solver_child  # under its own name: what it sends must be known by that name to the operator

    solver_child.main()
