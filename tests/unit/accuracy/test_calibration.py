"""How often a candidate exactly on the boundary is promoted, or blocked: never more often than was promised, at any stopping time.

Exact where the observations are 0 or 1 (the evidence then depends on how many of each there were), by seeded simulation elsewhere.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from accuracy.decision import State, Tests, verdict
from accuracy.evidence import Bets, block_bets, evidence_of, path, promote_bets, rate_bets, steps_of
from accuracy.policy import Policy
from accuracy.types import Condition, Mode, Sample, Verdict

PROMPTS = 1000
BOUNDARIES = (0.5, 0.625, 0.02, 0.005)


def bets_of(side: str, boundary: float) -> Bets:
    if side == "block":
        return block_bets(boundary)
    return promote_bets(boundary) if boundary >= 0.5 else rate_bets(boundary)


def ever(bets: Bets, mean: float, threshold: float, prompts: int = PROMPTS) -> float:
    """Probability that Bernoulli observations of this mean ever bring the evidence to the threshold: a recursion over how many were 1."""
    one, zero = steps_of(bets, np.array(1.0)), steps_of(bets, np.array(0.0))
    ones = np.arange(prompts + 1)
    alive = np.zeros(prompts + 1)
    alive[0] = 1.0
    reached = 0.0
    for n in range(1, prompts + 1):
        alive[1:] = alive[1:] * (1 - mean) + alive[:-1] * mean
        alive[0] *= 1 - mean
        now = evidence_of(bets, ones[: n + 1, None] * one + (n - ones[: n + 1, None]) * zero) >= threshold
        reached += float(alive[: n + 1][now].sum())
        alive[: n + 1][now] = 0.0
    return reached


def share(hits: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of runs, and three standard errors at most."""
    found = float(hits.mean())
    return found, 3 * float(np.sqrt(max(found * (1 - found), 0.25 / len(hits)) / len(hits)))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_promotion_of_bernoulli_observations_on_the_boundary_exactly(boundary: float) -> None:
    bets = bets_of("promote", boundary)
    assert ever(bets, boundary, 100.0) <= 0.0077  # the design's figures, which were simulated: below .01 ...
    assert ever(bets, boundary, 20.0) <= 0.047  # ... and .05
    assert ever(bets, min(0.99, boundary * 1.1), 100.0) <= 0.01  # beyond it even less


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_block_of_bernoulli_observations_on_the_boundary_exactly(boundary: float) -> None:
    assert ever(bets_of("block", boundary), boundary, 80.0) <= 0.0125


def test_the_recursion_against_all_paths() -> None:
    """Of 12 observations every one of the 4096 paths."""
    bets = promote_bets(0.5)
    paths = ((np.arange(4096)[:, None] >> np.arange(12)) & 1).astype(float)
    reached = (path(bets, paths) >= 5.0).any(axis=1)
    weights = 0.3 ** paths.sum(axis=1) * 0.7 ** (12 - paths.sum(axis=1))
    assert ever(bets, 0.3, 5.0, 12) == pytest.approx(float(weights[reached].sum()), abs=1e-12)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(("side", "threshold", "most"), [("promote", 100.0, 0.01), ("promote", 20.0, 0.05), ("block", 80.0, 0.0125)])
def test_beta_observations_on_the_boundary(boundary: float, side: str, threshold: float, most: float) -> None:
    draw = np.random.default_rng(20261128)
    xs = draw.beta(2 * boundary, 2 * (1 - boundary), size=(500, PROMPTS // 2))
    found, error = share((path(bets_of(side, boundary), xs) >= threshold).any(axis=1))
    assert found <= most + error


def test_a_pooled_rate_is_right_at_the_ends_of_rounds() -> None:
    """Nine clean strata and one with a rate of 20 %: 2 % in the mean, which is the boundary."""
    draw = np.random.default_rng(7)
    rates = np.array([0.2] + [0.0] * 9)
    order = np.argsort(draw.random((4000, 60, 10)), axis=2)
    xs = (draw.random((4000, 60, 10)) < rates[order]).astype(float)
    bets = rate_bets(0.02)
    logs = steps_of(bets, xs).sum(axis=2).cumsum(axis=1)
    found, error = share((evidence_of(bets, logs) >= 20.0).any(axis=1))
    assert found <= 0.05 + error
    block = block_bets(0.02)
    logs = steps_of(block, xs).sum(axis=2).cumsum(axis=1)
    found, error = share((evidence_of(block, logs) >= 80.0).any(axis=1))
    assert found <= 0.0125 + error


def decided(tests: Tests, draw: np.random.Generator, distances: NDArray[np.float64]) -> Verdict | None:
    state = State.start(tests)
    strata = [name for name, _ in tests.strata]
    for n, far in enumerate(distances):
        one = Sample(
            n, f"i{n}", strata[n % len(strata)], "Text", Condition(), Mode.STEPWISE, far, 2 * far, 0.002, 0.004,
            float(draw.normal(0, 0.001)), positions=8, consistent_kl=0.002, consistent_sq=0.004,
        )  # fmt: skip
        state = state.advance(tests, one)
        found = verdict(tests, state)
        if found is not None:
            return found
    return None


def test_whole_runs_on_the_boundary_and_clean_ones() -> None:
    """Two strata at level Quick, the distances of one of them at twice the noise in the mean."""
    policy = Policy(level="Quick", alpha=0.05, max_prompts=300)
    tests = Tests.of(policy, {"A": 150, "B": 150}, dict.fromkeys("AB", (0.002, 0.004)), top_k=5)
    draw = np.random.default_rng(11)
    worst = np.array([decided(tests, draw, np.tile([0.002, 0.004], 150) * _spread(draw, 300)) for _ in range(40)], dtype=object)
    found, error = share(worst == Verdict.PROMOTE)
    assert found <= 0.05 + error
    clean = [decided(tests, draw, 0.002 * _spread(draw, 300)) for _ in range(25)]
    assert clean.count(Verdict.PROMOTE) == 25


def _spread(draw: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Factors of mean 1, up to 2: symmetrical, so that clipping (at four times the noise) does not move the mean."""
    found: NDArray[np.float64] = 2 * draw.beta(2.0, 2.0, size=count)
    return found
