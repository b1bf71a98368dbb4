"""The findings of one profile: each names the field, the value, what is allowed and the next step."""

from __future__ import annotations

from typing import Any

import pytest

from hwprofiles import HardwareProfileSpec, load_shipped, validate

TODAY = "2026-11-28"
BASE = load_shipped()["huawei-910c-752"].dump_set()
ENTRY = BASE["throughput"][0]
SOURCE = {"evidence": "Published", "source": "s", "date": "2026-11"}


def found(today: str | None = TODAY, **changes: Any) -> list[tuple[str, str, bool]]:
    """(reason, field, fatal) of the 910C with these changes."""
    spec = HardwareProfileSpec.parse({**BASE, **changes})
    findings = validate(spec, today=today)
    for finding in findings:
        assert finding.message, finding
        assert finding.value, finding
        assert finding.allowed, finding
        assert finding.next_step, finding
    return [(finding.reason, finding.field, finding.fatal) for finding in findings]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"allocation": {"sizes": [1, 3, 16], "alignTo": 2}, "throughput": []}, [("SizeMisaligned", "allocation.sizes", True)]),
        ({"allocation": {"sizes": [1, 32], "alignTo": 2}, "throughput": []}, [("SizeNotAllowed", "allocation.sizes", True)]),
        ({"throughput": [{**ENTRY, "precision": "fp8"}]}, [("PrecisionUnsupported", "throughput[0].precision", True)]),
        ({"throughput": [{**ENTRY, "parallelism": {"tensor": 3}}]}, [("SizeNotAllowed", "throughput[0].parallelism", True)]),
        ({"throughput": [{**ENTRY, "parallelism": {"tensor": 8, "span": 3}}]}, [("SizeNotAllowed", "throughput[0].parallelism", True)]),
        ({"throughput": [{**ENTRY, "date": "2026-12"}]}, [("DateInFuture", "throughput[0].date", False)]),
        ({"throughput": [{**ENTRY, "date": "2025-02-29"}]}, [("DateInvalid", "throughput[0].date", False)]),
        ({"throughput": [{**ENTRY, "evidence": "Measured"}]}, [("ProvenanceMissing", "throughput[0].date", False)]),
        ({"throughput": [{**ENTRY, "outputTokensPerSecond": "0"}]}, [("OutOfRange", "throughput[0].outputTokensPerSecond", False)]),
        ({"throughput": [ENTRY, ENTRY]}, [("DuplicateEntry", "throughput[0]", False), ("DuplicateEntry", "throughput[1]", False)]),
        ({"match": [{"labelPatterns": {"k": "("}}]}, [("PatternInvalid", "match[0].labelPatterns[k]", False)]),
        ({"efficiency": {"mfu": "1.5"}}, [("OutOfRange", "efficiency.mfu", False)]),
        ({"bandwidthTBps": "0.0"}, [("OutOfRange", "bandwidthTBps", False)]),
        ({"bandwidthTBps": None, "throughput": []}, [("AssumptionMissing", "bandwidthTBps", False)]),
        ({"provenance": [p for p in BASE["provenance"] if p["fields"] != ["cost"]]}, [("ProvenanceMissing", "cost.perDeviceHour", False)]),
    ],
)  # fmt: skip
def test_findings(changes: dict[str, Any], expected: list[tuple[str, str, bool]]) -> None:
    """One fault, its findings, nothing else; those that the API server refuses too are fatal."""
    assert found(**changes) == expected


def test_a_size_that_is_not_allowed_is_said_in_words() -> None:
    """One node is no nodes."""
    changes = [({"tensor": 3}, "3 devices over 1 node; allowed"), ({"tensor": 8, "span": 3}, "8 devices over 3 nodes; allowed")]
    for parallelism, said in changes:
        spec = HardwareProfileSpec.parse({**BASE, "throughput": [{**ENTRY, "parallelism": parallelism}]})
        assert any(said in finding.message for finding in validate(spec))


def test_dates_are_judged_only_against_a_given_day() -> None:
    """Without `today` the future is not known, but a day that no calendar has is still found."""
    assert found(today=None, throughput=[{**ENTRY, "date": "2999-01"}]) == []
    assert found(today="2026-07-31", throughput=[ENTRY])[0] == ("DateInFuture", "throughput[0].date", False)
    assert found(today=None, throughput=[{**ENTRY, "date": "2026-11-31"}]) == [("DateInvalid", "throughput[0].date", False)]


def test_a_month_has_begun_or_not() -> None:
    """A month counts from its first day; a day from itself."""
    assert found(today="2026-08-01", throughput=[ENTRY], provenance=[]) != []
    assert [f for f in found(today="2026-08-01", throughput=[{**ENTRY, "date": "2026-08"}]) if f[1].startswith("throughput")] == []
    assert [f for f in found(today="2026-08-01", throughput=[{**ENTRY, "date": "2026-08-02"}]) if f[1].startswith("throughput")] != []


def test_names_of_digits_are_no_numbers() -> None:
    """A label key or a scheduler that consists of digits claims no quantity and needs no source."""
    topology = {**BASE["topology"], "domainLabel": "123"}
    assert found(topology=topology) == []
    allocation = {**BASE["allocation"], "wholeNodeSchedulers": ["1"]}
    assert found(allocation=allocation) == []
