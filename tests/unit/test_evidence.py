"""The page that says which test proves what of the placer: every test that it names exists, and nothing that is asked for is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
SHORT = {"P/": "unit/placement/test_", "O/": "unit/operator/test_"}
CASES = [7, *range(11, 21), *range(72, 81), *range(99, 105)]


def rows() -> list[tuple[str, list[str]]]:
    """(item, tests as `file::name`) of every row of the page."""
    found = []
    for line in (TESTS / "placement.md").read_text(encoding="utf-8").splitlines():
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


def test_every_named_test_exists() -> None:
    references = [r for _, tests in rows() for r in tests]
    assert len(references) > 100
    assert [m for r in references if (m := missing(r))] == []
    assert missing("P/guarantees::test_guarantee_11") == "P/guarantees::test_guarantee_11: no such test"
    assert missing("P/nowhere::test_x").startswith("P/nowhere::test_x: no file")


def test_no_guarantee_property_or_case_is_left_out() -> None:
    proven = {item.split()[0] for item, tests in rows() if tests}
    assert {str(n) for n in range(1, 11)} <= proven
    assert {f"({letter})" for letter in "abcdefghijkl"} <= proven
    assert {f"OC-{n:03d}" for n in CASES} <= proven
    # Only the line that points to the cases names no test.
    assert [item for item, tests in rows() if not tests] == ["(m) the cases"]
