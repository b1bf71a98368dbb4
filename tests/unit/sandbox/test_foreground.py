"""A command in the foreground: it ends in its own time after a signal, and its caller learns of the signal only then."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import foreground

# A child that needs longer to clean up than the quarter second after which subprocess.run would kill it. It asks its parent to stop.
CLEANS_UP = """
import os, pathlib, signal, sys, time
try:
    os.kill(os.getppid(), getattr(signal, sys.argv[2]))
    time.sleep(60)
finally:
    time.sleep(0.6)
    pathlib.Path(sys.argv[1]).write_text("clean")
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.kill(os.getppid(), signal.SIGINT)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_child_finishes_its_clean_up_before_the_caller_goes_on(tmp_path: Path, name: str) -> None:
    """Whatever signal ends us, the child sees Ctrl-C, and KeyboardInterrupt comes after its last word."""
    mark = tmp_path / "mark"
    before = [signal.getsignal(number) for number in foreground.SIGNALS]
    with pytest.raises(KeyboardInterrupt):
        foreground.run([sys.executable, "-c", CLEANS_UP, str(mark), name], capture=True)
    assert mark.read_text() == "clean"
    assert [signal.getsignal(number) for number in foreground.SIGNALS] == before


def test_a_child_that_will_not_end_is_killed_after_its_grace() -> None:
    """Ctrl-C never hangs for ever."""
    with pytest.raises(KeyboardInterrupt):
        foreground.run([sys.executable, "-c", STUBBORN], grace_s=0.2)


def test_output_and_status_come_back() -> None:
    """What subprocess.run gives on the normal way."""
    done = foreground.run([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"], capture=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_time_limit_interrupts_first(tmp_path: Path) -> None:
    """The limit is an interrupt as well: the child cleans up, then TimeoutExpired is raised."""
    mark = tmp_path / "mark"
    code = f"import time, pathlib\ntry:\n  time.sleep(60)\nfinally:\n  pathlib.Path({str(mark)!r}).write_text('clean')"
    with pytest.raises(subprocess.TimeoutExpired):
        foreground.run([sys.executable, "-c", code], capture=True, timeout_s=1.0)
    assert mark.read_text() == "clean"


def test_the_child_has_a_group_of_its_own() -> None:
    """Else the terminal's Ctrl-C would reach it a second time, in the middle of its clean-up."""
    done = foreground.run([sys.executable, "-c", "import os; print(os.getpgid(0) == os.getpid())"], capture=True)
    assert done.stdout == "True\n"
