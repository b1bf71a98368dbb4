"""Nodes, quotas and zones for the baselines: takes replicas one by one, best fit. Not the placer's code."""

from __future__ import annotations

from collections import defaultdict

from placement.types import Option, Snapshot, Spread


class Room:
    """What is left of a fleet. Nodes of a profile are kept by their free devices, so that best fit needs no search."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.cell = {c.name: c for c in snapshot.cells}
        self.models = {m.name: m for m in snapshot.models}
        self.node = {n.name: n for n in snapshot.nodes}
        self.free = {n.name: n.allocatable - n.held_by_others for n in snapshot.nodes}
        self.quota = {q.tenant: q.devices for q in snapshot.policy.quotas}
        self.zones: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.by_free: dict[tuple[str, str], dict[int, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
        self.domains: dict[str, list[str]] = defaultdict(list)
        for n in sorted(snapshot.nodes, key=lambda n: n.name):
            c = self.cell[n.cell]
            self.by_free[c.profile, c.failure_domain][self.free[n.name]][n.name] = None
        for c in snapshot.cells:
            self.domains[c.profile].append(c.failure_domain)
        self.zones_of = {p: sorted(set(z)) for p, z in self.domains.items()}
        self.placed: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.cost = 0.0

    def take(self, option: Option) -> bool:
        """One replica more, if a node, the quota and the model's spread allow it."""
        model = self.models[option.model]
        if self.quota.get(model.tenant, option.devices) < option.devices:
            return False
        allowed = [z for z in self.zones_of.get(option.profile, ()) if self._spreads(option.model, z)]
        names = self._one(option, allowed) if option.span == 1 else self._several(option, allowed)
        if not names:
            return False
        each = option.devices // option.span
        for name in names:
            self._set(name, self.free[name] - each)
        first = self.cell[self.node[names[0]].cell]
        self.zones[option.model][first.failure_domain] += 1
        if model.tenant in self.quota:
            self.quota[model.tenant] -= option.devices
        self.placed[option.model][option.id] += 1
        self.cost += option.devices * first.cost_per_device_hour
        return True

    def chunks(self, profile: str, size: int) -> int:
        """Replicas of `size` devices that the profile's free nodes hold: parts of nodes, or whole nodes of one cell."""
        total = 0
        whole: dict[str, int] = defaultdict(int)
        for zone in self.zones_of.get(profile, ()):
            for free, names in self.by_free[profile, zone].items():
                total += free // size * len(names)
                if 0 < free < size:
                    for name in names:
                        if self.node[name].installed == free:
                            whole[self.node[name].cell] += free
        return total + sum(devices // size for devices in whole.values())

    def _spreads(self, name: str, zone: str) -> bool:
        """Whether the model keeps its spread, now or with its next replica elsewhere: a first replica may stand anywhere."""
        model, mine = self.models[name], self.zones[name]
        if model.spread is not Spread.STRICT:
            return True
        return mine[zone] + 1 <= 1 + sum(mine.values()) * model.max_domain_share_percent / 100 + 1e-9

    def _one(self, option: Option, zones: list[str]) -> list[str]:
        best: tuple[int, str] | None = None
        for z in zones:
            levels = self.by_free[option.profile, z]
            for free in sorted(f for f, names in levels.items() if f >= option.devices and names):
                if best is None or free < best[0]:
                    best = free, next(iter(levels[free]))
                break
        return [best[1]] if best else []

    def _several(self, option: Option, zones: list[str]) -> list[str]:
        each = option.devices // option.span
        for z in zones:
            whole: dict[str, list[str]] = defaultdict(list)
            for name in self.by_free[option.profile, z].get(each, {}):
                if self.node[name].installed == each:
                    whole[self.node[name].cell].append(name)
            for cell in sorted(whole):
                if len(whole[cell]) >= option.span:
                    return whole[cell][: option.span]
        return []

    def _set(self, name: str, free: int) -> None:
        c = self.cell[self.node[name].cell]
        levels = self.by_free[c.profile, c.failure_domain]
        del levels[self.free[name]][name]
        self.free[name] = free
        levels[free][name] = None
