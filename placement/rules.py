"""Rows of the general form that bound what starts: limits, reserves, budgets, spread over vendors, moves.

A limit that what runs already exceeds forbids starts under it and nothing else: running replicas are never stopped for a lowered number.
"""

from __future__ import annotations

from placement.form import Coefficients, Form, add
from placement.problem import Problem


def limit_row(form: Form, usage: Coefficients, running: float, limit: float, starts: list[int]) -> None:
    """running + usage <= limit, or no start. `usage` holds the change by starts (+) and stops (-)."""
    if not starts:
        return
    if running <= limit + 1e-9:
        form.row(usage, "<=", limit - running)
        return
    allowed = form.variable(0.0, 1.0)
    for start in starts:
        most = form.upper[start]
        form.row({start: 1.0, allowed: -(most if most is not None else 0.0)}, "<=", 0.0)
    # allowed = 0: nothing starts, and usage <= 0 holds by itself. allowed = 1: below the limit after stops.
    form.row({**usage, allowed: running - limit}, "<=", 0.0)


def add_limits(problem: Problem, form: Form, starts: dict[int, int], stops: dict[int, int]) -> None:
    policy = problem.snapshot.policy
    for pool in sorted({c.pool for c in problem.cells}):
        cells = {i for i, c in enumerate(problem.cells) if c.pool == pool}
        mine = [w for w in problem.ways if w.cell in cells]
        if not mine:
            continue
        variables = [starts[w.index] for w in mine]
        limits = [x for i in cells if (x := problem.cells[i].limit_devices) is not None]
        if limits:
            usage: Coefficients = {starts[w.index]: float(w.size) for w in mine}
            running = 0
            for g in problem.groups:
                if g.cell in cells:
                    running += g.devices * len(g.ids)
                    if g.stoppable:
                        add(usage, stops[g.index], -float(g.devices))
            limit_row(form, usage, float(running), float(min(limits)), variables)
        reserve = max(problem.cells[i].reserve_devices for i in cells)
        if reserve:
            usage = {starts[w.index]: float(w.size) for w in mine}
            bins = [b for b in problem.bins if b.cell in cells]
            for b in bins:
                for group, units, _ in b.gains:
                    add(usage, stops[group], -float(units))
            limit_row(form, usage, float(-sum(b.free for b in bins)), float(-reserve), variables)
    for m, model in enumerate(problem.models):
        if model.max_hourly_cost is not None:
            _cost_row(problem, form, starts, stops, model.max_hourly_cost, m)
    if policy.max_hourly_cost is not None:
        _cost_row(problem, form, starts, stops, policy.max_hourly_cost, None)


def _cost_row(problem: Problem, form: Form, starts: dict[int, int], stops: dict[int, int], limit: float, model: int | None) -> None:
    mine = [w for w in problem.ways if model is None or w.model == model]
    usage: Coefficients = {starts[w.index]: w.cost for w in mine}
    running = 0.0
    for g in problem.groups:
        if model is None or g.model == model:
            running += g.cost * len(g.ids)
            if g.stoppable:
                add(usage, stops[g.index], -g.cost)
    # A way without a price does not count against money.
    limit_row(form, usage, running, limit, [starts[w.index] for w in mine if w.cost > 0])


def add_moves(problem: Problem, form: Form, starts: dict[int, int], stops: dict[int, int]) -> None:
    """At most `max_moves` replicas that stop while their model starts others."""
    most = problem.snapshot.policy.max_moves
    if most is None:
        return
    moves: Coefficients = {}
    for m in range(len(problem.models)):
        mine = {starts[w.index]: 1.0 for w in problem.ways if w.model == m}
        gone = {stops[g.index]: 1.0 for g in problem.groups if g.model == m and g.stoppable}
        if not mine or not gone:
            continue
        running = problem.wants[m].running
        moved = form.variable(0.0, None, integer=False)
        grows = form.variable(0.0, 1.0)  # 1: moves = stops; 0: moves = starts
        form.row({**gone, moved: -1.0, grows: float(running)}, "<=", float(running))
        form.row({**mine, moved: -1.0, grows: -float(problem.wants[m].maximum)}, "<=", 0.0)
        moves[moved] = 1.0
    form.row(moves, "<=", float(most))


def add_spread(problem: Problem, form: Form, m: int, starts: dict[int, int], stops: dict[int, int], shortfall: Coefficients) -> None:
    model = problem.models[m]
    share = model.max_vendor_share_percent
    if model.min_vendors < 2 and (share is None or share >= 100):
        return
    ways = [w for w in problem.ways if w.model == m]
    groups = [g for g in problem.groups if g.model == m]
    vendors = sorted({w.vendor for w in ways} | {g.vendor for g in groups})
    want = problem.wants[m]
    most = float(max(want.maximum, want.running, 1))
    total: Coefficients = {}
    per_vendor: dict[str, Coefficients] = {v: {} for v in vendors}
    running: dict[str, int] = dict.fromkeys(vendors, 0)
    for w in ways:
        add(per_vendor[w.vendor], starts[w.index], 1.0)
    for g in groups:
        running[g.vendor] += len(g.ids)
        if g.stoppable:
            add(per_vendor[g.vendor], stops[g.index], -1.0)
    for counts in per_vendor.values():
        for variable, c in counts.items():
            add(total, variable, c)
    have = sum(running.values())
    if model.min_vendors >= 2:
        used = {v: form.variable(0.0, 1.0) for v in vendors}
        for v in vendors:
            # used <= replicas of this vendor
            form.row({used[v]: 1.0, **{k: -c for k, c in per_vendor[v].items()}}, "<=", float(running[v]))
        enough = form.variable(0.0, 1.0)
        form.row({**dict.fromkeys(used.values(), 1.0), enough: -float(model.min_vendors)}, ">=", 0.0)
        few: Coefficients = {**total, enough: -most}
        for x in used.values():
            add(few, x, -1.0)
        if have:
            broken = form.variable(0.0, 1.0)
            add(few, broken, -most)
            add(shortfall, broken, float(want.smallest))
            _no_starts(form, broken, [starts[w.index] for w in ways])
        form.row(few, "<=", -float(have))
    if share is not None and share < 100:
        alpha = share / 100.0
        for v in vendors:
            row: Coefficients = {k: -alpha * c for k, c in total.items()}
            for k, c in per_vendor[v].items():
                add(row, k, c)
            if running[v]:
                broken = form.variable(0.0, 1.0)
                add(row, broken, -most)
                add(shortfall, broken, float(want.smallest))
                _no_starts(form, broken, [starts[w.index] for w in ways if w.vendor == v])
            form.row(row, "<=", 1.0 - alpha + alpha * have - running[v] + 1e-9)


def _no_starts(form: Form, broken: int, starts: list[int]) -> None:
    for start in starts:
        most = form.upper[start]
        bound = most if most is not None else 0.0
        form.row({start: 1.0, broken: bound}, "<=", bound)
