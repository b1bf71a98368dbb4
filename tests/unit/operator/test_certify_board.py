"""What the checks found, between the moment it was found and the moment the stored report says it; pauses and replicas of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polyfleet.certify import endpoints
from polyfleet.certify.board import Board
from polyfleet.clearance.work import Certify, Entered, Finding, Replica
from polyfleet.state import ContainerState, CustomState, PodState

from accuracy.policy import Formats, Settings
from accuracy.types import Fingerprint
from tests.unit.operator import builders as b

KEY = "llm/r"
EQUIVALENT = ("True", "Equivalent", "fine")
REACHED = ("True", "VerdictReached", "260 prompts")
PROMOTED = Finding({"verdict": "Promote", "prompts": 260, "nextAttempt": None}, EQUIVALENT, REACHED)


def report(status: dict[str, Any] | None = None, uid: str = "u1") -> CustomState:
    return b.custom("AccuracyReport", "r", {}, namespace="llm", status=status or {}, uid=uid)


def pod(name: str, container: str) -> PodState:
    return replace(b.pod(name, namespace="llm"), containers=(ContainerState("engine", container, True, 0, "running"),))


def conditions(verified: tuple[str, str, str], complete: tuple[str, str, str]) -> list[dict[str, str]]:
    rows = (("AccuracyVerified", verified), ("Complete", complete))
    return [{"type": kind, "status": words[0], "reason": words[1], "message": words[2]} for kind, words in rows]


def test_a_finding_stays_until_the_stored_report_says_all_of_it() -> None:
    """Not stored, stored in part, stored with another condition: it stays, as the same object. Stored whole: it goes."""
    board = Board()
    board.post(KEY, "u1", PROMOTED)
    part = {"verdict": "Promote", "conditions": conditions(EQUIVALENT, REACHED)}
    early = {**part, "prompts": 260, "conditions": conditions(("Unknown", "Running", ""), REACHED)}
    for status in ({}, part, early):
        board.prune([report(status)], [])
        assert board.findings()[KEY] == PROMOTED
        assert board.findings() is board.findings()
    whole = {**part, "prompts": 260, "replicas": [{"pod": "p"}], "observedGeneration": 4}
    board.prune([report(whole)], [])
    assert board.findings() == {}


def test_progress_that_only_words_tell_is_told() -> None:
    """A capture changes no number of a report: "8 of 80 items" stood there until the capture was over."""
    running, counted = ("Unknown", "Running", "capturing the reference: 8 of 80 items"), ("False", "Running", "0 of at most 100 prompts")
    stored = report({"prompts": 0, "conditions": conditions(running, counted)})
    board = Board()
    later = Finding({"prompts": 0}, ("Unknown", "Running", "capturing the reference: 16 of 80 items"), counted)
    board.post(KEY, "u1", later)
    board.prune([stored], [])
    assert board.findings()[KEY] == later
    board.post(KEY, "u1", Finding({"prompts": 0}, running, counted))
    board.prune([stored], [])
    assert board.findings() == {}


def test_a_report_that_was_made_again_under_its_name_is_another_report() -> None:
    """Somebody deleted the report to have the pair judged anew: the first one's promotion does not count for the second."""
    board = Board()
    board.post(KEY, "u1", PROMOTED)
    board.prune([report(uid="u2")], [])
    assert board.findings() == {}
    board.post(KEY, "u1", PROMOTED)
    board.prune([], [])
    assert board.findings() == {}


def test_an_entry_check_is_told_until_it_is_stored_or_its_container_is_gone() -> None:
    """A restarted container is another one: what its predecessor passed says nothing of it."""
    passed, failed = Entered("p", "c1", True, "fine", b.NOW), Entered("q", "c2", False, "node n", b.NOW)
    board = Board()
    board.enter(KEY, failed)
    board.enter(KEY, passed)
    board.prune([report()], [pod("p", "c1"), pod("q", "c2")])
    assert board.findings()[KEY].entered == (passed, failed)
    stored = {"replicas": [{"pod": "p", "containerId": "c1", "result": "Running"}, {"pod": "q", "containerId": "c2", "result": "Failed"}]}
    board.prune([report(stored)], [pod("p", "c1"), pod("q", "c2")])
    assert board.findings()[KEY].entered == (passed,)
    board.prune([report(stored)], [pod("p", "c9"), pod("q", "c2")])
    assert board.findings() == {}


def test_an_entry_check_alone_does_not_change_what_the_report_says() -> None:
    """The finding of a promoted pair's new replica repeats the stored conditions and has no status of its own."""
    board = Board()
    board.enter(KEY, Entered("p", "c1", None, "the entry check runs", b.NOW))
    board.prune([report({"verdict": "Promote", "conditions": conditions(EQUIVALENT, REACHED)})], [pod("p", "c1")])
    found = board.findings()[KEY]
    assert (found.status, found.verified, found.complete) == ({}, EQUIVALENT, REACHED)


# ---- pauses


def test_pauses_double_from_half_a_minute_to_ten() -> None:
    assert [endpoints.pause(n) for n in (0, 1, 2, 3, 4, 5, 6, 7, 1000)] == [30, 30, 60, 120, 240, 480, 600, 600, 600]


@given(st.integers(0, 10**6))
def test_no_run_of_attempts_is_denser_than_its_pauses(attempts: int) -> None:
    assert 30 <= endpoints.pause(attempts) <= endpoints.pause(attempts + 1) <= 600


@pytest.mark.parametrize(
    ("now", "until", "left"),
    [
        ("2026-11-25T08:00:00Z", "2026-11-25T08:02:00Z", 120),
        ("2026-11-25T08:00:00Z", "2026-11-25T10:02:00+02:00", 120),
        ("2026-11-25T08:00:00Z", "2026-11-25T07:59:00Z", 0),
        ("2026-11-25T08:00:00Z", "2031-01-01T00:00:00Z", 600),  # the clock jumped: never more than the longest pause
        ("2026-11-25T08:00:00Z", "", 0),
        ("2026-11-25T08:00:00Z", "tomorrow", 0),
        ("2026-11-25T08:00:00Z", "2026-11-25", 0),
    ],
)
def test_what_is_left_of_a_pause_after_a_restart(now: str, until: str, left: float) -> None:
    assert endpoints.remaining(now, until) == left


def test_the_next_attempt_is_written_as_the_api_writes_times() -> None:
    assert endpoints.later("2026-11-25T23:59:30Z", 60) == "2026-11-26T00:00:30Z"
    assert endpoints.later("2026-11-25T10:00:00+02:00", 0) == "2026-11-25T08:00:00Z"


# ---- what a run may go on with

A, B, C = (Replica(name, f"u-{name}", f"c-{name}", f"http://10.0.0.{n}:8000", "n") for n, name in enumerate("abc"))
ITEM = Certify(
    "llm",
    "r",
    "u1",
    "llm/m",
    "um",
    "m",
    "p",
    "v",
    "vllm",
    "ref",
    Fingerprint(),
    Settings(),
    (),
    Formats(),
    Formats(),
    (),
    ("Text",),
    (A, B),
)


@pytest.mark.parametrize(
    ("wanted", "goes_on"),
    [
        (replace(ITEM, resume="s", attempt=3), True),  # what the run itself told
        (replace(ITEM, replicas=(A, B, C)), True),  # one more is no reason to begin again
        (replace(ITEM, replicas=(A,)), False),
        (replace(ITEM, replicas=(A, replace(B, container="c-2"))), False),  # it restarted
        (replace(ITEM, replicas=(A, replace(B, url="http://10.0.0.9:8000"))), False),
        (replace(ITEM, fingerprint=Fingerprint(driver="2")), False),
        (replace(ITEM, settings=Settings(level="Quick")), False),
        (replace(ITEM, recheck=True), False),
    ],
)
def test_a_run_goes_on_while_what_it_asks_is_there(wanted: Certify, goes_on: bool) -> None:
    assert endpoints.goes_on(ITEM, wanted) is goes_on


def test_a_run_with_a_live_reference_ends_with_it() -> None:
    """Only the replica that is asked counts: the first."""
    running = replace(ITEM, reference=(C,))
    assert endpoints.goes_on(running, replace(ITEM, reference=(A, C)))
    assert not endpoints.goes_on(running, ITEM)
