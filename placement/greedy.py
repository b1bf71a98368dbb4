"""The last resort: no solver, no moves, no preemption. Keeps what runs, stops what is above the maximum, fills by rank and price, best
fit.

It obeys every rule that `check` knows, one start at a time, so that each prefix of its work is a legal plan.
"""

from __future__ import annotations

from collections import Counter

from placement.bind import Room, rooms_of
from placement.nodes import blocks_of
from placement.problem import Problem, Way

Placed = tuple[tuple[int, ...], tuple[int, ...], dict[int, dict[str, dict[int, int]]]]


def place(problem: Problem, *, keep_only: bool = False) -> Placed:
    """Starts per way, stops per group, and the cut of each node that they use."""
    starts = [0] * len(problem.ways)
    stops = [0] * len(problem.groups)
    cut: dict[int, dict[str, dict[int, int]]] = {}
    if keep_only:
        return tuple(starts), tuple(stops), cut
    _shrink(problem, stops)
    books = _Books(problem, stops)
    rooms = rooms_of(problem, tuple(0 for _ in stops))
    order = sorted(range(len(problem.models)), key=lambda m: (problem.rank[m], problem.models[m].name))
    for m in order:
        ways = [w for w in problem.ways if w.model == m]
        ways.sort(key=lambda w: (w.cost / w.work if w.work and problem.wants[m].work else w.cost, w.size, w.index))
        while books.wants_more(m):
            chosen = next(((w, r) for w in ways if books.allows(w) and (r := _best_fit(problem, w, rooms)) is not None), None)
            if chosen is None:
                break
            way, room = chosen
            blocks = blocks_of(problem.cells[way.cell], way.size)
            room.take(way.size, blocks)
            books.start(way)
            starts[way.index] += 1
            if blocks:
                here = cut.setdefault(way.cell, {}).setdefault(room.bin.node, {})
                here[blocks] = here.get(blocks, 0) + 1
    return tuple(starts), tuple(stops), cut


def _shrink(problem: Problem, stops: list[int]) -> None:
    for m, want in enumerate(problem.wants):
        over = want.running - want.maximum
        for g in sorted((g for g in problem.groups if g.model == m and g.stoppable), key=lambda g: (g.preference, -g.cost, g.index)):
            if over <= 0:
                break
            stops[g.index] = min(len(g.ids), over)
            over -= stops[g.index]


def _best_fit(problem: Problem, way: Way, rooms: dict[int, list[Room]]) -> Room | None:
    cell = problem.cells[way.cell]
    blocks = blocks_of(cell, way.size)
    fits = [r for r in rooms.get(way.cell, []) if r.fits(way.size, blocks) and r.bin.takes(cell, way.size)]
    return min(fits, key=lambda r: (not r.fits_now(way.size, blocks), r.blocks if blocks else r.free, r.bin.node), default=None)


class _Books:
    """Running sums for every rule, asked before each start."""

    def __init__(self, problem: Problem, stops: list[int]) -> None:
        self.p = problem
        self.count: Counter[int] = Counter()
        self.by_vendor: Counter[tuple[int, str]] = Counter()
        self.pool_used: Counter[str] = Counter()
        self.work = [0.0] * len(problem.models)
        self.cost = [0.0] * len(problem.models)
        for g in problem.groups:
            left = len(g.ids) - stops[g.index]
            self.count[g.model] += left
            self.by_vendor[(g.model, g.vendor)] += left
            self.work[g.model] += g.work * left
            self.cost[g.model] += g.cost * left
            if g.cell is not None:
                self.pool_used[problem.cells[g.cell].pool] += g.devices * left
        self.pool_free: Counter[str] = Counter()
        for b in problem.bins:
            self.pool_free[problem.cells[b.cell].pool] += b.free

    def wants_more(self, m: int) -> bool:
        want = self.p.wants[m]
        if self.p.models[m].hold or self.count[m] >= want.maximum:
            return False
        return self.count[m] < want.minimum or self.work[m] < want.work - 1e-9

    def allows(self, way: Way) -> bool:
        model, policy = self.p.models[way.model], self.p.snapshot.policy
        pool = self.p.cells[way.cell].pool
        cells = [c for c in self.p.cells if c.pool == pool]
        limits = [c.limit_devices for c in cells if c.limit_devices is not None]
        if limits and self.pool_used[pool] + way.size > min(limits):
            return False
        reserve = max(c.reserve_devices for c in cells)
        if reserve and self.pool_free[pool] - way.size < reserve:
            return False
        if way.cost > 0:
            if model.max_hourly_cost is not None and self.cost[way.model] + way.cost > model.max_hourly_cost + 1e-9:
                return False
            if policy.max_hourly_cost is not None and sum(self.cost) + way.cost > policy.max_hourly_cost + 1e-9:
                return False
        return self._spread(way)

    def _spread(self, way: Way) -> bool:
        model = self.p.models[way.model]
        count = self.count[way.model] + 1
        vendors = {v for (m, v), n in self.by_vendor.items() if m == way.model and n > 0} | {way.vendor}
        if len(vendors) < min(model.min_vendors, count):
            return False
        share = model.max_vendor_share_percent
        if share is None or share >= 100:
            return True
        return 100 * (self.by_vendor[(way.model, way.vendor)] + 1 - 1) <= share * (count - 1)

    def start(self, way: Way) -> None:
        self.count[way.model] += 1
        self.by_vendor[(way.model, way.vendor)] += 1
        self.work[way.model] += way.work
        self.cost[way.model] += way.cost
        pool = self.p.cells[way.cell].pool
        self.pool_used[pool] += way.size
        self.pool_free[pool] -= way.size
