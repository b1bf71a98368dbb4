"""Linux namespaces: pinned by a file under the state folder, entered by path, removed by unmounting the pin.

The cluster has one network namespace; each real node has one mount namespace. A namespace lives as long as a process is in it
or its pin is mounted, so `down` can end one even when the command that made it is long gone. Network namespaces belong to a
*thread*, and a socket belongs for ever to the namespace in which it was created: a program on the host's side can therefore
make one socket inside and go on outside. That is all that the forwarder and the health checks need.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox.errors import SandboxError

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int, kind: int) -> None:
    if _libc.setns(descriptor, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextlib.contextmanager
def inside_network(pin: Path | None) -> Iterator[None]:
    """Put this thread into the pinned network namespace; None stays where it is."""
    if pin is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target, _CLONE_NEWNET)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home, _CLONE_NEWNET)
    finally:
        os.close(home)


def tcp_socket(pin: Path | None) -> socket.socket:
    """A TCP socket that belongs to the pinned namespace, whoever uses it."""
    with inside_network(pin):
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def run(argv: Sequence[str | Path], *, stdin: str | None = None, doing: str) -> str:
    """Run a short command; a failure becomes a sentence that says what was being done."""
    command = [str(word) for word in argv]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SandboxError(f"cannot {doing}: the program {command[0]} is not installed") from None
    if done.returncode != 0:
        raise SandboxError(f"cannot {doing}: {' '.join(command[:6])} … said: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def make_pin_folder(folder: Path) -> None:
    """A folder that can hold pins: a private mount, because the kernel refuses to pin a mount namespace where mounts spread."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not os.path.ismount(folder) and str(folder) not in mounts_below(folder):
        run(["mount", "--bind", folder, folder], doing="make the folder for namespaces")
        run(["mount", "--make-private", folder], doing="make the folder for namespaces private")


def make_network(pin: Path, script: str) -> None:
    """Make a network namespace and run a shell script in it."""
    pin.touch(mode=0o600)
    run(["unshare", f"--net={pin}", "sh", "-ec", script], doing="make the cluster's network namespace")


def make_mounts(pin: Path, script: str) -> None:
    """Make a mount namespace (nothing in it spreads to the host, nor back) and run a shell script in it."""
    pin.touch(mode=0o600)
    run(["unshare", f"--mount={pin}", "--propagation", "private", "sh", "-ec", script], doing=f"make the mount namespace {pin.name}")


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below a folder, in the order in which they were made."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # proc(5): field 5 is the mount point, blanks written as \040
        point = line.split(" ")[4].encode().decode("unicode_escape")
        if point == str(folder) or point.startswith(f"{folder}/"):
            found.append(point)
    return found


def unmount_below(folder: Path) -> None:
    """Unmount everything at or below a folder, newest first (pins included: that ends their namespaces)."""
    for _ in range(3):
        points = mounts_below(folder)
        if not points:
            return
        for point in reversed(points):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
    if left := mounts_below(folder):
        raise SandboxError(f"cannot unmount {left[0]}: try `umount -l {left[0]}`, then: polyfleet-sandbox down")
