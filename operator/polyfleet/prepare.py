"""Observed -> Inputs: parse, build the fleet, resolve every model, and show all of it to the placer as one Snapshot."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from hwprofiles import HardwareProfileSpec
from hwprofiles.schema import duration_seconds
from hwprofiles.trust import trusted
from polyfleet import (
    cells,
    demand,
    drain,
    faults,
    fleet,
    naming,
    overdue,
    progress,
    quotas,
    reservation,
    revisions,
    rollout,
    rules,
    snapshot,
    turns,
    volume_shape,
)
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.children import Child, Children, attribute, recorded_size
from polyfleet.clearance import of_model, sense, settings
from polyfleet.clearance.of_model import Evidence
from polyfleet.inputs import Inputs, ModelView
from polyfleet.objects import Objects, Parsed, parse_all
from polyfleet.outdated import edited, outdated
from polyfleet.plans import moves, realise, stored
from polyfleet.render.deployment import Rendered, render
from polyfleet.resolve import Fault, Resolution, resolve
from polyfleet.scaling import conflicts, sizes, stuck, units
from polyfleet.scaling import settings as scaling_settings
from polyfleet.state import CustomState, Observed, PodState
from polyfleet.wake import path

log = logging.getLogger(__name__)

INVALID_SPEC = "InvalidSpec"
POD_TEMPLATE_INVALID = "PodTemplateInvalid"


def prepare(
    observed: Observed,
    *,
    policy_defaults: FleetPolicySpec | None = None,
    now: str | None = None,
    builder: fleet.Builder | None = None,
) -> Inputs:
    """`builder` keeps the fleet of the cycle before and works out what has changed since; without it everything is worked out.

    `now` (RFC 3339) tells which replicas are too young to move, how many moves this hour has left and how old data is; without it none
    is too young, the hour is whole and nothing is old.

    Planning sees only what of each profile can be trusted; `objects` keep the profiles as they are stored, for what is said of them."""
    objects = parse_all(observed, policy_defaults)
    specs = {item.name: _interned(item.state, item.spec) for item in objects.profiles if item.spec is not None}
    profiles = trusted(specs, today=now[:10] if now else _NEVER)
    build = fleet.build if builder is None else builder.build
    built = build(observed, replace(objects, profiles=tuple(_only(item, profiles.specs) for item in objects.profiles)))
    children = attribute(observed)
    timeout_s = duration_seconds(objects.policy.preemption.reservation_timeout)
    doomed = _doomed(observed, built, children, now, timeout_s)
    today = date.fromisoformat(now[:10]) if now else None
    readers = volume_shape.readers(observed)
    evidence = of_model.evidence(observed, now)
    wake = path.survey(observed.endpoints, [(item.state, item.spec) for item in objects.models])
    views = {
        parsed.key: _guarded(observed, objects, built, children, parsed, tuple(doomed.get(parsed.key, ())), today, readers, evidence, wake)
        for parsed in objects.models
        if not parsed.state.deleting
    }
    views = turns.in_turn(views, objects.policy.stability.max_concurrent_rollouts)
    views = {key: replace(view, late=overdue.late(view, now), in_drain=_in_drain(view, observed, now)) for key, view in views.items()}
    views = {key: replace(view, ended=ended) if (ended := _ended(view, now, timeout_s)) else view for key, view in views.items()}
    shown = snapshot.build(views, built, objects.policy, now)
    wanted = demand.demand(shown.models, (view.asked for view in views.values()))
    inputs = Inputs(shown, wanted, objects, built, children, views, profiles.faults, wake=wake)
    return inputs if now is None else _with_moves_left(inputs, stored.read(observed.plans), now)


def _doomed(observed: Observed, built: fleet.Fleet, children: Children, now: str | None, timeout_s: float) -> dict[str, list[PodState]]:
    """Pinned pods that will not be bound: their node can no longer take them, nobody could schedule them in time, or their reservation
    has ended."""
    found = snapshot.doomed_pods(built, children.by_model, now, timeout_s)
    moment = stuck.seconds(now or "")
    for key, force in sorted(observed.scaling.items()):
        known = {pod.uid for pod in found.get(key, ())}
        vain = stuck.given_up(children.of(key), force, moment) if moment is not None else ()
        if more := [pod for pod in vain if pod.uid not in known]:
            found.setdefault(key, []).extend(more)
    return found


def _in_drain(view: ModelView, observed: Observed, now: str | None) -> frozenset[str]:
    return frozenset(item.pod.uid for item in drain.drains(view, observed, now))


def _ended(view: ModelView, now: str | None, timeout_s: float) -> tuple[PodState, ...]:
    return tuple(pod for pod in view.doomed if reservation.ended(pod, now, timeout_s))


_NEVER = "9999-12-31"  # without a clock no date lies in the future


_INTERNED: dict[str, tuple[Mapping[str, Any], HardwareProfileSpec]] = {}


def _interned(state: CustomState, spec: HardwareProfileSpec) -> HardwareProfileSpec:
    """The same object for the same stored profile, so that what was computed of it in an earlier cycle is found again."""
    held = _INTERNED.get(state.name)
    if held is None or held[0] is not state.spec:
        if len(_INTERNED) > _MOST_PROFILES:
            _INTERNED.clear()
        held = _INTERNED[state.name] = (state.spec, spec)
    return held[1]


_MOST_PROFILES = 256


def _only(item: Parsed[HardwareProfileSpec], specs: Mapping[str, HardwareProfileSpec]) -> Parsed[HardwareProfileSpec]:
    return replace(item, spec=specs.get(item.name)) if item.spec is not None else item


def _with_moves_left(inputs: Inputs, plans: tuple[stored.Stored, ...], now: str) -> Inputs:
    force = stored.in_force(plans)
    running = force is not None and force.phase == stored.APPLYING
    acts = realise.acts(force, inputs, {}) if force is not None and running else None
    left = moves.left(inputs.policy.stability.max_moves_per_hour, plans, now, acts.moves if acts is not None else 0)
    policy = replace(inputs.snapshot.policy, max_moves=left)
    return replace(inputs, snapshot=replace(inputs.snapshot, policy=policy))


def _guarded(
    observed: Observed,
    objects: Objects,
    built: fleet.Fleet,
    children: Children,
    parsed: Parsed[ModelDeploymentSpec],
    doomed: tuple[PodState, ...],
    today: date | None,
    readers: volume_shape.Readers,
    evidence: Evidence,
    wake: path.Wake,
) -> ModelView:
    """A model on which this program itself fails is held and says so; the others go on."""
    try:
        view = _view(observed, objects, built, children, parsed, doomed, today, readers, evidence, wake)
        snapshot.model(view), snapshot.options(view)
    except Exception as error:
        log.exception("cannot decide on a model; it is held", extra={"model": parsed.key})
        owned = children.of(parsed.key)
        fault = Fault(INVALID_SPEC, faults.internal(error))
        clearance = of_model.clearance(objects.policy, None, parsed.state, owned, (), evidence)
        return ModelView(
            parsed.state, None, Resolution(), owned, recorded_size(owned), fault, failed=True, hold=True, doomed=doomed, clearance=clearance
        )
    return view


def _view(
    observed: Observed,
    objects: Objects,
    built: fleet.Fleet,
    children: Children,
    parsed: Parsed[ModelDeploymentSpec],
    doomed: tuple[PodState, ...],
    today: date | None,
    readers: volume_shape.Readers,
    evidence: Evidence,
    wake: path.Wake,
) -> ModelView:
    state, spec = parsed.state, parsed.spec
    owned = children.of(parsed.key)
    running = recorded_size(owned)
    if spec is None:
        view = ModelView(state, None, Resolution(), owned, running, Fault(INVALID_SPEC, parsed.fault), hold=True, doomed=doomed)
        view = replace(view, clearance=of_model.clearance(objects.policy, None, state, owned, (), evidence))
        return _with_frozen(view, built)
    held_profiles = sorted({child.profile for child in owned if child.pods})
    readings = volume_shape.readings(readers, state, spec)
    resolution = resolve(parsed.key, state.name, spec, built, held_profiles, objects.policy, today, readings)
    fault = _fault(built, observed, parsed, spec, resolution, objects.policy)
    rendered = _render_all(built, parsed, spec, resolution) if fault is None else ()
    fault = fault or _foreign(observed, state, rendered) or _of_policy(objects)
    force = observed.scaling.get(parsed.key)
    conflict = conflicts.named(observed.scalers, owned) or (force.conflict if force is not None else "")
    hold = fault is not None or spec.paused or bool(conflict)
    wanted = sizes.target(spec, state, owned, force, least=1 if path.refused(wake, parsed.key, spec) else 0)
    view = ModelView(
        state=state,
        spec=spec,
        resolution=resolution,
        children=owned,
        target=running if hold and not spec.suspend else wanted,
        wanted=wanted,
        accepted=fault,
        hold=hold and not spec.suspend,
        rendered=rendered,
        doomed=doomed,
        clearance=of_model.clearance(objects.policy, spec, state, owned, rendered, evidence),
        force=force,
        conflict=conflict,
    )
    view = replace(view, way=path.way(wake, state, spec, any(item.serving for item in snapshot.standings(view))))
    if spec.scaling is not None:
        view = replace(view, unit=units.reference(resolution.options, units.stated(spec), force.reference if force is not None else None))
    if view.accepted is None:
        gone = [item for item in progress.stored(state) if (item.profile, item.variant, item.revision) in overdue.wanted(view)]
        view = replace(view, rolled_back=tuple(gone))
        view = replace(view, outdated=frozenset(c.name for c in owned if _outdated(view, spec, built, c)))
    return _with_frozen(view, built)


def _outdated(view: ModelView, spec: ModelDeploymentSpec, built: fleet.Fleet, child: Child) -> bool:
    if not outdated(spec, child) or snapshot.current(view, child) is not None:
        return False
    followed = (
        view.clearance.required and spec.rollout.approval != "Manual" and any(o.profile == child.profile for o in view.resolution.options)
    )
    return not (followed and edited(built.profiles.get(child.profile), child))


def _of_policy(objects: Objects) -> Fault | None:
    """A budget that cannot be read is not unlimited, nor is a quota that cannot be held: nothing grows under such a policy."""
    fault = objects.policy_fault or quotas.fault(objects.policy)
    if not fault:
        return None
    return Fault(INVALID_SPEC, f"held because FleetPolicy default is not valid: {fault}; kubectl edit fpol default")


def _fault(
    built: fleet.Fleet,
    observed: Observed,
    parsed: Parsed[ModelDeploymentSpec],
    spec: ModelDeploymentSpec,
    resolution: Resolution,
    policy: FleetPolicySpec,
) -> Fault | None:
    broken = rules.broken(spec)
    if broken:
        # An object from before the rules may be wrong in more ways than one: all are told at once.
        if resolution.unresolved is not None:
            broken.append(resolution.unresolved.message)
        return Fault(INVALID_SPEC, "; ".join(broken))
    template = rules.template_faults(spec, built.profiles.values())
    if template:
        return Fault(POD_TEMPLATE_INVALID, "; ".join(template))
    if resolution.accepted is not None:
        return resolution.accepted
    if wider := settings.looser(policy, spec):
        return Fault("OverrideNotAllowed", f"{wider}; FleetPolicy default has spec.accuracy.overrides: StricterOnly")
    if unusable := sense.of_own(policy, spec):
        return Fault(INVALID_SPEC, unusable)
    if unreadable := scaling_settings.faults(spec):
        return Fault(INVALID_SPEC, "; ".join(unreadable))
    return _other_domains(built, spec, resolution) or _foreign(observed, parsed.state, ())


def _other_domains(built: fleet.Fleet, spec: ModelDeploymentSpec, resolution: Resolution) -> Fault | None:
    """A hard spread over a label that is not the pools' failure domain is a promise that nobody would keep."""
    spread = spec.placement.spread
    if spread is None or spread.mode != "Hard" or spread.topology_key is None:
        return None
    for name in sorted({name for option in resolution.options for name in option.pools}):
        pool = built.pool(name)
        key = pool.spec.failure_domain_key if pool is not None and pool.spec is not None else cells.ZONE
        if key != spread.topology_key:
            return Fault(
                INVALID_SPEC,
                f"spec.placement.spread.topologyKey: {spread.topology_key} with mode Hard, but the failure domain of pool {name} is {key};"
                f" set spec.failureDomainKey of the pool, or leave topologyKey out",
            )
    return None


def _render_all(
    built: fleet.Fleet, parsed: Parsed[ModelDeploymentSpec], spec: ModelDeploymentSpec, resolution: Resolution
) -> tuple[Rendered, ...]:
    found: list[Rendered] = []
    for option in resolution.options:
        for name in option.pools:
            pool = built.pool(name)
            if pool is not None:
                found.append(render(parsed.state, spec, option, pool))
    return tuple(sorted(found, key=lambda item: (item.option, item.pool)))


def _foreign(observed: Observed, state: CustomState, rendered: tuple[Rendered, ...]) -> Fault | None:
    """Objects that have the names of our children and are somebody else's: they are never touched."""
    service = naming.service_name(state.name)
    names = {item.name for item in rendered}
    found: list[tuple[str, str]] = []
    for kind, things in (("Service", observed.services), ("PodDisruptionBudget", observed.budgets), ("Deployment", observed.deployments)):
        for thing in things:
            wanted = thing.name in names if kind == "Deployment" else thing.name == service
            if not wanted or thing.namespace != state.namespace or thing.owner_uid == state.uid:
                continue
            if not collectable(thing.owner_uid, thing.labels, state):
                found.append((kind, thing.name))
    if not found:
        return None
    listed = ", ".join(f"{kind} {state.namespace}/{name}" for kind, name in found)
    kind, name = found[0]
    return Fault(
        INVALID_SPEC,
        f"{listed} exists already and belongs to somebody else; rename the ModelDeployment,"
        f" or remove it: kubectl -n {state.namespace} delete {kind.lower()} {name}",
    )


def collectable(owner_uid: str, labels: Mapping[str, str], state: CustomState) -> bool:
    """A child of an earlier object of this name: the garbage collector will remove it, then ours can be made."""
    return bool(owner_uid) and labels.get(naming.DEPLOYMENT) == naming.label_value(state.name)


def _with_frozen(view: ModelView, built: fleet.Fleet) -> ModelView:
    items = snapshot.standings(view)
    staying = [item for item in items if not item.leaving]
    if view.hold:
        if view.target <= len(staying):
            return view
        return replace(view, frozen=frozenset(item.pod.uid for item in staying), refill=True)
    if view.spec is None or not view.resolution.options:
        return view
    spec, view = view.spec, replace(view, earlier=revisions.earlier(view))
    view = sizes.sized(view)
    # What runs on a profile that was deleted is no earlier revision of anything: nothing says what should run there instead.
    known = [i for i in staying if i.child.name not in view.outdated and i.child.profile in built.profiles]
    leaving = rollout.superseded(spec, view.target, [item for item in known if revisions.replaced(view, item)])
    uids = frozenset(item.pod.uid for item in leaving)
    return replace(view, frozen=uids, superseded=uids)
