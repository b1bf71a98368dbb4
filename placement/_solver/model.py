"""Programs in PuLP. Names are indexes: two of a user's names could become one, or break the file that CBC reads (OC-073, OC-079).

A variable that stands in no row and has no price is written into the model file's bounds but not into its columns, and CBC then refuses the
whole file: `for_file` leaves such variables out, and `value_of` gives them the value nearest to 0.
"""

from __future__ import annotations

import numpy as np
import pulp

from placement._solver.program import Program
from placement.form import Coefficients, Form


def problem_of(form: Form, objective: Coefficients, *, for_file: bool = False) -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
    problem = pulp.LpProblem("plan", pulp.LpMinimize)
    variables = [
        pulp.LpVariable(f"x{i}", form.lower[i], form.upper[i], pulp.LpInteger if form.integer[i] else pulp.LpContinuous)
        for i in range(len(form.lower))
    ]
    used = {v for row in form.rows for v in row.coefficients} | {v for v, c in objective.items() if c}
    problem.addVariables([v for i, v in enumerate(variables) if i in used or not for_file])
    problem.setObjective(pulp.LpAffineExpression({variables[v]: c for v, c in sorted(objective.items()) if c}))
    senses = {"<=": pulp.LpConstraintLE, ">=": pulp.LpConstraintGE, "==": pulp.LpConstraintEQ}
    for i, row in enumerate(form.rows):
        left = pulp.LpAffineExpression({variables[v]: c for v, c in sorted(row.coefficients.items())})
        problem.addConstraint(pulp.LpConstraint(left, senses[row.sense], f"r{i}", row.bound))
    return problem, variables


def value_of(variable: pulp.LpVariable) -> float:
    if variable.varValue is not None:
        return float(variable.varValue)
    low, high = (-np.inf if variable.lowBound is None else variable.lowBound), (np.inf if variable.upBound is None else variable.upBound)
    return float(max(low, min(0.0, high)))


def problem_from(program: Program) -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
    problem = pulp.LpProblem("master", pulp.LpMinimize)
    bounds = [[float(b) if np.isfinite(b) else None for b in pair] for pair in zip(program.lower, program.upper, strict=True)]
    variables = [
        pulp.LpVariable(f"x{i}", *bounds[i], pulp.LpInteger if whole else pulp.LpContinuous) for i, whole in enumerate(program.integer)
    ]
    used = {*program.cols.tolist(), *np.flatnonzero(program.cost).tolist()}
    problem.addVariables([v for i, v in enumerate(variables) if i in used])
    problem.setObjective(pulp.LpAffineExpression({v: float(c) for v, c in zip(variables, program.cost, strict=True) if c}))
    for r, (low, high) in enumerate(zip(program.row_lower.tolist(), program.row_upper.tolist(), strict=True)):
        part = slice(program.ptr[r], program.ptr[r + 1])
        terms: dict[pulp.LpVariable, float] = {}
        for c, v in zip(program.cols[part].tolist(), program.values[part].tolist(), strict=True):
            terms[variables[c]] = terms.get(variables[c], 0.0) + v
        sides = [(pulp.LpConstraintEQ, low)] if low == high else [(pulp.LpConstraintGE, low), (pulp.LpConstraintLE, high)]
        for n, (sense, side) in enumerate(sides):
            if np.isfinite(side):
                problem.addConstraint(pulp.LpConstraint(pulp.LpAffineExpression(terms), sense, f"r{r}_{n}", side))
    return problem, variables
