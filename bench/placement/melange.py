"""Mélange's formulation, re-implemented from its paper (Griggs et al., 2024) in PuLP with CBC, as its authors run it. Not their code.

Each bucket is cut into slices of equal rate; a binary says which type serves a slice, an integer counts the replicas of a type; the loads
of a type's slices fit into its count. A type that cannot serve a bucket has no variable for it.
"""

from __future__ import annotations

from typing import Any

import pulp

from bench.placement.measure import cpu_seconds
from bench.placement.onemodel import Case


def solve(case: Case, slices: int, seconds: float) -> tuple[dict[str, int] | None, float]:
    """(replicas per type or None after `seconds` of solver time, CPU seconds)."""
    begin = cpu_seconds()
    problem = pulp.LpProblem("melange", pulp.LpMinimize)
    count = [pulp.LpVariable(f"y{g}", lowBound=0, cat=pulp.LpInteger) for g in range(len(case.gpus))]
    load: list[list[tuple[Any, float]]] = [[] for _ in case.gpus]
    for b, rate in enumerate(case.loads()):
        for s in range(slices if rate > 0 else 0):
            choice = []
            for g in range(len(case.gpus)):
                if case.speeds(g)[b] > 0:
                    x = pulp.LpVariable(f"x{b}_{s}_{g}", cat=pulp.LpBinary)
                    choice.append(x)
                    load[g].append((x, rate / slices / case.speeds(g)[b]))
            problem += pulp.lpSum(choice) == 1
    for g, terms in enumerate(load):
        problem += pulp.LpAffineExpression(terms) <= count[g]
    problem.setObjective(pulp.lpSum(c * y for c, y in zip(case.costs, count, strict=True)))
    problem.solve(pulp.PULP_CBC_CMD(msg=False, timeLimit=seconds))
    took = cpu_seconds() - begin
    # A solution found in time but not proven is no answer of this planner's: it would go on. Status 1 alone does not tell them apart.
    if problem.sol_status != pulp.LpSolutionOptimal:
        return None, took
    return {g: round(y.value() or 0.0) for g, y in zip(case.gpus, count, strict=True)}, took
