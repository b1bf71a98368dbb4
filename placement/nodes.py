"""What each node holds and could give: groups of running replicas that may stop, and bins that starts may use.

- free(node) = allocatable - held by others - our replicas. A node that holds more than it may hand out takes no start and a stop there
  frees nothing (a withdrawn device may be the one that is held).
- A replica on a node that may not take new work, or that the snapshot does not know, counts and may be stopped, but frees nothing for
  others.
- Devices of a DRAINING replica can be planned for; such starts wait for it.
- Above size 1 a request takes whole aligned blocks. Blocks that cannot be read: with foreign pods or withdrawn devices on the node none
  is known free; otherwise each of our own single-device replicas breaks at most one block and larger ones hold whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from placement.types import Cell, Node, Replica, ReplicaState, Snapshot, Stock


@dataclass(frozen=True, slots=True)
class Group:
    """Running replicas that are interchangeable: same model, option and node. `ids` in the order to stop them."""

    index: int
    model: int
    option: str | None
    node: str
    cell: int | None
    devices: int
    ids: tuple[str, ...]
    cost: float
    work: float
    vendor: str
    domain: str
    stoppable: bool
    preference: float  # 0 = stop first .. 1 = stop last, among equals


@dataclass(frozen=True, slots=True)
class Bin:
    """What a node can give: free units and blocks, counting what drains, and what each stop would add."""

    node: str
    cell: int
    free: int
    blocks: int
    free_now: int
    blocks_now: int
    gains: tuple[tuple[int, int, int], ...]  # (group, units, blocks) per stopped replica
    draining: tuple[tuple[str, int, int], ...]  # (replica, units, blocks)
    installed: int = 0

    def takes(self, cell: Cell, size: int) -> bool:
        """Whether the node's kind allows this size at all: in a whole-node cell a larger request must be the whole node."""
        return size == 1 or not cell.whole_node_only or size == self.installed


def alignment(cell: Cell) -> int:
    """Devices of one block. Whole nodes need no partner rule: all devices are taken."""
    return 1 if cell.whole_node_only else cell.align_to


def blocks_of(cell: Cell, size: int) -> int:
    """Whole blocks that a request of this size takes (0 for a single device in an aligned cell)."""
    align = alignment(cell)
    return size // align if align == 1 or size > 1 else 0


def node_blocks(cell: Cell, node: Node, replicas: list[Replica], free: int) -> int:
    """Free complete blocks of a node, at least: what is not known to be complete is not counted."""
    align = alignment(cell)
    if align == 1:
        return free
    if node.free_blocks is not None:
        return min(node.free_blocks, free // align)
    if node.held_by_others > 0 or node.allocatable < node.installed:
        return 0
    broken = sum(1 for r in replicas if r.devices == 1)
    whole = sum(-(-r.devices // align) for r in replicas if r.devices > 1)
    return max(0, min(node.allocatable // align - broken - whole, free // align))


def read_nodes(snapshot: Snapshot) -> tuple[list[Group], list[Bin]]:
    """Nodes in the order of their names. Groups never span nodes, and not-serving replicas are a group of their own: they stop first."""
    groups: list[Group] = []
    bins: list[Bin] = []
    cell_index = {c.name: i for i, c in enumerate(snapshot.cells)}
    model_index = {m.name: i for i, m in enumerate(snapshot.models)}
    options = {o.id: o for o in snapshot.options}
    nodes = {n.name: n for n in snapshot.nodes}
    on_node: dict[str, list[Replica]] = {}
    for replica in snapshot.replicas:
        on_node.setdefault(replica.node, []).append(replica)
    any_unknown = any(c.stock is Stock.UNKNOWN for c in snapshot.cells)
    busiest = max((sum(r.devices for r in rs) for rs in on_node.values()), default=1)

    for name in sorted(set(nodes) | set(on_node)):
        node = nodes.get(name)
        here = on_node.get(name, [])
        cell = None if node is None else cell_index[node.cell]
        unknown = any_unknown if node is None or cell is None else snapshot.cells[cell].stock is Stock.UNKNOWN
        held = sum(r.devices for r in here)
        first = len(groups)
        buckets: dict[tuple[str, str, int, bool], list[Replica]] = {}
        for replica in here:
            if replica.state is not ReplicaState.DRAINING:
                serving = replica.state is ReplicaState.SERVING
                buckets.setdefault((replica.model, replica.option or "", replica.devices, serving), []).append(replica)
        for (model_name, option_id, devices, serving), members in sorted(buckets.items()):
            option = options.get(option_id)
            model = model_index[model_name]
            where = None if cell is None else snapshot.cells[cell]
            members.sort(key=lambda r: (r.state is not ReplicaState.PENDING, -r.age_order, r.id))
            # Not yet serving first, then nodes that take no new work, then the emptiest node.
            stays = 0.5 * serving + 0.25 * (node is not None and node.eligible) + 0.2 * held / max(1, busiest)
            groups.append(
                Group(
                    index=len(groups),
                    model=model,
                    option=option_id or None,
                    node=name,
                    cell=cell,
                    devices=devices,
                    ids=tuple(r.id for r in members),
                    cost=0.0 if where is None else where.cost_per_device_hour * devices,
                    work=0.0 if option is None else option.work_per_s or 0.0,
                    vendor=option.vendor if option is not None else ("" if where is None else where.vendor),
                    domain="" if where is None else where.failure_domain,
                    stoppable=not unknown and not snapshot.models[model].hold,
                    preference=stays,
                )
            )
        if node is None or cell is None or unknown or not node.eligible:
            continue
        slack = node.allocatable - node.held_by_others - held
        if slack < 0:
            continue
        bins.append(_bin(snapshot, node, cell, here, slack, groups[first:]))
    return groups, bins


def _bin(snapshot: Snapshot, node: Node, cell: int, here: list[Replica], slack: int, groups: list[Group]) -> Bin:
    where = snapshot.cells[cell]
    align = alignment(where)
    blocks = node_blocks(where, node, here, slack)
    # A single device that goes gives its block back only where the blocks were derived with one broken block per single device.
    singles = sum(1 for r in here if r.devices == 1)
    derived = node.free_blocks is None and node.held_by_others == 0 and node.allocatable == node.installed
    whole = sum(-(-r.devices // align) for r in here if r.devices > 1)
    single_gain = 1 if derived and node.allocatable // align - singles - whole >= 0 else 0

    def gain(devices: int) -> int:
        if align == 1:
            return devices
        return devices // align if devices > 1 else single_gain

    draining = tuple((r.id, r.devices, gain(r.devices)) for r in here if r.state is ReplicaState.DRAINING)
    return Bin(
        node=node.name,
        cell=cell,
        free=slack + sum(d for _, d, _ in draining),
        blocks=blocks + sum(b for _, _, b in draining),
        free_now=slack,
        blocks_now=blocks,
        gains=tuple((g.index, g.devices, gain(g.devices)) for g in groups if g.stoppable),
        draining=draining,
        installed=node.installed,
    )
