"""The base of the images: a Debian 12 root with Python 3.11, a busybox shell and the C++ runtime, made by mmdebstrap without a container.

Any other base with `python3` 3.11 on its path does as well: the Dockerfiles only say `FROM ${BASE}`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from pathlib import Path

from sandbox.images import oci
from sandbox.images.tools import ENDS_WITH_US, Progress, run
from sandbox.state import cache_folder

SUITE = "bookworm"
PACKAGES = ("python3", "busybox", "libstdc++6", "libgomp1")
"""libstdc++ and OpenMP are what numpy's and llama.cpp's wheels expect of the machine."""
OPTIONS = (
    "--variant=extract",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--skip=output/dev,output/mknod",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
)
MIRROR = "POLYFLEET_DEBIAN_MIRROR"
_HOOK = Path(__file__).with_name("base-root.sh")


def key() -> str:
    """The content hash of the base. Package versions are Debian stable's of the day it is made."""
    content = "\0".join((SUITE, *PACKAGES, *OPTIONS, platform.machine(), _HOOK.read_text(encoding="utf-8")))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def ensure(progress: Progress) -> Path:
    """The base's OCI archive, made when the cache lacks it. The caller holds the builders' lock."""
    target = cache_folder("images") / key() / "base.tar"
    if target.is_file():
        return target
    progress("image base: unpacking Debian 12 with Python (half a minute, once)")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".base.", dir=target.parent) as folder:
        root, archive = Path(folder) / "root.tar", Path(folder) / "base.tar"
        mirror = [os.environ[MIRROR]] if os.environ.get(MIRROR) else []
        run(
            "image base",
            [
                *ENDS_WITH_US,
                "mmdebstrap",
                "--quiet",
                *OPTIONS,
                f"--include={','.join(PACKAGES)}",
                f"--extract-hook={_HOOK}",
                SUITE,
                root,
                *mirror,
            ],
            # As root it works below the archive's own folder, which the next build cleans up; else /tmp, where other users may look in.
            env={"SOURCE_DATE_EPOCH": str(oci.EPOCH), **({"TMPDIR": folder} if os.geteuid() == 0 else {})},
        )
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        oci.write_image(archive, f"localhost/polyfleet-base:{key()}", root, {"Env": [path, "LANG=C.UTF-8"], "Cmd": ["/bin/sh"]})
        archive.replace(target)
    return target
