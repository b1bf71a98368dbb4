"""Processes are ended by who they are: process id, start time and boot together, never by the id alone."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import proc
from sandbox.errors import SandboxError


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[proc.Processes]:
    """Recorded processes in a folder of their own, all gone afterwards."""
    found = proc.Processes(tmp_path / "state")
    try:
        yield found
    finally:
        found.stop_all()
        found.kill_marked()


# A stat line as proc(5) describes it: the command may hold blanks and brackets; field 22 is the start time.
_STAT = "4242 (a) b (c) S 1 4242 4242 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 1 0 987654 1000 200 18446744073709551615"


def test_record_with_a_difficult_command_name() -> None:
    """The start time is found although the command's name holds blanks and brackets."""
    assert proc.parse_record("etcd", f"boot-1 {_STAT}\n") == proc.Ticket("etcd", 4242, 987654, "boot-1")


@pytest.mark.parametrize("text", ["", "boot-1", "boot-1 4242 (sh) S 1 2"])
def test_record_cut_short_is_no_process(text: str) -> None:
    """A record that was never finished belongs to a process that never turned into its program."""
    assert proc.parse_record("etcd", text) is None


def test_start_records_the_process_that_runs(processes: proc.Processes) -> None:
    """The record names the program's own process id, with the mark in its environment."""
    processes.start("sleeper", ["sleep", "1000"])
    (ticket,) = _wait_marked(processes)
    assert [each.pid for each in processes.tickets()] == [ticket.pid]
    assert processes.alive() == {"sleeper": True}


def _wait_marked(processes: proc.Processes) -> list[proc.Ticket]:
    """The exec of the shell gives no event; its command line says when it is over."""
    while True:
        found = [each for each in processes.marked() if b"sleep" in Path(f"/proc/{each.pid}/cmdline").read_bytes().split(b"\0")[0]]
        if found:
            return found


def test_stop_ends_it_and_forgets_it(processes: proc.Processes) -> None:
    """After stop nothing runs, and no record is left."""
    processes.start("sleeper", ["sleep", "1000"])
    _wait_marked(processes)
    processes.stop(["sleeper"], grace_seconds=5)
    assert processes.marked() == []
    assert processes.tickets() == []


def test_another_process_with_the_same_id_is_not_signalled() -> None:
    """A ticket with another start time or another boot is not this process: nothing is sent (else this test would end here)."""
    me = proc.parse_record("me", f"{proc.boot_id()} {Path('/proc/self/stat').read_text()}")
    assert me is not None
    assert me.pid == os.getpid()
    assert proc.is_alive(me)
    for stranger in (dataclasses.replace(me, start=me.start + 1), dataclasses.replace(me, boot="another")):
        assert not proc.is_alive(stranger)
        proc.signal_ticket(stranger, signal.SIGKILL)


def test_children_are_found_by_the_mark(processes: proc.Processes) -> None:
    """What a recorded process started is ended too, although nobody recorded it."""
    processes.start("parent", ["sh", "-c", "sleep 1000 & sleep 1000 & wait"])
    while len(_wait_marked(processes)) < 2:
        pass
    processes.stop(["parent"])
    processes.kill_marked()
    assert processes.marked() == []


def test_early_end_is_reported_with_the_log(processes: proc.Processes) -> None:
    """A program that ends at once is named with its status and the end of its log."""
    processes.start("broken", ["sh", "-c", "echo the reason >&2; exit 3"])
    assert proc.wait_gone(processes.tickets(), 10) == []
    with pytest.raises(SandboxError, match=r"(?s)broken ended at once \(exit status 3\).*the reason"):
        processes.check("broken")


def test_records_and_logs_are_private(processes: proc.Processes) -> None:
    """Other users cannot list what runs or read logs."""
    processes.start("sleeper", ["sleep", "1000"])
    assert {oct(path.stat().st_mode & 0o777) for path in (processes.records, processes.logs)} == {"0o700"}
