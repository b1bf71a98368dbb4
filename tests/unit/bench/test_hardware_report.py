"""The page of the hardware benches: every target beside its figure, what was not measured said, a quick subset never judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.hardware import report, results, suite


def section(quick: bool = False, **figures: Any) -> dict[str, Any]:
    return {"date": "2026-11-28", "machine": "2 cores", "figures": figures, **({"quick": True} if quick else {})}


def row(page: str, text: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if text in line]
    return [cell.strip() for cell in line.strip("|").split("|")][1:3]


def test_every_target_has_a_row() -> None:
    """0.2 s of 0.3 s is met, 6 ms of 5 ms is not, a quick one is not judged, the rest was not measured."""
    page = report.page(
        {
            "profiles": section(load_cpu_s=0.2),
            "inventory": section(inventory_full_s=0.3, inventory_change_s=0.006),
            "estimator": section(quick=True, vectorised_us_per_item=10.0),
            "predict-paced": section(median=0.0015, repetitions=[{"error": -0.014}, {"error": 0.002}]),
        }
    )
    assert row(page, "all shipped profiles load") == ["0.2 s", "met"]
    assert row(page, "inventory of 10,000 nodes") == ["0.3 s", "met"]
    assert row(page, "one change of it") == ["6 ms", "**not met**"]
    assert row(page, "an estimate in") == ["10 µs", "–"]
    assert row(page, "entries at 1, 2, 8") == ["not measured", "–"]
    assert row(page, "engine whose law is known") == ["0.15 %", "met"]
    assert "errors of the repetitions | -1.4 %, +0.2 % |" in page


def test_the_page_is_that_of_the_results() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.page(results.load())


def test_targets_are_of_parts_that_the_suite_runs() -> None:
    assert {target.section for target in report.TARGETS} == set(suite.PARTS)


def test_a_section_replaces_only_itself(tmp_path: Path) -> None:
    """With its day and machine, and whether it was a subset."""
    path = tmp_path / "hardware.json"
    results.store("a", {"x": 1}, path)
    results.store("b", {"x": 2}, path, quick=True)
    results.store("a", {"x": 3}, path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {name: item["figures"]["x"] for name, item in found.items()} == {"a": 3, "b": 2}
    assert ("quick" in found["a"], found["b"]["quick"]) == (False, True)
    assert all(item["date"] and item["machine"] for item in found.values())
