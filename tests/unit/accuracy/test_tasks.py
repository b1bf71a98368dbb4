"""G6 against exact binomials, a brute-force likelihood and hand counts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import product

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy import tasks
from accuracy.json_schema import satisfies
from accuracy.types import Item


def outcomes(n: int, lost: float, gained: float) -> Iterator[tuple[int, int, float]]:
    """All (lost, gained) of n paired items with their exact probability, but for 1e-12 of it."""
    kept = math.log(1 - lost - gained)
    for b in range(n + 1):
        for c in range(n + 1 - b):
            logp = math.lgamma(n + 1) - math.lgamma(b + 1) - math.lgamma(c + 1) - math.lgamma(n - b - c + 1)
            logp += b * math.log(lost) + c * math.log(gained) + (n - b - c) * kept
            if logp > -35:
                yield b, c, math.exp(logp)
            elif c > n * gained + 5:
                break


def differences(n: int, lost: int, gained: int) -> list[float]:
    return [-1.0] * lost + [1.0] * gained + [0.0] * (n - lost - gained)


def passes(n: int, margin: float, drop: float, discordant: float = 0.06) -> float:
    """Exact probability that the margin is passed at this true drop."""
    z = 1.6448536
    cells = outcomes(n, (discordant + drop) / 2, (discordant - drop) / 2)
    return sum(p for b, c, p in cells if tasks.score(n, b, c, margin) > z)


def test_power_and_error_at_300_items() -> None:
    # accuracy.md §2: 0.71 at no drop, 0.05 at the margin. The score interval is what keeps the second at most 0.05.
    assert passes(300, 0.03, 0.03) <= 0.05
    assert passes(300, 0.03, 0.0) == pytest.approx(0.65, abs=0.02)


def test_power_and_error_at_1319_items() -> None:
    # §2: 0.997 and 0.051 at a margin of 3 points; 0.91 and 0.046 at 2.
    assert passes(1319, 0.03, 0.0) == pytest.approx(0.997, abs=0.002)
    assert passes(1319, 0.03, 0.03) <= 0.05
    assert passes(1319, 0.02, 0.0) == pytest.approx(0.91, abs=0.015)
    assert passes(1319, 0.02, 0.02) <= 0.05


def test_without_a_discordant_item_the_number_is_known_by_hand() -> None:
    # z^2 (1 - m) / m: 2.7055 x 0.97 / 0.03 = 87.5 and 2.7055 x 0.98 / 0.02 = 132.6
    for margin, n in ((3.0, 88), (2.0, 133)):
        for count, passed in ((n - 1, False), (n, True)):
            found = tasks.paired([0.0] * count, margin)
            assert found is not None
            assert found.passed is passed


def test_the_constrained_likelihood_is_the_best_one() -> None:
    """The score's variance against a search over all trinomials with that difference."""
    for n, lost, gained, drop in ((50, 4, 1, 0.03), (30, 0, 2, 0.05), (200, 11, 6, 0.1), (40, 5, 5, -0.02)):

        def loglik(p_lost: float, lost: int = lost, gained: int = gained, n: int = n, drop: float = drop) -> float:
            p_gained = p_lost - drop
            rest = 1 - p_lost - p_gained
            terms = ((lost, p_lost), (gained, p_gained), (n - lost - gained, rest))
            return sum(k * math.log(p) for k, p in terms if k) if min(p_lost, p_gained, rest) > 0 else -math.inf

        best = max((i / 200_000 for i in range(1, 200_000)), key=loglik)
        variance = n * (2 * best - drop - drop * drop)
        assert tasks.score(n, lost, gained, drop) == pytest.approx((gained - lost + n * drop) / math.sqrt(variance), rel=1e-3)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.floats(0.5, 20))
def test_the_interval_and_the_decision_agree(n: int, lost: int, gained: int, margin: float) -> None:
    lost, gained = min(lost, n), min(gained, n - min(lost, n))
    found = tasks.paired(differences(n, lost, gained), margin)
    assert found is not None
    assert -1 <= found.lower <= found.drop + 1e-9
    assert found.drop - 1e-9 <= found.upper <= 1
    assert not (found.passed and found.failed)
    if abs(found.upper - margin / 100) > 1e-6:
        assert found.passed is (found.upper < margin / 100)
    worse = tasks.paired(differences(n + 1, lost + 1, gained), margin)
    assert worse is not None
    assert worse.upper >= found.upper - 1e-9


def test_a_clear_loss_fails_and_nothing_is_not_a_pass() -> None:
    lost = tasks.paired(differences(300, 44, 1))
    assert lost is not None
    assert (lost.passed, lost.failed, lost.drop) == (False, True, pytest.approx(43 / 300))
    assert tasks.paired([]) is None
    few = tasks.paired([0.0] * 20)
    assert few is not None
    assert not few.passed
    assert not few.failed


TOOL = Item(
    id="t",
    stratum="Tools",
    messages=({"role": "user", "content": "x"},),
    tools=({"type": "function", "function": {"name": "f"}},),
    expect_tool="f",
)


def test_replies_are_judged_by_what_the_item_asks() -> None:
    assert tasks.reply(TOOL, "", ["f"]).good is True
    assert tasks.reply(TOOL, "", []).good is False
    assert tasks.reply(TOOL, "", ["g", "f"]).right_call is False
    assert tasks.reply(TOOL, "", None).good is None  # this endpoint cannot call tools: not judged
    question = Item(id="q", stratum="Chat", text="6 x 7?", answer="42")
    assert [tasks.reply(question, t, None).right for t in ("42", " 42.\n", "**42**", "It is 42", "")] == [True, True, True, False, False]
    schema = Item(id="s", stratum="Tools", text="x", schema={"type": "object", "required": ["a"]})
    assert [tasks.reply(schema, t, None).schema for t in ('{"a": 1}', '```json\n{"a": 1}\n```', "{}", "text")] == [True, True, False, False]
    good, bad = tasks.reply(question, "42", None), tasks.reply(question, "41", None)
    assert [tasks.difference(a, b) for a, b in product((good, bad), repeat=2)] == [0, -1, 1, 0]
    assert tasks.difference(good, tasks.reply(TOOL, "", None)) is None


def called(*names: str | None) -> list[tasks.Replied]:
    return [tasks.Replied(item=str(n), called=name) for n, name in enumerate(names)]


def test_trigger_f1_by_hand() -> None:
    truth, other = called("f", "f", "f", "", "", None), called("f", "g", "", "f", "", "f")
    # true positives 2 (which tool does not count), false negative 1, false positive 1: 2 x 2 / (3 + 3)
    assert tasks.trigger_f1(truth, other) == pytest.approx(4 / 6)
    assert tasks.trigger_f1(truth, truth) == 1
    assert tasks.trigger_f1(called("", ""), called("", "")) is None
    assert tasks.trigger_f1(truth, []) is None


def test_rates_and_lengths() -> None:
    assert tasks.schema_rate([tasks.Replied("a", schema=True), tasks.Replied("b", schema=False), tasks.Replied("c")]) == 0.5
    assert tasks.schema_rate([]) is None
    ours = [tasks.Replied(str(n), tokens=10 + n) for n in range(8)]
    twice = tasks.lengths(ours, [tasks.Replied(r.item, tokens=2 * (r.tokens or 0)) for r in ours])
    assert twice is not None
    assert (twice.items, twice.estimate, twice.low) == (8, pytest.approx(2), pytest.approx(2))
    mixed = tasks.lengths(ours[:2], [tasks.Replied("0", tokens=20), tasks.Replied("1", tokens=11)])
    assert mixed is not None
    assert mixed.estimate == pytest.approx(math.sqrt(2))
    assert mixed.low < 1 < mixed.high
    assert tasks.lengths(ours, ours[:1]) is None


SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null", ["string", "null"]]),
        "enum": st.lists(st.sampled_from([1, True, "a", None, 2.0]), min_size=1, max_size=3),
        "required": st.lists(st.sampled_from(["a", "b"]), max_size=2),
        "properties": st.fixed_dictionaries({}, optional={"a": st.sampled_from([{"type": "integer"}, {"minimum": 2}, True, False])}),
        "additionalProperties": st.booleans(),
        "items": st.sampled_from([{"type": "string"}, {"maximum": 1}]),
        "minItems": st.integers(0, 2),
        "maxLength": st.integers(0, 2),
        "pattern": st.sampled_from(["^a", "b$"]),
        "exclusiveMinimum": st.integers(0, 2),
        "oneOf": st.just([{"type": "integer"}, {"minimum": 1}]),
    },
)
LEAVES = st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from([1.0, 1.5]) | st.sampled_from(["", "a", "ab", "abc"])
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("abc"), v, max_size=3), max_leaves=5)


@given(SCHEMAS, VALUES)
def test_the_validator_agrees_with_jsonschema(schema: dict[str, object], value: object) -> None:
    assert satisfies(json.dumps(value), schema) is jsonschema.Draft202012Validator(schema).is_valid(value)


def test_a_schema_that_is_not_known_gives_no_judgement() -> None:
    assert satisfies("1", {"$ref": "#/x"}) is None
    assert satisfies("1", {"type": "odd"}) is None
    assert satisfies("x", {"$ref": "#/x"}) is False  # not JSON in any case
