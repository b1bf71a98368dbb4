"""The column engine's input as arrays: models, options, slots, hard rows. It knows no node, no name and no Kubernetes object.

Two callers fill it: `fleetform` from a fleet's Problem, `allot` from services that share a stock per device type. Symbols follow the usual
Dantzig-Wolfe notation: a *column* is one complete choice for one model (integer counts over its options), the master picks one column per
model, and hard rows (bins of nodes, limits, quotas, budgets) tie the models together.

A *slot* is a kind of request: a size on one device type, in the cells that its options may use. The variables x[slot, cell] say how many
requests of a slot a cell takes; the hard rows of the cell bound them. So the number of nodes does not appear anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Columns of the master that are no models' columns: x[slot, cell] and node patterns, with their entries in the hard rows.

    `ptr` (columns + 1), `row`, `value`: sparse columns over the hard rows. `slot[c]` is the slot of which the column supplies one
    request, or -1 for a node pattern. A column has cost 0 and no upper bound (its bound's dual would have to enter the Lagrangian value).
    """

    ptr: Ints
    row: Ints
    value: Floats
    slot: Ints


@dataclass(frozen=True, slots=True)
class ColumnForm:
    """Shapes: M models, B buckets, O options (sorted by model), S slots, H hard rows. Money in units per hour."""

    first: Ints  # [M + 1] options of model m are first[m] : first[m + 1]
    rank: Ints  # [M] 0 = highest
    load: Floats  # [M, B] work/s; a model of counts only has 0 everywhere
    minimum: Ints  # [M] replicas wanted at least, beyond fixed ones
    maximum: Ints  # [M] replicas allowed, beyond fixed ones
    weight: Floats  # [M] money per unmet share of the work: price * (u1 + 3 u2)
    missing: Floats  # [M] money per replica missing below the minimum
    disrupt: Floats  # [M] money per share of running coverage that is lost
    disrupt_one: Floats  # [M] money per running replica that is lost below the minimum
    base: Floats  # [M] money that every column costs (stops of options that cannot be chosen)
    cost_cap: Floats  # [M] most money per hour, inf = none
    min_vendors: Ints  # [M]
    vendor_share: Floats  # [M] largest share of replicas on one vendor, 1 = no rule
    zone_share: Floats  # [M] largest share of replicas in one zone, 1 = not zone-bound
    whole: bool  # a model is served fully or not at all (columns of full coverage and the empty one)
    # options
    model: Ints  # [O]
    rate: Floats  # [O, B] work/s of one replica
    cost: Floats  # [O]
    start: Floats  # [O] money per replica beyond what runs
    stop: Floats  # [O] money per running replica that stops
    running: Ints  # [O] replicas that run and may stop
    upper: Ints  # [O] most replicas that could ever fit
    devices: Ints  # [O]
    vendor: Ints  # [O]
    zone: Ints  # [O] zone of a zone-bound model's option, -1 = anywhere
    family: Ints  # [O] options of one family differ in their zone only
    slot: Ints  # [O]
    # rows
    slots: int
    block: Block
    hard: Floats  # [H] right-hand sides of rows <=
    side_ptr: Ints  # [O + 1] entries of one replica of an option in hard rows directly (quotas, budgets)
    side_row: Ints
    side_value: Floats
    served_row: Ints | None = None  # [M] hard row in which every column but the empty one counts -1 ("at least so many are served")
    floors: Floats | None = None  # [M, F] tokens of KV cache that all replicas hold together at full coverage; 0 = none asked
    tokens: Floats | None = None  # [O, F] tokens of one replica
    move: Floats | None = None  # [M] money per running replica that stops beyond the surplus
    surplus: Ints | None = None  # [M] running replicas that may stop at no price
    moves_row: int | None = None  # hard row in which a column counts its moves (stops that are also starts)
    least_phi: Floats | None = None  # [M] share that a model must not fall below, for nobody
    least_count: Ints | None = None  # [M] replicas, likewise

    @property
    def models(self) -> int:
        return len(self.rank)

    @property
    def options(self) -> int:
        return len(self.model)

    @property
    def buckets(self) -> int:
        return int(self.load.shape[1])

    def ratios(self) -> Floats:
        """[O, B] replicas of an option that one bucket alone fills; inf where it cannot serve it; 0 where there is no load.

        A model of counts only gets its minimum in the first bucket, so that every mix of its options that reaches it is a column.
        """
        load = self.load.copy()
        counts = load.sum(axis=1) <= 0
        load[counts, 0] = self.minimum[counts]
        rate = self.rate.copy()
        rate[counts[self.model]] = 1.0
        want = load[self.model]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(want > 0, np.where(rate > 0, want / np.where(rate > 0, rate, 1.0), np.inf), 0.0)

    def counts_only(self) -> NDArray[np.bool_]:
        """[M] models whose demand is a number of replicas."""
        return np.asarray(self.load.sum(axis=1) <= 0)


def slot_prices(form: ColumnForm, hard: Floats) -> Floats:
    """[S] the price of one request per slot: the cheapest cell's. inf for a slot that no cell offers (it has no columns).

    With these the prices are dual feasible for every x[slot, cell] whatever `hard` >= 0 is, so that the Lagrangian value is a bound.
    """
    block = form.block
    each = np.add.reduceat(np.append(block.value * hard[block.row], 0.0), block.ptr[:-1]) if len(block.slot) else np.zeros(0)
    each = np.where(block.ptr[1:] > block.ptr[:-1], each, 0.0)
    prices = np.full(form.slots, np.inf)
    own = block.slot >= 0
    np.minimum.at(prices, block.slot[own], each[own])
    return np.asarray(np.maximum(prices, 0.0))


def served_prices(form: ColumnForm, hard: Floats) -> Floats | None:
    """[M] what a column that serves anything gains by the rows that count served models; None without such rows."""
    return None if form.served_row is None else hard[form.served_row]


def option_prices(form: ColumnForm, hard: Floats) -> Floats:
    """[O] the price of the shared rows that one replica of an option uses."""
    prices = slot_prices(form, hard)[form.slot]
    if len(form.side_row):
        owner = np.repeat(np.arange(form.options), np.diff(form.side_ptr))
        prices = prices + np.bincount(owner, form.side_value * hard[form.side_row], minlength=form.options)
    return prices


def changes(form: ColumnForm, owner: Ints, option: NDArray[np.int32], count: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """([J] starts, [J] stops) of columns against what runs."""
    running = np.bincount(form.model, form.running, minlength=form.models)[owner]
    run = np.where(count > 0, form.running[option], 0)
    starts = np.maximum(count - run, 0).sum(axis=1).astype(np.float64)
    stops = running - np.minimum(run, count).sum(axis=1)
    return starts, stops
