"""How far a run is: one line that is written over, on a terminal only. A log file gets no bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from accuracy.report import words
from accuracy.types import Decision
from polyfleet.cli.text import WIDTH, cut

_CELLS = 24


class Bar:
    """Writes to `err` if that is a terminal. `close` leaves the cursor on a line of its own. `clock` counts seconds."""

    def __init__(self, err: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._err, self._open, self._clock = err, False, clock
        self._live = err.isatty()
        self._first: tuple[float, int, int] | None = None  # when the present phase began, how far it was then, how far it goes

    def show(self, done: int, total: int, text: str) -> None:
        if self._live:
            parts = (bar(done, total), f"{done}/{total}", self._left(done, total), text)
            self._err.write("\r\x1b[K" + cut(" ".join(part for part in parts if part), WIDTH - 1))
            self._err.flush()
            self._open = True

    def _left(self, done: int, total: int) -> str:
        """The time that is left at most, at the pace so far; a run may end sooner."""
        now = self._clock()
        if self._first is None or done < self._first[1] or total != self._first[2]:
            self._first = now, done, total
        began, start, _ = self._first
        if done <= start or done >= total:
            return ""
        return f"≤ {words.seconds(float(round((now - began) * (total - done) / (done - start))))}"

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
    return f"{ratio}{passed} · slowest {slowest.gate} {words.where(slowest.stratum)} {words.evidence(slowest.evidence_promote)}"
