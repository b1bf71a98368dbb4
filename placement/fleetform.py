"""From a fleet's Problem to the arrays of the column engine, and from chosen columns back to counts per (model, option, zone).

- What may stop and stands on a node that takes work is part of the columns, in place: its own bin is in the rows (`bins.chunk_counts`).
  What may not stop, or runs where nothing new may start, is fixed: it covers its share of the load (every bucket alike, which is never too
  much), counts to minimum and maximum, and uses no row.
- A split deployment that must share networks is not in the columns: it keeps what runs, and the polish plans it in the general form.
- A model with `Strict` spread has each option once per failure domain; an option whose cells differ in price has each price apart.
- Weights stand for the order of goals: 100 apart per rank, in median prices of a device-hour; a replica that stops for others costs ten
  times what it could win for a model of its own rank, and a tenth of what it is worth to the next rank.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np

from placement import value as worth
from placement.bins import chunk_counts, is_chain_cell, patterns_in_place
from placement.columnform import Block, ColumnForm, Floats, Ints
from placement.columns import Columns, Generator
from placement.problem import EPS_DEVICE, Problem, refusal
from placement.quota import cohorts
from placement.shapes import loose_singles
from placement.types import Cell, Model, Option, Spread, Stock

LEVELS = 3  # ranks that one pass weighs; more are solved in passes


@dataclass(slots=True)
class _Option:
    model: int
    option: int
    cells: tuple[int, ...]
    zone: int
    cost: float
    running: int = 0


@dataclass(frozen=True, slots=True)
class FleetForm:
    """The arrays and what their indexes mean."""

    form: ColumnForm
    models: tuple[int, ...]  # problem's model per model of the form
    option: tuple[int, ...]  # problem's option per option of the form
    zone: tuple[str | None, ...]
    row_names: tuple[str, ...]  # of the hard rows, as in RowPrice
    off: dict[tuple[int, int, str | None], int]  # running replicas outside the rows that stay, to be added to the targets


@dataclass(slots=True)
class _Rows:
    """Hard rows by name, and the sparse block columns x[slot, cell] and node patterns."""

    names: list[str] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)

    def add(self, name: str, bound: float) -> int:
        self.names.append(name)
        self.bound.append(max(0.0, float(bound)))
        return len(self.names) - 1


def build(problem: Problem, weights: Floats | None = None, *, bound: bool = False, short: bool = False) -> FleetForm:
    """`weights` [ranks] overrides the money of one unmet device-equivalent per rank, in median prices of a device-hour.

    `bound`: the form whose value is never above the published objective of any plan: no tie-breaks, no price of disruption, and replicas
    that are outside the columns carry as much of every bucket as they could if it were the only one.
    """
    inside = _inside(problem)
    problem = _in_place(problem, inside)
    snapshot = problem.snapshot
    by_model = {m.name: i for i, m in enumerate(problem.models)}
    running, fixed, off = _replicas(problem, inside)
    ranks = max(problem.rank, default=0) + 1
    weight = rank_weights(ranks) if weights is None else weights
    zones = sorted({c.failure_domain for c in problem.cells})
    options = _options(problem, by_model, zones)
    here: dict[int, list[tuple[int, int]]] = {}
    for (own, c), many in running.items():
        here.setdefault(own, []).append((c, many))
    for o in options:
        if o.option in here:
            zone = zones[o.zone] if o.zone >= 0 else None
            o.running = sum(n for c, n in here[o.option] if c in o.cells and (zone is None or problem.cells[c].failure_domain == zone))
    kept = sorted({o.model for o in options})
    place = {m: i for i, m in enumerate(kept)}
    options.sort(key=attrgetter("model", "option", "zone", "cost"))
    what = [problem.options[o.option] for o in options]
    slots: dict[tuple[int, int, tuple[int, ...]], int] = {}
    slot = [slots.setdefault((w.devices, w.span, o.cells), len(slots)) for o, w in zip(options, what, strict=True)]
    rows = _Rows()
    block = _block(problem, rows, list(slots))
    side = _side(problem, rows, options)
    most = snapshot.policy.max_moves
    moves_row = None if most is None or not any(o.running for o in options) else rows.add("moves", most)
    buckets = max([len(w.needs.loads) for w in problem.wants] or [1])
    n, count = len(options), len(kept)
    load = np.zeros((count, buckets))
    arrays = {k: np.zeros(count) for k in ("weight", "missing", "disrupt", "disrupt_one", "move", "cost_cap", "vendor_share", "zone_share")}
    minimum, maximum, vendors_min, surplus = (np.zeros(count, np.int64) for _ in range(4))
    kinds = max([len(w.needs.floors) for w in problem.wants] or [0])
    floors = np.zeros((count, kinds))
    keep = np.zeros(count, np.bool_)
    for i, m in enumerate(kept):
        model, want = problem.models[m], problem.wants[m]
        mine = fixed.get(m, {})
        standing = sum(mine.values())
        loads = np.array(want.needs.loads, np.float64)
        loads = _at_best(problem, mine, loads) if bound else loads * (1.0 - _fixed_share(problem, mine, loads))
        load[i, : len(loads)] = loads
        w = float(weight[problem.rank[m]]) * problem.unit
        arrays["weight"][i] = w * want.need
        arrays["missing"][i] = w * 2.0 * want.smallest
        # Who may not be moved for money has the same price on a move as everybody has while somebody is short.
        still = short or any((g := problem.groups[j]).stoppable and (g.stays or g.resident) for j in problem.groups_of[m])
        arrays["move"][i] = worth.MOVED * w * want.smallest if still and not bound else 0.0
        surplus[i] = want.surplus
        arrays["disrupt"][i] = 0.0 if bound else worth.LOST * w * max(want.need, want.smallest)
        arrays["disrupt_one"][i] = 0.0 if bound else worth.LOST * w * want.smallest
        cap = model.max_hourly_cost
        arrays["cost_cap"][i] = np.inf if cap is None else max(0.0, cap - _fixed_cost(problem, m))
        share = model.max_vendor_share_percent
        arrays["vendor_share"][i] = 1.0 if share is None else share / 100.0
        arrays["zone_share"][i] = model.max_domain_share_percent / 100.0 if model.spread is Spread.STRICT else 1.0
        minimum[i], maximum[i] = max(0, want.minimum - standing), max(0, want.maximum - standing)
        floors[i, : len(want.needs.floors)] = want.needs.floors
        vendors_min[i] = model.min_vendors
        keep[i] = not snapshot.policy.preemption or not model.preemptable
    vendor_at = {name: i for i, name in enumerate(sorted({w.vendor for w in what}))}
    policy = snapshot.policy
    rates, held_tokens = list[tuple[float, ...]](), list[tuple[float, ...]]()
    asks = [len(w.needs.loads) if sum(w.needs.loads) > 0 else 0 for w in problem.wants]
    for o, each in zip(options, what, strict=True):
        own_rates = each.rates(asks[o.model]) if asks[o.model] else ()
        rates.append(own_rates if len(own_rates) == buckets else (*own_rates, *(0.0,) * (buckets - len(own_rates))))
        own_tokens = problem.kinds[o.option][1]
        held_tokens.append((*own_tokens, *(0.0,) * (kinds - len(own_tokens))) if kinds else ())
    rate = np.array(rates, np.float64).reshape(n, buckets)
    tokens = np.array(held_tokens, np.float64).reshape(n, kinds)
    price = np.array([o.cost for o in options], np.float64)
    late = np.array([w.start_seconds or 0.0 for w in what], np.float64)
    devices = np.array([w.devices for w in what], np.int64)
    cost = price + (0.0 if bound else EPS_DEVICE * problem.unit) * devices
    start = policy.start_price * price * late / worth.START_UNIT
    stop = price * policy.min_saving_percent / 100.0
    owner = np.array([place[o.model] for o in options], np.int64)
    reach = _reach(block, rows, len(slots))
    slot_of = np.array(slot, np.int64)
    family: dict[tuple[int, float], int] = {}
    form = ColumnForm(
        first=np.searchsorted(owner, np.arange(count + 1)),
        rank=np.array([problem.rank[m] for m in kept], np.int64),
        load=load, minimum=minimum, maximum=maximum, weight=arrays["weight"], missing=arrays["missing"], disrupt=arrays["disrupt"],
        disrupt_one=arrays["disrupt_one"], base=np.zeros(count), cost_cap=arrays["cost_cap"], min_vendors=vendors_min,
        vendor_share=arrays["vendor_share"], zone_share=arrays["zone_share"], whole=False,
        model=owner, rate=rate, cost=cost, start=start, stop=stop,
        running=np.array([o.running for o in options], np.int64),
        upper=reach[slot_of] if n else np.zeros(0, np.int64),
        devices=devices,
        vendor=np.array([vendor_at[w.vendor] for w in what], np.int64),
        zone=np.array([o.zone for o in options], np.int64),
        family=np.array([family.setdefault((o.option, o.cost), len(family)) for o in options], np.int64),
        slot=slot_of, slots=len(slots), block=block, hard=np.array(rows.bound), side_ptr=side[0], side_row=side[1], side_value=side[2],
        move=arrays["move"], surplus=surplus, moves_row=moves_row,
        floors=floors, tokens=tokens,
    )  # fmt: skip
    if keep.any():
        # Who may not lose anything keeps what runs; how much that is, the generator counts.
        has = Generator(form)
        held = np.minimum(has.running, form.minimum)
        form = replace(form, least_phi=np.where(keep, has.running_phi, 0.0), least_count=np.where(keep, held, 0))
    zone_of = tuple(zones[o.zone] if o.zone >= 0 else None for o in options)
    return FleetForm(form, tuple(kept), tuple(o.option for o in options), zone_of, tuple(rows.names), off)


def rank_weights(ranks: int) -> Floats:
    """[ranks] weights of the published objective, in median prices of a device-hour per missing device-equivalent."""
    return np.array([worth.rank_weight(ranks, r) for r in range(ranks)])


def _replicas(
    problem: Problem, inside: set[int]
) -> tuple[dict[tuple[int, int], int], dict[int, dict[int, int]], dict[tuple[int, int, str | None], int]]:
    """Running replicas: (option, cell) -> in place; model -> option (-1 = unknown) -> fixed; targets of those fixed that `split` knows."""
    index = problem.option_index
    running: Counter[tuple[int, int]] = Counter()
    fixed: dict[int, dict[int, int]] = {}
    off: Counter[tuple[int, int, str | None]] = Counter()
    for g in problem.groups:
        o = index.get(g.option, -1) if g.option is not None else -1
        if g.index in inside and g.cell is not None:
            running[(o, g.cell)] += len(g.ids)
            continue
        mine = fixed.setdefault(g.model, {})
        mine[o] = mine.get(o, 0) + len(g.ids)
        if g.stoppable and o >= 0:
            strict = problem.models[g.model].spread is Spread.STRICT
            off[(g.model, o, g.domain if strict else None)] += len(g.ids)
    return running, fixed, dict(off)


def _options(problem: Problem, by_model: dict[str, int], zones: list[str]) -> list[_Option]:
    of_profile: dict[str, list[int]] = {}
    for c, cell in enumerate(problem.cells):
        if cell.stock is Stock.KNOWN and cell.schedulable:
            of_profile.setdefault(cell.profile, []).append(c)
    alike: dict[tuple[object, ...], list[tuple[tuple[int, ...], int, float]]] = {}
    result: list[_Option] = []
    for i, option in enumerate(problem.options):
        m = by_model[option.model]
        model = problem.models[m]
        if model.hold or model.max_replicas == 0 or not option.eligible or problem.wants[m].needs.half:
            continue
        loads = problem.wants[m].needs.loads
        if sum(loads) > 0 and not any(option.rates(len(loads))):
            continue
        strict = model.spread is Spread.STRICT
        key = (option.profile, option.devices, option.span, option.pools, option.excluded_pools, model.shared_ok, strict)
        if key not in alike:
            alike[key] = _kinds(problem, option, model, of_profile.get(option.profile, []), zones, strict)
        result += [_Option(m, i, cells, zone, cost * option.devices) for cells, zone, cost in alike[key]]
    return result


def _kinds(
    problem: Problem, option: Option, model: Model, cells: list[int], zones: list[str], strict: bool
) -> list[tuple[tuple[int, ...], int, float]]:
    """(cells, zone or -1, price of a device-hour) of an option."""
    groups: dict[tuple[int, float], list[int]] = {}
    for c in cells:
        cell: Cell = problem.cells[c]
        if refusal(option, model, cell, False) is None:
            zone = zones.index(cell.failure_domain) if strict else -1
            groups.setdefault((zone, cell.cost_per_device_hour), []).append(c)
    return [(tuple(found), zone, price) for (zone, price), found in sorted(groups.items())]


def _block(problem: Problem, rows: _Rows, slots: list[tuple[int, int, tuple[int, ...]]]) -> Block:
    in_cell: dict[int, list[int]] = {}
    for s, (_, _, cells) in enumerate(slots):
        for c in cells:
            in_cell.setdefault(c, []).append(s)
    pools = _pool_rows(problem, rows, sorted(in_cell))
    ptr, row, value, owner = [0], list[int](), list[float](), list[int]()

    def column(slot: int, entries: list[tuple[int, float]]) -> None:
        for r, v in entries:
            row.append(r)
            value.append(v)
        ptr.append(len(row))
        owner.append(slot)

    for c, mine in sorted(in_cell.items()):
        cell = problem.cells[c]
        sizes = sorted({slots[s][0] for s in mine})
        limits = pools.get(cell.pool, [])
        if is_chain_cell(problem, c, sizes):
            counts = chunk_counts(problem, c, sizes)
            at = {s: rows.add(f"bins/{cell.name}/{s}", counts[s]) for s in sizes}
            loose = loose_singles(cell)
            for s in mine:
                size = slots[s][0]
                chunks = [q for q in sizes if q <= size and size % q == 0]
                # Single devices of a cell with blocks have a row on the sum of devices, in which everything counts in devices.
                entries = [(at[q], float(size) if loose and q == 1 else float(size // q)) for q in chunks]
                column(s, [*entries, *((r, float(size)) for r in limits)])
            continue
        cuts = patterns_in_place(problem, c, sizes)
        node = cuts.node_size
        pods = sorted({p for k in cuts.classes for pattern in k.patterns for p, _ in pattern})
        supply = {p: rows.add(f"bins/{cell.name}/{p}", 0.0) for p in pods}
        units = None if cuts.units is None else rows.add(f"bins/{cell.name}/units", cuts.units)
        for s in mine:
            size = slots[s][0]
            pod = size if node is None or size <= node else node
            entries = [] if pod not in supply else [(supply[pod], float(size // pod))]
            if units is not None:
                entries.append((units, float(size)))
            if not entries:
                continue  # no place takes it
            column(s, [*entries, *((r, float(size)) for r in limits)])
        for k, kind in enumerate(cuts.classes):
            own = rows.add(f"bins/{cell.name}/class{k}", kind.count)
            for pattern in kind.patterns:
                column(-1, [(own, 1.0), *((supply[p], -float(n)) for p, n in pattern)])
    return Block(np.array(ptr, np.int64), np.array(row, np.int64), np.array(value), np.array(owner, np.int64))


def _pool_rows(problem: Problem, rows: _Rows, cells: list[int]) -> dict[str, list[int]]:
    result: dict[str, list[int]] = {}
    of_pool: dict[str, list[int]] = {}
    for i, c in enumerate(problem.cells):
        of_pool.setdefault(c.pool, []).append(i)
    used = {problem.cells[c].pool for c in cells}
    binned = {g for b in problem.bins for g, _, _ in b.gains}
    outside: Counter[int] = Counter()  # devices per cell of replicas that use no row
    own: Counter[int] = Counter()
    for g in problem.groups:
        if g.cell is not None:
            (own if g.index in binned else outside)[g.cell] += g.devices * len(g.ids)
    free: Counter[int] = Counter()
    for b in problem.bins:
        free[b.cell] += b.free
    for pool in sorted(used):
        mine = of_pool[pool]
        limits = [x for i in mine if (x := problem.cells[i].limit_devices) is not None]
        if limits:
            held = sum(own[i] for i in mine)
            # What runs above a lowered limit may stay; nothing may be added to it.
            bound = max(min(limits) - sum(outside[i] for i in mine), held)
            result.setdefault(pool, []).append(rows.add(f"limit/{pool}", bound))
        reserve = max(problem.cells[i].reserve_devices for i in mine)
        if reserve:
            bound = max(sum(free[i] + own[i] for i in mine) - reserve, sum(own[i] for i in mine))
            result.setdefault(pool, []).append(rows.add(f"reserve/{pool}", bound))
    return result


def _side(problem: Problem, rows: _Rows, options: list[_Option]) -> tuple[Ints, Ints, Floats]:
    """Rows on the options themselves: quotas of tenants, the fleet's budget. (ptr [O + 1], row, value)."""
    budget = problem.snapshot.policy.max_hourly_cost
    if budget is None and not problem.snapshot.policy.quotas:
        return np.zeros(len(options) + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64)
    entries: list[list[tuple[int, float]]] = [[] for _ in options]
    held: Counter[tuple[str, str]] = Counter()
    for g in problem.groups:
        profile = "" if g.cell is None else problem.cells[g.cell].profile
        held[(problem.models[g.model].tenant, profile)] += g.devices * len(g.ids)
    of_tenant: dict[str, list[int]] = {}
    for j, o in enumerate(options):
        of_tenant.setdefault(problem.models[o.model].tenant, []).append(j)
    for name, tenants, profiles, devices in _quotas(problem):
        mine = [
            j
            for tenant in sorted(tenants)
            for j in of_tenant.get(tenant, [])
            if not profiles or problem.options[options[j].option].profile in profiles
        ]
        if not mine:
            continue
        total = sum(n for (tenant, p), n in held.items() if tenant in tenants and (not profiles or p in profiles))
        inside = sum(options[j].running * problem.options[options[j].option].devices for j in mine)
        at = rows.add(name, max(devices - (total - inside), inside))
        for j in mine:
            entries[j].append((at, float(problem.options[options[j].option].devices)))
    if budget is not None:
        total_cost = sum(g.cost * len(g.ids) for g in problem.groups)
        inside_cost = sum(o.running * o.cost for o in options)
        at = rows.add("budget", max(budget - (total_cost - inside_cost), inside_cost))
        for j, o in enumerate(options):
            if o.cost > 0:
                entries[j].append((at, o.cost))
    ptr = np.concatenate([[0], np.cumsum([len(e) for e in entries])]).astype(np.int64)
    flat = [x for e in entries for x in e]
    return ptr, np.array([r for r, _ in flat], np.int64), np.array([v for _, v in flat], np.float64)


def _quotas(problem: Problem) -> list[tuple[str, set[str], tuple[str, ...], int]]:
    """(name, tenants, profiles, devices): a quota alone, or all of the same profiles together where one may borrow.

    That the lender comes first is not in the columns; what one borrows from another is settled by the polish (`quota`).
    """
    found: list[tuple[str, set[str], tuple[str, ...], int]] = []
    for cohort in cohorts(problem.snapshot.policy.quotas):
        of = "/" + ",".join(cohort[0].profiles) if cohort[0].profiles else ""
        if any(q.borrow for q in cohort):
            found.append(("quota/*" + of, {q.tenant for q in cohort}, cohort[0].profiles, sum(q.devices for q in cohort)))
        found += [(f"quota/{q.tenant}{of}", {q.tenant}, q.profiles, q.devices) for q in cohort if not q.borrow]
    return found


def _reach(block: Block, rows: _Rows, slots: int) -> Ints:
    """[slots] how many requests of a slot fit at most, if nothing else is placed."""
    bound = np.array(rows.bound)
    reach = np.zeros(slots, np.int64)
    supply = np.zeros(len(bound))
    for c in range(len(block.slot)):
        part = slice(block.ptr[c], block.ptr[c + 1])
        if block.slot[c] < 0:
            own = block.row[part][0]
            np.maximum.at(supply, block.row[part][1:], -block.value[part][1:] * bound[own])
    for c in range(len(block.slot)):
        if block.slot[c] < 0:
            continue
        part = slice(block.ptr[c], block.ptr[c + 1])
        have = np.where(supply[block.row[part]] > 0, np.inf, bound[block.row[part]])
        most = np.min(have / block.value[part], initial=np.inf)
        reach[block.slot[c]] += int(most) if np.isfinite(most) else 10**6
    return reach


def _fixed_share(problem: Problem, mine: dict[int, int], loads: Floats) -> float:
    """The share of every bucket that fixed replicas carry together, each option by itself: never more than they can."""
    share = 0.0
    for o, count in mine.items():
        if o < 0 or not loads.sum():
            continue
        rates = np.array(problem.options[o].rates(len(loads)))
        if (rates[loads > 0] <= 0).any():
            continue
        share += count / float((loads[loads > 0] / rates[loads > 0]).sum())
    return min(1.0, share)


def _at_best(problem: Problem, mine: dict[int, int], loads: Floats) -> Floats:
    """What is left of every bucket if the fixed replicas served it alone: less than any routing leaves."""
    left = loads.copy()
    for o, count in mine.items():
        if o >= 0:
            left -= count * np.array(problem.options[o].rates(len(loads)))
    return np.maximum(left, 0.0)


def _fixed_cost(problem: Problem, m: int) -> float:
    binned = {g for b in problem.bins for g, _, _ in b.gains}
    return sum(g.cost * len(g.ids) for g in problem.groups if g.model == m and g.index not in binned)


def targets(fleet: FleetForm, columns: Columns) -> dict[tuple[int, int, str | None], int]:
    """(model, option, zone or None) -> replicas, of chosen columns, with those that stay outside the rows."""
    counts: Counter[tuple[int, int, str | None]] = Counter(fleet.off)
    for model, options, many in zip(columns.owner, columns.option, columns.count, strict=True):
        for o, n in zip(options, many, strict=True):
            if n:
                counts[(fleet.models[int(model)], fleet.option[int(o)], fleet.zone[int(o)])] += int(n)
    return dict(counts)


def fixed_money(problem: Problem, *, ties: bool = True) -> float:
    """Money of what is in no column: replicas that stay outside the rows."""
    inside = _inside(problem)
    tie = EPS_DEVICE * problem.unit if ties else 0.0
    return sum((g.cost + tie * g.devices) * len(g.ids) for g in problem.groups if g.index not in inside)


def holds_all(problem: Problem) -> bool:
    """Whether everything that runs and every model is in the columns.

    Only then is a bound of theirs one for all plans: what stays outside is taken to carry its even share of the load, which is never too
    much and may be too little.
    """
    return len(_inside(problem)) == len(problem.groups) and not any(w.needs.half for w in problem.wants)


def _in_place(problem: Problem, inside: set[int]) -> Problem:
    """Bins without the places of replicas that are outside the columns: nothing is planned into them."""
    bins = [
        b if all(g in inside for g, _, _ in b.gains) else replace(b, gains=tuple(x for x in b.gains if x[0] in inside), empties=False)
        for b in problem.bins
    ]
    return replace(problem, bins=bins)


def _inside(problem: Problem) -> set[int]:
    """Groups whose replicas are part of the columns."""
    index = problem.option_index
    binned = {g for b in problem.bins for g, _, _ in b.gains}
    found: set[int] = set()
    for g in problem.groups:
        o = index.get(g.option, -1) if g.option is not None else -1
        if not g.stoppable or o < 0 or g.cell is None or g.index not in binned or problem.wants[g.model].needs.half:
            continue
        if refusal(problem.options[o], problem.models[g.model], problem.cells[g.cell], False) is None:
            found.add(g.index)
    return found
