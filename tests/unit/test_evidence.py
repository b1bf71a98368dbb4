"""The pages that say which test proves what of placer and autoscaler: every test that they name exists, and nothing is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SHORT = {"P/": "unit/placement/test_", "O/": "unit/operator/test_", "A/": "unit/autoscaling/test_"}
CASES = [7, *range(11, 21), *range(72, 81), *range(99, 105)]
ELASTIC = range(34, 55)
ASKED = {"S": range(1, 16), "F": range(1, 20), "P": range(1, 11), "R": (1, 2, 3, 4, 6, 7, 8, 9)}  # routes (R5) follow later


def rows(page: str) -> list[tuple[str, list[str]]]:
    """(item, tests as `file::name`) of every row of a page."""
    found = []
    for line in (TESTS / page).read_text(encoding="utf-8").splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] not in ("item", "---"):
            found.append((cells[0], re.findall(r"`([^`]+::[^`]+)`", cells[1])))
    return found


@cache
def defined(file: Path) -> frozenset[str]:
    return frozenset(
        n.name for n in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def missing(reference: str) -> str:
    """What is wrong with a reference; empty if its test exists."""
    file, name = reference.split("::")
    for short, full in SHORT.items():
        if file.startswith(short):
            file = f"{full}{file.removeprefix(short)}.py"
    path = TESTS / file
    if not path.is_file():
        return f"{reference}: no file {path}"
    return "" if name in defined(path) else f"{reference}: no such test"


@pytest.mark.parametrize(("page", "least"), [("placement.md", 100), ("autoscaling.md", 120)])
def test_every_named_test_exists(page: str, least: int) -> None:
    references = [r for _, tests in rows(page) for r in tests]
    assert len(references) > least
    assert [m for r in references if (m := missing(r))] == []


def test_a_test_that_is_not_there_is_found() -> None:
    assert missing("P/guarantees::test_guarantee_11") == "P/guarantees::test_guarantee_11: no such test"
    assert missing("P/nowhere::test_x").startswith("P/nowhere::test_x: no file")


def test_no_guarantee_property_or_case_of_the_placer_is_left_out() -> None:
    proven = {item.split()[0] for item, tests in rows("placement.md") if tests}
    assert {str(n) for n in range(1, 11)} <= proven
    assert {f"({letter})" for letter in "abcdefghijkl"} <= proven
    assert {f"OC-{n:03d}" for n in CASES} <= proven
    # Only the line that points to the cases names no test.
    assert [item for item, tests in rows("placement.md") if not tests] == ["(m) the cases"]


def test_no_row_or_case_of_the_autoscaler_is_left_out() -> None:
    found = rows("autoscaling.md")
    assert [item for item, tests in found if not tests] == []
    assert [item.split()[0] for item, _ in found] == [
        *(f"{letter}{n}" for letter, numbers in ASKED.items() for n in numbers),
        *(f"OC-{n:03d}" for n in ELASTIC),
    ]
