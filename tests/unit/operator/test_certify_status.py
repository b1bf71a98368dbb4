"""The status of an AccuracyReport: what it says for each way a run can stand, in words and sizes that the API takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polyfleet.api.accuracyreport import AccuracyReportStatus
from polyfleet.certify import status
from polyfleet.certify.status import Stored
from polyfleet.clearance.work import Entered

from accuracy.policy import Policy
from accuracy.report.model import Report, Side, Worst
from accuracy.types import Capabilities, Decision, Gate, GateResult, Mode, Reason, Suspect, Verdict

NOW, LATER = "2026-11-25T08:00:00Z", "2026-11-25T08:01:00Z"
POLICY = Policy(declared="bf16 -> w8a8")
TAIL = GateResult(Gate.TAIL, "", "rate", 260, 0.0, (0.0, 0.0176), 0.02, 118.2, 0.01, "Pass")
TOKENS = GateResult(Gate.TOKENS, "LongContext", "kl", 24, 1.31, (0.9, 1.8), 12.0, 212.0, 0.02, "Pass", "12 of 24")
PROMOTED = Decision(Verdict.PROMOTE, Reason.EQUIVALENT, "at most 2 % bad prompts", 260, (TOKENS, TAIL), 1.314159, 0.02, 0.99)


def report(decision: Decision = PROMOTED, **more: Any) -> Report:
    return Report(NOW, decision, POLICY, Side("reference"), Side("candidate"), mode=Mode.STEPWISE, **more)


def check(found: dict[str, Any]) -> AccuracyReportStatus:
    """The schema takes it, and the API server's own limit is far."""
    whole = {key: value for key, value in found.items() if value is not None}
    assert len(json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace")) < 60_000
    return AccuracyReportStatus.model_validate(whole)


def test_a_promotion_reads_as_the_design_shows_it() -> None:
    """Verdict, ratio, certified rate, gates with their numbers, capabilities and where the rest lies (interface, AccuracyReport)."""
    full = report(
        suspects=(Suspect("PrefixCache", 0.1, "hit ratio 1.2x, miss 1.0x"),),
        worst=(Worst("chat-017", 23, 0.4, "Hello"),),
        capabilities=(Capabilities(), Capabilities(top_k=5, token_ids_in=True, token_ids_out=True, engine="vllm", max_model_len=4096)),
    )
    where = Stored("r", "sha256:1", "r-record", "sha256:2", NOW)
    found = status.ended({}, PROMOTED, full, POLICY, "state", where, at=NOW, attempts=0)
    assert (found.verified, found.complete) == (
        ("True", "Equivalent", "at most 2 % bad prompts"),
        ("True", "VerdictReached", "260 prompts"),
    )
    body: dict[str, Any] = found.status
    check(body)
    assert (body["verdict"], body["declared"], body["mode"], body["prompts"], body["maxPrompts"]) == (
        "Promote", "bf16 -> w8a8", "Stepwise", 260, 600,
    )  # fmt: skip
    assert (body["noiseRatio"], body["certified"]) == ("1.314", {"badPromptRateUpper": "0.02", "confidence": "0.99"})
    assert body["gates"] == [
        {"name": "Tail", "statistic": "rate", "prompts": 260, "estimate": "0", "interval": ["0", "0.0176"], "boundary": "0.02",
         "evidencePromote": "118.2", "evidenceBlock": "0.01", "decision": "Pass"},
        {"name": "Tokens", "stratum": "LongContext", "statistic": "kl", "prompts": 24, "estimate": "1.31", "interval": ["0.9", "1.8"],
         "boundary": "12", "evidencePromote": "212", "evidenceBlock": "0.02", "decision": "Pass", "message": "12 of 24"},
    ]  # fmt: skip
    assert body["worst"] == [{"item": "chat-017", "position": 23, "kl": "0.4", "output": "Hello"}]
    assert body["suspects"] == [{"code": "PrefixCache", "weight": "0.1", "evidence": "hit ratio 1.2x, miss 1.0x"}]
    assert body["capabilities"] == {
        "promptLogprobs": "false", "tokenIds": "true", "tokenize": "false", "chat": "false", "completions": "false", "streaming": "false",
        "topK": "5", "maxModelLen": "4096", "engine": "vllm",
    }  # fmt: skip
    assert body["record"] == {"configMap": "r-record", "digest": "sha256:2", "made": NOW}
    assert (body["reportConfigMap"], body["reportDigest"], body["resumeState"], body["checkedAt"]) == ("r", "sha256:1", "state", NOW)


@pytest.mark.parametrize(
    ("verdict", "reason", "word", "over"),
    [
        (Verdict.PROMOTE, Reason.EQUIVALENT, "True", True),
        (Verdict.PROMOTE, Reason.SELF_REFERENCE, "True", True),
        (Verdict.BLOCK, Reason.HARD_FAULT, "False", True),
        (Verdict.BLOCK, Reason.CONTRACT_MISMATCH, "False", True),
        (Verdict.INCONCLUSIVE, Reason.INCONCLUSIVE, "Unknown", True),
        (Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING, "Unknown", False),
        (Verdict.INCONCLUSIVE, Reason.INPUTS_DIFFER, "Unknown", False),
        (Verdict.INCONCLUSIVE, Reason.NOISE_UNMEASURED, "Unknown", False),
        (Verdict.INCONCLUSIVE, Reason.CANDIDATE_UNAVAILABLE, "Unknown", False),
    ],
)
def test_each_verdict_has_its_condition_and_only_what_may_pass_is_tried_again(
    verdict: Verdict, reason: Reason, word: str, over: bool
) -> None:
    """True, False or Unknown with the reason's own word; used-up prompts wait for a person, a missing endpoint for the next attempt."""
    decision = Decision(verdict, reason, "why", 3)
    assert status.final(decision) is over
    again = "" if over else LATER
    found = status.ended({}, decision, report(decision), POLICY, "", Stored(), at=NOW, attempts=0 if over else 2, next_attempt=again)
    assert found.verified == (word, reason.value, "why")
    assert found.complete[:2] == (("True", "VerdictReached") if over else ("False", "Retrying"))
    assert (found.status["nextAttempt"], found.status["attempts"]) == ((None, None) if over else (LATER, 2))
    check(found.status)


def test_a_run_that_goes_on_has_no_verdict_and_keeps_what_is_stored_elsewhere() -> None:
    """The verdict and the pause of an earlier attempt are cleared; record, report and time of the last run stay."""
    stored = {"verdict": "Inconclusive", "nextAttempt": NOW, "reportConfigMap": "r", "record": {"configMap": "x"}, "resumeState": "old"}
    found = status.running(stored, Decision(None, Reason.RUNNING, "", 40, (TAIL,)), POLICY, "new", attempts=1, recheck=False)
    whole = status.status(stored, found, generation=3)
    assert "verdict" not in whole
    assert "nextAttempt" not in whole
    assert (whole["prompts"], whole["resumeState"], whole["attempts"], whole["observedGeneration"]) == (40, "new", 1, 3)
    assert (whole["reportConfigMap"], whole["record"]) == ("r", {"configMap": "x"})
    assert found.verified == ("Unknown", "Running", "40 of at most 600 prompts")
    assert found.complete == ("False", "Running", "40 of at most 600 prompts")
    check(whole)


def test_a_recheck_says_nothing_until_it_ends_and_a_failed_one_keeps_the_verdict() -> None:
    """What was promoted stays promoted while it is checked again, and when it cannot be checked."""
    conditions = [
        {"type": "AccuracyVerified", "status": "True", "reason": "Equivalent", "message": "fine"},
        {"type": "Complete", "status": "True", "reason": "VerdictReached", "message": "260 prompts"},
    ]
    stored = {"verdict": "Promote", "prompts": 260, "conditions": conditions, "checkedAt": NOW}
    going = status.running(stored, Decision(None, Reason.RUNNING, "", 10), POLICY, "x", attempts=0, recheck=True)
    assert status.status(stored, going) == {"verdict": "Promote", "prompts": 260, "checkedAt": NOW}
    assert going.verified == ("True", "Equivalent", "fine")
    lost = status.failed(stored, Reason.CANDIDATE_UNAVAILABLE, "no answer", attempts=1, next_attempt=LATER, recheck=True)
    assert lost.verified == ("True", "Equivalent", "fine")
    assert lost.complete == ("True", "VerdictReached", f"the re-check waits until {LATER}: no answer")
    assert status.status(stored, lost) == {"verdict": "Promote", "prompts": 260, "checkedAt": NOW, "attempts": 1, "nextAttempt": LATER}
    waited = {**stored, "attempts": 1, "nextAttempt": LATER}
    passed = status.again(waited, attempts=0, at=LATER)
    assert status.status(waited, passed) == {
        "verdict": "Promote",
        "prompts": 260,
        "checkedAt": LATER,
    }


def test_a_failed_attempt_promotes_nothing_and_keeps_the_evidence() -> None:
    stored = {"prompts": 40, "resumeState": "s", "verdict": "Inconclusive"}
    found = status.failed(stored, Reason.REFERENCE_MISSING, "no ConfigMap", attempts=1, next_attempt=LATER, recheck=False)
    assert found.verified == ("Unknown", "ReferenceMissing", "no ConfigMap")
    assert found.complete == ("False", "Retrying", f"next attempt at {LATER}: no ConfigMap")
    assert status.status(stored, found) == {"prompts": 40, "resumeState": "s", "attempts": 1, "nextAttempt": LATER}


def test_what_the_endpoint_cannot_do_is_not_claimed_where_it_was_not_asked() -> None:
    """No answer at all leaves the capabilities unknown; "false" would be a finding."""
    decision = Decision(Verdict.INCONCLUSIVE, Reason.CANDIDATE_UNAVAILABLE, "down", 0)
    silent = Report(NOW, decision, POLICY, Side("reference"), Side("candidate"))
    found = status.ended({}, decision, silent, POLICY, "", Stored(), at=NOW, attempts=1, next_attempt=LATER)
    assert found.status["capabilities"] is None


def test_a_state_that_is_too_long_is_not_stored_at_all() -> None:
    """Half of the evidence would be another state; the ConfigMap has the whole."""
    run = Decision(None, Reason.RUNNING, "", 1)
    for state, kept in (("x" * 8192, "x" * 8192), ("x" * 8193, None)):
        assert status.running({"resumeState": "old"}, run, POLICY, state, attempts=0, recheck=False).status["resumeState"] == kept


def test_entry_checks_are_merged_by_pod_and_failed_ones_are_kept_first() -> None:
    """A later check of a pod replaces its row; of too many rows those that passed are left out, and counted."""
    stored = [{"pod": f"p{n:03}", "containerId": "a" * 70, "result": "Passed", "at": NOW, "message": "y" * 250} for n in range(200)]
    rows, left_out = status.replicas(stored, [Entered("p150", "b", False, "node n7: 12 of 32 prompts differ", LATER)])
    assert {"pod": "p150", "containerId": "b", "result": "Failed", "at": LATER, "message": "node n7: 12 of 32 prompts differ"} in rows
    assert len(rows) + left_out == 200
    assert left_out > 0
    assert [row["pod"] for row in rows] == sorted(row["pod"] for row in rows)
    assert len(json.dumps(rows)) < 24_000
    assert status.replicas([], [Entered("p", "c", None, "", NOW)]) == (
        [{"pod": "p", "containerId": "c", "result": "Running", "at": NOW}],
        0,
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.314159265, "1.314159"), (0.0, "0"), (-1.0, "0"), (2.0, "2"), (1e300, "999999999999"), (1e-9, "0"), (None, None),
        (float("nan"), None),
    ],
)  # fmt: skip
def test_decimals_of_the_api_have_no_exponent_and_no_sign(value: float | None, text: str | None) -> None:
    assert status.number(value) == text


anything = st.text(max_size=40)
floats = st.floats() | st.none()
gates = st.builds(
    GateResult, st.sampled_from(Gate), anything, anything, st.integers(0, 10**9), floats, st.none() | st.tuples(st.floats(), st.floats()),
    st.floats(), st.floats(), st.floats(), st.sampled_from(["Pass", "Fail", "Open"]), anything,
)  # fmt: skip
many = st.lists(gates, max_size=3).map(tuple)
decisions = st.builds(
    Decision, st.sampled_from(Verdict), st.sampled_from(Reason), anything, st.integers(0, 10**9), many, floats, floats, floats
)


@settings(max_examples=60)
@given(decisions, st.lists(st.builds(Suspect, anything, st.floats(), anything), max_size=3), anything, st.integers(1, 100))
def test_whatever_a_run_says_the_status_is_small_and_fits_the_schema(
    decision: Decision, suspects: list[Suspect], text: str, times: int
) -> None:
    """Long texts, control characters, infinities, three hundred gates: always a status that the API server takes."""
    gates = tuple(replace(gate, message=gate.message * times, stratum=gate.stratum * times) for gate in decision.gates) * times
    decision = replace(decision, gates=gates, message=decision.message * times)
    worst = tuple(Worst(text * times, 1, float("inf"), text * times) for _ in range(20))
    told = report(decision, suspects=tuple(suspects) * times, worst=worst)
    found = status.ended({}, decision, told, POLICY, text * times, Stored(), at=NOW, attempts=1, next_attempt=LATER)
    checked = check(status.status({}, found))
    assert len(checked.gates) + (checked.gates_omitted or 0) == len(gates)
    assert len(found.verified[2]) <= 512
