"""`make test`: every check and test, each step timed; a step that fails lets those beside it end and lets none begin.

First what needs no cluster and little time: static checks, binaries, generated files. Then three lanes side by side, because clusters
mostly wait: the end-to-end scenarios on real nodes; the same on process nodes, then clusters of both kinds that only come and go; unit and
property tests, then CRD rules and components on the real API server, which take what the clusters leave of the machine. Where the machine
allows real nodes, leaving them out is a failure.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sandbox import foreground
from tools.paths import ROOT

BIN = Path(sys.executable).parent
PYTEST = [str(BIN / "pytest"), "-q"]
TELL_S = 60  # how often it is said how far the steps are that run side by side


@dataclass(frozen=True)
class Step:
    name: str
    command: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    nice: int = 0  # how much it gives way to the steps beside it

    def words(self) -> list[str]:
        return [*(["nice", "-n", str(self.nice)] if self.nice else []), *self.command]


Lane = Sequence[Step]  # one after another

UP_AND_DOWN = "tests/e2e/test_lifecycle.py"  # its scenarios need clusters of their own, and none beside them

MYPY = Step("mypy --strict", [str(BIN / "mypy")])
STATIC = (
    Step("ruff", [str(BIN / "ruff"), "check", "."]),
    Step("ruff format", [str(BIN / "ruff"), "format", "--check", "."]),
    Step("import contracts", [str(BIN / "lint-imports")]),
    Step("tracked files", [sys.executable, "tools/check_tree.py"]),
)
UNIT = Step("unit and property tests", [*PYTEST, "tests/unit"], nice=5)
BINARIES = Step("sandbox binaries (8 to 10 minutes the first time)", [sys.executable, "-m", "sandbox.binaries"])
GENERATED = Step("generated files", [sys.executable, "-m", "tools.gen", "--check"])
CONTROL = Step("on the real API server", [*PYTEST, "-p", "no:randomly", "tests/control"], nice=5)


def e2e(nodes: str) -> Step:
    return _e2e(f"end to end on {nodes} nodes", nodes, "tests/e2e", f"--ignore={UP_AND_DOWN}")


def up_and_down(nodes: str) -> Step:
    return _e2e(f"up and down of {nodes} nodes", nodes, UP_AND_DOWN)


def _e2e(name: str, nodes: str, *which: str) -> Step:
    own = {"POLYFLEET_E2E_NODES": nodes, "POLYFLEET_SANDBOX_STATE": str(ROOT / ".e2e" / nodes)}
    return Step(name, [*PYTEST, "-p", "no:randomly", *which], own)


def external(kubeconfig: str) -> Step:
    return Step(f"end to end on {kubeconfig}", [*PYTEST, "-p", "no:randomly", "tests/e2e"], {"POLYFLEET_E2E_KUBECONFIG": kubeconfig})


def node_kinds() -> list[str]:
    """Both kinds where real nodes are possible; else process alone, with the probe's reason printed."""
    from sandbox import probe

    verdict = probe.probe()
    if verdict.real:
        return ["real", "process"]
    print(f"real nodes are not possible here: {verdict.reason}", flush=True)
    return ["process"]


def run(step: Step) -> float | None:
    """Seconds it took, or None when it failed. Its output goes straight to the user."""
    print(f"\n=== {step.name}", flush=True)
    start = time.monotonic()
    done = foreground.run(step.words(), cwd=ROOT, env={**os.environ, **step.env})
    return time.monotonic() - start if done.returncode == 0 else None


@dataclass
class Running:
    """A step that was begun, and what is to follow it in its lane."""

    step: Step
    then: Lane
    child: subprocess.Popen[bytes]
    output: IO[bytes]
    handle: int  # pidfd
    began: float

    @classmethod
    def begin(cls, lane: Lane) -> Running:
        step, *then = lane
        print(f"=== begins: {step.name}", flush=True)
        output = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        child = subprocess.Popen(
            step.words(), cwd=ROOT, env={**os.environ, **step.env}, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
        return cls(step, then, child, output, os.pidfd_open(child.pid), time.monotonic())

    def tail(self) -> str:
        """The end of its last line, which says how far it is."""
        size = os.fstat(self.output.fileno()).st_size
        lines = os.pread(self.output.fileno(), 400, max(0, size - 400)).decode(errors="replace").split("\n")
        return next((line.strip()[-90:] for line in reversed(lines) if line.strip()), "no output yet")

    def end(self) -> float | None:
        """As `run`; its output is shown whole."""
        self.child.wait()
        os.close(self.handle)
        with self.output:
            self.output.seek(0)
            print(f"\n=== {self.step.name}\n{self.output.read().decode(errors='replace')}", flush=True)
        return time.monotonic() - self.began if self.child.returncode == 0 else None


def run_together(lanes: Sequence[Lane]) -> list[tuple[Step, float | None]]:
    """The steps that ended, in that order. After one that failed none begins, and those that run come to their end."""
    results: list[tuple[Step, float | None]] = []
    poll = select.poll()
    running: dict[int, Running] = {}

    def begin(lane: Lane) -> None:
        each = Running.begin(lane)
        running[each.handle] = each
        poll.register(each.handle, select.POLLIN)

    try:
        for lane in lanes:
            begin(lane)
        while running:
            ended = poll.poll(TELL_S * 1000)
            done = [running.pop(handle) for handle, _ in ended]
            for each in done:
                poll.unregister(each.handle)
                results.append((each.step, each.end()))
            for each in done:
                if each.then and all(seconds is not None for _, seconds in results):
                    begin(each.then)
            if not ended:
                for each in running.values():
                    print(f"[{(time.monotonic() - each.began) / 60:4.1f} min] {each.step.name}: {each.tail()}", flush=True)
    except KeyboardInterrupt:
        for each in running.values():
            if each.child.poll() is None:
                os.killpg(each.child.pid, signal.SIGINT)  # each takes its cluster down
        for each in running.values():
            each.child.wait()
        raise
    return results


def ends_of(kinds: Sequence[str]) -> list[Lane]:
    """A lane for each kind. The last one has fewer scenarios, so clusters that only come and go follow in it."""
    *others, last = kinds
    return [*([e2e(kind)] for kind in others), [e2e(last), *(up_and_down(kind) for kind in kinds)]]


def plan(only: str | None, kubeconfig: str | None) -> list[list[Lane]]:
    """Groups of lanes; the lanes of a group run together."""
    if kubeconfig:
        return [[[external(kubeconfig)]]]
    ends = ends_of(node_kinds())
    if only == "e2e":
        return [[[BINARIES]], ends]
    return [[[MYPY], STATIC, [BINARIES, GENERATED]], [*ends, [UNIT, CONTROL]]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="run_tests")
    parser.add_argument("--only", choices=["e2e"])
    parser.add_argument("--kubeconfig", help="run the end-to-end scenarios on this marked cluster")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # an end from outside is passed on, as Ctrl-C is
    # Some images switch bytecode off; every process of every test would compile our modules again, and pytest rewrite every assertion.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".venv" / "pycache")
    begin = time.monotonic()
    took: list[tuple[str, float]] = []
    for group in plan(args.only, args.kubeconfig):
        try:
            results = [(group[0][0], run(group[0][0]))] if len(group) == len(group[0]) == 1 else run_together(group)
        except KeyboardInterrupt:
            print(f"\nstopped during: {'; '.join(step.name for lane in group for step in lane)}", file=sys.stderr)
            return 130
        took += [(step.name, seconds) for step, seconds in results if seconds is not None]
        failed = [step for step, seconds in results if seconds is None]
        for step in failed:
            alone = " ".join([*(f"{k}={v}" for k, v in step.env.items()), *step.command])
            print(f"\nFAILED: {step.name}\nrepeat it alone: {alone}", file=sys.stderr)
        if failed:
            return 1
    print("\n" + "\n".join(f"{seconds:7.1f} s  {name}" for name, seconds in took))
    print(f"{time.monotonic() - begin:7.1f} s  all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
