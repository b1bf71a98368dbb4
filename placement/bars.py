"""Which rule forbids one more replica, and how much is left under it.

`bar` asks the rules in the order of the interface's reasons: allow-lists, unknown stock, sharing, cordon, budgets, quotas, maximum and
spread, limit and reserve of the pool. Free devices are not looked at here (`free`). Rules in `lift` are passed over: so what-if finds out
which rule is in the way. A rule of a pool or a quota carries its name: `limit/POOL`, `quota/TENANT`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from placement.live import Live
from placement.types import Cell, Model, Option, Quota, Reason, Spread, Stock

RESTRICTED, UNKNOWN, SHARED, CORDONED = "restricted", "unknown", "shared", "cordoned"
MODEL_BUDGET, BUDGET, QUOTA = "model-budget", "budget", "quota"
MAXIMUM, MIN_VENDORS, VENDOR_SHARE, DOMAIN_SHARE = "maximum", "min-vendors", "vendor-share", "domain-share"
LIMIT, RESERVE = "limit", "reserve"
REASONS = {
    RESTRICTED: Reason.POOL_RESTRICTED,
    UNKNOWN: Reason.INVENTORY_UNKNOWN,
    SHARED: Reason.SHARED_DEVICES,
    CORDONED: Reason.POOL_CORDONED,
    MODEL_BUDGET: Reason.BUDGET_EXCEEDED,
    BUDGET: Reason.BUDGET_EXCEEDED,
    QUOTA: Reason.QUOTA_EXCEEDED,
    MAXIMUM: Reason.SLO_UNREACHABLE,
    MIN_VENDORS: Reason.SPREAD_UNSATISFIED,
    VENDOR_SHARE: Reason.SPREAD_UNSATISFIED,
    DOMAIN_SHARE: Reason.SPREAD_UNSATISFIED,
    LIMIT: Reason.DEVICES_UNAVAILABLE,
    RESERVE: Reason.DEVICES_UNAVAILABLE,
}
EPS = 1e-9


@dataclass(frozen=True, slots=True)
class Bar:
    """A rule in the way: its name, what is left under it and its number."""

    rule: str
    left: float = 0.0
    limit: float = 0.0

    @property
    def kind(self) -> str:
        return self.rule.split("/", 1)[0]

    @property
    def reason(self) -> Reason:
        return REASONS[self.kind]


def quota_name(quota: Quota) -> str:
    """As its row is named: `quota/TENANT[/PROFILE,...]`."""
    return f"quota/{quota.tenant}/{','.join(quota.profiles)}" if quota.profiles else f"quota/{quota.tenant}"


def limit_left(live: Live, pool: str) -> int | None:
    """Devices that may still start under the pool's limit; None = no limit."""
    limit = live.limit[pool]
    return None if limit is None else limit - live.pool_used[pool]


def reserve_left(live: Live, pool: str) -> int | None:
    """Devices that may still start above the pool's reserve; None = no reserve."""
    reserve = live.reserve[pool]
    return sum(live.free.total(i) for i in live.pool_cells[pool]) - reserve if reserve else None


def quota_left(live: Live, index: int) -> int:
    """Devices that the tenant may still take under this quota; with `borrow` also what others of the same profiles leave idle."""
    quota = live.quotas[index]
    left = quota.devices - live.quota_used[index]
    if quota.borrow:
        for i, q in enumerate(live.quotas):
            if q.tenant != quota.tenant and q.profiles == quota.profiles:
                left += q.devices - live.quota_used[i]
    return left


def bar(live: Live, option: Option, cell: int, *, lift: Collection[str] = (), reserve: bool = True) -> Bar | None:
    """The first rule that forbids one more replica of the option in the cell; None = only devices are asked."""
    where, model = live.cells[cell], live.models[option.model]
    closed = _closed(option, model, where, lift)
    if closed is not None:
        return Bar(closed)
    return _money(live, option, model, cell, lift) or _spread(live, option, model, where, lift) or _pool(live, option, where, lift, reserve)


def _closed(option: Option, model: Model, where: Cell, lift: Collection[str]) -> str | None:
    if (
        (option.pools and where.pool not in option.pools) or where.pool in option.excluded_pools
    ) and f"{RESTRICTED}/{where.pool}" not in lift:
        return f"{RESTRICTED}/{where.pool}"
    if where.stock is Stock.UNKNOWN:
        return f"{UNKNOWN}/{where.pool}"
    if where.shared and not model.shared_ok and SHARED not in lift:
        return SHARED
    if not where.schedulable and f"{CORDONED}/{where.pool}" not in lift:
        return f"{CORDONED}/{where.pool}"
    return None


def _money(live: Live, option: Option, model: Model, cell: int, lift: Collection[str]) -> Bar | None:
    cost = live.price(option, cell)
    most, fleet = model.max_hourly_cost, live.snapshot.policy.max_hourly_cost
    if cost > 0 and most is not None and live.cost[model.name] + cost > most + EPS and MODEL_BUDGET not in lift:
        return Bar(MODEL_BUDGET, most - live.cost[model.name], most)
    if cost > 0 and fleet is not None and live.total_cost + cost > fleet + EPS and BUDGET not in lift:
        return Bar(BUDGET, fleet - live.total_cost, fleet)
    for index in live.quotas_for(model.name, option.profile):
        left = quota_left(live, index)
        if left < option.devices and quota_name(live.quotas[index]) not in lift:
            return Bar(quota_name(live.quotas[index]), left, live.quotas[index].devices)
    return None


def _spread(live: Live, option: Option, model: Model, where: Cell, lift: Collection[str]) -> Bar | None:
    count = live.count(model.name) + 1
    if count > model.max_replicas and MAXIMUM not in lift:
        return Bar(MAXIMUM, 0, model.max_replicas)
    vendors = live.vendors[model.name]
    if model.min_vendors > 1 and MIN_VENDORS not in lift:
        distinct = sum(1 for n in vendors.values() if n > 0) + (vendors[option.vendor] <= 0)
        if distinct < min(model.min_vendors, count):
            return Bar(MIN_VENDORS, distinct, model.min_vendors)
    share = model.max_vendor_share_percent
    if share is not None and VENDOR_SHARE not in lift and 100 * vendors[option.vendor] > share * (count - 1):
        return Bar(VENDOR_SHARE, 0, share)
    if model.spread is Spread.STRICT and DOMAIN_SHARE not in lift:
        here = live.domains[model.name][where.failure_domain]
        if 100 * here > model.max_domain_share_percent * (count - 1):
            return Bar(DOMAIN_SHARE, 0, model.max_domain_share_percent)
    return None


def _pool(live: Live, option: Option, where: Cell, lift: Collection[str], reserve: bool) -> Bar | None:
    left = limit_left(live, where.pool)
    if left is not None and left < option.devices and f"{LIMIT}/{where.pool}" not in lift:
        return Bar(f"{LIMIT}/{where.pool}", left, live.limit[where.pool] or 0)
    kept = reserve_left(live, where.pool) if reserve else None
    if kept is not None and kept < option.devices and f"{RESERVE}/{where.pool}" not in lift:
        return Bar(f"{RESERVE}/{where.pool}", kept, live.reserve[where.pool])
    return None
