"""Rows of the general form that spread one model's replicas: distinct vendors, share per vendor, share per failure domain.

With X replicas, at most 1 + a * (X - 1) of them may be of one vendor (`max_vendor_share_percent`) or in one failure domain (`Strict`,
`max_domain_share_percent`; at 50 % that is half of them, rounded up). The rules are hard for what starts. What already runs and breaks one
may stay and may shrink, never grow: that costs half a missing replica, and nothing of that vendor or domain starts meanwhile.
"""

from __future__ import annotations

from placement.form import Coefficients, Form, add
from placement.nodes import Group
from placement.problem import Problem, Way
from placement.types import Spread


class _Counts:
    """Replicas per vendor or domain: what runs, and the change by starts and stops."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.change: dict[str, Coefficients] = {}
        self.starts: dict[str, list[int]] = {}

    def run(self, key: str, count: int, stop: int | None) -> None:
        self.running[key] = self.running.get(key, 0) + count
        change = self.change.setdefault(key, {})
        if stop is not None:
            add(change, stop, -1.0)

    def start(self, key: str, variable: int) -> None:
        self.running.setdefault(key, 0)
        add(self.change.setdefault(key, {}), variable, 1.0)
        self.starts.setdefault(key, []).append(variable)

    def total(self) -> Coefficients:
        result: Coefficients = {}
        for _, change in sorted(self.change.items()):
            for variable, c in change.items():
                add(result, variable, c)
        return result


def add_spread(
    problem: Problem,
    form: Form,
    m: int,
    ways: list[Way],
    groups: list[Group],
    starts: dict[int, int],
    stops: dict[int, int],
    shortfall: Coefficients,
) -> None:
    model = problem.models[m]
    percent = model.max_vendor_share_percent
    strict = model.spread is Spread.STRICT and model.max_domain_share_percent < 100
    vendors, domains = _Counts(), _Counts()
    for w in ways:
        vendors.start(w.vendor, starts[w.index])
        domains.start(w.domain, starts[w.index])
    for g in groups:
        stop = stops.get(g.index)
        vendors.run(g.vendor, len(g.ids), stop)
        domains.run(g.domain, len(g.ids), stop)
    if model.min_vendors >= 2:
        _distinct(problem, form, m, vendors, shortfall)
    if percent is not None and percent < 100:
        _share(problem, form, m, vendors, percent / 100.0, shortfall)
    if strict:
        _share(problem, form, m, domains, model.max_domain_share_percent / 100.0, shortfall)


def _most(problem: Problem, m: int) -> float:
    want = problem.wants[m]
    return float(max(want.maximum, want.running, 1))


def _distinct(problem: Problem, form: Form, m: int, vendors: _Counts, shortfall: Coefficients) -> None:
    most, have = _most(problem, m), sum(vendors.running.values())
    used = {v: form.variable(0.0, 1.0) for v in sorted(vendors.running)}
    for v, variable in used.items():
        # used <= replicas of this vendor
        form.row({variable: 1.0, **{k: -c for k, c in vendors.change[v].items()}}, "<=", float(vendors.running[v]))
    enough = form.variable(0.0, 1.0)
    form.row({**dict.fromkeys(used.values(), 1.0), enough: -float(problem.models[m].min_vendors)}, ">=", 0.0)
    few: Coefficients = {**vendors.total(), enough: -most}
    for variable in used.values():
        add(few, variable, -1.0)
    if have:
        broken = form.variable(0.0, 1.0)
        add(few, broken, -most)
        add(shortfall, broken, float(problem.wants[m].smallest))
        _no_starts(form, broken, [s for _, mine in sorted(vendors.starts.items()) for s in mine])
    form.row(few, "<=", -float(have))


def _share(problem: Problem, form: Form, m: int, counts: _Counts, alpha: float, shortfall: Coefficients) -> None:
    most, have, total = _most(problem, m), sum(counts.running.values()), counts.total()
    for key in sorted(counts.running):
        row: Coefficients = {k: -alpha * c for k, c in total.items()}
        for k, c in counts.change[key].items():
            add(row, k, c)
        if counts.running[key]:
            broken = form.variable(0.0, 1.0)
            add(row, broken, -most)
            add(shortfall, broken, float(problem.wants[m].smallest))
            _no_starts(form, broken, counts.starts.get(key, []))
        form.row(row, "<=", 1.0 - alpha + alpha * have - counts.running[key] + 1e-9)


def _no_starts(form: Form, broken: int, starts: list[int]) -> None:
    for start in starts:
        most = form.upper[start]
        bound = most if most is not None else 0.0
        form.row({start: 1.0, broken: bound}, "<=", bound)
