"""Why each profile of a model was taken or not: one line per pool that serves it, one per profile that does not."""

from __future__ import annotations

from collections.abc import Callable

from placement.bind import Binding
from placement.problem import Problem, legal_size, pool_allowed
from placement.stock import Stock
from placement.types import Cell, Model, Option, Why
from placement.types import Stock as Known

_Test = Callable[[Model, Option, Cell], bool]
# In the order of the interface's reasons.
_TESTS: tuple[tuple[str, str, _Test], ...] = (
    ("Excluded", "left out by placement.pools or placement.profiles", lambda m, o, c: pool_allowed(o, c)),
    ("SizeNotAllowed", "no size of the model is one that a pod may ask for here", lambda m, o, c: legal_size(c, o.devices)),
    ("SharedDevices", "its devices are shared", lambda m, o, c: m.shared_ok or not c.shared),
    ("PoolCordoned", "its pools take no new replicas", lambda m, o, c: c.schedulable),
    ("InventoryUnknown", "its nodes cannot be read", lambda m, o, c: c.stock is Known.KNOWN),
)


def why_profiles(problem: Problem, binding: Binding, stock: Stock) -> tuple[Why, ...]:
    result: list[Why] = []
    for m in range(len(problem.models)):
        result += _of_model(problem, binding, stock, m)
    return tuple(result)


def _of_model(problem: Problem, binding: Binding, stock: Stock, m: int) -> list[Why]:
    model = problem.models[m]
    options = {o.id: o for o in problem.options if o.model == model.name}
    cells = {c.name: i for i, c in enumerate(problem.cells)}
    used: dict[tuple[str, str], float] = {}
    started: set[tuple[str, str]] = set()
    for a in binding.assignments:
        if a.model == model.name and a.option in options and a.cell in cells:
            cell = problem.cells[cells[a.cell]]
            key = (options[a.option].profile, cell.pool)
            used[key] = max(used.get(key, 0.0), cell.cost_per_device_hour * options[a.option].devices)
    for s in binding.starts:
        if s.model == model.name:
            started.add((options[s.option].profile, problem.cells[cells[s.cell]].pool))
    prices = _prices(problem, m, options)
    best = min(used.values(), default=None)
    rows: list[Why] = []
    for (profile, pool), cost in sorted(used.items()):
        cheaper = sorted((p, name) for name, p in prices.items() if p < cost - 1e-9 and name != profile)
        if not cheaper:
            rows.append(Why(model.name, profile, pool, "CheapestWithinSlo", f"{cost:g} per hour and replica, the cheapest that fits"))
        elif (profile, pool) not in started:
            text = f"keeps running at {cost:g} per hour; a move to {cheaper[0][1]} does not earn its price or finds no room"
            rows.append(Why(model.name, profile, pool, "KeptRunning", text))
        elif model.min_vendors > 1 or model.max_vendor_share_percent is not None:
            text = f"{cost:g} per hour and replica; the spread over vendors asks for it beside {cheaper[0][1]}"
            rows.append(Why(model.name, profile, pool, "SpreadOverVendors", text))
        else:
            text = f"{cost:g} per hour and replica; cheaper {cheaper[0][1]} has no room left"
            rows.append(Why(model.name, profile, pool, "CheaperUnavailable", text))
    taken = {profile for profile, _ in used}
    for profile in sorted({o.profile for o in options.values()} - taken):
        reason, text = _rejected(problem, stock, m, [o for o in options.values() if o.profile == profile], best)
        rows.append(Why(model.name, profile, "", reason, text))
    return rows


def _prices(problem: Problem, m: int, options: dict[str, Option]) -> dict[str, float]:
    """Cheapest replica per profile among everything that the rules allow, full or not."""
    prices: dict[str, float] = {}
    for o in options.values():
        for cell in problem.cells:
            shared = cell.shared and not problem.models[m].shared_ok
            if cell.profile == o.profile and o.eligible and legal_size(cell, o.devices) and pool_allowed(o, cell) and not shared:
                cost = cell.cost_per_device_hour * o.devices
                prices[o.profile] = min(cost, prices.get(o.profile, cost))
    return prices


def _rejected(problem: Problem, stock: Stock, m: int, options: list[Option], best: float | None) -> tuple[str, str]:
    """The first check that every option of this profile fails."""
    model = problem.models[m]
    options = sorted(options, key=lambda o: (o.devices, o.id))
    if not any(o.eligible for o in options):
        return "NotEligible", "no verdict lets this profile serve the model yet"
    pairs = [(o, c) for o in options if o.eligible for c, cell in enumerate(problem.cells) if cell.profile == o.profile]
    if not pairs:
        return "NoPool", "no pool of this fleet has this profile"
    for reason, text, allowed in _TESTS:
        passed = [(o, c) for o, c in pairs if allowed(model, o, problem.cells[c])]
        if not passed:
            return reason, text
        pairs = passed
    size = {c: min(o.devices for o, d in pairs if d == c) for _, c in pairs}
    largest = {c: max((n.installed for n in problem.snapshot.nodes if n.cell == problem.cells[c].name), default=0) for c in size}
    if all(size[c] > largest[c] for c in size):
        return "NeverFits", f"need {min(size.values())}, largest node has {max(largest.values())} installed"
    cost, at = min((problem.cells[c].cost_per_device_hour * o.devices, c) for o, c in pairs)
    if best is not None and cost >= best - 1e-9:
        more = f"costs {cost - best:g} more per hour and replica" if cost > best + 1e-9 else "costs the same as what was taken"
        return "CostsMore", more
    if all(stock.largest(c, size[c]) < size[c] for c in size):
        free, total = max(stock.largest(c, size[c]) for c in size), sum(stock.total(c) for c in size)
        return "DevicesUnavailable", f"need {size[at]} on one node, largest free {free}, total free {total}"
    if best is None:
        return "NotNeeded", "no replica is planned on any profile"
    return "RuleForbids", "cheaper, but a limit, a budget or the spread over vendors forbids it"
