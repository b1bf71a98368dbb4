"""Versions as engines, drivers and vendors write them: compared number by number, and never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.model import Engine
from hwprofiles.versions import minimum_version, older


@pytest.mark.parametrize(
    ("version", "minimum", "expected"),
    [
        ("0.9.2", "0.10", True),  # numbers, not letters
        ("0.10", "0.9.2", False),
        ("12.4", "13", True),
        ("13", "13.0", False),  # a missing number is 0
        ("13.0", "13", False),
        ("v0.23.0", "0.23.0", False),
        ("0.23.0-a3", "0.23.0", False),  # a build for Ascend A3
        ("0.23.0-openeuler", "0.23.0", False),
        ("0.5.12+ppu2.1.0", "0.5.12", False),
        ("0.23.0cu130", "0.23.0", False),
        ("0.23.0rc1", "0.23.0", True),
        ("0.23.0", "0.23.0rc1", False),
        ("1.2.0rc1", "1.2.0rc2", True),
        ("0.11.0.dev3", "0.11.0a1", True),
        ("0.5.4.post2", "0.5.4.post3", True),
        ("0.5.4.post3-250105", "0.5.4", False),
        ("0.5.4", "0.5.4.post1", True),
        ("24.1.rc3", "24.1", True),  # Ascend drivers
        ("25.0.rc1.1", "24.1", False),
        ("535.129.03", "535.129.3", False),
        ("nightly", "0.1", None),
        ("0.1", "main", None),
        ("", "1", None),
        ("dev", "dev", None),
    ],
)
def test_older(version: str, minimum: str, expected: bool | None) -> None:
    """Known pairs; None where one of the two is no version, so that nobody is called old by mistake."""
    assert older(version, minimum) is expected


NUMBERS = st.lists(st.integers(0, 10**6), min_size=1, max_size=4)


@given(NUMBERS, NUMBERS)
def test_order_is_that_of_the_numbers(one: list[int], two: list[int]) -> None:
    """Against a comparison of padded lists; never both older, and nothing is older than itself."""
    a, b = ".".join(map(str, one)), ".".join(map(str, two))
    assert older(a, b) is ([*one, 0, 0, 0][:4] < [*two, 0, 0, 0][:4])
    assert not (older(a, b) and older(b, a))
    assert older(a, a) is False


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_has_an_answer(one: str, two: str) -> None:
    """Nothing raises, and the answer is one of three."""
    assert older(one, two) in (True, False, None)


def test_minimum_version_of_a_model() -> None:
    """An exact name beats a prefix, a longer prefix a shorter one; a model that no entry speaks of has none."""
    known = Engine.parse(
        {
            "models": [
                {"model": "openai/*", "minVersion": "0.10.0"},
                {"model": "openai/gpt-oss-*", "minVersion": "0.10.2"},
                {"model": "openai/gpt-oss-20b", "minVersion": "0.11.0"},
            ]
        }
    )
    assert minimum_version(known, "openai/gpt-oss-20b") == "0.11.0"
    assert minimum_version(known, "OpenAI/gpt-oss-20B") == "0.11.0"
    assert minimum_version(known, "openai/gpt-oss-120b") == "0.10.2"
    assert minimum_version(known, "openai/whisper") == "0.10.0"
    assert minimum_version(known, "Qwen/Qwen3-8B") is None
    assert minimum_version(Engine(), "Qwen/Qwen3-8B") is None
    assert minimum_version(Engine.parse({"models": [{"model": "*", "minVersion": "0.9"}]}), "Qwen/Qwen3-8B") == "0.9"
