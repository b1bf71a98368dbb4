"""Profiles, pools and nodes, put together: which node belongs to which pool (`ownership`), and what may run there (`stocktaking`).

`build` is the pure function. A `Builder` gives the same answer and remembers the last one: of ten thousand nodes it looks at those that
changed, or whose pods did. What changed is told by identity, so it relies on the cache to keep the object of everything that did not.
An edit of a profile, a pool or the policy's discovery makes everything new.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hwprofiles import NodeMatch
from hwprofiles.match import Matcher
from polyfleet import dra
from polyfleet.differences import changes
from polyfleet.edits import Rules, rules_of
from polyfleet.inventory import HeldIndex, holds, node_of
from polyfleet.objects import Objects
from polyfleet.ownership import Overlap, Owners, declared
from polyfleet.pools import DEFAULT_SCHEDULER as DEFAULT_SCHEDULER
from polyfleet.pools import Fleet as Fleet
from polyfleet.pools import FleetNode as FleetNode
from polyfleet.pools import Pool as Pool
from polyfleet.pools import tolerations as tolerations
from polyfleet.state import NodeState, Observed, PodState
from polyfleet.stocktaking import ModelRef, Terms, alias_of, dialect, take, terms


def inventory_fault(observed: Observed) -> str:
    """Nodes give the devices and pods what is held: without either the stock is unknown."""
    return observed.unknown.get("nodes", "") or observed.unknown.get("pods", "")


def build(observed: Observed, objects: Objects) -> Fleet:
    """Everything anew."""
    return Builder().build(observed, objects)


@dataclass(slots=True)
class _Members:
    """The nodes of one pool."""

    pool: Pool
    terms: Terms
    names: list[str] = field(default_factory=list)  # sorted
    nodes: dict[str, FleetNode] = field(default_factory=dict)
    aliases: Counter[str] = field(default_factory=Counter)  # nodes by the alias that they advertise
    overlaps: dict[str, tuple[str, str]] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)  # to be looked at
    filled: tuple[FleetNode, ...] | None = None

    def add(self, name: str) -> None:
        insort(self.names, name)
        self.stale.add(name)

    def remove(self, name: str) -> None:
        del self.names[bisect_left(self.names, name)]
        self.nodes.pop(name, None)
        self.stale.discard(name)
        self.filled = None


class Builder:
    def __init__(self) -> None:
        self._rules: Rules | None = None

    def build(self, observed: Observed, objects: Objects) -> Fleet:
        try:
            return self._build(observed, objects)
        except BaseException:
            self._rules = None  # half of a change is in: the next answer is made anew
            raise

    def _build(self, observed: Observed, objects: Objects) -> Fleet:
        rules = rules_of(objects)
        if self._rules is None or not self._rules.allow(rules):
            self._begin(rules, objects)
        pools = {parsed.name: declared(parsed, rules.profiles) for parsed in objects.pools if not parsed.state.deleting}
        stale = self._pods_of(observed) | self._dra_of(observed) | self._nodes_of(observed.nodes)
        for name in sorted(stale & self._nodes.keys()):
            self._place(name)
        return self._answer(observed, rules, pools)

    def _begin(self, rules: Rules, objects: Objects) -> None:
        self._rules = rules
        self._matcher = Matcher(rules.profiles)
        self._classes = dra.classes_of(rules.profiles.values())
        found = [declared(parsed, rules.profiles) for parsed in objects.pools if not parsed.state.deleting]
        self._owners = Owners(found, rules.profiles, rules.discovery)
        self._members = {pool.name: _Members(pool, terms(pool)) for pool in found}
        self._raw: tuple[NodeState, ...] = ()
        self._nodes: dict[str, NodeState] = {}  # with their DRA devices
        self._bare: dict[str, NodeState] = {}
        self._matches: dict[str, NodeMatch] = {}
        self._pool_of: dict[str, str] = {}
        self._alias: dict[str, str] = {}
        self._overlaps: dict[str, Overlap] = {}
        self._pods: tuple[PodState, ...] = ()
        self._on: dict[str, dict[str, PodState]] = {}  # node -> uid -> pod that holds something
        self._held: dict[str, tuple[PodState, ...]] = {}
        self._view = dra.NOTHING
        self._dra_inputs: tuple[object, ...] = ()
        self._shown: Mapping[str, str] = {}
        self._moved = False  # a node came, went or changed its pool
        self._fresh = True  # `_matches` is no part of an earlier answer

    # ---- what changed, as names of nodes

    def _pods_of(self, observed: Observed) -> set[str]:
        gone, come = changes(self._pods, observed.pods)
        self._pods = observed.pods
        stale: set[str] = set()
        for pod in gone:
            if holds(pod) and (node := node_of(pod)):
                del self._on[node][pod.uid]
                stale.add(node)
        on = self._on
        for pod in come:
            if holds(pod) and (node := pod.node or node_of(pod)):
                if node in on:
                    on[node][pod.uid] = pod
                else:
                    on[node] = {pod.uid: pod}
                stale.add(node)
        return self._rehold(stale)

    def _rehold(self, stale: set[str]) -> set[str]:
        if stale:
            self._held = held = dict(self._held)
            for node in stale:
                if there := self._on.get(node):
                    pods = there.values()
                    held[node] = tuple(pods) if len(there) == 1 else tuple(sorted(pods, key=_by_name))
                else:
                    held.pop(node, None)
                    self._on.pop(node, None)
        return stale

    def _dra_of(self, observed: Observed) -> set[str]:
        inputs: tuple[object, ...] = (observed.slices, observed.claims, observed.device_classes, dra.unread(observed))
        if any(claim.extended for claim in observed.claims):
            inputs = (*inputs, observed.pods)  # which of them hold by request what such a claim says once more
        same = len(inputs) == len(self._dra_inputs) and all(a is b or a == b for a, b in zip(inputs, self._dra_inputs, strict=True))
        if same:
            return set()
        old, self._view, self._dra_inputs = self._view, dra.view(observed, self._classes), inputs
        stale: set[str] = set()
        for pod in old.holders:
            del self._on[pod.node][pod.uid]
            stale.add(pod.node)
        for pod in self._view.holders:
            self._on.setdefault(pod.node, {})[pod.uid] = pod
            stale.add(pod.node)
        self._rehold(stale)
        new = self._view
        every = (old.extended, old.faults) != (new.extended, new.faults)
        for node in old.published | new.published:
            if every or (node in old.published) != (node in new.published) or old.stock.get(node) != new.stock.get(node):
                stale.add(node)
                if node in self._bare:
                    self._nodes[node] = dra.with_stock(self._bare[node], new)
        return stale

    def _nodes_of(self, nodes: tuple[NodeState, ...]) -> set[str]:
        gone, come = changes(self._raw, nodes)
        self._raw = nodes
        there = {node.name for node in come}
        for node in gone:
            if node.name not in there:
                self._forget(node.name)
        for node in come:
            self._moved |= node.name not in self._bare
            self._bare[node.name] = node
            self._nodes[node.name] = dra.with_stock(node, self._view)
        return there

    def _forget(self, name: str) -> None:
        self._leave(name)
        self._moved = True
        for known in (self._nodes, self._bare, self._own_matches()):
            known.pop(name, None)

    # ---- one node

    def _place(self, name: str) -> None:
        node = self._nodes[name]
        match = self._matcher.match(node.labels, node.capacity)
        if self._matches.get(name) != match:
            self._own_matches()[name] = match
        owner, overlaps = self._owners.of(node, match.profile)
        if owner != self._pool_of.get(name, "") or overlaps != self._overlaps.get(name, ()):
            if name in self._pool_of or name in self._overlaps:
                self._leave(name)
            self._join(name, owner, overlaps)
        if not owner:
            return
        members = self._members[owner]
        alias = alias_of(members.pool, node)
        if alias != self._alias.get(name):
            members.aliases[self._alias.pop(name, "")] -= 1
            members.aliases[alias] += 1
            self._alias[name] = alias
        members.stale.add(name)

    def _own_matches(self) -> dict[str, NodeMatch]:
        if not self._fresh:
            self._matches, self._fresh = dict(self._matches), True
        return self._matches

    def _join(self, name: str, owner: str, overlaps: Overlap) -> None:
        self._moved = True
        for wanted, keeper in overlaps:
            self._members[wanted].overlaps[name] = (name, keeper)
        if overlaps:
            self._overlaps[name] = overlaps
        if not owner:
            return
        if owner not in self._members:
            pool = self._owners.make(self._nodes[name], self._matches[name].profile or "")
            self._members[owner] = _Members(pool, terms(pool))
        self._pool_of[name] = owner
        self._members[owner].add(name)
        self._members[owner].aliases[""] += 1
        self._alias[name] = ""

    def _leave(self, name: str) -> None:
        for wanted, _ in self._overlaps.pop(name, ()):
            del self._members[wanted].overlaps[name]
        owner = self._pool_of.pop(name, "")
        if owner:
            self._moved = True
            members = self._members[owner]
            members.remove(name)
            members.aliases[self._alias.pop(name)] -= 1
            if not members.names and members.pool.parsed is None:
                del self._members[owner]

    # ---- the answer

    def _answer(self, observed: Observed, rules: Rules, pools: Mapping[str, Pool]) -> Fleet:
        found: list[Pool] = []
        for name in sorted(self._members):
            members = self._members[name]
            pool = pools.get(name) or self._owners.make(self._nodes[members.names[0]], members.pool.profile_name)
            self._fill(members, pool, rules.willing)
            assert members.filled is not None
            told = members.terms
            overlaps = tuple(members.overlaps[key] for key in sorted(members.overlaps))
            found.append(replace(pool, scheduler=told.scheduler, resource=told.resource, nodes=members.filled, overlaps=overlaps))
        if self._moved:
            owner = self._pool_of
            self._shown = {node.name: owner[node.name] for node in observed.nodes if node.name in owner}
            self._moved = False
        self._fresh = False
        return Fleet(
            rules.profiles, tuple(found), self._matches, self._shown, HeldIndex(self._held), inventory_fault(observed), self._view.unread
        )

    def _fill(self, members: _Members, pool: Pool, willing: frozenset[ModelRef]) -> None:
        spoken = dialect(pool, members.aliases)
        if spoken != (members.terms.scheduler, members.terms.resource):
            members.terms = members.terms.speaking(*spoken)
            members.stale.update(members.names)
        if members.stale:
            for name in members.stale:
                held = self._held.get(name, ())
                members.nodes[name] = take(members.terms, self._nodes[name], self._matches[name], held, self._view, willing)
            members.stale.clear()
            members.filled = None
        if members.filled is None:
            members.filled = tuple(map(members.nodes.__getitem__, members.names))


def _by_name(pod: PodState) -> tuple[str, str, str]:
    return pod.namespace, pod.name, pod.uid
