"""The rows of a ModelDeployment that speak of the hardware, the accuracy gate and the revision."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hwprofiles import HardwareProfileSpec
from polyfleet import hardware, naming
from polyfleet.children import Child
from polyfleet.inputs import Inputs, ModelView
from polyfleet.outdated import differences
from polyfleet.plans.told import NOTHING, Told
from polyfleet.render.deployment import Rendered
from polyfleet.snapshot import current, standings
from polyfleet.status.conditions import FALSE, TRUE, UNKNOWN, Judged, counted

UNTIL = "what serves stays as it is until the model's own spec changes (spec.runtime); replicas that are added take what is wanted now"


def hardware_verified(inputs: Inputs, view: ModelView) -> Judged | None:
    """Of the replicas that are on a node; None while there is none."""
    kind = "HardwareVerified"
    verdicts = [hardware.verify(inputs.fleet, item) for item in standings(view) if item.pod.node and not item.leaving]
    if not verdicts:
        return None
    for reason, status in ((hardware.WRONG_DEVICE, FALSE), (hardware.NOT_REPORTED, UNKNOWN)):
        texts = [verdict.text for verdict in verdicts if verdict.reason == reason]
        if texts:
            return Judged(kind, status, reason, f"{len(texts)} of {len(verdicts)} replicas: {counted(texts)}")
    return Judged(kind, TRUE, hardware.VERIFIED)


def accuracy_verified(view: ModelView) -> Judged | None:
    """Only where the gate is asked for: nothing can pass it in this version, and nothing is claimed to have failed it."""
    return Judged("AccuracyVerified", UNKNOWN, "CapabilityMissing", view.bars.gate) if view.bars.gate else None


def outdated_text(view: ModelView, profiles: Mapping[str, HardwareProfileSpec]) -> str:
    """What the outdated replicas run, and how long they stay; "" where there is none. No counts: the sentence stays the same."""
    found: list[str] = []
    for child in view.children:
        if child.name not in view.outdated or not any(item.child.name == child.name for item in standings(view)):
            continue
        if child.profile not in profiles:
            found.append(f"HardwareProfile {child.profile}, on which they run, does not exist; apply it again, see kubectl get hwp")
            continue
        wanted = view.child_for(child.option, child.pool) or next((r for r in view.rendered if _kin(child, r)), None)
        if wanted is None:
            found.append(f"HardwareProfile {child.profile} no longer takes this model, see status.rejected")
        else:
            what = differences(child, wanted.template) or "the pods' labels or layout"
            found.append(f"HardwareProfile {child.profile} or its pool asks for something else now ({what})")
    return "; ".join(dict.fromkeys(found))


def _kin(child: Child, rendered: Rendered) -> bool:
    return all(child.deployment.labels.get(key) == rendered.labels.get(key) for key in (naming.PROFILE, naming.VARIANT))


def promoted(
    view: ModelView, planned: int, told: Told = NOTHING, profiles: Mapping[str, HardwareProfileSpec] = MappingProxyType({})
) -> Judged | None:
    """The wanted revision serves in all `planned` places. None where no revision is known: the spec is not accepted, or nothing fits."""
    kind = "Promoted"
    if view.accepted is not None or (not view.rendered and view.target and not view.outdated):
        return None
    staying = [item for item in standings(view) if not item.leaving]
    stale = sum(1 for item in staying if not current(view, item.child))
    serving = sum(1 for item in staying if item.serving and current(view, item.child))
    wanted = f"{serving} of {planned} replicas serve with the wanted revision"
    if stale and view.spec is not None:
        text = f"{wanted}, {stale} run what was wanted before"
        only_outdated = stale == sum(1 for item in staying if item.child.name in view.outdated)
        if view.spec.paused:
            return Judged(kind, FALSE, "Paused", f"{text}; spec.paused is true")
        if view.key in told.waiting:
            return Judged(kind, FALSE, "AwaitingApproval", f"{text}; {told.wish}")
        if view.spec.rollout.approval == "Manual" and not only_outdated:
            return Judged(kind, FALSE, "AwaitingApproval", f"{text}; spec.rollout.approval is Manual")
        if view.bars.gate:
            return Judged(kind, FALSE, "AwaitingAccuracy", f"{text}; {view.bars.gate}")
        if only_outdated:
            return Judged(kind, FALSE, "ProfileOutdated", f"{text}: {outdated_text(view, profiles)}; {UNTIL}")
        return Judged(kind, FALSE, "RolloutInProgress", text)
    if view.key in told.waiting:
        return Judged(kind, FALSE, "AwaitingApproval", f"{wanted}; {told.wish}")
    if serving < planned:
        return Judged(kind, FALSE, "RolloutInProgress", wanted)
    return Judged(kind, TRUE, "Promoted", wanted if planned else "no replicas are wanted")
