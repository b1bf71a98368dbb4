"""`shortfalls`: is every shortfall of a plan explained, and does each suggested fix hold?

Explained: at least one reason, each with a message and a next command, and in the plan at least one binding row with a price. For the short
models that matter most (highest priority, most replicas) the smallest fix is searched as the command line does it: warm, without ladder. A
fix holds if the fleet with the change, planned again, gives the model more, counted by the referee, who also finds no fault in that plan.
"No fix" is an answer too: no single change of those tried helps.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

from bench.placement.counter import Count, recount
from bench.placement.instances import fleet_named, snapshot_of
from bench.placement.measure import cpu_seconds
from placement import DEFAULT, whatif
from placement import plan as make_plan
from placement.types import Demand, Plan, Snapshot

LARGE, FEW = 200, 3  # models of a fleet above which only so many changes are tried, as in `polyfleet plan`
LEAST = 1e-6  # of a model's work


def run(snapshot: Snapshot, demand: Demand, asked: int) -> dict[str, Any]:
    """Plan, count the explanations, search fixes for `asked` models and plan each of them again."""
    plan, warm = make_plan(snapshot, demand)
    before = recount(snapshot, demand, plan)
    priority = {m.name: m.priority for m in snapshot.models}
    order = sorted(plan.shortfalls, key=lambda s: (-priority[s.model], -s.replicas, s.model))

    def solve(changed: Snapshot, same: Demand) -> Plan:
        return make_plan(changed, same, warm=warm, effort=replace(DEFAULT, ladder=False))[0]

    found, held, seconds = 0, 0, [0.0]
    for short in order[:asked]:
        begin = cpu_seconds()
        tries = whatif.TRIES if len(snapshot.models) <= LARGE else FEW
        fix = whatif.smallest_fix(snapshot, demand, plan, short.model, solve_plan=solve, tries=tries)
        seconds.append(cpu_seconds() - begin)
        if fix is None:
            continue
        found += 1
        assert fix.snapshot is not None
        after = recount(fix.snapshot, demand, solve(fix.snapshot, demand))
        held += not after.faults and more(before, after, short.model)
    return {
        "short": len(plan.shortfalls),
        "explained": sum(bool(s.reasons) and all(r.message and r.hint for r in s.reasons) for s in plan.shortfalls),
        "priced_rows": sum(row.price > 0 for row in plan.rows),
        "asked": len(order[:asked]),
        "fixes": found,
        "held": held,
        "fix_cpu_max": round(max(seconds), 3),
    }


def more(before: Count, after: Count, model: str) -> bool:
    """Whether the model lacks less, replicas below its minimum or work, and neither of them more."""
    missing = before.missing.get(model, 0) - after.missing.get(model, 0)
    work = after.served[model] - before.served[model]
    return (missing > 0 and work >= -LEAST) or (missing >= 0 and work > LEAST)


def command(instance: str, asked: int, seed: int) -> int:
    try:
        snapshot, demand = snapshot_of(fleet_named(instance, seed))
        if not 0 <= asked <= 1000:
            raise ValueError(f"--asked {asked}: allowed are 0 to 1000")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"instance": instance, **run(snapshot, demand, asked)}))
    return 0
