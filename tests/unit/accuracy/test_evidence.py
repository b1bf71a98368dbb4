"""Evidence: by hand, the tables of the design, and the form on arrays against the one on single numbers."""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy.evidence import (
    UNIT,
    Bets,
    Logs,
    added,
    block_bets,
    evidence_of,
    path,
    promote_bets,
    rate_bets,
    rate_bound,
    restarted,
    restarted_path,
    steps_of,
)


def after(bets: Bets, xs: list[float]) -> Logs:
    logs = bets.start()
    for x in xs:
        logs = added(logs, bets.steps(x))
    return logs


def prompts_until(bets: Bets, x: float, threshold: float, first: tuple[float, ...] = ()) -> int:
    logs = after(bets, list(first))
    for n in count(len(first) + 1):
        logs = added(logs, bets.steps(x))
        if bets.reaches(logs, threshold):
            return n
    raise AssertionError


def test_one_step_by_hand() -> None:
    # x = 1/4 at 1/2: 1 + lambda/2 for lambda .1 .3 .5 .7 .9, in the mean 1.25
    promote = promote_bets(0.5)
    assert promote.evidence(promote.steps(0.25)) == pytest.approx(1.25, abs=3e-6)
    # against it: 1 - lambda/2, in the mean .75
    block = block_bets(0.5)
    assert block.evidence(block.steps(0.25)) == pytest.approx(0.75, abs=3e-6)
    # a bad prompt at a rate of 2 %: 1 - lambda, so 1/3 * .5 + 2/3 * .05
    rate = rate_bets(0.02)
    assert rate.evidence(rate.steps(1.0)) == pytest.approx(0.2, abs=3e-6)
    # and against it 1 + lambda * 49, in the mean 25.5
    bad = block_bets(0.02)
    assert bad.evidence(bad.steps(1.0)) == pytest.approx(25.5, abs=1e-4)


def test_at_the_boundary_nothing_is_learnt() -> None:
    for bets in (promote_bets(0.625), block_bets(0.625)):
        assert bets.steps(0.625) == bets.start()


def test_rounding_is_down() -> None:
    for x in (0.0, 0.1, 0.3, 0.7, 1.0):
        for bets in (promote_bets(0.5), block_bets(0.5), rate_bets(0.02)):
            for bet, step in zip(bets.lambdas, bets.steps(x), strict=True):
                m = bets.boundary
                exact = math.log(1 - bet * (x - m) / (1 - m)) if bets.side == "promote" else math.log(1 + bet * (x - m) / m)
                assert exact * UNIT - 1 <= step <= exact * UNIT + 1e-6


@pytest.mark.parametrize(
    ("rate", "alpha", "wanted"),
    [
        (0.05, 0.01, (102, 163, 222, 276)),
        (0.02, 0.01, (259, 412, 561, 698)),
        (0.01, 0.01, (520, 828, 1126, 1401)),
        (0.005, 0.01, (1043, 1659, 2256, 2808)),
        (0.05, 0.05, (68, 128, 183, 230)),
        (0.02, 0.05, (172, 322, 461, 581)),
        (0.01, 0.05, (346, 646, 926, 1165)),
        (0.005, 0.05, (694, 1294, 1855, 2335)),
    ],
)
def test_prompts_to_promote_by_the_rate_of_bad_prompts(rate: float, alpha: float, wanted: tuple[int, ...]) -> None:
    """The design's table, with 0 to 3 bad prompts among them."""
    bets = rate_bets(rate)
    assert tuple(prompts_until(bets, 0.0, 1 / alpha, (1.0,) * bad) for bad in range(4)) == wanted


@pytest.mark.parametrize(("ratio", "wanted"), [(0.0, 12), (0.3, 14), (0.65, 17), (1.0, 22), (1.1, 24), (1.6, 49)])
def test_prompts_to_promote_by_the_distance(ratio: float, wanted: int) -> None:
    """Tokens alone, of a candidate that is at `ratio` times the noise at every prompt: x = 1/2 + (ratio - 2)/5.6, and the mean over lambda
    of (1 + lambda (1 - ratio/2)/1.4)^n reaches 100."""
    assert prompts_until(promote_bets(0.5), 0.5 + (ratio - 2) / 5.6, 100.0) == wanted


@pytest.mark.parametrize(("ratio", "wanted"), [(1.0, 1790.9), (1.3, 178.2), (1.6, 16.72), (1.8, 3.682)])
def test_evidence_after_the_prompts_of_an_entry_check(ratio: float, wanted: float) -> None:
    bets = promote_bets(0.5)
    assert bets.evidence(after(bets, [0.5 + (ratio - 2) / 5.6] * 32)) == pytest.approx(wanted, rel=0.01)


def test_a_stale_process_hides_a_fault_and_a_restarted_one_does_not() -> None:
    """Scores of .8 at the threshold of four tests, 80. By hand, (1.06^n + 1.18^n + 1.3^n + 1.42^n + 1.54^n)/5 is 56, 82 for n = 12, 13."""
    bets = block_bets(0.5)
    assert prompts_until(bets, 0.8, 80.0) == 13
    # The design's 164 and 1273 after clean prompts are medians of random scores, which have their own spread.
    assert 100 < prompts_until(bets, 0.8, 80.0, (0.375,) * 260) - 260 < 200
    assert 900 < prompts_until(bets, 0.8, 80.0, (0.375,) * 2600) - 2600 < 1500
    assert prompts_until(bets, 0.8, 1e5) == 31  # the threshold of continuous monitoring
    clean = restarted_path(bets, np.array([0.375] * 2600 + [0.8] * 40))
    assert int(np.argmax(clean >= 80.0)) + 1 - 2600 == 13
    assert int(np.argmax(clean >= 1e5)) + 1 - 2600 == 31


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.sampled_from(("promote", "block")), st.sampled_from((0.5, 0.625, 0.02)))
def test_arrays_and_single_numbers_agree(xs: list[float], side: str, boundary: float) -> None:
    bets = {"promote": promote_bets, "block": block_bets}[side](boundary)
    along = path(bets, np.array(xs))
    again = restarted_path(bets, np.array(xs))
    logs, new = bets.start(), bets.start()
    for at, x in enumerate(xs):
        logs, new = added(logs, bets.steps(x)), restarted(new, bets.steps(x))
        # the two logarithms may differ in their last bit, and so by one unit a step after rounding down
        assert along[at] == pytest.approx(bets.evidence(logs), rel=2e-6 * (at + 1), abs=1e-12)
        assert again[at] == pytest.approx(bets.evidence(new), rel=2e-6 * (at + 1), abs=1e-12)


@given(st.lists(st.floats(0, 1), max_size=60))
def test_order_does_not_matter(xs: list[float]) -> None:
    bets = promote_bets(0.5)
    mixed = sorted(xs)
    assert after(bets, xs) == after(bets, mixed)


@given(st.lists(st.floats(0, 1), max_size=60))
def test_the_quick_answer_is_the_long_one(xs: list[float]) -> None:
    bets = block_bets(0.5)
    logs = after(bets, xs)
    for threshold in (0.5, 1.0, 2.0, 80.0):
        assert bets.reaches(logs, threshold) == (bets.evidence(logs) >= threshold)


def test_no_number_overflows() -> None:
    bets = block_bets(0.02)
    logs = tuple(1000 * step for step in bets.steps(1.0))
    assert bets.evidence(logs) == math.inf
    assert evidence_of(bets, 1000 * steps_of(bets, np.array(1.0))) == math.inf
    promote = rate_bets(0.02)
    assert promote.evidence(tuple(10_000 * step for step in promote.steps(1.0))) == 0.0


def test_the_rate_that_is_certified() -> None:
    # 259 clean prompts are the fewest that certify 2 % at 99 %, 412 with a bad one
    assert rate_bound(259, 0, 0.99) <= 0.02 < rate_bound(258, 0, 0.99)
    assert rate_bound(412, 1, 0.99) <= 0.02 < rate_bound(411, 1, 0.99)
    assert rate_bound(0, 0, 0.99) == 1.0
    assert rate_bound(5, 5, 0.99) == 1.0
    assert rate_bound(100_000, 0, 0.99) < 1e-4


@given(st.integers(1, 2000), st.integers(0, 20))
def test_the_certified_rate_falls_with_clean_prompts_and_rises_with_bad_ones(prompts: int, bad: int) -> None:
    bad = min(bad, prompts)
    assert rate_bound(prompts + 1, bad, 0.99) <= rate_bound(prompts, bad, 0.99)
    assert rate_bound(prompts + 1, bad + 1, 0.99) >= rate_bound(prompts, bad, 0.99)
