"""The status of an AccuracyReport out of what a run said. Pure.

A status stays below 64 KiB whatever comes in: lists and texts are cut, and how much was left out is told (`gatesOmitted`,
`replicasOmitted`). Keys that are to go are None, so that a status laid over an older one clears them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from accuracy.policy import Policy
from accuracy.report.model import Report
from accuracy.types import Capabilities, Decision, GateResult, Mode, Reason, Verdict
from polyfleet.certify.board import RESULTS
from polyfleet.clearance.work import Entered, Finding

MOST_STATE = 8192  # characters of `resumeState`
MOST_BYTES = 40 << 10  # of everything but replicas and conditions, as JSON
MOST_REPLICA_BYTES = 20 << 10
MOST_GATES, MOST_REPLICAS, MOST_WORST, MOST_SUSPECTS = 128, 256, 10, 16
MESSAGE, SHORT, LONGEST_OUTPUT = 512, 253, 400
_CODE = re.compile(r"[^A-Za-z0-9_.=/+-]")
_ORDER = {"Fail": 0, "Open": 1, "Pass": 2}

Words = tuple[str, str, str]  # status, reason, message of a condition


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the parts that do not fit into a status lie."""

    report: str = ""  # ConfigMap
    report_digest: str = ""
    record: str = ""
    record_digest: str = ""
    record_made: str = ""


def running(stored: Mapping[str, Any], decision: Decision, policy: Policy, state: str, *, attempts: int, recheck: bool) -> Finding:
    """A run goes on. A re-check says nothing before it ends: what it checks holds until then."""
    if recheck:
        return again(stored)
    message = f"{decision.prompts} of at most {policy.max_prompts} prompts"
    status = {
        **_numbers(decision, policy),
        **_kept(stored),
        "verdict": None,
        "resumeState": _state(state, stored),
        "attempts": attempts or None,
        "nextAttempt": None,
    }
    return Finding(_fit(status), ("Unknown", Reason.RUNNING, shorten(decision.message or message)), ("False", "Running", message))


def again(stored: Mapping[str, Any], *, attempts: int | None = None, next_attempt: str = "", message: str = "", at: str = "") -> Finding:
    """The stored report with its verdict, unchanged but for when it was or will be checked again."""
    status: dict[str, Any] = {key: value for key, value in stored.items() if key not in ("conditions", "replicas", "observedGeneration")}
    if attempts is not None:
        status |= {"attempts": attempts or None, "nextAttempt": next_attempt or None}
    if at:
        status["checkedAt"] = at
    words = {str(row.get("type")): row for row in stored.get("conditions") or ()}
    verified, complete = (_words(words.get(kind, {})) for kind in ("AccuracyVerified", "Complete"))
    if message and complete[0] == "True":
        complete = (complete[0], complete[1], shorten(message))
    return Finding(status, verified, complete)


def ended(
    stored: Mapping[str, Any],
    decision: Decision,
    report: Report | None,
    policy: Policy,
    state: str,
    where: Stored,
    *,
    at: str,
    attempts: int,
    next_attempt: str = "",
) -> Finding:
    """A run ended. `next_attempt` (RFC 3339): it will be tried again then, so nothing is complete; "" = this is the verdict."""
    if decision.verdict is None:
        raise ValueError("a run that ended without a verdict")
    retried = bool(next_attempt)
    capabilities = report.capabilities[1] if report is not None else Capabilities()
    mode = report.mode if report is not None else None
    status: dict[str, Any] = {
        **_numbers(decision, policy),
        **({} if report is None else _told(report)),
        **_kept(stored),
        "verdict": str(decision.verdict),
        "mode": str(mode) if mode is not None else None,
        "capabilities": _capabilities(capabilities, mode),
        "resumeState": _state(state, stored),
        "attempts": attempts or None,
        "nextAttempt": next_attempt or None,
        "checkedAt": at,
        "reportConfigMap": where.report or None,
        "reportDigest": where.report_digest or None,
    }
    if where.record:
        status["record"] = {"configMap": where.record, "digest": where.record_digest, "made": where.record_made}
    verified = {Verdict.PROMOTE: "True", Verdict.BLOCK: "False"}.get(decision.verdict, "Unknown")
    message = shorten(decision.message)
    complete = _retrying(next_attempt, decision.message)
    if not retried:
        complete = ("True", "VerdictReached", f"{decision.prompts} prompts")
    return Finding(_fit(status), (verified, str(decision.reason), message), complete)


def failed(stored: Mapping[str, Any], reason: Reason, message: str, *, attempts: int, next_attempt: str, recheck: bool) -> Finding:
    """A run could not be made, or was given up. A pair that has a verdict keeps it."""
    if recheck:
        return again(stored, attempts=attempts, next_attempt=next_attempt, message=f"the re-check waits until {next_attempt}: {message}")
    status = {**_own(stored), "verdict": None, "attempts": attempts, "nextAttempt": next_attempt}
    return Finding(
        status, ("Unknown", str(reason), shorten(message)), ("False", "Retrying", shorten(f"next attempt at {next_attempt}: {message}"))
    )


def final(decision: Decision) -> bool:
    """Whether nothing but new prompts, another fingerprint or a person changes this: a verdict, or prompts that are used up."""
    return decision.verdict in (Verdict.PROMOTE, Verdict.BLOCK) or decision.reason is Reason.INCONCLUSIVE


def status(stored: Mapping[str, Any], finding: Finding | None, *, generation: int | None = None) -> dict[str, Any]:
    """The whole status but for its conditions: what is stored, what was found since, and every entry check."""
    found = {**_own(stored), **(finding.status if finding is not None else {})}
    kept, left_out = replicas(stored.get("replicas") or (), finding.entered if finding is not None else ())
    whole = {
        **({} if generation is None else {"observedGeneration": generation}),
        **{key: value for key, value in found.items() if value not in (None, (), [], {})},
        **({"replicas": kept} if kept else {}),
        **({"replicasOmitted": left_out} if left_out else {}),
    }
    if not left_out:
        whole.pop("replicasOmitted", None)
    return whole


def replicas(stored: Iterable[Mapping[str, Any]], entered: Iterable[Entered]) -> tuple[list[dict[str, Any]], int]:
    """The rows of all entry checks by pod, and how many did not fit. What was found since replaces what is stored of the same pod. Failed
    ones are kept first: they are what somebody looks for."""
    rows = {str(row["pod"]): dict(row) for row in stored}
    rows |= {item.pod: _row(item) for item in entered}
    order = sorted(rows.values(), key=lambda row: ({"Failed": 0, "Running": 1}.get(str(row.get("result")), 2), str(row["pod"])))
    kept, size = [], 0
    for row in order[:MOST_REPLICAS]:
        size += _size(row)
        if size > MOST_REPLICA_BYTES:
            break
        kept.append(row)
    return sorted(kept, key=lambda row: str(row["pod"])), len(rows) - len(kept)


def shorten(text: str, limit: int = MESSAGE) -> str:
    """`text`, cut where it is too long and without characters that a terminal would obey."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def number(value: float | None, digits: int = 6) -> str | None:
    """A decimal string of the API (no exponent, no sign, at most 22 characters); None for what is unknown or no number."""
    if value is None or not math.isfinite(value):
        return None
    text = f"{max(0.0, min(value, 999_999_999_999.0)):.{digits}f}".rstrip("0").rstrip(".")
    return text or "0"


def _retrying(next_attempt: str, message: str) -> Words:
    return "False", "Retrying", shorten(f"next attempt at {next_attempt}: {message}")


def _row(item: Entered) -> dict[str, Any]:
    row = {
        "pod": item.pod,
        "containerId": item.container,
        "result": RESULTS[item.passed],
        "at": item.at,
        "message": shorten(item.message, 256),
    }
    return {key: value for key, value in row.items() if value}


def _numbers(decision: Decision, policy: Policy) -> dict[str, Any]:
    rate, sure = number(decision.certified_rate), number(decision.confidence)
    gates = sorted(decision.gates, key=lambda gate: (_ORDER[gate.decision], bool(gate.stratum)))[:MOST_GATES]
    found: dict[str, Any] = {
        "declared": shorten(policy.declared, SHORT) or None,
        "prompts": min(decision.prompts, 1_000_000),
        "maxPrompts": min(policy.max_prompts, 1_000_000),
        "noiseRatio": number(decision.noise_ratio, 3),
        "certified": {"badPromptRateUpper": rate, "confidence": sure} if rate is not None and sure is not None else None,
        "gates": [_gate(gate) for gate in gates],
        "gatesOmitted": max(0, len(decision.gates) - len(gates)) or None,
    }
    return found


def _gate(gate: GateResult) -> dict[str, Any]:
    interval = [text for bound in gate.interval or () if (text := _figure(bound)) is not None]
    row = {
        "name": str(gate.gate),
        "stratum": _code(gate.stratum),
        "statistic": _code(gate.statistic),
        "prompts": min(gate.prompts, 1_000_000),
        "estimate": _figure(gate.estimate),
        "interval": interval if len(interval) == 2 else None,
        "boundary": _figure(gate.boundary),
        "evidencePromote": _figure(gate.evidence_promote),
        "evidenceBlock": _figure(gate.evidence_block),
        "decision": gate.decision,
        "message": shorten(gate.message, 256) or None,
    }
    return {key: value for key, value in row.items() if value is not None and value != ""}


def _told(report: Report) -> dict[str, Any]:
    suspects = [
        {"code": _code(s.code) or "Unknown", "weight": number(s.weight, 3), "evidence": shorten(s.evidence)}
        for s in report.suspects[:MOST_SUSPECTS]
    ]
    worst = [
        {
            "item": shorten(row.item, SHORT),
            "position": row.position,
            "kl": number(row.kl),
            "output": shorten(row.output, LONGEST_OUTPUT) or None,
        }
        for row in report.worst[:MOST_WORST]
    ]
    return {
        "suspects": [{key: value for key, value in row.items() if value} for row in suspects],
        "worst": [{key: value for key, value in row.items() if value is not None} for row in worst],
    }


def _capabilities(found: Capabilities, mode: Mode | None) -> dict[str, str] | None:
    """None where nothing was probed: an endpoint that did not answer has not said what it cannot do."""
    if mode is None and found == Capabilities():
        return None
    flags = {
        "promptLogprobs": found.prompt_logprobs,
        "tokenIds": found.token_ids_in and found.token_ids_out,
        "tokenize": found.tokenize,
        "chat": found.chat,
        "completions": found.completions,
        "streaming": found.streaming,
    }
    told = {key: "true" if value else "false" for key, value in flags.items()} | {"topK": str(found.top_k)}
    if found.max_model_len is not None:
        told["maxModelLen"] = str(found.max_model_len)
    if found.engine:
        told["engine"] = shorten(found.engine, SHORT)
    return told


def _kept(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a run that goes on must not lose: where the last record and report lie."""
    return {key: stored[key] for key in ("record", "reportConfigMap", "reportDigest", "checkedAt") if stored.get(key)}


def _state(state: str, stored: Mapping[str, Any]) -> str | None:
    """Evidence that does not fit is not stored at all: half of it would be another state. The older one is not kept either."""
    text = state or str(stored.get("resumeState") or "")
    return text if 0 < len(text) <= MOST_STATE else None


def _own(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stored.items() if key not in ("conditions", "replicas", "observedGeneration")}


def _fit(status: dict[str, Any]) -> dict[str, Any]:
    """The status below `MOST_BYTES`: messages of gates go first, then gates from the end, which passed."""
    if _size(status) <= MOST_BYTES:
        return status
    gates: list[dict[str, Any]] = [{key: value for key, value in gate.items() if key != "message"} for gate in status.get("gates") or ()]
    omitted = int(status.get("gatesOmitted") or 0)
    status = {**status, "gates": gates}
    while gates and _size(status) > MOST_BYTES:
        gates.pop()
        omitted += 1
    return {**status, "gatesOmitted": omitted or None}


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def _figure(value: float | None) -> str | None:
    """A number for people, with its sign and four digits; None where it is unknown."""
    if value is None or math.isnan(value):
        return None
    return f"{value:.4g}"


def _code(text: str) -> str | None:
    return _CODE.sub("-", text)[:128] or None


def _words(row: Mapping[str, Any]) -> Words:
    return str(row.get("status") or "Unknown"), str(row.get("reason") or "Running"), str(row.get("message") or "")
