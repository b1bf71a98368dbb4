"""Acceptance 1 of the accuracy design: the gate against every fault and every harmless variant of the byte model, in many seeded runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accuracy.decision import State, Tests, verdict
from accuracy.measure import divergence
from accuracy.policy import Policy
from accuracy.types import Condition, Mode, Position, Scores, Token, Verdict
from bench.accuracy import models
from bench.accuracy.observed import Observed, doubted, hard, observe, samples
from bench.accuracy.runs import Setup, draw, simulate
from sandbox.engine.faults import offline
from tests.unit.accuracy import byte_corpus
from tests.unit.accuracy.byte_corpus import POLICY, RUNS, gate, seen

DETECTED = {name: variant for name, variant in offline.BYTE_FAULTS.items() if name not in offline.BYTE_INSIDE}


def test_the_corpus_is_the_designs() -> None:
    assert (len(offline.BYTE_FAULTS), len(offline.BYTE_BENIGN)) == (24, 10)
    assert (len(offline.SMOL_FAULTS), len(offline.SMOL_BENIGN)) == (26, 8)


@pytest.mark.parametrize("name", DETECTED)
def test_no_fault_is_ever_promoted(name: str) -> None:
    assert simulate(gate(), seen(DETECTED[name]), runs=RUNS, seed=1).promote == 0


# Reported cases of the design's section 3 that are not among the variants of its tables, by their row
OTHER_ROWS = {
    3: "clamp-positions=32",
    5: "zero-kv=8",
    9: "double-reduce=1",
    10: "weight-scale=1.5:1",
    11: "kv-scale=2",
    12: "gemm-overflow=3e4:0",
    16: "rope-layout@tokens=64",  # wrong for one shape alone, which is that of all these windows
    18: "cut-logits=0.95",
    23: "reinterpret-logits",
}


@pytest.mark.parametrize("row", OTHER_ROWS)
def test_no_other_reported_case_is_ever_promoted(row: int) -> None:
    assert simulate(gate(), seen(OTHER_ROWS[row]), runs=RUNS, seed=1).block == 1


def test_a_cache_of_another_format_is_never_promoted() -> None:
    """Row 11 again: bytes of one eight-bit format read as those of the other."""
    assert simulate(gate(), seen("kv-reinterpret"), runs=RUNS, seed=1).block == 1


def test_a_fault_in_every_second_request_is_never_promoted() -> None:
    """Row 17: right and wrong by turns."""
    for fault in ("chunk-boundary=32", "neighbour-kv=8"):
        assert simulate(gate(), seen(fault), healthy=seen(models.HEALTHY), share=0.5, runs=RUNS, seed=4).promote == 0, fault


@pytest.mark.parametrize("name", offline.BYTE_BENIGN)
def test_every_harmless_variant_is_promoted(name: str) -> None:
    outcome = simulate(gate(), seen(offline.BYTE_BENIGN[name]), runs=RUNS, seed=1)
    assert outcome.promote >= 0.95
    assert outcome.median <= 260


def test_what_the_design_calls_inside_the_margin_is_promoted() -> None:
    for name in offline.BYTE_INSIDE:
        assert simulate(gate(), seen(offline.BYTE_FAULTS[name]), runs=RUNS, seed=1).block == 0


@pytest.mark.parametrize("share", [0.05, 0.02, 0.01, 0.005])
def test_nan_in_a_share_of_the_requests_is_found_as_often_as_it_is_met(share: float) -> None:
    # The first NaN blocks, and a clean run promotes after 259 prompts: nothing else decides.
    expected = (1 - share) ** 259
    outcome = simulate(gate(), seen("nan"), healthy=seen(models.HEALTHY), share=share, runs=400, seed=4)
    assert abs(outcome.promote - expected) <= 3 * math.sqrt(expected * (1 - expected) / 400) + 1 / 400
    assert outcome.promote + outcome.block == 1


def test_a_fault_in_a_tenth_of_the_requests_is_not_promoted() -> None:
    for fault in ("future-keys=1", "no-scale", "chunk-boundary=32", "stale=0.2", "rope-layout"):
        outcome = simulate(gate(), seen(fault), healthy=seen(models.HEALTHY), share=0.1, runs=RUNS, seed=4)
        assert outcome.promote == 0, fault


@pytest.mark.parametrize("top", [1, 20])
@pytest.mark.parametrize("strata", [1, 4])
def test_many_runs_at_once_decide_as_each_alone(top: int, strata: int) -> None:
    at = gate(top=top, strata=strata)
    for variant in (models.HEALTHY, "neighbour-kv=1", "stale=0.05", "logit-scale=1.1", "overflow=3e4:0", "hide-first=8"):
        outcome = simulate(at, seen(variant, top), runs=2, seed=11)
        order = draw(at, 2, 11)
        for run in range(2):
            found, prompts = _alone(at, seen(variant, top), order[run])
            many = Verdict.PROMOTE if outcome.promoted[run] else Verdict.BLOCK if outcome.blocked[run] else Verdict.INCONCLUSIVE
            assert (found, prompts) == (many, outcome.prompts[run]), (variant, run)


def _alone(at: Setup, candidate: Observed, order: np.ndarray) -> tuple[Verdict | None, int]:
    at_sight, again = hard(candidate, at.policy), doubted(candidate)
    codes = ["NonFinite" if a else "Sentinels" if b else "" for a, b in zip(at_sight, again, strict=True)]
    strata = [at.strata[i] for i in order]
    tests, state = at.tests, State.start(at.tests)
    for one in samples(order, candidate, at.noise, strata, hard_codes=codes):
        state = state.advance(tests, one)
        if (found := verdict(tests, state)) is not None:
            return found, state.prompts
    return verdict(tests, state, exhausted=True), state.prompts


@pytest.mark.parametrize(("variant", "top"), [("w8a8", 20), ("stale=0.2", 20), ("gelu", 5), ("vocab-cut=122", 20), ("rope-layout", 1)])
def test_the_numbers_are_those_of_the_checker(variant: str, top: int) -> None:
    windows = offline.byte_windows(byte_corpus.WINDOWS)[:6]
    columns = models.byte(6).columns(variant)  # the first draws of the same seed
    assert (offline.byte_windows(6) == windows).all()
    many = observe(columns, top=top)
    rows = [offline.byte_logits(each, windows) for each in ("", variant)]
    for at, window in enumerate(windows):
        reference, candidate = (_scores(side[at], window[offline.FIRST :], top) for side in rows)
        one = divergence(reference, candidate)
        assert one.d_sq == pytest.approx(many.sq[at], rel=1e-6, abs=1e-12)
        assert one.bias == pytest.approx(many.bias[at], rel=1e-6, abs=1e-9)
        assert one.max_kl == pytest.approx(many.worst[at], rel=5e-3, abs=1e-9)
        if many.kl is None:
            assert one.d_kl is None
            continue
        # Which of two equally likely tokens ends a list is nobody's to say.
        assert one.d_kl == pytest.approx(many.kl[at], rel=5e-3)
        assert (one.flip or 0.0) == pytest.approx(many.flip[at], rel=1e-6)
        assert one.overlap == pytest.approx(many.overlap[at], rel=1e-3)


def _scores(rows: np.ndarray, golden: np.ndarray, top: int) -> Scores:
    def position(index: int, row: np.ndarray, token: int) -> Position:
        order = np.argsort(-row, kind="stable")[:top] if top > 1 else []
        return Position(Token(token, "", float(row[token])), tuple(Token(int(i), "", float(row[i])) for i in order), index)

    scored = tuple(position(index, row, int(token)) for index, (row, token) in enumerate(zip(rows, golden, strict=True)))
    return Scores("item", Mode.PROMPT_LOGPROBS, Condition(), scored)


def test_the_policy_of_these_tests_differs_in_the_tail_alone() -> None:
    assert Tests.of(POLICY, {"all": 600}, {}, top_k=20).count == Tests.of(Policy(), {"all": 600}, {}, top_k=20).count
