"""From counts to nodes: which replica stops, on which node each start lands, what it must wait for.

Starts of a cell are placed in descending size. For sizes that form a chain every choice among the nodes that still fit succeeds
(`bins`), so the choice is free for the future and for safety. Among fitting nodes, in this order:

1. not the node that would hold all replicas of the model, if it has more than one;
2. a node that has the devices now before one that must wait for a stop;
3. single devices of an aligned cell: half-used blocks first;
4. best fit: the fewest free blocks left over;
5. the sorted name.

For other sizes the solver's cut of each node says how many requests of a size it takes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from placement.nodes import Bin, alignment, blocks_of
from placement.problem import Problem, Way
from placement.types import Assignment, ReplicaState, Start


class BindError(RuntimeError):
    """Counts that fit no nodes: the rows of `bins` were not met. The caller falls back."""


@dataclass(frozen=True, slots=True)
class Binding:
    assignments: tuple[Assignment, ...]
    keep: tuple[str, ...]
    stop: tuple[str, ...]
    starts: tuple[Start, ...]


@dataclass(slots=True)
class Room:
    """What is left on one node while starts are placed. `waits` are replicas whose devices come later, in the order to use them."""

    bin: Bin
    align: int
    free: int
    blocks: int
    free_now: int
    blocks_now: int
    waits: list[tuple[str, int, int]]
    used: list[str] = field(default_factory=list)

    def fits(self, size: int, blocks: int) -> bool:
        return self.free >= size and self.blocks >= blocks

    def fits_now(self, size: int, blocks: int) -> bool:
        return self.free_now >= size and self.blocks_now >= blocks

    def half_used(self) -> bool:
        return self.free > self.align * self.blocks

    def take(self, size: int, blocks: int) -> tuple[str, ...]:
        """Takes the devices; returns the replicas that must be gone first."""
        waited = not self.fits_now(size, blocks)
        while not self.fits_now(size, blocks):
            replica, units, whole = self.waits.pop(0)
            self.used.append(replica)
            self.free_now += units
            self.blocks_now += whole
        self.free, self.blocks = _less(self.free, self.blocks, size, blocks, self.align)
        self.free_now, self.blocks_now = _less(self.free_now, self.blocks_now, size, blocks, self.align)
        return tuple(sorted(self.used)) if waited or self.used else ()


def _less(free: int, blocks: int, size: int, taken: int, align: int) -> tuple[int, int]:
    free -= size
    # A single device takes a half-used block's rest if there is one, else it breaks a block.
    blocks = min(blocks - taken, free // align) if align > 1 else blocks - taken
    return free, blocks


def bind(problem: Problem, starts: tuple[int, ...], stops: tuple[int, ...], slots: dict[int, dict[str, dict[int, int]]]) -> Binding:
    stopped: dict[str, list[str]] = {}
    stop_order: list[tuple[int, str]] = []
    kept: Counter[tuple[str, str, str, str]] = Counter()
    on_node: Counter[tuple[int, str]] = Counter()
    total: Counter[int] = Counter()
    keep: list[str] = []
    for g in problem.groups:
        gone = stops[g.index]
        stopped.setdefault(g.node, []).extend(g.ids[:gone])
        stop_order += [(-problem.rank[g.model], replica) for replica in g.ids[:gone]]
        keep += g.ids[gone:]
        left = len(g.ids) - gone
        if left:
            where = "" if g.cell is None else problem.cells[g.cell].name
            kept[(problem.models[g.model].name, g.option or "", where, g.node)] += left
        on_node[(g.model, g.node)] += left
        total[g.model] += left
    for way in problem.ways:
        total[way.model] += starts[way.index]

    rooms = rooms_of(problem, stops)
    placed: list[tuple[Way, Start]] = []
    for cell in sorted({w.cell for w in problem.ways}):
        mine = [w for w in problem.ways if w.cell == cell and starts[w.index]]
        mine.sort(key=lambda w: (-w.size, problem.rank[w.model], problem.models[w.model].name, problem.options[w.option].id))
        cuts = slots.get(cell)
        left_in_cut = None if cuts is None else {node: Counter(sizes) for node, sizes in cuts.items()}
        for way in mine:
            for _ in range(starts[way.index]):
                room = _choose(problem, way, rooms.get(cell, []), on_node, total, left_in_cut)
                after = room.take(way.size, blocks_of(problem.cells[cell], way.size))
                on_node[(way.model, room.bin.node)] += 1
                start = Start(
                    model=problem.models[way.model].name,
                    option=problem.options[way.option].id,
                    cell=problem.cells[cell].name,
                    node=room.bin.node,
                    after=after,
                )
                placed.append((way, start))
                kept[(start.model, start.option, start.cell, start.node)] += 1
    # Starts that need nobody's devices first within a rank: they can begin at once.
    placed.sort(key=lambda p: (problem.rank[p[0].model], len(p[1].after) > 0, p[1].model, p[1].option, p[1].node, p[1].after))
    return Binding(
        assignments=tuple(Assignment(*key, replicas=count) for key, count in sorted(kept.items())),
        keep=tuple(sorted(keep)),
        stop=tuple(replica for _, replica in sorted(stop_order)),
        starts=tuple(start for _, start in placed),
    )


def rooms_of(problem: Problem, stops: tuple[int, ...]) -> dict[int, list[Room]]:
    draining = {r.id for r in problem.snapshot.replicas if r.state is ReplicaState.DRAINING}
    rooms: dict[int, list[Room]] = {}
    for b in problem.bins:
        waits = [w for w in b.draining if w[0] in draining]
        free, blocks = b.free, b.blocks
        for group, units, whole in b.gains:
            for replica in problem.groups[group].ids[: stops[group]]:
                waits.append((replica, units, whole))
                free += units
                blocks += whole
        room = Room(b, alignment(problem.cells[b.cell]), free, blocks, b.free_now, b.blocks_now, waits)
        rooms.setdefault(b.cell, []).append(room)
    return rooms


def _choose(
    problem: Problem,
    way: Way,
    rooms: list[Room],
    on_node: Counter[tuple[int, str]],
    total: Counter[int],
    cut: dict[str, Counter[int]] | None,
) -> Room:
    cell = problem.cells[way.cell]
    blocks = blocks_of(cell, way.size)
    best: Room | None = None
    best_key: tuple[bool, bool, bool, int, str] | None = None
    for room in rooms:
        node = room.bin.node
        if not room.fits(way.size, blocks) or not room.bin.takes(cell, way.size):
            continue
        if cut is not None and blocks and cut.get(node, Counter())[blocks] < 1:
            continue
        alone = total[way.model] > 1 and on_node[(way.model, node)] + 1 == total[way.model]
        breaks = blocks == 0 and not room.half_used()
        key = (alone, not room.fits_now(way.size, blocks), breaks, room.blocks if room.align > 1 and blocks else room.free, node)
        if best_key is None or key < best_key:
            best, best_key = room, key
    if best is None:
        raise BindError(f"no node of {cell.name} takes {way.size} devices: the counts of the plan do not fit")
    if cut is not None and blocks:
        cut[best.bin.node][blocks] -= 1
    return best
