"""What this machine allows: real nodes (containers) or only process nodes, and the reason in one line.

Nothing is guessed from versions: each thing that real nodes need is tried once, in namespaces that end with the trial.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

from sandbox.cgroups import Subtree, hierarchies
from sandbox.errors import SandboxError

# program → Debian package
_PROGRAMS = {
    "runc": "runc", "ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "unshare": "util-linux", "mount": "mount",
    "mmdebstrap": "mmdebstrap", "buildah": "buildah",
}  # fmt: skip

_TRIAL = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/a
mount --bind /mnt/a /mnt/a
ip link set lo up
ip link add name trial type bridge
ip link add name one type veth peer name two
nft add table ip trial
nft 'add chain ip trial nat { type nat hook output priority -100; }'
echo 1 > /proc/sys/net/ipv4/ip_forward
"""


@dataclass(frozen=True)
class Verdict:
    """May real nodes run here, and why (not)."""

    real: bool
    reason: str


def missing_packages() -> list[str]:
    """Debian packages that real nodes need and that are not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return sorted({package for program, package in _PROGRAMS.items() if shutil.which(program, path=path) is None})


def probe() -> Verdict:
    """Try what real nodes need."""
    if sys.platform != "linux":
        return Verdict(False, f"real nodes need Linux, this is {sys.platform}")
    if os.geteuid() != 0:
        return Verdict(False, f"real nodes need root, and this is user {os.geteuid()} (with sudo they may be possible)")
    if packages := missing_packages():
        return Verdict(False, f"real nodes need programs that are not installed; install them: apt-get install {' '.join(packages)}")
    trial = subprocess.run(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", _TRIAL], capture_output=True, text=True, check=False
    )
    if trial.returncode != 0:
        return Verdict(False, f"real nodes need network and mount namespaces, and this machine refuses them: {trial.stderr.strip()[-200:]}")
    try:
        group = Subtree(f"polyfleet-trial-{os.getpid()}", hierarchies())
        try:
            group.make_node("trial")
        finally:
            group.remove()
    except (OSError, SandboxError) as error:
        return Verdict(False, f"real nodes need control groups that can be written, and this machine refuses them: {error}")
    return Verdict(True, "this machine allows network and mount namespaces and control groups")
