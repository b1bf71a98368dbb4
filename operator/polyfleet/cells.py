"""The fleet as the placer sees it: pools become cells, nodes keep their names.

A cell is a pool's nodes of one failure domain and one fast-network domain with one allocation rule. Nodes with shared devices are
a cell of their own, where only single devices may be asked for and only by models that allow sharing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hwprofiles import legal_sizes, whole_node_only
from hwprofiles.schema import decimal_float
from placement.types import Cell, Node, Stock
from polyfleet.fleet import Fleet, FleetNode, Pool
from polyfleet.inventory import device_names, devices_of
from polyfleet.state import PodState

ZONE = "topology.kubernetes.io/zone"  # the failure domain of a pool that names none
# Where a scheduler or plugin writes the devices that a pod really got (Ascend device plugin: "Ascend910-2,Ascend910-5").
REAL_DEVICES = "huawei.com/AscendReal"
_DEVICE_INDEX = re.compile(r"-([0-9]+)$")


@dataclass(frozen=True, slots=True)
class _Group:
    failure_domain: str
    network_domain: str
    shared: bool

    def name(self, pool: str) -> str:
        parts = [pool]
        if self.failure_domain or self.network_domain:
            parts += [self.failure_domain, self.network_domain]
        return "/".join([*parts, "shared"] if self.shared else parts)


def price(pool: Pool) -> float:
    cost = (pool.spec.cost if pool.spec is not None else None) or (pool.profile.cost if pool.profile is not None else None)
    return decimal_float(cost.per_device_hour) if cost is not None else 0.0


def build(
    fleet: Fleet, ours: Collection[str], gone: Collection[str], never_combined: Collection[int] = ()
) -> tuple[tuple[Cell, ...], tuple[Node, ...]]:
    """`ours`: uids of pods that the snapshot shows as replicas; `gone`: uids of pods that hold nothing, because they never bound.

    `never_combined`: sizes above 1 that a model asks for which may use shared devices. They are no size of a shared cell: slices of
    one card, or of several, never add up to a larger device. The other sizes stay, so that an exclusive model is told of the sharing
    and not of a size.
    """
    cells: dict[str, Cell] = {}
    nodes: list[Node] = []
    for pool in fleet.pools:
        if pool.profile is None:
            continue
        if not pool.nodes:
            group = _Group("", "", pool.shared)
            cells[group.name(pool.name)] = _cell(fleet, pool, group, never_combined)
        held_under = frozenset(device_names(pool.profile))
        groups: dict[_Group, str] = {}
        for node in pool.nodes:
            group = _group(pool, node)
            name = groups.get(group, "")
            if not name:
                name = groups[group] = group.name(pool.name)
                cells[name] = _cell(fleet, pool, group, never_combined)
            nodes.append(_node(fleet, held_under, node, cells[name], ours, gone))
    return tuple(cells[name] for name in sorted(cells)), tuple(sorted(nodes, key=lambda node: node.name))


def _group(pool: Pool, node: FleetNode) -> _Group:
    key = pool.spec.failure_domain_key if pool.spec is not None else ZONE
    topology = pool.profile.topology if pool.profile is not None else None
    domain = topology.domain_label if topology is not None else None
    labels: Mapping[str, str] = node.state.labels
    return _Group(labels.get(key, ""), labels.get(domain, "") if domain else "", node.sharing)


def _cell(fleet: Fleet, pool: Pool, group: _Group, never_combined: Collection[int]) -> Cell:
    profile = pool.profile
    assert profile is not None
    full = profile.unit.per_node or max((node.installed for node in pool.nodes), default=0) or None
    sizes = legal_sizes(profile, pool.scheduler, full)
    if group.shared:
        sizes = tuple(size for size in sizes if size == 1 or size not in never_combined)
    limits = pool.spec.limits if pool.spec is not None else None
    reserve = pool.spec.reserve if pool.spec is not None else None
    return Cell(
        name=group.name(pool.name),
        pool=pool.name,
        profile=pool.profile_name,
        vendor=profile.vendor,
        sizes=sizes,
        align_to=profile.allocation.align_to,
        per_node=full,
        whole_node_only=whole_node_only(profile, pool.scheduler),
        cost_per_device_hour=price(pool),
        failure_domain=group.failure_domain,
        network_domain=group.network_domain,
        limit_devices=limits.devices if limits is not None else None,
        reserve_devices=(reserve.devices or 0) if reserve is not None else 0,
        schedulable=pool.schedulable,
        stock=Stock.UNKNOWN if fleet.unknown else Stock.KNOWN,
        shared=group.shared,
        exact_nodes=pool.enforcement == "Node",
    )


def _node(fleet: Fleet, names: Collection[str], node: FleetNode, cell: Cell, ours: Collection[str], gone: Collection[str]) -> Node:
    pods = [pod for pod in fleet.held.of(node.name) if devices_of(pod, names) and pod.uid not in gone]
    return Node(
        name=node.name,
        cell=cell.name,
        installed=node.installed,
        allocatable=node.allocatable,
        held_by_others=sum(devices_of(pod, names) for pod in pods if pod.uid not in ours),
        eligible=not node.reason,
        excluded_reason=node.reason,
        free_blocks=_free_blocks(node, cell, pods),
    )


def _free_blocks(node: FleetNode, cell: Cell, pods: list[PodState]) -> int | None:
    """Complete free blocks, if every pod there tells which devices it got; otherwise not known."""
    if cell.align_to <= 1 or cell.whole_node_only or node.withdrawn or not pods:
        return None
    taken: set[int] = set()
    for pod in pods:
        listed = [text.strip() for text in pod.annotations.get(REAL_DEVICES, "").split(",") if text.strip()]
        found = [match for text in listed if (match := _DEVICE_INDEX.search(text))]
        if not listed or len(found) != len(listed):
            return None
        taken.update(int(match[1]) for match in found)
    broken = {index // cell.align_to for index in taken}
    return node.installed // cell.align_to - len(broken)
