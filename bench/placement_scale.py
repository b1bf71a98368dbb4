"""How long one plan takes, and how large its model is: 50 models on 100 nodes of five device types, in the situations of a fleet's day.

Seeded and synthetic. Prints one line per situation: rows and columns of the program, seconds, outcome, cost, changes. Times depend on
the machine; rows, columns and costs do not. Usage: python bench/placement_scale.py [--nodes 100] [--models 50] [--solver HiGHS] [--seed
0]
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace

import placement
from placement.general import build as build_form
from placement.problem import build as build_problem
from placement.snapshot import demand_by_model, normalised
from placement.types import Cell, Demand, Model, ModelDemand, Node, Option, Plan, Policy, Replica, Snapshot

# profile, vendor, devices per node, sizes, block, price per device-hour (the design's synthetic benchmark prices)
TYPES = (
    ("h100", "nvidia", 8, (1, 2, 4, 8), 1, 2.50),
    ("h20", "nvidia", 8, (1, 2, 4, 8), 1, 1.10),
    ("910c", "huawei", 16, (1, 2, 4, 8, 16), 2, 0.75),
    ("910b", "huawei", 8, (1, 2, 4, 8), 1, 0.60),
    ("ppu", "alibaba", 16, (1, 2, 4, 8, 16), 1, 0.70),
)
ZONES = ("z0", "z1", "z2")


def fleet(nodes: int, models: int, seed: int, fill: float, work: bool = False) -> tuple[Snapshot, Demand]:
    rng = random.Random(seed)
    cells = [
        Cell(f"{p}-{z}", p, p, v, sizes, align_to=align, per_node=n, cost_per_device_hour=price, failure_domain=z)
        for p, v, n, sizes, align, price in TYPES
        for z in ZONES
    ]
    rows = [(rng.choice(TYPES), rng.choice(ZONES)) for _ in range(nodes)]
    listed = [Node(f"n{i:04d}", f"{t[0]}-{z}", t[2], t[2], t[2] // 2 if rng.random() < 0.15 else 0) for i, (t, z) in enumerate(rows)]
    total = sum(n.allocatable - n.held_by_others for n in listed)
    options: list[Option] = []
    wanted: list[Model] = []
    asked: list[ModelDemand] = []
    for m in range(models):
        name = f"team-{m % 7}/model-{m:03d}"
        base = rng.choice((1, 1, 2, 2, 4, 8))
        allowed = rng.sample(TYPES, rng.randint(2, 5))
        speed = {}
        for profile, vendor, size, sizes, _, price in allowed:
            first = base if profile not in ("910b", "910c") else min(2 * base, size)
            for k in (first, min(2 * first, size)):
                if k in sizes and (profile, k) not in speed:
                    speed[(profile, k)] = k * price * rng.uniform(0.7, 1.4) * 10
                    rate = round(speed[(profile, k)], 2)
                    options.append(Option(f"{name}|{profile}|{k}", name, profile, vendor, "default", "vllm", k, work_per_s=rate))
        count = max(1, round(total * fill / models / (1.4 * base)))
        wanted.append(
            Model(name, rng.choice((0, 0, 100)), 1 if work else count, 1000 if work else count, min_vendors=2 if m % 10 == 0 else 1)
        )
        asked.append(ModelDemand(name, count * min(speed.values()) if work else 0.0))
    return Snapshot(tuple(cells), tuple(listed), tuple(wanted), tuple(options), (), Policy()), Demand(tuple(asked))


def applied(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The snapshot once the plan has come true."""
    devices = {o.id: o.devices for o in snapshot.options}
    kept = [r for r in snapshot.replicas if r.id in set(plan.keep)]
    new = [Replica(f"p{len(snapshot.replicas)}-{i}", s.model, s.option, s.node, devices[s.option]) for i, s in enumerate(plan.starts)]
    return replace(snapshot, replicas=tuple(kept + new))


def run(title: str, snapshot: Snapshot, demand: Demand, solver: str) -> Plan:
    clean = normalised(snapshot)
    form = build_form(build_problem(clean, demand_by_model(clean, demand))).form
    begin = time.process_time()
    plan, _ = placement.plan(snapshot, demand, solvers=[solver])
    took = time.process_time() - begin
    faults = placement.check(snapshot, demand, plan)
    print(
        f"{title:34} rows {len(form.rows):5}  columns {len(form.lower):5}  {took:6.2f} s CPU  {plan.outcome.value:8} gap {plan.gap}  "
        f"cost {plan.hourly_cost:8.2f}  +{len(plan.starts)} -{len(plan.stop)}  "
        f"short {sum(s.replicas for s in plan.shortfalls)}  faults {len(faults)}"
    )
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--solver", default="HiGHS")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for label, work in (("fixed sizes", False), ("work", True)):
        for load, fill in (("loose", 0.6), ("scarce", 1.3)):
            snapshot, demand = fleet(args.nodes, args.models, args.seed, fill, work)
            plan = run(f"{label}, {load}, empty fleet", snapshot, demand, args.solver)
            snapshot = applied(snapshot, plan)
            run(f"{label}, {load}, unchanged", snapshot, demand, args.solver)
            grown = tuple(
                replace(m, min_replicas=m.min_replicas + 2, max_replicas=m.max_replicas + 2) if i % 10 == 3 else m
                for i, m in enumerate(snapshot.models)
            )
            run(f"{label}, {load}, five models grow", replace(snapshot, models=grown), demand, args.solver)
            lost = {n.name for n in snapshot.nodes[:4]}
            out = tuple(replace(n, eligible=n.name not in lost, excluded_reason="NotReady") for n in snapshot.nodes)
            gone = tuple(r for r in snapshot.replicas if r.node not in lost)
            run(f"{label}, {load}, four nodes lost", replace(snapshot, nodes=out, replicas=gone), demand, args.solver)


if __name__ == "__main__":
    main()
