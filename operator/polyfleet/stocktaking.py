"""One node of a pool: what is installed, allocatable and held there, and why it takes nothing. The pool's part is computed once for all
of its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hwprofiles import HardwareProfileSpec, NodeMatch, advertised_alias
from hwprofiles.resources import class_resource
from hwprofiles.sharing import LABELS, slice_reason
from polyfleet import dra, naming
from polyfleet.inventory import (
    DEVICES_MISSING,
    DEVICES_WITHDRAWN,
    NO_MATCHING_PROFILE,
    SHARED_DEVICES,
    Toleration,
    device_names,
    devices_of,
    exclusion,
    reserved,
    sharing,
)
from polyfleet.pools import DEFAULT_SCHEDULER, FleetNode, Pool
from polyfleet.state import NodeState, PodState

_REMEMBERED = 16_384
ModelRef = tuple[str, str]  # (namespace, the model's name as a label value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a node takes nothing (or ""), why its devices are no whole ones (or ""), and what the words leave open."""

    reason: str
    shared: str
    detail: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What all nodes of one pool have in common."""

    name: str
    profile_name: str
    profile: HardwareProfileSpec | None
    names: frozenset[str]  # under which its devices may be held
    tolerations: tuple[Toleration, ...]
    shared: bool
    labels: tuple[str, ...]  # of a node that its verdict depends on
    scheduler: str = DEFAULT_SCHEDULER
    resource: str = ""
    # Of ten thousand nodes most are in one of a few states: the verdicts that were found, by all that they depend on.
    verdicts: dict[tuple[object, ...], Verdict] = field(default_factory=dict, compare=False)

    def speaking(self, scheduler: str, resource: str) -> Terms:
        return replace(self, scheduler=scheduler, resource=resource, verdicts={})


def terms(pool: Pool) -> Terms:
    if pool.profile is None:
        return Terms(pool.name, pool.profile_name, None, frozenset(), pool.tolerations, pool.shared, ())
    needed = {item.node_label for engine in (pool.profile.engines or {}).values() for item in engine.requires}
    labels = (*LABELS, *sorted(needed))
    return Terms(pool.name, pool.profile_name, pool.profile, frozenset(device_names(pool.profile)), pool.tolerations, pool.shared, labels)


def alias_of(pool: Pool, node: NodeState) -> str:
    """The alias under which the node shows the pool's devices; "" if it shows none."""
    found = advertised_alias(pool.profile, node.allocatable, node.capacity) if pool.profile is not None else None
    return found.name if found is not None else ""


def dialect(pool: Pool, counts: Mapping[str, int]) -> tuple[str, str]:
    """The pool's scheduler and resource name. Undeclared, the alias that most nodes advertise tells the scheduler.

    `counts`: nodes by the alias that they advertise.
    """
    wanted = pool.spec.scheduler if pool.spec is not None else None
    order = [alias for alias in pool.profile.resources if counts.get(alias.name, 0) > 0] if pool.profile is not None else []
    if wanted is not None:
        order = [alias for alias in order if wanted in alias.schedulers] or order
    if not order:
        return wanted or DEFAULT_SCHEDULER, ""
    alias = max(order, key=lambda item: (counts[item.name], -order.index(item)))
    if wanted is not None:
        return wanted, alias.name
    return DEFAULT_SCHEDULER if DEFAULT_SCHEDULER in alias.schedulers else alias.schedulers[0], alias.name


def _held(pods: tuple[PodState, ...], names: frozenset[str], allocatable: int) -> int:
    """Reserved devices count as held, but not a second time while those who leave still hold them."""
    firm = promised = 0
    for pod in pods:
        if reserved(pod):
            promised += devices_of(pod, names)
        else:
            firm += devices_of(pod, names)
    return max(firm, min(firm + promised, allocatable))


def _verdict(at: Terms, profile: HardwareProfileSpec, node: NodeState, match: NodeMatch) -> Verdict:
    key = (
        node.ready, node.unschedulable, node.taints, match.profile, match.message, tuple(node.capacity.items()),
        tuple(node.allocatable.items()), tuple(map(node.labels.get, at.labels)),
    )  # fmt: skip
    found = at.verdicts.get(key)
    if found is None:
        if len(at.verdicts) >= _REMEMBERED:
            at.verdicts.clear()
        found = at.verdicts[key] = _judge(at, profile, node, match)
    return found


def _judge(at: Terms, profile: HardwareProfileSpec, node: NodeState, match: NodeMatch) -> Verdict:
    reason, detail = exclusion(node, at.resource, profile, at.tolerations), ""
    if match.profile not in (None, at.profile_name) and profile.match:
        # The pool's selector caught a node that is plainly other silicon.
        reason, detail = NO_MATCHING_PROFILE, f"{match.message} says {match.profile}"
    shared = sharing(node, profile, at.names) or ""
    if reason in (DEVICES_MISSING, DEVICES_WITHDRAWN):
        if profile.unit.kind != "slice":
            shared = shared or slice_reason(node.capacity) or ""
        if shared:
            # A plugin that slices may rename its resource: the devices are there, but there are no whole ones.
            reason = SHARED_DEVICES
    return Verdict(reason, shared, detail)


def take(
    at: Terms, node: NodeState, match: NodeMatch, pods: tuple[PodState, ...], found: dra.View, willing: frozenset[ModelRef]
) -> FleetNode:
    """`node`: with its DRA devices; `pods`: that hold something there; `willing`: models that allow shared devices."""
    profile = at.profile
    if profile is None:
        return FleetNode(node, at.name, "", 0, 0, 0, NO_MATCHING_PROFILE)
    verdict = _verdict(at, profile, node, match)
    resource, shared, detail = at.resource, verdict.shared, verdict.detail
    counted = resource
    if profile.dra is not None and node.name in found.published and resource not in node.capacity:
        device_class = profile.dra.device_class
        if class_resource(device_class) in node.capacity:
            counted = class_resource(device_class)
        detail = detail or _by_claim_only(device_class, found)
    exclusive = at.shared and not shared and any(_exclusive(pod, willing) for pod in pods)
    return FleetNode(
        state=node,
        pool=at.name,
        resource=resource,
        installed=node.capacity.get(counted, 0),
        allocatable=node.allocatable.get(counted, 0),
        held=_held(pods, at.names, node.allocatable.get(counted, 0)) if pods else 0,
        reason=verdict.reason,
        shared=shared,
        detail=detail or shared,
        sharing=bool(shared) or (at.shared and not exclusive),
        staged=exclusive,
        elsewhere=_elsewhere(pods, at.names, resource) if resource and pods else (),
    )


def _by_claim_only(name: str, found: dra.View) -> str:
    if fault := found.faults.get(name):
        return fault
    return f"DeviceClass {name} gives its devices as {found.extended.get(name, '')}, which is none of spec.resources of the HardwareProfile"


def _exclusive(pod: PodState, willing: frozenset[ModelRef]) -> bool:
    """A replica of ours whose model does not share devices. Whose it is, is told by its label here: at worst the node waits longer."""
    name = pod.labels.get(naming.DEPLOYMENT)
    return name is not None and (pod.namespace, name) not in willing


def _elsewhere(pods: Iterable[PodState], names: frozenset[str], resource: str) -> tuple[tuple[str, int], ...]:
    sums: dict[str, int] = {}
    for pod in pods:
        for name, count in pod.requests.items():
            if name != resource and name in names:
                sums[name] = sums.get(name, 0) + count
    return tuple(sorted(sums.items()))
