"""From a snapshot to integers: what may start where, what may stop, and which devices that gives.

Everything that decides "may this start here" and "what does a node have free" is decided once, here, so that the solver's model, the greedy
placer, the node choice and the explanations cannot disagree. `check` does not use this module: it recounts from the snapshot alone.

Rules that this module fixes (interface: they are the meaning of a plan):

- free(node) = allocatable - held by others - our replicas, never below 0. A node that holds more than it may hand out takes no start and a stop
  there frees nothing (a withdrawn device may be the one that is held).
- A replica on a node that may not take new work, or that the snapshot does not know, counts and may be stopped, but frees nothing for others.
- Where stock is unknown nothing starts and nothing stops; a model on hold neither.
- Devices of a DRAINING replica can be planned for; such starts wait for it.
- Above size 1 a request takes whole aligned blocks. Blocks that cannot be read: with foreign pods or withdrawn devices on the node none is
  known free; otherwise each of our own single-device replicas breaks at most one block and larger ones hold whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from placement.types import Cell, Model, ModelDemand, Node, Option, Reason, Replica, ReplicaState, Snapshot, Stock

# Weights of the tie-breaks, in units of the snapshot's median price of a device-hour. They order plans of equal money and are far below what
# money can decide (prices are stated to the cent): a device that costs nothing is still not wasted, a stop is never free.
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
class Group:
    """Running replicas that are interchangeable: same model, option and node. `ids` in the order to stop them."""

    index: int
    model: int
    option: str | None
    node: str
    cell: int | None
    devices: int
    ids: tuple[str, ...]
    cost: float
    work: float
    vendor: str
    domain: str
    stoppable: bool
    preference: float  # 0 = stop first .. 1 = stop last, among equals


@dataclass(frozen=True, slots=True)
class Bin:
    """What a node can give: free units and blocks, counting what drains, and what each stop would add."""

    node: str
    cell: int
    free: int
    blocks: int
    free_now: int
    blocks_now: int
    gains: tuple[tuple[int, int, int], ...]  # (group, units, blocks) per stopped replica
    draining: tuple[tuple[str, int, int], ...]  # (replica, units, blocks)
    installed: int = 0

    def takes(self, cell: Cell, size: int) -> bool:
        """Whether the node's kind allows this size at all: in a whole-node cell a larger request must be the whole node."""
        return size == 1 or not cell.whole_node_only or size == self.installed


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

    def short_base(self) -> float:
        return sum(w.base_loss for w in self.wants)


def legal_size(cell: Cell, size: int) -> bool:
    """Whether one pod may ask for `size` devices under this pool's scheduler."""
    if size not in cell.sizes:
        return False
    if size == 1:
        return True
    if cell.whole_node_only:
        return cell.per_node is None or size == cell.per_node
    return size % cell.align_to == 0


def alignment(cell: Cell) -> int:
    """Devices of one block. Whole nodes need no partner rule: all devices are taken."""
    return 1 if cell.whole_node_only else cell.align_to


def blocks_of(cell: Cell, size: int) -> int:
    """Whole blocks that a request of this size takes (0 for a single device in an aligned cell)."""
    align = alignment(cell)
    return size // align if align == 1 or size > 1 else 0


def node_blocks(cell: Cell, node: Node, replicas: list[Replica], free: int) -> int:
    """Free complete blocks of a node, at least: what is not known to be complete is not counted."""
    align = alignment(cell)
    if align == 1:
        return free
    if node.free_blocks is not None:
        return min(node.free_blocks, free // align)
    if node.held_by_others > 0 or node.allocatable < node.installed:
        return 0
    broken = sum(1 for r in replicas if r.devices == 1)
    whole = sum(-(-r.devices // align) for r in replicas if r.devices > 1)
    return max(0, min(node.allocatable // align - broken - whole, free // align))


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
    _groups_and_bins(problem)
    _ways(problem)
    problem.wants = [_want(problem, i) for i in range(len(problem.models))]
    return problem


def _groups_and_bins(problem: Problem) -> None:
    snapshot = problem.snapshot
    cell_index = {c.name: i for i, c in enumerate(problem.cells)}
    model_index = {m.name: i for i, m in enumerate(problem.models)}
    options = {o.id: o for o in problem.options}
    nodes = {n.name: n for n in snapshot.nodes}
    on_node: dict[str, list[Replica]] = {}
    for replica in snapshot.replicas:
        on_node.setdefault(replica.node, []).append(replica)
    any_unknown = any(c.stock is Stock.UNKNOWN for c in problem.cells)
    busiest = max((sum(r.devices for r in rs) for rs in on_node.values()), default=1)

    for name in sorted(set(nodes) | set(on_node)):
        node = nodes.get(name)
        here = on_node.get(name, [])
        cell = None if node is None else cell_index[node.cell]
        unknown = any_unknown if node is None or cell is None else problem.cells[cell].stock is Stock.UNKNOWN
        held = sum(r.devices for r in here)
        first = len(problem.groups)
        buckets: dict[tuple[str, str, int, bool], list[Replica]] = {}
        for replica in here:
            if replica.state is not ReplicaState.DRAINING:
                serving = replica.state is ReplicaState.SERVING
                buckets.setdefault((replica.model, replica.option or "", replica.devices, serving), []).append(replica)
        for (model_name, option_id, devices, serving), members in sorted(buckets.items()):
            option = options.get(option_id)
            model = model_index[model_name]
            where = None if cell is None else problem.cells[cell]
            members.sort(key=lambda r: (r.state is not ReplicaState.PENDING, -r.age_order, r.id))
            # Not yet serving first, then nodes that take no new work, then the emptiest node.
            stays = 0.5 * serving + 0.25 * (node is not None and node.eligible) + 0.2 * held / max(1, busiest)
            problem.groups.append(
                Group(
                    index=len(problem.groups),
                    model=model,
                    option=option_id or None,
                    node=name,
                    cell=cell,
                    devices=devices,
                    ids=tuple(r.id for r in members),
                    cost=0.0 if where is None else where.cost_per_device_hour * devices,
                    work=0.0 if option is None else option.work_per_s or 0.0,
                    vendor=option.vendor if option is not None else ("" if where is None else where.vendor),
                    domain="" if where is None else where.failure_domain,
                    stoppable=not unknown and not problem.models[model].hold,
                    preference=stays,
                )
            )
        if node is None or cell is None or unknown or not node.eligible:
            continue
        slack = node.allocatable - node.held_by_others - held
        if slack < 0:
            continue
        problem.bins.append(_bin(problem, node, cell, here, slack, problem.groups[first:]))


def _bin(problem: Problem, node: Node, cell: int, here: list[Replica], slack: int, groups: list[Group]) -> Bin:
    where = problem.cells[cell]
    align = alignment(where)
    blocks = node_blocks(where, node, here, slack)
    # A single device that goes gives its block back only where the blocks were derived with one broken block per single device.
    singles = sum(1 for r in here if r.devices == 1)
    derived = node.free_blocks is None and node.held_by_others == 0 and node.allocatable == node.installed
    whole = sum(-(-r.devices // align) for r in here if r.devices > 1)
    single_gain = 1 if derived and node.allocatable // align - singles - whole >= 0 else 0

    def gain(devices: int) -> int:
        if align == 1:
            return devices
        return devices // align if devices > 1 else single_gain

    draining = tuple((r.id, r.devices, gain(r.devices)) for r in here if r.state is ReplicaState.DRAINING)
    return Bin(
        node=node.name,
        cell=cell,
        free=slack + sum(d for _, d, _ in draining),
        blocks=blocks + sum(b for _, _, b in draining),
        free_now=slack,
        blocks_now=blocks,
        gains=tuple((g.index, g.devices, gain(g.devices)) for g in groups if g.stoppable),
        draining=draining,
        installed=node.installed,
    )


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
