"""What the accuracy gate wants done in a cycle: reports to create, to write and to drop, and the checks that are to run. Pure.

A report is made when a replica is up of which nothing is known yet, one per fingerprint. It is checked until a verdict falls, checked
again when its time has come while it serves, and each new container of a verified pair passes the entry check. All of it is said anew in
each cycle; `polyfleet.certify` keeps what runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from accuracy import golden
from accuracy.policy import Formats, PairRule, Policy, Settings, effective
from accuracy.types import Fingerprint, Reason, Verdict
from polyfleet import hardware, naming
from polyfleet.actions import Apply, Delete, StatusApply
from polyfleet.certify import status as report_status
from polyfleet.clearance import formats, identity, reports, settings
from polyfleet.clearance.identity import Pair
from polyfleet.clearance.reports import OWNER, ReportView
from polyfleet.clearance.standing import State, container_of
from polyfleet.clearance.work import Certify, Enter, Finding, GoldenSource, Replica, Work
from polyfleet.inputs import Inputs, ModelView
from polyfleet.render.deployment import owner_reference
from polyfleet.render.engines import PORT
from polyfleet.serving import engine_up
from polyfleet.snapshot import Standing, standings
from polyfleet.state import CustomState, Observed
from polyfleet.status.conditions import FALSE, TRUE, UNKNOWN, Judged, write

KEPT = 3  # reports of one pair of hardware and variant that no replica has any more


@dataclass(frozen=True, slots=True)
class Wanted:
    work: Work = field(default_factory=Work)
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    next_s: float | None = None  # until a re-check falls due, which no event tells


@dataclass(frozen=True, slots=True)
class _Setting:
    """How the candidates of one model are judged."""

    view: ModelView
    settings: Settings
    rules: tuple[PairRule, ...]
    golden: tuple[GoldenSource, ...]
    namespace: str  # the operator's own

    def rules_of(self, pair: Pair, vendor: str) -> tuple[PairRule, ...]:
        """Those that select this pair, without their selectors: who runs a check does not know the vendor."""
        known = (("vendors", vendor), ("profiles", pair.profile), ("variants", pair.variant), ("engines", pair.engine))
        fits = (rule for rule in self.rules if all(not getattr(rule, names) or word in getattr(rule, names) for names, word in known))
        return tuple(replace(rule, vendors=(), profiles=(), variants=(), engines=()) for rule in fits)

    def formats(self, profile: str, variant: str) -> Formats:
        return formats.declared(self.view, profile, variant)

    def reference(self) -> Formats:
        recorder = self.view.clearance.recorder
        profile = recorder.profile if recorder is not None else self.view.clearance.reference
        return self.formats(profile, recorder.variant if recorder is not None else "")


def wanted(observed: Observed, inputs: Inputs, *, now: str, namespace: str = "") -> Wanted:
    """`namespace`: the operator's own, where a fleet's golden sets lie."""
    certify: list[Certify] = []
    enter: list[Enter] = []
    applies: list[Apply] = []
    deletes: list[Delete] = []
    waits: list[float] = []
    there = {report.key for report in observed.reports}
    for _, view in sorted(inputs.models.items()):
        if view.spec is None or view.clearance.gate == settings.DISABLED:
            continue
        asked = _Setting(
            view,
            settings.settings(inputs.policy, view.spec),
            settings.pair_rules(inputs.policy, view.spec),
            settings.golden(inputs.policy, view.spec, view.state.namespace),
            namespace,
        )
        groups = _groups(inputs, view)
        applies += _missing(asked, groups, there)
        certify += _certify(asked, groups, now)
        enter += _enter(asked, groups)
        deletes += _outdated(view, groups)
        serving = (group.report for group in groups if group.report is not None and group.serves and group.report.promoted)
        waits += [left for report in serving if (left := _left(asked.settings, report, now))]
    work = Work(
        tuple(sorted(certify, key=lambda item: (item.namespace, item.report))),
        tuple(sorted(enter, key=lambda item: (item.namespace, item.report, item.replica.pod))),
    )
    return Wanted(work, tuple(applies), tuple(deletes), min(waits, default=None))


# ---- who is asked


@dataclass(frozen=True, slots=True)
class _Member:
    item: Standing
    replica: Replica
    state: State


@dataclass(frozen=True, slots=True)
class _Group:
    """Replicas of one fingerprint that are up on the planned hardware."""

    name: str  # of the report, there or not
    pair: Pair
    fingerprint: Fingerprint
    report: ReportView | None
    members: tuple[_Member, ...]

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return tuple(member.replica for member in self.members)

    @property
    def serves(self) -> bool:
        return any(member.item.serving for member in self.members)

    @property
    def vendor(self) -> str:
        return self.members[0].item.child.text(naming.VENDOR) if self.members else ""


def _groups(inputs: Inputs, view: ModelView) -> tuple[_Group, ...]:
    """By name of the report. A replica of which the kubelet has not told the image belongs to none yet."""
    found: dict[str, _Group] = {}
    for item in standings(view):
        stand = view.clearance.of(item.pod)
        if stand is None or item.leaving:
            continue
        print_ = stand.report.fingerprint if stand.report is not None else stand.fingerprint
        if not print_.engine_image:
            continue
        name = stand.report.name if stand.report is not None else identity.report_name(view.state.name, stand.pair, print_)
        group = found.setdefault(name, _Group(name, stand.pair, print_, stand.report, ()))
        if item.pod.ip and item.pod.node and engine_up(item.pod) and hardware.verify(inputs.fleet, item).good:
            members = (*group.members, _Member(item, _replica(item), stand.state))
            found[name] = replace(group, members=tuple(sorted(members, key=lambda member: member.replica.pod)))
    return tuple(found[name] for name in sorted(found))


def _replica(item: Standing) -> Replica:
    pod = item.pod
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    return Replica(pod.name, pod.uid, container_of(pod), f"http://{host}:{PORT}", pod.node)


# ---- reports


def _missing(asked: _Setting, groups: Sequence[_Group], there: set[str]) -> list[Apply]:
    view = asked.view
    if view.clearance.missing:
        return []
    new = (g for g in groups if g.report is None and f"{view.state.namespace}/{g.name}" not in there)
    return [Apply(_manifest(asked, group), "a replica of which nothing is known") for group in new]


def _manifest(asked: _Setting, group: _Group) -> dict[str, Any]:
    view, pair, print_ = asked.view, group.pair, group.fingerprint
    parts = {
        "profile": pair.profile,
        "weights": print_.weights,
        "engineImage": print_.engine_image,
        "driver": print_.driver,
        "flags": print_.flags,
    }
    recorder = view.clearance.recorder
    reference = recorder.profile if recorder is not None else view.clearance.reference or (pair.profile if not _imported(view) else "")
    sets = [{"name": g.builtin, "digest": golden.builtin(g.builtin).digest} for g in asked.golden if g.builtin]
    return {
        "apiVersion": naming.API_VERSION,
        "kind": "AccuracyReport",
        "metadata": {
            "name": group.name,
            "namespace": view.state.namespace,
            "labels": {
                naming.DEPLOYMENT: naming.label_value(view.state.name),
                naming.PROFILE: naming.label_value(pair.profile),
                naming.VARIANT: naming.label_value(pair.variant),
            },
            "annotations": {OWNER: view.state.uid},
            "ownerReferences": [owner_reference(view.state)],
        },
        "spec": {
            "deployment": view.state.name,
            "candidate": {"profile": pair.profile, "variant": pair.variant, "engine": pair.engine},
            "reference": {**({"profile": reference} if reference else {}), **({"goldenSets": sets} if sets else {})},
            "fingerprint": {key: text for key, text in parts.items() if text},
            "policyDigest": _policy(asked, pair, group.vendor).digest,
        },
    }


def _imported(view: ModelView) -> bool:
    return view.clearance.record is not None and view.clearance.record.imported


def _policy(asked: _Setting, pair: Pair, vendor: str) -> Policy:
    return effective(
        asked.settings,
        reference=asked.reference(),
        candidate=asked.formats(pair.profile, pair.variant),
        pairs=asked.rules_of(pair, vendor),
    )


def _outdated(view: ModelView, groups: Sequence[_Group]) -> list[Delete]:
    """Reports of fingerprints that no replica has, but for the newest of each pair and the one that made the record."""
    used = {group.report.name for group in groups if group.report is not None}
    used |= {stand.report.name for stand in view.clearance.pods.values() if stand.report is not None}
    counts: dict[tuple[str, str, str], int] = {}
    found: list[Delete] = []
    for report in reversed(view.clearance.reports):
        key = (report.pair.profile, report.pair.variant, report.pair.engine)
        holds = report.record is not None and report.record == view.clearance.record
        if report.name in used or holds or report.overridden:
            continue
        counts[key] = counts.get(key, 0) + 1
        if counts[key] > KEPT:
            state = report.state
            found.append(Delete(state.kind, state.namespace, state.name, state.uid, None, f"no replica is of it and {KEPT} newer are kept"))
    return found


# ---- checks


def _certify(asked: _Setting, groups: Sequence[_Group], now: str) -> list[Certify]:
    view, found = asked.view, []
    recorder = None if view.clearance.record is not None else _recorder(view, groups)
    for group in groups:
        report = group.report
        if report is None or report.overridden or not group.members or report.blocked or report.state.deleting:
            continue
        recheck = report.promoted
        if recheck and not (group.serves and _left(asked.settings, report, now) == 0):
            continue
        if report.verdict is Verdict.INCONCLUSIVE and report.reason == Reason.INCONCLUSIVE:
            continue  # its prompts are used up
        if view.clearance.record is None and report is not recorder:
            continue
        # Who made the record is held to it like anybody else; only one that is too old is made anew, by what it is compared with last.
        mine = recheck and report.record is not None and report.record == view.clearance.record
        own = report is recorder or (mine and _old(asked.settings, report, now))
        found.append(_check(asked, group, report, own=own, recheck=recheck, groups=groups))
    return found


def _recorder(view: ModelView, groups: Sequence[_Group]) -> ReportView | None:
    """Whose record the others are to be compared with: the reference, or where it cannot be here, who came first."""
    profiles = {str(item.annotations.get(naming.PROFILE) or item.labels.get(naming.PROFILE, "")) for item in view.rendered}
    named = view.clearance.reference if view.clearance.reference in profiles else ""
    able = [
        group.report
        for group in groups
        if group.report is not None and group.members and not group.report.blocked and named in ("", group.pair.profile)
    ]
    return min(able, key=lambda report: (report.state.created, report.name), default=None)


def _old(asked: Settings, report: ReportView, now: str) -> bool:
    limit = asked.max_age_s if asked.max_age_s is not None else Policy().max_age_s
    return bool(report.record_made) and _seconds(report.record_made, now) > limit


def _left(asked: Settings, report: ReportView, now: str) -> float | None:
    """Seconds until a promoted pair is to be checked again; 0 = now. None: never."""
    every = asked.recheck_every_s if asked.recheck_every_s is not None else Policy().recheck_every_s
    checked = str(report.state.status.get("checkedAt") or report.decided or "")
    return max(0.0, every - _seconds(checked, now)) if every and checked else None


def _seconds(since: str, now: str) -> float:
    return (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds()


def _check(asked: _Setting, group: _Group, report: ReportView, *, own: bool, recheck: bool, groups: Sequence[_Group]) -> Certify:
    view, pair = asked.view, group.pair
    assert view.spec is not None
    own_formats = asked.formats(pair.profile, pair.variant)
    return Certify(
        namespace=view.state.namespace,
        report=report.name,
        report_uid=report.state.uid,
        model=view.key,
        model_uid=view.state.uid,
        served_name=view.spec.model.name or view.state.name,
        profile=pair.profile,
        variant=pair.variant,
        engine=pair.engine,
        reference_profile=str((report.state.spec.get("reference") or {}).get("profile") or ""),
        fingerprint=report.fingerprint,
        settings=asked.settings,
        pairs=asked.rules_of(pair, group.vendor),
        reference_formats=own_formats if own else asked.reference(),
        candidate_formats=own_formats,
        golden=_sets(asked),
        modalities=tuple(str(word) for word in view.spec.model.modalities),
        replicas=group.replicas,
        record=None if own else view.clearance.record,
        reference=() if own else _live(view, groups),
        own_reference=own,
        capture_as=identity.record_name(view.state.name, report.fingerprint.weights, pair.profile) if own else "",
        resume="" if recheck else report.resume,
        attempt=report.attempts,
        recheck=recheck,
    )


def _sets(asked: _Setting) -> tuple[GoldenSource, ...]:
    """Prompts; an imported capture brings its own."""
    found = (source for source in asked.golden if not settings.is_capture(source))
    return tuple(replace(source, namespace=asked.namespace) if not source.builtin and not source.namespace else source for source in found)


def _live(view: ModelView, groups: Sequence[_Group]) -> tuple[Replica, ...]:
    """Replicas that serve what the record was made of: asked where it became too old."""
    recorder = view.clearance.recorder
    if recorder is None:
        return ()
    return tuple(
        member.replica
        for group in groups
        if group.pair == recorder and group.report is not None and group.report.promoted
        for member in group.members
        if member.state is State.CLEARED
    )[:1]


def _enter(asked: _Setting, groups: Sequence[_Group]) -> list[Enter]:
    view, found = asked.view, []
    assert view.spec is not None
    if view.clearance.record is None:
        return []
    for group in groups:
        if group.report is None or not group.report.promoted:
            continue
        pair = group.pair
        for member in group.members:
            # A gate that only observes lets everybody in at once, and checks and tells all the same.
            if member.state is not State.ENTRY and (view.clearance.required or _entered(group.report, member.replica)):
                continue
            found.append(
                Enter(
                    namespace=view.state.namespace,
                    report=group.report.name,
                    model=view.key,
                    served_name=view.spec.model.name or view.state.name,
                    replica=member.replica,
                    settings=asked.settings,
                    pairs=asked.rules_of(pair, group.vendor),
                    reference_formats=asked.reference(),
                    candidate_formats=asked.formats(pair.profile, pair.variant),
                    record=view.clearance.record,
                    golden=_sets(asked),
                )
            )
    return found


def _entered(report: ReportView, replica: Replica) -> bool:
    """Whether the entry check of this very container is done."""
    found = report.entered.get(replica.pod)
    return found is not None and found.container == replica.container and found.passed is not None


# ---- what the reports say


def statuses(observed: Observed, *, now: str) -> tuple[StatusApply, ...]:
    """Of every report: what is stored, what was found since, a human's word, and entry checks of replicas that are still there."""
    there = {(pod.namespace, pod.name, each.container_id) for pod in observed.pods for each in pod.containers}
    found = []
    for state in observed.reports:
        if state.deleting:
            continue
        finding = observed.findings.get(state.key)
        kept = [row for row in state.status.get("replicas") or () if (state.namespace, row.get("pod"), row.get("containerId")) in there]
        whole = report_status.status({**state.status, "replicas": kept}, finding, generation=state.generation)
        rows = (_verified(state, finding, now), _complete(state, finding))
        whole["conditions"] = write(rows, state.status, state.generation, now)
        found.append(StatusApply(state.kind, state.namespace, state.name, state.uid, whole))
    return tuple(found)


_WORD = {Verdict.PROMOTE: TRUE, Verdict.BLOCK: FALSE, Verdict.INCONCLUSIVE: UNKNOWN}
_REASON = {
    Verdict.PROMOTE: Reason.EQUIVALENT,
    Verdict.BLOCK: Reason.NOT_EQUIVALENT,
    Verdict.INCONCLUSIVE: Reason.INCONCLUSIVE,
}


def _verified(state: CustomState, finding: Finding | None, now: str) -> Judged:
    kind, view = "AccuracyVerified", reports.view(state, finding, now)
    if view.overridden and view.verdict is not None:
        return Judged(kind, _WORD[view.verdict], Reason.OVERRIDDEN, view.message)
    stored = _stored(state, kind)
    words = finding.verified if finding is not None else stored
    if words is None:
        return Judged(kind, UNKNOWN, Reason.PENDING, "no replica of it has been asked yet")
    if words[1] == Reason.OVERRIDDEN:  # which ended
        verdict = view.verdict
        if verdict is None:
            return Judged(kind, UNKNOWN, Reason.RUNNING, "an override ended; the verdict is open")
        own = verdict is Verdict.PROMOTE and view.own
        return Judged(kind, _WORD[verdict], Reason.SELF_REFERENCE if own else _REASON[verdict], "an override ended; this is the verdict")
    return Judged(kind, *words)


def _complete(state: CustomState, finding: Finding | None) -> Judged:
    words = finding.complete if finding is not None else _stored(state, "Complete")
    return Judged("Complete", *(words or (FALSE, "Running", "")))


def _stored(state: CustomState, kind: str) -> tuple[str, str, str] | None:
    row = next((row for row in state.status.get("conditions") or () if row.get("type") == kind), None)
    return None if row is None else (str(row.get("status")), str(row.get("reason")), str(row.get("message") or ""))


__all__ = ["Wanted", "statuses", "wanted"]
