"""Why replicas are missing: reasons with numbers, from the finished plan.

Every (option, cell) of a short model is asked the same questions in the order of the interface's reasons, and the first answer counts.
A reason that names a rule (restricted, shared, cordoned, budget, quota, spread) is given only where devices are there that the rule keeps
away; otherwise the devices are the reason. `NeverFits` is decided on installed, never on free devices, and only if it holds everywhere: it
is permanent, while `DevicesUnavailable` passes.
"""

from __future__ import annotations

from dataclasses import dataclass

from placement import bars
from placement.bars import Bar
from placement.facts import Facts, never_fits
from placement.hints import hint
from placement.lack import Lack, lack, serves
from placement.types import Option, PoolFree, Reason, Shortfall, ShortfallReason, Stock
from placement.verdict import busy, permanent, sentence

ORDER = {reason: i for i, reason in enumerate(Reason)}
MAX_REASONS = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    reason: Reason
    cell: int
    option: Option
    bar: Bar | None = None


def shortfall_of(facts: Facts, model: str, *, exact: bool) -> Shortfall | None:
    """`exact` = the plan is proven: a place that it left free was not forgotten."""
    found = lack(facts.live, model)
    if found is None:
        return None
    return Shortfall(model, found.replicas, _reasons(facts, model, found, exact), round(found.unmet, 9))


def _reasons(facts: Facts, model: str, found: Lack, exact: bool) -> tuple[ShortfallReason, ...]:
    live = facts.live
    missing = found.replicas
    rows: list[ShortfallReason] = []
    options = [o for o in live.options_of[model] if serves(live, o)]
    if found.role and any(o.role == found.role for o in options) and not found.below:
        options = [o for o in options if o.role == found.role]
    if found.dead and options:
        text = f"{_role(found)}no option serves {_buckets(found.dead)} within the SLO, and work of that length is asked"
        rows.append(_alone(Reason.SLO_UNREACHABLE, model, missing, text))
        if not (found.unmet or found.kv or found.below):
            return tuple(rows)
    verdicts = [v for o in options for kind in live.kinds(o) if (v := _verdict(facts, model, o, kind, exact=exact)) is not None]
    if not verdicts:
        text = f"{model} has no option that may serve it on any pool of this fleet"
        return tuple(rows) or (_alone(Reason.NO_OPTION, model, missing, text),)
    count = live.count(model)
    if count >= live.models[model].max_replicas:
        text = f"all {count} replicas that maxReplicas allows are placed, and they carry less than the work that is asked"
        return tuple(rows) or (_alone(Reason.SLO_UNREACHABLE, model, missing, text),)
    if found.kv and not any(o.kv_tokens for o in options):
        return (
            _alone(
                Reason.SLO_UNREACHABLE,
                model,
                missing,
                f"{found.kv:g} tokens of KV cache are missing and no option states how many it holds",
            ),
        )
    # A pool that can never hold it is worth a word only while no pool that it may use could. Pools that its own rules leave out
    # stay listed after it: both facts are needed to choose between a smaller size and a wider list.
    if any(v.reason not in (Reason.NEVER_FITS, Reason.POOL_RESTRICTED) for v in verdicts):
        verdicts = [v for v in verdicts if v.reason is not Reason.NEVER_FITS]
    # In a pool where some nodes have room for an option that a rule keeps away, its full nodes are not the reason.
    barred = {(v.option.id, live.cells[v.cell].pool) for v in verdicts if v.bar is not None and v.reason is not Reason.POOL_RESTRICTED}
    verdicts = [v for v in verdicts if v.bar is not None or (v.option.id, live.cells[v.cell].pool) not in barred]
    # Per pool the option that comes furthest down the list of questions, then the smallest: the least that would have to change.
    by_pool: dict[str, Verdict] = {}
    for v in sorted(verdicts, key=lambda v: (-ORDER[v.reason], v.option.devices, v.cell, v.option.id)):
        by_pool.setdefault(live.cells[v.cell].pool, v)
    grouped: dict[Reason, list[Verdict]] = {}
    for _, v in sorted(by_pool.items()):
        grouped.setdefault(v.reason, []).append(v)
    rows += [_row(facts, model, reason, found, each) for reason, each in sorted(grouped.items(), key=lambda kv: ORDER[kv[0]])]
    return tuple(sorted(rows, key=lambda r: ORDER[r.reason])[:MAX_REASONS])


def _role(found: Lack) -> str:
    return f"{found.role}: " if found.role else ""


def _buckets(dead: tuple[int, ...]) -> str:
    return f"length bucket{'s' if len(dead) > 1 else ''} {', '.join(map(str, dead))}"


def _alone(reason: Reason, model: str, missing: int, text: str) -> ShortfallReason:
    return ShortfallReason(reason, (), missing, message=text, hint=hint(reason, model, []))


def _verdict(facts: Facts, model: str, option: Option, kind: list[int], *, exact: bool) -> Verdict | None:
    """The first question that this option fails in these like cells; None where they are closed to it and would not help anyway."""
    live, c = facts.live, kind[0]
    need = live.need(option, c)
    if need is None or all(never_fits(live, each, option) for each in kind):
        return Verdict(Reason.NEVER_FITS, c, option)
    fits = any(live.free.best(each, need) is not None for each in kind)
    found = bars.bar(live, option, c)
    if found is not None and found.kind == bars.RESTRICTED:
        widened = fits and (live.models[model].restricted or bool(option.pools))
        return Verdict(Reason.POOL_RESTRICTED, c, option, found) if widened else None
    if found is not None and found.kind in (bars.UNKNOWN, bars.SHARED, bars.CORDONED):
        return Verdict(found.reason, c, option, found)
    pool = live.cells[c].pool
    left = [x for x in (bars.limit_left(live, pool), bars.reserve_left(live, pool)) if x is not None]
    if not fits or (left and min(left) < option.devices):
        return Verdict(Reason.DEVICES_UNAVAILABLE, c, option)
    if found is not None:
        return Verdict(found.reason, c, option, found)
    return Verdict(Reason.DEVICES_UNAVAILABLE if exact else Reason.SOLVER_TIMEOUT, c, option)


def _row(facts: Facts, model: str, reason: Reason, lacking: Lack, found: list[Verdict]) -> ShortfallReason:
    live = facts.live
    free: list[PoolFree] = []
    parts: list[str] = []
    for v in found:
        free.append(facts.numbers(v.option, live.cells[v.cell].pool))
        parts.append(_sentence(facts, v, free[-1]))
    if reason is Reason.POOL_RESTRICTED:
        parts = [_restricted(facts, model, free)]
    if lacking.kv and reason is Reason.DEVICES_UNAVAILABLE:
        parts.append(f"{lacking.kv:g} tokens of KV cache are missing")
    unknown = reason is Reason.INVENTORY_UNKNOWN
    return ShortfallReason(
        reason=reason,
        pools=tuple(f.pool for f in free),
        missing=lacking.replicas,
        largest_free=None if unknown else max(f.largest_free for f in free),
        total_free=None if unknown else sum(f.total_free for f in free),
        message=_role(lacking) + "; ".join(parts),
        hint=hint(reason, model, free, found[0].bar.rule if found[0].bar is not None else ""),
        free=tuple(free),
    )


def _sentence(facts: Facts, v: Verdict, free: PoolFree) -> str:
    if v.reason is Reason.NEVER_FITS:
        return permanent(facts, v.option, v.cell)
    if v.bar is not None:
        return sentence(facts, v.bar, v.option, v.cell, free)
    if v.reason is Reason.SOLVER_TIMEOUT:
        need = f"need {free.need}" + (" on one node" if free.need > 1 else "")
        return f"{free.pool}: {need}, largest free {free.largest_free}: the solver stopped at its limit before it found this place"
    return busy(facts, v.option, v.cell, free)


def _restricted(facts: Facts, model: str, free: list[PoolFree]) -> str:
    live = facts.live
    own = live.options_of[model]
    mine = [
        c for c, cell in enumerate(live.cells)
        if cell.stock is Stock.KNOWN and any(o.profile == cell.profile and not _left_out(o, cell.pool) for o in own)
    ]  # fmt: skip
    eligible = ", ".join(sorted({live.cells[c].pool for c in mine})) or "pools (none)"
    inside, outside = sum(live.free.total(c) for c in mine), sum(f.total_free for f in free)
    return f"{inside} free in eligible {eligible}; {outside} free on nodes it may not use ({', '.join(f.pool for f in free)})"


def _left_out(option: Option, pool: str) -> bool:
    return (bool(option.pools) and pool not in option.pools) or pool in option.excluded_pools
