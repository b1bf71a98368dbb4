"""What the accuracy gate says of one model: the row `AccuracyVerified`, the verdicts by pair, and what a rollout waits for.

`AccuracyVerified` speaks of what serves. Only while verified replicas are fewer than wanted does it speak of what is under test too, so
that a missing verdict is never read as a passed one, and a rollout beside a serving model does not make it un-Ready.

Candidates hold devices and cost money and count as nothing: not in `replicas`, not in `hardware`, not as missing or present capacity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from accuracy.types import Reason, Verdict
from polyfleet.api.conditions import ACCURACY_VERIFIED
from polyfleet.clearance import identity, settings
from polyfleet.clearance.identity import Pair
from polyfleet.clearance.reports import ReportView
from polyfleet.clearance.standing import PodStand, State
from polyfleet.inputs import ModelView
from polyfleet.inventory import node_of
from polyfleet.merge import DEFAULT_VARIANT
from polyfleet.snapshot import Standing, standings, unasked
from polyfleet.status.conditions import FALSE, TRUE, UNKNOWN, Judged, shorten

ROW = "AccuracyVerified"
AWAITING = "AwaitingAccuracy"
MOST = 128  # rows of status.accuracy
SHORT = 253  # letters that a column's text may have
_MOST_TOLD = 3
_QUOTE = 300
_NONE = Pair("", "", "", "")  # of the model as a whole
_GOOD = (State.OPEN, State.CLEARED)
_UP = (*_GOOD, State.FROZEN, State.BLOCKED, State.REFUSED)  # what serves is one of these; others are about to lose or to get their traffic


@dataclass(frozen=True, slots=True)
class Said:
    """One pair, or one replica, and what is known of it."""

    pair: Pair
    status: str
    reason: str
    text: str
    report: str = ""

    @property
    def line(self) -> str:
        return ": ".join(part for part in (named(self.pair), self.reason, self.text) if part)


def named(pair: Pair) -> str:
    return pair.profile if pair.variant in ("", DEFAULT_VARIANT) else f"{pair.profile} ({pair.variant})"


# ---- who is a candidate, and how much waits for a verdict


def candidates(view: ModelView) -> tuple[Standing, ...]:
    """Replicas that count as nothing yet: without a verdict for what they are, or blocked before they ever served."""
    return tuple(item for item, stand in _stands(view) if _outside(view, stand))


def undecided(view: ModelView) -> tuple[Standing, ...]:
    """Candidates whose verdict may still come."""
    return tuple(
        item
        for item, stand in _stands(view)
        if _outside(view, stand) and stand.state is State.CANDIDATE and stand.reason != Reason.INCONCLUSIVE
    )


def _outside(view: ModelView, stand: PodStand) -> bool:
    if not view.clearance.required:
        return False
    return stand.state is State.CANDIDATE or (stand.state is State.BLOCKED and not stand.serves)


def unplaced(view: ModelView) -> int:
    """Pods without a node of children that no verdict has opened: candidates before they have a place."""
    return sum(len(child.waiting) for child in view.children if child.name not in view.goes_on and _closed(view, child.option, child.pool))


def _closed(view: ModelView, option: str, pool: str) -> bool:
    clearance = view.clearance
    return clearance.required and not view.hold and pool not in clearance.eligible.get(option, frozenset())


def awaiting(view: ModelView) -> int:
    """Replicas that the placer is not asked for, because no pair of the wanted revision is verified."""
    return unasked(view)


# ---- AccuracyVerified


def verified(view: ModelView) -> Judged | None:
    """None without a gate, and where there is nothing to speak of: nothing wanted, or nothing that could be tried."""
    clearance = view.clearance
    if clearance.gate == settings.DISABLED:
        return None
    stands = _stands(view)
    serving = [(item, stand) for item, stand in stands if item.serving and stand.state in _UP]
    wrong = [_of_serving(item, stand) for item, stand in serving if stand.state not in _GOOD]
    if wrong:
        wrong.sort(key=lambda said: said.status != FALSE)
        return _row(view, wrong, tail=_tail(view, wrong))
    good = [stand for _, stand in serving]
    if clearance.required and len(good) < view.target and not (good and view.hold):
        missing = _missing(view, stands, bool(good))
        if missing:
            return _row(view, missing)
    if good:
        return _true(good, [_refused(item, stand) for item, stand in stands if stand.state is State.REFUSED])
    if not view.target or (not view.rendered and not stands):
        return None
    return _row(view, _open(view, stands) or [_nobody(view)])


def _tail(view: ModelView, wrong: Sequence[Said]) -> str:
    """What becomes of it; of what must not serve while nothing verified is left, what somebody can do."""
    goes_on = "what serves goes on and does not grow until others can do its work"
    if not view.clearance.required or wrong[0].status != FALSE or view.clearance.eligible:
        return goes_on
    if view.earlier:
        return goes_on if _returns(view) else f"{goes_on}; spec.rollout.autoRollback: true would bring back the earlier revision"
    return f"{goes_on}; no verified revision is left: set the spec back to one, or allow other hardware in spec.placement"


def _returns(view: ModelView) -> bool:
    return view.spec is not None and view.spec.rollout.auto_rollback


def _missing(view: ModelView, stands: Sequence[tuple[Standing, PodStand]], some: bool) -> list[Said]:
    """Why fewer than wanted are verified: what is under test, then who is kept out, then what was blocked."""
    under = [_of_candidate(view, stand) for _, stand in stands if stand.state is State.CANDIDATE]
    out = [_refused(item, stand) for item, stand in stands if stand.state is State.REFUSED]
    blocked = _blocked(view, stands)
    if some:
        return [*under, *out, *blocked] if under or out else ([*blocked, *_open(view, ())] if awaiting(view) else [])
    entering = [_entering(item, stand) for item, stand in stands if stand.state is State.ENTRY]
    if under or out or entering:
        return [*under, *out, *entering, *blocked]
    return [*blocked, *_open(view, stands)] if blocked else []


def _open(view: ModelView, stands: Sequence[tuple[Standing, PodStand]]) -> list[Said]:
    """Pairs of the wanted revision that have no verdict, and no replica at this moment."""
    wanted = _wanted(view)
    last = {r.pair: r for r in view.clearance.reports if r.pair in wanted and not r.promoted and not r.blocked}
    found = [
        Said(pair, UNKNOWN, _word(report.reason), _report_text(report), report.name)
        for pair, report in sorted(last.items(), key=lambda item: item[0])
    ]
    if view.clearance.missing:
        return [_nobody(view)]
    return found or ([_nobody(view)] if awaiting(view) else [])


def _nobody(view: ModelView) -> Said:
    """No pair is under test: nothing can be, or none has got its turn."""
    if view.clearance.missing:
        return Said(_NONE, UNKNOWN, str(Reason.REFERENCE_MISSING), view.clearance.missing)
    return Said(_NONE, UNKNOWN, str(Reason.PENDING), "no replica is under test yet: it starts when it finds devices and its turn comes")


def _wanted(view: ModelView) -> frozenset[Pair]:
    return frozenset(identity.of_rendered(item) for item in view.rendered)


def _of_serving(item: Standing, stand: PodStand) -> Said:
    if stand.state is State.REFUSED:
        return _refused(item, stand)
    status = FALSE if stand.state is State.BLOCKED else UNKNOWN
    return Said(stand.pair, status, _word(stand.reason), _text(stand), _name(stand.report))


def _of_candidate(view: ModelView, stand: PodStand) -> Said:
    reason = _word(stand.reason)
    if reason == Reason.PENDING and view.clearance.missing:
        return Said(_NONE, UNKNOWN, str(Reason.REFERENCE_MISSING), view.clearance.missing)
    return Said(stand.pair, UNKNOWN, reason, _text(stand), _name(stand.report))


def _refused(item: Standing, stand: PodStand) -> Said:
    what = "goes on serving: no other replica can" if item.serving else "takes no traffic"
    text = (
        f"the replica on {node_of(item.pod)} {what}: its entry check failed: {shorten(stand.message or 'no numbers', _QUOTE)};"
        f" look at that node, or try again: kubectl -n {item.pod.namespace} delete pod {item.pod.name}"
    )
    return Said(stand.pair, FALSE, str(Reason.NOT_EQUIVALENT), text, _name(stand.report))


def _entering(item: Standing, stand: PodStand) -> Said:
    more = f": {shorten(stand.message, _QUOTE)}" if stand.message else ""
    return Said(stand.pair, UNKNOWN, str(Reason.RUNNING), f"entry check of the replica on {node_of(item.pod)}{more}", _name(stand.report))


def _blocked(view: ModelView, stands: Sequence[tuple[Standing, PodStand]]) -> list[Said]:
    found = dict(view.clearance.blocked)
    found |= {s.pair: s.report for _, s in stands if s.state is State.BLOCKED and s.report is not None and s.pair not in found}
    return [Said(pair, FALSE, _word(r.reason), _report_text(r), r.name) for pair, r in sorted(found.items(), key=lambda item: item[0])]


def _true(good: Sequence[PodStand], refused: Sequence[Said]) -> Judged:
    reports = {stand.pair: stand.report for stand in good if stand.report is not None}
    reasons = {report.reason for report in reports.values()}
    order = (Reason.OVERRIDDEN, Reason.EQUIVALENT, Reason.SELF_REFERENCE)
    reason = next((str(word) for word in order if word in reasons), str(Reason.EQUIVALENT))
    parts = [f"{named(pair)}: {r.message}" if r.message else named(pair) for pair, r in sorted(reports.items(), key=lambda pair: pair[0])]
    # Two revisions on the same hardware have the same words.
    return Judged(ROW, TRUE, reason, "; ".join([*_some(list(dict.fromkeys(parts))), *_some([said.line for said in refused])]))


def _row(view: ModelView, said: Sequence[Said], tail: str = "") -> Judged:
    """The first decides; the others are told after it, each line once."""
    first = said[0]
    lead = f"{named(first.pair)}: {first.text}" if first.pair.profile and first.text else first.text or named(first.pair)
    lines = [line for line in dict.fromkeys(item.line for item in said[1:]) if line != first.line]
    way = _way(view, first) if first.report else ""
    return Judged(ROW, first.status, first.reason, "; ".join(part for part in (lead, *_some(lines), tail, way) if part))


def _some(lines: Sequence[str]) -> list[str]:
    return [*lines[:_MOST_TOLD], *([f"and {len(lines) - _MOST_TOLD} more"] if len(lines) > _MOST_TOLD else [])]


def _way(view: ModelView, said: Said) -> str:
    space, name = view.state.namespace, view.state.name
    if said.status == FALSE:
        return f"polyfleet accuracy report mdep/{name} -n {space} --profile {said.pair.profile}"
    return f"kubectl -n {space} describe accr {said.report}"


def _text(stand: PodStand) -> str:
    if stand.message:
        return shorten(stand.message, _QUOTE)
    return {
        str(Reason.PENDING): "its check has not begun",
        str(Reason.FINGERPRINT_CHANGED): "it is no longer what was verified (image, driver or weights differ); a new report is made",
    }.get(stand.reason, "")


def _report_text(report: ReportView) -> str:
    return shorten(report.message, _QUOTE)


def _word(reason: str) -> str:
    """A reason that the table of the condition knows."""
    return reason if reason in ACCURACY_VERIFIED else str(Reason.PENDING if not reason else Reason.RUNNING)


def _name(report: ReportView | None) -> str:
    return report.name if report is not None else ""


def _stands(view: ModelView) -> list[tuple[Standing, PodStand]]:
    found = [(item, stand) for item in standings(view) if not item.leaving and (stand := view.clearance.of(item.pod)) is not None]
    return sorted(found, key=lambda pair: (pair[1].pair, pair[0].pod.created, pair[0].pod.uid))


# ---- what Placed and Promoted say of it


def awaited(view: ModelView) -> list[str]:
    """What a rollout waits for, one sentence per pair under test, then per pair that has none yet."""
    if not view.clearance.required:
        return []
    return under_test(view) or list(dict.fromkeys(said.line for said in _open(view, ())))


def under_test(view: ModelView) -> list[str]:
    """The same of those under test alone."""
    found = (_of_candidate(view, stand) for _, stand in _stands(view) if stand.state is State.CANDIDATE)
    return list(dict.fromkeys(said.line for said in found)) if view.clearance.required else []


def blocked(view: ModelView, profiles: Collection[str] | None = None) -> list[str]:
    """Pairs of the wanted revision that must not serve, in words. `profiles`: only on these."""
    if not view.clearance.required:
        return []
    wanted = [pair for pair in _wanted(view) if profiles is None or pair.profile in profiles]
    return list(dict.fromkeys(said.line for said in _blocked(view, _stands(view)) if said.pair in wanted))


def untried(view: ModelView) -> list[str]:
    """Profiles that may be tried and are not under test."""
    if not view.clearance.required:
        return []
    under = {stand.pair.profile for _, stand in _stands(view)}
    found = {name.split("|")[1] for name in view.clearance.open}
    return sorted(found - under)


def unverified(view: ModelView) -> list[str]:
    """Profiles without a verdict that may get one, under test or not: the same until one falls."""
    if not view.clearance.required:
        return []
    under = {stand.pair.profile for _, stand in _stands(view) if stand.state is State.CANDIDATE}
    return sorted(under | {name.split("|")[1] for name in view.clearance.open})


def held_back(view: ModelView) -> str:
    """Who of the replicas of verified pairs takes no traffic, for the row of the endpoint; "" = nobody."""
    stands = _stands(view) if view.clearance.required else []
    entering = sorted({node_of(item.pod) for item, stand in stands if stand.state is State.ENTRY})
    refused = sorted({node_of(item.pod) for item, stand in stands if stand.state is State.REFUSED and not item.serving})
    parts = [f"{what} on {', '.join(where[:_MOST_TOLD])}" for what, where in (("entry check", entering), ("refused", refused)) if where]
    return "; ".join(parts)


def found_wrong(view: ModelView) -> list[Said]:
    """Pairs that must not serve, and single replicas that a check keeps out."""
    stands = _stands(view)
    return [*_blocked(view, stands), *(_refused(item, stand) for item, stand in stands if stand.state is State.REFUSED)]


def used(view: ModelView) -> frozenset[Pair]:
    """Pairs that are wanted or run."""
    return _wanted(view) | {stand.pair for _, stand in _stands(view)}


def count_blocked(views: Iterable[ModelView]) -> int:
    """Models of which a wanted or running pair must not serve."""
    return sum(
        1
        for v in views
        if v.clearance.required and (v.clearance.blocked or any(s.state is State.BLOCKED for s in v.clearance.pods.values()))
    )


# ---- status.accuracy and the column


def verdicts(view: ModelView) -> list[dict[str, Any]]:
    """By pair: of what runs, and of what was blocked. A pair that runs twice (another image, another driver) has a row for each report."""
    found: dict[tuple[Pair, str], Verdict | None] = {}
    for _, stand in _stands(view):
        found[(stand.pair, _name(stand.report))] = stand.report.verdict if stand.report is not None else None
    for pair, report in view.clearance.blocked.items():
        found[(pair, report.name)] = report.verdict
    rows = [
        {"profile": pair.profile, "variant": pair.variant, "verdict": str(verdict) if verdict is not None else None, "report": report}
        for (pair, report), verdict in sorted(found.items(), key=lambda item: item[0])
    ]
    return [{key: value for key, value in row.items() if value} for row in rows[:MOST]]


def column(view: ModelView) -> str:
    """Serving pairs whose every replica has Promote, of the pairs that serve or are under test, then by name those that must not serve:
    `3/4,Blocked:huawei-910c-752/ascend-w8a8`. No blanks, and "" without a gate or a pair."""
    if view.clearance.gate == settings.DISABLED:
        return ""
    stands = _stands(view)
    used = {stand.pair for _, stand in stands}
    serving = {stand.pair for item, stand in stands if item.serving and stand.state in _GOOD}
    wrong = {stand.pair for item, stand in stands if item.serving and stand.state in _UP and stand.state not in _GOOD}
    blocked = sorted({_short(said.pair) for said in _blocked(view, stands)})
    left = [f"and{len(blocked) - _MOST_TOLD}more"] if len(blocked) > _MOST_TOLD else []
    parts = [f"{len(serving - wrong)}/{len(used)}" if used else "", *(f"Blocked:{name}" for name in blocked[:_MOST_TOLD]), *left]
    return shorten(",".join(part for part in parts if part), SHORT)


def _short(pair: Pair) -> str:
    return pair.profile if pair.variant in ("", DEFAULT_VARIANT) else f"{pair.profile}/{pair.variant}"
