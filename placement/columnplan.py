"""The column engine from end to end: columns, prices, whole columns. Effort is counted in rounds, steps and nodes.

1. Columns of full coverage and what runs; column generation from the stored prices.
2. Where the LP leaves a model short: partial columns for the contested ranks, then a fine grid of coverages for models that are fractional
   or short.
3. Whole columns: the dive, then the integer master. In a fleet without shortage the integer master alone is mostly proven at once.
4. Deep: exact pricing of every model, again and again; gives the true bound and columns of three and more options.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from placement._solver import InfeasibleError, Limits, SolverError, Watchdog
from placement.bounds import exact_round
from placement.columnform import ColumnForm, Floats, Ints, option_prices
from placement.columns import Columns, joined
from placement.integer import Chosen, dive, integer_master, release, supplied
from placement.keepers import keepers
from placement.master import Master, Pool, Priced, finite, widened

CONTESTED = (0.75, 0.5)
FINE = tuple(float(x) for x in np.linspace(0.3, 0.95, 14))
FINE_GRID = 40
NODES, GAP = 60, 1e-4
NEAREST = (1e-9, 2e-6, 1e-5)  # relative to the LP's value: reduced costs up to which columns are tried first, few before many
QUICK, SCARCE = 2000, 1500  # binaries of the integer master without and with a shortage: more took seconds and gave nothing
LARGE = 4000
SMALL, NEAR = 100, 20  # models of a small fleet, columns per model and store that it gets beside the LP's
SETTLED = 2e-5  # relative improvement of the LP by a refinement below which it ends


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One column per model of the form, sorted by model."""

    columns: Columns
    money: float
    pool_bound: float  # against the enumerated columns only
    true_bound: float | None  # for every plan; None unless exact pricing ran
    hard: Floats  # [H] prices of the hard rows at the last LP
    proven: bool
    rounds: int
    least: Floats | None = None  # [M] least value of each model's columns at `hard`; None = the prices give no bound


@dataclass(frozen=True, slots=True)
class Begun:
    """The LP over columns of full coverage and what runs."""

    master: Master
    priced: Priced
    first: bool  # no prices of an earlier solve

    @property
    def short(self) -> bool:
        """Whether the LP leaves somebody short: then every whole plan of these columns does."""
        return bool((coverage(self.master, self.priced.share) < 1.0 - 1e-6).any())


def begin(form: ColumnForm, watchdog: Watchdog, *, rounds: int = 60, hard: Floats | None = None, extra: Columns | None = None) -> Begun:
    """`hard` = prices of an earlier solve, `extra` = columns to begin with (a whole plan of an earlier pass)."""
    pool = Pool.of(form)
    around = keepers(pool.generator)
    master = Master(pool, watchdog)
    if extra is not None:
        around = joined([around, widened(extra)])
    store = pool.add(around)
    master.start(hard if hard is not None and _priced_patterns(form, hard) else None)
    if store is not None:
        fresh = np.flatnonzero(~store.used)
        store.used[:] = True
        master.add(widened(around.taken(fresh)))
    return Begun(master, master.generate(rounds), hard is None)


def solve(
    form: ColumnForm,
    watchdog: Watchdog,
    *,
    rounds: int = 60,
    refine_rounds: int = 8,
    dive_steps: int = 200,
    mip_nodes: int = NODES,
    deep_rounds: int = 0,
    hard: Floats | None = None,
    extra: Columns | None = None,
) -> ColumnPlan:
    """From the form to whole columns. SolverError if no whole plan is found: the caller has its other incumbents."""
    begun = begin(form, watchdog, rounds=rounds, hard=hard, extra=extra)
    return finished(begun, rounds=rounds, refine_rounds=refine_rounds, dive_steps=dive_steps, mip_nodes=mip_nodes, deep_rounds=deep_rounds)


def finished(
    begun: Begun, *, rounds: int = 60, refine_rounds: int = 8, dive_steps: int = 200, mip_nodes: int = NODES, deep_rounds: int = 0
) -> ColumnPlan:
    """Whole columns from the LP that has begun."""
    master, pool, form = begun.master, begun.master.pool, begun.master.form
    priced = contested(master, begun.priced, rounds, refine_rounds)
    true_bound: float | None = None
    if not deep_rounds and begun.first and form.models <= SMALL and bool((coverage(master, priced.share) < 1.0 - 1e-6).any()):
        # Small and short is the hard corner of two options per column: one round of exact pricing gains a sixth there. It costs seconds, so
        # it is for first plans: later ones start from what runs, of which there are columns with any number of options.
        deep_rounds = 1
    if deep_rounds:
        priced, true_bound = deepened(master, priced, deep_rounds)
    hard_now, _ = master.prices()
    chosen = _whole(master, priced, dive_steps, mip_nodes)
    columns = master.columns.taken(chosen.column)
    least = pool.least(hard_now)[0] if _priced_patterns(form, hard_now) else None
    return ColumnPlan(columns, chosen.money, priced.bound, true_bound, hard_now, chosen.proven, priced.rounds, least)


def _priced_patterns(form: ColumnForm, hard: Floats) -> bool:
    """Whether stored prices are dual feasible for node patterns: a pattern's bin must cost at least what its pieces are sold for."""
    block = form.block
    each = np.add.reduceat(np.append(block.value * hard[block.row], 0.0), block.ptr[:-1]) if len(block.slot) else np.zeros(0)
    each = np.where(block.ptr[1:] > block.ptr[:-1], each, 0.0)
    return not bool((each[block.slot < 0] < -1e-9).any())


def coverage(master: Master, share: Floats) -> Floats:
    """[M] coverage in the LP; models of counts only count as covered when their minimum is reached."""
    form, columns = master.form, master.columns
    reached = np.where(
        master.pool.generator.counts_only[columns.owner],
        np.minimum(1.0, columns.count.sum(axis=1) / np.maximum(1, form.minimum[columns.owner])),
        columns.phi,
    )
    return np.asarray(np.bincount(columns.owner, share * reached, minlength=form.models), np.float64)


def contested(master: Master, priced: Priced, rounds: int, refine_rounds: int) -> Priced:
    """Partial coverages where the LP leaves somebody short."""
    form = master.form
    has_load = ~master.pool.generator.counts_only
    short = np.flatnonzero((coverage(master, priced.share) < 1.0 - 1e-6) & has_load)
    if not len(short):
        return priced
    wanted_ranks = np.flatnonzero((form.rank >= form.rank[short].min()) & has_load)
    master.extend(wanted_ranks, CONTESTED)
    priced = master.generate(rounds)
    done = np.zeros(form.models, dtype=np.bool_)
    for _ in range(refine_rounds):
        covered = coverage(master, priced.share)
        largest = np.zeros(form.models)
        np.maximum.at(largest, master.columns.owner, priced.share)
        open_ones = ((covered < 1.0 - 1e-6) & (covered > 1e-6)) | (largest < 1.0 - 1e-6)
        wanted = np.flatnonzero(open_ones & ~done & has_load)
        if not len(wanted):
            break
        done[wanted] = True
        master.extend(wanted, FINE, FINE_GRID)
        before, priced = priced.value, master.generate(rounds)
        if before - priced.value < SETTLED * abs(before):
            break
    return priced


def deepened(master: Master, priced: Priced, rounds: int) -> tuple[Priced, float | None]:
    """Rounds of exact pricing at the LP's prices until no model has a better column; the best true bound."""
    best: float | None = None
    for _ in range(rounds):
        hard, sigma = master.prices()
        bound, found = exact_round(master, hard)
        best = bound if best is None else max(best, bound)
        at_lp = finite(option_prices(master.form, hard))
        value = found.money + (found.count * at_lp[found.option]).sum(axis=1)
        fresh = found.taken(value < sigma[found.owner] - 1e-7 * max(1.0, abs(priced.value)) / max(1, master.form.models))
        if not len(fresh):
            break
        store = master.pool.add(fresh)
        if store is not None:
            store.used[:] = True
        master.add(widened(fresh))
        master.best_bound = -np.inf
        priced = master.generate(8)
        if priced.value - best <= 1e-5 * abs(priced.value):
            break
    return priced, best


def _whole(master: Master, priced: Priced, dive_steps: int, nodes: int) -> Chosen:
    form = master.form
    hard, sigma = master.prices()
    near = master.columns.money + (master.columns.count * finite(option_prices(form, hard))[master.columns.option]).sum(axis=1)
    near = near - sigma[master.columns.owner]
    few = form.models <= SMALL
    if few:
        # A small fleet is rounded hard: what is near the best counts as well, and a larger integer master costs little.
        master.add(master.pool.pick(master.pool.values(hard), np.full(form.models, np.inf), NEAR))
        master.solve()
        hard, sigma = master.prices()
        near = master.columns.money + (master.columns.count * finite(option_prices(form, hard))[master.columns.option]).sum(axis=1)
        near = near - sigma[master.columns.owner]
    limits = Limits(nodes=nodes, relative_gap=GAP, seconds=max(0.01, master.watchdog.left()))
    short = bool((coverage(master, master.shares()) < 1.0 - 1e-6).any())
    quick: Chosen | None = None
    if not short:
        # Where all is served the few columns that the LP finds as good as its own mostly hold a whole plan that is as good.
        reaches = [None] if few else [reach * abs(priced.value) for reach in NEAREST]
        for within in reaches:
            found = _quick(master, near, limits, within)
            if found is not None and (quick is None or found.money < quick.money):
                quick = found
            if quick is not None and quick.money - priced.value <= GAP * abs(quick.money):
                return quick
    start = _dived(master, dive_steps)
    if start is None and quick is None:
        start = _empty(master)
    if quick is not None and (start is None or quick.money <= float(master.columns.money[start].sum())):
        start = quick.column
    grown = np.concatenate([near, np.full(len(master.columns) - len(near), np.inf)])
    return integer_master(master, grown, limits, start, LARGE if few else SCARCE)


def _quick(master: Master, near: Floats, limits: Limits, within: float | None) -> Chosen | None:
    """The best whole plan of columns with at most this reduced cost, if there is one."""
    try:
        return integer_master(master, near, limits, None, QUICK, within)
    except SolverError:
        return None


def _dived(master: Master, steps: int) -> Ints | None:
    """The dive's columns if whole x[slot, cell] exists for them."""
    try:
        whole = dive(master, steps, rounds=0)
        share = master.shares()
    except (InfeasibleError, SolverError):
        whole, share = False, np.zeros(0)
    if not whole:
        release(master)
        master.solve()
        return None
    chosen = np.full(master.form.models, -1)
    order = np.argsort(share, kind="stable")
    chosen[master.columns.owner[order]] = order
    fits = supplied(master, master.columns.taken(chosen)) is not None
    release(master)
    return chosen if fits else None


def _empty(master: Master) -> Ints | None:
    """Nothing served: a start that always fits, unless a model may not lose what runs."""
    chosen = np.full(master.form.models, -1)
    none = np.flatnonzero((master.columns.count == 0).all(axis=1))
    chosen[master.columns.owner[none]] = none
    return None if (chosen < 0).any() else chosen
