"""Third-party packages of an image, unpacked outside of it: a folder made by pip from hash-pinned wheels, kept in the cache.

The image's Python is Debian 12's 3.11 on glibc 2.36, whatever runs this; so pip is told which wheels fit instead of looking around.
The build itself then copies a folder and needs neither pip nor a network.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sandbox.images.tools import Progress, run
from sandbox.state import cache_folder

PYTHON = "3.11"
GLIBC_MINOR = 36

_UNUSED = (
    "bin",  # console scripts: nothing in an image calls one
    "numpy/**/tests",
    "numpy/f2py",
    "numpy/distutils",
    "**/*.pyi",
    "pulp/tests",
    "pulp/solverdir/cbc/osx",
    "pulp/solverdir/cbc/win",
    "pulp/solverdir/cbc/linux/i32",
)
_CBC = {"x86_64": "i64", "aarch64": "arm64"}
FORMAT = "1"
"""Part of the cache key: raise it when the way of unpacking changes."""


def machine() -> str:
    """This machine's architecture in the words of wheel platforms."""
    name = platform.machine().lower()
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(name, name)


def platforms(architecture: str) -> list[str]:
    """The wheel platforms that the image can run, best first."""
    legacy = {"x86_64": ["manylinux2014", "manylinux2010", "manylinux1"], "aarch64": ["manylinux2014"]}.get(architecture, [])
    return [f"manylinux_2_{minor}_{architecture}" for minor in range(GLIBC_MINOR, 4, -1)] + [f"{name}_{architecture}" for name in legacy]


def key(requirements: str) -> str:
    """The content hash of a package folder."""
    content = "\0".join((FORMAT, PYTHON, machine(), *_UNUSED, requirements))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def ensure(name: str, requirements: str, progress: Progress) -> Path:
    """The folder for these requirements (a part of the lock), made when the cache lacks it. The caller holds the builders' lock."""
    folder = cached_folder(cache_folder("wheels") / key(requirements), lambda fresh: _fill(name, requirements, fresh, progress))
    os.utime(folder)  # what is used counts as new when old folders are removed
    return folder


def remove_old(keep: int) -> None:
    """Keep the folders that were used last, and nothing of a run that was killed. The caller holds the builders' lock."""
    found = [path for path in cache_folder("wheels").glob("*") if path.is_dir() and not path.name.lstrip(".").startswith("weights")]
    whole = sorted((path for path in found if not path.name.startswith(".")), key=lambda path: path.stat().st_mtime)
    for path in [path for path in found if path.name.startswith(".")] + whole[: max(0, len(whole) - keep)]:
        shutil.rmtree(path, ignore_errors=True)


def cached_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """A cache folder that exists only when whole: filled beside its place and moved there."""
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            fill(fresh)
            fresh.chmod(0o755)
            try:
                fresh.rename(target)
            except OSError:
                if not target.is_dir():  # else somebody else made the same folder meanwhile
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return target


def pip_install(what: str, requirements: Path, target: Path, *options: str) -> None:
    """pip with hashes required and nothing resolved: what the file pins is what lands in the folder."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "--no-compile",
    ]
    # --target refuses to run under a user-wide or virtual environment's own install options, so those are switched off.
    run(what, [*command, *options, "--target", target, "-r", requirements], env={"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"})


def _fill(name: str, requirements: str, fresh: Path, progress: Progress) -> None:
    progress(f"image {name}: unpacking its Python packages")
    listing = fresh / "requirements.txt"
    listing.write_text(requirements, encoding="utf-8")
    fit = [f"--platform={tag}" for tag in platforms(machine())]
    pip_install(
        f"image {name}: its Python packages",
        listing,
        fresh,
        "--only-binary=:all:",
        f"--python-version={PYTHON}",
        "--implementation=cp",
        *fit,
    )
    for pattern in (*_UNUSED, *(f"pulp/solverdir/cbc/linux/{folder}" for arch, folder in _CBC.items() if arch != machine())):
        for path in sorted(fresh.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    for record in sorted(fresh.glob("*.dist-info/direct_url.json")):
        record.unlink()  # says where a wheel came from on this machine
