"""Laying entries over those of a profile: what stays, what is replaced, what the change is called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polyfleet.profiledata.merge import MOST_ENTRIES, merge_entries, merge_price

from hwprofiles.model import Throughput
from hwprofiles.schema import SchemaError


def row(**change: Any) -> dict[str, Any]:
    body = {
        "model": "Qwen/Qwen3-32B", "precision": "w8a8", "engine": "vllm", "engineVersion": "0.23.0", "parallelism": {"tensor": 4},
        "inputTokens": 3500, "outputTokens": 1500, "concurrency": 76, "outputTokensPerSecond": "1249", "evidence": "Published",
        "source": "somebody", "date": "2026-08",
    }  # fmt: skip
    return {key: value for key, value in {**body, **change}.items() if value is not None}


def entry(**change: Any) -> Throughput:
    return Throughput.parse(row(**change))


def test_an_entry_of_another_load_is_added_at_the_end() -> None:
    spec, changes = merge_entries({"vendor": "x", "throughput": [row()]}, [entry(concurrency=32, outputTokensPerSecond="700")])
    assert [item["concurrency"] for item in spec["throughput"]] == [76, 32]
    assert spec["vendor"] == "x"
    assert changes == ["adds Qwen/Qwen3-32B w8a8 on vllm 0.23.0, tensor 4, 3500 in, 1500 out, 32 at once: 700 tok/s, Published 2026-08"]


def test_the_same_load_and_evidence_is_replaced_in_its_place() -> None:
    spec, changes = merge_entries({"throughput": [row(), row(concurrency=8)]}, [entry(outputTokensPerSecond="1310", date="2026-11-24")])
    assert [item["outputTokensPerSecond"] for item in spec["throughput"]] == ["1310", "1249"]
    assert len(changes) == 1
    assert changes[0].startswith("replaces throughput[0] (date 2026-08 -> 2026-11-24, outputTokensPerSecond 1249 -> 1310)")


def test_a_measurement_stands_beside_the_published_figure() -> None:
    """Deleting it brings the other back; the order of trust decides between them."""
    spec, _ = merge_entries({"throughput": [row()]}, [entry(evidence="Measured", date="2026-11-24")])
    assert [item["evidence"] for item in spec["throughput"]] == ["Published", "Measured"]


def test_defaults_of_the_layout_do_not_make_another_key() -> None:
    spec, _ = merge_entries({"throughput": [row(parallelism={"tensor": 4, "pipeline": 1, "data": 1, "span": 1})]}, [entry(date="2026-09")])
    assert [item["date"] for item in spec["throughput"]] == ["2026-09"]


def test_what_the_api_server_filled_in_is_no_change() -> None:
    stored = row(parallelism={"tensor": 4, "pipeline": 1, "data": 1, "span": 1}, confidence="Low")
    assert merge_entries({"throughput": [stored]}, [entry()]) == ({"throughput": [stored]}, [])


def test_a_rate_never_replaces_a_footprint() -> None:
    only = row(outputTokensPerSecond=None, footprint="70Gi")
    spec, _ = merge_entries({"throughput": [only]}, [entry()])
    assert spec["throughput"] == [only, row()]


def test_an_entry_of_a_later_version_stays_as_it_is() -> None:
    strange = {"model": "m", "parallelism": {"hyper": 3}, "newField": {"a": 1}}
    spec, _ = merge_entries({"throughput": [strange, "odd"]}, [entry()])
    assert spec["throughput"][:2] == [strange, "odd"]


def test_two_new_entries_of_one_load_are_refused() -> None:
    with pytest.raises(SchemaError, match="two of the new entries"):
        merge_entries({}, [entry(), entry(outputTokensPerSecond="1")])


def test_the_list_stays_within_what_the_schema_allows() -> None:
    full = [row(concurrency=index + 1) for index in range(MOST_ENTRIES)]
    merge_entries({"throughput": full}, [entry(concurrency=5, date="2026-09")])
    with pytest.raises(SchemaError, match="129 entries, at most 128"):
        merge_entries({"throughput": full}, [entry(concurrency=1000)])


ROWS = st.builds(
    row, concurrency=st.integers(1, 4), evidence=st.sampled_from(["Published", "Measured"]), date=st.sampled_from(["2026-08", "2026-09"])
)


@settings(max_examples=100, deadline=None)
@given(old=st.lists(ROWS, max_size=4), new=st.lists(ROWS, max_size=4, unique_by=lambda item: (item["concurrency"], item["evidence"])))
def test_merging_is_idempotent_loses_nothing_and_leaves_its_input_alone(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    before = {"throughput": old}
    kept = copy.deepcopy(before)
    entries = [Throughput.parse(item) for item in new]
    spec, _ = merge_entries(before, entries)
    assert before == kept
    assert merge_entries(spec, entries) == (spec, [])
    assert all(item in spec["throughput"] for item in new)
    assert len(spec["throughput"]) >= len(old)


def test_a_price_brings_its_origin_and_takes_the_old_one_away() -> None:
    """`cost` leaves the entry that it shared; one that only covered it goes."""
    old = [
        {"fields": ["unit", "cost"], "evidence": "Published", "source": "a", "date": "2026-01"},
        {"fields": ["cost.perDeviceHour"], "source": "b"},
    ]
    origin = {"fields": ["cost"], "evidence": "Published", "confidence": "Low", "source": "WVA", "date": "2026-11-20"}
    spec, changes = merge_price({"cost": {"perDeviceHour": "2.20", "currency": "EUR"}, "provenance": old}, "2.8", "EUR", origin)
    assert spec["cost"] == {"perDeviceHour": "2.8", "currency": "EUR"}
    assert spec["provenance"] == [{**old[0], "fields": ["unit"]}, origin]
    assert changes == ["cost.perDeviceHour 2.20 EUR -> 2.8 EUR, Published 2026-11-20"]
    assert merge_price(spec, "2.8", "EUR", origin)[1] == []
