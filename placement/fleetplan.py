"""A plan for a fleet that is too large for the general form: columns, split over cells, polish in neighbourhoods.

Every step only improves what the step before left; each can fail without losing what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from placement import again, columnplan, fleetform, neighbourhood
from placement import value as worth
from placement._solver import Limits, Solve, SolverError, Watchdog
from placement.bind import BindError
from placement.columnform import ColumnForm, Floats
from placement.columns import Columns, Generator
from placement.general import Counts
from placement.master import Master, Pool
from placement.problem import Problem, build, unmet_price
from placement.snapshot import demand_by_model, normalised, validated
from placement.split import Targets, split
from placement.types import Demand, Effort, RowPrice, Snapshot

POLISH_NODES = 60  # nodes of one neighbourhood's solves


@dataclass(frozen=True, slots=True)
class Large:
    counts: Counts
    pool_gap: float | None
    bound: float | None  # of money + weighted shortfall with tie-breaks, for all plans; None = exact pricing did not run
    prices: tuple[RowPrice, ...]  # every hard row with a price, by name
    polished: int
    deadline: bool
    solver: str = "HiGHS"
    memory: object | None = None  # what a later call may start from


def solve(
    problem: Problem,
    engine: Solve,
    effort: Effort,
    watchdog: Watchdog,
    prices: tuple[RowPrice, ...],
    found: Callable[[Counts, bool], object],
    memory: object | None = None,
    fits: Callable[[Counts], bool] = lambda counts: True,
) -> Large:
    """`found` is called with each better set of counts, and whether it is the last. SolverError if the columns give no plan.

    `fits` = whether counts may leave: those of a full solve obey the shared rows (quotas, limits, budget, moves), those of a plan around
    what runs are asked.
    """
    first: fleetform.FleetForm | None = None
    if memory is not None and not effort.deep_rounds and _one_pass(problem):
        first = fleetform.build(problem)
        near = _near(problem, first, engine, effort, watchdog, memory, found, fits)
        if near is not None:
            return near
    fleet, got = _passes(problem, effort, watchdog, {r.name: r.price for r in prices}, first)
    limits = Limits(min(POLISH_NODES, effort.mip_nodes), problem.snapshot.policy.relative_gap, watchdog.left())
    counts = split(problem, Targets(fleetform.targets(fleet, got.columns)), engine, limits)
    steps = _steps(problem, counts, effort)
    found(counts, not steps)
    deadline, polished = False, 0
    try:
        if steps:
            allowed = replace(effort, neighbourhoods=steps)
            counts, polished = neighbourhood.polish(problem, counts, engine, replace(limits, seconds=watchdog.left()), allowed)
            found(counts, True)
    except (SolverError, BindError):
        deadline = watchdog.left() <= 0
    constant = fleetform.fixed_money(problem) + _base(problem, fleet)
    return Large(
        counts=counts,
        pool_gap=max(0.0, got.money - got.pool_bound) / max(1e-9, abs(got.money)),
        bound=None if got.true_bound is None or not fleetform.holds_all(problem) else got.true_bound + constant,
        prices=_rows(fleet, got.hard),
        polished=polished,
        deadline=deadline,
        memory=None if got.least is None else again.remembered(fleet, _names(problem, fleet), got.hard, got.least, got.money),
    )


def _near(
    problem: Problem,
    fleet: fleetform.FleetForm,
    engine: Solve,
    effort: Effort,
    watchdog: Watchdog,
    memory: object,
    found: Callable[[Counts, bool], object],
    fits: Callable[[Counts], bool],
) -> Large | None:
    """A plan around what runs, if only a few models have changed and the last prices prove it near the best."""
    got = again.attempt(fleet, _names(problem, fleet), memory)
    if got is None:
        return None
    limits = Limits(min(POLISH_NODES, effort.mip_nodes), problem.snapshot.policy.relative_gap, watchdog.left())
    moving = set(got.changed)
    still = replace(problem, groups=[g if g.model in moving or not g.stoppable else replace(g, stoppable=False) for g in problem.groups])
    tries = [(still, c, m) for c, m in zip(got.choices, got.money, strict=True)]
    # Where none finds room beside the others, others may make room once.
    tries.append((problem, got.choices[0], got.money[0]))
    for view, columns, money in tries:
        wanted = fleetform.targets(fleet, columns)
        known = len(problem.ways)
        try:
            mine = wanted if view is problem else {key: n for key, n in wanted.items() if key[0] in moving}
            counts = _as_they_are(problem, mine, moving) or split(view, Targets(mine), engine, limits)
        except (SolverError, BindError):
            del problem.ways[known:]
            continue
        changes = any(counts.starts) or any(counts.stops)
        if worth.short(problem, worth.value(problem, counts.starts, counts.stops)) or (changes and not fits(counts)):
            del problem.ways[known:]
            continue
        found(counts, True)
        gap = max(0.0, money - got.bound) / max(1e-9, abs(money))
        return Large(counts, gap, None, _rows(fleet, got.memory.hard), 0, False, memory=got.memory)
    return None


def _as_they_are(problem: Problem, wanted: dict[tuple[int, int, str | None], int], moving: set[int]) -> Counts | None:
    """The counts of a plan that changes nothing, if that is what is wanted of these models; None if it is not, or if zones matter."""
    runs: dict[tuple[int, int, str | None], int] = {}
    for m in moving:
        for i in problem.groups_of[m]:
            g = problem.groups[i]
            if not g.stoppable or g.option not in problem.option_index:
                return None
            key = (m, problem.option_index[g.option], None)
            runs[key] = runs.get(key, 0) + len(g.ids)
    if runs != {key: n for key, n in wanted.items() if n and key[0] in moving}:
        return None
    return Counts(tuple(0 for _ in problem.ways), tuple(0 for _ in problem.groups), {}, (), 0.0, False, False, None, False)


def _names(problem: Problem, fleet: fleetform.FleetForm) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(problem.models[m].name for m in fleet.models), tuple(problem.options[o].id for o in fleet.option)


def _one_pass(problem: Problem) -> bool:
    return max(problem.rank, default=0) + 1 <= fleetform.LEVELS


def _steps(problem: Problem, counts: Counts, effort: Effort) -> int:
    """Polish is for first plans and for shortages; where all is served and something runs, it waits for idle time (deep effort)."""
    small = len(problem.models) <= neighbourhood.WHOLE
    if small and (not problem.groups or effort.deep_rounds):
        return effort.neighbourhoods
    lacking = worth.short(problem, worth.value(problem, counts.starts, counts.stops))
    steps = effort.neighbourhoods if small else effort.large_neighbourhoods
    return steps if lacking or effort.deep_rounds else 0


def _passes(
    problem: Problem, effort: Effort, watchdog: Watchdog, known: dict[str, float], first_form: fleetform.FleetForm | None = None
) -> tuple[fleetform.FleetForm, columnplan.ColumnPlan]:
    """Up to three ranks are one pass, their weights 100 apart. More are passes in order: first with all weights equal (when nothing is
    short ranks do not matter), then two ranks at a time, what they reached held for the passes after."""
    ranks = max(problem.rank, default=0) + 1
    if _one_pass(problem):
        fleet = first_form or fleetform.build(problem)
        begun = columnplan.begin(fleet.form, watchdog, rounds=effort.rounds, hard=_prices(fleet, known))
        hard = begun.master.prices()[0]
        if not (begun.short and fleet.form.running.any()):
            got = columnplan.finished(begun, **_how(effort))
            if _served(fleet.form, got) or not fleet.form.running.any():
                return fleet, got
            hard = got.hard
        # Somebody is short: nobody moves for money. Where the LP is short already, no whole plan of it can be better.
        fleet = fleetform.build(problem, short=True)
        return fleet, _solved(fleet.form, effort, watchdog, hard, None)
    equal = fleet = fleetform.build(problem, np.full(ranks, worth.LOWEST))
    got = _solved(equal.form, effort, watchdog, _prices(equal, known), None)
    first = 0
    while not _served(equal.form, got) and first < ranks - 1:
        weights = np.array([worth.LOWEST * worth.APART ** max(0, min(2, 2 - (r - first))) for r in range(ranks)])
        fleet = fleetform.build(problem, weights, short=True)
        form = fleet.form
        # Absent where everybody may lose what runs.
        least_phi = np.zeros(len(form.rank)) if form.least_phi is None else form.least_phi
        least_count = np.zeros(len(form.rank), np.int64) if form.least_count is None else form.least_count
        done = form.rank < first
        totals = got.columns.count.sum(axis=1)
        form = replace(
            form,
            least_phi=np.where(done, got.columns.phi - 1e-6, least_phi),
            least_count=np.where(done, np.minimum(totals, form.minimum), least_count),
        )
        fleet = replace(fleet, form=form)
        got = _solved(form, effort, watchdog, got.hard, _repriced(form, got))
        first += 2
    return fleet, got


def _how(effort: Effort) -> dict[str, int]:
    return {
        "rounds": effort.rounds, "refine_rounds": effort.refine_rounds, "dive_steps": effort.dive_steps, "deep_rounds": effort.deep_rounds,
    }  # fmt: skip


def _solved(form: ColumnForm, effort: Effort, watchdog: Watchdog, hard: Floats | None, extra: Columns | None) -> columnplan.ColumnPlan:
    return columnplan.solve(form, watchdog, hard=hard, extra=extra, **_how(effort))


def _prices(fleet: fleetform.FleetForm, known: dict[str, float]) -> Floats | None:
    hard = np.array([known.get(name, 0.0) for name in fleet.row_names])
    return hard if hard.any() else None


def _repriced(form: ColumnForm, got: columnplan.ColumnPlan) -> Columns:
    columns = got.columns
    return Generator(form).priced(columns.owner, columns.option, columns.count, columns.phi)


def _served(form: ColumnForm, got: columnplan.ColumnPlan) -> bool:
    """Whether the plan leaves nothing short."""
    has_load = form.load.sum(axis=1) > 0
    columns = got.columns
    short = has_load[columns.owner] & (columns.phi < 1.0 - 1e-6)
    few = columns.count.sum(axis=1) < form.minimum[columns.owner]
    return not bool((short | few).any())


def true_bound(snapshot: Snapshot, demand: Demand, *, rounds: int = 2, seconds: float = 3600.0) -> float:
    """A lower bound of the published objective of every plan, by exact pricing of every model (minutes for thousands of models).

    -inf if no round could be finished.
    """
    snapshot = normalised(snapshot)
    validated(snapshot, demand)
    problem = build(snapshot, demand_by_model(snapshot, demand), with_ways=False)
    fleet = fleetform.build(problem, fleetform.rank_weights(max(problem.rank, default=0) + 1), bound=True)
    watchdog = Watchdog(seconds)
    form = fleet.form
    pool = Pool.of(form)
    master = Master(pool, watchdog)
    master.start()
    priced = columnplan.contested(master, master.generate(60), 60, 8)
    _, best = columnplan.deepened(master, priced, rounds)
    return -np.inf if best is None else float(best) + fleetform.fixed_money(problem, ties=False) + _base(problem, fleet)


def prices(problem: Problem, watchdog: Watchdog) -> tuple[RowPrice, ...]:
    """Prices of the rows that bind, from the columns' LP: for the explanations of a fleet that the general form has solved."""
    try:
        fleet = fleetform.build(problem)
        if not fleet.form.options:
            return ()
        master = Master(Pool.of(fleet.form), watchdog)
        master.start()
        columnplan.contested(master, master.generate(20), 20, 1)
        return _rows(fleet, master.prices()[0])
    except SolverError:
        return ()


def _base(problem: Problem, fleet: fleetform.FleetForm) -> float:
    """Weighted shortfall of models that are in no column: nothing of theirs can start, whatever the others do."""
    weights, inside = fleetform.rank_weights(max(problem.rank, default=0) + 1), set(fleet.models)
    total = 0.0
    for m, want in enumerate(problem.wants):
        if m in inside or problem.models[m].hold or want.needs.half:
            continue  # a split deployment on shared networks is planned by the polish: nothing is known of what it must lack
        loss = want.need * unmet_price(1.0 - want.running_share) if want.needs.any else 0.0
        loss += 2.0 * want.smallest * max(0, want.minimum - want.running)
        total += float(weights[problem.rank[m]]) * problem.unit * loss
    return total


def _rows(fleet: fleetform.FleetForm, hard: Floats) -> tuple[RowPrice, ...]:
    """A row with a price has no slack in the LP; rows without one are left out."""
    rows = [RowPrice(name, 0.0, round(float(p), 6)) for name, p in zip(fleet.row_names, hard, strict=True) if p > 1e-9]
    return tuple(sorted(rows, key=lambda r: (-r.price, r.name)))
