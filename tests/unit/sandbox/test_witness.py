"""Reading the audit log over the API server's own rotation of it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
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


def test_allocations_of_both_kinds_of_nodes_are_read_by_time(logs: Path) -> None:
    """The plugin's container log has the runtime's stamp, the agent's own log this machine's time; other lines are none."""
    plugin = logs.parent / "nodes/ppu-0/log/pods/polyfleet-sandbox_device-plugin-abcde_uid/device-plugin"
    plugin.mkdir(parents=True)
    (plugin / "0.log").write_text(
        "2026-11-28T09:05:55.100000001Z stdout F 2026-11-28 09:05:55,099 INFO withdrawn devices: none\n"
        "2026-11-28T09:05:56.585832722Z stdout F 2026-11-28 09:05:56,585 INFO allocated PPU_VISIBLE_DEVICES=0,1\n"
    )
    (logs / "processnode-h100-0.log").write_text("1970-01-01 12:00:00,250 INFO default/a: allocated NVIDIA_VISIBLE_DEVICES=GPU-h100-0-3\n")
    local, container = witness.allocations()
    assert (local.node, local.devices) == ("h100-0", ("GPU-h100-0-3",))
    assert local.at == datetime.fromisoformat("1970-01-01 12:00:00.250").astimezone()
    assert (container.node, container.devices) == ("ppu-0", ("0", "1"))
    assert container.at == datetime(2026, 11, 28, 9, 5, 56, 585832, tzinfo=UTC)
