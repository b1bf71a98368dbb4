"""Single changes of a snapshot that may let a short model have more: one rule's number, word or list.

Which rule is in the way is found by lifting it: with that rule alone passed over, what is missing is started greedily on the live fleet,
and the rule's new number is read off the sums, so a limit of 4 becomes 6 and not "more". Changes of devices are in `relax_devices`. Nothing
here is called a fix: `whatif` solves anew with the best ones and keeps what is true then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from placement import bars
from placement.free import State
from placement.hints import namespace
from placement.lack import Lack, lack, serves
from placement.ladder import Up, starts_of, work_gained
from placement.live import Live
from placement.types import Cell, Model, Option, Policy, Snapshot, Spread

MOST_STARTS = 64  # of one model in one trial
MOST_RIVALS = 24  # short models that are served first in a trial
EDIT, FREE, HARDWARE = 0, 1, 2  # classes, cheapest first: an edit, devices that somebody must give up, new hardware


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One change. `change` names the field with from -> to, `command` makes it."""

    rank: int  # EDIT, FREE or HARDWARE
    change: str
    command: str
    snapshot: Snapshot
    rule: str = ""  # as `bars` names it
    cost: float = 0.0  # money per hour of what would start
    devices: int = 0  # that are touched: given up, added, or started
    left: Lack | None = None  # what would still be missing
    tried: bool = True  # the starts were tried on the live fleet

    @property
    def key(self) -> tuple[bool, int, bool, int, float, int, str]:
        """Cheapest first: what ends the shortfall before what shrinks it, edits before devices before hardware, then devices or money."""
        given = self.devices if self.rank == FREE else 0
        return (self.left is not None, self.rank, not self.tried, given, round(self.cost, 9), self.devices, self.change)


@dataclass(frozen=True, slots=True)
class Trial:
    """What started: of the model, and before it of the models that may take what becomes free."""

    mine: list[Up]
    others: list[Up]

    @property
    def cost(self) -> float:
        return sum(up.cost for up in (*self.mine, *self.others))

    @property
    def devices(self) -> int:
        return sum(up.option.devices for up in (*self.mine, *self.others))


@contextmanager
def trial(
    live: Live, model: str, lift: Collection[str] = (), *, first: Sequence[str] = (), options: Iterable[Option] | None = None
) -> Iterator[Trial]:
    """What could start with these rules passed over, until nothing is missing; `first` are served before. Taken back on leaving."""
    done: list[tuple[Up, list[tuple[str, State]]]] = []
    for name in (*first, model):
        begun = len(done)
        short = lack(live, name)
        sure = 0 if short is None else short.replicas  # fewer starts than these cannot end it
        while short is not None and len(done) - begun < MOST_STARTS:
            mine = options_for(live, name, short) if options is None or name != model else list(options)
            best = min(starts_of(live, mine, lift=lift, reserve=True), key=lambda up: _dearness(live, up), default=None)
            if best is None:
                break
            done.append((best, live.states(best.place)))
            live.start(best.option, best.cell, best.place)
            if len(done) - begun >= sure:
                short = lack(live, name)
    try:
        yield Trial([up for up, _ in done if up.option.model == model], [up for up, _ in done if up.option.model != model])
    finally:
        for up, before in reversed(done):
            live.undo(up.option, up.cell, before)


def rivals(live: Live, model: str) -> list[tuple[str, ...]]:
    """Who is served before the model in a trial: nobody, and all short models that rank as high or higher, if there are any (few)."""
    mine = live.models[model].priority
    short = [m for m in live.models.values() if m.name != model and m.priority >= mine and lack(live, m.name) is not None]
    if not short or len(short) > MOST_RIVALS:
        return [()]
    return [(), tuple(m.name for m in sorted(short, key=lambda m: (-m.priority, m.name)))]


def options_for(live: Live, model: str, short: Lack) -> list[Option]:
    """The options that could help: those that serve, of the role that lacks."""
    mine = [o for o in live.options_of[model] if serves(live, o)]
    of_role = [o for o in mine if o.role == short.role]
    return of_role if of_role and short.role else mine


def _dearness(live: Live, up: Up) -> tuple[float, float, str, str]:
    gained = work_gained(live, up.option)
    return (up.cost / gained if gained > 0 else math.inf, up.cost, up.option.id, up.place)


def by_rules(live: Live, model: str) -> list[Relaxation]:
    """One relaxation per rule that is in the way."""
    short = lack(live, model)
    if short is None:
        return []
    found: dict[str, Relaxation] = {}
    for rule in _rules(live, options_for(live, model, short)):
        for first in rivals(live, model):
            with trial(live, model, (rule,), first=first) as tried:
                made = _change(live, model, rule) if tried.mine else None
                if made is not None:
                    change, command, snapshot = made
                    left = lack(live, model)
                    found.setdefault(change, Relaxation(EDIT, change, command, snapshot, rule, tried.cost, tried.devices, left))
    return [*found.values(), *_by_verdict(live, model)]


def _rules(live: Live, options: list[Option]) -> list[str]:
    """Every rule that forbids some option somewhere, the first and those behind it."""
    rules: set[str] = set()
    for o in options:
        for kind in live.kinds(o):
            if live.need(o, kind[0]) is None:
                continue
            lifted: set[str] = set()
            while (
                (found := bars.bar(live, o, kind[0], lift=lifted)) is not None and found.kind != bars.UNKNOWN and found.rule not in lifted
            ):
                lifted.add(found.rule)
            rules |= lifted
    return sorted(rules)


def _change(live: Live, model: str, rule: str) -> tuple[str, str, Snapshot] | None:
    """The change that allows what has just been started: words, command, snapshot."""
    s, m = live.snapshot, live.models[model]
    kind, _, name = rule.partition("/")
    if kind in (bars.LIMIT, bars.RESERVE, bars.CORDONED):
        return _of_pool(live, kind, name)
    if kind == bars.BUDGET:
        to = cents(live.total_cost)
        change = f"fpol/default budget.maxHourlyCost {s.policy.max_hourly_cost:g}->{to:g}"
        return (
            change,
            patch("fpol", "default", {"budget": {"maxHourlyCost": f"{to:g}"}}),
            _policy(s, lambda p: replace(p, max_hourly_cost=to)),
        )
    if kind == bars.QUOTA:
        index = next(i for i, q in enumerate(live.quotas) if bars.quota_name(q) == rule)
        old = live.quotas[index]
        devices = old.devices + max(0, -bars.quota_left(live, index))
        change = f"fpol/default quotas[{old.tenant}].devices {old.devices}->{devices}"
        quotas = tuple(replace(q, devices=devices) if i == index else q for i, q in enumerate(live.quotas))
        return change, "kubectl edit fpol default", _policy(s, lambda p: replace(p, quotas=quotas))
    return _of_model(live, m, kind, name)


def _of_pool(live: Live, kind: str, pool: str) -> tuple[str, str, Snapshot]:
    s, at = live.snapshot, f"apool/{pool}"
    if kind == bars.LIMIT:
        old, to = live.limit[pool] or 0, live.pool_used[pool]
        command = patch("apool", pool, {"limits": {"devices": to}})
        return (
            f"{at} limits.devices {old}->{to}",
            command,
            _cells(s, pool, lambda c: replace(c, limit_devices=_at_least(c.limit_devices, to))),
        )
    if kind == bars.RESERVE:
        old, to = live.reserve[pool], max(0, sum(live.free.total(c) for c in live.pool_cells[pool]))
        command = patch("apool", pool, {"reserve": {"devices": to}})
        return (
            f"{at} reserve.devices {old}->{to}",
            command,
            _cells(s, pool, lambda c: replace(c, reserve_devices=min(c.reserve_devices, to))),
        )
    command = patch("apool", pool, {"schedulable": True})
    return f"{at} schedulable false->true", command, _cells(s, pool, lambda c: replace(c, schedulable=True))


def _of_model(live: Live, m: Model, kind: str, pool: str) -> tuple[str, str, Snapshot] | None:
    s, at = live.snapshot, f"mdep/{m.name.rsplit('/', 1)[-1]}"

    def made(field: str, old: object, new: object, body: dict[str, object], changed: Model) -> tuple[str, str, Snapshot]:
        return f"{at} {field} {old}->{new}", patch_model(m.name, body), with_model(s, changed)

    if kind == bars.MODEL_BUDGET:
        to = cents(live.cost[m.name])
        body: dict[str, object] = {"placement": {"maxHourlyCost": f"{to:g}"}}
        return made("placement.maxHourlyCost", f"{m.max_hourly_cost:g}", f"{to:g}", body, replace(m, max_hourly_cost=to))
    if kind == bars.MAXIMUM:
        most = live.count(m.name)
        return made("scaling.maxReplicas", m.max_replicas, most, {"scaling": {"maxReplicas": most}}, replace(m, max_replicas=most))
    if kind == bars.MIN_VENDORS:
        least = max(1, sum(1 for n in live.vendors[m.name].values() if n > 0))
        body = {"placement": {"spread": {"minVendors": least}}}
        return made("placement.spread.minVendors", m.min_vendors, least, body, replace(m, min_vendors=least))
    if kind == bars.VENDOR_SHARE:
        total = live.count(m.name)
        share = max((-(-100 * (n - 1) // (total - 1)) for n in live.vendors[m.name].values() if total > 1), default=100)
        share = min(100, max(share, m.max_vendor_share_percent or 0))
        body = {"placement": {"spread": {"maxVendorSharePercent": share}}}
        old = m.max_vendor_share_percent
        return made("placement.spread.maxVendorSharePercent", old, share, body, replace(m, max_vendor_share_percent=share))
    if kind == bars.DOMAIN_SHARE:
        return made("placement.spread.mode", "Strict", "Soft", {"placement": {"spread": {"mode": "Soft"}}}, replace(m, spread=Spread.SOFT))
    if kind == bars.SHARED:
        return made("placement.sharing", "Exclusive", "Shared", {"placement": {"sharing": "Shared"}}, replace(m, shared_ok=True))
    if kind == bars.RESTRICTED:
        own = tuple(_allowed(o, pool) if o.model == m.name else o for o in s.options)
        change = f"{at} placement.pools or placement.profiles: allow {pool}"
        return change, f"kubectl edit mdep {m.name.rsplit('/', 1)[-1]}{namespace(m.name)}", replace(s, options=own)
    return None


def _allowed(option: Option, pool: str) -> Option:
    pools = option.pools if not option.pools or pool in option.pools else tuple(sorted({*option.pools, pool}))
    return replace(option, pools=pools, excluded_pools=tuple(p for p in option.excluded_pools if p != pool))


def _by_verdict(live: Live, model: str) -> list[Relaxation]:
    """Options that are there and may not serve yet: another profile, or another size of one that serves."""
    sizes = {(o.profile, o.devices) for o in live.options_of[model] if o.eligible}
    found: list[Relaxation] = []
    name = model.rsplit("/", 1)[-1]
    for o in live.options_of[model]:
        if o.eligible:
            continue
        own = replace(o, eligible=True)
        if not serves(live, own):
            continue
        with trial(live, model, options=[own]) as tried:
            if not tried.mine:
                continue
            here = sorted(size for profile, size in sizes if profile == o.profile and size != o.devices)
            change = f"mdep/{name}: let {o.profile} serve with {o.devices} devices (no verdict yet)"
            if here:
                change = f"mdep/{name} runtime.parallelism.tensor on {o.profile} {here[0]}->{o.devices} (no verdict yet)"
            options = tuple(own if each.id == o.id else each for each in live.snapshot.options)
            command = f"kubectl polyfleet accuracy run {name}{namespace(model)}"
            changed = replace(live.snapshot, options=options)
            found.append(Relaxation(FREE, change, command, changed, "", tried.cost, tried.devices, lack(live, model)))
    return found


def cents(money: float) -> float:
    """The least amount of whole cents that is enough."""
    return math.ceil(money * 100 - 1e-6) / 100


def patch(kind: str, name: str, spec: dict[str, object]) -> str:
    return f"kubectl patch {kind} {name} --type merge -p '{json.dumps({'spec': spec}, separators=(',', ':'))}'"


def patch_model(model: str, spec: dict[str, object]) -> str:
    return patch("mdep", model.rsplit("/", 1)[-1] + namespace(model), spec)


def with_model(snapshot: Snapshot, changed: Model) -> Snapshot:
    return replace(snapshot, models=tuple(changed if m.name == changed.name else m for m in snapshot.models))


def _policy(snapshot: Snapshot, change: Callable[[Policy], Policy]) -> Snapshot:
    return replace(snapshot, policy=change(snapshot.policy))


def _cells(snapshot: Snapshot, pool: str, change: Callable[[Cell], Cell]) -> Snapshot:
    return replace(snapshot, cells=tuple(change(c) if c.pool == pool else c for c in snapshot.cells))


def _at_least(limit: int | None, least: int) -> int | None:
    return None if limit is None else max(limit, least)
