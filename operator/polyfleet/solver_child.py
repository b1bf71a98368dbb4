"""The solver's process: reads pickled requests from standard input, runs the placer, writes pickled answers.

It imports the placer only, never the cluster client: whatever happens in here (a crash in native code, no memory, an endless
solve) ends this process and not the operator. Started by `solver_process`; one request at a time.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import struct
import sys
import traceback
from typing import Any, BinaryIO

HEADER = struct.Struct(">Q")  # length of the message that follows
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, memory_mib = int(sys.argv[1]), int(sys.argv[2])
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


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while True:
        header = requests.read(HEADER.size)
        if len(header) < HEADER.size:
            return  # the operator closed the pipe
        try:
            call, arguments = pickle.loads(requests.read(HEADER.unpack(header)[0]))  # from our own parent
            answer: tuple[str, Any] = ("ok", _run(call, arguments))
        except MemoryError:
            answer = ("error", ("MemoryError", "the solver needs more memory than POLYFLEET_SOLVER_MEMORY_MIB allows"))
        except Exception as error:  # the answer carries it: the operator decides
            answer = ("error", (type(error).__name__, f"{error}\n{traceback.format_exc(limit=-5)}"))
        data = pickle.dumps(answer)
        answers.write(HEADER.pack(len(data)) + data)
        answers.flush()


def _run(call: str, arguments: tuple[Any, ...]) -> Any:
    if call == "solve":
        import placement  # here, so that a broken solver library is an answer and not a process that cannot start

        snapshot, demand, warm = arguments
        plan, warmer = placement.plan(snapshot, demand, warm=warm)
        return plan, warmer, tuple(str(violation) for violation in placement.check(snapshot, demand, plan))
    if call == "call":  # for tests of the process itself: any function by its dotted name
        import importlib

        name, values = arguments
        module, _, function = name.rpartition(".")
        return getattr(importlib.import_module(module), function)(*values)
    raise ValueError(f"unknown call {call!r}")


if __name__ == "__main__":
    main()
