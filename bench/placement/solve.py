"""`solve`: one services instance to an answer file and one line of JSON.

As many services as possible are placed, priority 1 first, then the cost is least. The line's keys: cost (cents per hour), placed, services,
bound (holds for every plan with the same placed counts), gap_percent (of the cost above the bound), cpu_seconds (of this process and its
children from start to answer file), bound_cpu_seconds (after it), peak_mb, outcome. Unplaced services are no error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.placement import checker
from bench.placement.measure import cpu_seconds, peak_mb
from bench.placement.services import Instance, ServicesError, read, write_answer
from placement.allot import AllotCandidate, AllotService, allot, allot_bound
from placement.types import DEEP, DEFAULT, Effort, PlacementError

EFFORTS = {"default": DEFAULT, "deep": DEEP}


def allot_services(instance: Instance) -> tuple[AllotService, ...]:
    return tuple(
        AllotService(
            s.name,
            s.priority,
            s.demand,
            tuple(AllotCandidate(c.accelerator, c.device_type, c.devices, c.rate, c.cost) for c in s.candidates),
        )
        for s in instance.services
    )


def solve(services: Path, stock: Path, out: Path, effort: Effort = DEFAULT) -> dict[str, float | int | str]:
    """Writes the answer and returns the line. ServicesError and PlacementError for bad input."""
    instance = read(services, stock)
    asked = allot_services(instance)
    plan = allot(asked, instance.stock, effort)
    write_answer(out, plan.replicas)
    planned, peak = cpu_seconds(), peak_mb()
    verdict = checker.judge(services, stock, out)
    if not verdict.ok:
        raise AssertionError(f"{out}: refused by the checker: {'; '.join(verdict.faults[:5])}")
    bound = min(allot_bound(asked, instance.stock, plan), verdict.cost)
    return {
        "cost": round(verdict.cost, 6),
        "placed": verdict.placed,
        "services": verdict.services,
        "bound": round(bound, 6),
        "gap_percent": round(100.0 * (verdict.cost - bound) / verdict.cost, 6) if verdict.cost > 0 else 0.0,
        "cpu_seconds": round(planned, 3),
        "bound_cpu_seconds": round(cpu_seconds() - planned, 3),
        "peak_mb": round(peak, 1),
        "outcome": plan.outcome,
    }


def command(services: Path, stock: Path, out: Path, effort: str) -> int:
    """The command: 0 with an answer, 1 with a message for bad input."""
    try:
        line = solve(services, stock, out, EFFORTS[effort])
    except (ServicesError, PlacementError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(line))
    return 0
