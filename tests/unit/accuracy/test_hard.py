"""Hard faults: the traps of acceptance test 3 as answers, and what must not be flagged."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy import hard
from accuracy.policy import Policy
from accuracy.types import Condition, Event, Mode, Position, Scores, Token

POLICY = Policy()
NAN, INF = math.nan, math.inf


def tok(number: int | None, logprob: float, text: str = "") -> Token:
    return Token(number, text or f" t{number}", logprob)


def answer(*positions: Position | None, text: str = "", events: tuple[Event, ...] = ()) -> Scores:
    return Scores(item="a", mode=Mode.STEPWISE, condition=Condition(), positions=positions, text=text, events=events)


def position(own: float, *top: float, index: int = 0) -> Position:
    return Position(tok(7, own), tuple(tok(n, lp) for n, lp in enumerate(top)), index)


HEALTHY = answer(position(-0.7, -0.7, -1.5, -2.5), position(-0.1, -0.1, -3.0, -4.0, index=1), text="A short and healthy answer.")


def codes(events: tuple[Event, ...]) -> list[str]:
    return [e.code for e in events]


def test_a_healthy_answer_has_no_event() -> None:
    assert hard.at_sight(HEALTHY, POLICY, d_kl=0.002) == ()
    assert hard.to_confirm(HEALTHY, HEALTHY) == ()


@pytest.mark.parametrize(
    ("scores", "code", "at"),
    [
        (answer(position(NAN, -0.7, -1.5)), "NonFinite", 0),
        (answer(None, position(-0.7, NAN, NAN, index=3)), "NonFinite", 3),
        (answer(position(-0.7, -0.7, NAN, -2.0)), "NonFinite", 0),
        (answer(position(-INF, -0.7, -1.5)), "NonFinite", 0),
        (answer(position(-0.7, INF, -1.5)), "NonFinite", 0),
        (answer(position(2e-3, -0.7)), "PositiveLogprob", 0),
        (answer(position(-0.7, -0.5, -0.6, -0.9)), "MassAboveOne", 0),  # .607 + .549 + .407
    ],
)
def test_what_no_distribution_gives_blocks_at_sight(scores: Scores, code: str, at: int) -> None:
    (event,) = hard.at_sight(scores, POLICY)
    assert (event.code, event.position) == (code, at)


def test_rounding_and_encodings_of_minus_infinity_do_not_block() -> None:
    rounded = answer(position(9e-4, 9e-4, -12.0))
    clamped = answer(position(-0.7, -0.7, -1.0, -9999.0))
    null_last = answer(position(-0.7, -0.7, -1.0, NAN))
    minus_infinity_last = answer(position(-0.7, -0.7, -1.0, -INF))
    for scores in (rounded, clamped, null_last, minus_infinity_last):
        assert hard.at_sight(scores, POLICY) == ()
        assert hard.to_confirm(scores, HEALTHY) == ()


def test_the_chosen_token_listed_twice_is_counted_once() -> None:
    top = (tok(1, -0.3), tok(1, -0.3), tok(2, -1.8))  # .74 + .17
    assert hard.at_sight(answer(Position(tok(1, -0.3), top)), POLICY) == ()


def test_an_engine_that_cannot_write_nan_is_non_finite() -> None:
    event = Event("ServerError", "Out of range float values are not JSON compliant: nan", 5, 500)
    (found,) = hard.at_sight(answer(events=(event,)), POLICY)
    assert (found.code, found.position, found.status) == ("NonFinite", 5, 500)
    assert hard.to_confirm(answer(events=(event,)), HEALTHY) == ()
    other = answer(events=(Event("ServerError", "out of memory", None, 500),))
    assert hard.at_sight(other, POLICY) == ()
    assert codes(hard.to_confirm(other, HEALTHY)) == ["ServerError"]


def test_the_limit_of_a_prompts_divergence_follows_the_pair() -> None:
    # max(0.25, 5 x cap): the default cap is 0.02.
    assert hard.at_sight(HEALTHY, POLICY, d_kl=0.25) == ()
    assert codes(hard.at_sight(HEALTHY, POLICY, d_kl=0.2501)) == ["KlAboveLimit"]
    assert codes(hard.at_sight(HEALTHY, POLICY, d_kl=NAN)) == ["KlAboveLimit"]


def test_faults_that_are_asked_again() -> None:
    empty = answer(events=(Event("EmptyReply", "no text", None, 200),))
    missing = answer(None, None, events=(Event("MissingLogprob", "", 1, 200),))
    sentinels = answer(position(-0.7, -0.7, -9999.0, -9999.0, -9999.0, -9999.0))
    assert codes(hard.to_confirm(empty, HEALTHY)) == ["EmptyReply"]
    assert codes(hard.to_confirm(missing, HEALTHY)) == ["MissingLogprob"]
    assert codes(hard.to_confirm(missing, answer(None, None))) == []
    assert codes(hard.to_confirm(sentinels, answer(None))) == ["Sentinels"]
    assert hard.to_confirm(sentinels, sentinels) == ()  # the reference is no better
    assert hard.to_confirm(empty, empty) == ()


def test_a_golden_token_that_became_impossible_is_asked_again() -> None:
    (found,) = hard.to_confirm(answer(position(-9999.0, -0.7, -1.0)), answer(position(-2.0, -0.7, -1.0)))
    assert (found.code, found.position) == ("Sentinels", 0)
    assert hard.to_confirm(answer(position(-99.0, -0.7, -1.0)), answer(position(-2.0, -0.7, -1.0))) == ()  # far off, but possible
    assert hard.to_confirm(answer(position(-9999.0, -0.7, -1.0)), answer(position(-9999.0, -0.7, -1.0))) == ()


def test_overlap_is_the_share_of_the_references_mass() -> None:
    def over(*pairs: tuple[int | None, float, str]) -> Scores:
        return answer(Position(tok(0, -1.0), tuple(Token(i, s, math.log(p)) for i, p, s in pairs)))

    reference = over((1, 0.5, "a"), (2, 0.3, "b"), (3, 0.1, "c"))
    candidate = over((1, 0.6, "a"), (9, 0.2, "x"), (8, 0.1, "y"))
    assert hard.overlap(candidate, reference) == pytest.approx(0.5 / 0.9)
    by_string = over((None, 0.4, "c"), (None, 0.3, "b"), (None, 0.1, "z"))
    assert hard.overlap(by_string, reference) == pytest.approx(0.4 / 0.9)
    assert codes(hard.to_confirm(by_string, reference)) == ["LowOverlap"]
    # "a" stands for two ids: the strings do not say which is meant.
    assert hard.overlap(over((None, 0.4, "a"), (None, 0.3, "a"), (None, 0.1, "b")), reference) is None
    assert hard.overlap(answer(position(-1.0)), reference) is None


def test_degenerate_text_counts_only_where_the_references_is_not() -> None:
    stuck = answer(position(-0.7), text="!" * 60)
    assert codes(hard.to_confirm(stuck, HEALTHY)) == ["Degenerate"]
    assert hard.to_confirm(stuck, stuck) == ()


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=20), st.floats(0.0, 1.0))
def test_no_true_distribution_is_flagged(weights: list[float], rest: float) -> None:
    total = sum(weights) * (1 + rest)
    top = sorted((math.log(w / total) for w in weights), reverse=True)
    assert hard.at_sight(answer(position(top[-1], *top)), POLICY) == ()
