"""Which gated pod gets which planned node, and the one patch that says so.

Pods of one child are interchangeable, so the oldest waiting pod takes the first start of the plan. A start that waits for devices
of leaving replicas has its pod made, gated, and its node *reserved*: an annotation names the node and who is waited for. From then on
the pod counts as a replica there, so nobody else is given the devices as they come free one by one, whoever solves next; the gate is
lifted when those who leave are gone and the devices are free. If that takes longer than `preemption.reservationTimeout` the promise ends
(`reservation`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from placement.types import Plan, Start
from polyfleet import naming
from polyfleet.actions import PodPatch
from polyfleet.children import Child, condition_true
from polyfleet.fleet import Fleet
from polyfleet.inputs import Inputs, ModelView
from polyfleet.inventory import device_names, devices_of, node_of, reserved
from polyfleet.outdated import runs_where
from polyfleet.render.deployment import Rendered
from polyfleet.snapshot import standings
from polyfleet.state import PodState

if TYPE_CHECKING:
    from polyfleet.clearance.candidates import Trial

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


@dataclass(frozen=True, slots=True)
class Home:
    """Which child takes a start: "" if none can, and the revision of its replicas."""

    start: Start
    pool: str
    child: str
    revision: str


def homes(view: ModelView, pools: Mapping[str, str], starts: Sequence[Start], trial: Trial | None = None) -> tuple[Home, ...]:
    """The starts of one model, in the plan's order. `pools`: of each cell.

    A start makes a replica of the wanted revision, with one exception: a replica of an outdated child that died is replaced in that child,
    as its ReplicaSet would do it, wherever the old template can run in place of the new one. Where the wanted revision may not have
    more replicas, the earlier one that may takes the start; but one start is the candidate of `trial`.
    """
    own = [start for start in starts if start.model == view.key]
    gaps = _gaps(view) if own else {}
    found: list[Home] = []
    for start in own:
        pool = pools[start.cell]
        rendered = None if view.hold else view.child_for(start.option, pool)
        if trial is not None and trial.takes(start.option, pool):
            child, trial = None, None
        elif view.hold:
            child = _gap_of_held(view, gaps, start.option, pool) or view.stored_child(start.option, pool)
        else:
            child = _gap(view, gaps, start.option, pool, rendered) or view.earlier_child(start.option, pool)
        if child is not None:
            found.append(Home(start, pool, child.name, child.revision))
        else:
            found.append(Home(start, pool, rendered.name if rendered else "", rendered.revision if rendered else ""))
    return tuple(found)


def _gaps(view: ModelView) -> dict[str, int]:
    """Replicas that each outdated child (of a held model: each child) asks for and does not have: neither staying nor leaving by our own
    word."""
    there: Counter[str] = Counter(item.child.name for item in standings(view) if not item.pod.deleting)
    asked = (c for c in view.children if (view.hold or c.name in view.outdated) and not c.deployment.deleting)
    return {child.name: child.deployment.replicas - there[child.name] for child in asked}


def _gap_of_held(view: ModelView, gaps: dict[str, int], option: str, pool: str) -> Child | None:
    """The child that lost the replica: a model that is paused in the middle of a rollout has one for each revision."""
    fits = [child for child in view.children if (child.option, child.pool) == (option, pool) and gaps.get(child.name, 0) > 0]
    if fits:
        gaps[fits[0].name] -= 1
    return fits[0] if fits else None


def _gap(view: ModelView, gaps: dict[str, int], option: str, pool: str, wanted: Rendered | None) -> Child | None:
    for child in view.children:
        fits = child.option == option and child.pool == pool and wanted is not None and runs_where(child, wanted.template)
        if gaps.get(child.name, 0) > 0 and fits:
            gaps[child.name] -= 1
            return child
    return None


def slots(inputs: Inputs, plan: Plan, view: ModelView) -> tuple[Slot, ...]:
    """The starts of one model that have a child to be made in, in the plan's order."""
    if not any(start.model == view.key for start in plan.starts):
        return ()
    pools = {cell.name: cell.pool for cell in inputs.snapshot.cells}
    found = homes(view, pools, plan.starts, inputs.trials.get(view.key))
    return tuple(Slot(home.child, home.pool, home.start.node, home.start) for home in found if home.child)


def rests(child: Child, now: str | None) -> bool:
    """Whether a child whose pods were rejected is not tried again yet: 5 s, then twice as long each time, at most 5 minutes.

    The failed pods that are kept tell how often; without a time nothing rests.
    """
    if now is None or not child.failed or any(condition_true(pod, "ContainersReady") for pod in child.live):
        return False
    delay = min(FIRST_DELAY_SECONDS * 2 ** (len(child.failed) - 1), LONGEST_DELAY_SECONDS)
    last = max(datetime.fromisoformat(pod.created) for pod in child.failed)
    return datetime.fromisoformat(now) < last + timedelta(seconds=delay)


def pins(
    inputs: Inputs, view: ModelView, given: Sequence[Slot], now: str | None = None, free: frozenset[str] = frozenset()
) -> tuple[PodPatch, ...]:
    """Waiting pods and slots of each child, paired in order, and the reserved pods of `free`, whose devices are there now."""
    patches: list[PodPatch] = []
    for child in view.children:
        if rests(child, now):
            continue
        patches.extend(_pin(inputs.fleet, child, pod, child.pool, node_of(pod)) for pod in child.reserved if pod.uid in free)
        places = sorted((slot for slot in given if slot.child == child.name), key=lambda slot: not slot.ready)
        for pod, slot in zip(child.waiting, places, strict=False):
            patches.append(_pin(inputs.fleet, child, pod, slot.pool, slot.node) if slot.ready else _reserve(pod, slot, now))
    return tuple(patches)


def released(inputs: Inputs) -> frozenset[str]:
    """Reserved pods whose devices are free now: who they waited for is gone, and no two of them are promised the same device."""
    found: set[str] = set()
    nodes = {node.name: (pool, node) for pool in inputs.fleet.pools for node in pool.nodes}
    waiting = [pod for view in inputs.models.values() for child in view.children for pod in child.reserved]
    free: dict[str, int] = {}
    for pod in sorted(waiting, key=lambda pod: (pod.created, pod.uid)):
        name = node_of(pod)
        pool, node = nodes.get(name, (None, None))
        if pool is None or node is None or pool.profile is None:
            continue
        names, there = device_names(pool.profile), inputs.fleet.held.of(name)
        left = free.setdefault(name, node.allocatable - sum(devices_of(other, names) for other in there if not reserved(other)))
        need = devices_of(pod, names)
        if need <= left and not _waited_for(pod) & {other.uid for other in there}:
            found.add(pod.uid)
            free[name] -= need
    return frozenset(found)


def _waited_for(pod: PodState) -> set[str]:
    return set(pod.annotations.get(naming.WAITS_FOR, "").split(",")) - {""}


def _reserve(pod: PodState, slot: Slot, now: str | None) -> PodPatch:
    since = {naming.RESERVED_SINCE: now} if now is not None else {}
    body = {"metadata": {"annotations": {naming.PLANNED_NODE: slot.node, naming.WAITS_FOR: ",".join(slot.start.after), **since}}}
    return PodPatch("Reserve", pod.namespace, pod.name, pod.uid, body, f"planned on {slot.node}, where others are leaving")


def _pin(fleet: Fleet, child: Child, pod: PodState, pool_name: str, node: str) -> PodPatch:
    pool = fleet.pool(pool_name)
    nodes = [node]
    if pool is not None and pool.enforcement == "Pool":
        nodes = sorted(node.name for node in pool.nodes if not node.reason)
    body: dict[str, Any] = {
        "metadata": {"annotations": {naming.PLANNED_NODE: node}},
        "spec": {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": _terms(child, nodes)}}},
            # Gates of others stay: only ours is lifted.
            "schedulingGates": [{"name": gate} for gate in pod.gates if gate != naming.GATE],
        },
    }
    return PodPatch("Pin", pod.namespace, pod.name, pod.uid, body, f"planned on {node}")


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
