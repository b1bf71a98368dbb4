"""buildah on a storage of its own: layers of earlier builds stay there, so that changed sources cost one layer and not the image.

`chroot` isolation needs no daemon and no runtime. The storage driver is overlay where the kernel allows it, else `vfs`, which copies the
whole tree for every step. Each call has a mount namespace of its own, so that a killed build leaves no mount behind.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.images import oci
from sandbox.images.tools import ENDS_WITH_US, run
from sandbox.state import cache_folder

_ENVIRONMENT = {"BUILDAH_ISOLATION": "chroot"}
# Nothing is pulled from anywhere, so there is no signature to look for; given explicitly, because the system's file is optional.
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


def _storage(driver: str) -> Path:
    home = cache_folder("images") / "storage" / driver
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home


def _command(driver: str, home: Path) -> list[str | Path]:
    return [
        *ENDS_WITH_US,
        "unshare",
        "--mount",
        "buildah",
        f"--storage-driver={driver}",
        "--root",
        home / "root",
        "--runroot",
        home / "run",
    ]


def _works(driver: str) -> bool:
    try:
        run(f"storage driver {driver}", [*_command(driver, _storage(driver)), "images", "--quiet"], env=_ENVIRONMENT)
    except SandboxError:
        return False
    return True


class Buildah:
    """One storage. The caller holds the builders' lock."""

    def __init__(self) -> None:
        self._driver = next((driver for driver in ("overlay", "vfs") if _works(driver)), "vfs")
        self._home = _storage(self._driver)
        # What it says about mounts was true in a namespace that is gone.
        shutil.rmtree(self._home / "run", ignore_errors=True)
        self._policy = self._home / "policy.json"
        self._policy.write_text(json.dumps(_POLICY), encoding="utf-8")
        self._call("left-over working containers", "rm", "--all")  # of a build that was killed

    def _call(self, what: str, command: str, *arguments: str | Path) -> str:
        signature = ("--signature-policy", self._policy) if command in ("build", "pull", "push") else ()
        return run(what, [*_command(self._driver, self._home), command, *signature, *arguments], env=_ENVIRONMENT)

    def load(self, archive: Path, tag: str) -> None:
        """Bring an OCI archive into the storage under a tag, unless the tag is there."""
        if tag in self._call("image base", "images", "--format", "{{.Name}}:{{.Tag}}").split():
            return
        identity = self._call("image base", "pull", "--quiet", f"oci-archive:{archive}").split()[-1]
        self._call("image base", "tag", identity, tag)

    def build(self, name: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> str:
        """Build a Dockerfile and return the tag of the result, which keeps the layers from being pruned."""
        tag = f"localhost/polyfleet-{name}:current"
        options = [f"--build-arg={key}={value}" for key, value in sorted(arguments.items())]
        timestamp = f"--timestamp={oci.EPOCH}"
        self._call(
            f"image {name}",
            "build",
            "--quiet",
            "--layers",
            "--pull=never",
            timestamp,
            *options,
            "--file",
            dockerfile,
            "--tag",
            tag,
            context,
        )
        return tag

    def export(self, name: str, tag: str, target: Path, reference: str) -> None:
        """Write an image as an OCI archive. Through a plain folder, the one destination for which buildah leaves layers uncompressed."""
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as folder:
            plain, archive = Path(folder) / "plain", Path(folder) / "archive.tar"
            self._call(f"image {name}", "push", "--quiet", "--disable-compression", "--format=oci", tag, f"dir:{plain}")
            oci.archive_plain(plain, archive, reference)
            archive.replace(target)

    def prune(self) -> None:
        """Forget layers that no current image uses."""
        self._call("old layers", "rmi", "--prune")
