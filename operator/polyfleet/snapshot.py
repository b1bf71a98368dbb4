"""Observed -> Snapshot: every model with its options, every replica where it stands.

Three kinds of pods of ours are not shown to the placer as replicas:
- gated pods without a node: they hold nothing; the plan's starts are matched to them later (`binding`);
- *doomed* pods: pinned, not bound, and their node can no longer take them, or what was reserved for them did not come free in time; they
  are deleted and planned anew;
- *frozen* pods: they count and stay, but are none of the placer's business this cycle, so their devices show as held by others.
  Frozen are the replicas of a held model while one of its dead pods is replaced, and replicas of an earlier revision while their
  replacement is made.
So do those of replicas that have been leaving for longer than a reservation may last (`reservation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from hwprofiles.schema import decimal_float, duration_seconds
from placement.types import Model, Option, Policy, Replica, ReplicaState, Snapshot, Spread
from polyfleet import cells, naming, quotas, reservation, rollout
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.children import Child
from polyfleet.clearance.standing import State
from polyfleet.fleet import Fleet
from polyfleet.inputs import ModelView
from polyfleet.inventory import device_names, devices_of, node_of, reserved
from polyfleet.merge import rate
from polyfleet.render.deployment import Rendered
from polyfleet.resolve import ResolvedOption
from polyfleet.scaling import units
from polyfleet.state import PodState


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one pod of ours stands, in the words that every later stage uses."""

    pod: PodState
    child: Child

    @property
    def serving(self) -> bool:
        """The operator let it in, and the kubelet agrees that it is up."""
        gate, ready = self.pod.conditions.get(naming.SERVING), self.pod.conditions.get("Ready")
        return gate is not None and gate.status == "True" and ready is not None and ready.status == "True"

    @property
    def leaving(self) -> bool:
        return self.pod.deleting or self.pod.labels.get(naming.DRAINING) == "true"

    @property
    def placed(self) -> bool:
        return bool(node_of(self.pod))

    @property
    def state(self) -> ReplicaState:
        if self.leaving:
            return ReplicaState.DRAINING
        if not self.pod.node:
            return ReplicaState.PENDING
        return ReplicaState.SERVING if self.serving else ReplicaState.STARTING


def standings(view: ModelView) -> tuple[Standing, ...]:
    """Unfinished pods of a model that are bound or pinned, doomed ones left out, by (created, uid)."""
    doomed = {pod.uid for pod in view.doomed}
    found = [
        Standing(pod, child) for child in view.children for pod in child.pods if not pod.finished and node_of(pod) and pod.uid not in doomed
    ]
    return tuple(sorted(found, key=lambda item: (item.pod.created, item.pod.uid)))


def doomed_pods(
    fleet: Fleet, children: Mapping[str, tuple[Child, ...]], now: str | None = None, timeout_s: float = float("inf")
) -> dict[str, list[PodState]]:
    """Pinned pods that their node can no longer take, by model, and those whose reservation has ended after `timeout_s`. Bound pods
    count first, then pins in order of age."""
    if fleet.unknown:
        return {}
    nodes = {node.name: (pool, node) for pool in fleet.pools for node in pool.nodes}
    free: dict[str, int] = {}
    for name, (pool, node) in nodes.items():
        names = device_names(pool.profile) if pool.profile is not None else ()
        bound = sum(devices_of(pod, names) for pod in fleet.held.of(name) if pod.node)
        free[name] = node.allocatable - bound
    found: dict[str, list[PodState]] = {}
    pinned = [(pod, model) for model, owned in children.items() for child in owned for pod in child.live if node_of(pod) and not pod.node]
    for pod, model in sorted(pinned, key=lambda item: (item[0].created, item[0].uid)):
        home = nodes.get(node_of(pod))
        if home is None or home[1].reason or home[0].profile is None:
            found.setdefault(model, []).append(pod)
            continue
        if reserved(pod):
            if reservation.ended(pod, now, timeout_s):
                found.setdefault(model, []).append(pod)
            continue  # it gets its devices when those who leave are gone
        need = devices_of(pod, device_names(home[0].profile))
        if need > free[node_of(pod)]:
            found.setdefault(model, []).append(pod)
        else:
            free[node_of(pod)] -= need
    return found


def current(view: ModelView, child: Child) -> Rendered | None:
    """What is wanted now and the child's replicas run: same profile, variant and revision, whichever pool it was made for."""
    same = (naming.PROFILE, naming.VARIANT, naming.REVISION)
    return next((item for item in view.rendered if all(child.deployment.labels.get(key) == item.labels.get(key) for key in same)), None)


def stale(view: ModelView, item: Standing) -> bool:
    """Whether a staying replica is of a revision that the model's own spec no longer asks for."""
    return not item.leaving and item.child.name not in view.outdated and current(view, item.child) is None


def option_of(view: ModelView, child: Child) -> str | None:
    """The option that a child's replicas run."""
    found = current(view, child)
    if found is not None:
        return found.option
    if (view.hold or child.name in view.outdated or child.name in view.goes_on) and child.profile and child.devices:
        return child.option
    return None


def holders(view: ModelView) -> tuple[Standing, ...]:
    """Replicas that are candidates: of a wanted pair that is not verified, without a verdict for what they are, and not serving."""
    if not view.clearance.required or view.hold:
        return ()
    found: list[Standing] = []
    for item in standings(view):
        stand, option = view.clearance.of(item.pod), option_of(view, item.child)
        if stand is None or option is None or item.leaving or item.pod.uid in view.frozen:
            continue
        trying = stand.state is State.CANDIDATE or (stand.state is State.BLOCKED and not stand.serves)
        if trying and item.child.pool not in view.clearance.eligible.get(option, frozenset()):
            found.append(item)
    return tuple(found)


def build(views: Mapping[str, ModelView], fleet: Fleet, policy: FleetPolicySpec, now: str | None = None) -> Snapshot:
    """`now` (RFC 3339) tells which replicas are too young to be moved for money; without it none is."""
    replicas: list[Replica] = []
    tenants = quotas.tenants(policy)
    stay_s = duration_seconds(policy.stability.min_residence)
    timeout_s = duration_seconds(policy.preemption.reservation_timeout)
    models: list[Model] = []
    shown: list[Option] = []
    for key, view in sorted(views.items()):
        own = options(view)
        shown.extend(own)
        known = {option.id for option in own}
        for order, item in enumerate(standings(view)):
            if item.pod.uid in view.frozen or reservation.overdue(item.pod, now, timeout_s):
                continue
            option = option_of(view, item.child)
            replicas.append(
                Replica(
                    id=item.pod.uid,
                    model=key,
                    option=option if option in known else None,
                    node=node_of(item.pod),
                    devices=_devices(fleet, item),
                    state=item.state,
                    age_order=order,
                    resident=not view.surplus and _young(item.pod, now, stay_s),
                    busy=_busy(view, item),
                )
            )
        models.append(replace(model(view), tenant=tenants.get(view.state.namespace, "")))
    ours = {replica.id for replica in replicas}
    gone = {pod.uid for view in views.values() for pod in view.doomed}
    sharing = {item.name for item in models if item.shared_ok}
    combined = {option.devices for option in shown if option.model in sharing and option.devices > 1}
    found_cells, nodes = cells.build(fleet, ours, gone, combined)
    return Snapshot(
        cells=found_cells,
        nodes=nodes,
        models=tuple(models),
        options=tuple(sorted(shown, key=lambda option: option.id)),
        replicas=tuple(sorted(replicas, key=lambda replica: replica.id)),
        policy=_policy(policy),
    )


def _busy(view: ModelView, item: Standing) -> float:
    """Requests in flight as of the decision to shrink; one that was not read then may have more than all others."""
    counted = dict(view.force.busy) if view.force is not None else {}
    return counted.get(item.pod.uid, max(counted.values()) + 1.0) if counted else 0.0


def _young(pod: PodState, now: str | None, stay_s: float) -> bool:
    """Bound for less than `stability.minResidence`; the pod's own age stands for it, which is a little more."""
    if now is None or not pod.created:
        return False
    return (datetime.fromisoformat(now) - datetime.fromisoformat(pod.created)).total_seconds() < stay_s


def _devices(fleet: Fleet, item: Standing) -> int:
    pool = fleet.pool(fleet.pool_of.get(node_of(item.pod), ""))
    profile = pool.profile if pool is not None else fleet.profiles.get(item.child.profile)
    found = devices_of(item.pod, device_names(profile)) if profile is not None else 0
    return found or item.child.devices or sum(item.pod.requests.values()) or 1


def options(view: ModelView) -> list[Option]:
    if view.hold:
        found: dict[str, Option] = {}
        for child in view.children:
            if not child.profile or not child.devices:
                continue
            vendor = child.text(naming.VENDOR)
            pools = tuple(sorted({other.pool for other in view.children if other.option == child.option}))
            found[child.option] = Option(child.option, view.key, child.profile, vendor, child.variant, child.engine, child.devices, pools)
        return [found[key] for key in sorted(found)]
    return [
        Option(
            id=option.id,
            model=view.key,
            profile=option.profile,
            vendor=option.wanted.profile.vendor,
            variant=option.wanted.variant,
            engine=option.wanted.engine,
            devices=option.devices,
            pools=verified(view, option) or option.pools,
            excluded_pools=_exhausted(view, option),
            work_per_s=_work(view, option),
            kv_tokens=_cache(view, option),
            start_seconds=start_seconds(view, option),
            evidence=option.evidence,
            eligible=bool(verified(view, option)),
        )
        for option in view.resolution.options
    ]


def _cache(view: ModelView, option: ResolvedOption) -> float | None:
    """Of one replica, where a floor of cache is asked for; an option that never ran counts nothing towards it."""
    if view.asked is None or view.asked.kv_floor <= 0.0 or view.force is None:
        return None
    return dict(view.force.cache).get(option.id)


def _work(view: ModelView, option: ResolvedOption) -> float | None:
    """Only where work is asked: a fixed size is a number, whatever is known of the speed."""
    return units.work_of(option, units.stated(view.spec), view.unit) if view.asked is not None and view.spec is not None else None


def _exhausted(view: ModelView, option: ResolvedOption) -> tuple[str, ...]:
    """Pools that lately did not give this option what they promised."""
    return tuple(sorted(row.pool for row in view.force.exhausted if row.option == option.id)) if view.force is not None else ()


def verified(view: ModelView, option: ResolvedOption) -> tuple[str, ...]:
    """Pools in which new replicas of an option may start; without a gate all that it fits."""
    if not view.clearance.required:
        return option.pools
    eligible = view.clearance.eligible.get(option.id, frozenset())
    return tuple(name for name in option.pools if name in eligible or (option.id, name) in view.earlier)


def unasked(view: ModelView) -> int:
    """Replicas that the placer is not asked for, because the wanted revision may not have them yet. Where an earlier revision can be
    added to, only as many as a rollout may lack: else it would take back the devices that its successor's candidate was given."""
    if not view.clearance.required or view.hold or view.spec is None or not view.rendered or view.clearance.eligible:
        return 0
    apart = {item.pod.uid for item in holders(view)} | view.frozen
    missing = max(0, view.target - sum(1 for item in standings(view) if not item.leaving and item.pod.uid not in apart))
    if not view.earlier:
        return missing
    if not view.clearance.open or view.spec.rollout.approval == "Manual":
        return 0
    return missing if view.spec.rollout.allow_downtime else min(missing, rollout.max_unavailable(view.spec, view.target))


def start_seconds(view: ModelView, option: ResolvedOption) -> float | None:
    """Of a cold start of this model in this layout: as measured here where that is known, else by the profile's data; None = not known."""
    if view.asked is not None and view.force is not None and (measured := dict(view.force.starts).get(option.id)) is not None:
        return measured
    return listed_start(option)


def listed_start(option: ResolvedOption) -> float | None:
    """By the profile's data; None = it says nothing."""
    entries = [entry for entry in option.wanted.entries() if entry.cold_start is not None]
    if not entries:
        return None
    best = max(range(len(entries)), key=lambda index: (entries[index].parallelism.devices == option.devices, rate(entries[index]), -index))
    return duration_seconds(entries[best].cold_start or "0s")


def _spread(spec: ModelDeploymentSpec) -> Spread:
    spread = spec.placement.spread
    return Spread.STRICT if spread is not None and spread.mode == "Hard" else Spread.SOFT


def model(view: ModelView) -> Model:
    spec = view.spec
    size = max(0, view.target - len([uid for uid in view.frozen if uid not in view.superseded]))
    if spec is None or view.hold:
        # Nothing moves: the placer only fills what died, and where it must count what runs it may not touch it.
        return Model(
            view.key,
            priority=spec.priority if spec is not None else 0,
            min_replicas=size,
            max_replicas=size,
            shared_ok=spec is not None and spec.placement.sharing == "Shared",
            hold=not view.refill,
        )
    tried = holders(view)
    # Nothing can be added before a verdict, so nothing is asked for; what is there stays.
    size += len(tried) - unasked(view)
    low, high = (side + len(tried) for side in view.bounds) if view.bounds is not None else (size, size)
    spread = spec.placement.spread
    cost = spec.placement.max_hourly_cost
    return Model(
        name=view.key,
        priority=spec.priority,
        min_replicas=low,
        max_replicas=high,
        min_vendors=min((spread.min_vendors or 1) if spread is not None else 1, max(1, high)),
        max_vendor_share_percent=spread.max_vendor_share_percent if spread is not None else None,
        max_hourly_cost=decimal_float(cost) if cost is not None else None,
        spread=_spread(spec),
        shared_ok=spec.placement.sharing == "Shared",
        restricted=view.resolution.restricted,
    )


def _policy(policy: FleetPolicySpec) -> Policy:
    budget = policy.budget.max_hourly_cost if policy.budget is not None else None
    return Policy(
        objective=policy.objective,
        max_hourly_cost=decimal_float(budget) if budget is not None else None,
        min_saving_percent=decimal_float(policy.stability.min_saving_percent),
        preemption=policy.preemption.enabled,
        defragment=policy.stability.defragment,
        quotas=quotas.rows(policy),
        max_moves=policy.stability.max_moves_per_hour,
        time_limit_s=duration_seconds(policy.solver.time_limit),
        relative_gap=decimal_float(policy.solver.relative_gap),
    )
