"""What the inventory is made of: nodes with their devices, pools of nodes, and the fleet of all pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwprofiles import HardwareProfileSpec, MatchReason, NodeMatch
from polyfleet.api import AcceleratorPoolSpec
from polyfleet.inventory import HeldIndex, Toleration
from polyfleet.objects import Parsed
from polyfleet.state import NodeState

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
    detail: str = ""  # the reason in words, where the word alone would leave one guessing
    sharing: bool = False  # its devices are given out as shared ones now
    staged: bool = False  # its pool became Shared, and it follows when the exclusive replicas on it are gone
    elsewhere: tuple[tuple[str, int], ...] = ()  # devices that pods hold under other names than `resource`

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
    def overdrawn(self) -> int:
        """Devices that pods hold beyond what is allocatable: it shrank under them."""
        return max(0, self.held - self.allocatable)

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
    dra: str = ""  # what of dynamic resource allocation cannot be read, in words; "" = nothing is missing

    def pool(self, name: str) -> Pool | None:
        return next((pool for pool in self.pools if pool.name == name), None)

    def pools_of(self, profile: str) -> tuple[Pool, ...]:
        return tuple(pool for pool in self.pools if pool.profile_name == profile)

    def unmatched(self) -> tuple[tuple[str, NodeMatch], ...]:
        """Nodes with devices or vendor labels that belong to no pool."""
        found = [
            (node, match)
            for node, match in self.matches.items()
            if match.profile is None and match.reason is not MatchReason.NO_DEVICES and node not in self.pool_of
        ]
        return tuple(sorted(found, key=lambda item: item[0]))


def tolerations(profile: HardwareProfileSpec | None, pool: AcceleratorPoolSpec | None) -> tuple[Toleration, ...]:
    """Those of the profile, then those of the pool; each once."""
    given = [*(profile.pod.tolerations if profile and profile.pod else ()), *(pool.tolerations if pool else ())]
    found: list[Toleration] = []
    for item in given:
        toleration = Toleration(item.key or "", item.operator, item.value or "", item.effect or "")
        if toleration not in found:
            found.append(toleration)
    return tuple(found)
