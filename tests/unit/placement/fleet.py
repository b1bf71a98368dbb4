"""Builders: a small fleet in a few words. Names follow the cases: n1, n2, ...; MD-a is model ns/a."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import placement
from placement.types import Cell, Demand, Model, ModelDemand, Node, Option, Plan, Policy, Replica, Shortfall, Snapshot

VENDOR = {"h100": "nvidia", "910c": "huawei", "a3": "huawei", "ppu": "alibaba"}
SIZES = {"h100": (1, 2, 3, 4, 5, 6, 7, 8), "910c": (1, 2, 4, 6, 8, 10, 12, 14, 16), "a3": (1, 16), "ppu": (1, 2, 4, 8, 16)}
PRICE = {"h100": 2.5, "910c": 0.75, "a3": 0.75, "ppu": 0.7}


def cell(profile: str, name: str = "", **changes: Any) -> Cell:
    made = Cell(
        name=name or profile,
        pool=name or profile,
        profile=profile,
        vendor=VENDOR[profile],
        sizes=SIZES[profile],
        align_to=2 if profile in ("910c", "a3") else 1,
        whole_node_only=profile == "a3",
        per_node=8 if profile == "h100" else 16,
        cost_per_device_hour=PRICE[profile],
    )
    return replace(made, **changes)


def node(name: str, where: Cell, free: int, *, total: int | None = None, **changes: Any) -> Node:
    """A node with `free` devices of `total`; other people's pods hold the rest."""
    full = total if total is not None else max(free, where.per_node or free)
    return replace(Node(name, where.name, installed=full, allocatable=full, held_by_others=full - free), **changes)


def model(name: str, replicas: int, **changes: Any) -> Model:
    return replace(Model(f"ns/{name}", min_replicas=replicas, max_replicas=replicas), **changes)


def option(name: str, profile: str, devices: int, **changes: Any) -> Option:
    made = Option(f"ns/{name}|{profile}|default|vllm|{devices}", f"ns/{name}", profile, VENDOR[profile], "default", "vllm", devices)
    return replace(made, **changes)


def replica(ident: str, of: Option, at: str, **changes: Any) -> Replica:
    return replace(Replica(ident, of.model, of.id, at, of.devices), **changes)


def snap(
    cells: Sequence[Cell],
    nodes: Sequence[Node],
    models: Sequence[Model],
    options: Sequence[Option],
    replicas: Sequence[Replica] = (),
    **policy: Any,
) -> Snapshot:
    return Snapshot(tuple(cells), tuple(nodes), tuple(models), tuple(options), tuple(replicas), Policy(**policy))


def planned(snapshot: Snapshot, demand: Demand | None = None, **more: Any) -> Plan:
    """The plan, after the independent check found nothing."""
    asked = demand or Demand(tuple(ModelDemand(m.name) for m in snapshot.models))
    plan, _ = placement.plan(snapshot, asked, **more)
    assert placement.check(snapshot, asked, plan) == ()
    return plan


def got(plan: Plan, name: str) -> int:
    return sum(a.replicas for a in plan.assignments if a.model == f"ns/{name}")


def nodes_of(plan: Plan, name: str) -> dict[str, int]:
    count: dict[str, int] = {}
    for a in plan.assignments:
        if a.model == f"ns/{name}":
            count[a.node] = count.get(a.node, 0) + a.replicas
    return count


def short(plan: Plan, name: str) -> Shortfall:
    return next(s for s in plan.shortfalls if s.model == f"ns/{name}")


def reason(plan: Plan, name: str) -> str:
    return short(plan, name).reasons[0].reason.value


def applied(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The snapshot once the plan has come true: stopped and draining replicas are gone, started ones serve."""
    devices = {o.id: o.devices for o in snapshot.options}
    kept = tuple(r for r in snapshot.replicas if r.id in set(plan.keep))
    before = len(snapshot.replicas)  # so that the names of one plan after another differ
    new = tuple(Replica(f"new-{before}-{len(kept)}-{i}", s.model, s.option, s.node, devices[s.option]) for i, s in enumerate(plan.starts))
    changed = []
    for n in snapshot.nodes:
        if n.free_blocks is not None:
            n = replace(n, free_blocks=_blocks_after(snapshot, plan, n, devices))
        changed.append(n)
    return replace(snapshot, nodes=tuple(changed), replicas=kept + new)


def _blocks_after(snapshot: Snapshot, plan: Plan, n: Node, devices: dict[str, int]) -> int:
    """Readable free blocks after the plan: larger requests take and give whole blocks, single devices use loose ones first."""
    align = next(c.align_to for c in snapshot.cells if c.name == n.cell)
    here = [r for r in snapshot.replicas if r.node == n.name]
    free = n.allocatable - n.held_by_others - sum(r.devices for r in here)
    blocks = min(n.free_blocks or 0, max(0, free) // align)
    for r in here:
        if r.id not in plan.keep:
            free += r.devices
            blocks += r.devices // align if r.devices > 1 else 0
    for size in sorted((devices[s.option] for s in plan.starts if s.node == n.name), reverse=True):
        free -= size
        blocks = min(blocks - (size // align if size > 1 else 0), free // align)
    return max(0, blocks)
