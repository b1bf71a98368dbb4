"""Single changes of devices that may let a short model have more: devices that somebody gives up, a node that comes back, new nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from placement import bars
from placement.free import State, fits, give
from placement.hints import namespace
from placement.lack import lack, works
from placement.live import Live
from placement.nodes import members
from placement.relax import EDIT, FREE, HARDWARE, Relaxation, options_for, patch, patch_model, rivals, trial, with_model
from placement.shapes import alignment, ring_of
from placement.types import Node, Option, Snapshot, Spread, Stock

MOST_NODES = 8
MOST_HOLDERS = 2  # models that are named as holders, per short model


def by_devices(live: Live, model: str) -> list[Relaxation]:
    """Devices freed on one node, a cordoned node, withdrawn devices, preemption, nodes of each type."""
    short = lack(live, model)
    if short is None:
        return []
    options = options_for(live, model, short)
    open_cells = [(o, c) for o in options for kind in live.kinds(o) if _open(live, o, kind[0]) for c in kind]
    found = _nodes(live, model, open_cells)
    found += _on_nodes(live, model, open_cells)
    found += _holders(live, model, open_cells)
    policy = live.snapshot.policy
    if not policy.preemption and any(m.priority < live.models[model].priority and live.count(m.name) for m in live.models.values()):
        changed = replace(live.snapshot, policy=replace(policy, preemption=True))
        command = patch("fpol", "default", {"preemption": {"enabled": True}})
        found.append(Relaxation(EDIT, "fpol/default preemption.enabled false->true", command, changed, "preemption", tried=False))
    if policy.max_moves is not None and live.running[model]:
        to = policy.max_moves + short.replicas
        changed = replace(live.snapshot, policy=replace(policy, max_moves=to))
        change = f"fpol/default stability.maxMovesPerHour: {short.replicas} more moves in this hour"
        found.append(Relaxation(EDIT, change, "kubectl edit fpol default", changed, "moves", tried=False))
    return found


def _open(live: Live, option: Option, cell: int) -> bool:
    """Legal there, and no rule forbids one more."""
    return live.need(option, cell) is not None and live.cells[cell].stock is Stock.KNOWN and bars.bar(live, option, cell) is None


def _nodes(live: Live, model: str, pairs: list[tuple[Option, int]]) -> list[Relaxation]:
    """+n empty nodes of the cell's size: as few as end the shortfall, or as help at all. One cell per pool; per zone of a strict spread."""
    found: dict[str, Relaxation] = {}
    done: set[tuple[str, str]] = set()
    strict = live.models[model].spread is Spread.STRICT
    for option, cell in sorted(pairs, key=lambda p: (p[1], p[0].devices, p[0].id)):
        where = live.cells[cell]
        key = (where.pool, where.failure_domain if strict else "")
        size = where.per_node or max(live.installed[cell], default=0)
        need = live.need(option, cell)
        full = State(size, _full(live, cell, size), size, True)
        if key in done or need is None or not fits(full, need):
            continue
        done.add(key)
        for first in rivals(live, model):
            best = _fewest_nodes(live, model, cell, full, first)
            if best is not None:
                found.setdefault(best.change, best)
    return list(found.values())


def _fewest_nodes(live: Live, model: str, cell: int, full: State, first: Sequence[str]) -> Relaxation | None:
    """As few as end the shortfall; where they are many, as few as help at all."""
    names: list[str] = []
    best: Relaxation | None = None
    try:
        while len(names) < MOST_NODES and (best is None or best.left is not None):
            names.append(f"{live.cells[cell].name}-new-{len(names) + 1}")
            live.free.add(names[-1], cell, full)
            with trial(live, model, first=first) as tried:
                left, cost = lack(live, model), tried.cost
            if tried.mine and (best is None or left is None):
                best = replace(_more_nodes(live, cell, full.installed, names, cost), left=left)
                if left is not None and left.replicas > MOST_NODES * full.installed:
                    break
    finally:
        for name in names:
            live.free.drop(name)
    return best


def _more_nodes(live: Live, cell: int, size: int, names: list[str], cost: float) -> Relaxation:
    where, n = live.cells[cell], len(names)
    zone = f" in {where.failure_domain}" if where.failure_domain else ""
    change = f"apool/{where.pool} nodes {_count(live, cell)}->{_count(live, cell) + n}: +{n} of {where.profile} with {size} devices{zone}"
    nodes = tuple(sorted((*live.snapshot.nodes, *(Node(name, where.name, size, size, 0) for name in names)), key=lambda x: x.name))
    command = f"kubectl get apool {where.pool} -o jsonpath='{{.spec.nodeSelector}}'"
    return Relaxation(HARDWARE, change, command, replace(live.snapshot, nodes=nodes), "", cost, n * size)


def _count(live: Live, cell: int) -> int:
    return sum(live.installed[c].total() for c in live.pool_cells[live.cells[cell].pool])


def _full(live: Live, cell: int, size: int) -> tuple[int, ...]:
    where = live.cells[cell]
    ring, align = ring_of(where), alignment(where)
    return (size // align,) if ring is None else (ring // align,) * (size // ring)


def _on_nodes(live: Live, model: str, pairs: list[tuple[Option, int]]) -> list[Relaxation]:
    """The node of each pool where the fewest foreign devices must go, a cordoned node, withdrawn devices that come back."""
    best: dict[tuple[str, str], tuple[int, str, Relaxation]] = {}
    by_cell: dict[int, list[Option]] = {}
    for option, cell in pairs:
        by_cell.setdefault(cell, []).append(option)
    ours: Counter[str] = Counter()
    for r in live.snapshot.replicas:
        for name in members(r.node):
            ours[name] += -(-r.devices // len(members(r.node)))
    # What other models would start can go elsewhere; what runs cannot.
    alone = live.alone(model, list(by_cell)).states
    for node in live.snapshot.nodes:
        cell = live.cell_index[node.cell]
        for option in by_cell.get(cell, []):
            for kind, made in _of_node(live, node, option, ours[node.name], alone.get(node.name)):
                at = (live.cells[cell].pool, kind)
                if at not in best or (made.devices, node.name) < best[at][:2]:
                    best[at] = (made.devices, node.name, made)
    return [made for _, (_, _, made) in sorted(best.items())]


def _of_node(live: Live, node: Node, option: Option, ours: int, state: State | None) -> Iterator[tuple[str, Relaxation]]:
    cell = live.cell_index[node.cell]
    need = live.need(option, cell)
    if need is None or need.span > 1:
        return
    price = live.price(option, cell)

    def made(rank: int, change: str, command: str, changed: Node, devices: int) -> Relaxation:
        return Relaxation(rank, f"node/{node.name}{change}", command, _with_node(live.snapshot, changed), "", price, devices, tried=False)

    free = 0 if state is None else state.free
    if state is not None and node.held_by_others:
        plain = alignment(live.cells[cell]) == 1 and ring_of(live.cells[cell]) is None and not need.whole
        gone = max(0, need.pod - free) if plain else node.held_by_others
        if 0 < gone <= node.held_by_others and free + gone >= need.pod:
            freed = replace(node, held_by_others=node.held_by_others - gone, free_blocks=None, free_rings=None)
            change = f": free {gone} of {node.held_by_others} devices that other pods hold"
            yield "foreign", made(FREE, change, f"kubectl get pods -A --field-selector spec.nodeName={node.name}", freed, gone)
    back = node.installed - node.allocatable
    if node.eligible and back > 0 and free + back >= need.pod > free:
        change = f": bring back {back} withdrawn devices (allocatable {node.allocatable}->{node.installed})"
        restored = replace(node, allocatable=node.installed)
        yield "withdrawn", made(FREE, change, f"kubectl describe node {node.name}", restored, back)
    if not node.eligible and node.excluded_reason == "Cordoned" and node.allocatable - node.held_by_others - ours >= need.pod:
        opened = replace(node, eligible=True, excluded_reason="")
        yield "cordoned", made(EDIT, " unschedulable true->false", f"kubectl uncordon {node.name}", opened, 0)


def _holders(live: Live, model: str, pairs: list[tuple[Option, int]]) -> list[Relaxation]:
    """Another model with a fixed size, whose one replica less makes the room. The least devices first."""
    found: dict[str, tuple[int, str, Relaxation]] = {}
    cells = {c for _, c in pairs}
    for name, kept in live.kept.items():
        other = live.models[name]
        if name == model or other.hold or works(live, name) or other.min_replicas < 1:
            continue
        for g, ids in kept:
            state = live.free.states.get(g.node)
            if not ids or g.cell not in cells or not g.stoppable or state is None or g.index not in live.free.gains[g.node]:
                continue
            after = give(live.cells[g.cell], state, *live.free.gains[g.node][g.index])
            fitting = [o for o, c in pairs if c == g.cell and (need := live.need(o, c)) is not None and fits(after, need)]
            if not fitting or (name in found and found[name][0] <= g.devices):
                continue
            fewer = other.min_replicas - 1
            most = fewer if other.max_replicas == other.min_replicas else other.max_replicas
            field = "replicas" if other.max_replicas == other.min_replicas else "scaling.minReplicas"
            short = name.rsplit("/", 1)[-1]
            devices = f"{g.devices} device{'s' if g.devices > 1 else ''}"
            change = f"mdep/{short}{namespace(name)} {field} {other.min_replicas}->{fewer}: frees {devices} on {g.node}"
            body: dict[str, object] = {"replicas": fewer} if field == "replicas" else {"scaling": {"minReplicas": fewer}}
            changed = with_model(live.snapshot, replace(other, min_replicas=fewer, max_replicas=most))
            cost = min(live.price(o, g.cell) for o in fitting) - g.cost
            made = Relaxation(FREE, change, patch_model(name, body), changed, "", cost, g.devices, tried=False)
            found[name] = (g.devices, name, made)
    return [made for _, _, made in sorted(found.values(), key=lambda f: f[:2])[:MOST_HOLDERS]]


def _with_node(snapshot: Snapshot, changed: Node) -> Snapshot:
    return replace(snapshot, nodes=tuple(changed if n.name == changed.name else n for n in snapshot.nodes))
