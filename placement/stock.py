"""Devices as they stand after a plan, seen by one model: the numbers behind every reason.

`after` counts everything: kept, stopped and started. `before_others` leaves out the starts of other models: if a model does not fit even
there, the others are not the reason and their starts must not blur the numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from placement.bind import Binding
from placement.nodes import Bin, alignment, blocks_of
from placement.problem import Problem


@dataclass(frozen=True, slots=True)
class Left:
    """One node's free units and whole blocks."""

    bin: Bin
    free: int
    blocks: int


class Stock:
    def __init__(self, problem: Problem, binding: Binding) -> None:
        self.problem = problem
        self._left: dict[tuple[int, str | None], list[Left]] = {}
        stopped = set(binding.stop)
        self.gone: Counter[int] = Counter()
        for g in problem.groups:
            self.gone[g.index] = sum(1 for i in g.ids if i in stopped)
        devices = {o.id: o.devices for o in problem.options}
        self.starts: dict[str, list[tuple[str, int]]] = {}
        for s in binding.starts:
            self.starts.setdefault(s.node, []).append((s.model, devices[s.option]))

    def left(self, cell: int, only: str | None = None) -> list[Left]:
        """Per node of the cell; with `only`, as if just this model's starts happened."""
        if (cell, only) not in self._left:
            self._left[(cell, only)] = self._count(cell, only)
        return self._left[(cell, only)]

    def _count(self, cell: int, only: str | None) -> list[Left]:
        align = alignment(self.problem.cells[cell])
        result: list[Left] = []
        for b in self.problem.bins:
            if b.cell != cell:
                continue
            free, blocks = b.free, b.blocks
            for group, units, whole in b.gains:
                free += units * self.gone[group]
                blocks += whole * self.gone[group]
            for model, size in sorted(self.starts.get(b.node, []), key=lambda s: -s[1]):
                if only is None or model == only:
                    free -= size
                    blocks -= blocks_of(self.problem.cells[cell], size)
                    if align > 1:
                        blocks = min(blocks, free // align)
            result.append(Left(b, free, max(0, blocks)))
        return result

    def largest(self, cell: int, size: int, only: str | None = None) -> int:
        """The largest request of this kind that one node of the cell could take: in whole blocks above size 1."""
        where = self.problem.cells[cell]
        best = 0
        for node in self.left(cell, only):
            if size == 1:
                best = max(best, node.free)
            elif where.whole_node_only:
                best = max(best, node.free if node.bin.takes(where, size) and node.free >= size else 0)
            else:
                best = max(best, node.blocks * alignment(where))
        return best

    def total(self, cell: int, only: str | None = None) -> int:
        return sum(node.free for node in self.left(cell, only))

    def pool_limit_left(self, pool: str) -> int | None:
        """Devices that may still start in this pool under its limit and reserve; None = no such rule."""
        cells = [i for i, c in enumerate(self.problem.cells) if c.pool == pool]
        limits = [x for i in cells if (x := self.problem.cells[i].limit_devices) is not None]
        reserve = max(self.problem.cells[i].reserve_devices for i in cells)
        nodes = {n.name for n in self.problem.snapshot.nodes if any(self.problem.cells[i].name == n.cell for i in cells)}
        held = sum(g.devices * (len(g.ids) - self.gone[g.index]) for g in self.problem.groups if g.cell in cells)
        held += sum(size for node in sorted(nodes) for _, size in self.starts.get(node, []))
        rooms = []
        if limits:
            rooms.append(min(limits) - held)
        if reserve:
            rooms.append(sum(self.total(i) for i in cells) - reserve)
        return max(0, min(rooms)) if rooms else None

    def holders(self, cells: list[int]) -> list[tuple[str, int]]:
        """Who holds devices in these cells after the plan: models by devices, then foreign pods as ''."""
        held: Counter[str] = Counter()
        names = {self.problem.cells[i].name for i in cells}
        nodes = {n.name: n for n in self.problem.snapshot.nodes if n.cell in names}
        for g in self.problem.groups:
            if g.node in nodes:
                held[self.problem.models[g.model].name] += g.devices * (len(g.ids) - self.gone[g.index])
        for node in sorted(nodes):
            for model, size in self.starts.get(node, []):
                held[model] += size
            held[""] += nodes[node].held_by_others
        return sorted(((k, v) for k, v in held.items() if v > 0), key=lambda kv: (-kv[1], kv[0]))
