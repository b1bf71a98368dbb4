"""Why each profile of a model was taken or not: one line per pool that serves it, one per profile that does not.

These lines go to every model's status, so they say what rarely changes: a profile that costs more than what was taken is told so, full or
not. `explain` gives the full list of checks for one profile or pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from placement import bars
from placement.facts import Facts, needs, never_fits, reach
from placement.lack import serves
from placement.live import Live
from placement.types import Cell, Model, Option, Reason, Stock, Why

_Test = Callable[[Live, Model, Option, int, Cell], bool]
# In the order of the interface's reasons.
_TESTS: tuple[tuple[str, str, _Test], ...] = (
    ("Excluded", "left out by placement.pools or placement.profiles", lambda live, m, o, c, cell: not _left_out(o, cell.pool)),
    ("SizeNotAllowed", "no size of the model is one that a pod may ask for here", lambda live, m, o, c, cell: live.need(o, c) is not None),
    ("SharedDevices", "its devices are shared", lambda live, m, o, c, cell: m.shared_ok or not cell.shared),
    ("PoolCordoned", "its pools take no new replicas", lambda live, m, o, c, cell: cell.schedulable),
    ("InventoryUnknown", "its nodes cannot be read", lambda live, m, o, c, cell: cell.stock is Stock.KNOWN),
)
EPS = 1e-9


def _left_out(option: Option, pool: str) -> bool:
    return (bool(option.pools) and pool not in option.pools) or pool in option.excluded_pools


def why_of(facts: Facts, model: str) -> list[Why]:
    """The lines of one model, used pools first, then the other profiles by name."""
    live = facts.live
    by_profile: dict[str, list[Option]] = {}
    for o in live.options_of[model]:
        by_profile.setdefault(o.profile, []).append(o)
    used, started = used_by(live, model)
    prices = {p: price for p, options in by_profile.items() if (price := _cheapest(live, model, options)) is not None}
    rows: list[Why] = []
    for (profile, pool), cost in sorted(used.items()):
        cheaper = sorted((p, name) for name, p in prices.items() if p < cost - EPS and name != profile)
        rows.append(_taken(live.models[model], profile, pool, cost, cheaper, new=(profile, pool) in started))
    taken = {profile for profile, _ in used}
    best = min(used.values(), default=None)
    for profile in sorted(set(by_profile) - taken):
        reason, text = _rejected(facts, by_profile[profile], best)
        rows.append(Why(model, profile, "", reason, text))
    return rows


def used_by(live: Live, model: str) -> tuple[dict[tuple[str, str], float], set[tuple[str, str]]]:
    """(profile, pool) that serve it -> money per hour of the dearest replica there, and those of them where replicas start."""
    used: dict[tuple[str, str], float] = {}
    for g, ids in live.kept[model]:
        option = live.options.get(g.option or "")
        if ids and option is not None and g.cell is not None:
            key = (option.profile, live.cells[g.cell].pool)
            used[key] = max(used.get(key, 0.0), g.cost)
    started: set[tuple[str, str]] = set()
    for option, cell, _ in live.starts.get(model, []):
        key = (option.profile, live.cells[cell].pool)
        used[key] = max(used.get(key, 0.0), live.price(option, cell))
        started.add(key)
    return used, started


def _taken(model: Model, profile: str, pool: str, cost: float, cheaper: list[tuple[float, str]], *, new: bool) -> Why:
    if not cheaper:
        return Why(model.name, profile, pool, "CheapestWithinSlo", f"{cost:g} per hour and replica, the cheapest that fits")
    other = cheaper[0][1]
    if not new:
        text = f"keeps running at {cost:g} per hour; a move to {other} does not earn its price or finds no room"
        return Why(model.name, profile, pool, "KeptRunning", text)
    if model.min_vendors > 1 or model.max_vendor_share_percent is not None:
        text = f"{cost:g} per hour and replica; the spread over vendors asks for it beside {other}"
        return Why(model.name, profile, pool, "SpreadOverVendors", text)
    text = f"{cost:g} per hour and replica; cheaper {other} has no room left or carries less for its price"
    return Why(model.name, profile, pool, "CheaperUnavailable", text)


def _cheapest(live: Live, model: str, options: Sequence[Option]) -> float | None:
    """Money per hour of the profile's cheapest replica among everything that the rules allow, full or not."""
    best: float | None = None
    m = live.models[model]
    for o in options:
        if not o.eligible:
            continue
        for kind in live.kinds(o):
            c = kind[0]
            cell = live.cells[c]
            if live.need(o, c) is not None and not _left_out(o, cell.pool) and (m.shared_ok or not cell.shared):
                cost = live.price(o, c)
                best = cost if best is None else min(best, cost)
    return best


def _rejected(facts: Facts, options: list[Option], best: float | None) -> tuple[str, str]:
    """The first check that every option of this profile fails."""
    live = facts.live
    options = sorted(options, key=lambda o: (o.devices, o.id))
    model = live.models[options[0].model]
    if not any(o.eligible for o in options):
        return "NotEligible", "no verdict lets this profile serve the model yet"
    kinds = [(o, kind) for o in options if o.eligible for kind in live.kinds(o)]
    if not kinds:
        return "NoPool", "no pool of this fleet has this profile"
    for reason, text, allowed in _TESTS:
        passed = [(o, kind) for o, kind in kinds if allowed(live, model, o, kind[0], live.cells[kind[0]])]
        if not passed:
            return reason, text
        kinds = passed
    if best is not None:
        # The usual end of a profile that was not taken, before any node is looked at.
        cheapest = min(live.price(o, kind[0]) for o, kind in kinds)
        if cheapest >= best - EPS and any(not never_fits(live, c, o) for o, kind in kinds for c in kind if live.price(o, c) == cheapest):
            return _dearer(cheapest, best)
    pairs = [(o, c) for o, kind in kinds for c in kind]
    lasting = [(o, c) for o, c in pairs if not never_fits(live, c, o)]
    if not lasting:
        o, c = max(pairs, key=lambda p: reach(live, p[1], p[0]) / p[0].devices)
        largest = reach(live, c, o)
        if o.span > 1:
            pod = o.devices // o.span
            return "NeverFits", f"{needs(live.need(o, c), o)}, largest domain has {largest // pod} installed"
        return (
            "NeverFits",
            f"need {min(p[0].devices for p in pairs)}, largest node has {max(reach(live, c, o) for o, c in pairs)} installed",
        )
    cost, at = min((live.price(o, c), i) for i, (o, c) in enumerate(lasting))
    if best is not None and cost >= best - EPS:
        return _dearer(cost, best)
    carrying = {o.id for o in options if serves(live, o)}
    if not any(o.id in carrying for o, _ in lasting):
        return str(Reason.SLO_UNREACHABLE), "no size of it is known to serve the lengths that are asked within the SLO"
    room = [(o, kind) for o, kind in kinds if o.id in carrying and facts.room(o, kind)]
    if not room:
        o, c = lasting[at]
        free = facts.numbers(o, live.cells[c].pool)
        text = f"{needs(live.need(o, c), o)}, largest free {free.largest_free}, total free {free.total_free}"
        return str(Reason.DEVICES_UNAVAILABLE), text
    if best is None:
        return "NotNeeded", "no replica is planned on any profile"
    first = bars.bar(live, room[0][0], room[0][1][0])
    if first is not None and all(bars.bar(live, o, kind[0]) is not None for o, kind in room[1:]):
        return str(first.reason), f"cheaper per replica, but {RULES.get(first.kind, first.kind)} forbids one more"
    return "NotNeeded", "cheaper per replica, but not for the work that is left to carry"


def _dearer(cost: float, best: float) -> tuple[str, str]:
    return "CostsMore", f"costs {cost - best:g} more per hour and replica" if cost > best + EPS else "costs the same as what was taken"


RULES = {
    bars.MODEL_BUDGET: "placement.maxHourlyCost",
    bars.BUDGET: "the budget of the fleet",
    bars.QUOTA: "the quota of its tenant",
    bars.MAXIMUM: "scaling.maxReplicas",
    bars.MIN_VENDORS: "placement.spread.minVendors",
    bars.VENDOR_SHARE: "placement.spread.maxVendorSharePercent",
    bars.DOMAIN_SHARE: "the strict spread over failure domains",
    bars.LIMIT: "the limit of its pool",
    bars.RESERVE: "the reserve of its pool",
}
