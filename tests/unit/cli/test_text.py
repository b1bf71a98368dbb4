"""Text for terminals: widths, alignment with wide characters, wrapping, commands that can be copied."""

from __future__ import annotations

import random
import shlex

import pytest
from polyfleet.cli.text import Column, Style, cells, command, cut, markdown, money, pad, plain, table, wrap

LETTERS = ["a", "b-c", "模型", "日", "é", "e\u0301", "ｗ", "x" * 30, "模" * 40, "한국", "🙂"]


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("模型", 4), ("e\u0301", 1), ("ｆｕｌｌ", 8), ("한", 2), ("a模b", 4), ("\u200b", 0)],
)
def test_cells_are_those_of_a_terminal(text: str, width: int) -> None:
    """Widths by Unicode's East_Asian_Width: W and F take two cells, combining marks and format signs none."""
    assert cells(text) == width


def test_columns_start_in_the_same_cell_whatever_the_names() -> None:
    """The second column of every line starts at one cell, also after CJK names."""
    lines = table([Column("NAME"), Column("N", right=True)], [["模型-一", "1"], ["plain", "22"], ["ｗｉｄｅ", "3"]])
    assert lines == [" NAME       N", " 模型-一    1", " plain     22", " ｗｉｄｅ   3"]
    assert {cells(line) for line in lines} == {13}


def test_a_table_that_is_too_wide_shortens_the_widest_column_that_may_shrink() -> None:
    """100 is the limit; the number stays whole and every line fits."""
    rows = [["模" * 60, "pool", "1234567"], ["short", "q" * 50, "1"]]
    lines = table([Column("MODEL", shrinks=True), Column("POOL", shrinks=True), Column("N", right=True)], rows)
    assert max(map(cells, lines)) <= 100
    assert lines[1].endswith("1234567")
    assert "…" in lines[1]


@pytest.mark.parametrize("seed", range(50))
def test_no_wrapped_line_is_wider_than_the_limit_and_no_word_is_lost(seed: int) -> None:
    """Seeded texts of long, wide and combining words."""
    rng = random.Random(seed)
    text = " ".join(rng.choice(LETTERS) for _ in range(rng.randint(0, 60)))
    width = rng.choice([20, 40, 100])
    lines = wrap(text, width, first=" x: ", rest="    ")
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "x:" + "".join(text.split())


@pytest.mark.parametrize("width", [1, 2, 5, 30])
def test_cut_keeps_to_the_width(width: int) -> None:
    for text in ("", "ab", "模型模型模型", "x" * 40):
        assert cells(cut(text, width)) <= max(width, 1)
    assert cut("模型", 4) == "模型"
    assert cut("模型模型", 4) == "模…"


def test_text_of_a_cluster_cannot_steer_the_terminal() -> None:
    """Escape sequences, carriage returns and line breaks in names become blanks."""
    assert plain("a\x1b[31mb\r\nc\u2028d") == "a [31mb c d"
    assert "\x1b" not in "".join(table([Column("A")], [["\x1b]0;title\x07x"]]))


def test_a_long_command_goes_on_after_a_backslash_and_says_the_same() -> None:
    """What a shell reads is what was meant; nothing is broken inside quotes."""
    patch = '\'{"spec": {"limits": {"devices": 6}, "note": "' + "long words " * 6 + "\"}}'"
    text = f"kubectl -n a-namespace patch modeldeployments.polyfleet.io some-name --type merge -p {patch} --context some-context"
    lines = command(text, 60)
    assert len(lines) > 2
    assert shlex.split(" ".join(line.removesuffix("\\") for line in lines)) == shlex.split(text)


def test_markdown_cuts_nothing_and_escapes_bars() -> None:
    assert markdown([Column("A"), Column("N", right=True)], [["a|b" + "x" * 200, "1"]])[1:] == [
        "|---|---:|",
        "| a\\|b" + "x" * 200 + " | 1 |",
    ]


def test_money_has_no_negative_zero_and_colour_changes_no_text() -> None:
    assert [money(-0.001), money(0.0), money(61.2)] == ["0.00", "0.00", "61.20"]
    assert pad("模", 4, right=True) == "  模"
    assert Style(False).bad("x") == "x"
    assert Style(True).bad("x") == "\x1b[31;1mx\x1b[0m"
