"""From the master's LP to whole columns: a dive, then the integer master over the columns that are left.

The LP leaves only few models fractional, no more than rows bind. The dive fixes an eighth of them at a time, highest rank and nearest to
whole first, and prices new columns in between. The integer master then chooses among each model's columns of small reduced cost, with whole
x[slot, cell] (a fraction of a request fits no node). The empty column of each model is always among them, so
there is always a solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from placement._solver import Limits, MipAnswer, SolverError, mip
from placement.columnform import Floats, Ints
from placement.columns import Columns
from placement.master import Master, usage

WHOLE = 1e-6
BINARIES = 4000  # of the integer master; above it HiGHS needs seconds for what the dive has almost reached


@dataclass(frozen=True, slots=True)
class Chosen:
    """One column per model, by index into `master.columns`."""

    column: Ints  # [M]
    money: float
    proven: bool
    source: str


def dive(master: Master, steps: int, rounds: int = 2) -> bool:
    """Fixes models until the LP is whole in the columns; False if the steps did not suffice. Leaves the LP fixed: see `release`."""
    form = master.form
    for _ in range(steps):
        share = master.shares()
        owner = master.columns.owner
        largest = np.zeros(form.models)
        np.maximum.at(largest, owner, share)
        open_models = np.flatnonzero((largest < 1.0 - WHOLE) & ~master.frozen)
        if not len(open_models):
            return True
        order = np.lexsort((open_models, -largest[open_models], form.rank[open_models]))
        now = open_models[order[: -(-len(open_models) // 8)]]
        _fix(master, now, share)
        master.solve()
        for _ in range(rounds):
            if not _more(master):
                break
    return False


def _fix(master: Master, models: Ints, share: Floats) -> None:
    owner = master.columns.owner
    chosen = np.full(master.form.models, -1)
    wanted = np.flatnonzero(np.isin(owner, models))
    order = wanted[np.lexsort((wanted, share[wanted]))]
    chosen[owner[order]] = order  # the last one written is the largest share
    keep = chosen[models]
    others = np.setdiff1d(wanted, keep)
    master.lp.set_bounds(others + master.blocks, np.zeros(len(others)), np.zeros(len(others)))
    master.frozen[models] = True


def _more(master: Master) -> bool:
    """Up to two new columns per open model at the LP's prices; True if the LP changed."""
    hard, sigma = master.prices()
    _, _, values = master.lagrangian(hard)
    tolerance = 1e-7 * max(1.0, abs(sigma).max(initial=1.0))
    below = np.where(master.frozen, -np.inf, sigma - tolerance)
    picked = master.pool.pick(values, below, 2)
    if not len(picked):
        return False
    master.add(picked)
    master.solve()
    return True


def release(master: Master) -> None:
    """Undoes the dive's fixing."""
    owner = master.columns.owner
    closed = np.flatnonzero(master.frozen[owner])
    master.lp.set_bounds(closed + master.blocks, np.zeros(len(closed)), np.full(len(closed), np.inf))
    master.frozen[:] = False


def integer_master(
    master: Master, near: Floats, limits: Limits, start: Ints | None, binaries: int = BINARIES, within: float | None = None
) -> Chosen:
    """The best choice among the columns whose reduced cost is small. `near` = reduced cost per LP column (at the LP before the dive).

    `start` = one column per model: what the answer must beat. It must be feasible with whole x[slot, cell]; SolverError if the solver gives
    nothing and there is no start. `within`: only columns up to this reduced cost, however many they are, and empty ones only where the LP
    takes them.
    """
    form = master.form
    empty = (master.columns.count == 0).all(axis=1)
    keep = empty.copy() if within is None else (near <= within) & ~empty
    keep[np.flatnonzero(master.shares() > WHOLE)] = True
    if start is not None:
        keep[start] = True
    room = binaries - int(keep.sum()) if within is None else 0
    if room > 0:
        rest = np.flatnonzero(~keep)
        keep[rest[np.argsort(near[rest], kind="stable")[:room]]] = True
    columns = np.flatnonzero(keep)
    begun = None if start is None else float(master.columns.money[start].sum())
    try:
        answer = _solve(master, columns, limits)
    except SolverError:
        if start is None or begun is None:
            raise
        return Chosen(start, begun, False, "dive")
    taken = columns[np.flatnonzero(answer.x[master.blocks :] > 0.5)]
    chosen = np.full(form.models, -1)
    chosen[master.columns.owner[taken]] = taken
    if (chosen < 0).any():
        raise SolverError("the integer master left a model without a column")
    money = float(master.columns.money[chosen].sum())
    if start is not None and begun is not None and begun <= money:
        return Chosen(start, begun, False, "dive")
    return Chosen(chosen, money, answer.proven, "integer master")


def _solve(master: Master, columns: Ints, limits: Limits) -> MipAnswer:
    form = master.form
    picked = master.columns.taken(columns)
    column, row, value = usage(form, picked)
    owner_rows = form.slots + len(form.hard)
    block = form.block
    supply = np.flatnonzero(block.slot >= 0)
    entry = np.repeat(np.arange(master.blocks), np.diff(block.ptr))
    rows = np.concatenate([row, owner_rows + picked.owner, block.slot[supply], block.row + form.slots])
    cols = np.concatenate([column + master.blocks, np.arange(len(columns)) + master.blocks, supply, entry])
    values = np.concatenate([value, np.ones(len(columns)), -np.ones(len(supply)), block.value])
    order = np.lexsort((cols, rows))
    total = owner_rows + form.models
    ptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=total))])
    lower = np.concatenate([np.full(owner_rows, -np.inf), np.ones(form.models)])
    upper = np.concatenate([np.zeros(form.slots), form.hard, np.ones(form.models)])
    n = master.blocks + len(columns)
    cost = np.concatenate([np.zeros(master.blocks), picked.money])
    top = np.concatenate([np.full(master.blocks, np.inf), np.ones(len(columns))])
    # No start is handed to the solver: HiGHS 1.16.0 with presolve and a start called a plan of 39,743 optimal with "objective 0"
    # (services15; the optimum 35,386.5 is found at once without it). The caller compares instead.
    return mip(cost, np.zeros(n), top, np.ones(n, dtype=np.bool_), lower, upper, ptr, cols[order], values[order], limits=limits)


def supplied(master: Master, columns: Columns) -> Floats | None:
    """[blocks] whole x[slot, cell] and node patterns that carry these columns, or None if there are none."""
    form, block = master.form, master.form.block
    _, row, value = usage(form, columns)
    need = np.bincount(row, value, minlength=form.slots + len(form.hard))
    side = need[form.slots :]
    if (side > form.hard + 1e-9 * np.maximum(1.0, np.abs(form.hard))).any():
        return None
    supply = np.flatnonzero(block.slot >= 0)
    entry = np.repeat(np.arange(master.blocks), np.diff(block.ptr))
    rows = np.concatenate([block.slot[supply], block.row + form.slots])
    cols = np.concatenate([supply, entry])
    values = np.concatenate([-np.ones(len(supply)), block.value])
    order = np.lexsort((cols, rows))
    total = form.slots + len(form.hard)
    ptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=total))])
    upper = np.concatenate([-need[: form.slots], form.hard - side])
    n = master.blocks
    try:
        answer = mip(
            np.zeros(n), np.zeros(n), np.full(n, np.inf), np.ones(n, dtype=np.bool_), np.full(total, -np.inf), upper,
            ptr, cols[order], values[order], limits=Limits(nodes=200, seconds=max(0.01, master.watchdog.left())),
        )  # fmt: skip
    except SolverError:
        return None
    return answer.x
