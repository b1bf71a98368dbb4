"""Devices as they stand after a plan, seen by one model: the numbers behind every reason.

After the plan everything counts: kept, stopped and started. With `only` a model, the starts of the others are left out: if it does not fit
even then, the others are not the reason and their starts must not blur the numbers.

Each cell is counted once; a question about one model looks again only at the nodes on which that model starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from placement.bind import Binding
from placement.nodes import Bin, members
from placement.problem import Problem
from placement.rooms import room_of
from placement.shapes import alignment, blocks_of, request, ring_of
from placement.types import Option


@dataclass(frozen=True, slots=True)
class Left:
    """One node's free units and whole blocks (in a cell with rings: blocks of the largest request that fits)."""

    bin: Bin
    free: int
    blocks: int


@dataclass(slots=True)
class _Count:
    """One cell: its nodes, and them ordered by what they could take, per kind of request."""

    nodes: dict[str, Left]
    total: int
    ordered: dict[int, list[tuple[int, str]]]


class Stock:
    def __init__(self, problem: Problem, binding: Binding) -> None:
        self.problem = problem
        stopped = set(binding.stop)
        self.gone: Counter[int] = Counter()
        for g in problem.groups:
            self.gone[g.index] = sum(1 for i in g.ids if i in stopped) if stopped else 0
        self._stops = tuple(self.gone[i] for i in range(len(problem.groups)))
        options = {o.id: o for o in problem.options}
        self.starts: dict[str, list[tuple[str, int]]] = {}
        self._started: Counter[str] = Counter()  # devices per cell
        self._of_model: dict[tuple[str, str], set[str]] = {}  # (cell, model) -> nodes on which it starts
        for s in binding.starts:
            self._started[s.cell] += options[s.option].devices
            for node in members(s.node):
                self.starts.setdefault(node, []).append((s.model, request(options[s.option])))
                self._of_model.setdefault((s.cell, s.model), set()).add(node)
        self._cells_of: dict[str, list[int]] = {}
        for i, c in enumerate(problem.cells):
            self._cells_of.setdefault(c.pool, []).append(i)
        self._bins: list[list[Bin]] = [[] for _ in problem.cells]
        for b in problem.bins:
            self._bins[b.cell].append(b)
        self._counts: dict[tuple[int, bool], _Count] = {}
        self._holders: list[Counter[str]] | None = None
        self._limits: dict[str, int | None] = {}

    def left(self, cell: int, only: str | None = None) -> list[Left]:
        """Per node of the cell; with `only`, as if just this model's starts happened."""
        count = self._count(cell, started=only is None)
        changed = {} if only is None else self._changed(cell, only)
        return [changed.get(name, left) for name, left in count.nodes.items()]

    def largest(self, cell: int, size: int, only: str | None = None) -> int:
        """The largest request of this kind that one node of the cell could take: in whole blocks above size 1."""
        where = self.problem.cells[cell]
        kind = 1 if size == 1 else size if where.whole_node_only else 0
        count = self._count(cell, started=only is None)
        if kind not in count.ordered:
            count.ordered[kind] = sorted(((self._value(cell, n, kind), name) for name, n in count.nodes.items()), reverse=True)
        changed = {} if only is None else self._changed(cell, only)
        best = max((self._value(cell, n, kind) for n in changed.values()), default=0)
        untouched = next((value for value, name in count.ordered[kind] if name not in changed), 0)
        return max(best, untouched)

    def whole(self, cell: int, only: str | None = None) -> int:
        """Nodes that one replica over several could have: of the cell's full size, with nothing on them."""
        full = self.problem.cells[cell].per_node or 0
        need = blocks_of(self.problem.cells[cell], full)
        return sum(1 for n in self.left(cell, only) if full and n.bin.whole(full) and n.free == full and n.blocks >= need)

    def fits(self, cell: int, option: Option, only: str | None = None) -> bool:
        """Whether one more replica of the option would find its devices in the cell (sizes that are legal there)."""
        if option.span > 1:
            return self.whole(cell, only) >= option.span
        return self.largest(cell, option.devices, only) >= option.devices

    def total(self, cell: int, only: str | None = None) -> int:
        count = self._count(cell, started=only is None)
        changed = {} if only is None else self._changed(cell, only)
        return count.total + sum(n.free - count.nodes[name].free for name, n in changed.items())

    def pool_limit_left(self, pool: str) -> int | None:
        """Devices that may still start in this pool under its limit and reserve; None = no such rule."""
        if pool not in self._limits:
            cells = self._cells_of[pool]
            limits = [x for i in cells if (x := self.problem.cells[i].limit_devices) is not None]
            reserve = max(self.problem.cells[i].reserve_devices for i in cells)
            rooms = []
            if limits:
                rooms.append(min(limits) - sum(sum(n for name, n in self._held()[i].items() if name) for i in cells))
            if reserve:
                rooms.append(sum(self.total(i) for i in cells) - reserve)
            self._limits[pool] = max(0, min(rooms)) if rooms else None
        return self._limits[pool]

    def holders(self, cells: list[int]) -> list[tuple[str, int]]:
        """Who holds devices in these cells after the plan: models by devices, then foreign pods as ''."""
        held: Counter[str] = Counter()
        for i in cells:
            held.update(self._held()[i])
        return sorted(((k, v) for k, v in held.items() if v > 0), key=lambda kv: (-kv[1], kv[0]))

    def _held(self) -> list[Counter[str]]:
        """Per cell: devices by model, foreign pods under ''."""
        if self._holders is None:
            held: list[Counter[str]] = [Counter() for _ in self.problem.cells]
            index = {c.name: i for i, c in enumerate(self.problem.cells)}
            for g in self.problem.groups:
                if g.cell is not None:
                    held[g.cell][self.problem.models[g.model].name] += g.devices * (len(g.ids) - self.gone[g.index])
            for node in self.problem.snapshot.nodes:
                held[index[node.cell]][""] += node.held_by_others
                for model, size in self.starts.get(node.name, ()):
                    held[index[node.cell]][model] += size
            self._holders = held
        return self._holders

    def _count(self, cell: int, *, started: bool) -> _Count:
        if (cell, started) not in self._counts:
            nodes = {b.node: self._node(cell, b, self.starts.get(b.node, ()) if started else ()) for b in self._bins[cell]}
            self._counts[(cell, started)] = _Count(nodes, sum(n.free for n in nodes.values()), {})
        return self._counts[(cell, started)]

    def _changed(self, cell: int, only: str) -> dict[str, Left]:
        nodes = self._of_model.get((self.problem.cells[cell].name, only), ())
        before = self._count(cell, started=False).nodes
        return {n: self._node(cell, before[n].bin, [s for s in self.starts[n] if s[0] == only]) for n in sorted(nodes) if n in before}

    def _node(self, cell: int, b: Bin, starts: Iterable[tuple[str, int]]) -> Left:
        where = self.problem.cells[cell]
        room = room_of(self.problem, b, self._stops)
        sizes = sorted((size for _, size in starts), reverse=True)
        if ring_of(where) is not None:
            room.cut(where, Counter(blocks for size in sizes if (blocks := blocks_of(where, size))))
        for size in sizes:
            room.take(size, blocks_of(where, size))
        if ring_of(where) is None:
            return Left(b, room.free, max(0, room.blocks))
        room.uncut()
        fitting = [blocks for size in where.sizes if (blocks := blocks_of(where, size)) and room.fits(size, blocks)]
        return Left(b, room.free, max(fitting, default=0))

    def _value(self, cell: int, node: Left, kind: int) -> int:
        where = self.problem.cells[cell]
        if kind == 1:
            return node.free
        if where.whole_node_only:
            return node.free if node.bin.takes(where, kind) and node.free >= kind else 0
        return node.blocks * alignment(where)
