"""What planning leaves out of a set of profiles, and only that: one case per reason."""

from __future__ import annotations

from typing import Any

import pytest

from hwprofiles import HardwareProfileSpec, load_shipped
from hwprofiles.trust import Fault, trusted

TODAY = "2026-11-28"
SHIPPED = load_shipped()
NAME = "nvidia-h100-sxm"


def altered(name: str = NAME, **changes: Any) -> HardwareProfileSpec:
    return HardwareProfileSpec.parse({**SHIPPED[name].dump_set(), **changes})


def entry(**changes: Any) -> dict[str, Any]:
    """Qwen3-8B in BF16 on one H100: 4 requests of 1000 + 1000 tokens."""
    base = {
        "model": "Qwen/Qwen3-8B",
        "precision": "bf16",
        "engine": "vllm",
        "inputTokens": 1000,
        "outputTokens": 1000,
        "concurrency": 4,
        "outputTokensPerSecond": "400",
        "evidence": "Published",
        "source": "test",
        "date": "2026-11",
    }
    return {**base, **changes}


def judged(spec: HardwareProfileSpec, name: str = NAME) -> tuple[HardwareProfileSpec, list[Fault]]:
    result = trusted({name: spec}, today=TODAY)
    return result.specs[name], list(result.faults)


def of_entries(*entries: dict[str, Any]) -> tuple[list[str], list[tuple[str, str, bool]]]:
    """Rates that stay, and (field, reason, ignored) of the faults."""
    spec, faults = judged(altered(throughput=list(entries)))
    return [item.output_tokens_per_second or "" for item in spec.throughput], [(f.field, f.reason, f.ignored) for f in faults]


def test_shipped_profiles_are_beyond_doubt() -> None:
    """No fault in any of them, in any combination with the others, and the same objects come back."""
    result = trusted(SHIPPED, today=TODAY)
    assert result.faults == ()
    assert all(result.specs[name] is SHIPPED[name] for name in SHIPPED)


# Qwen3-8B on an H100 (3.35 TB/s, 989 TFLOPS), four requests of 1000 + 1000 tokens. Weights 16.38 GB in BF16, cache of 36 layers x 2 x
# 8 heads x 128 x 1 byte (the smallest in use) x 4 x 1500 tokens = 0.44 GB: 16.82 GB / 3.35 TB/s = 5.02 ms per step. The prompts take
# 2 x 8.19e9 x 1000 / 989e12 = 16.6 ms each, 4 x 16.6 / 1000 = 0.07 ms per step. 4 / 5.09 ms = 786 tokens/s are possible, 79 are a tenth.
@pytest.mark.parametrize(
    ("rate", "faulty"), [("400", False), ("780", False), ("792", True), ("8000", True), ("82", False), ("76", True), ("0.5", True)]
)
def test_roofline_by_hand(rate: str, faulty: bool) -> None:
    """A rate outside 0.1 to 1.0 of what peak and bandwidth allow is left out and named; one inside stays."""
    stay, faults = of_entries(entry(outputTokensPerSecond=rate))
    assert (stay == []) is faulty
    assert faults == ([("throughput[0].outputTokensPerSecond", "RooflineBroken", True)] if faulty else [])


def test_roofline_of_speculative_decoding() -> None:
    """Two tokens per step double the bound: 900 is possible with acceptedLength 2, 2000 is not."""
    assert of_entries(entry(outputTokensPerSecond="900", acceptedLength="2"))[1] == []
    assert of_entries(entry(outputTokensPerSecond="2000", acceptedLength="2"))[1][0][1] == "RooflineBroken"


def test_total_tokens_taken_for_output_tokens_are_caught() -> None:
    """The usual mistake: input and output together. 14764 total tokens/s of the shipped 2000 + 100 entry are 21 times too many."""
    index = next(i for i, item in enumerate(SHIPPED[NAME].throughput) if item.output_tokens_per_second == "703.06")
    raw = SHIPPED[NAME].throughput[index].dump_set()
    assert of_entries({**raw, "outputTokensPerSecond": "703.06"})[1] == []
    assert of_entries({**raw, "outputTokensPerSecond": "14764.26"})[1][0][1] == "RooflineBroken"


def test_no_judgement_without_knowledge() -> None:
    """An unknown model, no lengths, no bandwidth or an assumed one: a rate that would be absurd elsewhere stands."""
    absurd = "999999"
    assert of_entries(entry(model="acme/unheard-of", outputTokensPerSecond=absurd))[1] == []
    unknown = {key: value for key, value in entry(outputTokensPerSecond=absurd).items() if key != "inputTokens"}
    assert of_entries(unknown)[1] == []
    raw = {key: value for key, value in SHIPPED[NAME].dump_set().items() if key != "bandwidthTBps"}
    provenance = [{"fields": ["assume"], "evidence": "Estimated", "source": "s", "date": "2026-11"}, *raw["provenance"]]
    changed = {**raw, "assume": {"bandwidthTBps": "0.001"}, "provenance": provenance, "throughput": [entry(outputTokensPerSecond="400")]}
    assert judged(HardwareProfileSpec.parse(changed))[1] == []


def test_a_measured_entry_stays_and_is_flagged() -> None:
    """What this installation measured is not thrown away by a formula; only a rate of 0 is, because it says nothing."""
    measured = entry(evidence="Measured", date="2026-11-27", outputTokensPerSecond="900")
    assert of_entries(measured) == (["900"], [("throughput[0].outputTokensPerSecond", "RooflineBroken", False)])
    month = entry(evidence="Measured", date="2026-11")
    assert of_entries(month) == (["400"], [("throughput[0].date", "ProvenanceMissing", False)])
    nothing = entry(evidence="Measured", date="2026-11-27", outputTokensPerSecond="0.000")
    assert of_entries(nothing) == ([], [("throughput[0].outputTokensPerSecond", "OutOfRange", True)])


def test_only_the_faulty_entry_goes() -> None:
    """One bad entry between two good ones: they stay, in their order."""
    stay, faults = of_entries(
        entry(), entry(outputTokensPerSecond="9000", concurrency=5), entry(concurrency=6, outputTokensPerSecond="500")
    )
    assert stay == ["400", "500"]
    assert [field for field, _, _ in faults] == ["throughput[1].outputTokensPerSecond"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"date": "2026-12"}, "DateInFuture"),
        ({"date": "2026-11-29"}, "DateInFuture"),
        ({"date": "2062-11-28"}, "DateInFuture"),
        ({"date": "2026-02-30"}, "DateInvalid"),
        ({"source": " "}, "ProvenanceMissing"),
        ({"precision": "int3"}, "PrecisionUnsupported"),
        ({"parallelism": {"tensor": 3}}, "SizeNotAllowed"),
        ({"validFor": {"concurrency": {"min": 8, "max": 4}}}, "OutOfRange"),
    ],
)
def test_faulty_entries_by_reason(change: dict[str, Any], reason: str) -> None:
    """Each fault of an entry has its reason, leaves the entry out, and its message says what is allowed."""
    dtypes = {**(SHIPPED[NAME].dtypes or {}), "int3": "Unsupported"}
    spec, faults = judged(altered(dtypes=dtypes, throughput=[entry(**change)]))
    assert spec.throughput == ()
    assert [fault.reason for fault in faults] == [reason]
    assert "allowed" in faults[0].message or "name whose figure" in faults[0].message


@pytest.mark.parametrize("date", ["2026-11", "2026-11-28", "2025-12", "1999-01-01"])
def test_dates_up_to_today_stand(date: str) -> None:
    """Today, this month and everything before; a timestamp in place of the day does too."""
    spec = altered(throughput=[entry(date=date)])
    assert trusted({NAME: spec}, today="2026-11-28T23:59:59Z").faults == ()


def test_of_two_equal_entries_the_newest_stays() -> None:
    """One key and one evidence: the newest, of one day the slowest, whatever their order. Another evidence is another entry."""
    old, new = entry(date="2026-10", outputTokensPerSecond="500"), entry(date="2026-11", outputTokensPerSecond="400")
    assert of_entries(old, new) == (["400"], [("throughput[0]", "DuplicateEntry", True)])
    assert of_entries(new, old) == (["400"], [("throughput[1]", "DuplicateEntry", True)])
    assert of_entries(entry(outputTokensPerSecond="500"), entry(outputTokensPerSecond="450"))[0] == ["450"]
    assert of_entries(entry(), entry())[0] == ["400"]
    assert of_entries(entry(), entry(evidence="Measured", date="2026-11-27"))[1] == []
    assert of_entries(entry(), entry(concurrency=5))[1] == []


def test_numbers_without_provenance_are_left_out_where_absence_is_legal() -> None:
    """Without any source: peaks, bandwidth, efficiency and links go; unit, sizes, price and the factors that lower an estimate are flagged
    and used."""
    spec, faults = judged(altered(provenance=[], throughput=[]))
    assert (spec.peak_tflops, spec.bandwidth_tbps) == (None, None)
    assert spec.efficiency is not None
    assert spec.efficiency.dump() == {}
    assert spec.topology is not None
    assert spec.topology.dump() == {"domainLabel": "nvidia.com/gpu.clique"}
    assert spec.derate == SHIPPED[NAME].derate
    assert spec.unit == SHIPPED[NAME].unit
    assert spec.cost == SHIPPED[NAME].cost
    used = {fault.field for fault in faults if not fault.ignored and fault.reason == "ProvenanceMissing"}
    factors = {f"derate.{engine}.{kind}" for engine in ("vllm", "sglang") for kind in ("inNode", "pdWideEP", "wideMoE", "crossNode")}
    assert used == {"unit.memory", "unit.perNode", "unit.usableFraction", "allocation.sizes", "cost.perDeviceHour", *factors}


@pytest.mark.parametrize(("factor", "stays"), [("0.5", True), ("1.0", True), ("1.2", False), ("0", False)])
def test_a_doubted_factor_never_makes_an_estimate_better(factor: str, stays: bool) -> None:
    """Without provenance a derate in (0, 1] is kept; one that would raise the estimate, and a 0, are left out."""
    raw = SHIPPED[NAME].dump_set()
    sources = [{**item, "fields": [field for field in item["fields"] if field != "derate"]} for item in raw["provenance"]]
    spec, faults = judged(altered(derate={"vllm": {"inNode": factor}}, provenance=sources))
    assert spec.derate is not None
    assert (spec.derate["vllm"].in_node == factor) is stays
    found = [fault.ignored for fault in faults if fault.field == "derate.vllm.inNode"]
    assert found
    assert any(found) is not stays


def test_a_source_from_the_future_is_no_source() -> None:
    """The provenance entry is named, and what it covers counts as without provenance."""
    raw = SHIPPED[NAME].dump_set()
    later = [{**item, "date": "2027-01"} if "bandwidthTBps" in item["fields"] else item for item in raw["provenance"]]
    spec, faults = judged(altered(provenance=later))
    assert spec.bandwidth_tbps is None
    assert ("DateInFuture", True) in {(fault.reason, fault.ignored) for fault in faults if fault.field.startswith("provenance[")}
    assert ("bandwidthTBps", "ProvenanceMissing") in {(fault.field, fault.reason) for fault in faults}
    assert len(spec.throughput) == len(SHIPPED[NAME].throughput)


def test_impossible_numbers_are_left_out() -> None:
    """Shares above 1 and zeros in place of unknowns: left out, so that nothing divides by zero or overfills a device."""
    unit = {**SHIPPED[NAME].unit.dump_set(), "usableFraction": "1.2"}
    spec, faults = judged(altered(unit=unit, efficiency={"mfu": "50", "mbu": "0.7"}, bandwidthTBps="0", throughput=[]))
    assert spec.unit.usable_fraction is None
    assert spec.efficiency is not None
    assert (spec.efficiency.mfu, spec.efficiency.mbu, spec.bandwidth_tbps) == (None, "0.7", None)
    assert {fault.field for fault in faults if fault.reason == "OutOfRange" and fault.ignored} == {
        "unit.usableFraction",
        "efficiency.mfu",
        "bandwidthTBps",
    }


@pytest.mark.parametrize(
    ("path", "value", "question"),
    [
        ("bandwidthTBps", "3350", "is this GB/s?"),
        ("peakTflops.bf16", "989000", "is this GFLOPS?"),
        ("topology.nodeLinkGBps", "450000", "is this MB/s?"),
        ("unit.memory", "80000Gi", "is this MiB, or the memory of a node?"),
        ("cost.perDeviceHour", "30000", "is this the price of the device?"),
    ],
)
def test_a_slip_of_a_unit_is_not_believed(path: str, value: str, question: str) -> None:
    """A thousand times too much: the number is named with the unit that may have been meant, and no entry is blamed for it. What has to
    be there (memory, price) is used all the same."""
    raw = SHIPPED[NAME].dump_set()
    block, _, name = path.partition(".")
    spec, faults = judged(altered(**{block: {**raw[block], name: value} if name else value}))
    (fault,) = faults
    assert (fault.field, fault.reason, fault.ignored) == (path, "OutOfRange", block not in ("unit", "cost"))
    assert value in fault.message
    assert fault.message.endswith(question)
    assert len(spec.throughput) == len(SHIPPED[NAME].throughput)
    left = spec.dump().get(block, {})
    assert (left.get(name) == value if name else left == value) is not fault.ignored


def test_plausible_extremes_are_believed() -> None:
    """A wafer-scale price or an exotic peak is no slip: just below each ceiling nothing is said."""
    raw = SHIPPED[NAME].dump_set()
    spec = altered(
        unit={**raw["unit"], "memory": "2Ti"}, peakTflops={"bf16": "50000"}, bandwidthTBps="50", topology={"nodeLinkGBps": "10000"},
        cost={"perDeviceHour": "10000"}, throughput=[],
    )  # fmt: skip
    assert [fault for fault in judged(spec)[1] if fault.reason == "OutOfRange"] == []


def test_several_broken_entries_point_at_the_silicon() -> None:
    """A bandwidth that is ten times too low (a slip that no ceiling finds) puts many entries above their bound at once: each message says
    that the silicon may be wrong. One broken entry alone says nothing of it."""
    faults = [f for f in judged(altered(bandwidthTBps="0.335"))[1] if f.reason == "RooflineBroken"]
    assert len(faults) > 1
    assert all(f"{len(faults)} entries of this profile break it: a number of the silicon may be wrong" in f.message for f in faults)
    (alone,) = judged(altered(throughput=[entry(), entry(outputTokensPerSecond="9000", concurrency=5)]))[1]
    assert "silicon" not in alone.message


def test_remembered_results_follow_edits() -> None:
    """An edited profile is another object and is judged anew; the day counts too; unedited ones keep their identity."""
    good, bad = altered(throughput=[entry()]), altered(throughput=[entry(outputTokensPerSecond="9000")])
    assert trusted({NAME: good}, today=TODAY).faults == ()
    assert len(trusted({NAME: bad}, today=TODAY).faults) == 1
    first, second = trusted({NAME: bad}, today=TODAY), trusted({NAME: bad}, today=TODAY)
    assert first.specs[NAME] is second.specs[NAME]
    assert [fault.reason for fault in trusted({NAME: good}, today="2026-10-31").faults if fault.field == "throughput[0].date"] == [
        "DateInFuture"
    ]


def test_faults_come_in_the_order_of_the_entries() -> None:
    """Entry 2 before entry 10, where texts would sort the other way round."""
    entries = [
        entry(model="acme/unheard-of", concurrency=number + 1, date="2199-01" if number in (2, 10) else "2026-10") for number in range(11)
    ]
    assert [field for field, _, _ in of_entries(*entries)[1]] == ["throughput[2].date", "throughput[10].date"]
