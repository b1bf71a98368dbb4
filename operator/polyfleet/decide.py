"""The pure middle of a cycle: `prepare` -> (the placer) -> `act` and `report`. No I/O, no clock; same inputs, same bytes.

inputs = prepare(observed, now=...)
plan   = placement.plan(inputs.snapshot, inputs.demand)     # in a child process
judge(observed, inputs, plan, ...)                          # `polyfleet.plans`: which plan is acted on, and what is written first
act(observed, inputs, plan, now=...)                        # deletes, applies, pod patches
report(observed, inputs, plan, now=..., refusals=...)       # statuses and events; refusals: what the API server would not take
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from placement.types import Plan
from polyfleet import binding, faults, hardware, naming, rollout, workloads
from polyfleet.actions import Actions, Apply, Delete, PodPatch, Refusal
from polyfleet.clearance.standing import PodStand, State
from polyfleet.fleet import Fleet
from polyfleet.inputs import Inputs, ModelView
from polyfleet.prepare import prepare
from polyfleet.render import budget, deployment, pool, service
from polyfleet.serving import admit, drain, expel, hold_back, mark, refuse, withdraw
from polyfleet.snapshot import Standing, standings
from polyfleet.state import Observed
from polyfleet.status import report
from polyfleet.wake import path

log = logging.getLogger(__name__)

__all__ = ["Inputs", "act", "prepare", "report"]


def act(observed: Observed, inputs: Inputs, plan: Plan, *, now: str | None = None, kept: frozenset[str] = frozenset()) -> Actions:
    """`now` (RFC 3339) only spaces out retries of pods that a node rejected; without it they are retried at once. `kept`: models for
    which the plan is not carried out (it waits for an approval)."""
    deletes: list[Delete] = []
    applies: list[Apply] = [_pool(fleet_pool) for fleet_pool in _missing_pools(inputs.fleet)]
    patches: list[PodPatch] = []
    failed: list[Refusal] = []
    whole = _Whole.of(inputs, plan)
    for _, view in sorted(inputs.models.items()):
        try:
            own = _model(observed, inputs, plan, view, whole, now, kept=view.key in kept)
        except Exception as error:  # one object must not stop the others
            log.exception("cannot act on a model; it is left as it is", extra={"model": view.key})
            failed.append(Refusal(view.state.kind, view.state.namespace, view.state.name, 0, faults.internal(error)))
            continue
        deletes.extend(own.deletes)
        applies.extend(own.applies)
        patches.extend(own.pod_patches)
    return Actions(
        deletes=tuple(sorted(deletes, key=lambda act: (act.namespace, act.name, act.kind, act.uid))),
        applies=tuple(sorted(applies, key=_apply_order)),
        pod_patches=tuple(sorted(patches, key=lambda act: (act.namespace, act.name, act.kind))),
        failed=tuple(failed),
    )


def _apply_order(act: Apply) -> tuple[str, str, str]:
    metadata: Mapping[str, Any] = act.manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"], act.manifest["kind"]


def _missing_pools(fleet: Fleet) -> list[Any]:
    return [] if fleet.unknown else [item for item in fleet.pools if item.parsed is None]


def _pool(found: Any) -> Apply:
    return Apply(pool.manifest(found), f"nodes match profile {found.profile_name}")


@dataclass(frozen=True, slots=True)
class _Whole:
    """What one model's part must know of the whole plan."""

    free: frozenset[str]  # reserved pods whose devices are free now
    instead: Mapping[str, tuple[tuple[str, str], ...]]  # pod that leaves -> Deployments of the replicas that take its devices

    @staticmethod
    def of(inputs: Inputs, plan: Plan) -> _Whole:
        needed = {start.model for start in plan.starts if start.after}
        found: dict[str, set[tuple[str, str]]] = {}
        for key, view in inputs.models.items():
            for slot in binding.slots(inputs, plan, view) if key in needed else ():
                for uid in slot.start.after:
                    found.setdefault(uid, set()).add((view.state.namespace, slot.child))
        return _Whole(binding.released(inputs), {uid: tuple(sorted(names)) for uid, names in found.items()})


def _model(observed: Observed, inputs: Inputs, plan: Plan, view: ModelView, whole: _Whole, now: str | None, *, kept: bool) -> Actions:
    deletes: list[Delete] = []
    applies: list[Apply] = []
    patches: list[PodPatch] = []
    slots = () if kept else binding.slots(inputs, plan, view)
    decided = workloads.decide(inputs, plan, view, slots, kept=kept)
    _endpoint(observed, view, applies)
    _door(view, applies, deletes)
    _deployments(observed, view, decided.sizes, applies, deletes)
    if not inputs.fleet.unknown:
        deletes.extend(_pods(view, decided))
    patches.extend(binding.pins(inputs, view, slots, now, frozenset() if kept else whole.free))
    leaving = {item.pod.uid for item in decided.drain}
    own = {(view.state.namespace, slot.child) for slot in slots}
    for item in standings(view):
        if item.pod.uid in leaving:
            instead = own.union(whole.instead.get(item.pod.uid, ()))
            patches.extend([] if item.pod.deleting else drain(item, tuple(sorted(instead)), now))
        elif not item.pod.deleting:
            patches.extend(_traffic(inputs, view, item, leaving))
    return Actions(tuple(deletes), tuple(applies), tuple(patches))


def _traffic(inputs: Inputs, view: ModelView, item: Standing, leaving: Collection[str]) -> list[PodPatch]:
    """`leaving`: uids of replicas that begin to leave in this very cycle."""
    if item.leaving:
        return withdraw(item)
    if item.pod.node and (verdict := hardware.verify(inputs.fleet, item)).wrong:
        return refuse(item, verdict)
    stand = view.clearance.of(item.pod)
    if not view.clearance.required or stand is None:
        return admit(inputs.fleet, item) if not view.clearance.required else []
    label = mark(item, stand.state is State.CANDIDATE)
    if stand.state is State.CLEARED:
        return [*label, *admit(inputs.fleet, item)]
    if not stand.serves:
        return [*label, *hold_back(item, stand)]
    if stand.state in (State.REFUSED, State.BLOCKED) and _others_serve(view, stand, leaving):
        return [*label, *expel(item, stand)]
    return label


def _others_serve(view: ModelView, stand: PodStand, leaving: Collection[str]) -> bool:
    """Whether a serving replica that answers wrongly can be spared. One bad replica: any good one is better than wrong answers. A whole
    pair: as many good ones as the rollout's availability asks for."""
    good = 0
    for other in standings(view):
        beside = view.clearance.of(other.pod)
        stays = other.serving and not other.leaving and other.pod.uid not in leaving
        good += stays and beside is not None and beside.state in (State.CLEARED, State.FROZEN)
    if stand.state is State.REFUSED or view.spec is None:
        return good > 0
    return good >= max(1, view.target - rollout.max_unavailable(view.spec, view.target))


def _endpoint(observed: Observed, view: ModelView, applies: list[Apply]) -> None:
    """One Service and one budget per accepted model. What has our name and another owner is left alone."""
    if view.accepted is not None and not view.children:
        return
    owner = view.state
    name = naming.service_name(owner.name)
    woken = view.way is not None and not view.way.refused and (view.way.sleeps or not view.way.serves)
    for things, make in ((observed.services, partial(service.manifest, woken=woken)), (observed.budgets, budget.manifest)):
        foreign = any(t.namespace == owner.namespace and t.name == name and t.owner_uid != owner.uid for t in things)
        if not foreign:
            applies.append(Apply(make(owner), "the model's endpoint"))


def _door(view: ModelView, applies: list[Apply], deletes: list[Delete]) -> None:
    """The slice by which the activator stands in the way, or is ready to. Before anybody drains: applies come first. A model that is
    refused gets none, and the one that it has follows: an address of a pod that is gone would take its requests."""
    if view.way is None or view.spec is None or view.failed or (view.accepted is not None and view.way.held is None):
        return
    manifest, gone = path.manifest(view), view.way.stray
    if manifest is not None:
        applies.append(Apply(manifest, "where requests wait while nothing serves"))
    elif view.way.held is not None:
        gone = (*gone, view.way.held)
    deletes += [Delete("EndpointSlice", each.namespace, each.name, each.uid, None, "no request of the model waits there") for each in gone]


def _deployments(observed: Observed, view: ModelView, sizes: Mapping[str, int], applies: list[Apply], deletes: list[Delete]) -> None:
    owner = view.state
    rendered = {item.name: item for item in view.rendered}
    existing = {child.name: child for child in view.children}
    taken = {d.name for d in observed.deployments if d.namespace == owner.namespace and d.owner_uid != owner.uid}
    for name, size in sorted(sizes.items()):
        child = existing.get(name)
        if name in taken or (child is not None and child.deployment.deleting):
            continue
        if child is not None and size == 0 and not child.pods and child.deployment.replicas == 0:
            uid, version = child.deployment.uid, child.deployment.resource_version
            deletes.append(Delete("Deployment", owner.namespace, name, uid, version, "no replica is planned here and none is left"))
        elif name in rendered:
            applies.append(Apply(deployment.manifest(owner, rendered[name], size), f"{size} replicas planned"))
        elif child is not None:
            applies.append(Apply(deployment.stored_manifest(owner, child, size), f"{size} replicas of an earlier revision"))


def _pods(view: ModelView, decided: workloads.Workload) -> list[Delete]:
    late = {pod.uid for pod in view.ended}
    why = {False: "its planned node can no longer take it", True: "what was reserved for it did not come free in time"}
    found = [Delete("Pod", pod.namespace, pod.name, pod.uid, pod.resource_version, why[pod.uid in late]) for pod in view.doomed]
    for child in view.children:
        found += [
            Delete("Pod", pod.namespace, pod.name, pod.uid, pod.resource_version, "its gate was lifted without a node")
            for pod in child.stray
        ]
        found += [Delete("Pod", pod.namespace, pod.name, pod.uid, None, f"failed: {pod.reason or 'Failed'}") for pod in child.spent()]
    found += [Delete("Pod", pod.namespace, pod.name, pod.uid, None, "drained") for pod in decided.remove]
    return found
