"""The clearance of one model from what was observed: its gate, its reports, its pods, and the records that it may be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polyfleet import naming, progress
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.children import Child
from polyfleet.clearance import reports, settings, standing
from polyfleet.clearance.reports import OWNER, ReportView
from polyfleet.clearance.standing import Clearance
from polyfleet.clearance.work import GoldenSource, RecordRef
from polyfleet.render.deployment import Rendered
from polyfleet.state import CustomState, Observed


@dataclass(frozen=True, slots=True)
class Evidence:
    """What all models share."""

    reports: Mapping[str, tuple[ReportView, ...]] = field(default_factory=dict)  # by ModelDeployment
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of nodes
    now: str | None = None


def evidence(observed: Observed, now: str | None) -> Evidence:
    found = reports.views(observed.reports, observed.findings, now)
    return Evidence(found, {node.name: node.labels for node in observed.nodes}, now)


def clearance(
    policy: FleetPolicySpec,
    spec: ModelDeploymentSpec | None,
    state: CustomState,
    children: Sequence[Child],
    rendered: Sequence[Rendered],
    known: Evidence,
) -> Clearance:
    """`spec` None: the object cannot be read, so the fleet's gate holds for its replicas."""
    gate = policy.accuracy.gate if spec is None else settings.effective_gate(policy, spec)
    if gate == settings.DISABLED:
        return standing.OFF
    asked = spec if spec is not None else _NOBODYS
    wanted = settings.settings(policy, asked)
    own = [r for r in known.reports.get(state.key, ()) if r.state.annotations.get(OWNER, state.uid) == state.uid]
    base = {naming.weights_digest(asked.model.uri, asked.model.revision or "")}
    profiles = {item.name: item.annotations.get(naming.PROFILE) or item.labels.get(naming.PROFILE) for item in rendered}
    # Where the reference cannot be here, whoever comes first stands in for it, with whatever weights it has.
    named = wanted.reference_profile if wanted.reference_profile in profiles.values() else None
    base |= {item.annotations[naming.WEIGHTS] for item in rendered if named in (None, profiles[item.name])}
    captures = [record_of(source) for source in settings.golden(policy, asked, state.namespace) if settings.is_capture(source)]
    given_up = {(item.profile, item.variant, item.revision) for item in progress.stored(state)}
    return standing.stand(gate, children, rendered, own, known.labels, wanted, captures, frozenset(base), given_up)


def record_of(source: GoldenSource) -> RecordRef:
    return RecordRef(source.namespace, source.name, imported=True)


_NOBODYS = ModelDeploymentSpec.model_validate({"model": {"uri": "hf://unreadable/spec"}})
