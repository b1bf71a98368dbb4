"""The decision of the entry check: who may serve after how many prompts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from accuracy.entry import EntryDecision, EntryState, advance, decide_entry
from accuracy.policy import Policy
from accuracy.types import Condition, Mode, Sample

NOISE = 0.002
POLICY = Policy()


def sample(index: int, ratio: float, **changed: Any) -> Sample:
    values: dict[str, Any] = {"d_kl": ratio * NOISE, "d_sq": 2 * ratio * NOISE, "noise_kl": NOISE, "noise_sq": 2 * NOISE, "bias": 0.0}
    stratum = ("Chat", "Code")[index % 2]
    return Sample(index, f"i{index}", stratum, "Text", Condition(), Mode.STEPWISE, positions=8, **{**values, **changed})


def run(ratio: float, policy: Policy = POLICY, top_k: int = 5, **changed: Any) -> EntryDecision:
    state = EntryState.start(policy, dict.fromkeys(("Chat", "Code"), (NOISE, 2 * NOISE)), top_k=top_k)
    found = decide_entry(state, policy)
    while found.opens is None:
        state = advance(state, sample(state.prompts, ratio, **changed))
        found = decide_entry(state, policy)
    return found


@pytest.mark.parametrize(("ratio", "prompts", "evidence"), [(0.0, 32, 1.6756e6), (1.0, 32, 1790.9), (1.3, 32, 178.2), (1.5, 32, 36.733)])
def test_a_healthy_replica_opens_after_32_prompts(ratio: float, prompts: int, evidence: float) -> None:
    """By hand: the mean over lambda of (1 + lambda (1 - ratio/2)/1.4)^32."""
    found = run(ratio)
    assert (found.opens, found.prompts) == (True, prompts)
    assert found.evidence >= evidence * 0.99
    assert "as the record" in found.message


def test_one_that_is_nearly_too_far_is_asked_more() -> None:
    """By hand: (1.0643^n + 1.05^n + 1.0357^n + ...)/5 at 1.8 times the noise is 19.3 for n = 65 and 20.4 for 66."""
    found = run(1.8)
    assert found.opens is True
    assert found.prompts == 66
    assert 20 <= found.evidence < 22


def test_one_at_the_margin_stays_out_after_96() -> None:
    found = run(2.0)
    assert (found.opens, found.prompts) == (False, 96)
    assert found.message.startswith("not shown to be as the record after 96 prompts: 0.004 nats per token away, allowed 0.004")


def test_one_that_is_plainly_wrong_is_not_asked_to_the_end() -> None:
    found = run(20.0)
    assert found.opens is False
    # x = 1: (1.1^n + 1.3^n + 1.5^n + 1.7^n + 1.9^n)/5 passes 2/.05 at n = 7 (41 by hand: 1.95 + 6.3 + 17.1 + 41 + 89, a fifth is 31; 8: 55)
    assert found.prompts == 8
    assert found.message == "not as the record: 0.04 nats per token away, allowed 0.004 after 8 prompts"


@pytest.mark.parametrize("changed", [{"hard": "NonFinite"}, {"d_kl": 0.3}])
def test_a_hard_fault_keeps_out_at_once(changed: dict[str, Any]) -> None:
    found = run(1.0, **changed)
    assert (found.opens, found.prompts) == (False, 1)
    assert found.message.startswith("hard fault ")


@pytest.mark.parametrize(
    "changed", [{"d_kl": None}, {"d_sq": None}, {"d_kl": math.nan, "d_sq": math.nan}, {"intermittent": "ServerError"}, {"d_sq": math.inf}]
)
def test_what_is_unknown_does_not_open(changed: dict[str, Any]) -> None:
    assert run(1.0, **changed).opens is False


def test_without_alternatives_one_statistic_decides() -> None:
    assert run(1.0, top_k=1, d_kl=None).opens is True


def test_both_statistics_must_speak_for_it() -> None:
    assert run(0.7, d_sq=19 * NOISE).opens is False


def test_a_few_unknown_prompts_are_made_up_for() -> None:
    state = EntryState.start(POLICY, {}, top_k=1)
    for n in range(40):
        state = advance(state, sample(n, 0.3, d_sq=None if n in (3, 4) else 0.0003))
    found = decide_entry(state, POLICY)
    assert found.opens is True
    assert "2 prompts told nothing" in found.message
