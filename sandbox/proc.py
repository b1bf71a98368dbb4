"""Processes that outlive the command that started them, and a record of them that survives a crash.

Every process is started through a few lines of shell that write the record *themselves*, before they turn into the program
(`exec` keeps process id and start time). So there is no moment in which a process runs and nobody knows of it, even when
`up` is killed with SIGKILL. A record is `boot-id  /proc/PID/stat`; a process is only ever signalled when boot id, process id
and start time all match, and never by its name. Each process also carries `POLYFLEET_SANDBOX_MARK=<state folder>` in its
environment: the children of our processes (engines on process nodes, for instance) are found by that mark.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

MARK = "POLYFLEET_SANDBOX_MARK"

_LAUNCH = """\
set -e
record=$1; shift
read -r boot < /proc/sys/kernel/random/boot_id
read -r stat < "/proc/$$/stat"
printf '%s %s\\n' "$boot" "$stat" > "$record"
exec < /dev/null
while [ "$1" != -- ]; do echo 0 > "$1"; shift; done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Ticket:
    """Who a process is: its id alone may be reused by the kernel, id + start time + boot may not."""

    name: str
    pid: int
    start: int
    boot: str


def boot_id() -> str:
    """The identity of the running boot: start times count from it, so they mean nothing across a reboot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def parse_record(name: str, text: str) -> Ticket | None:
    """Read one record; None for one that was cut short (its process never came to life)."""
    boot, _, stat = text.strip().partition(" ")
    head, closing, tail = stat.rpartition(")")
    fields = tail.split()
    # proc(5): field 22 of stat is the start time; the state (field 3) is the first one after the command's closing bracket
    if not closing or len(fields) < 20:
        return None
    return Ticket(name=name, pid=int(head.split(" ", 1)[0]), start=int(fields[19]), boot=boot)


def _stat_fields(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # ProcessLookupError while it is being read included
        return None


def is_alive(ticket: Ticket) -> bool:
    """True when this very process still runs. A zombie counts as dead: nothing of it is left but its parent's interest."""
    if ticket.boot != boot_id():
        return False
    fields = _stat_fields(ticket.pid)
    return fields is not None and len(fields) > 19 and int(fields[19]) == ticket.start and fields[0] not in "ZX"


def tail(path: Path, lines: int = 8) -> str:
    """The last lines of a log, for an error message."""
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - 8192))
            text = handle.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join("    " + line[:300] for line in text.strip().splitlines()[-lines:]) or "(empty log)"


def signal_ticket(ticket: Ticket, number: signal.Signals) -> None:
    """Send a signal to this very process; a pidfd closes the gap between looking and signalling."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(ticket.pid)
        try:
            if is_alive(ticket):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def wait_gone(tickets: Iterable[Ticket], seconds: float) -> list[Ticket]:
    """Wait until the processes are gone, awakened by the kernel; returns those that are still there."""
    deadline = time.monotonic() + seconds
    left = []
    for ticket in tickets:
        try:
            handle = os.pidfd_open(ticket.pid)
        except ProcessLookupError:
            continue
        try:
            if is_alive(ticket):
                select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
                if is_alive(ticket):
                    left.append(ticket)
        finally:
            os.close(handle)
    return left


class Processes:
    """The recorded processes of one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.records = state / "run" / "procs"
        self.logs = state / "logs"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._given_up = False

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        prefix: Sequence[str | Path] = (),
        cgroups: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start a process in a session of its own (Ctrl-C of the command must not reach it), its output in logs/NAME.log.

        `prefix` enters namespaces (nsenter keeps the process id), `cgroups` are cgroup.procs files that it joins first.
        """
        self._refuse_when_given_up()
        self.records.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The shell lets go of this pipe (its standard input) once the record is written: whoever calls stop() next finds the process.
        hear, tell = os.pipe()
        words = [*cgroups, "--", *prefix, *argv]
        command = ["/bin/sh", "-c", _LAUNCH, "sh", str(self.records / name), *map(str, words)]
        environment = {**os.environ, **(env or {}), MARK: str(self.state)}
        try:
            with (self.logs / f"{name}.log").open("ab") as log:
                self._children[name] = subprocess.Popen(
                    command,
                    stdin=tell,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=cwd or "/",
                    start_new_session=True,
                )
            os.close(tell)
            tell = -1
            os.read(hear, 1)
        finally:
            os.close(hear)
            if tell >= 0:
                os.close(tell)

    def check(self, name: str) -> None:
        """Raise with the end of the log when a process that this command started has already ended."""
        self._refuse_when_given_up()
        child = self._children.get(name)
        if child is not None and child.poll() is not None:
            log = self.logs / f"{name}.log"
            raise SandboxError(f"{name} ended at once (exit status {child.returncode}). The end of {log}:\n{tail(log)}")

    def tickets(self) -> list[Ticket]:
        """All recorded processes, alive or not, in order of name."""
        if not self.records.is_dir():
            return []
        found = (parse_record(path.name, path.read_text()) for path in sorted(self.records.iterdir()) if path.is_file())
        return [ticket for ticket in found if ticket is not None]

    def alive(self) -> dict[str, bool]:
        """Name of each recorded process → does it run."""
        return {ticket.name: is_alive(ticket) for ticket in self.tickets()}

    def stop(self, names: Iterable[str], *, grace_seconds: float = 0.0) -> None:
        """End these processes: politely where a grace is given, with SIGKILL after it. Their records go away."""
        wanted = set(names)
        tickets = [ticket for ticket in self.tickets() if ticket.name in wanted]
        left = [ticket for ticket in tickets if is_alive(ticket)]
        if grace_seconds > 0:
            for ticket in left:
                signal_ticket(ticket, signal.SIGTERM)
            left = wait_gone(left, grace_seconds)
        for ticket in left:
            signal_ticket(ticket, signal.SIGKILL)
        stuck = wait_gone(left, 20)
        for name in sorted(wanted):
            if (child := self._children.pop(name, None)) is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=5)
        for ticket in tickets:
            if ticket not in stuck:
                (self.records / ticket.name).unlink(missing_ok=True)
        if stuck:
            raise SandboxError(
                "these processes do not end, not even by SIGKILL: "
                + ", ".join(f"{ticket.name} (process {ticket.pid})" for ticket in stuck)
                + ". They wait in the kernel; try again: polyfleet-sandbox down"
            )

    def stop_all(self, *, grace_seconds: float = 0.0) -> None:
        """End every recorded process."""
        self.stop([ticket.name for ticket in self.tickets()], grace_seconds=grace_seconds)

    def give_up(self) -> None:
        """End everything, and let every thread that starts or waits for a process here end with an error."""
        self._given_up = True
        self.stop_all()
        self.kill_marked()

    def _refuse_when_given_up(self) -> None:
        if self._given_up:
            raise SandboxError("given up")

    def marked(self) -> list[Ticket]:
        """Every process of this machine whose environment carries the mark of this state folder (this one excluded)."""
        mark = f"{MARK}={self.state}".encode()
        boot, found = boot_id(), []
        for entry in sorted(Path("/proc").iterdir()):
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            fields = _stat_fields(int(entry.name)) if mark in environment else None
            if fields is not None and len(fields) > 19:
                found.append(Ticket(name=f"process-{entry.name}", pid=int(entry.name), start=int(fields[19]), boot=boot))
        return found

    def kill_marked(self) -> None:
        """End what our processes left behind: whatever carries the mark. Children may be born meanwhile, hence the rounds."""
        for _ in range(10):
            found = [ticket for ticket in self.marked() if is_alive(ticket)]
            if not found:
                return
            for ticket in found:
                signal_ticket(ticket, signal.SIGKILL)
            wait_gone(found, 5)
