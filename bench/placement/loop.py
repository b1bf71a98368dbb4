"""`loop`: a fleet that is planned again and again. Some demand drifts, the warm plan comes true, a referee counts.

Drift: 10 % of the models per step, demand times exp(normal(0, 0.35)), reflected at a quarter and four times its first value (a free walk of
thousands of steps would leave every fleet). Noise: all models within +-5 % of their first demand, drawn anew each step: a plan that stands
still answers with no start, no removal and no move. The first plan of the empty fleet and one more (its drains) are not counted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.placement.counter import recount
from bench.placement.instances import CLASSES, PRIORITIES, fleet_named, snapshot_of
from bench.placement.measure import cpu_seconds, peak_mb
from bench.placement.solve import EFFORTS
from placement import plan as make_plan
from placement.types import Demand, Effort, Plan, Replica, Snapshot, Warm

DRIFTING, SIGMA, WALLS = 0.10, 0.35, 4.0
NOISE = 0.05
UNCOUNTED = 1  # steps after the first plan


@dataclass(slots=True)
class Tally:
    """Sums over the counted steps."""

    steps: int = 0
    starts: int = 0
    removals: int = 0
    moves: int = 0
    bind_failures: int = 0
    over_allocated: int = 0
    fault_steps: int = 0
    cost: float = 0.0
    objective: float = 0.0
    seconds: list[float] = field(default_factory=list)
    unmet: dict[int, float] = field(default_factory=dict)
    first_fault: str = ""


def demands(first: Demand, seed: int, *, noise: bool) -> Iterator[Demand]:
    """The demand of each step, without end."""
    rng = np.random.default_rng(seed)
    base = np.array([d.bucket_work for d in first.models])
    level = np.zeros(len(base))  # logarithm of demand over first demand
    wall = np.log(WALLS)
    while True:
        if noise:
            factor = rng.uniform(1 - NOISE, 1 + NOISE, len(base))
        else:
            chosen = rng.permutation(len(base))[: max(1, round(DRIFTING * len(base)))]
            level[chosen] += rng.normal(0.0, SIGMA, len(chosen))
            level = np.where(level > wall, 2 * wall - level, np.where(level < -wall, -2 * wall - level, level))
            factor = np.exp(level)
        work = base * factor[:, None]
        yield Demand(
            tuple(replace(d, work_per_s=float(w.sum()), bucket_work=tuple(w.tolist())) for d, w in zip(first.models, work, strict=True))
        )


def applied(snapshot: Snapshot, plan: Plan, step: int) -> Snapshot:
    """The snapshot once the plan has come true."""
    devices = {o.id: o.devices for o in snapshot.options}
    kept = set(plan.keep)
    stay = [r for r in snapshot.replicas if r.id in kept]
    new = [Replica(f"r{step:06d}-{i:05d}", s.model, s.option, s.node, devices[s.option], age_order=step) for i, s in enumerate(plan.starts)]
    return replace(snapshot, replicas=tuple(sorted(stay + new, key=lambda r: r.id)))


def run(snapshot: Snapshot, demand: Demand, steps: int, *, noise: bool, seed: int, effort: Effort, within: float | None = None) -> Tally:
    """`steps` counted steps, fewer if they have taken `within` CPU seconds. The tally's seconds are CPU seconds of each re-plan."""
    tally, warm, warm_up = Tally(), Warm(), UNCOUNTED + 1
    started = cpu_seconds()
    asked = demands(demand, seed, noise=noise)
    for step in range(steps + warm_up):
        now = demand if step < warm_up else next(asked)
        begin = cpu_seconds()
        plan, warm = make_plan(snapshot, now, warm=warm, effort=effort)
        took = cpu_seconds() - begin
        count = recount(snapshot, now, plan, warm.covered)
        if step >= warm_up:
            tally.steps += 1
            tally.starts += len(plan.starts)
            tally.removals += len(plan.stop)
            tally.moves += plan.moves
            tally.bind_failures += count.bind_failures
            tally.over_allocated += count.over_allocated
            tally.fault_steps += bool(count.faults)
            tally.cost += count.cost
            tally.objective += plan.objective
            tally.seconds.append(took)
            for p, share in count.unmet_percent.items():
                tally.unmet[p] = tally.unmet.get(p, 0.0) + share
            if count.faults and not tally.first_fault:
                tally.first_fault = f"step {tally.steps}: {count.faults[0]}"
        snapshot = applied(snapshot, plan, step)
        if within is not None and tally.steps and cpu_seconds() - started >= within:
            break
    return tally


def line(tally: Tally) -> dict[str, Any]:
    n = max(1, tally.steps)
    seconds = np.array(tally.seconds or [0.0])
    return {
        "steps": tally.steps,
        "starts_per_step": round(tally.starts / n, 3),
        "removals_per_step": round(tally.removals / n, 3),
        "moves_per_step": round(tally.moves / n, 3),
        "moves": tally.moves,
        "starts": tally.starts,
        "removals": tally.removals,
        "bind_failures": tally.bind_failures,
        "over_allocated": tally.over_allocated,
        "fault_steps": tally.fault_steps,
        "first_fault": tally.first_fault,
        "cost_mean": round(tally.cost / n, 3),
        "unmet_percent": {CLASSES[PRIORITIES.index(p)]: round(share / n, 6) for p, share in sorted(tally.unmet.items(), reverse=True)},
        "cpu_p50": round(float(np.quantile(seconds, 0.5)), 4),
        "cpu_p99": round(float(np.quantile(seconds, 0.99)), 4),
        "cpu_max": round(float(seconds.max()), 4),
        "peak_mb": round(peak_mb(), 1),
    }


def command(
    instance: str, t: float | None, steps: int, kappa: float, noise: bool, seed: int, effort: str, within: float | None = None
) -> int:
    try:
        snapshot, demand = snapshot_of(fleet_named(instance, seed, t), start_price=kappa)
        if kappa == 0:
            # Judged by cost alone: neither a start nor a stop has a price (by default a stop must earn 5 % of its replica's cost).
            snapshot = replace(snapshot, policy=replace(snapshot.policy, min_saving_percent=0.0))
        if steps < 1:
            raise ValueError(f"--steps {steps}: allowed are whole numbers of at least 1")
        if not 0 <= kappa < 1e6:
            raise ValueError(f"--kappa {kappa}: allowed are numbers from 0 to 1e6")
        if within is not None and not 0 < within < 1e6:
            raise ValueError(f"--within {within}: allowed are CPU seconds above 0 and below 1e6")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    tally = run(snapshot, demand, steps, noise=noise, seed=seed, effort=EFFORTS[effort], within=within)
    print(json.dumps({"instance": instance, "asked": steps, "t": t, "kappa": kappa, "mode": "noise" if noise else "drift", **line(tally)}))
    return 0
