"""Run one command in the foreground so that Ctrl-C, SIGTERM or a closed terminal let it finish its own clean-up.

`subprocess.run` kills its child a quarter of a second after Ctrl-C; a cluster that is half removed or a chart that is half installed
would stay. Here the child gets a process group of its own, so that the terminal's Ctrl-C reaches only us; we pass it on once, as
SIGINT, and wait. Only a child that does not end in `grace_s` is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

GRACE_S = 90.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stop:
    """Passes the first request to end on to the child, and remembers that there was one."""

    def __init__(self, grace_s: float) -> None:
        self.asked = False
        self._grace_s = grace_s
        self._child: subprocess.Popen[str] | None = None
        self._killer: threading.Timer | None = None

    def adopt(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        if self.asked:  # the signal came while the child was being made
            self.forward()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again:
            print("still ending in good order, please wait", file=sys.stderr, flush=True)
        else:
            self.forward()

    def forward(self) -> None:
        child = self._child
        if child is None or child.returncode is not None or self._killer is not None:
            return
        child.send_signal(signal.SIGINT)
        self._killer = threading.Timer(self._grace_s, _kill, [child])
        self._killer.daemon = True
        self._killer.start()

    def done(self) -> None:
        if self._killer is not None:
            self._killer.cancel()


def _kill(child: subprocess.Popen[str]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    capture: bool = False,
    timeout_s: float | None = None,
    grace_s: float = GRACE_S,
) -> subprocess.CompletedProcess[str]:
    """Wait for the command; KeyboardInterrupt is raised only after it has ended. Signals are watched in the main thread only."""
    stop = _Stop(grace_s)
    watching = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop.on_signal) for number in SIGNALS} if watching else {}
    pipe = subprocess.PIPE if capture else None
    try:
        with subprocess.Popen(
            list(command), cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, process_group=0
        ) as child:
            stop.adopt(child)
            late = False
            try:
                out, err = child.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                late = True
                stop.forward()
                out, err = child.communicate()
            stop.done()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.asked:
        raise KeyboardInterrupt
    if late:
        raise subprocess.TimeoutExpired(list(command), timeout_s or 0, out, err)
    return subprocess.CompletedProcess(list(command), child.returncode, out or "", err or "")
