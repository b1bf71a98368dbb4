"""`change`: one model of a standing fleet changes at a time. The fast step, the warm re-plan and the explanations, each in CPU seconds.

The fleet stands: it is planned anew once, uncounted, after its first plan has come true.

The model's demand is multiplied by exp(normal(0, 0.35)). The fast step is the placer's prepared or priced single change with all others
fixed; the warm re-plan starts from the standing plan's prices. Explanations are those of every model that is short, and of the first
models if none is.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from bench.placement.counter import recount
from bench.placement.instances import fleet_named, snapshot_of
from bench.placement.loop import SIGMA, applied
from bench.placement.measure import cpu_seconds
from bench.placement.solve import EFFORTS
from placement import plan as make_plan
from placement.explain import Question, explain
from placement.ladder import fast_step
from placement.live import Live
from placement.types import Demand, Plan, Snapshot

ASKED = 50  # explanations


def run(snapshot: Snapshot, demand: Demand, changes: int, seed: int, effort: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    plan, warm = make_plan(snapshot, demand, effort=EFFORTS[effort])
    snapshot = applied(snapshot, plan, 0)
    # The fleet stands: it has been planned as it is before anything changes. Not counted, as in `loop`.
    plan, warm = make_plan(snapshot, demand, warm=warm, effort=EFFORTS[effort])
    snapshot = applied(snapshot, plan, 1)
    fast: list[float] = []
    again: list[float] = []
    faults = 0
    for step in range(2, changes + 2):
        i = int(rng.integers(len(demand.models)))
        d = demand.models[i]
        work = tuple(w * float(f) for w, f in zip(d.bucket_work, np.full(len(d.bucket_work), np.exp(rng.normal(0.0, SIGMA))), strict=True))
        changed = replace(d, work_per_s=sum(work), bucket_work=work)
        demand = Demand((*demand.models[:i], changed, *demand.models[i + 1 :]))
        live = Live.of(snapshot, demand, _standing(snapshot))
        begin = cpu_seconds()
        fast_step(snapshot, demand, plan, changed.model, live=live)
        fast.append(cpu_seconds() - begin)
        begin = cpu_seconds()
        plan, warm = make_plan(snapshot, demand, warm=warm, effort=EFFORTS[effort])
        again.append(cpu_seconds() - begin)
        faults += bool(recount(snapshot, demand, plan, warm.covered).faults)
        snapshot = applied(snapshot, plan, step)
    told = _explained(snapshot, demand, plan)
    return {"changes": changes, "faults": faults, **_quantiles("fast", fast), **_quantiles("warm", again), **_quantiles("explain", told)}


def _standing(snapshot: Snapshot) -> Plan:
    """What runs, as a plan that changes nothing."""
    plan, _ = make_plan(replace(snapshot, models=(), options=(), replicas=()), Demand(), solvers=[])
    return replace(plan, keep=tuple(r.id for r in snapshot.replicas))


def _explained(snapshot: Snapshot, demand: Demand, plan: Plan) -> list[float]:
    live = Live.of(snapshot, demand, _standing(snapshot))
    plan = replace(plan, stop=(), starts=(), keep=tuple(r.id for r in snapshot.replicas))
    names = [s.model for s in plan.shortfalls][:ASKED] or [m.name for m in snapshot.models][:ASKED]
    seconds: list[float] = []
    for name in names:
        begin = cpu_seconds()
        explain(snapshot, demand, plan, Question(name), live=live)
        seconds.append(cpu_seconds() - begin)
    return seconds


def _quantiles(name: str, seconds: list[float]) -> dict[str, float]:
    return {f"{name}_{label}": round(float(np.quantile(seconds, q)), 4) for label, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def command(instance: str, t: float | None, changes: int, kappa: float, seed: int, effort: str) -> int:
    try:
        snapshot, demand = snapshot_of(fleet_named(instance, seed, t), start_price=kappa)
        if changes < 1:
            raise ValueError(f"--changes {changes}: allowed are whole numbers of at least 1")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"instance": instance, "t": t, "kappa": kappa, **run(snapshot, demand, changes, seed, effort)}))
    return 0
