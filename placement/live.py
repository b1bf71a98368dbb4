"""The fleet as it stands once a plan has come true: what explanations, the ladder, fast steps and what-if read.

`Live` holds the free devices (`free`), what each model has, and the running sums behind every rule. It is built once per plan and follows
single steps. It starts from the snapshot and the acts of a plan (`stop`, `starts`) and not from the solver's variables, so an explanation
cannot repeat a solver's mistake. What a model lacks is counted in `lack`, which rule forbids a start in `bars`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from placement.free import Free, Need, State, need_of
from placement.nodes import Bin, Group, members, read_nodes
from placement.problem import Problem
from placement.shapes import legal, request
from placement.snapshot import normalised
from placement.types import Cell, Demand, Model, ModelDemand, Option, Quota, Snapshot, Spread, Start

At = tuple[str, str]  # (option, network domain) of a replica; option "" = one that is gone


class Acts(Protocol):
    """A Plan, or a Binding before it is one."""

    @property
    def stop(self) -> tuple[str, ...]: ...
    @property
    def starts(self) -> tuple[Start, ...]: ...


def by_model(demand: Iterable[ModelDemand | Iterable[ModelDemand]]) -> dict[str, list[ModelDemand]]:
    """Entries per model; one per role of a split deployment."""
    asked: dict[str, list[ModelDemand]] = {}
    for entry in demand:
        for each in [entry] if isinstance(entry, ModelDemand) else entry:
            asked.setdefault(each.model, []).append(each)
    return asked


def _kinds(cells: Sequence[Cell], *, domains: bool = False) -> dict[str, list[list[int]]]:
    """Per profile the cells that differ in nothing but their place."""
    found: dict[Cell, list[int]] = {}
    for i, c in enumerate(cells):
        kind = replace(c, name="", network_domain="", failure_domain=c.failure_domain if domains else "")
        found.setdefault(kind, []).append(i)
    by_profile: dict[str, list[list[int]]] = {}
    for kind, place in found.items():
        by_profile.setdefault(kind.profile, []).append(place)
    return by_profile


@dataclass(frozen=True, slots=True)
class Tally:
    """One replica as the sums count it."""

    model: str
    option: str
    vendor: str
    domain: str
    cell: int | None
    profile: str
    devices: int
    cost: float


class Live:
    def __init__(
        self, snapshot: Snapshot, demand: dict[str, list[ModelDemand]], groups: Sequence[Group], bins: Sequence[Bin], acts: Acts
    ) -> None:
        """`snapshot` normalised; `groups` and `bins` as `read_nodes` gives them for it."""
        self.snapshot = snapshot
        self.groups, self.bins = groups, bins
        self.cells = snapshot.cells
        self.models: dict[str, Model] = {m.name: m for m in snapshot.models}
        self.options: dict[str, Option] = {o.id: o for o in snapshot.options}
        self.options_of: dict[str, list[Option]] = {m.name: [] for m in snapshot.models}
        for o in snapshot.options:
            self.options_of[o.model].append(o)
        self.cell_index = {c.name: i for i, c in enumerate(self.cells)}
        self.cells_of: dict[str, list[int]] = {}
        self.pool_cells: dict[str, list[int]] = {}
        for i, c in enumerate(self.cells):
            self.cells_of.setdefault(c.profile, []).append(i)
            self.pool_cells.setdefault(c.pool, []).append(i)
        self.installed: list[Counter[int]] = [Counter() for _ in self.cells]
        self.foreign: Counter[int] = Counter()
        for n in snapshot.nodes:
            self.installed[self.cell_index[n.cell]][n.installed] += 1
            self.foreign[self.cell_index[n.cell]] += n.held_by_others
        self.limit = {
            p: min((x for i in cs if (x := self.cells[i].limit_devices) is not None), default=None) for p, cs in self.pool_cells.items()
        }
        self.reserve = {p: max(self.cells[i].reserve_devices for i in cs) for p, cs in self.pool_cells.items()}
        self.quotas: tuple[Quota, ...] = snapshot.policy.quotas
        self._quotas_for: dict[tuple[str, str], list[int]] = {}
        self._kinds: tuple[dict[str, list[list[int]]], dict[str, list[list[int]]]] = (_kinds(self.cells), _kinds(self.cells, domains=True))
        self._needs: dict[tuple[int, int, int], Need | None] = {}
        self.demand = demand
        self.runs = {g.option for g in groups if g.option is not None}  # options of what runs, whatever stops
        self.rates: dict[str, list[tuple[float, int]]] = {m: [] for m in self.models}  # of what runs, whatever stops: (work/s, replicas)
        for g in groups:
            name = snapshot.models[g.model].name
            known = self.options.get(g.option or "")
            self.rates[name].append((known.rates(1)[0] if known is not None and known.model == name else 0.0, len(g.ids)))
        self.beyond: dict[str, frozenset[int]] = {}  # kept by `lack.beyond`
        self._bare: Free | None = None
        self._undo: list[tuple[str, State]] = []
        self._sums(acts)

    @classmethod
    def of(cls, snapshot: Snapshot, demand: Demand, acts: Acts) -> Live:
        snapshot = normalised(snapshot)
        groups, bins = read_nodes(snapshot)
        return cls(snapshot, by_model(demand.models), groups, bins, acts)

    @classmethod
    def of_problem(cls, problem: Problem, acts: Acts) -> Live:
        return cls(problem.snapshot, by_model(problem.asked), problem.groups, problem.bins, acts)

    def _sums(self, acts: Acts) -> None:
        self.have: dict[str, Counter[str]] = {m: Counter() for m in self.models}  # replicas per option ("" = one that is gone)
        self.placed: dict[str, Counter[At]] = {m: Counter() for m in self.models}  # the same per network domain
        self.running: Counter[str] = Counter()
        self.vendors: dict[str, Counter[str]] = {m: Counter() for m in self.models}
        self.domains: dict[str, Counter[str]] = {m: Counter() for m in self.models}
        self.cost: dict[str, float] = dict.fromkeys(self.models, 0.0)
        self.total_cost = 0.0
        self.pool_used: Counter[str] = Counter()
        self.cell_used: dict[int, Counter[str]] = {i: Counter() for i in range(len(self.cells))}
        self.kept: dict[str, list[tuple[Group, list[str]]]] = {m: [] for m in self.models}
        self.quota_used = [0] * len(self.quotas)  # devices
        stopped = set(acts.stop)
        gone: Counter[int] = Counter()
        for g in self.groups:
            name = self.snapshot.models[g.model].name
            left = [i for i in g.ids if i not in stopped] if stopped else list(g.ids)
            gone[g.index] = len(g.ids) - len(left)
            self.running[name] += len(g.ids)
            if left:
                self.kept[name].append((g, left))
                self._count(self._of_group(g), len(left))
        self.free = Free(self.cells, self.bins, gone, self.groups)
        self.gone = gone
        self.starts: dict[str, list[tuple[Option, int, str]]] = {}
        placed = [(self.options[s.option], self.cell_index[s.cell], s.node) for s in acts.starts]
        for option, cell, place in sorted(placed, key=lambda p: (-request(p[0]), p[2], p[0].id)):
            self.starts.setdefault(option.model, []).append((option, cell, place))
            self.start(option, cell, place)

    def _count(self, what: Tally, times: int) -> None:
        model = what.model
        self.have[model][what.option] += times
        self.placed[model][(what.option, "" if what.cell is None else self.cells[what.cell].network_domain)] += times
        self.vendors[model][what.vendor] += times
        self.domains[model][what.domain] += times
        self.cost[model] += times * what.cost
        self.total_cost += times * what.cost
        if what.cell is not None:
            self.pool_used[self.cells[what.cell].pool] += times * what.devices
            self.cell_used[what.cell][model] += times * what.devices
        for q in self.quotas_for(model, what.profile):
            self.quota_used[q] += times * what.devices

    def _of_group(self, g: Group) -> Tally:
        option = self.options.get(g.option or "")
        profile = option.profile if option is not None else "" if g.cell is None else self.cells[g.cell].profile
        name = self.snapshot.models[g.model].name
        return Tally(name, g.option or "", g.vendor, g.domain, g.cell, profile, g.devices, g.cost)

    def _of_option(self, o: Option, cell: int) -> Tally:
        return Tally(o.model, o.id, o.vendor, self.cells[cell].failure_domain, cell, o.profile, o.devices, self.price(o, cell))

    # Steps

    def need(self, option: Option, cell: int) -> Need | None:
        """What one replica asks of the cell's nodes; None where the size is not legal there."""
        key = (cell, option.devices, option.span)
        if key not in self._needs:
            where = self.cells[cell]
            self._needs[key] = need_of(where, option.devices, option.span) if legal(where, option.devices, option.span) else None
        return self._needs[key]

    def price(self, option: Option, cell: int) -> float:
        """Money per hour of one replica there."""
        return self.cells[cell].cost_per_device_hour * option.devices

    def start(self, option: Option, cell: int, place: str) -> None:
        self._count(self._of_option(option, cell), 1)
        need = self.need(option, cell)
        if need is not None:
            self.free.start(place, cell, need)

    def undo(self, option: Option, cell: int, before: Sequence[tuple[str, State]]) -> None:
        """Takes back the last `start`; `before` = the states that its nodes had."""
        self._count(self._of_option(option, cell), -1)
        for node, state in before:
            self.free.put(node, state)

    def stop(self, replica: str, model: str) -> Group | None:
        """One kept replica goes; None if it is not there."""
        for g, ids in self.kept[model]:
            if replica in ids:
                ids.remove(replica)
                self._count(self._of_group(g), -1)
                self.free.stop(g.node, g)
                return g
        return None

    def quotas_for(self, model: str, profile: str) -> list[int]:
        """The quotas that count the model's devices of a profile, by index."""
        key = (self.models[model].tenant, profile)
        if key not in self._quotas_for:
            mine = [i for i, q in enumerate(self.quotas) if q.tenant == key[0] and (not q.profiles or profile in q.profiles)]
            self._quotas_for[key] = mine
        return self._quotas_for[key]

    def kinds(self, option: Option) -> list[list[int]]:
        """Cells of the option's profile, those together that every rule treats alike; only a strict spread tells domains apart."""
        strict = self.models[option.model].spread is Spread.STRICT
        return self._kinds[strict].get(option.profile, [])

    def states(self, place: str) -> list[tuple[str, State]]:
        """The states of a place's nodes, for `undo`."""
        return [(node, self.free.states[node]) for node in members(place) if node in self.free.states]

    def alone(self, model: str, cells: Sequence[int]) -> Free:
        """The free devices as if, in these cells, only this model's starts happened. Valid until the next call."""
        if not self.starts:
            return self.free
        if self._bare is None:
            self._bare = Free(self.cells, self.bins, self.gone, self.groups)
        for node, state in reversed(self._undo):
            self._bare.put(node, state)
        self._undo = []
        for option, cell, place in self.starts.get(model, []):
            need = self.need(option, cell)
            if cell in cells and need is not None:
                self._undo += [(n, self._bare.states[n]) for n in members(place) if n in self._bare.states]
                self._bare.start(place, cell, need)
        return self._bare

    def count(self, model: str) -> int:
        return self.have[model].total()

    def entries(self, model: str) -> list[ModelDemand]:
        """What is asked of it: one entry per role; a model without an entry has a fixed size."""
        return self.demand.get(model) or [ModelDemand(model)]
