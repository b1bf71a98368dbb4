"""How each model stands under counts of a plan, as far as `neighbourhood` needs it to choose: what it lacks, what its replicas are worth to
others, who stands in whose way, who pays too much. Estimates in device-equivalents and money: they choose, they never decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from placement.bind import BindError, bind
from placement.general import Counts
from placement.nodes import Bin, members
from placement.problem import Problem, cells_by_profile, refusal, unmet_price
from placement.shapes import request
from placement.share import Kind, share

EPS = 1e-6
SETS = 8  # nodes whose release sets are looked at per short model
HEAVIEST = 4  # ranks above the lowest that still weigh a hundred times more each


@dataclass(frozen=True, slots=True)
class Part:
    """`count` equal planned replicas of a model."""

    model: int
    option: int | None
    cell: int | None
    node: str  # "" = starts
    devices: int
    cost: float
    count: int


class Standing:
    def __init__(self, problem: Problem, counts: Counts) -> None:
        self.problem, self.counts = problem, counts
        self.index = problem.option_index
        self.parts: list[list[Part]] = [[] for _ in problem.models]
        for g in problem.groups:
            if left := len(g.ids) - counts.stops[g.index]:
                option = None if g.option is None else self.index.get(g.option)
                self.parts[g.model].append(Part(g.model, option, g.cell, g.node, g.devices, g.cost, left))
        for w in problem.ways:
            if n := counts.starts[w.index]:
                self.parts[w.model].append(Part(w.model, w.option, w.cell, "", w.size, w.cost, n))
        self.options = [[o for o in mine if problem.options[o].eligible] for mine in problem.options_of]
        self.cells_of = cells_by_profile(problem)
        self.lowest = max(problem.rank, default=0)
        self._types: dict[int, frozenset[str]] = {}

    # What a model lacks

    def weight(self, m: int) -> float:
        return float(100 ** min(HEAVIEST, self.lowest - self.problem.rank[m]))

    def lack(self, m: int, without: Part | None = None) -> float:
        """Device-equivalents that are missing; `without` = as if one replica of that part were gone."""
        want = self.problem.wants[m]
        count = sum(p.count for p in self.parts[m]) - (without is not None)
        total = 2.0 * want.smallest * max(0, want.minimum - count)
        if want.needs.any:
            have: Counter[Kind] = Counter()
            for p in self.parts[m]:
                if p.option is not None:
                    have[self.problem.kind(p.option, p.cell)] += p.count - (p is without)
            total += want.need * unmet_price(1.0 - share(want.needs, have))
        return total

    @cached_property
    def _lacks(self) -> list[float]:
        return [0.0 if model.hold else self.lack(m) for m, model in enumerate(self.problem.models)]

    def regret(self, m: int) -> float:
        return self._lacks[m] * self.weight(m)

    def short(self) -> list[int]:
        """Models that lack something and could start something, highest rank and largest lack first."""
        found = [m for m, lack in enumerate(self._lacks) if lack - self.problem.wants[m].base_loss > EPS and self.options[m]]
        return sorted(found, key=lambda m: (self.problem.rank[m], -self._lacks[m], m))

    def loss(self, p: Part) -> float:
        """Weighted loss per device that one replica of the part would free."""
        return self.weight(p.model) * max(0.0, self.lack(p.model, p) - self._lacks[p.model]) / max(1, p.devices)

    # Who uses what

    def width(self, m: int) -> int:
        """How many integers the model brings into a program if it is free, about."""
        return sum(len(self.cells_of.get(self.problem.options[o].profile, ())) for o in self.options[m]) + len(self.parts[m])

    def types(self, m: int) -> frozenset[str]:
        if m not in self._types:
            self._types[m] = frozenset(self.problem.options[o].profile for o in self.options[m])
        return self._types[m]

    @cached_property
    def _losses(self) -> dict[str, list[tuple[float, int]]]:
        """Profile -> (loss per freed device, model), least first."""
        found: dict[str, dict[int, float]] = {}
        for m, parts in enumerate(self.parts):
            if self.problem.models[m].hold:
                continue
            known: dict[tuple[int | None, int], float] = {}
            for p in parts:
                if p.cell is not None:
                    kind = (p.option, p.devices)
                    if kind not in known:
                        known[kind] = self.loss(p)
                    at = found.setdefault(self.problem.cells[p.cell].profile, {})
                    at[m] = min(at.get(m, known[kind]), known[kind])
        return {profile: sorted((loss, m) for m, loss in at.items()) for profile, at in found.items()}

    def users(self, types: Collection[str], rank: int) -> list[int]:
        """Models of this rank or below with replicas on these types, least loss per freed device first."""
        least: dict[int, float] = {}
        for profile in types:
            for loss, m in self._losses.get(profile, ()):
                if self.problem.rank[m] >= rank:
                    least[m] = min(least.get(m, loss), loss)
        return [m for _, m in sorted((loss, m) for m, loss in least.items())]

    # Who stands in the way

    @cached_property
    def _on_node(self) -> tuple[dict[str, list[tuple[float, int, int, int]]], Counter[str]]:
        """Node -> (loss per device, devices on this node, model, count) of what may go, and the devices that starts hold."""
        here: dict[str, list[tuple[float, int, int, int]]] = {}
        started: Counter[str] = Counter()
        known: dict[tuple[int, int | None, int], float] = {}

        def put(p: Part, node: str) -> None:
            kind = (p.model, p.option, p.devices)
            if kind not in known:
                known[kind] = self.loss(p)
            names = members(node)
            for name in names:
                here.setdefault(name, []).append((known[kind], -(-p.devices // len(names)), p.model, p.count))

        frozen = {(g.model, g.node) for g in self.problem.groups if not g.stoppable}
        for parts in self.parts:
            for p in parts:
                if p.node and (p.model, p.node) not in frozen:
                    put(p, p.node)
        try:
            binding = bind(self.problem, self.counts.starts, self.counts.stops, self.counts.slots)
        except BindError:  # the counts are someone else's fault; starts then are in nobody's way
            return here, started
        model = {m.name: i for i, m in enumerate(self.problem.models)}
        for s in binding.starts:
            o = self.index[s.option]
            put(Part(model[s.model], o, None, s.node, self.problem.options[o].devices, 0.0, 1), s.node)
            for name in members(s.node):
                started[name] += request(self.problem.options[o])
        return here, started

    def in_the_way(self, m: int) -> list[int]:
        """Owners of the cheapest release sets for one more replica of the model, then the other users of its types of lower rank."""
        here, started = self._on_node
        sets: list[tuple[float, int, str, list[int]]] = []
        for cell, size in self._requests(m):
            for b in self._bins.get(cell, []):
                stopped = sum(units * self.counts.stops[g] for g, units, _ in b.gains)
                missing = size - (b.free + stopped - started[b.node])
                cost, owners = 0.0, []
                for loss, devices, x, count in sorted(here.get(b.node, [])):
                    if missing <= 0:
                        break
                    if self.problem.rank[x] > self.problem.rank[m]:
                        take = min(count, -(-missing // devices))
                        missing -= take * devices
                        cost += loss * devices * take
                        owners.append(x)
                if missing <= 0 and owners:
                    sets.append((cost, len(owners), b.node, owners))
        victims = [x for _, _, _, owners in sorted(sets)[:SETS] for x in owners]
        return list(dict.fromkeys([*victims, *self.users(self.types(m), self.problem.rank[m] + 1)]))

    @cached_property
    def _bins(self) -> dict[int, list[Bin]]:
        found: dict[int, list[Bin]] = {}
        for b in self.problem.bins:
            found.setdefault(b.cell, []).append(b)
        return found

    def _requests(self, m: int) -> list[tuple[int, int]]:
        """(cell, devices on one node) that the model may ask for."""
        found: set[tuple[int, int]] = set()
        for o in self.options[m]:
            option = self.problem.options[o]
            for c in self.cells_of.get(option.profile, []):
                if refusal(option, self.problem.models[m], self.problem.cells[c], False) is None:
                    found.add((c, request(option)))
        return sorted(found)

    # Who pays too much

    def gap(self, m: int) -> float:
        return self._gaps[m]

    @cached_property
    def _gaps(self) -> list[float]:
        """Cost per hour above the cheapest fractional cost."""
        return [
            0.0 if model.hold else max(0.0, sum(p.cost * p.count for p in self.parts[m]) - self._fractional(m))
            for m, model in enumerate(self.problem.models)
        ]

    def _fractional(self, m: int) -> float:
        price = {o: self._price(o) for o in self.options[m]}
        floor = min(price.values(), default=0.0) * self.problem.wants[m].minimum
        total = 0.0
        for b, load in enumerate(self.problem.wants[m].needs.loads):
            if load > 0:
                total += load * min((price[o] / r for o in price if (r := self.problem.kinds[o][0][b]) > 0), default=0.0)
        return max(floor, total)

    def _price(self, o: int) -> float:
        option = self.problem.options[o]
        return option.devices * min(
            (self.problem.cells[c].cost_per_device_hour for c in self.cells_of.get(option.profile, [])), default=0.0
        )

    def by_gap(self) -> list[int]:
        """Models that could be cheaper, largest gap first."""
        return [m for m in sorted(range(len(self._gaps)), key=lambda m: (-self._gaps[m], m)) if self._gaps[m] > EPS and self.options[m]]

    def shared(self, a: int, b: int) -> float:
        """How scarce the types are that both may use."""
        return sum(self._scarcity.get(t, 0.0) for t in self.types(a) & self.types(b))

    @cached_property
    def _scarcity(self) -> dict[str, float]:
        installed: Counter[str] = Counter()
        left: Counter[str] = Counter()
        for b in self.problem.bins:
            profile = self.problem.cells[b.cell].profile
            installed[profile] += b.installed
            left[profile] += b.free + sum(units * self.counts.stops[g] for g, units, _ in b.gains)
        for p in _all(self.parts):
            if not p.node and p.cell is not None:
                left[self.problem.cells[p.cell].profile] -= p.devices
        return {t: 1.0 / (0.05 + max(0, left[t]) / n) for t, n in installed.items() if n}


def _all(parts: Iterable[list[Part]]) -> Iterable[Part]:
    return (p for each in parts for p in each)
