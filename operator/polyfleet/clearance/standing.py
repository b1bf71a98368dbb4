"""Who of one model may serve, and which hardware is eligible: read from its reports, its pods and the policy. Pure.

Two different checks (architecture.md, decision 13). The *pair verdict* (once per fingerprint) makes a pair of device type and revision
eligible; the *entry check* (each new container) lets one replica in. A replica of a pair without a verdict is a *candidate*: it holds
devices and costs money, takes no traffic and counts as no capacity. What serves and lost its verdict is *frozen*: it goes on serving,
counts while it does, and never grows; a *blocked* one leaves as soon as others can do its work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from accuracy.policy import Settings
from accuracy.types import Fingerprint, Reason, Verdict
from polyfleet import naming
from polyfleet.children import Child, condition_true
from polyfleet.clearance import identity, settings
from polyfleet.clearance.identity import Pair
from polyfleet.clearance.reports import ReportView
from polyfleet.clearance.work import RecordRef
from polyfleet.inventory import node_of
from polyfleet.render.deployment import Rendered
from polyfleet.render.pod import CONTAINER
from polyfleet.state import PodState

# A candidate that was blocked, or whose prompts are used up, stays for somebody to look at it, and then gives its devices back.
KEPT_FOR_DEBUGGING_S = 600


class State(StrEnum):
    OPEN = "Open"  # no gate
    CLEARED = "Cleared"  # may serve
    ENTRY = "Entry"  # of a verified pair; its entry check is not done
    REFUSED = "Refused"  # its entry check, or its re-check, failed
    CANDIDATE = "Candidate"
    FROZEN = "Frozen"  # serves without a verdict for what it is now
    BLOCKED = "Blocked"


@dataclass(frozen=True, slots=True)
class PodStand:
    state: State
    pair: Pair
    fingerprint: Fingerprint
    report: ReportView | None
    serves: bool  # it is let in at this moment
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Clearance:
    """One model's. `eligible` and `open` map an option to the pools where its revision is verified, or may be tried."""

    gate: str = settings.DISABLED
    pods: Mapping[str, PodStand] = field(default_factory=dict)  # by uid
    eligible: Mapping[str, frozenset[str]] = field(default_factory=dict)
    open: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blocked: Mapping[Pair, ReportView] = field(default_factory=dict)
    reports: tuple[ReportView, ...] = ()
    record: RecordRef | None = None
    record_made: str = ""
    recorder: Pair | None = None  # that made the record
    reference: str = ""  # profile
    missing: str = ""  # why nothing can be certified at all (ReferenceMissing), with the ways out

    @property
    def required(self) -> bool:
        return self.gate == settings.REQUIRED

    def of(self, pod: PodState) -> PodStand | None:
        return self.pods.get(pod.uid)

    def lets_in(self, pod: PodState) -> bool:
        """Whether a pod that does not serve yet may."""
        stand = self.pods.get(pod.uid)
        return not self.required or (stand is not None and stand.state in (State.OPEN, State.CLEARED))


OFF = Clearance()


def container_of(pod: PodState) -> str:
    return next((container.container_id for container in pod.containers if container.name == CONTAINER), "")


def let_in(pod: PodState) -> bool:
    """Whether we said that this very container serves."""
    found = pod.conditions.get(naming.SERVING)
    return found is not None and found.status == "True" and found.message == f"container {container_of(pod)}"


def serves(pod: PodState) -> bool:
    return let_in(pod) and condition_true(pod, "Ready")


def stand(
    gate: str,
    children: Sequence[Child],
    rendered: Sequence[Rendered],
    reports: Sequence[ReportView],
    labels: Mapping[str, Mapping[str, str]],
    wanted: Settings,
    captures: Sequence[RecordRef],
    base_weights: frozenset[str],
    given_up: Collection[tuple[str, str, str]] = (),
) -> Clearance:
    """`labels`: of each node. `captures`: imported records. `base_weights`: digests of the weights that a record may be of. `given_up`:
    (profile, variant, revision) of what is not tried again."""
    if gate == settings.DISABLED:
        return OFF
    pairs = [(item, identity.of_rendered(item)) for item in rendered]
    known = verdicts(reports)
    pods = {
        pod.uid: _pod(child, pod, reports, labels.get(node_of(pod), {}))
        for child in children
        for pod in child.pods
        if not pod.finished and node_of(pod)
    }
    record = _record(reports, captures, base_weights, wanted.reference_profile or "")
    found = Clearance(
        gate=gate,
        pods=pods,
        reports=tuple(reports),
        record=record[0],
        record_made=record[1],
        recorder=record[2],
        reference=wanted.reference_profile or "",
    )
    eligible: dict[str, set[str]] = {}
    tried: dict[str, set[str]] = {}
    blocked: dict[Pair, ReportView] = {}
    for item, pair in pairs:
        verdict = known.get(pair)
        if gate != settings.REQUIRED or (verdict is not None and verdict.promoted):
            eligible.setdefault(item.option, set()).add(item.pool)
        elif verdict is not None and verdict.blocked:
            blocked[pair] = verdict
        elif (pair.profile, pair.variant, pair.revision) not in given_up and (verdict is None or not _used_up(verdict)):
            tried.setdefault(item.option, set()).add(item.pool)
    missing = "" if found.record is not None else _missing(wanted, [pair for _, pair in pairs])
    if missing:
        tried = {}
    elif found.record is None and wanted.reference_profile:
        # Nothing can be compared before the reference was captured, so nothing else is tried before.
        first = {item.option for item, pair in pairs if pair.profile == wanted.reference_profile}
        if first:
            tried = {option: pools for option, pools in tried.items() if option in first}
    return Clearance(
        gate=gate,
        pods=pods,
        eligible={option: frozenset(pools) for option, pools in sorted(eligible.items())},
        open={option: frozenset(pools) for option, pools in sorted(tried.items())},
        blocked=dict(sorted(blocked.items())),
        reports=tuple(reports),
        record=found.record,
        record_made=found.record_made,
        recorder=found.recorder,
        reference=found.reference,
        missing=missing,
    )


def verdicts(reports: Sequence[ReportView]) -> dict[Pair, ReportView]:
    """What holds for a pair: its newest decided report, so that a new image under an old tag or a new driver counts; else its newest."""
    found: dict[Pair, ReportView] = {}
    for report in reports:
        before = found.get(report.pair)
        if before is None or report.verdict is not None or before.verdict is None:
            found[report.pair] = report
    return found


def _used_up(report: ReportView) -> bool:
    """Undecided for good: the prompts are used up. Everything else that is undecided is tried again."""
    return report.verdict is Verdict.INCONCLUSIVE and report.reason == Reason.INCONCLUSIVE


def _record(
    reports: Sequence[ReportView], captures: Sequence[RecordRef], base: frozenset[str], reference: str
) -> tuple[RecordRef | None, str, Pair | None]:
    """The reference's own record of these weights, the newest; else one that was imported."""
    # What was captured while it was good stays good when its maker is blocked later; a human's Block speaks of the record as well.
    made = [r for r in reports if r.record is not None and r.fingerprint.weights in base and not (r.overridden and r.blocked)]
    if made:
        best = max(made, key=lambda r: (r.pair.profile == reference, r.record_made, r.name))
        return best.record, best.record_made, best.pair
    return (captures[0], "", None) if captures else (None, "", None)


def _missing(wanted: Settings, pairs: Iterable[Pair]) -> str:
    profiles = {pair.profile for pair in pairs}
    if wanted.on_unavailable == "SelfConsistency" or wanted.reference_profile in profiles:
        return ""
    ways = (
        "name a profile that can run it: kubectl patch fpol default --type merge"
        ' -p \'{"spec":{"accuracy":{"reference":{"profile":"NAME"}}}}\';'
        " or import a capture (polyfleet accuracy import); or set reference.onUnavailable: SelfConsistency"
    )
    if wanted.reference_profile:
        return f"reference profile {wanted.reference_profile} cannot run this model here and no capture was imported; {ways}"
    return f"spec.accuracy.reference.profile of FleetPolicy default is not set and no capture was imported; {ways}"


def _pod(child: Child, pod: PodState, reports: Sequence[ReportView], labels: Mapping[str, str]) -> PodStand:
    pair, found = identity.of_child(child), identity.fingerprint(child, pod, labels)
    report = matching(reports, pair, found)
    inside = let_in(pod)

    def at(state: State, reason: str = "", message: str = "") -> PodStand:
        return PodStand(state, pair, found, report, inside, reason, message)

    if report is None or report.verdict in (None, Verdict.INCONCLUSIVE):
        others = any(other.pair == pair and other.promoted for other in reports)
        reason = report.reason if report is not None else str(Reason.FINGERPRINT_CHANGED if others else Reason.PENDING)
        message = report.message if report is not None else ""
        if inside:
            return at(State.FROZEN, Reason.FINGERPRINT_CHANGED if others else reason, message)
        return at(State.CANDIDATE, reason, message)
    if report.blocked:
        return at(State.BLOCKED, report.reason, report.message)
    if report.overridden and not any(other.record is not None for other in reports):
        return at(State.CLEARED, report.reason, report.message)  # a human answers for it, and there is nothing to check it against
    checked = report.entered.get(pod.name)
    same = checked is not None and checked.container == container_of(pod)
    if checked is not None and same and checked.passed is False:
        return at(State.REFUSED, "EntryCheckFailed", checked.message)
    if inside or (checked is not None and same and checked.passed):
        return at(State.CLEARED)
    return at(State.ENTRY, "EntryCheck", checked.message if checked is not None and same else "")


def matching(reports: Sequence[ReportView], pair: Pair, found: Fingerprint) -> ReportView | None:
    """The report of exactly this fingerprint. A part that is not known yet of the pod (its image while it starts) does not differ."""
    same = [report for report in reports if report.pair == pair and _fits(report.fingerprint, found)]
    decided = [report for report in same if report.verdict is not None]
    return (decided or same)[-1] if same else None


def _fits(stored: Fingerprint, found: Fingerprint) -> bool:
    return (
        (not found.engine_image or stored.engine_image == found.engine_image)
        and stored.driver == found.driver
        and (not stored.weights or not found.weights or stored.weights == found.weights)
    )


def kept_for_debugging(report: ReportView | None, now: str | None) -> bool:
    """Whether a candidate whose verdict fell stays a while."""
    if report is None or not report.decided or now is None:
        return True
    return datetime.fromisoformat(now) < datetime.fromisoformat(report.decided) + timedelta(seconds=KEPT_FOR_DEBUGGING_S)
