"""Where two answers first differ, token by token, and how sure the reference was there."""

from __future__ import annotations

import pytest

from accuracy.compare import compared
from accuracy.types import Condition, Event, Mode, Position, Scores, Token

CAT, DOG, OWL = Token(1, " cat", -0.2), Token(2, " dog", -1.9), Token(3, " owl", -3.0)


def answer(*positions: Position, text: str = "", **more: object) -> Scores:
    said = text or "".join(place.token.text for place in positions)
    return Scores("item", Mode.FREE_RUN, Condition(), positions, text=said, finish_reason="length", **more)  # type: ignore[arg-type]


def at(token: Token, *top: Token) -> Position:
    return Position(token, top)


A, THE = at(Token(9, "A", -0.1)), at(Token(8, " the", -0.3))


def test_the_same() -> None:
    found = compared("item", answer(A, THE), answer(A, THE))
    assert (found.kind, found.place, found.agreed) == ("Same", None, "A the")


def test_the_first_token_that_differs_with_the_references_margin() -> None:
    """cat -0.2 against dog -1.9 on the reference: 1.7 nats."""
    found = compared("item", answer(A, at(CAT, CAT, DOG), THE), answer(A, at(DOG, DOG, CAT), THE))
    assert (found.kind, found.place, found.agreed) == ("Token", 1, "A")
    assert found.margin == pytest.approx(1.7)
    assert not found.at_least
    assert [token.text for token in found.reference.alternatives] == [" cat", " dog"]
    assert [token.text for token in found.candidate.alternatives] == [" dog", " cat"]


def test_a_token_that_the_reference_did_not_list_gives_a_lower_bound() -> None:
    """owl is not among cat and dog: at least -0.2 + 1.9 nats."""
    found = compared("item", answer(at(CAT, CAT, DOG)), answer(at(OWL, OWL)))
    assert found.margin == pytest.approx(1.7)
    assert found.at_least


def test_no_alternatives_no_margin() -> None:
    found = compared("item", answer(at(CAT)), answer(at(DOG)))
    assert (found.kind, found.margin) == ("Token", None)


def test_ids_decide_where_both_tell_them() -> None:
    """Two tokens may have one string; without ids only the string is left."""
    twin = Token(77, " cat", -0.2)
    assert compared("item", answer(at(CAT)), answer(at(twin))).kind == "Token"
    assert compared("item", answer(at(CAT)), answer(at(Token(None, " cat", -0.2)))).kind == "Same"


def test_one_ends_earlier() -> None:
    found = compared("item", answer(A, THE), answer(A))
    assert (found.kind, found.place) == ("Length", 1)


def test_texts_only() -> None:
    found = compared("item", answer(text="The cat sat"), answer(text="The dog sat"))
    assert (found.kind, found.agreed) == ("Token", "The ")
    assert compared("item", answer(text="a"), answer(text="a")).kind == "Same"
    assert compared("item", answer(text="ab"), answer(text="a")).agreed == "a"


def test_a_failure_is_no_difference() -> None:
    found = compared("item", answer(A), answer(A, events=(Event("ServerError", "boom"),)))
    assert found.kind == "Failed"
    assert found.candidate.events[0].detail == "boom"
