"""The first incumbent and the last resort: no solver, no moves, no preemption. Keeps what runs, stops what is above the maximum, then
serves models one after the other: by rank, then by regret (how much dearer a model's second choice is than its first), each by its cheapest
recipe that still finds room, best fit.

A *recipe* is a number of replicas per option that carries the whole demand: one option alone, or each length bucket by whoever serves it
cheapest. What a recipe cannot place, the next one places. It obeys every rule that `check` knows, one start at a time, so that each prefix
of its work is a legal plan. Where quotas lend, everybody's own quota is used first, borrowed devices only after that.

Starts cost the logarithm of a cell's nodes. Ways that it uses and the problem lacks are appended to `problem.ways`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from placement.books import Books
from placement.coverage import tot
from placement.problem import Problem, cells_by_profile, refusal, way
from placement.rooms import BindError, Rooms, room_of
from placement.shapes import blocks_of, request
from placement.share import Kind, share
from placement.types import Spread

Cut = dict[int, dict[str, dict[int, int]]]
Placed = tuple[tuple[int, ...], tuple[int, ...], Cut]
NEAR = 1e-9


def place(problem: Problem, *, keep_only: bool = False) -> Placed:
    """Starts per way, stops per group, and the cut of each node that they use (cell -> node -> size in blocks -> count)."""
    stops = [0] * len(problem.groups)
    if keep_only:
        return (0,) * len(problem.ways), tuple(stops), {}
    _shrink(problem, stops)
    run = _Run(problem, stops)
    run.round(lending=False)
    if any(q.borrow for q in problem.snapshot.policy.quotas):
        run.round(lending=True)
    starts = [0] * len(problem.ways)
    for i, n in run.starts.items():
        starts[i] = n
    return tuple(starts), tuple(stops), run.cut


def _shrink(problem: Problem, stops: list[int]) -> None:
    for m, want in enumerate(problem.wants):
        over = want.running - want.maximum
        if over <= 0:
            continue
        mine = [g for i in problem.groups_of[m] if (g := problem.groups[i]).stoppable]
        for g in sorted(mine, key=lambda g: (g.resident, g.preference, -g.cost, g.index)):
            stops[g.index] = min(len(g.ids), max(0, over))
            over -= stops[g.index]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Replicas per option for the whole demand, as fractions."""

    price: float
    parts: tuple[tuple[int, float], ...]


@dataclass(slots=True)
class _Run:
    problem: Problem
    stops: list[int]
    starts: Counter[int] = field(default_factory=Counter)
    cut: Cut = field(default_factory=dict)

    books: Books = field(init=False)
    cells: dict[str, list[int]] = field(init=False)
    ways: dict[tuple[int, int], int] = field(init=False)
    rooms: dict[int, Rooms] = field(default_factory=dict)
    nothing: tuple[int, ...] = ()  # what stops is not given to others: a plan without a solver waits for nobody
    full: set[tuple[int, int, int]] = field(default_factory=set)  # (cell, devices on one node, nodes) that no longer fit
    open: dict[int, list[int]] = field(default_factory=dict)
    alike: dict[tuple[object, ...], list[int]] = field(default_factory=dict)  # the same for options that every cell treats alike
    recipes: list[list[Recipe]] = field(default_factory=list)
    supply: list[Counter[Kind]] = field(default_factory=list)

    def __post_init__(self) -> None:
        problem = self.problem
        self.books = Books(problem, self.stops)
        self.nothing = (0,) * len(problem.groups)
        self.cells = cells_by_profile(problem)
        self.ways = {(w.option, w.cell): w.index for w in problem.ways}
        self.recipes = [self._recipes(m) for m in range(len(problem.models))]
        self.supply = [Counter() for _ in problem.models]
        for g in problem.groups:
            kind = problem.kind_of(g)
            if kind is not None:
                self.supply[g.model][kind] += len(g.ids) - self.stops[g.index]

    def round(self, *, lending: bool) -> None:
        self.books.lending = lending
        models = self.problem.models
        order = sorted(range(len(models)), key=lambda m: (self.problem.rank[m], -self._regret(m), models[m].name))
        for m in order:
            if not models[m].hold:
                self._serve(m)

    def _regret(self, m: int) -> float:
        prices = [r.price for r in self.recipes[m]]
        return inf if len(prices) < 2 else prices[1] - prices[0]

    # ---- recipes

    def _recipes(self, m: int) -> list[Recipe]:
        """Cheapest first. Without demand for work: one replica of each option."""
        problem, want = self.problem, self.problem.wants[m]
        mine = [o for o in problem.options_of[m] if problem.options[o].eligible and self._cells(o)]
        if not want.needs.any:
            found = [Recipe(self._cost(o), ((o, 1.0),)) for o in mine]
        else:
            found = [Recipe(n * self._cost(o), ((o, n),)) for o in mine if (n := self._alone(m, o)) < inf]
            if len(want.needs.loads) > 1 and len(mine) > 1:
                found += self._mixed(m, mine)
        size = {o: problem.options[o].devices for o in mine}
        # In a fleet whose devices cost nothing, the fewest of them.
        return sorted(found, key=lambda r: (r.price, sum(n * size[o] for o, n in r.parts), r.parts))

    def _cells(self, option: int) -> list[int]:
        """Cells that may take it, cheapest first."""
        if option not in self.open:
            problem = self.problem
            what, m = problem.options[option], problem.model_of[option]
            model, works = problem.models[m], problem.wants[m].work > 0
            # All that `refusal` reads of an option and its model.
            idle = works and not any(what.bucket_work or (what.work_per_s or 0.0,))
            kind = (what.profile, what.devices, what.span, what.pools, what.excluded_pools, what.eligible, model.shared_ok, idle)
            if kind not in self.alike:
                found = [
                    c
                    for c in self.cells.get(what.profile, [])
                    if problem.bins_of[c] and refusal(what, model, problem.cells[c], works) is None
                ]
                self.alike[kind] = sorted(found, key=lambda c: (problem.cells[c].cost_per_device_hour, c))
            self.open[option] = self.alike[kind]
        return self.open[option]

    def _cost(self, option: int) -> float:
        return self.problem.cells[self._cells(option)[0]].cost_per_device_hour * self.problem.options[option].devices

    def _alone(self, m: int, option: int) -> float:
        needs = self.problem.wants[m].needs
        rates, tokens, _ = self.problem.kinds[option]
        kv = [floor / t if t > 0 else inf for floor, t in zip(needs.floors, tokens, strict=True)]
        return max([tot(needs.loads, rates), *kv])

    def _mixed(self, m: int, mine: list[int]) -> list[Recipe]:
        """Each bucket by the option that serves it cheapest: the optimum, were replicas divisible."""
        needs = self.problem.wants[m].needs
        count: dict[int, float] = {}
        for b, load in enumerate(needs.loads):
            if load > 0:
                able = [o for o in mine if self.problem.kinds[o][0][b] > 0]
                if not able:
                    return []
                best = min(able, key=lambda o: (self._cost(o) / self.problem.kinds[o][0][b], self.problem.options[o].devices, o))
                count[best] = count.get(best, 0.0) + load / self.problem.kinds[best][0][b]
        for i, floor in enumerate(needs.floors):
            lack = floor - sum(ceil(n) * self.problem.kinds[o][1][i] for o, n in count.items())
            holders = [o for o in mine if self.problem.kinds[o][1][i] > 0]
            if lack > 0 and holders:
                best = min(holders, key=lambda o: (self._cost(o) / self.problem.kinds[o][1][i], o))
                count[best] = count.get(best, 0.0) + lack / self.problem.kinds[best][1][i]
        if len(count) < 2:
            return []
        return [Recipe(sum(n * self._cost(o) for o, n in count.items()), tuple(sorted(count.items())))]

    # ---- serving

    def _serve(self, m: int) -> None:
        problem, want = self.problem, self.problem.wants[m]
        if want.needs.any:
            networks: Sequence[str | None] = [None]
            if want.needs.half:
                cells = {c for recipe in self.recipes[m] for o, _ in recipe.parts for c in self._cells(o)}
                networks = sorted({problem.cells[c].network_domain for c in cells})
            for network in networks:
                for recipe in self.recipes[m]:
                    left = 1.0 - share(want.needs, self.supply[m])
                    if left <= NEAR:
                        break
                    for option, whole in recipe.parts:
                        self._start(m, option, ceil(whole * left - 1e-6), network)
        for recipe in self.recipes[m]:
            for option, _ in recipe.parts:
                if self.books.count[m] < want.minimum:
                    self._start(m, option, want.minimum - self.books.count[m], None)

    def _start(self, m: int, option: int, count: int, network: str | None) -> None:
        problem, books = self.problem, self.books
        cells = [c for c in self._cells(option) if network is None or problem.cells[c].network_domain == network]
        size, span = request(problem.options[option]), problem.options[option].span
        full = -1
        for _ in range(min(count, problem.wants[m].maximum - books.count[m])):
            if full != len(self.full):
                full = len(self.full)
                cells = [c for c in cells if (c, size, span) not in self.full]
            chosen = next((c for c in self._ordered(m, cells) if books.allows(option, c) and self._take(option, c)), None)
            if chosen is None:
                return
            index = self.ways.get((option, chosen))
            if index is None:
                index = len(problem.ways)
                self.ways[(option, chosen)] = index
                problem.ways.append(way(problem, option, chosen, index))
            self.starts[index] += 1
            books.start(option, chosen)
            if problem.wants[m].needs.any:
                self.supply[m][problem.kind(option, chosen)] += 1

    def _ordered(self, m: int, cells: list[int]) -> Collection[int]:
        """Of equal price the failure domain with the fewest of the model."""
        if len(cells) < 2 or self.problem.models[m].spread is Spread.NONE:
            return cells
        count, at = self.books.by_domain[m], self.problem.cells
        return sorted(cells, key=lambda c: (at[c].cost_per_device_hour, count[at[c].failure_domain], c))

    def _take(self, option: int, cell: int) -> bool:
        """Takes the best fitting node of the cell, if there is one."""
        problem, what = self.problem, self.problem.options[option]
        size = request(what)
        if (cell, size, what.span) in self.full:
            return False
        if cell not in self.rooms:
            self.rooms[cell] = Rooms(problem, cell, [room_of(problem, problem.bins[i], self.nothing) for i in problem.bins_of[cell]])
        names = self._find(self.rooms[cell], size, blocks_of(problem.cells[cell], size), what.span)
        if names is None:
            self.full.add((cell, size, what.span))  # nothing is ever given back
            return False
        blocks = blocks_of(problem.cells[cell], size)
        if blocks:
            for name in names:
                here = self.cut.setdefault(cell, {}).setdefault(name, {})
                here[blocks] = here.get(blocks, 0) + 1
        return True

    def _find(self, rooms: Rooms, size: int, blocks: int, span: int) -> list[str] | None:
        if span > 1:
            try:
                return rooms.take_whole(size, blocks, span)[0].split(",")
            except BindError:
                rooms.forget(size, whole=True)
                return None
        room = rooms.best(size, blocks)
        if room is None:
            return None
        rooms.take(room, size, blocks)
        return [room.bin.node]
