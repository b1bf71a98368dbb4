"""Degenerate text: what broken devices answered in the public reports, and healthy text of every kind that the built-in set holds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from accuracy import golden
from accuracy.degenerate import degenerate

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("!" * 40, "repeat themselves"),
        ("the the the the the the the the the the", "repeat themselves"),
        ("I cannot do that. " * 8, "repeat themselves"),
        ("It starts as a good answer that says something about rivers and bridges, then it gets stuck" + " and on" * 40, "repeat"),
        ("哈" * 30, "repeat themselves"),
        ("\ufffd" * 12 + "abcdefghijklmnop", "garbled"),
        ("\ue000\ue001\x01\x02\x03" * 6, "garbled"),
        ("\ufffda\ufffdbcd" * 60, "garbled"),
    ],
)
def test_broken_text_is_named(text: str, said: str) -> None:
    assert said in degenerate(text)


@pytest.mark.parametrize(
    "text", ["", "OK", "42", "!!!", "No, no, no!", "ha ha ha ha", '{"a": [1, 2, 3], "b": [1, 2, 4]}', "\n" * 40, "one\ufffdtwo"]
)
def test_short_and_ordinary_text_is_not(text: str) -> None:
    assert degenerate(text) == ""


def test_nothing_in_the_built_in_set_is_degenerate() -> None:
    for item in golden.builtin().items:
        for text in (item.text[:2000], item.continuation, *(str(m["content"]) for m in item.messages)):
            assert degenerate(text) == "", item.id


def test_tables_and_source_are_not() -> None:
    for name in ("docs/hardware.md", "README.md", "accuracy/types.py", "examples/three-vendors.yaml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert [p for p in (text[i : i + 400] for i in range(0, len(text), 400)) if degenerate(p)] == []


def test_the_models_own_belief_is_judged_where_it_is_told() -> None:
    healthy = [-0.1, -2.0, -0.5, -6.0, *[-0.3] * 12]  # one position without a likely token
    assert degenerate("fine", healthy) == ""
    assert "a most likely token below -5" in degenerate("fine", [-6.0] * 4 + [-0.3] * 12)
    assert "top-20 mass below 0.4" in degenerate("fine", masses=[0.3] * 8)
    assert degenerate("fine", masses=[0.3]) == ""  # one position proves nothing
    assert "NaN" in degenerate("fine", [-0.1, math.nan])
