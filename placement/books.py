"""Running sums for every rule, asked before each start of the greedy placer: each question is answered in constant time."""

from __future__ import annotations

from collections import Counter

from placement.problem import Problem
from placement.quota import cohorts, profile_of
from placement.types import Spread


class Books:
    """What is kept and what was started so far. `lending`: whether a tenant may hold devices that other quotas leave idle."""

    def __init__(self, problem: Problem, stops: list[int]) -> None:
        self.p = problem
        self.lending = False
        self.count: Counter[int] = Counter()
        self.by_vendor: list[Counter[str]] = [Counter() for _ in problem.models]
        self.by_domain: list[Counter[str]] = [Counter() for _ in problem.models]
        self.pool_used: Counter[str] = Counter()
        self.pool_free: Counter[str] = Counter()
        self.limit: dict[str, int] = {}
        self.reserve: dict[str, int] = {}
        self.cost = [0.0] * len(problem.models)
        self.total = 0.0
        self.cohorts = cohorts(problem.snapshot.policy.quotas)
        self.quota_used = [[0] * len(cohort) for cohort in self.cohorts]
        self._lent = [any(q.borrow for q in cohort) for cohort in self.cohorts]  # others may hold what one's own quota allows
        self._counting: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for cell in problem.cells:
            self.reserve[cell.pool] = max(self.reserve.get(cell.pool, 0), cell.reserve_devices)
            if cell.limit_devices is not None:
                self.limit[cell.pool] = min(self.limit.get(cell.pool, cell.limit_devices), cell.limit_devices)
        running = [0] * len(self.cohorts)
        for g in problem.groups:
            left = len(g.ids) - stops[g.index]
            self.count[g.model] += left
            self.by_vendor[g.model][g.vendor] += left
            self.by_domain[g.model][g.domain] += left
            self.cost[g.model] += g.cost * left
            self.total += g.cost * left
            if g.cell is not None:
                self.pool_used[problem.cells[g.cell].pool] += g.devices * left
            for c, q in self._quotas(g.model, profile_of(problem, g)):
                self.quota_used[c][q] += g.devices * left
                running[c] += g.devices * len(g.ids)
        for c, cohort in enumerate(self.cohorts):
            # What runs above the sum already may shrink; until it has, everybody may fill its own.
            self._lent[c] = self._lent[c] and running[c] <= sum(q.devices for q in cohort)
        for b in problem.bins:
            self.pool_free[problem.cells[b.cell].pool] += b.free

    def _quotas(self, m: int, profile: str) -> list[tuple[int, int]]:
        """(cohort, quota) that count this model's devices of a profile."""
        key = (self.p.models[m].tenant, profile)
        if key not in self._counting:
            self._counting[key] = [
                (c, i)
                for c, cohort in enumerate(self.cohorts)
                for i, q in enumerate(cohort)
                if q.tenant == key[0] and (not q.profiles or profile in q.profiles)
            ]
        return self._counting[key]

    def allows(self, option: int, cell: int) -> bool:
        """Whether one more replica breaks no rule. Node space is not looked at here."""
        p = self.p
        what, where, m = p.options[option], p.cells[cell], p.model_of[option]
        size, pool = what.devices, where.pool
        if pool in self.limit and self.pool_used[pool] + size > self.limit[pool]:
            return False
        if self.reserve[pool] and self.pool_free[pool] - size < self.reserve[pool]:
            return False
        for c, i in self._quotas(m, where.profile):
            quota, used = self.cohorts[c][i], self.quota_used[c]
            most = sum(q.devices for q in self.cohorts[c])
            within = sum(used) + size <= most
            if used[i] + size > quota.devices:
                if not (self.lending and quota.borrow and within):
                    return False
            elif self._lent[c] and not within:
                return False
        return self._money(m, where.cost_per_device_hour * size) and self._spread(m, what.vendor, where.failure_domain)

    def _money(self, m: int, cost: float) -> bool:
        model, fleet = self.p.models[m].max_hourly_cost, self.p.snapshot.policy.max_hourly_cost
        if cost <= 0:
            return True
        if model is not None and self.cost[m] + cost > model + 1e-9:
            return False
        return fleet is None or self.total + cost <= fleet + 1e-9

    def _spread(self, m: int, vendor: str, domain: str) -> bool:
        model, others = self.p.models[m], self.count[m]
        if model.min_vendors > 1:
            vendors = {v for v, n in self.by_vendor[m].items() if n > 0} | {vendor}
            if len(vendors) < min(model.min_vendors, others + 1):
                return False
        share = model.max_vendor_share_percent
        if share is not None and share < 100 and 100 * self.by_vendor[m][vendor] > share * others:
            return False
        return model.spread is not Spread.STRICT or 100 * self.by_domain[m][domain] <= model.max_domain_share_percent * others

    def start(self, option: int, cell: int) -> None:
        p = self.p
        what, where, m = p.options[option], p.cells[cell], p.model_of[option]
        cost = where.cost_per_device_hour * what.devices
        self.count[m] += 1
        self.by_vendor[m][what.vendor] += 1
        self.by_domain[m][where.failure_domain] += 1
        self.cost[m] += cost
        self.total += cost
        self.pool_used[where.pool] += what.devices
        self.pool_free[where.pool] -= what.devices
        for c, i in self._quotas(m, where.profile):
            self.quota_used[c][i] += what.devices
