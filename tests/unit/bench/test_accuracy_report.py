"""The page of the accuracy benches: every target beside what missed it, and what follows from a table before its first table."""

from __future__ import annotations

from typing import Any

from accuracy.layout import RULES
from bench.accuracy import prose, report


def section(*rows: dict[str, Any], **about: Any) -> dict[str, Any]:
    return {"date": "2026-11-29", "machine": "2 cores", "rows": list(rows), **about}


def variant(group: str, promote: float, prompts: float, way: str = "ten strata") -> dict[str, Any]:
    return {"group": group, "variant": f"one {group}", "way": way, "promote": promote, "block": 0.0, "prompts": prompts}


def cost(seconds: float, late: float, megabytes: float, own: float = 10.0) -> dict[str, Any]:
    row = {"case": "a check", "most s": 30.0, "seconds": seconds, "adds MB": megabytes, "loop late ms, most": late}
    return {**row, "of it own CPU ms, most": own}


def targets(page: str) -> dict[str, str]:
    """Target -> its last cell, of one model."""
    lines = page[page.index("## Targets") :].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| c")]
    return {row[1]: row[2] for row in rows}


def test_targets_are_judged_row_by_row() -> None:
    """A fault promoted once, a harmless variant at 98.9 %, and one stratum at 261 prompts: each misses its own target."""
    rows = (variant("fault", 0.002, 9), variant("benign", 0.989, 330), variant("benign", 1.0, 261, "one stratum"))
    found = targets(report.page({"corpus: m": section(*rows, runs=500, seed=0, rules=RULES)}))
    assert found["no fault is ever promoted"] == "**not met**: one fault (ten strata: promoted 0.002, 9 prompts)"
    assert "promoted 0.989" in found["harmless variants are promoted in 99 % of runs"]
    slow = found["harmless variants need a median of 260 prompts in one stratum, 330 in ten"]
    assert "261 prompts" in slow
    assert "330 prompts" not in slow


def test_what_was_not_measured_is_not_met() -> None:
    found = targets(report.page({"corpus: m": section(variant("benign", 1.0, 260), runs=500, seed=0, rules=RULES)}))
    assert "no fault is ever promoted" not in found
    assert found["harmless variants are promoted in 99 % of runs"] == "met"


def test_rows_of_other_rules_are_told_apart() -> None:
    """Those of before the rules had a number too. A table that says its own width is of no rules."""
    rows = (variant("benign", 1.0, 260),)
    for about in ({}, {"rules": RULES - 1}):
        page = report.page({"corpus: m": section(*rows, runs=5, seed=0, **about), "widths: m": section({"width": 1.0}, runs=5, seed=0)})
        assert targets(page)["harmless variants are promoted in 99 % of runs"].startswith(
            "met; **judged by the rules of an earlier version"
        )
        corpus, widths = page.split("## widths: m")
        assert "5 runs, seed 0, **judged by the rules of an earlier version" in corpus.split("## corpus: m")[1]
        assert "earlier version" not in widths


def test_costs_have_their_limits() -> None:
    """30 s, 40 MB and 100 ms; the loop may be late because others compute, and both are told. What was not measured is told too."""
    met = targets(report.page({"cost": section(cost(30.0, 99.9, 40.0))}))
    assert {cell.split("; ")[0] for cell in met.values()} == {"met"}
    assert all("not measured: " in cell and "SmolLM2 on llama.cpp, Stepwise" in cell for cell in met.values())
    missed = targets(report.page({"cost": section(cost(30.1, 100.0, 40.1))}))
    assert [line for line, cell in missed.items() if cell.startswith("met")] == ["the process itself holds the event loop less than 100 ms"]


def test_words_stand_once_before_the_first_table_of_their_kind() -> None:
    page = report.page({f"ways: {name}": section({"way": name}, runs=5, seed=0) for name in ("a", "b")})
    assert page.count(prose.of("ways: a")) == 1
    assert page.index("## ways: a") < page.index(prose.of("ways: a")) < page.index("## ways: b")
    assert prose.of("anything else") == ""
