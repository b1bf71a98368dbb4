"""The tables of tests/README.md name tests that exist, and every case that they promise."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS / "README.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:unit|control|e2e)/[a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`", TEXT)))


def test_every_named_test_exists() -> None:
    assert len(NAMED) > 40
    for file, name in NAMED:
        path = TESTS / file
        assert path.is_file(), file
        assert not name or re.search(rf"^(async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE), f"{file}::{name}"


def test_every_case_of_the_accuracy_gate_has_a_row() -> None:
    rows = [line.split("|")[1].strip() for line in TEXT.splitlines() if line.startswith("| ")]
    assert {str(number) for number in range(1, 14)} <= set(rows)
    assert {"OC-030", *(f"OC-{number:03}" for number in range(55, 72))} <= set(rows)
