"""What each node holds and could give: groups of running replicas that may stop, and bins that starts may use.

- free(node) = allocatable - held by others - our replicas. A node that holds more than it may hand out takes no start and a stop there
  frees nothing (a withdrawn device may be the one that is held).
- A replica on a node that may not take new work, or that the snapshot does not know, counts and may be stopped, but frees nothing for
  others.
- Devices of a DRAINING replica can be planned for; such starts wait for it.
- A replica of several nodes is written with their sorted names joined by commas and holds an equal share of each.
- Above size 1 a request takes whole aligned blocks. Blocks that cannot be read: with foreign pods or withdrawn devices on the node none
  is known free; otherwise each of our own single-device replicas breaks at most one block and larger ones hold whole blocks. A replica
  above size 1 that is no whole number of blocks is taken for so many single devices.
- Rings that cannot be read: an empty node's are full; beside one replica of ours alone they are known; beside several, the rings that they
  cannot have touched; else none. A stop there gives a chunk of the replica's own size, and full rings once everything on the node goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from placement.shapes import Place, parts_of, ring_of
from placement.shapes import alignment as alignment
from placement.shapes import blocks_of as blocks_of
from placement.types import Cell, Node, Replica, ReplicaState, Snapshot, Stock


@dataclass(frozen=True, slots=True)
class Group:
    """Running replicas that are interchangeable: same model, option and node(s). `ids` in the order to stop them."""

    index: int
    model: int
    option: str | None
    node: str  # several: joined by commas
    cell: int | None
    devices: int
    ids: tuple[str, ...]
    cost: float
    work: float
    vendor: str
    domain: str
    stoppable: bool
    preference: float  # 0 = stop first .. 1 = stop last, among equals
    resident: bool = False  # younger than its residence: not moved for money, nor stopped while others can go
    stays: bool = False  # its pool's own scheduler chooses nodes: not moved for money, but stopped like any other where its model shrinks


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
    rings: Place = ()  # cells with rings: free blocks per ring now, as far as known
    empties: bool = False  # cells with rings: all rings are full once everything that may stop or drains has gone

    def takes(self, cell: Cell, size: int) -> bool:
        """Whether the node's kind allows this size at all: in a whole-node cell a larger request must be the whole node."""
        return size == 1 or not cell.whole_node_only or size == self.installed

    def whole(self, size: int) -> bool:
        """Whether one node of a replica over several, of this size each, may be this node once it is empty."""
        return size == self.installed


def members(node: str) -> list[str]:
    """The nodes of a replica, of an assignment or of a start."""
    return node.split(",")


def node_blocks(cell: Cell, node: Node, replicas: Sequence[tuple[Replica, int]], free: int) -> int:
    """Free complete blocks of a node, at least: what is not known to be complete is not counted. `replicas` with their devices here."""
    align = alignment(cell)
    if align == 1:
        return free
    if node.free_blocks is not None:
        return min(node.free_blocks, free // align)
    if node.held_by_others > 0 or node.allocatable < node.installed:
        return 0
    return max(0, min(_unbroken(node, align, replicas), free // align))


def _unbroken(node: Node, align: int, replicas: Sequence[tuple[Replica, int]]) -> int:
    """Blocks that our replicas cannot have touched; below 0 where single devices must share blocks."""
    return node.allocatable // align - sum(k // align if k > 1 and k % align == 0 else k for _, k in replicas)


def node_rings(cell: Cell, node: Node, replicas: Sequence[tuple[Replica, int]], free: int) -> Place:
    """Free blocks per ring, at least; () in a cell without rings."""
    ring = ring_of(cell)
    if ring is None:
        return ()
    align, count = alignment(cell), node.installed // ring
    devices: list[int]
    if node.free_rings is not None:
        # Devices that are reserved and not yet taken may come out of any ring.
        hidden = max(0, sum(node.free_rings) - free)
        devices = [max(0, f - hidden) for f in node.free_rings[:count]]
    elif node.held_by_others > 0 or node.allocatable < node.installed:
        devices = []
    else:
        sizes = [k for _, k in replicas if k]
        used = [-(-k // ring) for k in sizes]
        devices = [ring] * max(0, count - sum(used))
        if len(sizes) == 1 and used[0] <= count and sizes[0] % used[0] == 0:
            devices += [ring - sizes[0] // used[0]] * used[0]
    # Of a ring that is partly used, no block is known to be complete.
    blocks = [f // align if align == 1 or f == ring else 0 for f in devices]
    return tuple(sorted(blocks + [0] * (count - len(blocks))))


def own_place(cell: Cell, devices: int) -> Place:
    """What a running replica leaves when it goes, apart from what is free beside it: parts of its own size, in blocks."""
    rings = -(-devices // (ring_of(cell) or max(1, devices)))
    if blocks_of(cell, devices) == 0 or devices % (rings * alignment(cell)):
        return ()
    return parts_of(cell, devices)


def read_nodes(snapshot: Snapshot) -> tuple[list[Group], list[Bin]]:
    """Nodes in the order of their names. Not-serving replicas are a group of their own (they stop first), and so are resident ones."""
    groups: list[Group] = []
    cell_index = {c.name: i for i, c in enumerate(snapshot.cells)}
    model_index = {m.name: i for i, m in enumerate(snapshot.models)}
    options = {o.id: o for o in snapshot.options}
    nodes = {n.name: n for n in snapshot.nodes}
    at: dict[str, list[Replica]] = {}
    here: dict[str, list[tuple[Replica, int]]] = {}
    for replica in snapshot.replicas:
        at.setdefault(replica.node, []).append(replica)
        names = members(replica.node)
        for name in names:
            here.setdefault(name, []).append((replica, -(-replica.devices // len(names))))
    held = {name: sum(k for _, k in rs) for name, rs in here.items()}
    load = {name: k + (nodes[name].held_by_others if name in nodes else 0) for name, k in held.items()}
    busiest = max(load.values(), default=1)
    counts: dict[str, list[float]] = {}  # requests in flight of a model's replicas
    for replica in snapshot.replicas:
        counts.setdefault(replica.model, []).append(replica.busy)
    any_unknown = any(c.stock is Stock.UNKNOWN for c in snapshot.cells)

    on_node: dict[str, list[tuple[Group, int]]] = {}
    for place in sorted(at):
        names = members(place)
        known = [nodes[n] for n in names if n in nodes]
        cells = [cell_index[n.cell] for n in known]
        cell = cells[0] if cells else None
        where = None if cell is None else snapshot.cells[cell]
        unknown = any(snapshot.cells[c].stock is Stock.UNKNOWN for c in cells) or (len(known) < len(names) and any_unknown)
        open_nodes = len(known) == len(names) and all(n.eligible for n in known)
        fullest = max(load[n] for n in names)
        kinds: dict[tuple[str, str, int, bool, bool], list[Replica]] = {}
        for replica in at[place]:
            if replica.state is not ReplicaState.DRAINING:
                serving = replica.state is ReplicaState.SERVING
                kinds.setdefault((replica.model, replica.option or "", replica.devices, serving, replica.resident), []).append(replica)
        for (model_name, option_id, devices, serving, resident), found in sorted(kinds.items()):
            option = options.get(option_id)
            model = model_index[model_name]
            found.sort(key=lambda r: (r.state is not ReplicaState.PENDING, r.busy, -r.age_order, r.id))
            # Fewest requests in flight; where nobody has counted them or all have the same, the emptiest node.
            least, most = min(counts[model_name]), max(counts[model_name])
            last = min(r.busy for r in found) / most if most > least else fullest / max(1, busiest)
            group = Group(
                index=len(groups),
                model=model,
                option=option_id or None,
                node=place,
                cell=cell,
                devices=devices,
                ids=tuple(r.id for r in found),
                cost=0.0 if where is None else where.cost_per_device_hour * devices,
                work=0.0 if option is None else option.work_per_s or 0.0,
                vendor=option.vendor if option is not None else ("" if where is None else where.vendor),
                domain="" if where is None else where.failure_domain,
                stoppable=not unknown and not snapshot.models[model].hold,
                # Not yet serving first, then nodes that take no new work.
                preference=0.5 * serving + 0.25 * open_nodes + 0.2 * last,
                resident=resident,
                stays=where is not None and not where.exact_nodes,
            )
            groups.append(group)
            for name in names:
                on_node.setdefault(name, []).append((group, -(-devices // len(names))))

    bins: list[Bin] = []
    for name in sorted(nodes):
        node = nodes[name]
        cell = cell_index[node.cell]
        slack = node.allocatable - node.held_by_others - held.get(name, 0)
        if node.eligible and slack >= 0 and snapshot.cells[cell].stock is not Stock.UNKNOWN:
            bins.append(_bin(snapshot, node, cell, here.get(name, []), slack, on_node.get(name, [])))
    return groups, bins


def _bin(snapshot: Snapshot, node: Node, cell: int, here: list[tuple[Replica, int]], slack: int, groups: list[tuple[Group, int]]) -> Bin:
    where = snapshot.cells[cell]
    align = alignment(where)
    rings = node_rings(where, node, here, slack)
    ringed = ring_of(where) is not None
    blocks = sum(rings) if ringed else node_blocks(where, node, here, slack)
    # A single device that goes gives its block back only where the blocks were derived with one broken block per single device.
    untouched = node.held_by_others == 0 and node.allocatable == node.installed
    single = 1 if untouched and node.free_blocks is None and align > 1 and _unbroken(node, align, here) >= 0 else 0

    def gain(devices: int) -> int:
        if ringed:
            return sum(own_place(where, devices))
        if align == 1:
            return devices
        return devices // align if devices > 1 and devices % align == 0 else devices * single

    draining = tuple((r.id, k, gain(k)) for r, k in here if r.state is ReplicaState.DRAINING)
    return Bin(
        node=node.name,
        cell=cell,
        free=slack + sum(d for _, d, _ in draining),
        blocks=blocks + sum(b for _, _, b in draining),
        free_now=slack,
        blocks_now=blocks,
        gains=tuple((g.index, k, gain(k)) for g, k in groups if g.stoppable),
        draining=draining,
        installed=node.installed,
        rings=rings,
        empties=bool(rings) and bool(here) and untouched and all(g.stoppable for g, _ in groups),
    )


def full_place(cell: Cell, b: Bin) -> Place:
    """The rings of an empty node."""
    ring = ring_of(cell)
    return () if ring is None else (ring // alignment(cell),) * (b.installed // ring)


def most_blocks(cell: Cell, b: Bin, groups: Sequence[Group]) -> int:
    """Blocks of the bin if everything that may stop on it stops: no request of more blocks ever fits."""
    most = b.blocks + sum(blocks * len(groups[g].ids) for g, _, blocks in b.gains)
    return max(most, sum(full_place(cell, b))) if b.empties else most
