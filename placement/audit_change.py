"""Recount of who is moved: the moves of this hour, replicas that are too young to go, and those of pools whose own scheduler chooses
nodes, which nobody plans to move. Shares no code with the planner.

All bind what is done for money. What serves somebody is exempt: more moves than are left need a model that was short before and is served
better, so does a move out of such a pool, and a young replica goes for a model of higher priority. Only models that change can be served
better. Where it takes a program to tell (work in several buckets on several options) the benefit of the doubt is the plan's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from placement.audit_world import World
from placement.types import Demand, Model, ModelDemand, Option, Spread

NEAR = 1e-6
Counts = Mapping[str, int]


def change_faults(world: World, demand: Demand) -> list[str]:
    return [*_moves(world, demand), *_residence(world), *_rooted(world, demand)]


def _moves(w: World, demand: Demand) -> list[str]:
    most = w.snapshot.policy.max_moves
    if most is None:
        return []
    stopped = Counter(w.replicas[name].model for name in w.plan.stop)
    started = Counter(s.model for s in w.plan.starts)
    moves = sum(min(n, started[m]) for m, n in stopped.items())
    if moves <= most:
        return []
    better = _Better(w, demand)
    if any(better.served(w.models[m]) for m in sorted(started)):
        return []
    return [f"moves: {moves}, at most {most} are left, and nobody who was short is served better"]


def _residence(w: World) -> list[str]:
    """For a model of higher priority, for a tenant that takes back what it lent, or above the maximum."""
    started = {s.model for s in w.plan.starts}
    lends = any(q.borrow for q in w.snapshot.policy.quotas)
    highest = max((w.models[m].priority for m in started), default=None)
    found = []
    for name in w.plan.stop:
        r = w.replicas[name]
        model = w.models[r.model]
        if not r.resident or len(w.running[model.name]) > model.max_replicas:
            continue
        others = lends and any(m != model.name for m in started)
        if not others and (highest is None or highest <= model.priority):
            found.append(f"replica {name}: stopped, but it is younger than its residence and nobody of higher priority starts")
    return found


def _rooted(w: World, demand: Demand) -> list[str]:
    """A replica of a pool that chooses its nodes itself goes where its model shrinks, and where somebody is served better for it."""
    started = Counter(s.model for s in w.plan.starts)
    loose: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for name in w.plan.stop:
        cell = w.cell_of(w.replicas[name])
        (others if cell is None or cell.exact_nodes else loose)[w.replicas[name].model] += 1
    moved = {m: k for m, n in sorted(loose.items()) if (k := min(n, started[m] - others[m])) > 0}
    if not moved:
        return []
    better = _Better(w, demand)
    if any(better.served(w.models[m]) for m in sorted(started)):
        return []
    text = "in a pool that chooses its own nodes, are started elsewhere, and nobody who was short is served better"
    return [f"{m}: {n} replicas stop {text}" for m, n in moved.items()]


class _Better:
    """Whether a model was short with what ran and has more now."""

    def __init__(self, world: World, demand: Demand) -> None:
        self.w = world
        self.asked: dict[str, list[ModelDemand]] = defaultdict(list)
        for d in demand.models:
            self.asked[d.model].append(d)
        self.options: dict[str, list[Option]] = defaultdict(list)
        for o in world.snapshot.options:
            self.options[o.model].append(o)
        stopped = set(world.plan.stop)
        self.before: dict[str, Counter[str]] = defaultdict(Counter)
        self.after: dict[str, Counter[str]] = defaultdict(Counter)
        for name, running in world.running.items():
            self.before[name] = Counter(r.option or "" for r in running)
            self.after[name] = Counter(r.option or "" for r in running if r.id not in stopped)
        for s in world.plan.starts:
            self.after[s.model][s.option] += 1

    def served(self, model: Model) -> bool:
        before, after = self.before[model.name], self.after[model.name]
        if before.total() < model.min_replicas and after.total() > before.total():
            return True
        return self._spread_was_broken(model) or any(self._entry(model, d, before, after) for d in self.asked[model.name])

    def _entry(self, model: Model, asked: ModelDemand, before: Counts, after: Counts) -> bool:
        mine = [o for o in self.options[model.name] if o.role == asked.role]
        tokens = [sum((o.kv_tokens or 0.0) * have.get(o.id, 0) for o in mine) for have in (before, after)]
        if tokens[0] < asked.kv_floor * (1.0 - NEAR) and tokens[1] > tokens[0]:
            return True
        loads = asked.loads
        if sum(loads) <= 0 or not any(after.get(o.id, 0) > before.get(o.id, 0) for o in mine):
            return False
        if len(loads) == 1:
            work = [sum(o.rates(1)[0] * have.get(o.id, 0) for o in mine) for have in (before, after)]
            return work[0] < loads[0] * (1.0 - NEAR) and work[1] > work[0]
        return not _carries(loads, [(o.rates(len(loads)), before.get(o.id, 0)) for o in mine])

    def _spread_was_broken(self, model: Model) -> bool:
        vendors: Counter[str] = Counter()
        zones: Counter[str] = Counter()
        options = {o.id: o for o in self.options[model.name]}
        for r in self.w.running.get(model.name, []):
            cell, option = self.w.cell_of(r), options.get(r.option or "")
            vendors[option.vendor if option is not None else "" if cell is None else cell.vendor] += 1
            zones["" if cell is None else cell.failure_domain] += 1
        total = vendors.total()
        share, zone_share = model.max_vendor_share_percent, model.max_domain_share_percent
        return (
            len(vendors) < min(model.min_vendors, total)
            or (share is not None and any(100 * (n - 1) > share * (total - 1) for n in vendors.values()))
            or (model.spread is Spread.STRICT and any(100 * (n - 1) > zone_share * (total - 1) for n in zones.values()))
        )


def _carries(loads: tuple[float, ...], supply: list[tuple[tuple[float, ...], int]]) -> bool:
    """Whether a simple routing carries everything: buckets that few serve first, each by who serves fewest buckets."""
    left = [float(n) for _, n in supply]
    able = {b: [i for i, (rates, n) in enumerate(supply) if n and rates[b] > 0] for b, load in enumerate(loads) if load > 0}
    for b in sorted(able, key=lambda b: (len(able[b]), b)):
        rest = loads[b]
        for i in sorted(able[b], key=lambda i: (sum(r > 0 for r in supply[i][0]), i)):
            take = min(rest, left[i] * supply[i][0][b])
            left[i] -= take / supply[i][0][b]
            rest -= take
        if rest > NEAR * loads[b]:
            return False
    return True
