"""Why replicas are missing, and why a profile was taken or not: reasons with numbers, from the finished plan.

Every (option, cell) of a short model is asked the same questions in the order of the interface's reasons, and the first answer counts:
size, allow-lists, shared devices, money, spread, devices. A reason that names a rule (restricted, shared, cordoned) is given only where
devices are there that the rule keeps away; otherwise the devices are the reason. `NeverFits` is decided on installed, never on free
devices, and only if it holds everywhere: it is permanent, while `DevicesUnavailable` passes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from placement.bind import Binding
from placement.hints import hint
from placement.problem import Problem, legal_size, pool_allowed, unmet_price
from placement.stock import Stock
from placement.types import Option, PoolFree, Reason, Shortfall, ShortfallReason, Why
from placement.types import Stock as Known
from placement.why import why_profiles

ORDER = {reason: i for i, reason in enumerate(Reason)}
MAX_REASONS = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    reason: Reason
    cell: int
    option: Option


def loss_of(problem: Problem, binding: Binding) -> float:
    """Missing replicas and unmet work in device-equivalents."""
    loss = 0.0
    for m, want in enumerate(problem.wants):
        if problem.models[m].hold:
            continue
        count, work = _have(problem, binding, m)
        loss += 2.0 * want.smallest * max(0, want.minimum - count)
        if want.work > 0:
            loss += want.need * unmet_price(max(0.0, 1.0 - work / want.work))
    return loss


def explain_plan(problem: Problem, binding: Binding, *, exact: bool) -> tuple[tuple[Shortfall, ...], tuple[Why, ...]]:
    stock = Stock(problem, binding)
    shortfalls: list[Shortfall] = []
    for m, model in enumerate(problem.models):
        missing = 0 if model.hold else _missing(problem, binding, m)
        if missing:
            shortfalls.append(Shortfall(model.name, missing, _reasons(problem, binding, stock, m, missing, exact)))
    return tuple(shortfalls), why_profiles(problem, binding, stock)


def _have(problem: Problem, binding: Binding, m: int) -> tuple[int, float]:
    name = problem.models[m].name
    work = {o.id: o.work_per_s or 0.0 for o in problem.options}
    mine = [a for a in binding.assignments if a.model == name]
    return sum(a.replicas for a in mine), sum(a.replicas * work.get(a.option, 0.0) for a in mine)


def _missing(problem: Problem, binding: Binding, m: int) -> int:
    """Replicas below the minimum, or those that the unmet work would need of the model's strongest option."""
    want = problem.wants[m]
    count, work = _have(problem, binding, m)
    missing = max(0, want.minimum - count)
    unmet = want.work - work
    if unmet > 1e-9 * max(1.0, want.work):
        rates = [o.work_per_s for o in problem.options if o.model == problem.models[m].name and o.work_per_s]
        missing = max(missing, min(max(1, math.ceil(unmet / max(rates) - 1e-9)) if rates else 1, max(1, want.maximum - count)))
    return missing


def _reasons(problem: Problem, binding: Binding, stock: Stock, m: int, missing: int, exact: bool) -> tuple[ShortfallReason, ...]:
    model = problem.models[m]
    options = [o for o in problem.options if o.model == model.name]
    verdicts = [
        Verdict(found, c, o)
        for o in options
        for c, cell in enumerate(problem.cells)
        if cell.profile == o.profile and (o.eligible and (o.work_per_s or problem.wants[m].work == 0))
        if (found := _verdict(problem, binding, stock, m, o, c, exact)) is not None
    ]
    if not verdicts:
        text = f"{model.name} has no option that may serve it on any pool of this fleet"
        return (ShortfallReason(Reason.NO_OPTION, (), missing, message=text, hint=hint(Reason.NO_OPTION, model.name, [])),)
    count, _ = _have(problem, binding, m)
    if count >= problem.wants[m].maximum:
        text = f"all {count} replicas that maxReplicas allows are placed, and they carry less than the work that is asked"
        return (ShortfallReason(Reason.SLO_UNREACHABLE, (), missing, message=text, hint=hint(Reason.SLO_UNREACHABLE, model.name, [])),)
    # A pool that can never hold it is worth a word only while no pool that it may use could. Pools that its own rules leave out
    # stay listed after it: both facts are needed to choose between a smaller size and a wider list.
    if any(v.reason not in (Reason.NEVER_FITS, Reason.POOL_RESTRICTED) for v in verdicts):
        verdicts = [v for v in verdicts if v.reason is not Reason.NEVER_FITS]
    # Per pool the option that comes furthest down the list of questions, then the smallest: the least that would have to change.
    by_pool: dict[str, Verdict] = {}
    for v in sorted(verdicts, key=lambda v: (-ORDER[v.reason], v.option.devices, v.cell, v.option.id)):
        by_pool.setdefault(problem.cells[v.cell].pool, v)
    grouped: dict[Reason, list[Verdict]] = {}
    for _, v in sorted(by_pool.items()):
        grouped.setdefault(v.reason, []).append(v)
    rows = [_row(problem, stock, m, reason, found, missing) for reason, found in sorted(grouped.items(), key=lambda kv: ORDER[kv[0]])]
    return tuple(rows[:MAX_REASONS])


def _verdict(problem: Problem, binding: Binding, stock: Stock, m: int, option: Option, c: int, exact: bool) -> Reason | None:
    """The first question that this option fails in this cell; None where the cell is closed to it and would not help anyway."""
    model, cell = problem.models[m], problem.cells[c]
    size = option.devices
    installed = max((n.installed for n in problem.snapshot.nodes if n.cell == cell.name), default=0)
    known = cell.stock is Known.KNOWN
    if not legal_size(cell, size) or (known and size > installed):
        return Reason.NEVER_FITS
    fits = stock.largest(c, size) >= size
    if not pool_allowed(option, cell):
        return Reason.POOL_RESTRICTED if fits and (model.restricted or option.pools) else None
    if not known:
        return Reason.INVENTORY_UNKNOWN
    if cell.shared and not model.shared_ok:
        return Reason.SHARED_DEVICES
    if not cell.schedulable:
        return Reason.POOL_CORDONED
    limit = stock.pool_limit_left(cell.pool)
    if not fits or (limit is not None and limit < size):
        return Reason.DEVICES_UNAVAILABLE
    cost = cell.cost_per_device_hour * size
    if cost > 0 and _over_budget(problem, binding, m, cost):
        return Reason.BUDGET_EXCEEDED
    if _breaks_spread(problem, binding, m, option.vendor):
        return Reason.SPREAD_UNSATISFIED
    return Reason.DEVICES_UNAVAILABLE if exact else Reason.SOLVER_TIMEOUT


def _over_budget(problem: Problem, binding: Binding, m: int, cost: float) -> bool:
    cells = {c.name: c for c in problem.cells}
    devices = {o.id: o.devices for o in problem.options}
    groups = {i: g for g in problem.groups for i in g.ids}
    own = total = 0.0
    for name in binding.keep:
        total += groups[name].cost
        own += groups[name].cost if groups[name].model == m else 0.0
    for s in binding.starts:
        price = cells[s.cell].cost_per_device_hour * devices[s.option]
        total += price
        own += price if s.model == problem.models[m].name else 0.0
    limit, fleet = problem.models[m].max_hourly_cost, problem.snapshot.policy.max_hourly_cost
    return (limit is not None and own + cost > limit + 1e-9) or (fleet is not None and total + cost > fleet + 1e-9)


def _breaks_spread(problem: Problem, binding: Binding, m: int, vendor: str) -> bool:
    """Whether one more replica on this vendor would break minVendors or the share."""
    model = problem.models[m]
    vendors = {o.id: o.vendor for o in problem.options}
    count: Counter[str] = Counter({vendor: 1})
    kept = set(binding.keep)
    for g in problem.groups:
        if g.model == m:
            count[g.vendor] += sum(1 for i in g.ids if i in kept)
    for s in binding.starts:
        if s.model == model.name:
            count[vendors[s.option]] += 1
    total = sum(count.values())
    if len(+count) < min(model.min_vendors, total):
        return True
    share = model.max_vendor_share_percent
    return share is not None and 100 * (count[vendor] - 1) > share * (total - 1)


def _row(problem: Problem, stock: Stock, m: int, reason: Reason, found: list[Verdict], missing: int) -> ShortfallReason:
    model = problem.models[m]
    free: list[PoolFree] = []
    parts: list[str] = []
    for v in found:
        pool = problem.cells[v.cell].pool
        cells = [i for i, c in enumerate(problem.cells) if c.pool == pool]
        size = v.option.devices
        # If it does not fit even without the others' starts, these are not the reason.
        alone = max(stock.largest(i, size, model.name) for i in cells)
        only = model.name if alone < size else None
        largest = max(stock.largest(i, size, only) for i in cells)
        total = sum(stock.total(i, only) for i in cells)
        names = {problem.cells[i].name for i in cells}
        installed = max((n.installed for n in problem.snapshot.nodes if n.cell in names), default=0)
        free.append(PoolFree(pool, size, largest, total, installed))
        parts.append(_sentence(problem, stock, m, reason, pool, cells, free[-1], v.option))
    if reason is Reason.POOL_RESTRICTED:
        allowed = [i for i, c in enumerate(problem.cells) if any(pool_allowed(o, c) and o.profile == c.profile for o in _own(problem, m))]
        kept_from = sum(f.total_free for f in free)
        eligible = ", ".join(sorted({problem.cells[i].pool for i in allowed})) or "pools (none)"
        mine, pools = sum(stock.total(i) for i in allowed), ", ".join(f.pool for f in free)
        parts = [f"{mine} free in eligible {eligible}; {kept_from} free on nodes it may not use ({pools})"]
    return ShortfallReason(
        reason=reason,
        pools=tuple(f.pool for f in free),
        missing=missing,
        largest_free=None if reason is Reason.INVENTORY_UNKNOWN else max(f.largest_free for f in free),
        total_free=None if reason is Reason.INVENTORY_UNKNOWN else sum(f.total_free for f in free),
        message="; ".join(parts),
        hint=hint(reason, model.name, free),
        free=tuple(free),
    )


def _own(problem: Problem, m: int) -> list[Option]:
    return [o for o in problem.options if o.model == problem.models[m].name]


def _sentence(problem: Problem, stock: Stock, m: int, reason: Reason, pool: str, cells: list[int], free: PoolFree, option: Option) -> str:
    need = f"need {free.need}" + (" on one node" if free.need > 1 else "")
    if reason is Reason.NEVER_FITS:
        sizes = problem.cells[cells[0]].sizes
        if free.need not in sizes and free.need <= free.largest_installed:
            return f"{pool}: a replica takes {free.need}, one pod may ask for {', '.join(map(str, sizes)) or 'nothing'} here"
        return f"{pool}: need {free.need}, largest node has {free.largest_installed} installed"
    if reason is Reason.INVENTORY_UNKNOWN:
        return f"{pool}: the nodes cannot be read, so nothing there grows or shrinks"
    if reason is Reason.SHARED_DEVICES:
        return f"{pool}: {need}, its devices are shared and {problem.models[m].name} asks for exclusive ones"
    if reason is Reason.POOL_CORDONED:
        return f"{pool}: {need}, the pool takes no new replicas (schedulable: false)"
    if reason is Reason.BUDGET_EXCEEDED:
        cost = problem.cells[cells[0]].cost_per_device_hour * option.devices
        return f"{pool}: one more replica costs {cost:g} per hour, above what the budget leaves"
    if reason is Reason.SPREAD_UNSATISFIED:
        return f"{pool}: {need}, largest free {free.largest_free}, but one more on {option.vendor} breaks the spread over vendors"
    if reason is Reason.SOLVER_TIMEOUT:
        return f"{pool}: {need}, largest free {free.largest_free}: the solver stopped at its limit before it found this place"
    limit = stock.pool_limit_left(pool)
    text = f"{pool}: {need}, largest free {free.largest_free}, total free {free.total_free}"
    if limit is not None and limit < free.need:
        text += f", {limit} under its limit and reserve"
    return text + _who(problem, stock, m, cells)


def _who(problem: Problem, stock: Stock, m: int, cells: list[int]) -> str:
    text = ""
    holders = [(h, n) for h, n in stock.holders(cells) if h != problem.models[m].name][:3]
    if holders:
        text += ", held by " + ", ".join(f"{name or 'other pods'} ({count})" for name, count in holders)
        lower = {x.name for x in problem.models if x.priority < problem.models[m].priority}
        if not problem.snapshot.policy.preemption and any(name in lower for name, _ in holders):
            text += " of lower priority, preemption is off"
    names = {problem.cells[i].name for i in cells}
    out: dict[str, list[str]] = {}
    for node in problem.snapshot.nodes:
        if node.cell in names and not node.eligible:
            out.setdefault(node.excluded_reason or "Excluded", []).append(node.name)
        elif node.cell in names and node.allocatable < node.installed:
            text += f", {node.name}: allocatable {node.allocatable} of capacity {node.installed}"
    for reason, nodes in sorted(out.items()):
        verb = "waiting for devices on" if reason == "DevicesMissing" else f"{reason}:"
        text += f", {verb} {', '.join(nodes[:3])}" + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
    return text
