"""After promotion: continuous monitoring in the restarted form, and re-checks with fresh evidence for Block."""

from __future__ import annotations

from dataclasses import dataclass

from accuracy.decision import State, Tests
from accuracy.types import Decision


@dataclass(frozen=True, slots=True)
class Monitor:
    prompts: int = 0

    def advance(self, score: float | None, violation: bool = False) -> Monitor:
        raise NotImplementedError


def decide_recheck(tests: Tests, state: State, *, exhausted: bool = False) -> Decision:
    raise NotImplementedError
