"""Events of the accuracy gate and of promotions, at the ModelDeployment. No counts that move, and at most one note per reason.

What lasts (a pair that is blocked, a fingerprint that differs) gives its note in every cycle, and the edge posts it once. What is a
moment (a verdict passed, a revision promoted) is told in the cycle that sees it change against the stored status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from accuracy.types import Reason, Verdict
from placement.types import Plan
from polyfleet.clearance import settings
from polyfleet.clearance.standing import State
from polyfleet.inputs import Inputs, ModelView
from polyfleet.snapshot import current, standings
from polyfleet.status import accuracy, promotion
from polyfleet.status.conditions import TRUE

Note = tuple[str, str, str]  # type, reason, text


def of_model(inputs: Inputs, plan: Plan, view: ModelView, status: Mapping[str, Any]) -> list[Note]:
    """`status`: what this cycle says; the stored one is with the object."""
    if view.clearance.gate == settings.DISABLED:
        return []
    found = [_started(view), _passed(view, status), _wrong(view), _open(view), _changed(view), _promoted(view, status)]
    return [note for note in (*found, _blocked(inputs, plan, view)) if note is not None]


def _joined(kind: str, reason: str, texts: Iterable[str]) -> Note | None:
    lines = sorted(dict.fromkeys(texts))
    return (kind, reason, "; ".join(lines)) if lines else None


def _started(view: ModelView) -> Note | None:
    stands = (view.clearance.of(item.pod) for item in accuracy.undecided(view))
    return _joined(
        "Normal",
        "AccuracyStarted",
        (
            f"{accuracy.named(s.pair)} is under test: kubectl get accr {s.report.name}"
            for s in stands
            if s is not None and s.report is not None and s.report.verdict is None
        ),
    )


def _passed(view: ModelView, status: Mapping[str, Any]) -> Note | None:
    """A pair whose verdict was awaited when the status was last stored."""
    before = {row.get("report"): row.get("verdict") for row in view.state.status.get("accuracy") or ()}
    messages = {report.name: report.message for report in view.clearance.reports}
    found = []
    for row in status.get("accuracy") or ():
        name = row.get("report", "")
        if row.get("verdict") == Verdict.PROMOTE and name in before and before[name] != Verdict.PROMOTE:
            found.append(f"{row['profile']} ({row['variant']}) may serve: {messages.get(name, '')}".rstrip(": "))
    return _joined("Normal", "AccuracyPassed", found)


def _wrong(view: ModelView) -> Note | None:
    return _joined("Warning", "AccuracyBlocked", (said.line for said in accuracy.found_wrong(view)))


def _open(view: ModelView) -> Note | None:
    """Undecided for good, or until somebody does something. Without its numbers: each attempt has others."""
    used = accuracy.used(view)
    found = [r for r in view.clearance.reports if r.pair in used and r.verdict is Verdict.INCONCLUSIVE]
    return _joined(
        "Warning", "AccuracyInconclusive", (f"{accuracy.named(r.pair)}: {r.reason}: kubectl describe accr {r.name}" for r in found)
    )


def _changed(view: ModelView) -> Note | None:
    found = []
    for item in standings(view):
        stand = view.clearance.of(item.pod)
        if stand is not None and not item.leaving and stand.reason == Reason.FINGERPRINT_CHANGED:
            serves = "; what serves goes on and does not grow" if stand.state is State.FROZEN else ""
            found.append(
                f"{accuracy.named(stand.pair)}: its image, driver or weights are not what was verified{serves}; a new report decides"
            )
    return _joined("Warning", "FingerprintChanged", found)


def _promoted(view: ModelView, status: Mapping[str, Any]) -> Note | None:
    """The row turned True since the status was last stored."""
    if (
        _row(view.state.status).get("status") == TRUE
        or not _row(view.state.status)
        or _row(status).get("status") != TRUE
        or not view.target
    ):
        return None
    profiles = sorted({item.child.profile for item in standings(view) if item.serving and not item.leaving and current(view, item.child)})
    return ("Normal", "Promoted", f"the wanted revision serves on {', '.join(profiles)}") if profiles else None


def _row(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((row for row in status.get("conditions") or () if row.get("type") == promotion.ROW), {})


def _blocked(inputs: Inputs, plan: Plan, view: ModelView) -> Note | None:
    text = promotion.obstacle(inputs.fleet, plan, view)
    return ("Warning", "PromotionBlocked", text) if text else None
