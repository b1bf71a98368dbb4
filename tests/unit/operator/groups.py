"""Process groups as the kernel tells them: who is in one, and whether all of it ends."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path


def members(group: int) -> dict[int, str]:
    """Living processes of a group with their commands."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text() if entry.name.isdigit() else ""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields:
            command, _, rest = fields.partition("(")[2].rpartition(")")
            state, _parent, its_group = rest.split()[:3]
            if int(its_group) == group and state not in "ZX":
                found[int(entry.name)] = command
    return found


def gone(groups: list[int]) -> None:
    """Every process of these groups ends, and soon: each end is waited for, at most half a minute."""
    for group in groups:
        for pid in members(group):
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            ended, _, _ = select.select([handle], [], [], 30)
            os.close(handle)
            if not ended:
                os.kill(pid, signal.SIGKILL)
            assert ended, f"process {pid} outlives its solver"
