"""Where to look from outside at what runs in a sandbox: the process of a container, the devices that its node gave it, and the API
server's audit log.

For fault tests and benches: they kill or measure exactly the process that a pod's status names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from sandbox import state
from sandbox.errors import SandboxError


def audit_log() -> Path:
    """The audit log of the checkout's cluster: one JSON line for each request."""
    return state.state_dir() / "logs" / "audit.log"


def audit_events() -> Iterator[dict[str, Any]]:
    """Every request that the audit log holds, in order: first the files that the API server turned away when they were full
    (`audit-TIME.log`, the name sorts by time), then the current one. A last line that is still being written is left out."""
    current = audit_log()
    with contextlib.ExitStack() as stack:
        # The current file is opened first: when the log turns meanwhile it is among the older ones too, and is told by its inode.
        last = stack.enter_context(current.open())
        older = [stack.enter_context(path.open()) for path in sorted(current.parent.glob(f"{current.stem}-*{current.suffix}"))]
        for stream in (*(each for each in older if not _same_file(each, last)), last):
            for line in stream:
                if line.endswith("\n"):
                    yield json.loads(line)


def _same_file(one: TextIO, other: TextIO) -> bool:
    return os.path.sameopenfile(one.fileno(), other.fileno())


_ALLOCATED = re.compile(
    r"(?:(?P<stamp>[-0-9]+T[:.0-9]+Z) \w+ F )?(?P<local>[-0-9]+ [:0-9]+,[0-9]+) .*\ballocated \w+_VISIBLE_DEVICES=(?P<devices>\S+)"
)


@dataclass(frozen=True, order=True)
class Allocation:
    """One answer of a device plugin to the kubelet's Allocate."""

    at: datetime  # UTC
    node: str
    devices: tuple[str, ...]  # as the container's variable has them


def allocations() -> tuple[Allocation, ...]:
    """Every allocation that the plugins of this cluster's nodes wrote down, by time: the log of the plugin's container on a real node,
    the agent's own log on a process node."""
    folder = state.state_dir()
    plugins = folder.glob("nodes/*/log/pods/polyfleet-sandbox_device-plugin-*/device-plugin/*.log")
    found = [allocation for path in plugins for allocation in _allocated(path, path.relative_to(folder).parts[1])]
    for path in (folder / "logs").glob("processnode-*.log"):
        found += _allocated(path, path.stem.removeprefix("processnode-"))
    return tuple(sorted(found))


def _allocated(path: Path, node: str) -> Iterator[Allocation]:
    for line in path.read_text(errors="replace").splitlines():
        if said := _ALLOCATED.match(line):
            # A container's log has the runtime's stamp; an agent's own has this machine's time.
            at = datetime.fromisoformat(said["stamp"] or said["local"]).astimezone(UTC)
            yield Allocation(at, node, tuple(said["devices"].split(",")))


def devices_of(pod_uid: str, container_id: str) -> tuple[str, ...]:
    """The devices in a running container's own environment; () if it has none."""
    environment = Path(f"/proc/{container_pid(pod_uid, container_id)}/environ").read_bytes().split(b"\0")
    for item in environment:
        name, _, value = item.decode(errors="replace").partition("=")
        if name.endswith("_VISIBLE_DEVICES"):
            return tuple(value.split(","))
    return ()


def container_pid(pod_uid: str, container_id: str) -> int:
    """The first process of a running container, by the id in the pod's status (`containerd://…` or `process://…`)."""
    kind, _, name = container_id.partition("://")
    if kind == "process":
        return _process_pid(pod_uid, name)
    found = []
    for entry in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            inside = name in entry.read_text()
            words = (entry.parent / "stat").read_text().rpartition(")")[2].split() if inside else []
        except OSError:  # ended meanwhile
            continue
        if inside:
            found.append((int(words[19]), int(entry.parent.name)))  # the start time tells the first process
    if not found:
        raise SandboxError(f"no process runs in container {container_id}")
    return min(found)[1]


def _process_pid(pod_uid: str, name: str) -> int:
    container, _, attempt = name.removeprefix(f"{pod_uid}.").rpartition(".")
    for record in sorted((state.state_dir() / "nodes").glob(f"*/pods/*{pod_uid}*/containers/{container}/{attempt}/started.json")):
        return int(json.loads(record.read_text())["pid"])
    raise SandboxError(f"no record of process container {name} under {state.state_dir() / 'nodes'}")
