"""One-model cases: the optimum against enumeration, other planners against it, polyfleet's answer equal to it; the report's arithmetic."""

from __future__ import annotations

from itertools import product

import pytest

from bench.placement import melange, onemodel, report, targets
from bench.placement.counter import shares
from bench.placement.suite import SECTIONS


def enumerated(case: onemodel.Case, most: int) -> float:
    """The least cost over all counts up to `most` per type, routing by the referee's linear program."""
    snapshot, demand = onemodel.snapshot_of(case)
    options = {o.id: o for o in snapshot.options}
    loads = {d.model: d.loads for d in demand.models}
    best = float("inf")
    for counts in product(range(most + 1), repeat=len(case.gpus)):
        cost = sum(n * c for n, c in zip(counts, case.costs, strict=True))
        mine = {f"m|{g}": n for g, n in zip(case.gpus, counts, strict=True) if n}
        if cost < best and mine and shares(options, loads, {"m": mine})["m"] >= 1 - 1e-9:
            best = cost
    return best


def small_cases() -> list[onemodel.Case]:
    return [c for c in onemodel.cases() if c.rate < 3 and len(c.gpus) == 3][:3]


@pytest.mark.parametrize("case", small_cases(), ids=lambda c: c.name)
def test_optimum_is_that_of_enumeration(case: onemodel.Case) -> None:
    """Every count up to 6 per type tried: the program's optimum is the least."""
    assert onemodel.optimum(case) == pytest.approx(enumerated(case, 6), rel=1e-9)


def test_cases_are_as_described() -> None:
    """150 cases in three groups of rate, 3 or 4 types, 4 x 3 buckets; the same for a seed."""
    cases = onemodel.cases()
    assert [sum(low <= c.rate < high for c in cases) for _, low, high in onemodel.GROUPS] == [55, 50, 45]
    assert {len(c.gpus) for c in cases} == {3, 4}
    assert {len(c.loads()) for c in cases} == {12}
    assert cases == onemodel.cases()
    assert cases != onemodel.cases(1)


def test_polyfleet_finds_the_optimum_and_melange_is_never_below() -> None:
    """Every 25th case: our cost is the optimum and covers; Mélange's slices can only cost more."""
    for case in onemodel.cases()[::25]:
        best = onemodel.optimum(case)
        cost, _, counts = onemodel.ours(case)
        assert cost == pytest.approx(best, rel=1e-6)
        assert onemodel.covers(case, counts)
        answer, _ = melange.solve(case, 1, 30.0)
        assert answer is not None
        assert onemodel.covers(case, answer)
        assert sum(answer[g] * c for g, c in zip(case.gpus, case.costs, strict=True)) >= best * (1 - 1e-9)


def test_melange_by_hand() -> None:
    """Two buckets of 1 req/s; A serves (2, 0), B serves (1, 1) at half the price: with one slice per bucket B must serve the second and
    has no room for the first, so one A and one B (1.5) or two B (1.0): two B win. With A at 0.4 one A and one B are cheaper: 0.9."""
    case = onemodel.Case("hand", (1, 2), (1,), ((1.0,), (1.0,)), ("A", "B"), (1.0, 0.5), (((2.0,), (0.0,)), ((1.0,), (1.0,))))
    assert melange.solve(case, 1, 30.0)[0] == {"A": 0, "B": 2}
    cheaper = onemodel.Case("hand", (1, 2), (1,), ((1.0,), (1.0,)), ("A", "B"), (0.4, 0.5), case.throughput)
    assert melange.solve(cheaper, 1, 30.0)[0] == {"A": 1, "B": 1}
    assert onemodel.optimum(cheaper) == pytest.approx(0.9)


def test_report_says_of_an_empty_file_that_nothing_was_measured() -> None:
    """Every target and every section stands on the page, with `not measured` where there is nothing."""
    text = report.page({})
    rows = targets.targets({}) + targets.bars({})
    assert all(r.met is None for r in rows)
    assert all(r.target in text for r in rows)
    assert {r.target[0] for r in targets.targets({})} == set("1234567")
    assert text.count("; not measured.") == len(SECTIONS)


def test_targets_tell_met_from_not_met() -> None:
    """A loop with a bind failure misses target 6; a fleet over its time misses its row and meets the others."""
    fleet = {"instance": "large_loose", "seed": 0, "cpu_seconds": 6.0, "pool_gap_percent": 0.05, "gap_percent": 0.4, "peak_mb": 500.0}
    fleet |= {"faults": [], "first_incumbent_seconds": 0.5, "unmet_percent": {"critical": 0.0}}
    step = {"mode": "drift", "instance": "small_loose", "t": None, "kappa": 1.0, "steps": 10_000, "bind_failures": 1, "over_allocated": 0}
    rows = {r.target: r for r in targets.targets({"fleets": {"lines": [fleet]}, "loops": {"lines": [step]}})}
    first = [r for t, r in rows.items() if t.startswith("1: 10,000 nodes × 500")]
    assert [r.met for r in first] == [False, True, True]
    assert "6.00 s" in first[0].figure
    loops = next(r for t, r in rows.items() if t.startswith("6: no bind failure"))
    assert loops.met is False
    assert loops.figure == "1 in 10000 steps, the longest run 10000"


def test_fewer_steps_than_asked_for_are_not_met() -> None:
    """Target 6 asks for 10,000 clean steps of both small fleets and 200 of both of 1,000 nodes: one step or one fleet less misses it."""
    asked = {"small_loose": 10_000, "small_scarce": 10_000, "mid_loose": 200, "mid_scarce": 200}

    def met(**steps: int) -> bool | None:
        lines = [
            {"mode": "drift", "instance": name, "t": None, "kappa": 1.0, "bind_failures": 0, "over_allocated": 0, "steps": count}
            for name, count in (asked | steps).items()
            if count
        ]
        rows = targets.targets({"loops": {"lines": lines}})
        return next(r.met for r in rows if r.target.startswith("6: no bind failure"))

    assert met() is True
    assert [met(**{name: count - 1}) for name, count in asked.items()] == [False] * 4
    assert met(small_scarce=0) is False
