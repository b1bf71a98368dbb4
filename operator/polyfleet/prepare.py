"""Observed -> Inputs: parse, build the fleet, resolve every model, and show all of it to the placer as one Snapshot."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from polyfleet import demand, faults, fleet, naming, rollout, rules, snapshot, unsupported
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.children import Child, Children, attribute
from polyfleet.inputs import Inputs, ModelView
from polyfleet.objects import Objects, Parsed, parse_all
from polyfleet.render.deployment import Rendered, render
from polyfleet.resolve import Fault, Resolution, resolve
from polyfleet.state import CustomState, Observed, PodState

log = logging.getLogger(__name__)

INVALID_SPEC = "InvalidSpec"
POD_TEMPLATE_INVALID = "PodTemplateInvalid"


def prepare(observed: Observed, *, policy_defaults: FleetPolicySpec | None = None) -> Inputs:
    objects = parse_all(observed, policy_defaults)
    built = fleet.build(observed, objects)
    children = attribute(observed)
    doomed = snapshot.doomed_pods(built, children.by_model)
    views = {
        parsed.key: _guarded(observed, objects, built, children, parsed, tuple(doomed.get(parsed.key, ())))
        for parsed in objects.models
        if not parsed.state.deleting
    }
    shown = snapshot.build(views, built, objects.policy)
    return Inputs(shown, demand.demand(shown.models), objects, built, children, views)


def _guarded(
    observed: Observed,
    objects: Objects,
    built: fleet.Fleet,
    children: Children,
    parsed: Parsed[ModelDeploymentSpec],
    doomed: tuple[PodState, ...],
) -> ModelView:
    """A model on which this program itself fails is held and says so; the others go on."""
    try:
        view = _view(observed, objects, built, children, parsed, doomed)
        snapshot.model(view), snapshot.options(view)
    except Exception as error:
        log.exception("cannot decide on a model; it is held", extra={"model": parsed.key})
        owned = children.of(parsed.key)
        fault = Fault(INVALID_SPEC, faults.internal(error))
        return ModelView(parsed.state, None, Resolution(), owned, _recorded_size(owned), fault, failed=True, hold=True, doomed=doomed)
    return view


def _view(
    observed: Observed,
    objects: Objects,
    built: fleet.Fleet,
    children: Children,
    parsed: Parsed[ModelDeploymentSpec],
    doomed: tuple[PodState, ...],
) -> ModelView:
    state, spec = parsed.state, parsed.spec
    owned = children.of(parsed.key)
    running = _recorded_size(owned)
    if spec is None:
        view = ModelView(state, None, Resolution(), owned, running, Fault(INVALID_SPEC, parsed.fault), hold=True, doomed=doomed)
        return _with_frozen(view)
    held_profiles = sorted({child.profile for child in owned if child.pods})
    resolution = resolve(parsed.key, state.name, spec, built, held_profiles, objects.policy.profiles.min_evidence)
    fault = _fault(built, observed, parsed, spec, resolution)
    rendered = _render_all(built, parsed, spec, resolution) if fault is None else ()
    fault = fault or _foreign(observed, state, rendered) or _of_policy(objects)
    bars = unsupported.bars(objects.policy, spec)
    hold = fault is not None or spec.paused or bool(bars)
    wanted = demand.target(spec, running)
    view = ModelView(
        state=state,
        spec=spec,
        resolution=resolution,
        children=owned,
        target=running if hold and not spec.suspend else wanted,
        wanted=wanted,
        accepted=fault,
        hold=hold and not spec.suspend,
        bars=bars,
        rendered=rendered,
        doomed=doomed,
    )
    return _with_frozen(view)


def _of_policy(objects: Objects) -> Fault | None:
    """A budget that cannot be read is not unlimited: nothing grows under a policy that makes no sense."""
    if not objects.policy_fault:
        return None
    return Fault(INVALID_SPEC, f"held because FleetPolicy default is not valid: {objects.policy_fault}; kubectl edit fpol default")


def _recorded_size(owned: tuple[Child, ...]) -> int:
    """The size that was decided last: what the Deployments ask for, less what is being drained out of them."""
    asked = sum(child.deployment.replicas for child in owned if not child.deployment.deleting)
    draining = sum(1 for child in owned for pod in child.live if pod.labels.get(naming.DRAINING) == "true")
    return max(0, asked - draining)


def _fault(
    built: fleet.Fleet, observed: Observed, parsed: Parsed[ModelDeploymentSpec], spec: ModelDeploymentSpec, resolution: Resolution
) -> Fault | None:
    broken = rules.broken(spec)
    if lacking := unsupported.model_fault(spec):
        broken.append(lacking)
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
    return _foreign(observed, parsed.state, ())


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


def _with_frozen(view: ModelView) -> ModelView:
    items = snapshot.standings(view)
    staying = [item for item in items if not item.leaving]
    if view.hold:
        if view.bars or view.target <= len(staying):
            return view
        return replace(view, frozen=frozenset(item.pod.uid for item in staying), refill=True)
    if view.spec is None or not view.resolution.options:
        return view
    kept = {option.id for option in view.resolution.options}
    stale = [item for item in staying if snapshot.option_of(view, item.child) not in kept]
    leaving = rollout.superseded(view.spec, view.target, stale)
    uids = frozenset(item.pod.uid for item in leaving)
    return replace(view, frozen=uids, superseded=uids)
