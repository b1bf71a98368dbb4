"""Reading the audit log over the API server's own rotation of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import witness


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a state folder's logs."""
    monkeypatch.setenv("POLYFLEET_SANDBOX_STATE", str(tmp_path))
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def test_rotated_files_come_first_and_in_order(logs: Path) -> None:
    """The API server renames a full log to audit-TIME.log: the oldest comes first, the current file last, other logs not at all."""
    (logs / "audit-2026-11-25T05-46-28.123.log").write_text('{"n": 2}\n')
    (logs / "audit-2026-11-25T04-59-59.900.log").write_text('{"n": 0}\n{"n": 1}\n')
    (logs / "audit.log").write_text('{"n": 3}\n')
    (logs / "etcd.log").write_text("not JSON\n")
    assert [event["n"] for event in witness.audit_events()] == [0, 1, 2, 3]


def test_line_that_is_still_being_written_is_left_out(logs: Path) -> None:
    """The server may be in the middle of a line."""
    (logs / "audit.log").write_text('{"n": 0}\n{"n": 1')
    assert [event["n"] for event in witness.audit_events()] == [0]


def test_log_that_turns_while_it_is_opened_is_read_once(logs: Path) -> None:
    """A second name of the current file adds nothing."""
    (logs / "audit.log").write_text('{"n": 0}\n')
    os.link(logs / "audit.log", logs / "audit-2026-11-25T05-46-28.123.log")
    assert [event["n"] for event in witness.audit_events()] == [0]
