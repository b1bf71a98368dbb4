"""`cost`: what the checker costs, on real engines with SmolLM2-135M: seconds of a certification and of an entry check against a stored
record, memory that it adds to the operator, and how late the operator's event loop runs meanwhile.

One engine runs at a time, the reference first; each check has a process of its own (bench.accuracy.checker). Records are kept under
.bench/accuracy. Seconds depend on who else computes on the machine, so each row says how many cores were busy with others meanwhile, and
how many seconds of CPU the engine and the checker took themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accuracy import checker
from bench.accuracy.engines import engine
from bench.accuracy.models import CACHE
from tools.paths import ROOT

Row = dict[str, Any]
NUMPY, LLAMA, BYTE = ("--backend=numpy", "--dtype=fp32"), ("--backend=llamacpp",), ("--backend=byte",)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Case:
    """A work of bench.accuracy.checker; `most_s` is the target. Whatever can score a prompt at once does, so Stepwise is measured on the
    engine that cannot, and on the smallest."""

    name: str
    work: str
    flags: tuple[str, ...]  # of the reference and of the candidate: of one fingerprint
    most_s: float | None = None


CERTIFY, ENTRY = "certification, level Quick", "entry check"
CASES: dict[str, Case] = {
    "byte": Case(f"{CERTIFY}, byte model, sandbox/policy.yaml", "sandbox", BYTE, 180.0),
    "byte-entry": Case(f"{ENTRY}, byte model, PromptLogprobs", "entry", BYTE, 30.0),
    "byte-stepwise": Case(f"{ENTRY}, byte model, Stepwise", "entry-stepwise", BYTE, 30.0),
    "smol": Case(f"{CERTIFY}, SmolLM2 in numpy, sandbox/policy.yaml", "sandbox", NUMPY, 180.0),
    "smol-entry": Case(f"{ENTRY}, SmolLM2 in numpy, PromptLogprobs", "entry", NUMPY, 30.0),
    "smol-stepwise": Case(f"{ENTRY}, SmolLM2 on llama.cpp, Stepwise", "entry-stepwise", LLAMA, 30.0),
    "smol-quick": Case(f"{CERTIFY}, SmolLM2 in numpy, 2 % bad prompts, six strata, 8 positions", "quick", NUMPY, 180.0),
    "smol-shipped": Case(f"{CERTIFY}, SmolLM2 in numpy, six strata, 48 positions, up to 64 in flight", "shipped", NUMPY),
}
MOST_MB, MOST_LATE_MS = 40.0, 100.0
TARGETS: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    (
        "certification at level Quick in 3 min, entry check in 30 s, on two idle cores",
        lambda row: row["most s"] is None or row["seconds"] <= row["most s"],
    ),
    ("the checker adds at most 40 MB to the operator", lambda row: row["adds MB"] <= MOST_MB),
    # what a tick is later than the process computed meanwhile, it waited for a core
    ("the process itself holds the event loop less than 100 ms", lambda row: row["of it own CPU ms, most"] < MOST_LATE_MS),
    ("the event loop is less than 100 ms late, whoever else computes", lambda row: row["loop late ms, most"] < MOST_LATE_MS),
)


def measure(only: list[str] | None = None) -> list[Row]:
    """A row of each case; `only` names cases. Raises EngineError where the weights are missing, RuntimeError where a check breaks."""
    return [_row(case) for key, case in CASES.items() if not only or key in only]


def _row(case: Case) -> Row:
    work = case.work
    record = CACHE / f"record-{work}-{case.flags[0].partition('=')[2]}-{checker.key_of(work)}"
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        partial = record.with_suffix(".part")
        with engine(*case.flags) as running:
            _checker("capture", work, running.url, partial)
        partial.rename(record)
    with engine(*case.flags) as running:
        begun, busy, own = time.monotonic(), _busy(), _spent(running.pid)
        found = _checker("check", work, running.url, record)
        own, busy, whole = _spent(running.pid) - own, _busy() - busy, time.monotonic() - begun
    others = max(0.0, busy - own - found["checker CPU s"]) / whole
    row = {
        "case": case.name,
        "most s": case.most_s,
        **{key: value for key, value in found.items() if key != "message"},
        "engine CPU s": round(own, 1),
        "cores busy with others": round(others, 1),
        "niceness": os.nice(0),
        "message": found["message"],
    }
    print(json.dumps(row), flush=True)
    return row


def _busy() -> float:
    """Seconds that all cores together were busy since the machine started."""
    user, nice, system, _idle, _wait, irq, soft, *_ = map(int, Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:])
    return (user + nice + system + irq + soft) / TICKS


def _spent(pid: int) -> float:
    """Seconds of CPU of a process and all its threads."""
    after = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(after[11]) + int(after[12])) / TICKS


def _checker(step: str, work: str, url: str, record: Path) -> Row:
    words = [sys.executable, "-m", "bench.accuracy.checker", step, work, url, str(record)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{step} {work}: {done.stderr[-2000:]}")
    found: Row = json.loads(done.stdout)
    return found
