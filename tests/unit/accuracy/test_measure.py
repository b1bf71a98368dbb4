"""Distances between two answers, against hand calculations and the true divergence of known distributions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy.hard import overlap
from accuracy.measure import divergence, sample
from accuracy.types import Condition, Item, Mode, Position, Scores, Token
from tests.unit.accuracy.servers import policy

NAN = math.nan
ITEM = Item("i", "Chat")


def at(index: int, golden: float, *top: tuple[int | None, float], text: str = "") -> Position:
    return Position(
        Token(0, text or "g", math.log(golden) if golden > 0 else golden),
        tuple(Token(i, f"t{i}" if i is not None else "t", math.log(p) if p > 0 else p) for i, p in top),
        index,
    )


def answer(*positions: Position | None, mode: Mode = Mode.PROMPT_LOGPROBS) -> Scores:
    return Scores("i", mode, Condition(), positions)


def test_the_numbers_of_one_position_by_hand() -> None:
    # Shared: 1 and 2. p = .5, .2, rest .3; q = .4, .4, rest .2.
    ours = answer(at(0, 0.5, (1, 0.5), (2, 0.2), (3, 0.1)))
    theirs = answer(at(0, 0.4, (2, 0.4), (1, 0.4), (9, 0.1)))
    found = divergence(ours, theirs)
    kl = 0.5 * math.log(0.5 / 0.4) + 0.2 * math.log(0.2 / 0.4) + 0.3 * math.log(0.3 / 0.2)
    assert found.d_kl == pytest.approx(kl)
    assert found.bias == pytest.approx(math.log(0.8))
    assert found.d_sq == pytest.approx(math.log(0.8) ** 2)
    assert (found.max_kl, found.worst) == (pytest.approx(kl), 0)
    assert found.flip == pytest.approx(math.log(0.5 / 0.2))  # the candidate's first is our second
    assert found.overlap == pytest.approx(0.7 / 0.8)
    assert (found.used, found.unusable) == (1, 0)


def test_a_first_token_that_is_not_listed_leads_by_the_last_one_that_is() -> None:
    ours, theirs = answer(at(0, 0.5, (1, 0.5), (2, 0.25))), answer(at(0, 0.5, (7, 0.6), (1, 0.3)))
    assert divergence(ours, theirs).flip == pytest.approx(math.log(2))
    assert divergence(ours, ours).flip is None


def test_without_alternatives_the_golden_token_alone_counts() -> None:
    found = divergence(answer(at(0, 0.5, (1, 0.5)), at(1, 0.9)), answer(at(0, 0.5, (2, 0.5)), at(1, 0.1)))
    assert (found.d_kl, found.flip) == (None, None)
    assert found.bias == pytest.approx(-2.0 / 2)  # ln(.1/.9) = -2.197, clipped
    assert found.d_sq == pytest.approx(4.0 / 2)
    assert found.max_kl == pytest.approx(0.9 * math.log(9) + 0.1 * math.log(0.1 / 0.9))
    assert found.worst == 1


def test_what_is_no_number_is_unusable_and_never_zero() -> None:
    fine = at(1, 0.5, (1, 0.5), (2, 0.2))
    for bad in (None, at(0, NAN, (1, 0.5), (2, 0.2))):
        found = divergence(answer(at(0, 0.5, (1, 0.5), (2, 0.2)), fine), answer(bad, fine))
        assert (found.used, found.unusable, found.d_kl) == (1, 1, 0.0)
    nothing = divergence(answer(fine), answer(at(1, NAN)))
    assert (nothing.d_kl, nothing.d_sq, nothing.bias, nothing.used) == (None, None, None, 0)
    # Minus infinity as null, as -9999 and as itself: floored at -50, and the same.
    written = [divergence(answer(fine), answer(at(1, 0.5, (1, 0.6), (2, v)))).d_kl for v in (NAN, -9999.0, -math.inf)]
    assert (
        written[0]
        == written[1]
        == written[2]
        == pytest.approx(0.5 * math.log(0.5 / 0.6) + 0.2 * (math.log(0.2) + 50) + 0.3 * math.log(0.3 / 0.4))
    )


def test_strings_that_stand_for_two_tokens_are_unusable() -> None:
    def named(*top: tuple[str, float]) -> Position:
        return Position(Token(None, "g", -1.0), tuple(Token(None, s, math.log(p)) for s, p in top), 0)

    one, two = answer(named(("a", 0.5), ("b", 0.2))), answer(named(("b", 0.5), ("a", 0.2)))
    assert divergence(one, two).d_kl == pytest.approx(0.5 * math.log(2.5) + 0.2 * math.log(0.4))
    twice = divergence(one, answer(named(("a", 0.5), ("a", 0.2))))
    assert (twice.used, twice.unusable, twice.d_kl) == (0, 1, None)


def test_a_free_answer_counts_to_where_the_texts_part() -> None:
    whole = answer(*(at(n, 0.5, (1, 0.5), (2, 0.2)) for n in range(5)))
    parted = answer(*whole.positions[:2], mode=Mode.FREE_RUN)
    assert (divergence(whole, parted).used, divergence(whole, parted).unusable) == (2, 0)
    assert divergence(whole, answer(*whole.positions[:2])).unusable == 3


weights = st.lists(st.floats(0.01, 1.0), min_size=6, max_size=6)


@given(weights, weights, st.integers(2, 6))
def test_it_is_a_lower_bound_of_the_true_divergence(a: list[float], b: list[float], top: int) -> None:
    p, q = ([w / sum(row) for w in row] for row in (a, b))

    def listed(row: list[float]) -> Scores:
        order = sorted(range(6), key=lambda i: -row[i])[:top]
        return answer(at(0, row[0], *((i, row[i]) for i in order)))

    true = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    found = divergence(listed(p), listed(q))
    assert found.d_kl is not None
    assert -1e-12 <= found.d_kl <= found.max_kl <= true + 1e-9
    if top == 6:
        assert found.d_kl == pytest.approx(true, abs=1e-7)
    assert found.overlap == pytest.approx(overlap(listed(q), listed(p)))
    assert divergence(listed(p), listed(p)).d_kl == 0.0


def test_one_prompt_from_several_answers() -> None:
    ours = answer(at(0, 0.5, (1, 0.5), (2, 0.2)))
    near, far = answer(at(0, 0.4, (1, 0.4), (2, 0.2))), answer(at(0, 0.1, (2, 0.6), (1, 0.1)))
    one, other = divergence(ours, near), divergence(ours, far)
    assert one.d_kl is not None
    assert other.d_kl is not None
    found = sample(3, replace(ITEM, modality="Image"), ours, (near, far), 1e-3, 2e-3, policy(), consistent=[(near, near), far])
    assert (found.index, found.item, found.stratum, found.modality) == (3, "i", "Chat/Image", "Image")
    assert found.d_kl == pytest.approx((one.d_kl + other.d_kl) / 2)
    assert found.max_kl == max(other.max_kl, divergence(near, far).max_kl)
    assert found.flip == other.flip
    assert found.consistent_kl == pytest.approx((divergence(near, far).d_kl or 0) / 2)
    assert (found.noise_kl, found.noise_sq, found.positions) == (1e-3, 2e-3, 1)
    alone = sample(0, ITEM, None, near, None, None, policy(noise_kl=0.01), consistent=[(ours, near)])
    assert (alone.d_kl, alone.d_sq, alone.bias) == (None, None, None)
    assert (alone.max_kl, alone.positions, alone.noise_kl, alone.noise_sq) == (one.max_kl, 1, 0.01, 0.02)
