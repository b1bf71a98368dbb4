"""Seeded tiny instances: every rule of the placer appears in some of them, and full enumeration stays cheap."""

from __future__ import annotations

import random
from dataclasses import replace

from placement.types import (
    Cell,
    Demand,
    Model,
    ModelDemand,
    Node,
    Option,
    Policy,
    Quota,
    Replica,
    ReplicaState,
    Snapshot,
    Spread,
    Stock,
)

KINDS = (
    ("nvidia", "h100", (1, 2, 4, 8), 1, False, 8),
    ("huawei", "910c", (1, 2, 4, 8), 2, False, 8),
    ("huawei", "a3", (1, 4), 2, True, 4),
    ("alibaba", "ppu", (1, 2, 3), 1, False, 5),  # no chain
    ("huawei", "box", (1, 2, 4, 6), 2, False, 8),  # no chain in blocks
)


def instance(seed: int) -> tuple[Snapshot, Demand]:
    """Every third one is crowded: many running replicas of two priorities and no foreign pods, so that stops and moves matter."""
    rng = random.Random(seed)
    crowded = seed % 3 == 0
    cells, nodes = _fleet(rng, crowded)
    models, options, demand = _models(rng, cells)
    replicas = _replicas(rng, cells, nodes, options, crowded)
    policy = Policy(
        min_saving_percent=10.0,
        relative_gap=0.0,
        max_hourly_cost=float(rng.randint(3, 20)) if rng.random() < 0.2 else None,
        preemption=rng.random() < 0.85,
        time_limit_s=60.0,
    )
    return Snapshot(tuple(cells), tuple(nodes), tuple(models), tuple(options), tuple(replicas), policy), demand


def _fleet(rng: random.Random, crowded: bool) -> tuple[list[Cell], list[Node]]:
    cells: list[Cell] = []
    nodes: list[Node] = []
    for i, (vendor, profile, sizes, align, whole, per_node) in enumerate(rng.sample(KINDS, rng.randint(1, 3))):
        cell = Cell(
            name=f"c{i}",
            pool=f"p{i if rng.random() < 0.8 else 0}",
            profile=profile,
            vendor=vendor,
            sizes=sizes,
            align_to=align,
            per_node=per_node,
            whole_node_only=whole,
            cost_per_device_hour=float(rng.choice((0, 1, 1, 2, 3))),
            failure_domain=rng.choice(("", "z1", "z2")),
            schedulable=rng.random() < 0.93,
            stock=Stock.UNKNOWN if rng.random() < 0.07 else Stock.KNOWN,
            shared=rng.random() < 0.05,
        )
        cells.append(cell)
        for _ in range(rng.randint(1, 2)):
            withdrawn = rng.random() < 0.1
            others = 0 if crowded else rng.choice((0, 0, 0, 1, 2, per_node // 2))
            allocatable = per_node - (1 if withdrawn else 0)
            free_blocks = None
            if align > 1 and not whole and rng.random() < 0.5:
                free_blocks = rng.randint(0, max(0, allocatable - others) // align)
            nodes.append(
                Node(
                    name=f"n{len(nodes)}",
                    cell=cell.name,
                    installed=per_node,
                    allocatable=allocatable,
                    held_by_others=others,
                    eligible=rng.random() < 0.9,
                    free_blocks=free_blocks,
                )
            )
    rules = {c.pool: (rng.randint(2, 10) if rng.random() < 0.15 else None, rng.randint(1, 4) if rng.random() < 0.15 else 0) for c in cells}
    return [_with_rules(c, *rules[c.pool]) for c in cells], nodes


def _with_rules(cell: Cell, limit: int | None, reserve: int) -> Cell:
    return replace(cell, limit_devices=limit, reserve_devices=reserve)


def _models(rng: random.Random, cells: list[Cell]) -> tuple[list[Model], list[Option], Demand]:
    models: list[Model] = []
    options: list[Option] = []
    asked: list[ModelDemand] = []
    for i in range(rng.randint(2, 3)):
        work = float(rng.randint(1, 6)) if rng.random() < 0.25 else 0.0
        low = rng.choice((0, 1, 1, 2)) if work else rng.choice((1, 1, 2, 2, 3))
        model = Model(
            name=f"ns/m{i}",
            priority=rng.choice((0, 0, 10)),
            min_replicas=low,
            max_replicas=min(3, low + (rng.randint(1, 2) if work else 0)),
            min_vendors=rng.choice((1, 1, 1, 1, 2)),
            max_vendor_share_percent=rng.choice((None, None, None, None, 50)),
            max_hourly_cost=float(rng.randint(2, 9)) if rng.random() < 0.1 else None,
            shared_ok=rng.random() < 0.3,
            hold=rng.random() < 0.05,
        )
        models.append(model)
        asked.append(ModelDemand(model.name, work))
        for cell in cells:
            options += [_option(rng, model.name, cell, k) for k in rng.sample(cell.sizes, 1 if rng.random() < 0.8 else 2)]
    return models, list({o.id: o for o in options}.values()), Demand(tuple(asked))


def _option(rng: random.Random, model: str, cell: Cell, size: int) -> Option:
    return Option(
        id=f"{model}|{cell.profile}|{size}",
        model=model,
        profile=cell.profile,
        vendor=cell.vendor,
        variant="default",
        engine="vllm",
        devices=size,
        pools=(cell.pool,) if rng.random() < 0.1 else (),
        excluded_pools=(cell.pool,) if rng.random() < 0.05 else (),
        work_per_s=float(rng.randint(1, 3)) if rng.random() < 0.9 else None,
        eligible=rng.random() < 0.95,
    )


def _replicas(rng: random.Random, cells: list[Cell], nodes: list[Node], options: list[Option], crowded: bool) -> list[Replica]:
    """Running replicas that really fit their node, blocks included; now and then one more than the node may hold (withdrawn since)."""
    by_name = {c.name: c for c in cells}
    replicas: list[Replica] = []
    count: dict[str, int] = {}
    for _ in range(rng.choice((6, 8, 10) if crowded else (0, 0, 1, 2, 3, 4, 5))):
        node = rng.choice(nodes)
        cell = by_name[node.cell]
        fitting = [o for o in options if o.profile == cell.profile and count.get(o.model, 0) < (3 if crowded else 2)]
        if not fitting:
            continue
        option = rng.choice(fitting)
        held = sum(r.devices for r in replicas if r.node == node.name)
        if held + option.devices + node.held_by_others > (node.allocatable if rng.random() < 0.97 else node.installed):
            continue
        if cell.whole_node_only and option.devices > 1 and (held or node.held_by_others):
            continue
        count[option.model] = count.get(option.model, 0) + 1
        replicas.append(
            Replica(
                id=f"r{len(replicas)}",
                model=option.model,
                option=option.id if rng.random() < 0.95 else None,
                node=node.name,
                devices=option.devices,
                state=rng.choice((ReplicaState.SERVING,) * 5 + (ReplicaState.PENDING, ReplicaState.DRAINING)),
                age_order=rng.randint(0, 5),
            )
        )
    return replicas


def wide(seed: int) -> tuple[Snapshot, Demand]:
    """A tiny instance with the rules that `instance` lacks: length buckets, KV floors, split deployments, strict spread, quotas that lend,
    start prices, moves that are left, young replicas, models that may not be preempted."""
    snapshot, demand = instance(seed)
    rng = random.Random(seed + 7)
    models: list[Model] = []
    options: list[Option] = []
    asked: list[ModelDemand] = []
    zones = rng.random() < 0.5
    cells = [
        replace(c, failure_domain=rng.choice(("z1", "z2", "z3")) if zones else c.failure_domain, network_domain=rng.choice(("", "", "n1")))
        for c in snapshot.cells
    ]
    for model, entry in zip(snapshot.models, demand.models, strict=True):
        mine = [o for o in snapshot.options if o.model == model.name]
        model = replace(
            model,
            spread=rng.choice((Spread.SOFT, Spread.SOFT, Spread.STRICT)),
            max_domain_share_percent=rng.choice((34, 50, 50, 60)),
            tenant=rng.choice(("", "a", "b")),
            preemptable=rng.random() < 0.85,
        )
        kind = rng.choice(("", "", "buckets", "buckets", "split", "kv"))
        if kind == "split" and {o.id for o in mine} & {r.option for r in snapshot.replicas} and rng.random() < 0.5:
            kind = "buckets"
        if kind:
            low = rng.choice((0, 1))
            model = replace(model, min_replicas=low, max_replicas=min(3, low + rng.randint(1, 3)))
        model, mine, entries = _asking(rng, kind, model, mine, entry)
        models.append(model)
        asked += entries
        options += [replace(o, start_seconds=rng.choice((None, 0.0, 600.0, 1800.0, 5400.0))) for o in mine]
    quotas: list[Quota] = []
    for profiles in ((), (cells[0].profile,)):
        if rng.random() < 0.35:
            quotas += [Quota(t, rng.randint(0, 6), profiles, rng.random() < 0.6) for t in rng.choice((("a",), ("a", "b"), ("a", "b", "")))]
    policy = replace(
        snapshot.policy,
        quotas=tuple(quotas),
        max_moves=rng.choice((None, None, 0, 1)),
        start_price=rng.choice((0.0, 1.0, 1.0)),
    )
    replicas = tuple(replace(r, resident=rng.random() < 0.3) for r in snapshot.replicas)
    return Snapshot(tuple(cells), snapshot.nodes, tuple(models), tuple(options), replicas, policy), Demand(tuple(asked))


def loose(seed: int) -> tuple[Snapshot, Demand]:
    """A wide instance in which some pools choose their nodes themselves."""
    snapshot, demand = wide(seed)
    rng = random.Random(seed + 11)
    return replace(snapshot, cells=tuple(replace(c, exact_nodes=rng.random() < 0.4) for c in snapshot.cells)), demand


def _asking(
    rng: random.Random, kind: str, model: Model, options: list[Option], entry: ModelDemand
) -> tuple[Model, list[Option], list[ModelDemand]]:
    name = model.name
    if kind == "buckets":
        loads = (float(rng.randint(0, 4)), float(rng.randint(1, 4)))
        rates = [(float(rng.choice((0, 1, 2, 3))), float(rng.choice((0, 1, 2, 3)))) for _ in options]
        floor = float(rng.choice((0, 0, 4)))
        options = [replace(o, bucket_work=r, kv_tokens=rng.choice((None, 1.0, 3.0))) for o, r in zip(options, rates, strict=True)]
        return model, options, [ModelDemand(name, sum(loads), loads, kv_floor=floor, reason="Load")]
    if kind == "kv":
        options = [replace(o, kv_tokens=rng.choice((None, 1.0, 2.0))) for o in options]
        return model, options, [replace(entry, kv_floor=float(rng.randint(1, 4)))]
    if kind == "split":
        options = [replace(o, role=rng.choice(("prefill", "decode")), kv_tokens=rng.choice((None, 1.0, 2.0))) for o in options]
        if len(options) > 1:
            options[:2] = [replace(options[0], role="prefill"), replace(options[1], role="decode")]
        floor = float(rng.choice((0, 0, 2)))
        load = ModelDemand(name, float(rng.randint(1, 3)), role="prefill"), ModelDemand(name, float(rng.randint(1, 3)), role="decode")
        return replace(model, same_network=rng.random() < 0.5), options, [load[0], replace(load[1], kv_floor=floor)]
    return model, options, [entry]
