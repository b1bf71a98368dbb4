"""Which node belongs to which pool.

Order of ownership, so that no device is counted twice:
1. pools with a nodeSelector, by name; the first that selects a node keeps it, the others report NodeOverlap. Such a pool names its
   profile itself, so it may hold nodes that no match entry can tell apart;
2. every other node goes by its profile's match entries to the first pool of that profile without a nodeSelector;
3. if there is none, a pool named after the profile is created (`discovery.autoCreatePools`), or one per value of a label in
   `discovery.poolLabels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwprofiles import HardwareProfileSpec
from polyfleet import naming
from polyfleet.api import AcceleratorPoolSpec
from polyfleet.api.fleetpolicy import Discovery
from polyfleet.objects import Parsed
from polyfleet.pools import Pool
from polyfleet.state import NodeState

Overlap = tuple[tuple[str, str], ...]  # (pool that wanted the node, pool that has it)


def declared(parsed: Parsed[AcceleratorPoolSpec], profiles: Mapping[str, HardwareProfileSpec]) -> Pool:
    """A pool that exists, without its nodes."""
    spec = parsed.spec
    name = spec.profile if spec is not None else str(parsed.state.spec.get("profile", ""))
    selector = dict(spec.node_selector or {}) if spec is not None else {}
    return Pool(parsed.name, name, profiles.get(name), spec, parsed, selector)


def automatic(name: str, profile: HardwareProfileSpec, node: NodeState, discovery: Discovery) -> Pool:
    """The pool that discovery makes for a node of this profile."""
    for label in discovery.pool_labels:
        if label in node.labels:
            value = node.labels[label]
            return Pool(naming.dns_label(name, value), name, profile, None, None, {label: value})
    return Pool(name, name, profile, None, None)


class Owners:
    """The rules above for one set of pools: `of` answers for one node, and remembers nothing."""

    def __init__(self, pools: Sequence[Pool], profiles: Mapping[str, HardwareProfileSpec], discovery: Discovery) -> None:
        self._selecting = sorted((pool for pool in pools if pool.selector), key=lambda pool: pool.name)
        self._open: dict[str, str] = {}
        for pool in pools:
            if not pool.selector and pool.spec is not None:
                self._open.setdefault(pool.profile_name, pool.name)
        self._profiles, self._discovery = profiles, discovery

    def of(self, node: NodeState, profile: str | None) -> tuple[str, Overlap]:
        """(pool, overlaps); the pool is "" if the node belongs to none. `profile`: that its labels match."""
        owner, overlaps = "", []
        for pool in self._selecting:
            if any(node.labels.get(key) != value for key, value in pool.selector.items()):
                continue
            if owner:
                overlaps.append((pool.name, owner))
            else:
                owner = pool.name
        if owner or profile is None:
            return owner, tuple(overlaps)
        if profile in self._open:
            return self._open[profile], ()
        return (self.make(node, profile).name if self._discovery.auto_create_pools else ""), ()

    def make(self, node: NodeState, profile: str) -> Pool:
        return automatic(profile, self._profiles[profile], node, self._discovery)
