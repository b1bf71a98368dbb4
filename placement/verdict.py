"""Every check that one option fails in one cell, in the order of the interface's reasons, each with its sentence.

The order: not eligible, excluded, size not allowed, never fits, restricted, nodes unknown, shared, cordoned, budget, quota, spread, SLO,
then devices. The first one answers "why not here"; the rest say what would stand in the way next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from placement import bars
from placement.bars import Bar
from placement.facts import Facts, needs, never_fits, reach, sizes_of
from placement.lack import serves
from placement.live import Live
from placement.types import Option, PoolFree, Reason

NOT_ELIGIBLE, EXCLUDED, SIZE_NOT_ALLOWED, NO_DATA = "NotEligible", "Excluded", "SizeNotAllowed", "NoPerformanceData"


@dataclass(frozen=True, slots=True)
class Check:
    """A check that an option fails in a pool."""

    reason: str
    pool: str
    option: str
    message: str
    free: PoolFree | None = None


def sentence(facts: Facts, found: Bar, option: Option, cell: int, free: PoolFree) -> str:
    """A rule that is in the way, with its numbers."""
    live = facts.live
    model, where = live.models[option.model], live.cells[cell]
    need = needs(live.need(option, cell), option)
    pool, room = where.pool, f"{where.pool}: {need}, largest free {free.largest_free}"
    if found.kind == bars.UNKNOWN:
        return f"{pool}: the nodes cannot be read, so nothing there grows or shrinks"
    if found.kind == bars.RESTRICTED:
        return f"{pool}: {free.total_free} free on nodes that {model.name} may not use"
    if found.kind == bars.SHARED:
        return f"{pool}: {need}, its devices are shared and {model.name} asks for exclusive ones"
    if found.kind == bars.CORDONED:
        return f"{pool}: {need}, the pool takes no new replicas (schedulable: false)"
    if found.kind in (bars.MODEL_BUDGET, bars.BUDGET):
        whose = "of the model" if found.kind == bars.MODEL_BUDGET else "of the fleet"
        left = f"({max(0.0, found.left):g} of {found.limit:g} {whose})"
        return f"{pool}: one more replica costs {live.price(option, cell):g} per hour, above what the budget leaves {left}"
    if found.kind == bars.QUOTA:
        devices = f"{option.devices} devices" if option.devices > 1 else "1 device"
        return (
            f"{pool}: one more replica takes {devices}, the quota of {model.tenant} leaves {max(0, int(found.left))} of {int(found.limit)}"
        )
    if found.kind == bars.DOMAIN_SHARE:
        domain = where.failure_domain or "(none)"
        return f"{room}, but one more in failure domain {domain} breaks the strict spread (at most {found.limit:g} % in one domain)"
    if found.kind == bars.MIN_VENDORS:
        return f"{room}, but one more on {option.vendor} breaks the spread over vendors (minVendors {found.limit:g})"
    if found.kind == bars.VENDOR_SHARE:
        return f"{room}, but one more on {option.vendor} breaks the spread over vendors (maxVendorSharePercent {found.limit:g})"
    if found.kind == bars.MAXIMUM:
        return f"all {int(found.limit)} replicas that maxReplicas allows are placed"
    return busy(facts, option, cell, free)


def busy(facts: Facts, option: Option, cell: int, free: PoolFree) -> str:
    """Devices are there and taken, or under the pool's limit or reserve."""
    live, pool = facts.live, free.pool
    need = live.need(option, cell)
    if need is not None and need.span > 1:
        text = (
            f"{pool}: {needs(need, option)}, largest domain has {free.largest_free // need.pod} free, total free {free.total_free} devices"
        )
    else:
        text = f"{pool}: {needs(need, option)}, largest free {free.largest_free}, total free {free.total_free}"
    limit, reserve = bars.limit_left(live, pool), bars.reserve_left(live, pool)
    rooms = [x for x in (limit, reserve) if x is not None]
    if rooms and min(rooms) < option.devices:
        text += f", {max(0, min(rooms))} under its limit and reserve"
    return text + facts.who(option.model, pool)


def permanent(facts: Facts, option: Option, cell: int) -> str:
    """It never fits: larger than what is installed, or no size that a pod may ask for here."""
    live, where = facts.live, facts.live.cells[cell]
    largest = reach(live, cell, option)
    if live.need(option, cell) is None and option.devices <= max(live.installed[cell], default=0) and option.span == 1:
        return f"{where.pool}: a replica takes {option.devices}, one pod may ask for {sizes_of(where)} here"
    if option.span > 1:
        pod = option.devices // option.span
        if live.need(option, cell) is None:
            return f"{where.pool}: a replica takes {pod} devices of each of {option.span} nodes, here only whole nodes can be joined"
        return f"{where.pool}: need {option.span} whole nodes of one network domain, largest domain has {largest // pod} installed"
    return f"{where.pool}: need {option.devices}, largest node has {largest} installed"


def checks(facts: Facts, option: Option, cell: int) -> Iterator[Check]:
    """What the option fails in the cell, in order; nothing if it could start there."""
    live = facts.live
    where, model = live.cells[cell], live.models[option.model]
    pool, free = where.pool, facts.numbers(option, where.pool)

    def check(reason: str, message: str) -> Check:
        return Check(reason, pool, option.id, message, free)

    if not option.eligible:
        yield check(NOT_ELIGIBLE, f"{option.profile}: no verdict lets this profile serve {model.name} yet")
    if pool in option.excluded_pools:
        yield check(EXCLUDED, f"{pool}: left out by the placement rules of {model.name}")
    if live.need(option, cell) is None:
        yield check(SIZE_NOT_ALLOWED, permanent(facts, option, cell))
    elif never_fits(live, cell, option):
        yield check(str(Reason.NEVER_FITS), permanent(facts, option, cell))
    lifted: set[str] = set()
    later: list[Check] = []
    while (found := bars.bar(live, option, cell, lift=lifted)) is not None and found.rule not in lifted:
        lifted.add(found.rule)
        if found.kind == bars.RESTRICTED and pool in option.excluded_pools:
            continue
        if found.kind == bars.UNKNOWN:
            yield check(str(found.reason), sentence(facts, found, option, cell, free))
            return
        here = check(str(found.reason), sentence(facts, found, option, cell, free))
        # Devices come last, and a pool's limit or reserve is about devices.
        if found.kind in (bars.LIMIT, bars.RESERVE):
            later = later or [here]
        else:
            yield here
    if option.eligible and not serves(live, option):
        yield check(*_no_rate(live, option))
    need = live.need(option, cell)
    if need is not None and live.free.best(cell, need) is None:
        later = [check(str(Reason.DEVICES_UNAVAILABLE), busy(facts, option, cell, free))]
    yield from later


def _no_rate(live: Live, option: Option) -> tuple[str, str]:
    if option.work_per_s is None and not option.bucket_work:
        return NO_DATA, f"{option.profile}: no throughput is known for {option.devices} devices"
    return str(Reason.SLO_UNREACHABLE), f"{option.profile}: {option.devices} devices serve no length that is asked within the SLO"
