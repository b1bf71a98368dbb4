"""Where a sandbox keeps its things: `.sandbox/` of the checkout, so that two checkouts never meet, and a cache for what is built.

`cluster.json` says what runs; the processes themselves are recorded by `proc.py`, and mounts and cgroups are found by their place
and prefix, so a lost or half-written cluster.json never hides anything from `down`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxError

_MARK = "`polyfleet-sandbox "  # how the words in a lock begin: they make a folder a sandbox's


def checkout() -> Path:
    """The folder that holds pyproject.toml: the working folder or one above it, else the one this package lies in."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if (folder / "pyproject.toml").is_file():
            return folder
    return here


def state_dir() -> Path:
    """`.sandbox/` of the checkout; POLYFLEET_SANDBOX_STATE names another folder, for a second cluster beside it."""
    if given := os.environ.get("POLYFLEET_SANDBOX_STATE"):
        return Path(given).resolve()
    return checkout() / ".sandbox"


def cache_folder(kind: str) -> Path:
    """The cache for one kind of built things (bin, images, wheels)."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "polyfleet" / kind


def short_id(state: Path) -> str:
    """The checkout's own name for things that cannot live under its folder (cgroups)."""
    return hashlib.sha256(str(state).encode()).hexdigest()[:8]


@dataclass
class Cluster:
    """What `up` made. `ready` turns true with its last step, so anything else is a cluster that was never finished."""

    kind: str
    fleet: str
    why: str
    fleet_text: str
    api_port: int = 0
    ready: bool = False
    nodes: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    processes: dict[str, dict[str, Any]] = field(default_factory=dict)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file as a whole, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(path)


def save(state: Path, cluster: Cluster) -> None:
    """Write cluster.json."""
    write_atomically(state / "cluster.json", json.dumps(dataclasses.asdict(cluster), indent=1, sort_keys=True) + "\n")


def load(state: Path) -> Cluster | None:
    """Read cluster.json; None when there is none, or one that this version cannot read."""
    try:
        found = json.loads((state / "cluster.json").read_text())
        names = {each.name for each in dataclasses.fields(Cluster)}
        return Cluster(**{name: value for name, value in found.items() if name in names})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def require(state: Path) -> Cluster:
    """The running cluster, or an error with the command that makes one."""
    cluster = load(state)
    if cluster is None or not cluster.ready:
        raise SandboxError(f"no sandbox cluster runs in {state.parent}. Start one: polyfleet-sandbox up")
    return cluster


def _is_ours(state: Path) -> bool:
    """`down` removes the whole folder, so only a new or empty one becomes a sandbox's, or one whose lock carries our words."""
    if not state.exists():
        return True
    try:
        names = {each.name for each in state.iterdir()}
        text = (state / "lock").read_text(errors="replace") if "lock" in names else ""
    except OSError:  # not a folder, or a lock that is no file
        return False
    # A command that was killed between making its lock and writing into it leaves an empty lock alone in the folder.
    return not names or text.startswith(_MARK) or (names == {"lock"} and not text)


@contextlib.contextmanager
def exclusive(state: Path, doing: str) -> Iterator[None]:
    """Let one command at a time change the cluster of a checkout. The kernel frees the lock when its holder dies."""
    path = state / "lock"
    if not _is_ours(state):
        raise SandboxError(f"{state} holds files that are not a sandbox's. Name an empty or new folder in POLYFLEET_SANDBOX_STATE")
    while True:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another command"
            os.close(handle)
            raise SandboxError(
                f"{holder} is at work on {state}. Wait until it is done, or end that process, then run the command again"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                break
        os.close(handle)  # a `down` removed the folder between our open and our lock: this lock guards nothing
    try:
        words = f"{_MARK}{doing}` (process {os.getpid()})".encode()
        os.pwrite(handle, words, 0)  # written over, cut after that: at no moment does the file lack the mark
        os.ftruncate(handle, len(words))
        yield
    finally:
        os.close(handle)
