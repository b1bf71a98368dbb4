"""Quotas as rows of the general form.

A tenant's models hold at most its quota's devices (of the quota's profiles). `borrow` lets them hold what other quotas of the same profiles
leave idle: all of these quotas together are then the limit. The lender comes first, whatever the priorities: borrowed devices are owed
back as soon as a tenant wants its own. So while somebody is short, a first solve gives every tenant its own quota and nothing more; what
the tenants of these quotas are short of then, per rank, bounds what they may be short of in the plan. What is borrowed is only what that
leaves. Since the order that admits is the order that evicts, a plan that came true is planned again (OC-100).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from placement.form import Coefficients, Form, add
from placement.nodes import Group
from placement.problem import Problem
from placement.rules import limit_row
from placement.types import Quota


@dataclass(slots=True)
class Lending:
    """Tenants whose quotas lend to each other, and the devices that they hold beyond their own."""

    tenants: set[str] = field(default_factory=set)
    beyond: Coefficients = field(default_factory=dict)


def profile_of(problem: Problem, group: Group) -> str:
    """Of a running replica: of its cell, else of its option; "" if neither is known (then only quotas over all profiles count it)."""
    if group.cell is not None:
        return problem.cells[group.cell].profile
    option = problem.option_index.get(group.option or "")
    return "" if option is None else problem.options[option].profile


def cohorts(quotas: Sequence[Quota]) -> list[list[Quota]]:
    """Quotas over the same profiles."""
    found: dict[tuple[str, ...], list[Quota]] = {}
    for q in quotas:
        found.setdefault(tuple(sorted(set(q.profiles))), []).append(q)
    return [found[key] for key in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Use:
    change: Coefficients
    running: float
    starts: list[int]


def _use(problem: Problem, quota: Quota, starts: dict[int, int], stops: dict[int, int]) -> _Use:
    def counts(model: int, profile: str) -> bool:
        return problem.models[model].tenant == quota.tenant and (not quota.profiles or profile in quota.profiles)

    change: Coefficients = {}
    variables: list[int] = []
    for w in problem.ways:
        if counts(w.model, problem.cells[w.cell].profile):
            add(change, starts[w.index], float(w.size))
            variables.append(starts[w.index])
    running = 0.0
    for g in problem.groups:
        if counts(g.model, profile_of(problem, g)):
            running += g.devices * len(g.ids)
            if g.index in stops:
                add(change, stops[g.index], -float(g.devices))
    return _Use(change, running, variables)


def add_quotas(problem: Problem, form: Form, starts: dict[int, int], stops: dict[int, int]) -> Lending:
    lending = Lending()
    for cohort in cohorts(problem.snapshot.policy.quotas):
        uses = [_use(problem, q, starts, stops) for q in cohort]
        total = float(sum(q.devices for q in cohort))
        running = sum(u.running for u in uses)
        shared = any(q.borrow for q in cohort) and running <= total
        for q, use in zip(cohort, uses, strict=True):
            if not (shared and q.borrow):
                limit_row(form, use.change, use.running, float(q.devices), use.starts)
        if not shared:
            continue
        together: Coefficients = {}
        for use in uses:
            for variable, c in use.change.items():
                add(together, variable, c)
        limit_row(form, together, running, total, [v for u in uses for v in u.starts])
        for q, use in zip(cohort, uses, strict=True):
            lending.tenants.add(q.tenant)
            if q.borrow and use.running + len(use.starts):
                beyond = form.variable(0.0, None, integer=False)
                form.row({**use.change, beyond: -1.0}, "<=", float(q.devices) - use.running)
                lending.beyond[beyond] = 1.0
    return lending
