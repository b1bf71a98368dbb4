"""`draw` and `judge`: make a services instance by seed, and hold an answer file against one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.placement import checker, family
from bench.placement.services import ServicesError, read, write


def draw(services: int, load: float, seed: int, out: Path) -> int:
    if not (1 <= services <= 100_000 and 0 < load < 1e6 and 0 <= seed < 2**32):
        print(
            f"error: --services {services} --load {load} --seed {seed}: "
            "allowed are 1 to 100000 services, a load above 0 and a seed of at least 0",
            file=sys.stderr,
        )
        return 1
    write(family.draw(services, load, seed), out.with_name(out.name + ".csv.gz"), out.with_name(out.name + ".stock.csv"))
    return 0


def judge(services: Path, stock: Path, answer: Path) -> int:
    """0 for a valid answer, 1 for a wrong one or for files that are none."""
    try:
        read(services, stock)
        verdict = checker.judge(services, stock, answer)
    except (ServicesError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    body = {"valid": verdict.ok, "cost": verdict.cost, "placed": verdict.placed, "services": verdict.services}
    print(json.dumps({**body, "placed_per_priority": verdict.placed_per_priority, "faults": verdict.faults[:10]}))
    return 0 if verdict.ok else 1
