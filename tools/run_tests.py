"""`make test`: every check and test in one order, each step timed, stopping at the first step that fails.

Order: static checks, generated files, then unit and property tests beside CRD rules and components on the real API server, then the
same end-to-end scenarios on real and on process nodes, side by side in clusters of their own. Where the machine allows real nodes,
leaving them out is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import foreground
from tools.paths import ROOT

BIN = Path(sys.executable).parent
PYTEST = [str(BIN / "pytest"), "-q"]


@dataclass(frozen=True)
class Step:
    name: str
    command: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)


STATIC = (
    Step("ruff", [str(BIN / "ruff"), "check", "."]),
    Step("ruff format", [str(BIN / "ruff"), "format", "--check", "."]),
    Step("mypy --strict", [str(BIN / "mypy")]),
    Step("import contracts", [str(BIN / "lint-imports")]),
    Step("tracked files", [sys.executable, "tools/check_tree.py"]),
)
UNIT = Step("unit and property tests", [*PYTEST, "tests/unit"])
BINARIES = Step("sandbox binaries (8 to 10 minutes the first time)", [sys.executable, "-m", "sandbox.binaries"])
GENERATED = Step("generated files", [sys.executable, "-m", "tools.gen", "--check"])
CONTROL = Step("on the real API server", [*PYTEST, "-p", "no:randomly", "tests/control"])


def e2e(nodes: str) -> Step:
    return Step(
        f"end to end on {nodes} nodes",
        [*PYTEST, "-p", "no:randomly", "tests/e2e"],
        {"POLYFLEET_E2E_NODES": nodes, "POLYFLEET_SANDBOX_STATE": str(ROOT / ".e2e" / nodes)},
    )


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
    done = foreground.run(step.command, cwd=ROOT, env={**os.environ, **step.env})
    return time.monotonic() - start if done.returncode == 0 else None


def run_together(steps: Sequence[Step]) -> list[float | None]:
    """Steps that mostly wait (for a cluster, for a process) share the machine; each one's output is shown whole when it ends."""
    print(f"\n=== together: {'; '.join(step.name for step in steps)}", flush=True)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in steps]
        children = [
            subprocess.Popen(step.command, cwd=ROOT, env={**os.environ, **step.env}, stdout=out, stderr=subprocess.STDOUT, process_group=0)
            for step, out in zip(steps, outputs, strict=True)
        ]
        took: dict[int, float | None] = {}
        try:
            while len(took) < len(children):
                ended = next(c for c in _in_order_of_end(children) if c.pid not in took)
                index = children.index(ended)
                took[ended.pid] = time.monotonic() - start if ended.returncode == 0 else None
                outputs[index].seek(0)
                print(f"\n=== {steps[index].name}\n{outputs[index].read().decode(errors='replace')}", flush=True)
        except KeyboardInterrupt:
            for child in children:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGINT)  # each takes its cluster down
            for child in children:
                child.wait()
            raise
        return [took[child.pid] for child in children]


def _in_order_of_end(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
    """The children as they end; waits on their pidfds."""
    waiting = {os.pidfd_open(child.pid): child for child in children if child.returncode is None}
    try:
        yield from (child for child in children if child.returncode is not None)
        poll = select.poll()
        for handle in waiting:
            poll.register(handle, select.POLLIN)
        while waiting:
            for handle, _ in poll.poll():
                poll.unregister(handle)
                child = waiting.pop(handle)
                os.close(handle)
                child.wait()
                yield child
    finally:
        for handle in waiting:
            os.close(handle)


def plan(only: str | None, kubeconfig: str | None) -> list[list[Step]]:
    """Groups of steps; the steps of a group run together."""
    if kubeconfig:
        return [[external(kubeconfig)]]
    ends = [e2e(kind) for kind in node_kinds()]
    if only == "e2e":
        return [[BINARIES], ends]
    return [*([step] for step in STATIC), [BINARIES], [GENERATED], [UNIT, CONTROL], ends]


def main() -> int:
    parser = argparse.ArgumentParser(prog="run_tests")
    parser.add_argument("--only", choices=["e2e"])
    parser.add_argument("--kubeconfig", help="run the end-to-end scenarios on this marked cluster")
    args = parser.parse_args()
    begin = time.monotonic()
    took: list[tuple[str, float]] = []
    for group in plan(args.only, args.kubeconfig):
        try:
            results = [run(group[0])] if len(group) == 1 else run_together(group)
        except KeyboardInterrupt:
            print(f"\nstopped during: {'; '.join(step.name for step in group)}", file=sys.stderr)
            return 130
        for step, seconds in zip(group, results, strict=True):
            if seconds is None:
                alone = " ".join([*(f"{k}={v}" for k, v in step.env.items()), *step.command])
                print(f"\nFAILED: {step.name}\nrepeat it alone: {alone}", file=sys.stderr)
                return 1
            took.append((step.name, seconds))
    print("\n" + "\n".join(f"{seconds:7.1f} s  {name}" for name, seconds in took))
    print(f"{time.monotonic() - begin:7.1f} s  all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
