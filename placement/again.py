"""A fleet of which only a few models have changed, planned again around what runs and proven with the prices of the last full solve.

The Lagrangian value at any prices is a bound. Models whose part of the form is as it was keep their part of it, so only the changed ones
are enumerated anew: a bound for the whole fleet costs as much as the columns of those few. If what runs, with each changed model on the
best column that its neighbours leave room for, lies within `Memory.near` of that bound, it is the plan. If not, or if anything else has
changed (nodes, rows, options, somebody is short), the full solve follows; nothing is lost but a few milliseconds.

What is accepted is measured against the same kind of bound as a full solve's, so small steps cannot drift away from the optimum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from placement.columnform import ColumnForm, Floats, Ints
from placement.columns import Columns, Generator, joined
from placement.fleetform import FleetForm
from placement.keepers import keepers, phi_of
from placement.master import WIDTH, Pool, Store, widened

NEAR = 5e-4  # relative distance to the bound: half of what a full solve of 10,000 nodes is held to (`placement.md` targets: 0.1 %)
FEW, SHARE = 20, 10  # at most so many models, or one of so many, may have changed
TRIED = 6  # columns of the changed model, the best first
PER_MODEL = frozenset(
    {
        "rank", "load", "minimum", "maximum", "weight", "missing", "disrupt", "disrupt_one", "base", "cost_cap", "min_vendors",
        "vendor_share", "zone_share", "floors", "move", "surplus", "least_phi", "least_count",
    }
)  # fmt: skip
PER_OPTION = frozenset({"rate", "cost", "start", "stop", "running", "devices", "vendor", "zone", "slot", "tokens"})


@dataclass(frozen=True, slots=True)
class Memory:
    """What a full solve leaves: the form, prices of its hard rows, and the least value of each model's columns at these prices."""

    names: tuple[tuple[str, ...], tuple[str, ...]]  # of the models and of the options of the form
    fleet: FleetForm
    hard: Floats  # [H]
    least: Floats  # [M]
    gap: float = 0.0  # relative distance of that solve's own plan to this bound

    @property
    def near(self) -> float:
        """Relative distance to the bound that is accepted: where the full solve itself came less near, a little more than it."""
        return max(NEAR, self.gap + NEAR / 5)


@dataclass(frozen=True, slots=True)
class Again:
    """Choices around what runs, to be tried in this order, with the bound that they are held to."""

    choices: tuple[Columns, ...]  # each: one column per model that is served at all
    money: tuple[float, ...]
    bound: float
    memory: Memory
    changed: tuple[int, ...]  # the problem's models that may change; the others stay as they are


def attempt(fleet: FleetForm, names: tuple[tuple[str, ...], tuple[str, ...]], memory: object) -> Again | None:
    """None if the full solve is needed."""
    if not isinstance(memory, Memory) or memory.names != names or memory.fleet.row_names != fleet.row_names:
        return None
    form = fleet.form
    generator = Generator(form)
    changed = _changed(memory.fleet.form, form, _useful(generator))
    if changed is None or len(changed) > max(FEW, form.models // SHARE):
        return None
    if memory.fleet.option != fleet.option or memory.fleet.zone != fleet.zone:
        return None
    still = _standing(generator, changed)
    if still is None:
        return None
    pool = Pool(form, generator)
    for made in generator.make(changed):
        pool.add(made)
    pool.add(keepers(generator, changed))
    least, values = pool.least(memory.hard)
    all_least = memory.least.copy()
    all_least[changed] = least[changed]
    if not np.isfinite(all_least).all():
        return None
    bound = float(all_least.sum() - memory.hard @ form.hard)
    kept = Memory(names, fleet, memory.hard, all_least, memory.gap)
    asked = _asked(memory.fleet.form, form)
    found = [(c, float(c.money.sum())) for c in islice(_choices(pool, values, still, changed, asked), TRIED + 1)]
    good = [(c, money) for c, money in found if money - bound <= memory.near * abs(money)]
    if not good:
        return None
    moving = tuple(fleet.models[m] for m in changed)
    return Again(tuple(c for c, _ in good), tuple(m for _, m in good), bound, kept, moving)


def remembered(
    fleet: FleetForm, names: tuple[tuple[str, ...], tuple[str, ...]], hard: Floats, least: Floats, money: float
) -> Memory | None:
    """What to keep of a full solve that came to `money`; None if the prices give no bound."""
    if not np.isfinite(least).all():
        return None
    bound = float(least.sum() - hard @ fleet.form.hard)
    return Memory(names, fleet, hard, least, max(0.0, (money - bound) / max(1e-9, abs(money))))


def _useful(generator: Generator) -> Ints:
    """[O] more replicas of an option than this are in no column: each covers what it can alone, holds the floors alone, is the minimum."""
    form = generator.form
    alone = np.ceil(np.where(np.isfinite(generator.ratio), generator.ratio, 0.0).sum(axis=1)).astype(np.int64)
    floors = generator.for_floors(np.arange(form.options), form.model)
    return np.asarray(np.maximum.reduce([alone, form.minimum[form.model], floors, form.running]) + 2)


def _changed(old: ColumnForm, new: ColumnForm, useful: Ints) -> Ints | None:
    """Models whose part of the form differs; None if what all share does."""
    if old.models != new.models or not np.array_equal(old.model, new.model):
        return None
    mask = np.zeros(new.models, np.bool_)
    for f in fields(ColumnForm):
        a, b = getattr(old, f.name), getattr(new, f.name)
        if f.name in ("block", "family"):
            continue
        if f.name == "upper":
            # How many would fit at most moves with every node; it matters to those who could want as many.
            mask[new.model[np.minimum(a, useful) != np.minimum(b, useful)]] = True
            continue
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape:
            if f.name in PER_MODEL:
                mask |= _rows_differ(a, b)
            elif f.name in PER_OPTION:
                mask[new.model[_rows_differ(a, b)]] = True
            elif f.name != "hard" and not np.array_equal(a, b):
                return None
        elif a is not b and (isinstance(a, np.ndarray) or isinstance(b, np.ndarray) or a != b):
            return None
    for g in fields(type(new.block)):
        a, b = getattr(old.block, g.name), getattr(new.block, g.name)
        if a.shape != b.shape or not np.array_equal(a, b):
            return None
    return np.flatnonzero(mask)


def _rows_differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    different = a != b
    return np.asarray(different.any(axis=1) if different.ndim > 1 else different)


def _standing(generator: Generator, changed: Ints) -> Columns | None:
    """What runs of the models that have not changed, one column each; None if one of them is short or breaks a rule."""
    form = generator.form
    same = np.setdiff1d(np.arange(form.models), changed)
    if (generator.running[same] < form.minimum[same]).any() or ((form.load[same].sum(axis=1) > 0) & (generator.running[same] == 0)).any():
        return None
    runs = np.flatnonzero(form.running > 0)
    runs = runs[np.isin(form.model[runs], same)]
    if not len(runs):
        return _none()
    owner = form.model[runs]
    begin = np.flatnonzero(np.concatenate([[True], np.diff(owner) > 0]))
    at = np.arange(len(runs)) - np.repeat(begin, np.diff(np.append(begin, len(runs))))
    width = int(at.max()) + 1
    owners = owner[begin]
    line = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(runs))))
    option, count = np.zeros((len(begin), width), np.int32), np.zeros((len(begin), width), np.int32)
    option[line, at], count[line, at] = runs, form.running[runs]
    phi = phi_of(generator, owners, option, count)
    if ((form.load[owners].sum(axis=1) > 0) & (phi < 1.0 - 1e-6)).any():
        return None
    made = generator.priced(owners, option, count, phi)
    return widened(made) if len(made) == len(owners) and width <= WIDTH else None


def _none() -> Columns:
    return Columns(np.zeros(0, np.int64), np.zeros((0, WIDTH), np.int32), np.zeros((0, WIDTH), np.int32), np.zeros(0), np.zeros(0))


def _asked(old: ColumnForm, new: ColumnForm) -> NDArray[np.bool_]:
    """[M] models of which something else is asked than before. The others have changed because the last plan has come true."""
    mask = np.zeros(new.models, np.bool_)
    for name in ("load", "minimum", "maximum", "floors", "cost_cap", "min_vendors", "vendor_share", "zone_share"):
        a, b = getattr(old, name), getattr(new, name)
        if a is not None and b is not None:
            mask |= _rows_differ(a, b)
    mask[new.model[_rows_differ(old.rate, new.rate) | _rows_differ(old.cost, new.cost)]] = True
    return mask


def _choices(pool: Pool, values: list[Floats], still: Columns, changed: Ints, asked: NDArray[np.bool_]) -> Iterator[Columns]:
    """What stands with the changed models on good columns: first those of which nothing new is asked stay and the others are on their
    best; then all on their best; then, where just one does not stay, its next best ones.

    Columns that serve less than everything are no choice: who is short is a matter of the whole fleet.
    """
    best: list[list[tuple[float, float, int, int]]] = []
    stays: list[tuple[int, int] | None] = []
    for m in changed:
        mine = [
            (float(v), float(store.columns.money[i]), s, int(i))
            for s, (store, value) in enumerate(zip(pool.stores, values, strict=True))
            for i, v in _lowest(pool, store, value, int(m))
        ]
        if not mine:
            return
        best.append(sorted(mine)[:TRIED])
        stays.append(None if asked[m] else _stay(pool, int(m)))
    lowest = [ranked[0][2:] for ranked in best]
    open_ones = [k for k, stay in enumerate(stays) if stay is None]
    picks = [[stay or lowest[k] for k, stay in enumerate(stays)], lowest]
    if len(open_ones) == 1:
        k = open_ones[0]
        picks += [[*picks[0][:k], other[2:], *picks[0][k + 1 :]] for other in best[k][1:]]
    elif len(changed) == 1:
        picks += [[other[2:]] for other in best[0][1:]]
    seen: set[tuple[tuple[int, int], ...]] = set()
    for pick in picks:
        if tuple(pick) not in seen:
            seen.add(tuple(pick))
            yield joined([still, *(widened(pool.stores[s].columns.taken(np.array([i]))) for s, i in pick)])


def _stay(pool: Pool, model: int) -> tuple[int, int] | None:
    """(store, column) of exactly what the model runs, if that serves all it asks."""
    form = pool.form
    low, high = int(form.first[model]), int(form.first[model + 1])
    now = {o: int(form.running[o]) for o in range(low, high) if form.running[o]}
    for s, store in enumerate(pool.stores):
        for i in _full(pool, store, model).tolist():
            columns = store.columns
            mine = {int(o): int(n) for o, n in zip(columns.option[i], columns.count[i], strict=True) if n}
            if mine == now:
                return s, i
    return None


def _full(pool: Pool, store: Store, model: int) -> Ints:
    """Indexes of the model's columns that serve all it asks."""
    columns, form = store.columns, pool.form
    low, high = np.searchsorted(columns.owner, model), np.searchsorted(columns.owner, model, side="right")
    counts_only = bool(pool.generator.counts_only[model])
    full = (counts_only | (columns.phi[low:high] >= 1.0 - 1e-9)) & (columns.count[low:high].sum(axis=1) >= form.minimum[model])
    return np.asarray(low + np.flatnonzero(full))


def _lowest(pool: Pool, store: Store, value: Floats, model: int) -> list[tuple[int, float]]:
    """The lowest values of the model's columns that serve all it asks, as (index, value)."""
    at = _full(pool, store, model)
    order = at[np.argsort(value[at], kind="stable")][:TRIED]
    return [(int(i), float(value[i])) for i in order]
