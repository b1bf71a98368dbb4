"""What the image room needs from the machine: Debian programs, a lock, a command runner whose errors say what to do next."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sandbox.errors import SandboxError

Progress = Callable[[str], None]

_PROGRAMS = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}
"""Program → the Debian package that brings it."""
FIRST_BYTES, LATER_BYTES = 2_500_000_000, 1_000_000_000
"""Measured: 1.8 GB after a first build of everything, 0.7 GB for new archives of all images."""
ENDS_WITH_US = ("setpriv", "--pdeathsig=TERM")
"""Prefix of a command that must not outlive this process, also when that is killed (Linux)."""
_FULL = "the disk is full. Free space (df -h), then run the command again; what is finished stays"
_NO_NETWORK = (
    "apt-get update --error-on=any",  # how mmdebstrap says it
    "(from versions: none)",  # how pip says it, after its retries
    "Temporary failure in name resolution",
    "Temporary failure resolving",
    "Network is unreachable",
    "Could not connect",
)


def check_programs() -> None:
    """Raise with the install command when a program is missing."""
    missing = sorted(package for program, package in _PROGRAMS.items() if shutil.which(program) is None)
    if missing:
        raise SandboxError(
            f"images are built with {', '.join(missing)}, which this machine lacks. "
            f"Install: apt-get install -y --no-install-recommends {' '.join(missing)}"
        )


def check_space(place: Path, first: bool) -> None:
    """Raise before a build that cannot end: a first one needs base, packages, layers and archives, a later one archives and a layer."""
    exists = next(parent for parent in (place, *place.parents) if parent.exists())
    needed, free = (FIRST_BYTES if first else LATER_BYTES), shutil.disk_usage(exists).free
    if free < needed:
        raise SandboxError(
            f"building images needs {needed / 1e9:.1f} GB of free space, and {exists} has {free / 1e9:.1f} GB. "
            "Free some, or set XDG_CACHE_HOME to a folder on a larger disk"
        )


def run(what: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed; `what` opens the error message."""
    arguments = [str(part) for part in command]
    if shutil.which(arguments[0]) is None:
        raise SandboxError(f"{what}: there is no program {arguments[0]} on this machine's path. Install it, then run the command again")
    # A session of its own: mmdebstrap signals its whole process group when it fails, and an interrupt must end what buildah started.
    child = subprocess.Popen(
        arguments,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, errors = child.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        child.communicate()
        raise
    if child.returncode != 0:
        raise SandboxError(f"{what} cannot be made (exit status {child.returncode}): {_explain(errors + output)}")
    return output


def _short(line: str) -> str:
    """buildah puts the whole chain of callers before the cause."""
    return line if len(line) <= 500 else f"{line[:100]} … {line[-400:]}"


def _explain(text: str) -> str:
    if os.strerror(errno.ENOSPC).lower() in text.lower():
        return _FULL
    if any(sign in text for sign in _NO_NETWORK):
        return "the packages cannot be fetched: no network, or a mirror or index that lacks them. With a network, run the command again"
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


@contextlib.contextmanager
def friendly(place: Path) -> Iterator[None]:
    """Turn a full disk or a cache that may not be written into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SandboxError(f"{place}: {_FULL}") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"{error.filename or place}: {error.strerror}"
            raise SandboxError(f"{reason}. Set XDG_CACHE_HOME to a folder that you may write") from None
        raise


class Clock:
    """Prefixes progress lines with the elapsed time."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._began = progress, time.monotonic()

    def __call__(self, line: str) -> None:
        seconds = int(time.monotonic() - self._began)
        self._progress(f"[{seconds // 60:2d}:{seconds % 60:02d}] {line}")
