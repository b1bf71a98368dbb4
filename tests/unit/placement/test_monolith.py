"""The general form against an independently written program with counts per node, to 1e-7, on tiny fleets (10 nodes x 5 models)."""

from __future__ import annotations

import random

import pytest

from placement import _solver, general
from placement.problem import EPS_DEVICE, build
from placement.snapshot import demand_by_model, normalised, validated
from placement.types import Cell, Demand, Model, ModelDemand, Node, Option, Policy, Quota, Snapshot, Spread
from placement.value import value
from tests.unit.placement.monolith import APART, WEIGHT, Monolith

TYPES = (("h100", "nvidia", 8, 3.0), ("910b", "huawei", 8, 1.0), ("l40s", "nvidia", 4, 1.5))


def tiny(seed: int) -> tuple[Snapshot, Demand]:
    """Ten nodes of three types in three zones, five models of two ranks with three length buckets; scarce in about half of the seeds."""
    rng = random.Random(seed)
    cells = [
        Cell(f"{t}-{z}", t, t, vendor, (1, 2, 4, 8)[: 4 if size == 8 else 3], per_node=size, cost_per_device_hour=cost, failure_domain=z)
        for t, vendor, size, cost in TYPES
        for z in ("z1", "z2", "z3")
    ]
    nodes = []
    for i in range(10):
        c = rng.choice(cells)
        size = c.per_node or 0
        nodes.append(Node(f"n{i}", c.name, size, size, rng.choice((0, 0, 0, size // 2, size - 1))))
    models, options, asked = [], [], []
    for i in range(5):
        strict = rng.random() < 0.3
        models.append(
            Model(
                f"ns/m{i}",
                priority=rng.choice((0, 10)),
                min_replicas=rng.choice((1, 1, 2)),
                max_replicas=12,
                spread=Spread.STRICT if strict else Spread.NONE,
                tenant=rng.choice(("a", "b")),
            )
        )
        for t, vendor, size, _ in rng.sample(TYPES, rng.choice((2, 3))):
            k = rng.choice((1, 2, 4)[: 3 if size == 8 else 2])
            rates = tuple(k * rng.uniform(0.3, 2.0) for _ in range(3))
            start = rng.choice((None, 120.0, 900.0))
            options.append(Option(f"ns/m{i}|{t}|{k}", f"ns/m{i}", t, vendor, "v", "vllm", k, bucket_work=rates, start_seconds=start))
        loads = tuple(rng.uniform(0.0, 4.0) * rng.choice((1.0, 1.0, 3.0)) for _ in range(3))
        asked.append(ModelDemand(f"ns/m{i}", sum(loads), loads, reason="Load"))
    quotas = (Quota("a", rng.randint(8, 24)), Quota("b", rng.randint(8, 40)))
    policy = Policy(relative_gap=0.0, quotas=quotas, start_price=rng.choice((0.0, 1.0)), time_limit_s=120.0)
    return Snapshot(tuple(cells), tuple(nodes), tuple(models), tuple(options), (), policy), Demand(tuple(asked))


@pytest.mark.parametrize("seed", range(8))
def test_equals_counts_per_node(seed: int) -> None:
    snapshot, demand = tiny(seed)
    validated(snapshot, demand)
    snapshot = normalised(snapshot)
    problem = build(snapshot, demand_by_model(snapshot, demand))
    counts = general.solve(problem, _solver.solver("HiGHS"), _solver.Limits(100_000, 0.0, 120.0))
    found = value(problem, counts.starts, counts.stops)
    ranks = len(found.loss_by_rank)
    weighted = sum(WEIGHT * problem.unit * APART ** (ranks - 1 - r) * loss for r, loss in enumerate(found.loss_by_rank))
    mine = found.hourly + found.change + weighted
    best = Monolith(snapshot, demand).solve()
    # The placer also minimises devices among plans of equal money, by at most this much.
    tie = EPS_DEVICE * problem.unit * sum(n.installed for n in snapshot.nodes)
    assert mine >= best - 1e-7 * abs(best)
    assert mine == pytest.approx(best, rel=1e-7, abs=tie)
