"""The gate Shadow looks at live traffic, which does not pass by here yet: naming it changes no test and no verdict, and is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accuracy.certify import Job
from accuracy.conclude import Seen, conclude
from accuracy.decision import State, Tests, decide
from accuracy.golden import digest
from accuracy.http.endpoint import Endpoint
from accuracy.policy import Policy
from accuracy.types import Condition, Decision, Gate, GoldenSet, Item, Mode, Reason, Sample, Verdict

PLAIN = Policy(strata=("Chat", "Code"))
NAMED = (
    replace(PLAIN, gates=(*PLAIN.gates, Gate.SHADOW)),
    replace(PLAIN, shadow_percent=1.0),
    replace(PLAIN, gates=(*PLAIN.gates, Gate.SHADOW), shadow_percent=100.0),
)
STRATA = {"Chat": 300, "Code": 300}


def prompt(index: int, distance: float) -> Sample:
    return Sample(
        index=index,
        item=f"item-{index}",
        stratum=("Chat", "Code")[index % 2],
        modality="Text",
        condition=Condition(),
        mode=Mode.PROMPT_LOGPROBS,
        d_kl=distance,
        d_sq=2 * distance,
        noise_kl=0.002,
        noise_sq=0.004,
        bias=0.0,
        max_kl=distance,
        flip=None,
        positions=8,
    )


@pytest.mark.parametrize("policy", NAMED)
@pytest.mark.parametrize(("distance", "verdict"), [(0.002, Verdict.PROMOTE), (0.02, Verdict.BLOCK)])
def test_naming_it_changes_no_test_and_no_verdict(policy: Policy, distance: float, verdict: Verdict) -> None:
    """At the reference's own noise 260 prompts promote; at ten times that they block, whether or not a policy wants live traffic too."""
    assert Gate.SHADOW not in PLAIN.gates
    found = []
    for each in (PLAIN, policy):
        tests = Tests.of(each, STRATA, {}, top_k=5)
        state = State.start(tests)
        for index in range(260):
            state = state.advance(tests, prompt(index, distance))
        found.append((tests.specs, decide(tests, state)))
    assert found[0] == found[1]
    assert found[0][1].verdict is verdict
    assert all(gate.gate is not Gate.SHADOW for gate in found[1][1].gates)


@pytest.mark.parametrize("policy", [PLAIN, *NAMED])
def test_a_report_says_that_it_was_not_covered(policy: Policy) -> None:
    items = (Item("one", "Chat", text="Once"), Item("two", "Code", text="def"))
    job = Job(policy, (GoldenSet("mine", digest(items), items),), (Endpoint("http://127.0.0.1:1"),))
    report = conclude(job, Seen(), Decision(Verdict.INCONCLUSIVE, Reason.PENDING, "", 0), "2026-11-29T00:00:00Z")
    told = [line for line in report.uncovered if line.startswith("gate Shadow: no live traffic")]
    assert len(told) == (policy is not PLAIN)
