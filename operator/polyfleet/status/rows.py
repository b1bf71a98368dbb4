"""The rows of a ModelDeployment that speak of the hardware, the accuracy gate and the revision."""

from __future__ import annotations

from polyfleet import hardware
from polyfleet.inputs import Inputs, ModelView
from polyfleet.plans.told import NOTHING, Told
from polyfleet.snapshot import current, standings
from polyfleet.status.conditions import FALSE, TRUE, UNKNOWN, Judged, counted


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


def promoted(view: ModelView, planned: int, told: Told = NOTHING) -> Judged | None:
    """The wanted revision serves in all `planned` places. None where no revision is known: the spec is not accepted, or nothing fits."""
    kind = "Promoted"
    if view.accepted is not None or (not view.rendered and view.target):
        return None
    staying = [item for item in standings(view) if not item.leaving]
    stale = sum(1 for item in staying if not current(view, item.child))
    serving = sum(1 for item in staying if item.serving and current(view, item.child))
    wanted = f"{serving} of {planned} replicas serve with the wanted revision"
    if stale and view.spec is not None:
        text = f"{wanted}, {stale} run what was wanted before"
        if view.spec.paused:
            return Judged(kind, FALSE, "Paused", f"{text}; spec.paused is true")
        if view.key in told.waiting:
            return Judged(kind, FALSE, "AwaitingApproval", f"{text}; {told.wish}")
        if view.spec.rollout.approval == "Manual":
            return Judged(kind, FALSE, "AwaitingApproval", f"{text}; spec.rollout.approval is Manual")
        if view.bars.gate:
            return Judged(kind, FALSE, "AwaitingAccuracy", f"{text}; {view.bars.gate}")
        return Judged(kind, FALSE, "RolloutInProgress", text)
    if view.key in told.waiting:
        return Judged(kind, FALSE, "AwaitingApproval", f"{wanted}; {told.wish}")
    if serving < planned:
        return Judged(kind, FALSE, "RolloutInProgress", wanted)
    return Judged(kind, TRUE, "Promoted", wanted if planned else "no replicas are wanted")
