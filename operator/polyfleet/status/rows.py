"""The row of a ModelDeployment that speaks of the hardware, and what is said of replicas whose profile was edited."""

from __future__ import annotations

from collections.abc import Mapping

from hwprofiles import HardwareProfileSpec
from polyfleet import hardware, naming
from polyfleet.children import Child
from polyfleet.inputs import Inputs, ModelView
from polyfleet.outdated import differences
from polyfleet.render.deployment import Rendered
from polyfleet.snapshot import standings
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
