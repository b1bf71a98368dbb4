"""From a snapshot to integers: what may start where, what may stop, and which devices that gives.

Everything that decides "may this start here" and "what does a node have free" is decided once, here, so that the solver's model, the
greedy placer, the node choice and the explanations cannot disagree. `check` does not use this module: it recounts from the snapshot
alone.

Nothing starts and nothing stops where stock is unknown, nor for a model on hold. What a node has to give is read in `nodes`.

Split deployments are folded: `options` and `demand` here have no roles but twice the buckets (`share`), `snapshot` and `asked` are as they
came. A bucket that no option of its model can serve has load 0 here: it is reported (`SloUnreachable`), never priced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from placement.nodes import Bin, Group, most_blocks, read_nodes
from placement.shapes import blocks_of, legal, request
from placement.share import Kind
from placement.snapshot import ROLES, Split
from placement.types import Cell, Model, ModelDemand, Option, Reason, Snapshot, Stock
from placement.wants import Want as Want
from placement.wants import unmet_price as unmet_price
from placement.wants import want_of

# Weights of the tie-breaks, in units of the snapshot's median price of a device-hour. They order plans of equal money and are far below
# what money can decide (prices are stated to the cent): a device that costs nothing is still not wasted, a stop is never free.
EPS_DEVICE = 2e-5
EPS_STOP = 5e-4
EPS_DOMAIN = 1e-4


@dataclass(frozen=True, slots=True)
class Way:
    """One way to start a replica: an option in a cell."""

    index: int
    option: int
    model: int
    cell: int
    size: int
    cost: float
    work: float
    vendor: str
    domain: str


@dataclass(slots=True)
class Problem:
    snapshot: Snapshot
    cells: tuple[Cell, ...]
    models: tuple[Model, ...]
    options: tuple[Option, ...]  # folded: see above; same order as in the snapshot
    demand: tuple[ModelDemand, ...]  # folded
    rank: tuple[int, ...]  # 0 = highest priority
    ways: list[Way] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    bins: list[Bin] = field(default_factory=list)
    wants: list[Want] = field(default_factory=list)
    unit: float = 1.0
    options_of: list[list[int]] = field(default_factory=list)  # per model, indexes
    groups_of: list[list[int]] = field(default_factory=list)
    bins_of: list[list[int]] = field(default_factory=list)  # per cell
    asked: tuple[ModelDemand, ...] = ()  # as it came: one entry per model and role
    option_index: dict[str, int] = field(default_factory=dict)
    kinds: dict[int, Kind] = field(default_factory=dict)  # per option, without its network
    model_of: list[int] = field(default_factory=list)  # per option
    worths: dict[int, tuple[object, Any]] = field(default_factory=dict)  # per model: what its last counts were worth (`value`)

    @property
    def ways_of(self) -> list[list[int]]:
        """Per model, indexes of its ways; `ways` may still grow (the column engine adds those that it uses)."""
        found: list[list[int]] = [[] for _ in self.models]
        for w in self.ways:
            found[w.model].append(w.index)
        return found

    def stop_price(self, group: Group) -> float:
        """What a stop must earn: the configured share of the replica's own cost."""
        return group.cost * self.snapshot.policy.min_saving_percent / 100.0

    def kind(self, option: int, cell: int | None) -> Kind:
        """What one replica of an option in a cell gives to its model's demand (`Want.needs`)."""
        rates, tokens, _ = self.kinds[option]
        model = self.snapshot.models[self.model_of[option]]
        network = self.cells[cell].network_domain if model.same_network and cell is not None else ""
        return rates, tokens, network

    def kind_of(self, group: Group) -> Kind | None:
        """The same for running replicas; None: their option is gone, so they carry nothing that is known."""
        option = self.option_index.get(group.option or "")
        return None if option is None or self.model_of[option] != group.model else self.kind(option, group.cell)


def pool_allowed(option: Option, cell: Cell) -> bool:
    return (not option.pools or cell.pool in option.pools) and cell.pool not in option.excluded_pools


def refusal(option: Option, model: Model, cell: Cell, needs_work: bool) -> Reason | None:
    """Why this option may never start in this cell, or None. Node space is not looked at here."""
    if not option.eligible or (needs_work and not any(option.bucket_work or (option.work_per_s or 0.0,))):
        return Reason.NO_OPTION
    if not legal(cell, option.devices, option.span):
        return Reason.NEVER_FITS
    if not pool_allowed(option, cell):
        return Reason.POOL_RESTRICTED
    if cell.shared and not model.shared_ok:
        return Reason.SHARED_DEVICES
    if not cell.schedulable:
        return Reason.POOL_CORDONED
    if cell.stock is Stock.UNKNOWN:
        return Reason.INVENTORY_UNKNOWN
    return None


def build(snapshot: Snapshot, demand: Sequence[ModelDemand], *, with_ways: bool = True) -> Problem:
    """`snapshot` normalised and validated; `demand` one entry per model in the same order. Linear in the size of the fleet.

    Without ways the list stays empty: the column engine works on options and cells and adds only the ways that its plan uses.
    """
    ranks = {p: i for i, p in enumerate(sorted({m.priority for m in snapshot.models}, reverse=True))}
    prices = [c.cost_per_device_hour for c in snapshot.cells if c.cost_per_device_hour > 0]
    by_model = {m.name: i for i, m in enumerate(snapshot.models)}
    problem = Problem(
        snapshot=snapshot,
        cells=snapshot.cells,
        models=snapshot.models,
        options=tuple(_folded(o, demand[by_model[o.model]]) for o in snapshot.options),
        demand=tuple(demand),
        rank=tuple(ranks[m.priority] for m in snapshot.models),
        unit=median(prices) if prices else 1.0,
        asked=tuple(part for d in demand for part in (d.parts if isinstance(d, Split) else (d,))),
        option_index={o.id: i for i, o in enumerate(snapshot.options)},
        model_of=[by_model[o.model] for o in snapshot.options],
    )
    problem.groups, problem.bins = read_nodes(snapshot)
    problem.options_of = [[] for _ in problem.models]
    for o, m in enumerate(problem.model_of):
        problem.options_of[m].append(o)
    problem.groups_of = [[] for _ in problem.models]
    for g in problem.groups:
        problem.groups_of[g.model].append(g.index)
    problem.bins_of = [[] for _ in problem.cells]
    for i, b in enumerate(problem.bins):
        problem.bins_of[b.cell].append(i)
    reached = [_reached(problem, m) for m in range(len(problem.models))]
    problem.demand = tuple(d for d, _ in reached)
    if with_ways:
        _ways(problem)
    startable = {w.model for w in problem.ways} if with_ways else None
    problem.wants = [want_of(problem, i, startable is None or i in startable, reached[i][1]) for i in range(len(problem.models))]
    return problem


def _folded(option: Option, asked: ModelDemand) -> Option:
    """An option of a role serves the buckets of its role and none of the other."""
    if not isinstance(asked, Split) or not option.role:
        return option
    half = len(asked.bucket_work) // 2
    none = (0.0,) * half
    own = option.rates(half)
    return replace(option, role="", bucket_work=own + none if option.role == ROLES[0] else none + own)


def _reached(problem: Problem, m: int) -> tuple[ModelDemand, tuple[int, ...]]:
    """The demand without the buckets that no option serves, and these. Where none is served at all, nothing is left out."""
    asked, loads = problem.demand[m], problem.demand[m].loads
    if len(loads) < 2:
        return asked, ()
    running = {problem.groups[g].option for g in problem.groups_of[m]}
    rates = [o.rates(len(loads)) for i in problem.options_of[m] if (o := problem.options[i]).eligible or o.id in running]
    dead = {b for b, load in enumerate(loads) if load > 0 and not any(r[b] > 0 for r in rates)}
    if isinstance(asked, Split):  # a length that one role cannot serve is of no use to the other
        half = len(loads) // 2
        dead |= {(b + half) % len(loads) for b in dead}
    alive = any(x > 0 and b not in dead for b, x in enumerate(loads))
    if not dead or not alive:
        return asked, ()
    left = tuple(0.0 if b in dead else x for b, x in enumerate(loads))
    return replace(asked, work_per_s=sum(left), bucket_work=left), tuple(sorted(dead))


def _ways(problem: Problem) -> None:
    reach: dict[int, int] = {}
    single: dict[int, bool] = {}
    whole: dict[int, int] = {}  # nodes that a replica over several could have
    for b in problem.bins:
        most, full = most_blocks(problem.cells[b.cell], b, problem.groups), problem.cells[b.cell].per_node or 0
        reach[b.cell] = max(reach.get(b.cell, 0), most)
        whole[b.cell] = whole.get(b.cell, 0) + (b.whole(full) and most >= blocks_of(problem.cells[b.cell], full))
        single[b.cell] = single.get(b.cell, False) or b.free > 0 or bool(b.gains)
    cells_of = cells_by_profile(problem)
    for o, option in enumerate(problem.options):
        m = problem.model_of[o]
        model = problem.models[m]
        if model.hold or model.max_replicas == 0:
            continue
        for c in cells_of.get(option.profile, []):
            cell = problem.cells[c]
            if refusal(option, model, cell, sum(problem.demand[m].loads) > 0) is not None:
                continue
            blocks = blocks_of(cell, request(option))
            if blocks > reach.get(c, 0) or (blocks == 0 and not single.get(c, False)):
                continue
            if option.span > 1 and whole.get(c, 0) < option.span:
                continue
            problem.ways.append(way(problem, o, c, len(problem.ways)))


def cells_by_profile(problem: Problem) -> dict[str, list[int]]:
    """Indexes of cells, ascending."""
    found: dict[str, list[int]] = {}
    for c, cell in enumerate(problem.cells):
        found.setdefault(cell.profile, []).append(c)
    return found


def way(problem: Problem, option: int, cell: int, index: int) -> Way:
    """The way of an option in a cell. `work` is per second over one bucket; with several ask `kind`."""
    what, where = problem.options[option], problem.cells[cell]
    one = len(problem.demand[problem.model_of[option]].loads) == 1
    return Way(
        index=index,
        option=option,
        model=problem.model_of[option],
        cell=cell,
        size=what.devices,
        cost=where.cost_per_device_hour * what.devices,
        work=what.rates(1)[0] if one else what.work_per_s or 0.0,
        vendor=what.vendor,
        domain=where.failure_domain,
    )
