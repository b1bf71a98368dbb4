"""From recipes to archives: what is in the cache under its content hash is used, the rest is built.

An image's hash covers everything that decides it: base, Dockerfile, packages, weights and this repository's sources. Archives are
written beside their place and renamed, so an interrupt leaves nothing half-done, and two builders never work at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from sandbox.binaries import build as binaries
from sandbox.errors import SandboxError
from sandbox.images import base, lock, oci, packages, weights
from sandbox.images.buildah import Buildah
from sandbox.images.recipes import PAUSE, ROOT, Recipe, recipes
from sandbox.images.tools import Clock, Progress, check_programs, check_space, exclusive, friendly, run
from sandbox.state import cache_folder

FORMAT = "1"
"""Part of every hash: raise it when the way of building changes."""
KEPT_VERSIONS = 3
"""How many archives of one image stay in the cache: two checkouts side by side, and the one before."""

_PAUSE_SOURCES = ROOT / "sandbox/binaries/pause"
_SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", "Dockerfile", "*.md", "*.proto", "*.pyi")


def ensure(progress: Progress, names: Collection[str] | None = None) -> dict[str, Path]:
    """Reference → OCI archive of every image (or of those named), built where the cache lacks them."""
    wanted = [recipe for recipe in recipes() if names is None or recipe.name in names]
    known = {recipe.name for recipe in recipes()} | {"pause"}
    if unknown := sorted(set(names or ()) - known):
        raise SandboxError(f"no image is called {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")
    found: dict[str, Path] = {}
    if names is None or "pause" in names:
        found[PAUSE] = _archive("pause", _pause_key())
    pinned = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    listings = {recipe.name: lock.subset(pinned, recipe.requires, recipe.without) for recipe in wanted}
    for recipe in wanted:
        found[recipe.reference] = _archive(recipe.name, _key(recipe, listings[recipe.name]))
    if not all(path.is_file() for path in found.values()):
        with friendly(cache_folder("images")), exclusive(cache_folder("images") / ".lock", progress):
            _build(wanted, listings, found, Clock(progress))
    for path in found.values():
        os.utime(path)  # what is used counts as new when old versions are removed
    return found


def _archive(name: str, key: str) -> Path:
    return cache_folder("images") / key / f"{name}.tar"


def _build(wanted: list[Recipe], listings: dict[str, str], found: dict[str, Path], progress: Progress) -> None:
    if PAUSE in found and not found[PAUSE].is_file():
        progress("image pause")
        _pause(found[PAUSE])
        _remove_old("pause", found[PAUSE])
    missing = [recipe for recipe in wanted if not found[recipe.reference].is_file()]
    if not missing:
        return
    check_programs()
    _remove_leftovers()
    check_space(cache_folder("images"), first=not (cache_folder("images") / "storage").is_dir())
    root, tag = base.ensure(progress), f"localhost/polyfleet-base:{base.key()}"
    storage = Buildah()
    storage.load(root, tag)
    for recipe in missing:
        target = found[recipe.reference]
        target.parent.mkdir(parents=True, exist_ok=True)
        unpacked = packages.ensure(recipe.name, listings[recipe.name], progress)
        progress(f"image {recipe.name}: building")
        with tempfile.TemporaryDirectory(prefix=f".{recipe.name}.", dir=target.parent) as folder:
            context = Path(folder) / "context"
            fill_context(recipe, unpacked, context, progress)
            built = storage.build(recipe.name, ROOT / recipe.dockerfile, context, {"BASE": tag})
        storage.export(recipe.name, built, target, recipe.reference)
        _remove_old(recipe.name, target)
        progress(f"image {recipe.name}: {target.stat().st_size / 1e6:.0f} MB")
    storage.prune()
    _remove_old("base", root)
    packages.remove_old(KEPT_VERSIONS * len(recipes()))


def with_engine(engine: str, progress: Progress) -> list[str]:
    """Build the same Dockerfiles with a container engine's own `build` (docker, podman), on its own base; returns the references."""
    clock = Clock(progress)
    pinned = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    with exclusive(cache_folder("images") / ".lock", progress):
        for recipe in recipes():
            unpacked = packages.ensure(recipe.name, lock.subset(pinned, recipe.requires, recipe.without), clock)
            clock(f"image {recipe.name}: building with {engine}")
            with tempfile.TemporaryDirectory(prefix=f".{recipe.name}.", dir=cache_folder("images")) as folder:
                context = Path(folder) / "context"
                fill_context(recipe, unpacked, context, clock)
                run(f"image {recipe.name}", [engine, "build", "--tag", recipe.reference, "--file", ROOT / recipe.dockerfile, context])
    return [recipe.reference for recipe in recipes()]


def fill_context(recipe: Recipe, unpacked: Path, context: Path, progress: Progress) -> None:
    """The build context that the Dockerfile's COPY lines name. Big files are linked, not copied."""
    shutil.copytree(unpacked, context / "packages", copy_function=_link, symlinks=True)
    for source, below in recipe.sources:
        origin, target = ROOT / source, context / "app" / below
        target.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, target, ignore=_SKIPPED, copy_function=shutil.copyfile, dirs_exist_ok=True)
        else:
            shutil.copyfile(origin, target)
    for path in (context / "app", *sorted((context / "app").rglob("*"))):
        # The layer must not depend on when or by whom the checkout was made.
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (oci.EPOCH, oci.EPOCH))
    if recipe.weights:
        (context / "weights").mkdir()
        _link(str(weights.ensure(progress)), str(context / "weights/model.gguf"))


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


def source_files(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """Every file of the repository that goes into an image, by its name inside `app/`, sorted."""
    for source, below in recipe.sources:
        origin = ROOT / source
        if origin.is_file():
            yield below, origin
            continue
        for folder, folders, files in os.walk(origin):
            ignored = _SKIPPED(folder, [*folders, *files])
            folders[:] = sorted(set(folders) - ignored)
            for name in sorted(set(files) - ignored):
                path = Path(folder) / name
                yield f"{below}/{path.relative_to(origin)}", path


def _key(recipe: Recipe, listing: str) -> str:
    parts = [FORMAT, recipe.reference, base.key(), packages.key(listing), weights.SHA256 if recipe.weights else ""]
    parts.append((ROOT / recipe.dockerfile).read_text(encoding="utf-8"))
    for name, path in source_files(recipe):
        parts += [name, oci.file_digest(path)]
    return _hash(parts)


def _pause_key() -> str:
    return _hash(
        [FORMAT, PAUSE, oci.architecture(), *((_PAUSE_SOURCES / name).read_text(encoding="utf-8") for name in ("go.mod", "main.go"))]
    )


def _hash(parts: Collection[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _pause(target: Path) -> None:
    """The pause image: one static program in an empty root."""
    go, _version = binaries.find_go()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pause.", dir=target.parent) as folder:
        program, archive = Path(folder) / "pause", Path(folder) / "pause.tar"
        command: list[str | Path] = [
            go,
            "-C",
            _PAUSE_SOURCES,
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags=-s -w",
            "-o",
            program,
            ".",
        ]
        run("image pause", command, env={"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"})
        layer = oci.layer_of({"pause": (program.read_bytes(), 0o755)})
        oci.write_image(archive, PAUSE, layer, {"Entrypoint": ["/pause"], "User": "65535:65535"})
        archive.replace(target)


def _remove_leftovers() -> None:
    """Work folders of a build that was killed: with the lock held, nobody else can be at work in one."""
    for path in cache_folder("images").glob("*/.*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _remove_old(name: str, newest: Path) -> None:
    """Keep the archives that were used last."""
    others = sorted(
        (path for path in cache_folder("images").glob(f"*/{name}.tar") if path != newest), key=lambda path: path.stat().st_mtime
    )
    for path in others[: max(0, len(others) - (KEPT_VERSIONS - 1))]:
        path.unlink(missing_ok=True)
        try:
            path.parent.rmdir()
        except OSError:
            pass  # something else lies there too
