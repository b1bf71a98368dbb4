"""The images of real nodes, loaded once: a finished containerd store in the cache, from which every node's own store is linked.

Loading and unpacking the images takes some ten seconds per node on two cores. containerd never changes a stored blob or an unpacked
layer in place (a running container writes to a layer of its own), so nodes can share those files by hard links; only the small
databases are copied. A store's key is a hash of the archives' places (which are content hashes themselves) and the way of unpacking.
A new store starts from the last one, so that a changed image costs only itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox import netns, realnode
from sandbox.errors import SandboxError
from sandbox.fleet import Node
from sandbox.proc import Processes
from sandbox.state import cache_folder

_FORMAT = 1  # part of every key: raise it when the way of loading changes
_LOADER = "images"
_KEPT = 3  # the current store, the one before, and another checkout's; they share the files that they have in common
_IMMUTABLE = ("io.containerd.content.v1.content/blobs/", "/snapshots/")


def key(archives: dict[str, Path], snapshotter: str) -> str:
    """What decides a store's content."""
    return hashlib.sha256(json.dumps([_FORMAT, snapshotter, _stamps(archives)], sort_keys=True).encode()).hexdigest()[:16]


def _stamps(archives: dict[str, Path]) -> dict[str, list[object]]:
    return {reference: [str(path), path.stat().st_size] for reference, path in sorted(archives.items())}


def ensure(archives: dict[str, Path], snapshotter: str, processes: Processes, binaries: Path, progress: Callable[[str], None]) -> Path:
    """The store with these images; made when the cache lacks it."""
    base = cache_folder("images") / "stores"
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = base / key(archives, snapshotter)
    if not store.is_dir():
        with _one_loader(base, progress):
            if not store.is_dir():
                for left in sorted(base.glob(".new-*")):  # of a loader that was killed; the lock says that none runs
                    shutil.rmtree(left)
                _make(store, archives, snapshotter, processes, binaries, progress)
                _remove_old(base, store)
    os.utime(store)
    return store


def copy(store: Path, target: Path) -> None:
    """Give a node its own store: immutable files by link (by copy on another file system), databases by copy."""
    source = store / "containerd"
    target.parent.mkdir(parents=True, exist_ok=True)
    linked = _can_link(store, target.parent)
    netns.run(["cp", "--archive", *(["--link"] if linked else []), source, target], doing=f"copy the images to {target}")
    if not linked:
        return
    for folder, folders, files in os.walk(target):
        if any(part in f"{folder}/" for part in _IMMUTABLE):
            folders.clear()
            continue
        for name in files:
            path = Path(folder) / name
            own = path.with_name(f".{name}.own")
            shutil.copy2(path, own)
            own.replace(path)


def _can_link(store: Path, folder: Path) -> bool:
    """Try it: two places may be one file system and still refuse a link (two mounts of it)."""
    trial = folder / f".link-{os.getpid()}-{threading.get_ident()}"
    try:
        os.link(store / "description.json", trial)
    except OSError:
        return False
    trial.unlink()
    return True


@contextlib.contextmanager
def _one_loader(base: Path, progress: Callable[[str], None]) -> Iterator[None]:
    handle = os.open(base / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another cluster loads images; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _stores(base: Path) -> list[Path]:
    """All finished stores, the most recently used last."""
    found = [each for each in base.iterdir() if each.is_dir() and not each.name.startswith(".")]
    return sorted(found, key=lambda each: (each.stat().st_mtime, each.name))


def _remove_old(base: Path, current: Path) -> None:
    for store in [each for each in _stores(base) if each != current][: -(_KEPT - 1)]:
        doomed = base / f".new-removed-{store.name}"
        store.replace(doomed)
        shutil.rmtree(doomed)


def _last(base: Path, snapshotter: str) -> tuple[Path, dict[str, object]] | None:
    for store in reversed(_stores(base)):
        try:
            description = json.loads((store / "description.json").read_text())
        except (OSError, ValueError):
            continue
        if description["snapshotter"] == snapshotter and description["format"] == _FORMAT:
            return store, description["images"]
    return None


def _make(
    store: Path, archives: dict[str, Path], snapshotter: str, processes: Processes, binaries: Path, progress: Callable[[str], None]
) -> None:
    fresh = store.parent / f".new-{os.getpid()}"
    loader = realnode.RealNode(Node(_LOADER, {}), 0, fresh, realnode.network_pin(processes.state).with_name(f"mount-{_LOADER}"))
    stamps, known = _stamps(archives), dict[str, object]()
    realnode.make_folders(loader, snapshotter)
    if (last := _last(store.parent, snapshotter)) is not None:
        known = last[1]
        copy(last[0], fresh / "var-lib" / "containerd")
    stale = [reference for reference in sorted(known) if known[reference] != stamps.get(reference)]
    wanted = [reference for reference in sorted(stamps) if known.get(reference) != stamps[reference]]
    progress(f"loading {len(wanted)} of {len(stamps)} images (once, until they change)")
    netns.make_mounts(loader.pin, realnode.mount_script(loader, binaries))
    realnode.start_containerd(processes, loader, None)
    try:
        realnode.wait_containerd(processes, loader)
        if stale:
            realnode.ctr(processes.state, loader, "images", "rm", "--sync", *stale)
        for reference in wanted:
            realnode.import_image(processes.state, loader, archives[reference])
        missing = sorted(set(stamps) - set(realnode.ctr(processes.state, loader, "images", "ls", "--quiet").split()))
        if missing:
            raise SandboxError(f"the image archives do not hold what their names say: {', '.join(missing)} missing")
    finally:
        processes.stop([f"containerd-{_LOADER}"], grace_seconds=20)
        netns.unmount_below(loader.pin)
        loader.pin.unlink(missing_ok=True)
    description = {"format": _FORMAT, "snapshotter": snapshotter, "images": stamps}
    (fresh / "description.json").write_text(json.dumps(description, indent=1, sort_keys=True))
    (fresh / "var-lib" / "containerd").replace(fresh / "containerd")
    for name in ("var-lib", "config", "log", "run"):
        shutil.rmtree(fresh / name)
    fresh.replace(store)
