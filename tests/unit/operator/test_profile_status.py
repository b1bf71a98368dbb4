"""What a HardwareProfile's status and its Events say of its data, and the two series about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet.metrics import Metrics
from polyfleet.state import CustomState, NodeState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle

NAME = "sandbox-nvidia"
ENTRY = b.profile(NAME).spec["throughput"][0]
H100 = "nvidia-h100-sxm"


def look(*profiles: CustomState, policy: dict[str, Any] | None = None, nodes: tuple[NodeState, ...] = ()) -> Done:
    return cycle(b.observed(profiles=profiles, nodes=nodes, policy=b.policy(policy) if policy is not None else None), now=b.NOW)


def calibrated(done: Done, name: str = NAME) -> tuple[str, str, str]:
    return b.condition(done.status("HardwareProfile", name), "Calibrated")


def measured(date: str) -> dict[str, Any]:
    return {**ENTRY, "evidence": "Measured", "date": date}


def test_only_measurements_age() -> None:
    """Today is 2026-11-25 and maxAge 720h, which are 30 days: the 26th of October is 30 days ago, the 25th is 31."""
    assert calibrated(look(b.profile(NAME, throughput=[measured("2026-10-26")])))[0] == "True"
    status, reason, message = calibrated(
        look(b.profile(NAME, throughput=[measured("2026-10-25"), {**measured("2026-10-24"), "inputTokens": 9}]))
    )
    assert (status, reason) == ("Unknown", "Stale")
    assert "2 measurements" in message
    assert "oldest of 2026-10-24" in message
    published = {**ENTRY, "evidence": "Published", "date": "2020-01"}
    assert calibrated(look(b.profile(NAME, throughput=[published])))[0] == "True"


def test_the_policys_age_counts_and_an_event_tells_it() -> None:
    """1000 hours are 41 days."""
    profile = b.profile(NAME, throughput=[measured("2026-10-20")])
    assert calibrated(look(profile, policy={"profiles": {"maxAge": "1000h"}}))[0] == "True"
    done = look(profile)
    (note,) = [note for note in done.report.events if note.reason == "ProfileStale"]
    assert (note.kind, note.name, note.message) == ("HardwareProfile", NAME, calibrated(done)[2])


def test_a_faulty_entry_is_named_listed_and_counted_but_not_planned_with() -> None:
    """Ten million tokens/s on two H100: the entry stays in the object and its counts, and is under `ignored`; the others are not."""
    spec = b.profile(H100).spec
    wrong = {**spec["throughput"][0], "inputTokens": 77, "outputTokensPerSecond": "10000000"}
    done = look(b.profile(H100, throughput=[*spec["throughput"], wrong]))
    index, status = len(spec["throughput"]), done.status("HardwareProfile", H100)
    word, reason, message = calibrated(done, H100)
    assert (word, reason) == ("False", "DataOutOfRange")
    assert message.startswith(f"spec.throughput[{index}].outputTokensPerSecond: ")
    assert "left out of planning" in message
    assert [text.partition(":")[0] for text in status["ignored"]] == [f"spec.throughput[{index}].outputTokensPerSecond"]
    assert sum(status["evidence"].values()) == index + 1
    assert len(done.inputs.fleet.profiles[H100].throughput) == index


def test_what_is_ignored_stays_within_the_schema() -> None:
    """40 faulty numbers: 32 lines, the last of which counts the rest."""
    peaks = {f"q{number}": "1" for number in range(16)}
    derate = {f"e{number}": {"inNode": "1.5", "wideMoE": "1.5", "crossNode": "1.5"} for number in range(8)}
    status = look(b.profile(H100, peakTflops=peaks, derate=derate, provenance=[])).status("HardwareProfile", H100)
    assert len(status["ignored"]) == 32
    assert status["ignored"][-1].endswith(" more")
    assert all(len(text) <= 1024 for text in status["ignored"])


def test_without_data_it_says_so() -> None:
    """No entries, but peak and bandwidth: estimates work, and NoData tells what is missing."""
    assert calibrated(look(b.profile(H100, throughput=[])), H100)[:2] == ("False", "NoData")


def test_a_device_of_which_no_profile_knows_the_name_is_told() -> None:
    """One note on the node with the vendor's own labels; a network card or a FUSE device is no accelerator."""
    labels = {"example.com/npu.product": "X1", "other/label": "1"}
    npu = b.node("npu-0", "example.com/npu", 8, labels)
    card = b.node("nic-0", "rdma/hca_shared", 4, {}, extra={"smarter-devices/fuse": 20})
    done = look(b.profile(NAME), nodes=(npu, card))
    (note,) = [note for note in done.report.events if note.reason == "NodeUnmatched"]
    assert (note.kind, note.name) == ("Node", "npu-0")
    assert "8 example.com/npu belong to no HardwareProfile" in note.message
    assert "example.com/npu.product=X1;" in note.message
    assert "other/label" not in note.message


def lines(metrics: Metrics, series: str) -> list[str]:
    return sorted(line for line in metrics.render().decode().splitlines() if line.startswith(series + "{"))


def test_entries_and_their_oldest_dates_are_series() -> None:
    """By evidence. 2026-10-01 begins 1790812800 s after 1970 (20,727 days); a month counts from its first day. A gone profile is gone."""
    metrics = Metrics(lambda: 0.0)
    done = look(b.profile(NAME, throughput=[measured("2026-10-25"), measured("2026-10-01"), {**ENTRY, "date": "2026-10"}]))
    metrics.reported(done.observed, done.report)
    entries, oldest = "polyfleet_profile_entries", "polyfleet_profile_oldest_timestamp_seconds"
    assert lines(metrics, entries) == [
        f'{entries}{{evidence="Estimated",profile="{NAME}"}} 1.0', f'{entries}{{evidence="Measured",profile="{NAME}"}} 2.0',
    ]  # fmt: skip
    assert lines(metrics, oldest) == [f'{oldest}{{evidence="{word}",profile="{NAME}"}} 1.7908128e+09' for word in ("Estimated", "Measured")]
    metrics.reported(replace(done.observed, profiles=()), done.report)
    assert lines(metrics, entries) == lines(metrics, oldest) == []
