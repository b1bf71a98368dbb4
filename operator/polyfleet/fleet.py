"""Profiles, pools and nodes, put together: which node belongs to which pool, and what may run there.

Order of ownership, so that no device is counted twice:
1. pools with a nodeSelector, by name; the first that selects a node keeps it, the others report NodeOverlap. Such a pool names its
   profile itself, so it may hold nodes that no match entry can tell apart;
2. every other node goes by its profile's match entries to the first pool of that profile without a nodeSelector;
3. if there is none, a pool named after the profile is created (`discovery.autoCreatePools`), or one per value of a label in
   `discovery.poolLabels`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hwprofiles import HardwareProfileSpec, MatchReason, NodeMatch, advertised_alias, match_node
from polyfleet import naming
from polyfleet.api import AcceleratorPoolSpec, FleetPolicySpec
from polyfleet.inventory import (
    DEVICES_MISSING,
    DEVICES_WITHDRAWN,
    NO_MATCHING_PROFILE,
    SHARED_DEVICES,
    HeldIndex,
    Toleration,
    device_names,
    devices_of,
    exclusion,
    held_index,
    reserved,
    sharing,
)
from polyfleet.objects import Objects, Parsed
from polyfleet.state import NodeState, Observed, PodState

DEFAULT_SCHEDULER = "default"


@dataclass(frozen=True, slots=True)
class FleetNode:
    """One node of one pool. `installed`, `allocatable` and `held` are devices of the pool's profile."""

    state: NodeState
    pool: str
    resource: str  # the alias that it advertises, "" if none
    installed: int
    allocatable: int
    held: int
    reason: str = ""  # why it takes no new replica; "" = it does
    shared: str = ""  # why its devices are not whole ones; "" = they are

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def free(self) -> int:
        return max(0, self.allocatable - self.held)

    @property
    def withdrawn(self) -> int:
        return max(0, self.installed - self.allocatable)

    @property
    def stranded(self) -> int:
        """Idle devices of a node that counts as full: a pod still holds a failed one, so a healthy one waits behind it."""
        idle = max(0, self.installed - self.held)
        return min(self.withdrawn, self.held, idle) if self.free == 0 else 0


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    profile_name: str
    profile: HardwareProfileSpec | None
    spec: AcceleratorPoolSpec | None
    parsed: Parsed[AcceleratorPoolSpec] | None  # None: it has to be created
    selector: Mapping[str, str] = field(default_factory=dict)
    scheduler: str = DEFAULT_SCHEDULER
    resource: str = ""
    nodes: tuple[FleetNode, ...] = ()
    overlaps: tuple[tuple[str, str], ...] = ()  # (node, the pool that has it)

    @property
    def schedulable(self) -> bool:
        return self.spec is None or self.spec.schedulable

    @property
    def shared(self) -> bool:
        return self.spec is not None and self.spec.sharing == "Shared"

    @property
    def enforcement(self) -> str:
        return self.spec.enforcement if self.spec is not None else "Node"

    @property
    def tolerations(self) -> tuple[Toleration, ...]:
        return tolerations(self.profile, self.spec)


@dataclass(frozen=True, slots=True)
class Fleet:
    profiles: Mapping[str, HardwareProfileSpec]
    pools: tuple[Pool, ...]
    matches: Mapping[str, NodeMatch]  # by node, of every node
    pool_of: Mapping[str, str]  # node -> pool
    held: HeldIndex
    unknown: str = ""  # reason why the inventory cannot be read; "" = it is known

    def pool(self, name: str) -> Pool | None:
        return next((pool for pool in self.pools if pool.name == name), None)

    def pools_of(self, profile: str) -> tuple[Pool, ...]:
        return tuple(pool for pool in self.pools if pool.profile_name == profile)

    def unmatched(self) -> tuple[tuple[str, NodeMatch], ...]:
        """Nodes with devices or vendor labels that belong to no pool."""
        return tuple(
            (node, match)
            for node, match in sorted(self.matches.items())
            if node not in self.pool_of and match.profile is None and match.reason is not MatchReason.NO_DEVICES
        )


def tolerations(profile: HardwareProfileSpec | None, pool: AcceleratorPoolSpec | None) -> tuple[Toleration, ...]:
    """Those of the profile, then those of the pool; each once."""
    given = [*(profile.pod.tolerations if profile and profile.pod else ()), *(pool.tolerations if pool else ())]
    found: list[Toleration] = []
    for item in given:
        toleration = Toleration(item.key or "", item.operator, item.value or "", item.effect or "")
        if toleration not in found:
            found.append(toleration)
    return tuple(found)


def inventory_fault(observed: Observed) -> str:
    """Nodes give the devices and pods what is held: without either the stock is unknown."""
    return observed.unknown.get("nodes", "") or observed.unknown.get("pods", "")


def build(observed: Observed, objects: Objects) -> Fleet:
    profiles = {parsed.name: parsed.spec for parsed in objects.profiles if parsed.spec is not None}
    nodes = sorted(observed.nodes, key=lambda node: node.name)
    matches = {node.name: match_node(profiles, node.labels, node.capacity) for node in nodes}
    pools = [_declared(parsed, profiles) for parsed in objects.pools if not parsed.state.deleting]
    owner, overlaps = _selected(pools, nodes)
    open_pools: dict[str, str] = {}
    for pool in pools:
        if not pool.selector and pool.spec is not None:
            open_pools.setdefault(pool.profile_name, pool.name)
    created: dict[str, Pool] = {}
    for node in nodes:
        profile = matches[node.name].profile
        if node.name in owner or profile is None:
            continue
        name = open_pools.get(profile)
        if name is None and objects.policy.discovery.auto_create_pools:
            new = _automatic(profile, profiles[profile], node, objects.policy)
            name = new.name
            if all(pool.name != name for pool in pools):
                created.setdefault(name, new)
        if name is not None:
            owner[node.name] = name
    held = held_index(observed.pods)
    members: dict[str, list[NodeState]] = {}
    for node in nodes:
        if node.name in owner:
            members.setdefault(owner[node.name], []).append(node)
    filled = tuple(
        _fill(pool, members.get(pool.name, ()), matches, held, tuple(overlaps.get(pool.name, ())))
        for pool in sorted([*pools, *created.values()], key=lambda pool: pool.name)
    )
    return Fleet(profiles, filled, matches, dict(sorted(owner.items())), held, inventory_fault(observed))


def _declared(parsed: Parsed[AcceleratorPoolSpec], profiles: Mapping[str, HardwareProfileSpec]) -> Pool:
    spec = parsed.spec
    name = spec.profile if spec is not None else str(parsed.state.spec.get("profile", ""))
    selector = dict(spec.node_selector or {}) if spec is not None else {}
    return Pool(parsed.name, name, profiles.get(name), spec, parsed, selector)


def _automatic(name: str, profile: HardwareProfileSpec, node: NodeState, policy: FleetPolicySpec) -> Pool:
    for label in policy.discovery.pool_labels:
        if label in node.labels:
            value = node.labels[label]
            return Pool(naming.dns_label(name, value), name, profile, None, None, {label: value})
    return Pool(name, name, profile, None, None)


def _selected(pools: Iterable[Pool], nodes: Iterable[NodeState]) -> tuple[dict[str, str], dict[str, list[tuple[str, str]]]]:
    owner: dict[str, str] = {}
    overlaps: dict[str, list[tuple[str, str]]] = {}
    by_name = sorted((pool for pool in pools if pool.selector), key=lambda pool: pool.name)
    for node in nodes:
        for pool in by_name:
            if any(node.labels.get(key) != value for key, value in pool.selector.items()):
                continue
            if node.name in owner:
                overlaps.setdefault(pool.name, []).append((node.name, owner[node.name]))
            else:
                owner[node.name] = pool.name
    return owner, overlaps


def _fill(
    pool: Pool,
    nodes: Iterable[NodeState],
    matches: Mapping[str, NodeMatch],
    held: HeldIndex,
    overlaps: tuple[tuple[str, str], ...],
) -> Pool:
    members = tuple(nodes)
    scheduler, resource = _dialect(pool, members)
    filled = tuple(_node(pool, node, resource, matches[node.name], held) for node in members)
    return Pool(pool.name, pool.profile_name, pool.profile, pool.spec, pool.parsed, pool.selector, scheduler, resource, filled, overlaps)


def _dialect(pool: Pool, nodes: Iterable[NodeState]) -> tuple[str, str]:
    """The pool's scheduler and resource name. Undeclared, the alias that most nodes advertise tells the scheduler."""
    wanted = pool.spec.scheduler if pool.spec is not None else None
    if pool.profile is None:
        return wanted or DEFAULT_SCHEDULER, ""
    counts: Counter[str] = Counter()
    for node in nodes:
        alias = advertised_alias(pool.profile, node.allocatable, node.capacity)
        if alias is not None:
            counts[alias.name] += 1
    order = [alias for alias in pool.profile.resources if alias.name in counts]
    if wanted is not None:
        order = [alias for alias in order if wanted in alias.schedulers] or order
    if not order:
        return wanted or DEFAULT_SCHEDULER, ""
    alias = max(order, key=lambda item: (counts[item.name], -order.index(item)))
    if wanted is not None:
        return wanted, alias.name
    return DEFAULT_SCHEDULER if DEFAULT_SCHEDULER in alias.schedulers else alias.schedulers[0], alias.name


def _held(pods: Iterable[PodState], names: tuple[str, ...], allocatable: int) -> int:
    """Reserved devices count as held, but not a second time while those who leave still hold them."""
    pods = tuple(pods)
    firm = sum(devices_of(pod, names) for pod in pods if not reserved(pod))
    promised = sum(devices_of(pod, names) for pod in pods if reserved(pod))
    return max(firm, min(firm + promised, allocatable))


def _node(pool: Pool, node: NodeState, resource: str, match: NodeMatch, held: HeldIndex) -> FleetNode:
    if pool.profile is None:
        return FleetNode(node, pool.name, "", 0, 0, 0, NO_MATCHING_PROFILE)
    names = device_names(pool.profile)
    reason = exclusion(node, resource, pool.profile, pool.tolerations)
    if match.profile not in (None, pool.profile_name) and pool.profile.match:
        # The pool's selector caught a node that is plainly other silicon.
        reason = NO_MATCHING_PROFILE
    shared = sharing(node, pool.profile) or ""
    if shared and reason in (DEVICES_MISSING, DEVICES_WITHDRAWN):
        # A plugin that time-slices may rename its resource: the devices are there, but there are no whole ones.
        reason = SHARED_DEVICES
    return FleetNode(
        state=node,
        pool=pool.name,
        resource=resource,
        installed=node.capacity.get(resource, 0),
        allocatable=node.allocatable.get(resource, 0),
        held=_held(held.of(node.name), names, node.allocatable.get(resource, 0)),
        reason=reason,
        shared=shared,
    )
