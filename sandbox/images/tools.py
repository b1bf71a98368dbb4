"""What the image room needs from the machine: Debian programs, a lock, a command runner whose errors say what to do next."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sandbox.errors import SandboxError

Progress = Callable[[str], None]

_PROGRAMS = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}
"""Program → the Debian package that brings it."""


def check_programs() -> None:
    """Raise with the install command when a program is missing."""
    missing = sorted(package for program, package in _PROGRAMS.items() if shutil.which(program) is None)
    if missing:
        raise SandboxError(
            f"images are built with {', '.join(missing)}, which this machine lacks. "
            f"Install: apt-get install -y --no-install-recommends {' '.join(missing)}"
        )


def run(what: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed; `what` opens the error message."""
    arguments = [str(part) for part in command]
    if shutil.which(arguments[0]) is None:
        raise SandboxError(f"{what}: there is no program {arguments[0]} on this machine's path. Install it, then run the command again")
    done = subprocess.run(
        arguments,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise SandboxError(f"{what}: {Path(arguments[0]).name} ended with status {done.returncode}: {_explain(done.stderr + done.stdout)}")
    return done.stdout


def _short(line: str) -> str:
    """buildah puts the whole chain of callers before the cause."""
    return line if len(line) <= 500 else f"{line[:100]} … {line[-400:]}"


def _explain(text: str) -> str:
    if os.strerror(errno.ENOSPC) in text:
        return "the disk is full. Free space (df -h), then run the command again; what is finished stays"
    if any(
        sign in text
        for sign in (
            "Temporary failure resolving",
            "Name or service not known",
            "Failed to establish a new connection",
            "Could not connect",
        )
    ):
        return "no network: the packages cannot be fetched. With a network, run the command again"
    return "\n" + "\n".join("    " + _short(line) for line in text.strip().splitlines()[-12:])


@contextlib.contextmanager
def exclusive(path: Path, progress: Progress) -> Iterator[None]:
    """One builder at a time; the kernel frees the lock when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process builds images; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class Clock:
    """Prefixes progress lines with the elapsed time."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._began = progress, time.monotonic()

    def __call__(self, line: str) -> None:
        seconds = int(time.monotonic() - self._began)
        self._progress(f"[{seconds // 60:2d}:{seconds % 60:02d}] {line}")
