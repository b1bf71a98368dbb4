"""The rules of the decision have a number: what was judged by others neither goes on nor is confirmed."""

from __future__ import annotations

import json

import pytest

from accuracy import evidence, layout
from accuracy.decision import OtherRulesError, State
from tests.unit.accuracy.test_decision import laid_out, run, sample

# What decides, by the number of the rules. Whoever changes one of these gives the rules another number, or a stored run goes on by
# others than it began with and an old report is judged by rules that it never saw.
RULES_OF = {2: (1.4, 0.5, 0.625, (0.1, 0.3, 0.5, 0.7, 0.9), (0.2,) * 5, (0.5, 0.95), (1 / 3, 2 / 3))}


def test_the_rules_have_a_number() -> None:
    told = (layout.WIDTH, layout.SCORE_BOUNDARY, layout.BIAS_BOUNDARY, evidence.LAMBDAS, evidence.EQUAL)
    assert (*told, evidence.RATE_LAMBDAS, evidence.RATE_WEIGHTS) == RULES_OF[layout.RULES]


def test_a_state_that_was_judged_by_other_rules() -> None:
    tests = laid_out()
    samples = [sample(n) for n in range(10)]
    _, state = run(tests, samples)
    raw = json.loads(state.to_json())
    for other in ({**raw, "rules": 1}, {key: value for key, value in raw.items() if key != "rules"}):
        with pytest.raises(OtherRulesError, match="rules of another version"):
            State.from_json(tests, json.dumps(other))
    assert State.again(tests, samples) == state
