"""Keeps one container's process, as a runtime's shim does. A program of its own: standard library only, started with -I -S.

The agent must be able to die and come back without its pods noticing, yet no process may be left over and no exit code lost. So
each container has this small parent. It writes who runs (``shim.json``, ``started.json``) and how it ended (``exit.json``), copies
the output to the container's log in the CRI format (time, stream, tag, text), ends every descendant when the main process has ended,
as the end of a process namespace would, and takes the container with it if it is itself killed. When no agent has held the node's
lock for ten minutes, nobody will ever come back: it ends the container too.

usage: shim.py SPEC.json   with keys argv, env, cwd, lock, and the files log, shim, started, exit
"""

import ctypes
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
ORPHAN_SECONDS = 600.0
LOCK_LOOK_SECONDS = 30.0
LINE_BYTES = 16 * 1024  # the CRI log format cuts longer lines into parts
ROTATE_BYTES = 10 * 1024 * 1024  # the kubelet's default containerLogMaxSize


def stamp() -> str:
    """Now, with nanoseconds."""
    nanos = time.time_ns()
    return datetime.fromtimestamp(nanos // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{nanos % 1_000_000_000:09d}Z"


def write_json(path: str, data: dict[str, Any]) -> None:
    """Write a whole file or none."""
    partial = f"{path}.partial"
    Path(partial).write_text(json.dumps(data))
    os.replace(partial, path)


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: with the pid it names one process for as long as the machine is up."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


class Log:
    """The container's log file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file: IO[bytes] = open(path, "ab", buffering=0)  # noqa: SIM115 open as long as the process lives

    def write(self, stream: str, tag: str, line: bytes) -> None:
        """Append one line; the previous ten megabytes stay beside it."""
        if self.file.tell() > ROTATE_BYTES:
            self.file.close()
            os.replace(self.path, self.path + ".1")
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        self.file.write(b"%s %s %s %s\n" % (stamp().encode(), stream.encode(), tag.encode(), line))


class Copier:
    """Cuts one stream into log lines."""

    def __init__(self, log: Log, stream: str, fd: int) -> None:
        self.log, self.stream, self.fd, self.rest = log, stream, fd, b""

    def copy(self) -> bool:
        """Copy what is there; False at the end of the stream."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return True
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._write(line, "F")
        if len(self.rest) >= LINE_BYTES or (not data and self.rest):
            self._write(self.rest, "P" if data else "F")
            self.rest = b""
        return bool(data)

    def _write(self, line: bytes, last: str) -> None:
        parts = [line[at : at + LINE_BYTES] for at in range(0, len(line), LINE_BYTES)] or [b""]
        for part in parts[:-1]:
            self.log.write(self.stream, "P", part)
        self.log.write(self.stream, last, parts[-1])


def agent_is_there(lock: str) -> bool:
    """Whether an agent holds the node's lock."""
    try:
        fd = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def end_descendants() -> None:
    """Kill whatever is still below this process; orphans were handed to it because it is a subreaper."""
    while True:
        try:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        except OSError:
            children = []
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        try:
            os.waitpid(-1, 0 if children else os.WNOHANG)
        except ChildProcessError:
            return
        if not children:
            return


def main() -> int:
    """Run one container to its end."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the container is stopped; this process ends after it
    me = os.getpid()
    # Written here, before anything runs, so that there is never a process that nobody knows of, however suddenly the agent dies.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    write_json(spec["shim"], {"pid": me, "startTime": start_time(me), "boot": boot})

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != me:  # the parent died before the line above
            os._exit(137)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    try:
        child = subprocess.Popen(
            spec["argv"], env=spec["env"], cwd=spec["cwd"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=prepare, bufsize=0,
        )  # fmt: skip
    except OSError as error:
        # 128 is what the kubelet reports for a container that could not be started
        failure = f"{spec['argv'][0]}: {error.strerror}"
        write_json(spec["exit"], {"exitCode": 128, "signal": 0, "finishedAt": stamp(), "startError": failure})
        return 1
    write_json(spec["started"], {"pid": child.pid, "startTime": start_time(child.pid), "startedAt": stamp()})
    print("started", flush=True)
    os.close(1)
    watch(child, spec)
    code = child.returncode
    killed_by = -code if code < 0 else 0
    write_json(spec["exit"], {"exitCode": 128 + killed_by if killed_by else code, "signal": killed_by, "finishedAt": stamp()})
    return 0


def watch(child: "subprocess.Popen[bytes]", spec: dict[str, Any]) -> None:
    """Copy output until the main process has ended, then end the rest."""
    log = Log(spec["log"])
    selector = selectors.DefaultSelector()
    assert child.stdout is not None
    assert child.stderr is not None
    for stream, pipe in (("stdout", child.stdout), ("stderr", child.stderr)):
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ, Copier(log, stream, pipe.fileno()))
    handle = os.pidfd_open(child.pid)
    selector.register(handle, selectors.EVENT_READ, None)
    missing_since: float | None = None
    looked_at = time.monotonic()
    ended = False
    while not ended:
        for key, _ in selector.select(timeout=LOCK_LOOK_SECONDS):
            if key.data is None:
                ended = True
            elif not key.data.copy():
                selector.unregister(key.fileobj)
        if time.monotonic() - looked_at >= LOCK_LOOK_SECONDS:
            looked_at = time.monotonic()
            missing_since = None if agent_is_there(spec["lock"]) else missing_since or looked_at
            forgotten = not os.path.exists(spec["shim"])  # the pod's folder was removed: nobody knows of this run any more
            if forgotten or (missing_since is not None and looked_at - missing_since >= ORPHAN_SECONDS):
                child.kill()
    child.wait()
    end_descendants()  # with the last writer gone, both streams have an end
    for key in list(selector.get_map().values()):
        if key.data is not None:
            drain(key.data)


def drain(copier: Copier) -> None:
    """Copy what the main process had written before it ended."""
    while select_ready(copier.fd) and copier.copy():
        pass
    if copier.rest:
        copier.log.write(copier.stream, "F", copier.rest)


def select_ready(fd: int) -> bool:
    """Whether a read would not block."""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


if __name__ == "__main__":
    sys.exit(main())
