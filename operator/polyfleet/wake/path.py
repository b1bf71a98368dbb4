"""What leads back from zero now: is there an activator, is it in the way of a model, is it to be. Pure.

In the way = its pods stand in the model's Service. It goes in before the last replica is told to leave, and out when a replica is in the
Service. So the order of things is: decided to sleep -> slice written with its pods -> slice seen -> the last replica drains; and back: a
replica is Ready -> it is seen in the controller's slice -> the slice of ours is emptied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoscaling.policy import DEFAULT_COLD_START_S
from polyfleet import naming
from polyfleet.api import ModelDeploymentSpec
from polyfleet.scaling.force import Force
from polyfleet.state import CustomState, EndpointsState
from polyfleet.wake import ports, slices
from polyfleet.wake.names import HELD, METRICS_PORT, PODS, SERVICE, SERVING
from polyfleet.wake.slices import FAMILIES, Endpoint

if TYPE_CHECKING:
    from polyfleet.inputs import ModelView

ASLEEP = "Asleep"
NO_WAKE_PATH = "NoWakePath"
LABEL = "app.kubernetes.io/component=activator"
ABSENT = (
    "nothing here holds the requests that come while a model is at zero, so one replica stays; install the activator:"
    " helm upgrade RELEASE CHART -n NAMESPACE --reuse-values --set activator.enabled=true (docs/scale-to-zero.md), or set minReplicas to 1."
    " Where there was one before, take its pods out of the Services: kubectl delete endpointslices -A -l polyfleet.io/activator=held"
)
FULL = f"all {ports.COUNT} ports of the activator are taken by models that may sleep, so one replica stays; set minReplicas to 1"
# How long a request is held, s: steps, so that a measured start does not move it each time.
_FIRST_HOLD_S, _STEP, _LONGEST_HOLD_S = 120.0, 1.5, 3600.0
_MARGIN, _MORE_S = 1.5, 30.0


@dataclass(frozen=True, slots=True)
class Wake:
    """Of the whole cluster. `pods`: the activator's that take requests; `everyone`: those that leave as well, who may still hold some."""

    installed: bool | None = None  # None = nobody looked, or nobody may look
    family: str = FAMILIES[0]
    pods: tuple[Endpoint, ...] = ()
    everyone: tuple[Endpoint, ...] = ()
    metrics_port: int = METRICS_PORT
    ports: Mapping[str, int] = field(default_factory=dict)  # by model
    held: Mapping[str, EndpointsState] = field(default_factory=dict)  # model -> its slice of ours
    stray: Mapping[str, tuple[EndpointsState, ...]] = field(default_factory=dict)  # model -> slices from another address family
    serving: Mapping[tuple[str, str], bool] = field(default_factory=dict)  # (namespace, Service) -> whether a replica is in it


UNKNOWN = Wake()


@dataclass(frozen=True, slots=True)
class Way:
    """Of one model that may sleep, or that has a slice from when it might. `refused`: why it may not be at zero, with what to do."""

    port: int | None
    family: str
    pods: tuple[Endpoint, ...]
    sleeps: bool  # the spec allows it
    serves: bool  # a replica is in the Service
    stands: bool  # seen: the activator is in the way
    held: EndpointsState | None
    stray: tuple[EndpointsState, ...] = ()
    refused: str = ""


def survey(found: tuple[EndpointsState, ...] | None, models: Iterable[tuple[CustomState, ModelDeploymentSpec | None]]) -> Wake:
    """`found`: the slices that have to do with waking; None = not known."""
    if found is None:
        return UNKNOWN
    own = [each for each in found if slices.role(each) == PODS]
    family = next((name for name in FAMILIES if any(each.spec.get("addressType") == name for each in own)), FAMILIES[0])
    mine = [each for each in own if each.spec.get("addressType") == family]
    number = next((port for each in mine if (port := slices.port(each, "metrics")) is not None), METRICS_PORT)
    held: dict[str, EndpointsState] = {}
    stray: dict[str, tuple[EndpointsState, ...]] = {}
    owners = {state.uid: state for state, _ in models}
    recorded: dict[str, int] = {}
    foreign: set[int] = set()  # of models that this operator does not manage: another release's activator listens there
    for each in sorted(found, key=lambda each: (each.created, each.uid)):  # of two with one port the older has it, as for the activator
        owner = owners.get(each.owner_uid)
        if slices.role(each) != HELD:
            continue
        if owner is None or owner.namespace != each.namespace:
            if (port := slices.port(each)) is not None and port not in recorded.values():
                foreign.add(port)
            continue
        if each.name != slices.name(owner, family):
            stray[owner.key] = (*stray.get(owner.key, ()), each)
            continue
        held[owner.key] = each
        if (port := slices.port(each)) is not None and port not in foreign and port not in recorded.values():
            recorded[owner.key] = port
    serving: dict[tuple[str, str], bool] = {}
    for each in found:
        if slices.role(each) == SERVING:
            key = (each.namespace, each.labels.get(SERVICE, ""))
            serving[key] = serving.get(key, False) or bool(slices.ready(each))
    keys = {state.key for state, spec in models if sleeps(spec)} | held.keys()
    return Wake(
        installed=bool(own),
        family=family,
        pods=tuple(sorted({item for each in mine for item in slices.ready(each)})),
        everyone=tuple(sorted({item for each in mine for item in slices.everyone(each)})),
        metrics_port=number,
        ports=ports.assign(keys, recorded, foreign),
        held=held,
        stray=stray,
        serving=serving,
    )


def sleeps(spec: ModelDeploymentSpec | None) -> bool:
    """Whether the operator may put it to zero and wake it."""
    if spec is None or spec.scaling is None or spec.suspend:
        return False
    return spec.scaling.mode == "Auto" and spec.scaling.min_replicas == 0 and spec.scaling.scale_to_zero is not None


def way(wake: Wake, state: CustomState, spec: ModelDeploymentSpec | None, serving: bool) -> Way | None:
    """None: nothing is known, or the model has nothing to do with it. `serving`: one of its pods is Ready, for as long as its Service's
    slices do not bear the label."""
    held, stray, may = wake.held.get(state.key), wake.stray.get(state.key, ()), sleeps(spec)
    if wake.installed is None or not (may or held is not None or stray):
        return None
    port = wake.ports.get(state.key)
    in_service = wake.serving.get((state.namespace, naming.service_name(state.name)))
    there = {item.address for item in slices.ready(held)} if held is not None else set()
    return Way(
        port=port,
        family=wake.family,
        pods=wake.pods,
        sleeps=may,
        serves=serving if in_service is None else in_service,
        stands=bool(there & {item.address for item in wake.pods}),
        held=held,
        stray=stray,
        refused=refused(wake, state.key, spec),
    )


def refused(wake: Wake, key: str, spec: ModelDeploymentSpec | None) -> str:
    """Why a model that may sleep by its spec may not; "" where nothing is known."""
    if wake.installed is None or not sleeps(spec):
        return ""
    return ABSENT if not wake.installed else FULL if key not in wake.ports else ""


def asleep(view: ModelView) -> bool:
    """Whether it is at zero and may be: by the spec, not suspended, not held, not refused."""
    return view.target == 0 and not view.hold and sleeps(view.spec) and not awake(view)


def awake(view: ModelView) -> str:
    """Why one replica is the least although none might do; "" = nothing of this kind."""
    return view.way.refused if view.way is not None else ""


def waits(view: ModelView, replicas: int) -> bool:
    """Whether the last replicas have to stay until the activator stands in the way, which where slices cannot be read nobody sees."""
    return replicas > 0 and (not view.way.stands if view.way is not None else sleeps(view.spec))


def manifest(view: ModelView) -> dict[str, object] | None:
    """The slice as it should be now; None = there should be none."""
    found, spec = view.way, view.spec
    if found is None or found.refused or found.port is None or spec is None or spec.suspend or (found.serves and not found.sleeps):
        return None
    force, before = view.force, slices.route(found.held) if found.held is not None else None
    if force is not None or before is None:
        hold, wait = hold_s(force.slowest_s if force is not None else None), force.wake_s if force is not None else None
    else:
        hold, wait = before.hold_s, before.wake_s  # just started: what an earlier operator knew stands
    in_the_way = not found.serves or (found.sleeps and _asked(force))
    return slices.manifest(
        view.state,
        family=found.family,
        number=found.port,
        pods=found.pods if in_the_way else (),
        hold_s=hold,
        wake_s=wait,
        served=spec.model.name or view.state.name,
    )


def _asked(force: Force | None) -> bool:
    """Whether a decision to sleep stands."""
    return (
        force is not None and not force.wake_fault and force.demand.min_replicas == 0 == force.demand.work_per_s and force.demand.may_shrink
    )


def hold_s(slowest_s: float | None) -> float:
    """How long a request is to be held: longer than nearly every start. `slowest_s`: P95 of the slowest option; None = not measured."""
    wanted = _MARGIN * (slowest_s if slowest_s is not None else DEFAULT_COLD_START_S) + _MORE_S
    found = _FIRST_HOLD_S
    while found < min(wanted, _LONGEST_HOLD_S):
        found = round(found * _STEP)
    return min(found, _LONGEST_HOLD_S)
