"""After promotion: continuous monitoring in the restarted form, and re-checks with fresh evidence for Block.

Evidence that has been against Block for long would have to be won back first: after 2600 clean prompts a gross fault would need more
than 1000 to show. So a re-check starts anew, and monitoring never lets a capital begin a step below 1. The price: what is bounded is not
whether it is ever wrong but how often. At the boundary itself a threshold of L lets L prompts pass in the mean before a false alarm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from accuracy.decision import State, Tests, decide
from accuracy.evidence import Bets, Logs, block_bets, restarted
from accuracy.layout import SCORE_BOUNDARY
from accuracy.types import Decision, Reason, Verdict

THRESHOLD = 1e5
_SCORES = block_bets(SCORE_BOUNDARY)
_ZERO: Logs = _SCORES.start()


@dataclass(frozen=True, slots=True)
class Monitor:
    """Where the monitoring of one pair stands. `rate`: of bad prompts, what was certified. The mean score and the rate of bad prompts raise
    the alarm each by itself, at the same threshold."""

    prompts: int = 0
    rate: float = 0.02
    threshold: float = THRESHOLD
    scores: Logs = _ZERO
    violations: Logs = _ZERO
    alarm: str = ""  # what was found first; it stays

    def advance(self, score: float | None, violation: bool = False) -> Monitor:
        """One more prompt: its score in [0, 1] (`Tokens`; None or NaN = none was measured) and whether it is a bad one."""
        rate = self._rate
        scores = self.scores
        if score is not None and score == score:
            scores = restarted(scores, _SCORES.steps(min(1.0, max(0.0, score))))
        violations = restarted(self.violations, rate.steps(1.0 if violation else 0.0))
        alarm = self.alarm
        if not alarm and _SCORES.reaches(scores, self.threshold):
            alarm = f"the distance from the reference is beyond the margin since a while before prompt {self.prompts + 1}"
        if not alarm and rate.reaches(violations, self.threshold):
            alarm = f"bad prompts are more frequent than {100 * self.rate:.3g} % since a while before prompt {self.prompts + 1}"
        return replace(self, prompts=self.prompts + 1, scores=scores, violations=violations, alarm=alarm)

    @property
    def evidence(self) -> float:
        """The larger of the two, now."""
        return max(_SCORES.evidence(self.scores), self._rate.evidence(self.violations))

    @property
    def _rate(self) -> Bets:
        return block_bets(self.rate)


def decide_recheck(tests: Tests, state: State, *, exhausted: bool = False) -> Decision:
    """A scheduled check of a promoted pair, which began with `State.start`: Block, or nothing new. It never promotes: what was promoted
    stays so, and what was not is not promoted by fewer prompts."""
    found = decide(tests, state, exhausted=exhausted)
    if found.verdict is Verdict.BLOCK:
        return found
    if exhausted or found.verdict is Verdict.INCONCLUSIVE:
        message = f"{found.prompts} prompts were checked again, and nothing speaks against what was promoted"
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=Reason.INCONCLUSIVE, message=message)
    return replace(found, verdict=None, reason=Reason.RUNNING, message=f"{found.prompts} prompts were checked again")
