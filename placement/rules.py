"""Rows of the general form that bound what starts: limits, reserves, budgets; and what counts as a move.

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


def rooted_of(problem: Problem, form: Form, starts: dict[int, int], stops: dict[int, int]) -> Coefficients:
    """Replicas that leave a pool whose own scheduler chooses nodes while their model starts others: variables that are at least so many.
    Of a model's stops only those that no start replaces are free; the others' stops count as replaced first."""
    rooted: Coefficients = {}
    for m, want in enumerate(problem.wants):
        groups = [g for i in problem.groups_of[m] if (g := problem.groups[i]).stoppable]
        staying: Coefficients = {stops[g.index]: 1.0 for g in groups if g.stays}
        replaced: Coefficients = {starts[w.index]: 1.0 for w in problem.ways if w.model == m} if staying else {}
        if not staying or not replaced:
            continue
        replaced.update({stops[g.index]: -1.0 for g in groups if not g.stays})
        moved = form.variable(0.0, None, integer=False)
        all_of_them = form.variable(0.0, 1.0)  # 1: moved = stops there; 0: moved = starts - stops elsewhere
        most = float(sum(len(g.ids) for g in groups if g.stays))
        form.row({**staying, moved: -1.0, all_of_them: most}, "<=", most)
        form.row({**replaced, moved: -1.0, all_of_them: -float(want.maximum)}, "<=", 0.0)
        rooted[moved] = 1.0
    return rooted


def moves_of(problem: Problem, form: Form, starts: dict[int, int], stops: dict[int, int]) -> Coefficients:
    """Replicas that stop while their model starts others, if they are limited: variables that are at least so many."""
    if problem.snapshot.policy.max_moves is None:
        return {}
    mine: list[Coefficients] = [{} for _ in problem.models]
    gone: list[Coefficients] = [{} for _ in problem.models]
    for w in problem.ways:
        mine[w.model][starts[w.index]] = 1.0
    for g in problem.groups:
        if g.stoppable:
            gone[g.model][stops[g.index]] = 1.0
    moves: Coefficients = {}
    for m, want in enumerate(problem.wants):
        if not mine[m] or not gone[m]:
            continue
        moved = form.variable(0.0, None, integer=False)
        grows = form.variable(0.0, 1.0)  # 1: moves = stops; 0: moves = starts
        form.row({**gone[m], moved: -1.0, grows: float(want.running)}, "<=", float(want.running))
        form.row({**mine[m], moved: -1.0, grows: -float(want.maximum)}, "<=", 0.0)
        moves[moved] = 1.0
    return moves
