"""The master problem: one column per model, hard rows shared; column generation until prices and bound agree.

Rows of the LP: slots (use of requests <= supply by cells), hard rows (bins, limits, quotas, budgets), one convexity row per model. The
columns are enumerated once (`columns`) and priced all at once against the LP's duals; only those that could lower the value enter the LP.
Smoothing as usual: new prices = 0.6 of the best so far + 0.4 of the LP's, so that the bound does not jump about.

Lagrangian value at prices p >= 0 of the hard rows: L = sum over models of min over columns (money + prices * use) - p * right-hand side.
With the minimum over the enumerated columns it is the *pool bound*: it says nothing about plans made of other columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from placement._solver import Lp, LpAnswer, NoSolutionError, Watchdog
from placement.columnform import ColumnForm, Floats, Ints, changes, option_prices, served_prices
from placement.columns import Columns, Generator, joined

WIDTH = 12  # entries of a column inside the LP
SMOOTH = 0.6
ENOUGH = 2e-4
NEGATIVE = 1e-7  # relative to the objective: what counts as a negative reduced cost


@dataclass(slots=True)
class Store:
    """Enumerated columns of some models, with what is needed to reduce over owners."""

    columns: Columns
    begin: Ints = field(init=False)  # first column of each owner that has any
    owners: Ints = field(init=False)
    used: NDArray[np.bool_] = field(init=False)  # already in the LP
    serves: NDArray[np.bool_] = field(init=False)
    moves: Floats | None = None  # [J] if the form has a row for them

    def __post_init__(self) -> None:
        # Priced entry by entry, again and again: entries side by side.
        c = self.columns
        self.columns = Columns(c.owner, np.asfortranarray(c.option), np.asfortranarray(c.count), c.phi, c.money)
        owner = self.columns.owner
        self.begin = np.flatnonzero(np.concatenate([[True], np.diff(owner) > 0])) if len(owner) else np.zeros(0, np.int64)
        self.owners = owner[self.begin]
        self.used = np.zeros(len(owner), dtype=np.bool_)
        self.serves = np.asarray((self.columns.count > 0).any(axis=1))

    def value(self, prices: Floats, served: Floats | None = None, move: float = 0.0) -> Floats:
        """[J] money + prices of what each column uses - what it gains by serving."""
        columns = self.columns
        total = columns.money.copy()
        for e in range(columns.option.shape[1] if prices.any() else 0):
            total += columns.count[:, e] * prices[columns.option[:, e]]
        if served is not None:
            total -= np.where(self.serves, served[columns.owner], 0.0)
        if move and self.moves is not None:
            total += move * self.moves
        return total

    def least(self, value: Floats, models: int) -> Floats:
        result = np.full(models, np.inf)
        if len(self.begin):
            result[self.owners] = np.minimum.reduceat(value, self.begin)
        return result


@dataclass(slots=True)
class Pool:
    """All enumerated columns of a form."""

    form: ColumnForm
    generator: Generator
    stores: list[Store] = field(default_factory=list)

    @classmethod
    def of(cls, form: ColumnForm, phis: tuple[float, ...] = (1.0,)) -> Pool:
        pool = cls(form, Generator(form))
        pool.extend(np.arange(form.models), phis)
        return pool

    def extend(self, models: Ints, phis: tuple[float, ...], grid: int = 24) -> None:
        for made in self.generator.make(models, phis, grid):
            self.add(made)

    def add(self, columns: Columns) -> Store | None:
        if not len(columns):
            return None
        self.stores.append(Store(columns, moves=None if self.form.moves_row is None else moves_of(self.form, columns)))
        return self.stores[-1]

    def __len__(self) -> int:
        return sum(len(s.columns) for s in self.stores)

    def least(self, hard: Floats) -> tuple[Floats, list[Floats]]:
        """[M] the least value over a model's columns at prices of the hard rows, and the values of every store."""
        values = self.values(hard)
        return self.lowest(values), values

    def lowest(self, values: list[Floats]) -> Floats:
        """[M] the least of these values over a model's columns."""
        best = np.full(self.form.models, np.inf)
        for store, value in zip(self.stores, values, strict=True):
            np.minimum(best, store.least(value, self.form.models), out=best)
        return best

    def values(self, hard: Floats) -> list[Floats]:
        # An option without a cell has no columns; inf * 0 must not appear.
        prices, served = finite(option_prices(self.form, hard)), served_prices(self.form, hard)
        move = 0.0 if self.form.moves_row is None else float(hard[self.form.moves_row])
        return [s.value(prices, served, move) for s in self.stores]

    def pick(self, values: list[Floats], below: Floats, most: int) -> Columns:
        """For each model up to `most` unused columns per store whose value is below `below[model]`; they count as used."""
        chosen: list[Columns] = []
        for store, value in zip(self.stores, values, strict=True):
            free = np.flatnonzero((value < below[store.columns.owner]) & ~store.used)
            if not len(free):
                continue
            took = free[_least_of_each(store.columns.owner[free], value[free], most)]
            store.used[took] = True
            chosen.append(widened(store.columns.taken(took)))
        return joined(chosen) if chosen else nothing()


def _least_of_each(owner: Ints, value: Floats, most: int) -> Ints:
    """The places of up to `most` least values of each owner, by owner and value, the first place first where they are equal; `owner` is
    sorted."""
    begin = np.flatnonzero(np.concatenate([[True], np.diff(owner) > 0]))
    many = np.diff(np.append(begin, len(owner)))
    if many.max() > most:
        # Most columns are far from the least ones: only what is not above the `most`-th least of its owner is put in order.
        rest, limit = value.copy(), np.zeros(len(begin))
        for _ in range(most):
            limit = np.minimum.reduceat(rest, begin)
            rest[rest == np.repeat(limit, many)] = np.inf
        near = np.flatnonzero(value <= np.repeat(limit, many))
    else:
        near = np.arange(len(owner))
    order = near[np.lexsort((value[near], owner[near]))]
    first = np.concatenate([[True], np.diff(owner[order]) > 0])
    place = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    return np.asarray(order[place < most])


def moves_of(form: ColumnForm, columns: Columns) -> Floats:
    """[J] replicas that stop while their model starts others."""
    return np.minimum(*changes(form, columns.owner, columns.option, columns.count))


def nothing() -> Columns:
    none = np.zeros((0, WIDTH), np.int32)
    return Columns(np.zeros(0, np.int64), none, none, np.zeros(0), np.zeros(0))


def widened(columns: Columns) -> Columns:
    have = columns.option.shape[1]
    if have >= WIDTH:
        return columns
    pad = ((0, 0), (0, WIDTH - have))
    return Columns(columns.owner, np.pad(columns.option, pad), np.pad(columns.count, pad), columns.phi, columns.money)


def usage(form: ColumnForm, columns: Columns) -> tuple[Ints, Ints, Floats]:
    """Sparse use of the shared rows: (column, row, value); rows are slots first, then hard rows."""
    column, entry = np.nonzero(columns.count)
    option, count = columns.option[column, entry].astype(np.int64), columns.count[column, entry].astype(np.float64)
    rows, cols, values = [form.slot[option]], [column], [count]
    if len(form.side_row):
        length = form.side_ptr[option + 1] - form.side_ptr[option]
        at = np.repeat(form.side_ptr[option], length) + _within(length)
        rows.append(form.side_row[at] + form.slots)
        cols.append(np.repeat(column, length))
        values.append(np.repeat(count, length) * form.side_value[at])
    if form.served_row is not None:
        serving = np.flatnonzero((columns.count > 0).any(axis=1))
        rows.append(form.served_row[columns.owner[serving]] + form.slots)
        cols.append(serving)
        values.append(-np.ones(len(serving)))
    if form.moves_row is not None:
        moves = moves_of(form, columns)
        moving = np.flatnonzero(moves)
        rows.append(np.full(len(moving), form.moves_row + form.slots))
        cols.append(moving)
        values.append(moves[moving])
    total = form.slots + len(form.hard)
    key = np.concatenate(cols) * total + np.concatenate(rows)
    keys, inverse = np.unique(key, return_inverse=True)
    summed = np.bincount(inverse.reshape(-1), np.concatenate(values), minlength=len(keys)).astype(np.float64)
    return np.asarray(keys // total), np.asarray(keys % total), summed


def _within(length: Ints) -> Ints:
    ends = np.cumsum(length)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - length, length))


@dataclass(slots=True)
class Priced:
    """Where column generation ended."""

    hard: Floats  # [H] prices of the hard rows at the best bound
    options: Floats  # [O] prices of options at the last LP
    value: float  # of the LP over the enumerated columns
    bound: float  # pool bound
    share: Floats  # [columns of the LP] how much of each is taken
    rounds: int


class Master:
    """The LP and its columns. `solve` re-solves it warm; `generate` runs rounds of column generation."""

    def __init__(self, pool: Pool, watchdog: Watchdog) -> None:
        form = pool.form
        self.form, self.pool, self.watchdog = form, pool, watchdog
        lower = np.concatenate([np.full(form.slots + len(form.hard), -np.inf), np.ones(form.models)])
        upper = np.concatenate([np.zeros(form.slots), form.hard, np.ones(form.models)])
        self.lp = Lp(lower, upper)
        self._add_block()
        self.blocks = len(form.block.slot)
        self.columns = nothing()
        self.answer: LpAnswer | None = None
        self.best_bound, self.best_prices = -np.inf, np.zeros(len(form.hard))
        self.frozen = np.zeros(form.models, dtype=np.bool_)  # fixed by a dive: get no new columns

    def _add_block(self) -> None:
        """x[slot, cell] and node patterns: entries in hard rows as given, and -1 in the slot that they supply."""
        form, block = self.form, self.form.block
        n = len(block.slot)
        own = block.slot >= 0
        length = np.diff(block.ptr) + own
        ptr = np.concatenate([[0], np.cumsum(length)])
        rows, values = np.zeros(ptr[-1], np.int64), np.zeros(ptr[-1])
        rows[ptr[:-1][own]], values[ptr[:-1][own]] = block.slot[own], -1.0
        at = np.repeat(ptr[:-1] + own, np.diff(block.ptr)) + _within(np.diff(block.ptr))
        rows[at], values[at] = block.row + form.slots, block.value
        self.lp.add_columns(np.zeros(n), np.zeros(n), np.full(n, np.inf), ptr, rows, values)

    def add(self, columns: Columns) -> Ints:
        """Enters columns into the LP; returns their indexes among `self.columns`."""
        if not len(columns):
            return np.zeros(0, np.int64)
        form = self.form
        column, row, value = usage(form, columns)
        n = len(columns)
        length = np.bincount(column, minlength=n) + 1
        ptr = np.concatenate([[0], np.cumsum(length)])
        rows, values = np.zeros(ptr[-1], np.int64), np.ones(ptr[-1])
        rows[ptr[1:] - 1] = form.slots + len(form.hard) + columns.owner
        at = np.repeat(ptr[:-1], length - 1) + _within(length - 1)
        rows[at], values[at] = row, value
        self.lp.add_columns(columns.money, np.zeros(n), np.full(n, np.inf), ptr, rows, values)
        first = len(self.columns)
        self.columns = Columns(
            np.concatenate([self.columns.owner, columns.owner]),
            np.concatenate([self.columns.option, columns.option]),
            np.concatenate([self.columns.count, columns.count]),
            np.concatenate([self.columns.phi, columns.phi]),
            np.concatenate([self.columns.money, columns.money]),
        )
        return np.arange(first, first + n)

    def extend(self, models: Ints, phis: tuple[float, ...], grid: int = 24) -> None:
        """More columns for some models. The bound of the smaller pool no longer holds: it is taken anew."""
        self.pool.extend(models, phis, grid)
        self.best_bound = self.lagrangian(self.best_prices)[0]

    def solve(self) -> LpAnswer:
        left = self.watchdog.left()
        answer = self.lp.solve(seconds=left)
        if not answer.optimal:
            raise NoSolutionError("the master LP ended at a limit")
        self.answer = answer
        return answer

    def shares(self) -> Floats:
        assert self.answer is not None  # callers solve first
        return self.answer.x[self.blocks :]

    def prices(self) -> tuple[Floats, Floats]:
        """(hard rows [H], convexity rows [M]) at the last LP."""
        assert self.answer is not None
        form = self.form
        dual = self.answer.row_dual
        return np.maximum(0.0, -dual[form.slots : form.slots + len(form.hard)]), dual[form.slots + len(form.hard) :]

    def lagrangian(self, hard: Floats) -> tuple[float, Floats, list[Floats]]:
        """Pool bound at these prices, the least value per model, and the values of all columns."""
        least, values = self.pool.least(hard)
        return self.bound(hard, least), least, values

    def bound(self, hard: Floats, least: Floats) -> float:
        return float(least.sum() - hard @ self.form.hard)

    def start(self, hard: Floats | None = None) -> None:
        """The empty column of every model and its best ones at the given prices (default: none)."""
        for store in self.pool.stores:
            empty = np.flatnonzero((store.columns.count == 0).all(axis=1) & ~store.used)
            store.used[empty] = True
            self.add(widened(store.columns.taken(empty)))
        hard = np.zeros(len(self.form.hard)) if hard is None else hard
        bound, _, values = self.lagrangian(hard)
        if bound > self.best_bound:
            self.best_bound, self.best_prices = bound, hard
        self.add(self.pool.pick(values, np.full(self.form.models, np.inf), 3))

    def generate(self, rounds: int) -> Priced:
        """Column generation until the LP and the pool bound agree within 2e-4 or the rounds are used."""
        answer = self.solve()
        done = 0
        while done < rounds:
            done += 1
            hard, sigma = self.prices()
            tolerance = NEGATIVE * max(1.0, abs(answer.objective)) / max(1, self.form.models)
            smooth = SMOOTH * self.best_prices + (1.0 - SMOOTH) * hard
            fresh = 0
            at_lp = self.pool.values(hard)
            for prices, most in ((smooth, 3), (hard, 1)):
                values = at_lp if prices is hard else self.pool.values(prices)
                bound = self.bound(prices, self.pool.lowest(values))
                if bound > self.best_bound:
                    self.best_bound, self.best_prices = bound, prices
                # What is negative at the LP's own duals lowers its value, whatever prices chose it.
                below = np.where(self.frozen, -np.inf, sigma - tolerance)
                if prices is smooth:
                    values = [
                        np.where(own < below[s.columns.owner], v, np.inf) for s, own, v in zip(self.pool.stores, at_lp, values, strict=True)
                    ]
                    below = np.where(self.frozen, -np.inf, np.inf)
                picked = self.pool.pick(values, below, most)
                fresh += len(picked)
                self.add(picked)
                if answer.objective - self.best_bound <= ENOUGH * abs(answer.objective):
                    break
            if fresh:
                answer = self.solve()
            if not fresh or answer.objective - self.best_bound <= ENOUGH * abs(answer.objective):
                break
        hard, _ = self.prices()
        return Priced(self.best_prices, finite(option_prices(self.form, hard)), answer.objective, self.best_bound, self.shares(), done)


def finite(prices: Floats) -> Floats:
    return np.where(np.isfinite(prices), prices, 0.0)
