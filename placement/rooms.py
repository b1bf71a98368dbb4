"""The nodes of a cell in the order in which a start prefers them: a heap per size, so that a start costs a logarithm."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from placement.nodes import Bin
from placement.problem import Problem
from placement.room import BindError as BindError
from placement.room import Room as Room
from placement.room import ring_room
from placement.shapes import alignment, ring_of

Key = tuple[bool, bool, int, str]


def rooms_of(problem: Problem, stops: Sequence[int], *, only: Collection[int] | None = None) -> dict[int, list[Room]]:
    """Rooms per cell after these stops per group; `only` some cells."""
    rooms: dict[int, list[Room]] = {}
    for b in problem.bins:
        if only is None or b.cell in only:
            rooms.setdefault(b.cell, []).append(room_of(problem, b, stops))
    return rooms


def room_of(problem: Problem, b: Bin, stops: Sequence[int]) -> Room:
    cell = problem.cells[b.cell]
    waits = list(b.draining)
    free, blocks = b.free, b.blocks
    for group, units, whole in b.gains:
        if stops[group]:
            for replica in problem.groups[group].ids[: stops[group]]:
                waits.append((replica, units, whole))
                free += units
                blocks += whole
    if ring_of(cell) is None:
        return Room(b, alignment(cell), free, blocks, b.free_now, b.blocks_now, waits)
    gone = all(stops[g] == len(problem.groups[g].ids) for g, _, _ in b.gains)
    return ring_room(cell, b, free, waits, b.empties and gone)


@dataclass(slots=True)
class Rooms:
    """The rooms of one cell, kept in the order of preference for each size that was asked for."""

    problem: Problem
    cell: int
    rooms: Iterable[Room]
    cuts: dict[str, dict[int, int]] | None = None
    heaps: dict[tuple[int, bool], list[tuple[Key, int, Room]]] = field(default_factory=dict)
    changed: list[Room] = field(default_factory=list)  # in their order; a room comes as often as something was taken of it
    known: dict[tuple[int, bool], int] = field(default_factory=dict)  # per heap: how many of these changes are in it

    def __post_init__(self) -> None:
        self.rooms = sorted(self.rooms, key=lambda r: r.bin.node)
        if self.cuts is not None:
            self.cuts = {node: dict(sizes) for node, sizes in self.cuts.items()}
            for room in self.rooms:
                if room.bin.node in self.cuts:
                    room.cut(self.problem.cells[self.cell], self.cuts[room.bin.node])

    def best(self, size: int, blocks: int, *, avoid: Callable[[str], bool] = lambda node: False) -> Room | None:
        """The node that a request prefers; one that `avoid` names only if no other fits."""
        heap = self._heap(size, blocks, whole=False)
        passed: list[tuple[Key, int, Room]] = []
        found: Room | None = None
        while heap:
            top = heap[0]
            if top[1] != top[2].version:
                heappop(heap)
            elif avoid(top[2].bin.node):
                passed.append(heappop(heap))
            else:
                found = top[2]
                break
        for entry in passed:
            heappush(heap, entry)
        return found if found is not None or not passed else passed[0][2]

    def take(self, room: Room, size: int, blocks: int) -> tuple[str, ...]:
        """Takes the devices there; returns the replicas that must be gone first."""
        after = room.take(size, blocks)
        if self.cuts is not None and blocks:
            self.cuts[room.bin.node][blocks] -= 1
        self.changed.append(room)  # the heaps hear of it when they are asked next: a node that is filled at one go comes to them once
        return after

    def take_whole(self, size: int, blocks: int, span: int) -> tuple[str, tuple[str, ...]]:
        """Takes `span` whole nodes: their joined names and the replicas that must be gone first."""
        heap = self._heap(size, blocks, whole=True)
        chosen: list[Room] = []
        while heap and len(chosen) < span:
            _, version, room = heappop(heap)
            if version == room.version:
                chosen.append(room)
        if len(chosen) < span:
            name = self.problem.cells[self.cell].name
            raise BindError(f"{name} has {len(chosen)} whole nodes of {size} for a replica over {span}: the counts of the plan do not fit")
        after: set[str] = set()
        for room in chosen:
            after.update(self.take(room, size, blocks))
        return ",".join(sorted(room.bin.node for room in chosen)), tuple(sorted(after))

    def forget(self, size: int, *, whole: bool) -> None:
        """A heap that a search has emptied is made anew."""
        self.heaps.pop((size, whole), None)

    def _heap(self, size: int, blocks: int, *, whole: bool) -> list[tuple[Key, int, Room]]:
        key = size, whole
        if key not in self.heaps:
            heap: list[tuple[Key, int, Room]] = []
            for room in self.rooms:
                self._push(heap, room, size, blocks, whole)
            heapify(heap)
            self.heaps[key] = heap
        elif self.known[key] < len(self.changed):
            for room in {id(r): r for r in self.changed[self.known[key] :]}.values():
                self._push(self.heaps[key], room, size, blocks, whole)
        self.known[key] = len(self.changed)
        return self.heaps[key]

    def _push(self, heap: list[tuple[Key, int, Room]], room: Room, size: int, blocks: int, whole: bool) -> None:
        if not room.fits(size, blocks) or not room.bin.takes(self.problem.cells[self.cell], size):
            return
        if whole and not (room.bin.whole(size) and room.empty()):
            return
        if self.cuts is not None and blocks and self.cuts.get(room.bin.node, {}).get(blocks, 0) < 1:
            return
        breaks = blocks == 0 and not room.half_used()
        key = (not room.fits_now(size, blocks), breaks, room.left(size, blocks), room.bin.node)
        heappush(heap, (key, room.version, room))
