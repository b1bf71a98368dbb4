"""One run of one container: started below a shim, found again after the agent's own death, signalled only by pid and start time.

Files of a run, in a folder of its own: ``spec.json`` (what the shim was told), ``shim.json`` (who the shim is), ``started.json``,
``exit.json`` and ``log``.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sandbox.proc import MARK, Ticket, boot_id, is_alive, signal_ticket
from sandbox.processnode import shim, timestamps

KILLED_EXIT_CODE = 137


@dataclass(frozen=True)
class Exit:
    """How a run ended."""

    code: int
    signal: int
    finished_at: datetime
    start_error: str = ""


@dataclass(frozen=True)
class Launch:
    """What to start."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path


class Run:
    """A started container process. ``wait`` may be awaited by several tasks."""

    def __init__(self, folder: Path, shim_ticket: Ticket) -> None:
        self.folder = folder
        self._shim = shim_ticket
        self._ended = asyncio.Event()
        self._fd: int | None = None
        self._follow()

    @classmethod
    async def start(cls, folder: Path, launch: Launch, lock: Path) -> Self:
        """Start a shim and wait until it has started the container, or has failed to (then the run has ended already)."""
        _make(folder)
        spec = {
            "argv": list(launch.argv), "env": launch.env, "cwd": str(launch.cwd), "lock": str(lock),
            "log": str(folder / "log"), "shim": str(folder / "shim.json"),
            "started": str(folder / "started.json"), "exit": str(folder / "exit.json"),
        }  # fmt: skip
        shim.write_json(str(folder / "spec.json"), spec)
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        if MARK in os.environ:
            environment[MARK] = os.environ[MARK]
        child = _spawn(folder, environment)
        run = cls(folder, Ticket("shim", child.pid, shim.start_time(child.pid), boot_id()))
        assert child.stdout is not None
        await _readable(child.stdout.fileno())
        child.stdout.close()
        child.returncode = 0  # this run reaps its shim itself; without this, Popen would complain about a child left alone
        return run

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """The run recorded in a folder, whether it still runs or has ended meanwhile; None when nothing was ever started there."""
        record = read_record(folder / "shim.json")
        if record is None:
            return None
        return cls(folder, Ticket("shim", record["pid"], record["startTime"], record["boot"]))

    def _follow(self) -> None:
        with suppress(ProcessLookupError):
            self._fd = os.pidfd_open(self._shim.pid)
        if self._fd is None or not is_alive(self._shim):
            self._finish()
        else:
            asyncio.get_running_loop().add_reader(self._fd, self._finish)

    def _finish(self) -> None:
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
        with suppress(ChildProcessError):
            os.waitpid(self._shim.pid, os.WNOHANG)
        self._ended.set()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._ended.is_set()

    @property
    def started_at(self) -> datetime | None:
        """When the container's process was started; None when that failed."""
        record = read_record(self.folder / "started.json")
        return timestamps.parse(record["startedAt"]) if record else None

    @property
    def environment(self) -> dict[str, str]:
        """The container's environment."""
        record = read_record(self.folder / "spec.json")
        return dict(record["env"]) if record else {}

    async def wait(self) -> Exit:
        """Wait for the end."""
        await self._ended.wait()
        record = read_record(self.folder / "exit.json")
        if record is None:  # the shim was killed, and the container with it
            return Exit(KILLED_EXIT_CODE, signal.SIGKILL, timestamps.now())
        return Exit(record["exitCode"], record["signal"], timestamps.parse(record["finishedAt"]), record.get("startError", ""))

    def send(self, number: signal.Signals) -> None:
        """Signal the container's main process; the shim ends the rest once that one is gone."""
        record = read_record(self.folder / "started.json")
        if record is not None:
            signal_ticket(Ticket("container", record["pid"], record["startTime"], self._shim.boot), number)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _spawn(folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    with (folder / "shim.log").open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(shim.__file__)), str(folder / "spec.json")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd="/", start_new_session=True,
        )  # fmt: skip


async def _readable(fd: int) -> None:
    """Wait until a pipe has data or its other end was closed."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def done() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, done)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def kill_recorded(folder: Path) -> Ticket | None:
    """SIGKILL what a run folder records, without an event loop; returns the shim to wait for, if it was alive."""
    record, started = read_record(folder / "shim.json"), read_record(folder / "started.json")
    if record is None:
        return None
    ticket = Ticket(str(folder), record["pid"], record["startTime"], record["boot"])
    if not is_alive(ticket):
        return None
    if started is None:
        signal_ticket(ticket, signal.SIGKILL)
    else:
        signal_ticket(Ticket("container", started["pid"], started["startTime"], ticket.boot), signal.SIGKILL)
    return ticket


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON file of the state directory; None when it is not there or was cut short."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return data


def remove_run(path: Path) -> None:
    """Remove the folder of an ended run."""
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
