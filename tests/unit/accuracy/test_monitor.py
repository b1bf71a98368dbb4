"""Monitoring after promotion, and re-checks."""

from __future__ import annotations

import numpy as np
import pytest

from accuracy.decision import State, Tests
from accuracy.evidence import block_bets, restarted_path
from accuracy.monitor import Monitor, decide_recheck
from accuracy.policy import Policy
from accuracy.types import Condition, Mode, Reason, Sample, Verdict


def test_a_gross_fault_after_many_clean_prompts_is_blocked_at_once() -> None:
    """Scores of .375 in the mean are a candidate as far from the reference as the reference from itself; then .8, more or less spread."""
    draw = np.random.default_rng(12)
    for spread in (lambda n: np.full(n, 0.8), lambda n: draw.beta(4, 1, n), lambda n: np.where(np.arange(n) % 2 == 0, 0.6, 1.0)):
        monitor = Monitor()
        for score in draw.beta(3, 5, 2600):
            monitor = monitor.advance(float(score))
        assert monitor.alarm == ""
        for score in spread(40):
            monitor = monitor.advance(float(score))
            if monitor.alarm:
                break
        assert "beyond the margin" in monitor.alarm
        assert 2600 < monitor.prompts <= 2640


def test_the_alarm_stays() -> None:
    monitor = Monitor(threshold=10.0)
    for _ in range(10):
        monitor = monitor.advance(1.0)
    first = monitor.alarm
    for _ in range(50):
        monitor = monitor.advance(0.0)
    assert first == monitor.alarm != ""
    assert monitor.evidence < 1


def test_bad_prompts_alarm_as_well() -> None:
    # each multiplies the capital by 1 + 49 lambda: 45.1 for the boldest bet, 5.9 for the shyest
    monitor = Monitor()
    for bad in range(1, 5):
        monitor = monitor.advance(0.2, violation=True)
        assert bool(monitor.alarm) == (bad == 4)
    # the mean of (1 + 49 lambda)^n: by hand 32,000 for n = 3, 1.2 million for 4
    assert "more frequent than 2 %" in monitor.alarm


def test_what_was_not_measured_is_no_evidence() -> None:
    monitor = Monitor()
    for score in (None, float("nan")):
        after = monitor.advance(score)
        assert (after.scores, after.prompts) == (monitor.scores, 1)


def test_false_alarms_are_rare_enough() -> None:
    """Scores of 0 or 1 with the boundary's mean: at threshold 80 the first alarm comes after 80 prompts at least in the mean, half of them
    after about 452 (the design's figure, simulated)."""
    draw = np.random.default_rng(3)
    xs = (draw.random((600, 2500)) < 0.5).astype(float)
    reached = restarted_path(block_bets(0.5), xs) >= 80.0
    first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 2500)
    assert first.mean() >= 80
    assert 380 <= np.median(first) <= 530
    clean = restarted_path(block_bets(0.5), draw.beta(3, 5, (40, 5000)))
    assert clean.max() < 80


def sample(index: int, far: float, **more: float | str) -> Sample:
    return Sample(index, f"i{index}", "Chat", "Text", Condition(), Mode.STEPWISE, far, 2 * far, 0.002, 0.004, 0.0, positions=8, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("far", [0.002, 0.04])
def test_a_recheck_blocks_or_says_nothing_new(far: float) -> None:
    tests = Tests.of(Policy(), {"Chat": 400}, {"Chat": (0.002, 0.004)}, top_k=5)
    state = State.start(tests)
    found = decide_recheck(tests, state)
    assert found.verdict is None
    for n in range(300):
        state = state.advance(tests, sample(n, far))
        found = decide_recheck(tests, state)
        if found.verdict is not None:
            break
    if far > 0.004:
        assert (found.verdict, found.reason) == (Verdict.BLOCK, Reason.NOT_EQUIVALENT)
        assert found.prompts < 14
    else:
        assert (found.verdict, found.reason) == (None, Reason.RUNNING)  # enough for Promote, which a re-check does not say
        over = decide_recheck(tests, state, exhausted=True)
        assert (over.verdict, over.reason) == (Verdict.INCONCLUSIVE, Reason.INCONCLUSIVE)
        assert over.message == "300 prompts were checked again, and nothing speaks against what was promoted"


def test_a_hard_fault_ends_a_recheck() -> None:
    tests = Tests.of(Policy(), {"Chat": 400}, {}, top_k=1)
    state = State.start(tests).advance(tests, sample(0, 0.0, hard="NonFinite"))
    assert decide_recheck(tests, state).reason is Reason.HARD_FAULT
