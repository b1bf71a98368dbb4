"""What `polyfleet-sandbox up` and `down` promise, whatever happens in between: one cluster, and nothing left behind.

Each scenario has a state folder of its own, so neither a demo nor the other scenarios' cluster is touched. The kind of nodes comes from
POLYFLEET_E2E_NODES, as for the other scenarios.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandbox import cgroups, controlplane, netns, probe, state
from sandbox.proc import Processes
from tests.e2e.lib import ROOT, SANDBOX

pytestmark = pytest.mark.skipif(bool(os.environ.get("POLYFLEET_E2E_KUBECONFIG")), reason="a given cluster is not ours to start and end")

SECONDS = 300  # for one command; far above what any takes, so that only a hang is cut off


@pytest.fixture(autouse=True)
def _tidy() -> None:
    """The other scenarios' tidying needs their cluster; these need none."""


@pytest.fixture(scope="module")
def kind() -> str:
    return os.environ.get("POLYFLEET_E2E_NODES") or ("real" if probe.probe().real else "process")


@dataclass
class Sandbox:
    """The command, on one state folder."""

    state: Path
    kind: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        env = {**os.environ, "POLYFLEET_SANDBOX_STATE": str(self.state)}
        child = subprocess.Popen(
            [SANDBOX, *words], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.started.append(child)
        return child

    def start_up(self) -> subprocess.Popen[str]:
        return self.start("up", "--fleet", "tiny", "--nodes", self.kind)

    def run(self, *words: str) -> tuple[int, str]:
        """Exit status and all output."""
        child = self.start(*words)
        out, err = child.communicate(timeout=SECONDS)
        return child.returncode, out + err

    def up(self) -> str:
        status, told = self.run("up", "--fleet", "tiny", "--nodes", self.kind)
        assert status == 0, told
        return told

    def down(self) -> str:
        status, told = self.run("down")
        assert status == 0, told
        return told

    def end(self) -> None:
        """Whatever a failed scenario left: the command first, then its cluster."""
        for child in self.started:
            if child.poll() is None:
                child.kill()
            child.communicate()
        for handle in self.held:
            os.close(handle)
        if self.state.exists():
            self.down()

    def namespaces(self) -> set[int]:
        """The kernel's numbers of the namespaces that are pinned now. They are kept open, because the kernel gives a number out again."""
        pins = self.state / "run" / "ns"
        opened = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in pins.iterdir() if os.path.ismount(path)] if pins.is_dir() else []
        self.held += opened
        return {os.fstat(handle).st_ino for handle in opened}

    def marked(self) -> dict[int, int]:
        """Process → start time, for everything that carries this folder's mark."""
        return {ticket.pid: ticket.start for ticket in Processes(self.state).marked()}

    def nothing_runs(self, namespaces: set[int]) -> None:
        """No process, no mount (so no pin), nobody inside a namespace that was pinned, no control group."""
        assert self.marked() == {}
        assert netns.mounts_below(self.state) == []
        assert [place for place, number in _inhabited() if number in namespaces] == []
        assert not cgroups.Subtree(f"polyfleet-{state.short_id(self.state)}", cgroups.hierarchies()).exists()


def _inhabited() -> Iterator[tuple[str, int]]:
    for name in ("net", "mnt"):
        for path in Path("/proc").glob(f"[0-9]*/ns/{name}"):
            try:
                yield str(path), path.stat().st_ino
            except OSError:  # ended meanwhile
                continue


@pytest.fixture
def fresh(kind: str, tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "state", kind)
    yield sandbox
    sandbox.end()


def _until_first_process(child: subprocess.Popen[str], folder: Path) -> None:
    """Until the first process has written its record. The kernel tells the end of the command at once; a record is looked for between."""
    records = folder / "run" / "procs"
    handle = os.pidfd_open(child.pid)
    try:
        while not (records.is_dir() and any(path.stat().st_size for path in records.iterdir())):
            ended, _, _ = select.select([handle], [], [], 0.005)
            assert not ended, child.communicate()
    finally:
        os.close(handle)


def _until_line(child: subprocess.Popen[str], text: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if text in line:
            return
    raise AssertionError(f"`up` ended without the line {text!r}: {child.stderr.read() if child.stderr else ''}")


def _late(sandbox: Sandbox) -> str:
    """The last line before the one that says that nodes are Ready."""
    return "kubelets start" if sandbox.kind == "real" else "control plane is ready"


def _kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_up_killed_at_its_first_process_is_ended_by_down(fresh: Sandbox) -> None:
    """SIGKILL gives no chance to clean up: `down` finds everything by records, marks, places and prefixes."""
    child = fresh.start_up()
    _until_first_process(child, fresh.state)
    namespaces = fresh.namespaces()
    assert fresh.kind == "process" or namespaces
    _kill(child)
    fresh.down()
    fresh.nothing_runs(namespaces)
    assert not fresh.state.exists()


def test_up_killed_near_its_end_is_ended_by_down(fresh: Sandbox) -> None:
    """Then containers and agents are being started, by processes that are not the killed command."""
    child = fresh.start_up()
    _until_line(child, _late(fresh))
    namespaces = fresh.namespaces()
    _kill(child)
    assert fresh.marked()
    fresh.down()
    fresh.nothing_runs(namespaces)
    assert not fresh.state.exists()


def _ends_by_itself(sandbox: Sandbox, child: subprocess.Popen[str], number: signal.Signals) -> None:
    """After this signal the command ends with 130, without a traceback, and leaves its logs only."""
    namespaces = sandbox.namespaces()
    child.send_signal(number)
    out, err = child.communicate(timeout=SECONDS)
    assert child.returncode == 130, out + err
    assert "interrupted" in err
    assert "Traceback" not in err
    sandbox.nothing_runs(namespaces)
    assert {path.name for path in sandbox.state.iterdir()} <= {"lock", "logs"}


def test_end_from_outside_near_the_end_of_up_leaves_nothing(fresh: Sandbox) -> None:
    """SIGTERM takes the same way as Ctrl-C, also while several threads start and wait for processes."""
    child = fresh.start_up()
    _until_line(child, _late(fresh))
    _ends_by_itself(fresh, child, signal.SIGTERM)


def test_second_command_is_refused_and_interrupt_leaves_nothing(fresh: Sandbox) -> None:
    """While one `up` works, another one and a `down` are told who works; Ctrl-C ends it with 130 and only its logs stay."""
    child = fresh.start_up()
    _until_first_process(child, fresh.state)
    os.kill(child.pid, signal.SIGSTOP)  # it must not come to its end while the others are refused
    for words in (("up",), ("down",)):
        status, told = fresh.run(*words)
        assert status == 1
        assert f"`polyfleet-sandbox up` (process {child.pid}) is at work on {fresh.state}" in told
    os.kill(child.pid, signal.SIGCONT)
    _ends_by_itself(fresh, child, signal.SIGINT)


def _kube_system(sandbox: Sandbox) -> str:
    kubectl = [str(Path(SANDBOX).with_name("kubectl")), "--kubeconfig", str(sandbox.state / "kubeconfig")]
    return subprocess.run(
        [*kubectl, "get", "ns", "kube-system", "-o", "jsonpath={.metadata.uid}"], check=True, capture_output=True
    ).stdout.decode()


def test_up_goes_on_after_a_killed_up_and_twice_is_one_cluster(fresh: Sandbox) -> None:
    """Remains go first. A second `up` finds the cluster: same kube-system, same processes; other wishes are refused; `down` ends it all."""
    child = fresh.start_up()
    _until_first_process(child, fresh.state)
    _kill(child)
    assert "removing what an earlier command left behind" in fresh.up()
    uid, processes, namespaces = _kube_system(fresh), fresh.marked(), fresh.namespaces()
    assert uid
    recorded = json.loads((fresh.state / "cluster.json").read_text())["processes"]
    assert {each["pid"]: each["start"] for each in recorded.values()}.items() <= processes.items()
    assert "the cluster is up already" in fresh.up()
    assert _kube_system(fresh) == uid
    now = fresh.marked()
    assert {pid: now.get(pid) for pid in processes} == processes
    assert json.loads((fresh.state / "cluster.json").read_text())["processes"] == recorded
    status, refusal = fresh.run("up", "--fleet", "three-vendors")
    assert status == 1
    assert re.search(r"--fleet three-vendors: .* fleet tiny runs here\. End it first: polyfleet-sandbox down", refusal)
    fresh.down()
    fresh.nothing_runs(namespaces)
    assert not fresh.state.exists()
    assert "no cluster runs here" in fresh.down()


def test_ports_that_somebody_took_meanwhile_are_survived(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between choosing a free port and listening on it somebody else may take it: other ports are tried."""
    if kind == "real":
        pytest.skip("in a network namespace of its own nobody else takes a port, and the way in from outside asks the kernel for one")
    from sandbox import binaries

    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))  # held, but nobody answers there
        taken = int(somebody.getsockname()[1])
        free = controlplane.free_ports
        # the place in the list says whose port it is: the API server's in the first attempt, etcd's in the second
        answers = iter([[taken, *free(4)], [*free(1), taken, *free(3)], free(5)])
        monkeypatch.setattr(controlplane, "free_ports", lambda count: next(answers))
        plane = controlplane.ControlPlane(tmp_path / "state", binaries.ensure(print), parts=(controlplane.ETCD, controlplane.API_SERVER))
        try:
            plane.start()
            assert taken not in (plane.ports.api_server, plane.ports.etcd)
            assert plane.api().get("/readyz")[0] == 200
        finally:
            plane.stop()
