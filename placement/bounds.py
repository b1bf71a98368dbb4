"""Exact pricing: the best column of a model over *all* counts of *all* its options, by a small integer program.

The Lagrangian value with these minima holds for every plan, not only for the enumerated columns: it is the true bound, the one that may be
published. The columns found on the way (three and more options) enter the master, so each round also improves the plans.

Rows of one model (general form): sum over options of y_bo + u = 1 for every bucket, load_b y_bo / rate_bo summed over buckets <= n_o,
zones, number of replicas, hourly cost. Rules that need more (distinct vendors) are left out here: the bound stays valid, and a column that
breaks them is refused by `Generator.priced`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from placement._solver import Limits, SolverError, mip
from placement.columnform import ColumnForm, Floats, Ints, option_prices
from placement.columns import Columns
from placement.master import WIDTH, Master

NODES = 400
GAP = 1e-5


@dataclass(frozen=True, slots=True)
class Exact:
    """What exact pricing found for one model: a lower bound of its value and, if the solver found one, the column."""

    bound: float
    option: Ints
    count: Ints
    phi: float
    value: float


def exact_column(form: ColumnForm, model: int, prices: Floats, ratio: Floats, seconds: float) -> Exact:
    """`prices` [O] of options, `ratio` [O, B]. SolverError if nothing is known."""
    low, high = int(form.first[model]), int(form.first[model + 1])
    options = np.arange(low, high)
    usable = np.isfinite(prices[options]) & (form.upper[options] > 0)
    options = options[usable]
    k = len(options)
    load = form.load[model]
    working = load.sum() > 0
    buckets = np.flatnonzero(ratio[low:high].max(axis=0, initial=0.0) > 0) if working else np.zeros(0, np.int64)
    r = ratio[options][:, buckets]
    pairs_o, pairs_b = np.nonzero(np.isfinite(r) & (r > 0)) if len(buckets) else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    # Variables: n [k], starts above running [k], stops below running [k], y [pairs], u1, u2, v
    n_y = len(pairs_o)
    running = form.running[options]
    changing = (running > 0) & ((form.start[options] > 0) | (form.stop[options] > 0))
    at_y, at_u, at_v = 2 * k, 2 * k + n_y, 2 * k + n_y + 2
    total = at_v + 1
    # n_o = running + up - down would need both; a single "down" = running - min(n, running) suffices: money is convex in n.
    cost = np.zeros(total)
    cost[:k] = form.cost[options] + prices[options] + form.start[options]
    cost[k : 2 * k] = form.start[options] + form.stop[options]  # below running, a replica saves no start and costs a stop
    cost[at_u], cost[at_u + 1] = form.weight[model], 3.0 * form.weight[model]
    cost[at_v] = form.missing[model]
    upper = np.full(total, np.inf)
    upper[:k] = np.minimum(form.upper[options], form.maximum[model])
    upper[k : 2 * k] = np.where(changing, running, 0)
    upper[at_y:at_u] = 1.0
    upper[at_u : at_u + 2] = 0.5 if working else 0.0
    upper[at_v] = max(0, int(form.minimum[model]))
    integer = np.zeros(total, dtype=np.bool_)
    integer[:k] = True
    rows = _Entries()
    lower_b: list[float] = []
    upper_b: list[float] = []

    def row(index: Ints, value: Floats, least: float, most: float) -> None:
        rows.add(index, value)
        lower_b.append(least)
        upper_b.append(most)

    for b in range(len(buckets)):
        mine = np.flatnonzero(pairs_b == b)
        row(np.concatenate([at_y + mine, [at_u, at_u + 1]]), np.ones(len(mine) + 2), 1.0, np.inf)
    for o in range(k):
        mine = np.flatnonzero(pairs_o == o)
        if len(mine):
            row(np.concatenate([at_y + mine, [o]]), np.concatenate([r[o, pairs_b[mine]], [-1.0]]), -np.inf, 0.0)
        if changing[o]:
            row(np.array([o, k + o]), np.ones(2), float(running[o]), np.inf)
    row(np.concatenate([np.arange(k), [at_v]]), np.ones(k + 1), float(form.minimum[model]), np.inf)
    row(np.arange(k), np.ones(k), -np.inf, float(form.maximum[model]))
    if np.isfinite(form.cost_cap[model]):
        row(np.arange(k), form.cost[options], -np.inf, float(form.cost_cap[model]))
    share = float(form.zone_share[model])
    if share < 1.0:
        for z in np.unique(form.zone[options]):
            row(np.arange(k), np.where(form.zone[options] == z, 1.0, 0.0) - share, -np.inf, 1.0 - share)
    constant = float(form.base[model]) - float((form.start[options] * running)[changing].sum())
    constant += float((form.stop[low:high] * form.running[low:high]).sum() - (form.stop[options] * running).sum())
    # Options that run but whose change costs nothing are charged as if nothing ran; with start and stop 0 that is the same.
    limits = Limits(nodes=NODES, relative_gap=GAP, seconds=seconds, absolute_gap=1e-6)
    answer = mip(
        cost, np.zeros(total), upper, integer, np.array(lower_b), np.array(upper_b), rows.ptr(), rows.cols(), rows.values(), limits=limits
    )
    count = np.rint(answer.x[:k]).astype(np.int64)
    phi = 1.0 - float(answer.x[at_u] + answer.x[at_u + 1]) if working else 1.0
    bound = answer.bound if answer.bound is not None else 0.0
    return Exact(bound + constant, options, count, min(1.0, max(0.0, phi)), answer.objective + constant)


class _Entries:
    """Rows in compressed form, built one by one."""

    def __init__(self) -> None:
        self._cols: list[Ints] = []
        self._values: list[Floats] = []

    def add(self, index: Ints, value: Floats) -> None:
        keep = value != 0.0
        self._cols.append(np.asarray(index)[keep])
        self._values.append(np.asarray(value, np.float64)[keep])

    def ptr(self) -> Ints:
        return np.concatenate([[0], np.cumsum([len(c) for c in self._cols])])

    def cols(self) -> Ints:
        return np.concatenate(self._cols) if self._cols else np.zeros(0, np.int64)

    def values(self) -> Floats:
        return np.concatenate(self._values) if self._values else np.zeros(0)


def exact_round(master: Master, hard: Floats, models: Ints | None = None) -> tuple[float, Columns]:
    """One round of exact pricing at the given prices of hard rows: (true bound, columns found).

    With `models`, only those are priced exactly and the bound is worthless (-inf). A model whose program gave nothing counts with its
    relaxed minimum 0, which keeps the bound valid and makes it weak.
    """
    form, generator = master.form, master.pool.generator
    prices = option_prices(form, hard)
    wanted = np.arange(form.models) if models is None else models
    total = -float(hard @ form.hard)
    owner: list[int] = []
    option = np.zeros((len(wanted), WIDTH), np.int32)
    count = np.zeros((len(wanted), WIDTH), np.int32)
    phi: list[float] = []
    for model in wanted:
        try:
            found = exact_column(form, int(model), prices, generator.ratio, max(0.01, master.watchdog.left()))
        except SolverError:
            total += float(form.base[model])
            continue
        total += found.bound
        used = np.flatnonzero(found.count)
        if 0 < len(used) <= WIDTH:
            option[len(owner), : len(used)] = found.option[used]
            count[len(owner), : len(used)] = found.count[used]
            owner.append(int(model))
            phi.append(found.phi)
    n = len(owner)
    columns = generator.priced(np.array(owner, np.int64), option[:n], count[:n], np.array(phi))
    return (total if models is None else -np.inf), columns
