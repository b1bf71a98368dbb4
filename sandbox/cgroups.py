"""Control groups of a sandbox: one subtree with a name of its own, in every hierarchy, so that `down` finds all that ran in it.

The daemons of a node join `/polyfleet-ID/NODE/daemons` before they start; shims inherit that group, and containers are put under
`/polyfleet-ID/NODE/pods` by the kubelet's cgroupRoot. Whatever is in the subtree is ours, whoever its parent became.
Version 1 (also hybrid): the runtime makes its groups in all hierarchies; one of them is enough to find the processes of daemons.
Version 2: controllers are switched on downwards, and processes sit in leaves only (hence `daemons` beside `pods`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.proc import Ticket, boot_id, parse_record, signal_ticket, wait_gone

_NEEDED_V2 = ("cpu", "memory", "pids")
_TRACKERS_V1 = ("name=systemd", "pids", "freezer", "devices", "memory")  # cpuset is no use: it takes processes only once it is filled in


@dataclass(frozen=True)
class Hierarchies:
    """Where cgroups are mounted: `roots` all of them; `tracker` the one that daemons join."""

    version: int
    roots: tuple[Path, ...]
    tracker: Path


def hierarchies(mountinfo: str | None = None) -> Hierarchies:
    """Read the machine's cgroup mounts."""
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    v1: dict[Path, set[str]] = {}
    v2: list[Path] = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        point, fields = Path(left.split(" ")[4]), right.split(" ")
        if fields[0] == "cgroup":
            v1[point] = set(fields[2].split(","))
        elif fields[0] == "cgroup2":
            v2.append(point)
    for name in _TRACKERS_V1:
        for point, options in sorted(v1.items()):
            if name in options:
                return Hierarchies(1, (*sorted(v1), *v2), point)
    if v2:
        return Hierarchies(2, (v2[0],), v2[0])
    raise SandboxError("no cgroup hierarchy is mounted under /sys/fs/cgroup")


class Subtree:
    """The control groups of one sandbox."""

    def __init__(self, name: str, found: Hierarchies) -> None:
        self.name, self._found = name, found

    def make_node(self, node: str) -> Path:
        """Make a node's groups; returns the cgroup.procs file that its daemons join."""
        if self._found.version == 2:
            self._enable(self._found.tracker)
        daemons = self._found.tracker / self.name / node / "daemons"
        daemons.mkdir(parents=True, exist_ok=True)
        for root in self._found.roots:  # the kubelet wants its root in every hierarchy
            pods = root / self.name / node / "pods"
            pods.mkdir(parents=True, exist_ok=True)
            if self._found.version == 2:
                for group in (pods.parent.parent, pods.parent, pods):
                    self._enable(group)
        return daemons / "cgroup.procs"

    def pods_root(self, node: str) -> str:
        """The kubelet's cgroupRoot."""
        return f"/{self.name}/{node}/pods"

    def tickets(self) -> list[Ticket]:
        """Every process in the subtree."""
        found, boot = {}, boot_id()
        for root in self._found.roots:
            for procs in sorted((root / self.name).rglob("cgroup.procs")) if (root / self.name).is_dir() else []:
                with contextlib.suppress(OSError):
                    for pid in procs.read_text().split():
                        stat = Path(f"/proc/{pid}/stat").read_text()
                        ticket = parse_record(f"process-{pid}", f"{boot} {stat}")
                        if ticket is not None and ticket.pid != os.getpid():
                            found[ticket.pid] = ticket
        return [found[pid] for pid in sorted(found)]

    def kill(self) -> None:
        """End every process in the subtree; containers may fork meanwhile, hence the rounds."""
        for _ in range(10):
            tickets = self.tickets()
            if not tickets:
                return
            for ticket in tickets:
                signal_ticket(ticket, signal.SIGKILL)
            wait_gone(tickets, 5)

    def remove(self) -> None:
        """Remove the subtree from every hierarchy."""
        for attempt in range(40):
            for root in self._found.roots:
                for folder, _, _ in os.walk(root / self.name, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
            if not self.exists():
                return
            time.sleep(0.01 * (1 + attempt))  # the kernel lets go of a group a moment after its last process, without an event
        left = next(root / self.name for root in self._found.roots if (root / self.name).is_dir())
        raise SandboxError(f"cannot remove the control group {left}: something is still in it. Try again: polyfleet-sandbox down")

    def exists(self) -> bool:
        """Is any of it left?"""
        return any((root / self.name).is_dir() for root in self._found.roots)

    def _enable(self, group: Path) -> None:
        control = group / "cgroup.subtree_control"
        on = set(control.read_text().split())
        for name in _NEEDED_V2:
            if name not in on:
                control.write_text(f"+{name}")
