"""`fleet`: one plan of a synthetic fleet, judged, as one line of JSON.

Keys: cost per hour, placed (models served in full), services (models), bound (of the objective, holds for all plans), gap_percent (of the
objective above the bound), cpu_seconds (of the call of `plan`, children included), bound_cpu_seconds (after it), peak_mb, outcome,
unmet_percent per class, bind_failures, first_incumbent_seconds (CPU); beside these objective, pool_gap_percent, a digest of the whole plan
and the faults that the referee (`counter`) found. With `--start-price 0`, the default, nothing is paid for starts: it is the first plan of
an empty fleet.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from bench.placement.counter import recount
from bench.placement.instances import CLASSES, PRIORITIES, Fleet, Recipe, fleet_named, make, snapshot_of
from bench.placement.measure import cpu_seconds, peak_mb
from bench.placement.solve import EFFORTS
from placement import plan as make_plan
from placement import to_json
from placement.fleetplan import true_bound
from placement.types import Demand, Outcome, Plan, Snapshot


def bound_of(snapshot: Snapshot, demand: Demand, plan: Plan) -> float:
    """The best bound known for all plans: the plan's own, or one made afterwards. 0 at worst: costs are never negative."""
    known = 0.0 if plan.bound is None else plan.bound
    if plan.outcome is not Outcome.OPTIMAL:
        known = max(known, true_bound(snapshot, demand))
    return min(known, plan.objective)


def measure(snapshot: Snapshot, demand: Demand, effort: str) -> dict[str, Any]:
    """Plan, time, judge."""
    first: list[float] = []
    begin = cpu_seconds()

    def report(_: Plan) -> None:
        if not first:
            first.append(cpu_seconds() - begin)

    plan, _ = make_plan(snapshot, demand, effort=EFFORTS[effort], report=report)
    planned, peak = cpu_seconds() - begin, peak_mb()
    begin = cpu_seconds()
    least = bound_of(snapshot, demand, plan)
    bounded = cpu_seconds() - begin
    count = recount(snapshot, demand, plan)
    unmet = {CLASSES[PRIORITIES.index(p)]: round(share, 6) for p, share in count.unmet_percent.items()}
    whole = sum(1 for m in snapshot.models if count.served[m.name] >= 1 - 1e-6 and m.name not in count.missing)
    return {
        "cost": round(count.cost, 6),
        "placed": whole,
        "services": len(snapshot.models),
        "bound": round(least, 6),
        "gap_percent": round(100 * max(0.0, plan.objective - least) / max(1e-9, abs(plan.objective)), 6),
        "cpu_seconds": round(planned, 3),
        "bound_cpu_seconds": round(bounded, 3),
        "peak_mb": round(peak, 1),
        "outcome": str(plan.outcome),
        "unmet_percent": unmet,
        "bind_failures": count.bind_failures,
        "first_incumbent_seconds": round(first[0] if first else planned, 3),
        "objective": round(plan.objective, 6),
        "pool_gap_percent": None if plan.pool_gap is None else round(100 * plan.pool_gap, 6),
        "engine": plan.engine,
        "digest": hashlib.sha256(to_json(plan).encode()).hexdigest()[:16],
        "replicas": sum(a.replicas for a in plan.assignments),
        "faults": list(count.faults[:5]),
    }


def fleet_of(instance: str | None, recipe: Recipe | None, seed: int) -> Fleet:
    """The named or described fleet. ValueError for what makes no fleet."""
    if instance is not None:
        return fleet_named(instance, seed)
    assert recipe is not None
    for name, value, least, most in (
        ("--nodes", recipe.nodes, 1, 100_000),
        ("--models", recipe.models, 1, 100_000),
        ("--types", recipe.types, 1, 8),
        ("--subcells", recipe.subcells, 1, 1_000),
        ("--seed", seed, 0, 2**32 - 1),
    ):
        if not least <= value <= most:
            raise ValueError(f"{name} {value}: allowed are {least} to {most}")
    if not 0 < recipe.t < 1e6:
        raise ValueError(f"--t {recipe.t}: allowed are numbers above 0 and below 1e6")
    return make(recipe, seed)


def command(instance: str | None, recipe: Recipe | None, seed: int, effort: str, start_price: float) -> int:
    try:
        snapshot, demand = snapshot_of(fleet_of(instance, recipe, seed), start_price=start_price)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(measure(snapshot, demand, effort)))
    return 0
