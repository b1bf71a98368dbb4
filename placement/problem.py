"""From a snapshot to integers: what may start where, what may stop, and which devices that gives.

Everything that decides "may this start here" and "what does a node have free" is decided once, here, so that the solver's model, the
greedy placer, the node choice and the explanations cannot disagree. `check` does not use this module: it recounts from the snapshot
alone.

Nothing starts and nothing stops where stock is unknown, nor for a model on hold. What a node has to give is read in `nodes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from placement.nodes import Bin, Group, blocks_of, read_nodes
from placement.types import Cell, Model, ModelDemand, Option, Reason, Snapshot, Stock

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


@dataclass(frozen=True, slots=True)
class Want:
    """A model's demand after `may_shrink` was applied."""

    minimum: int
    maximum: int
    work: float
    need: float  # device-equivalents of the whole work
    smallest: int  # devices of its smallest replica
    running: int
    running_work: float
    surplus: int  # running replicas that may go without a loss
    base_loss: float  # loss that no plan can avoid


@dataclass(slots=True)
class Problem:
    snapshot: Snapshot
    cells: tuple[Cell, ...]
    models: tuple[Model, ...]
    options: tuple[Option, ...]
    demand: tuple[ModelDemand, ...]
    rank: tuple[int, ...]  # 0 = highest priority
    ways: list[Way] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    bins: list[Bin] = field(default_factory=list)
    wants: list[Want] = field(default_factory=list)
    unit: float = 1.0

    def stop_price(self, group: Group) -> float:
        """What a stop must earn: the configured share of the replica's own cost."""
        return group.cost * self.snapshot.policy.min_saving_percent / 100.0


def legal_size(cell: Cell, size: int) -> bool:
    """Whether one pod may ask for `size` devices under this pool's scheduler."""
    if size not in cell.sizes:
        return False
    if size == 1:
        return True
    if cell.whole_node_only:
        return cell.per_node is None or size == cell.per_node
    return size % cell.align_to == 0


def pool_allowed(option: Option, cell: Cell) -> bool:
    return (not option.pools or cell.pool in option.pools) and cell.pool not in option.excluded_pools


def refusal(option: Option, model: Model, cell: Cell, needs_work: bool) -> Reason | None:
    """Why this option may never start in this cell, or None. Node space is not looked at here."""
    if not option.eligible or (needs_work and not option.work_per_s):
        return Reason.NO_OPTION
    if not legal_size(cell, option.devices):
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


def build(snapshot: Snapshot, demand: tuple[ModelDemand, ...]) -> Problem:
    """`snapshot` normalised and validated; `demand` one entry per model in the same order."""
    ranks = sorted({m.priority for m in snapshot.models}, reverse=True)
    prices = [c.cost_per_device_hour for c in snapshot.cells if c.cost_per_device_hour > 0]
    problem = Problem(
        snapshot=snapshot,
        cells=snapshot.cells,
        models=snapshot.models,
        options=snapshot.options,
        demand=demand,
        rank=tuple(ranks.index(m.priority) for m in snapshot.models),
        unit=median(prices) if prices else 1.0,
    )
    problem.groups, problem.bins = read_nodes(snapshot)
    _ways(problem)
    problem.wants = [_want(problem, i) for i in range(len(problem.models))]
    return problem


def bin_limit(problem: Problem, b: Bin) -> int:
    """Blocks of the bin if everything that may stop on it stops."""
    return b.blocks + sum(blocks * len(problem.groups[g].ids) for g, _, blocks in b.gains)


def _ways(problem: Problem) -> None:
    reach: dict[int, int] = {}
    single: dict[int, bool] = {}
    for b in problem.bins:
        reach[b.cell] = max(reach.get(b.cell, 0), bin_limit(problem, b))
        single[b.cell] = single.get(b.cell, False) or b.free > 0 or bool(b.gains)
    by_model = {m.name: i for i, m in enumerate(problem.models)}
    for o, option in enumerate(problem.options):
        m = by_model[option.model]
        model = problem.models[m]
        if model.hold or model.max_replicas == 0:
            continue
        for c, cell in enumerate(problem.cells):
            if cell.profile != option.profile or refusal(option, model, cell, problem.demand[m].work_per_s > 0) is not None:
                continue
            blocks = blocks_of(cell, option.devices)
            if blocks > reach.get(c, 0) or (blocks == 0 and not single.get(c, False)):
                continue
            problem.ways.append(
                Way(
                    index=len(problem.ways),
                    option=o,
                    model=m,
                    cell=c,
                    size=option.devices,
                    cost=cell.cost_per_device_hour * option.devices,
                    work=option.work_per_s or 0.0,
                    vendor=option.vendor,
                    domain=cell.failure_domain,
                )
            )


def _want(problem: Problem, m: int) -> Want:
    model, asked = problem.models[m], problem.demand[m]
    groups = [g for g in problem.groups if g.model == m]
    ways = [w for w in problem.ways if w.model == m]
    running = sum(len(g.ids) for g in groups)
    running_work = sum(g.work * len(g.ids) for g in groups)
    minimum, work = model.min_replicas, asked.work_per_s
    if not asked.may_shrink:
        minimum = max(minimum, min(running, model.max_replicas))
        work = max(work, running_work) if work > 0 else work
    own = [o for o in problem.options if o.model == model.name]
    smallest = min([o.devices for o in own] or [g.devices for g in groups] or [1])
    rates = sorted(o.work_per_s / o.devices for o in own if o.work_per_s)
    need = work / median(rates) if rates and work > 0 else (float(smallest) if work > 0 else 0.0)
    surplus = _surplus(groups, minimum, model.max_replicas, work, running, running_work)
    base = 0.0
    if not ways and not model.hold:
        # Nothing can start: what is missing today stays missing, whatever the others do.
        base = 2.0 * smallest * max(0, minimum - running)
        if work > 0:
            base += need * unmet_price(max(0.0, 1.0 - running_work / work))
    return Want(minimum, model.max_replicas, work, need, smallest, running, running_work, surplus, base)


def _surplus(groups: list[Group], minimum: int, maximum: int, work: float, running: int, running_work: float) -> int:
    forced = max(0, running - maximum)
    left, floor = running_work, min(work, running_work)
    count = 0
    for rate in sorted(g.work for g in groups for _ in g.ids):
        if running - count <= minimum or (work > 0 and left - rate < floor - 1e-9):
            break
        left -= rate
        count += 1
    return max(forced, count)


def unmet_price(share: float) -> float:
    """Convex price of an unmet share: the second half hurts three times as much, so two models at 25 % beat one at 50 %."""
    return min(share, 0.5) + 3.0 * max(0.0, share - 0.5)
