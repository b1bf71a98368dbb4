"""Free devices of every node after a plan, in classes of equal nodes: which request still fits where, found without a scan of the fleet.

Nodes of one cell with the same free units, free blocks per ring and size are one class; a fleet of thousands of nodes has a few dozen. All
questions of explanations, ladder and fast steps ("does a request of 8 fit, on which node, what is the largest") look at classes only, and a
start or a stop moves one node from class to class.

What a node holds is read in `nodes`, what a request takes in `shapes`. Starts of the plan are taken off in descending size, best fit.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from placement.nodes import Bin, Group, full_place, members, own_place
from placement.shapes import Place, alignment, loose_singles, parts_of, ring_of
from placement.types import Cell


@dataclass(frozen=True, slots=True)
class Need:
    """One replica's request: `pod` devices on each of `span` nodes, `parts` blocks of each ring that it uses (() = any loose device)."""

    pod: int
    span: int
    parts: Place
    whole: bool  # only a whole free node will do


@dataclass(frozen=True, slots=True)
class State:
    """The state that equal nodes share."""

    free: int
    parts: Place  # free blocks per ring; one part where the node is no ring
    installed: int
    clear: bool  # no replica has to go first


def need_of(cell: Cell, devices: int, span: int) -> Need:
    """What a legal request asks of its nodes."""
    pod = devices // span
    if span > 1 or (cell.whole_node_only and pod > 1):
        return Need(pod, span, (), True)
    return Need(pod, 1, () if pod == 1 and loose_singles(cell) else parts_of(cell, pod), False)


def fits(state: State, need: Need) -> bool:
    if state.free < need.pod:
        return False
    if need.whole:
        return state.free == state.installed == need.pod
    if not need.parts:
        return True
    return sum(1 for part in state.parts if part >= need.parts[0]) >= len(need.parts)


def take(cell: Cell, state: State, need: Need) -> State:
    """The node after the request, which fits."""
    free = state.free - need.pod
    if need.whole:
        return State(free, tuple(0 for _ in state.parts), state.installed, state.clear)
    parts = sorted(state.parts)
    for each in need.parts:
        chosen = next(i for i, part in enumerate(parts) if part >= each)
        # Equal shares lie in different rings: what is left of a used one is smaller than a share, so it is not found again.
        parts[chosen] -= each
    return State(free, _within(cell, free, parts), state.installed, state.clear)


def give(cell: Cell, state: State, devices: int, blocks: int) -> State:
    """The node after a replica of `devices` on it, worth `blocks` whole blocks, has gone."""
    free = state.free + devices
    parts = [*state.parts, *own_place(cell, devices)] if ring_of(cell) is not None else [sum(state.parts) + blocks]
    return State(free, _within(cell, free, parts), state.installed, state.clear)


def _within(cell: Cell, free: int, parts: Sequence[int]) -> Place:
    """Never more blocks than devices: a single device takes a loose one if there is one, else it breaks a block of the poorest ring."""
    left = sorted(parts)
    over = sum(left) - max(0, free) // alignment(cell)
    for i, part in enumerate(left):
        broken = min(part, max(0, over))
        left[i] -= broken
        over -= broken
    return tuple(sorted(left))


class Free:
    """All nodes of a fleet that may take something, by cell and class."""

    def __init__(self, cells: Sequence[Cell], bins: Iterable[Bin], gone: Counter[int], groups: Sequence[Group]) -> None:
        """`gone` = how many replicas of each group have left."""
        self.cells = cells
        self.states: dict[str, State] = {}
        self.cell_of: dict[str, int] = {}
        self.classes: list[dict[State, list[str]]] = [{} for _ in cells]
        self.gains: dict[str, dict[int, tuple[int, int]]] = {}
        self._best: list[dict[Need, tuple[str, ...] | None]] = [{} for _ in cells]
        self._largest: list[dict[Need, int]] = [{} for _ in cells]
        for b in bins:
            self.cell_of[b.node] = b.cell
            self.gains[b.node] = {group: (units, blocks) for group, units, blocks in b.gains}
            self._insert(b.node, self._spot(b, gone, groups))

    def _spot(self, b: Bin, gone: Counter[int], groups: Sequence[Group]) -> State:
        cell = self.cells[b.cell]
        state = State(b.free, b.rings or (b.blocks,), b.installed, not b.draining)
        if b.rings:
            state = State(b.free, (*b.rings, *(p for _, units, _ in b.draining for p in own_place(cell, units))), b.installed, state.clear)
        for group, units, blocks in b.gains:
            for _ in range(gone[group]):
                state = give(cell, state, units, blocks)
        left = sum(gone[group] for group, _, _ in b.gains)
        if left:
            state = State(state.free, state.parts, state.installed, False)
        if b.empties and left == sum(len(groups[group].ids) for group, _, _ in b.gains):
            state = State(state.free, full_place(cell, b), state.installed, state.clear)
        return state

    def _insert(self, node: str, state: State) -> None:
        self.states[node] = state
        insort(self.classes[self.cell_of[node]].setdefault(state, []), node)
        self._best[self.cell_of[node]].clear()
        self._largest[self.cell_of[node]].clear()

    def _remove(self, node: str) -> State:
        state = self.states.pop(node)
        names = self.classes[self.cell_of[node]][state]
        del names[bisect_left(names, node)]
        if not names:
            del self.classes[self.cell_of[node]][state]
        return state

    def add(self, node: str, cell: int, state: State) -> None:
        """A node that the fleet does not have yet."""
        self.cell_of[node], self.gains[node] = cell, {}
        self._insert(node, state)

    def drop(self, node: str) -> None:
        """Takes an added node back."""
        self._remove(node)
        self._best[self.cell_of[node]].clear()
        self._largest[self.cell_of[node]].clear()
        del self.cell_of[node], self.gains[node]

    def put(self, node: str, state: State) -> State:
        """Sets a node's state; returns the one before (to undo)."""
        before = self._remove(node)
        self._insert(node, state)
        return before

    def start(self, place: str, cell: int, need: Need) -> None:
        """A replica starts on `place` (several nodes joined by commas). Nodes that the fleet does not offer are left out."""
        for node in members(place):
            if node in self.states:
                self.put(node, take(self.cells[cell], self.states[node], need))

    def stop(self, place: str, group: Group) -> None:
        """One replica of a group goes."""
        for node in members(place):
            if node in self.states and group.index in self.gains[node]:
                self.put(node, give(self.cells[self.cell_of[node]], self.states[node], *self.gains[node][group.index]))

    def best(self, cell: int, need: Need) -> tuple[str, ...] | None:
        """The nodes for one more replica: clear ones first, then best fit, then by name. None if it does not fit."""
        known = self._best[cell]
        if need not in known:
            known[need] = self._find(cell, need)
        return known[need]

    def _find(self, cell: int, need: Need) -> tuple[str, ...] | None:
        fitting = [(state, names) for state, names in self.classes[cell].items() if fits(state, need)]
        if need.span > 1:
            names = [n for _, each in sorted(fitting, key=lambda f: (not f[0].clear, f[1][0])) for n in each]
            return tuple(sorted(names[: need.span])) if len(names) >= need.span else None
        align = alignment(self.cells[cell])

        def key(item: tuple[State, list[str]]) -> tuple[bool, bool, int, int, str]:
            state, names = item
            breaks = not need.parts and align > 1 and state.free <= align * sum(state.parts)
            return (not state.clear, breaks, sum(state.parts), state.free, names[0])

        return (min(fitting, key=key)[1][0],) if fitting else None

    def largest(self, cell: int, need: Need) -> int:
        """Devices of the largest request of this kind that fits: of one node (a ring or equal shares of several) or of whole nodes."""
        known = self._largest[cell]
        if need not in known:
            known[need] = self._most(cell, need)
        return known[need]

    def _most(self, cell: int, need: Need) -> int:
        if need.span > 1:
            return need.pod * sum(len(names) for state, names in self.classes[cell].items() if fits(state, need))
        align, count, best = alignment(self.cells[cell]), max(1, len(need.parts)), 0
        for state in self.classes[cell]:
            if need.whole:
                best = max(best, state.free if fits(state, need) else 0)
            elif not need.parts:
                best = max(best, state.free)
            elif len(state.parts) >= count:
                best = max(best, sorted(state.parts)[-count] * count * align)
        return best

    def total(self, cell: int) -> int:
        """Free devices of the cell, over all its nodes."""
        return sum(state.free * len(names) for state, names in self.classes[cell].items())

    def biggest(self, cell: int) -> int:
        """Free devices of the cell's freest node, whatever may be asked for there."""
        return max((state.free for state in self.classes[cell]), default=0)
