"""Which gated pod gets which planned node, and the one patch that says so.

Pods of one child are interchangeable, so the oldest waiting pod takes the first start of the plan. A start that waits for devices
of a leaving replica has its pod made, but the node is not given out before the devices are free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from placement.types import Plan, Start
from polyfleet import naming
from polyfleet.actions import PodPatch
from polyfleet.children import Child, condition_true
from polyfleet.fleet import Fleet
from polyfleet.inputs import Inputs, ModelView
from polyfleet.state import PodState

FIRST_DELAY_SECONDS = 5
LONGEST_DELAY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Slot:
    """One replica that is to start: in which child, and on which node."""

    child: str  # name of the Deployment
    pool: str
    node: str
    start: Start

    @property
    def ready(self) -> bool:
        return not self.start.after


def slots(inputs: Inputs, plan: Plan, view: ModelView) -> tuple[Slot, ...]:
    """The starts of one model, in the plan's order."""
    own = [start for start in plan.starts if start.model == view.key]
    pools = {cell.name: cell.pool for cell in inputs.snapshot.cells} if own else {}
    found: list[Slot] = []
    for start in own:
        pool = pools[start.cell]
        if view.hold:
            stored = view.stored_child(start.option, pool)
            name = stored.name if stored is not None else None
        else:
            rendered = view.child_for(start.option, pool)
            name = rendered.name if rendered is not None else None
        if name is not None:
            found.append(Slot(name, pool, start.node, start))
    return tuple(found)


def rests(child: Child, now: str | None) -> bool:
    """Whether a child whose pods were rejected is not tried again yet: 5 s, then twice as long each time, at most 5 minutes.

    The failed pods that are kept tell how often; without a time nothing rests.
    """
    if now is None or not child.failed or any(condition_true(pod, "ContainersReady") for pod in child.live):
        return False
    delay = min(FIRST_DELAY_SECONDS * 2 ** (len(child.failed) - 1), LONGEST_DELAY_SECONDS)
    last = max(datetime.fromisoformat(pod.created) for pod in child.failed)
    return datetime.fromisoformat(now) < last + timedelta(seconds=delay)


def pins(inputs: Inputs, view: ModelView, given: Sequence[Slot], now: str | None = None) -> tuple[PodPatch, ...]:
    """Waiting pods and slots of each child, paired in order."""
    patches: list[PodPatch] = []
    for child in view.children:
        if rests(child, now):
            continue
        places = [slot for slot in given if slot.child == child.name and slot.ready]
        patches.extend(_pin(inputs.fleet, child, pod, slot) for pod, slot in zip(child.waiting, places, strict=False))
    return tuple(patches)


def _pin(fleet: Fleet, child: Child, pod: PodState, slot: Slot) -> PodPatch:
    pool = fleet.pool(slot.pool)
    nodes = [slot.node]
    if pool is not None and pool.enforcement == "Pool":
        nodes = sorted(node.name for node in pool.nodes if not node.reason)
    body: dict[str, Any] = {
        "metadata": {"annotations": {naming.PLANNED_NODE: slot.node}},
        "spec": {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": _terms(child, nodes)}}},
            # Gates of others stay: only ours is lifted.
            "schedulingGates": [{"name": gate} for gate in pod.gates if gate != naming.GATE],
        },
    }
    return PodPatch("Pin", pod.namespace, pod.name, pod.uid, body, f"planned on {slot.node}")


def _terms(child: Child, nodes: Sequence[str]) -> list[dict[str, Any]]:
    """The template's own required terms (a user may have given some), each tightened to the planned node.

    A gated pod's affinity may only be tightened, so terms that are there must stay there.
    """
    spec = (child.deployment.spec.get("template") or {}).get("spec") or {}
    affinity: Mapping[str, Any] = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    own: list[Mapping[str, Any]] = list(required.get("nodeSelectorTerms") or [])
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]} for node in nodes]
    if not own:
        return [{"matchFields": [field]} for field in fields]
    return [{**term, "matchFields": [*(term.get("matchFields") or []), field]} for term in own for field in fields]
