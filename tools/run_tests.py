"""`make test`: every check and test in one order, each step timed, stopping at the first step that fails.

Order: static checks, unit and property tests, generated files, CRD rules and components on the real API server, then the same
end-to-end scenarios on real and on process nodes. Where the machine allows real nodes, leaving them out is a failure.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
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
    return Step(f"end to end on {nodes} nodes", [*PYTEST, "-p", "no:randomly", "tests/e2e"], {"POLYFLEET_E2E_NODES": nodes})


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
    """Seconds it took, or None when it failed."""
    print(f"\n=== {step.name}", flush=True)
    start = time.monotonic()
    done = foreground.run(step.command, cwd=ROOT, env={**os.environ, **step.env})
    return time.monotonic() - start if done.returncode == 0 else None


def plan(only: str | None, kubeconfig: str | None) -> list[Step]:
    if kubeconfig:
        return [external(kubeconfig)]
    ends = [e2e(kind) for kind in node_kinds()]
    if only == "e2e":
        return [BINARIES, *ends]
    return [*STATIC, UNIT, BINARIES, GENERATED, CONTROL, *ends]


def main() -> int:
    parser = argparse.ArgumentParser(prog="run_tests")
    parser.add_argument("--only", choices=["e2e"])
    parser.add_argument("--kubeconfig", help="run the end-to-end scenarios on this marked cluster")
    args = parser.parse_args()
    begin = time.monotonic()
    took: list[tuple[str, float]] = []
    for step in plan(args.only, args.kubeconfig):
        try:
            seconds = run(step)
        except KeyboardInterrupt:
            print(f"\nstopped during: {step.name}", file=sys.stderr)
            return 130
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
