"""What the checks have found and the stored AccuracyReports may not say yet: one value per report, read by each cycle.

A finding goes away as soon as the stored report says the same, and with the report or the pod that it is about. A report that was deleted
and made again under its name is another report: what was found of the first does not count for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polyfleet.clearance.work import Entered, Finding
from polyfleet.state import CustomState, PodState

RESULTS: Mapping[bool | None, str] = {True: "Passed", False: "Failed", None: "Running"}  # `passed` as the stored report spells it
_LATER = ("conditions", "replicas", "observedGeneration")  # of a status, what is written from other facts as well


@dataclass(slots=True)
class _Entry:
    """What is known of one report."""

    uid: str = ""  # of the report; "" = only entry checks are known, whose containers name themselves
    run: Finding | None = None
    stored: Finding = field(default_factory=Finding)  # conditions of the stored report: what holds while only entry checks are known
    entered: dict[tuple[str, str], Entered] = field(default_factory=dict)  # (pod, container)


class Board:
    """Keys are namespace/name of an AccuracyReport."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._shown: Mapping[str, Finding] | None = None

    def post(self, key: str, uid: str, finding: Finding) -> None:
        """How a certification stands; replaces what was said of it before. `entered` is not looked at."""
        entry = self._entries.setdefault(key, _Entry())
        entry.uid, entry.run = uid, finding
        self._shown = None

    def enter(self, key: str, entered: Entered) -> None:
        """How one entry check stands."""
        self._entries.setdefault(key, _Entry()).entered[entered.pod, entered.container] = entered
        self._shown = None

    def entered(self, key: str, pod: str, container: str) -> Entered | None:
        entry = self._entries.get(key)
        return entry.entered.get((pod, container)) if entry is not None else None

    def findings(self) -> Mapping[str, Finding]:
        """Everything, by report; the same object until something changes."""
        if self._shown is None:
            self._shown = {key: _finding(entry) for key, entry in sorted(self._entries.items())}
        return self._shown

    def prune(self, reports: Iterable[CustomState], pods: Iterable[PodState]) -> None:
        """Forgets what the stored reports say already, and what is about reports and pods that are gone."""
        stored = {report.key: report for report in reports}
        there = {(pod.namespace, pod.name, each.container_id) for pod in pods for each in pod.containers} if self._entries else set()
        for key in list(self._entries):
            entry, report = self._entries[key], stored.get(key)
            if report is None or entry.uid not in ("", report.uid):
                del self._entries[key]
                self._shown = None
                continue
            if entry.run is not None and says(report.status, entry.run):
                entry.run, self._shown = None, None
            if (now := _stored(report.status)) != entry.stored:
                entry.stored, self._shown = now, None
            told = {(row.get("pod"), row.get("containerId"), row.get("result")) for row in report.status.get("replicas") or ()}
            for pod, container in list(entry.entered):
                known = (pod, container, RESULTS[entry.entered[pod, container].passed]) in told
                if known or (report.namespace, pod, container) not in there:
                    del entry.entered[pod, container]
                    self._shown = None
            if entry.run is None and not entry.entered:
                del self._entries[key]
                self._shown = None


def says(status: Mapping[str, Any], finding: Finding) -> bool:
    """Whether a stored status says all of a finding, its words included: while a reference is captured nothing else changes."""
    conditions = {
        row.get("type"): (row.get("status"), row.get("reason"), row.get("message") or "") for row in status.get("conditions") or ()
    }
    if finding.status and plain(_own(status)) != plain(_own(finding.status)):
        return False
    return conditions.get("AccuracyVerified") == tuple(finding.verified) and conditions.get("Complete") == tuple(finding.complete)


def plain(value: Any) -> Any:
    """A JSON value without empty parts, which the API server may drop or keep; tuples become lists."""
    if isinstance(value, Mapping):
        parts = {key: plain(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part not in (None, {}, [])}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def _own(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key not in _LATER}


def _finding(entry: _Entry) -> Finding:
    entered = tuple(entry.entered[key] for key in sorted(entry.entered))
    run = entry.run or entry.stored
    return Finding(status=run.status, verified=run.verified, complete=run.complete, entered=entered)


def _stored(status: Mapping[str, Any]) -> Finding:
    found = {row.get("type"): row for row in status.get("conditions") or ()}
    words = {kind: tuple(str(row.get(part) or "") for part in ("status", "reason", "message")) for kind, row in found.items()}
    plain = Finding()
    return Finding(verified=words.get("AccuracyVerified", plain.verified), complete=words.get("Complete", plain.complete))  # type: ignore[arg-type]
