"""An AccuracyReport as the pure stages read it: what is stored, what a check has found since, and a human's override."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accuracy.types import Fingerprint, Reason, Verdict
from polyfleet.clearance.identity import Pair
from polyfleet.clearance.work import Entered, Finding, RecordRef
from polyfleet.state import CustomState

OWNER = "polyfleet.io/owner-uid"  # annotation: uid of the ModelDeployment, so that an earlier object's report is nobody's


@dataclass(frozen=True, slots=True)
class ReportView:
    state: CustomState
    pair: Pair
    fingerprint: Fingerprint
    verdict: Verdict | None  # that holds now; None while it runs
    reason: str  # of AccuracyVerified
    message: str
    own: bool  # it is, or was, the reference itself
    record: RecordRef | None  # that it captured
    record_made: str  # RFC 3339
    entered: Mapping[str, Entered]  # by pod
    resume: str
    attempts: int
    next_attempt: str  # RFC 3339; "" = at once
    decided: str  # when the verdict fell, RFC 3339; "" while it runs
    overridden: bool = False

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def promoted(self) -> bool:
        return self.verdict is Verdict.PROMOTE

    @property
    def blocked(self) -> bool:
        return self.verdict is Verdict.BLOCK


def views(reports: Iterable[CustomState], findings: Mapping[str, Finding], now: str | None) -> dict[str, tuple[ReportView, ...]]:
    """By ModelDeployment (namespace/name), the oldest first. What cannot be read is left out: it is no verdict."""
    found: dict[str, list[ReportView]] = {}
    for state in reports:
        if state.deleting or not state.spec.get("deployment"):
            continue
        found.setdefault(f"{state.namespace}/{state.spec['deployment']}", []).append(view(state, findings.get(state.key), now))
    return {key: tuple(sorted(items, key=lambda item: (item.state.created, item.name))) for key, items in sorted(found.items())}


def view(state: CustomState, finding: Finding | None, now: str | None) -> ReportView:
    status: dict[str, Any] = {**state.status, **(finding.status if finding is not None else {})}
    spec, print_ = state.spec, state.spec.get("fingerprint") or {}
    candidate = spec.get("candidate") or {}
    verdict = _verdict(status.get("verdict"))
    rows: dict[str, Mapping[str, Any]] = {row.get("type", ""): row for row in state.status.get("conditions") or ()}
    condition, complete = rows.get("AccuracyVerified", {}), rows.get("Complete", {})
    reason, message = condition.get("reason") or "", condition.get("message") or ""
    if finding is not None:
        _, reason, message = finding.verified
    override: Mapping[str, Any] = spec.get("override") or {}
    active = bool(override) and not _past(override.get("until"), now)
    if active:
        verdict, reason = _verdict(override.get("verdict")), Reason.OVERRIDDEN
        until = f" until {override['until']}" if override.get("until") else ""
        message = f"{override.get('verdict')} by {override.get('by')}{until}: {override.get('reason')}"
    record = status.get("record") or {}
    entered = {item["pod"]: _entered(item) for item in state.status.get("replicas") or ()}
    if finding is not None:
        entered |= {item.pod: item for item in finding.entered}
    return ReportView(
        state=state,
        pair=Pair(candidate.get("profile", ""), candidate.get("variant", ""), candidate.get("engine", ""), print_.get("flags", "")),
        fingerprint=Fingerprint(
            profile=print_.get("profile", ""),
            weights=print_.get("weights") or "",
            tokenizer=print_.get("tokenizer") or "",
            template=print_.get("template") or "",
            engine_image=print_.get("engineImage") or "",
            driver=print_.get("driver") or "",
            flags=print_.get("flags") or "",
        ),
        verdict=verdict,
        reason=reason or (Reason.RUNNING if status else Reason.PENDING),
        message=message,
        own=(spec.get("reference") or {}).get("profile") == candidate.get("profile"),
        record=RecordRef(state.namespace, record["configMap"], record.get("digest") or "") if record.get("configMap") else None,
        record_made=record.get("made") or "",
        entered=entered,
        resume=status.get("resumeState") or "",
        attempts=int(status.get("attempts") or 0),
        next_attempt=status.get("nextAttempt") or "",
        decided=(complete.get("lastTransitionTime") or "") if complete.get("status") == "True" else "",
        overridden=active,
    )


def _entered(item: Mapping[str, Any]) -> Entered:
    passed = {"Passed": True, "Failed": False}.get(item.get("result") or "")
    return Entered(item["pod"], item.get("containerId") or "", passed, item.get("message") or "", item.get("at") or "")


def _verdict(text: Any) -> Verdict | None:
    return Verdict(text) if text in set(Verdict) else None


def _past(until: Any, now: str | None) -> bool:
    """An override that says when it ends has ended at that moment; without a clock it has not."""
    return bool(until) and now is not None and datetime.fromisoformat(str(until)) <= datetime.fromisoformat(now)
