"""Suspects: each pattern of the design's table is named, and a clean run accuses nobody."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import comb
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.policy import Policy
from accuracy.suspects import MOST, Trace, fisher, is_far, suspects, violates
from accuracy.types import HIT, Sample
from tests.unit.accuracy.reports import NOISE, POLICY, crossed, sample


def codes(samples: tuple[Sample, ...], **more: Any) -> list[str]:
    return [suspect.code for suspect in suspects(samples, POLICY, **more)]


@given(st.integers(0, 5), st.integers(1, 5), st.integers(0, 5), st.integers(1, 5))
def test_fisher_is_the_share_of_all_draws(bad_a: int, all_a: int, bad_b: int, all_b: int) -> None:
    """By counting every way to draw the first group from all prompts."""
    bad_a, bad_b = min(bad_a, all_a), min(bad_b, all_b)
    marks = [1] * (bad_a + bad_b) + [0] * (all_a + all_b - bad_a - bad_b)
    ways = sum(sum(draw) >= bad_a for draw in combinations(marks, all_a))
    assert fisher(bad_a, all_a, bad_b, all_b) == pytest.approx(ways / comb(len(marks), all_a))


def test_fishers_tea() -> None:
    """His own example: four of four cups right by chance 1 in 70, three or more 17 in 70."""
    assert fisher(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert fisher(3, 4, 1, 4) == pytest.approx(17 / 70)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"prefix_cache": HIT}, "PrefixCache"),
        ({"concurrency": (8, 64)}, "Batching"),
        ({"replica": "b"}, "Replica"),
        ({"stratum": "LongContext"}, "LongContext"),
        ({"stratum": "Tools"}, "Template"),
    ],
)
def test_a_fault_under_one_condition_is_named_alone(fault: dict[str, Any], code: str) -> None:
    assert codes(crossed(120, **fault)) == [code]


def test_far_from_itself_alone() -> None:
    """Right when scored at once, wrong when decoded: what is cached, or the path that decodes. Far from both is another case."""
    clean = tuple(replace(s, d_kl=NOISE, consistent_kl=NOISE) for s in crossed(60))
    assert codes(clean) == []
    assert codes(tuple(replace(s, consistent_kl=40 * NOISE) for s in clean)) == ["KVCache"]
    assert codes(tuple(replace(s, consistent_kl=40 * NOISE, d_kl=40 * NOISE) for s in clean)) == ["Weights"]


def test_two_faults_are_two_suspects() -> None:
    """One replica bad, and in another stratum's prompts everywhere."""
    mixed = tuple(
        b if b.d_kl and b.d_kl > 0.02 else a for a, b in zip(crossed(200, replica="a"), crossed(200, stratum="Code"), strict=True)
    )
    assert sorted(codes(mixed)) == ["Replica", "Stratum"]


def test_a_replica_is_named_with_its_node() -> None:
    found = suspects(crossed(120, replica="b"), POLICY, replicas={"b": "a3-02"})
    assert "on replica b on node a3-02" in found[0].evidence
    assert found[0].weight == 1.0


def test_bad_everywhere_is_weights() -> None:
    everywhere = tuple(replace(row, d_kl=20 * NOISE, d_sq=40 * NOISE) for row in crossed(40))
    assert codes(everywhere) == ["Weights"]
    assert suspects(everywhere, POLICY)[0].weight == 1.0


def test_few_prompts_accuse_no_condition() -> None:
    """A run that ends after four prompts cannot tell one condition from another."""
    assert codes(crossed(4, prefix_cache=HIT)) in ([], ["Weights"])


def test_numbers_that_are_none() -> None:
    rows = (*crossed(20), sample(20, hard="NonFinite", d_kl=None, d_sq=None, bias=None))
    assert codes(rows)[0] == "Overflow"


def test_what_does_not_repeat() -> None:
    rows = (*crossed(40), sample(40, intermittent="ServerError"), sample(41, intermittent="EmptyReply"))
    found = suspects(rows, POLICY)
    assert [suspect.code for suspect in found] == ["Intermittent"]
    assert "2 of 42 prompts" in found[0].evidence


def test_sentinels_are_lost_logits() -> None:
    assert "Logits" in codes((sample(0, hard="Sentinels"),))


def test_a_shift_without_flips_is_temperature() -> None:
    """Logit scale 1.1 in the design's table: top-1 the same in 100 %, a bias in every prompt."""
    scaled = tuple(replace(row, bias=0.06 + (row.bias or 0), d_kl=10 * NOISE, d_sq=20 * NOISE) for row in crossed(40))
    assert codes(scaled) == ["Temperature"]
    flipping = tuple(replace(row, flip=0.4) for row in scaled)
    assert codes(flipping) == ["Weights"]


def test_a_shift_is_no_suspect_where_it_is_noise() -> None:
    rows = tuple(replace(row, bias=0.5 * (-1) ** index) for index, row in enumerate(crossed(40)))
    assert codes(rows) == []


@pytest.mark.parametrize(
    ("differences", "code", "said"),
    [
        ((1,) * 5, "Template", "+1 prompt tokens at each of 5 prompts: a token of the tokenizer's own, such as BOS"),
        ((-5,) * 3, "Template", "-5 prompt tokens at each of 3 prompts: another chat template"),
        ((0, 2, -1, 0), "Tokenizer", "differ at 2 of 4 prompts, by -1 to +2"),
    ],
)
def test_prompt_tokens(differences: tuple[int, ...], code: str, said: str) -> None:
    found = suspects((), POLICY, token_differences=differences)
    assert found[0].code == code
    assert said in found[0].evidence


def test_a_contract_that_does_not_hold_is_told_as_it_is() -> None:
    assert suspects((), POLICY, contract="token 3 of the prompt is 7, not 9", token_differences=(0, 0))[0].evidence.startswith("token 3")
    assert suspects((), POLICY, token_differences=(0, 0)) == ()


def test_answers_that_do_not_end() -> None:
    """20 of 40 against 2 of 40 is no chance; 3 against 2 is."""
    assert codes((), long_ends=(20, 2, 40)) == ["EndOfText"]
    assert codes((), long_ends=(3, 2, 40)) == []
    assert codes((), long_ends=(2, 20, 40)) == []


def trace(start: int, edge: int, length: int = 40) -> Trace:
    return Trace("x", tuple((place, 5.0 if place >= edge else 0.001) for place in range(start, start + length)))


def test_wrong_from_one_edge_on() -> None:
    """Prompts of different lengths that are clean up to token 4096; and up to 128."""
    rows = tuple(replace(row, d_kl=20 * NOISE) for row in crossed(8))
    assert "LongContext" in codes(rows, traces=[trace(4096 - 10 - n, 4096) for n in range(5)])
    assert "ChunkedPrefill" in codes(rows, traces=[trace(128 - 10 - n, 128) for n in range(5)])
    scattered = [trace(300 * n, 300 * n + 7) for n in range(1, 6)]
    assert not {"LongContext", "ChunkedPrefill"} & set(codes(rows, traces=scattered))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_clean_run_seldom_accuses(seed: int) -> None:
    """Distances of the noise's own size, a third of them beyond twice the noise at random: contrasts by chance only, so never many."""
    rows = tuple(
        replace(row, d_kl=(row.d_kl or 0) * (3 if (seed + 7 * n) % 3 == 0 else 1)) for n, row in enumerate(crossed(120, seed=seed))
    )
    assert len(codes(rows)) <= 1


def test_order_and_number() -> None:
    """Heaviest first, at most eight, each code once."""
    rows = (*crossed(60, prefix_cache=HIT), *(sample(60 + n, intermittent="ServerError") for n in range(3)))
    found = suspects(rows, POLICY, contract="x", long_ends=(30, 0, 40))
    assert len(found) <= MOST
    assert [s.weight for s in found] == sorted((s.weight for s in found), reverse=True)
    assert len({s.code for s in found}) == len(found)


def test_what_is_beyond_the_margins() -> None:
    """tau .5, flip margin 1 nat, twice the noise, at most the cap .02; a noise stated by hand replaces the measured one."""
    assert not is_far(sample(), POLICY)
    assert is_far(sample(d_kl=2.1 * NOISE), POLICY)
    assert is_far(sample(d_kl=0.021, noise_kl=1.0), POLICY)
    assert not is_far(sample(d_kl=2.1 * NOISE), Policy(noise_kl=0.004))
    assert is_far(sample(consistent_kl=2.1 * NOISE), POLICY)
    assert violates(sample(flip=1.01), POLICY)
    assert not violates(sample(flip=0.99, max_kl=0.5, d_kl=1.0), POLICY)
