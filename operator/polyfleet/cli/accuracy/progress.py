"""How far a run is: one line that is written over, on a terminal only. A log file gets no bar."""

from __future__ import annotations

from typing import TextIO

from accuracy.report import words
from accuracy.types import Decision
from polyfleet.cli.text import WIDTH, cut

_CELLS = 24


class Bar:
    """Writes to `err` if that is a terminal. `close` leaves the cursor on a line of its own."""

    def __init__(self, err: TextIO) -> None:
        self._err, self._open = err, False
        self._live = err.isatty()

    def show(self, done: int, total: int, text: str) -> None:
        if self._live:
            self._err.write("\r\x1b[K" + cut(f"{bar(done, total)} {done}/{total} {text}", WIDTH - 1))
            self._err.flush()
            self._open = True

    def close(self) -> None:
        if self._open:
            self._err.write("\n")
            self._open = False


def bar(done: int, total: int) -> str:
    full = _CELLS * min(done, total) // max(total, 1)
    return f"[{'█' * full}{'·' * (_CELLS - full)}]"


def evidence(decision: Decision) -> str:
    """What the run waits for: the test with the least evidence for Promote; nothing before there are tests."""
    open_ = [gate for gate in decision.gates if gate.decision == "Open"]
    if not open_:
        return ""
    slowest = min(open_, key=lambda gate: (gate.evidence_promote, gate.gate, gate.stratum, gate.statistic))
    ratio = "" if decision.noise_ratio is None else f"noise ratio {words.number(decision.noise_ratio)} · "
    passed = f"{len(decision.gates) - len(open_)} of {len(decision.gates)} tests pass"
    return f"{ratio}{passed} · slowest {slowest.gate} {slowest.stratum or slowest.statistic} {words.evidence(slowest.evidence_promote)}"
