"""From counts to nodes: which replica stops, on which node each start lands, what it must wait for.

Starts of a cell are placed in descending size, replicas over several nodes first. For sizes that form a chain every choice among the nodes
that still fit succeeds (`bins`), so the choice is free for the future and for safety. Among fitting nodes, in this order:

1. not the node that would hold all replicas of the model, if it has more than one;
2. a node that has the devices now before one that must wait for a stop;
3. single devices of a cell with blocks or rings: half-used blocks and rings first;
4. best fit: the fewest free blocks left over;
5. the sorted name.

For other sizes the solver's cut of each node says how many requests of a size it takes; without one, best fit may fail (BindError).
`rooms` keeps the nodes of a cell ordered, so a start costs the logarithm of the cell's nodes.

A start over several nodes names them all, sorted and joined by commas, and so do its assignment and the replica that it becomes.

Which replicas stop (`choose_stops`, for counts that say only how many of an option and cell go): not serving first, then those on nodes
that take no new work, then on the emptiest nodes, so that whole nodes come free.

Cells whose pool's own scheduler chooses nodes (`exact_nodes` off): the node named here is a forecast. `begin_now` says which starts may
begin: one per such cell at a time, so that each is planned again from where the last one really landed. The counts of the plan are not cut
down to that one: they are the target, and a target that hid them would send the others to dearer cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from placement.problem import Problem, Way
from placement.rooms import BindError as BindError
from placement.rooms import Room as Room
from placement.rooms import Rooms
from placement.rooms import rooms_of as rooms_of
from placement.shapes import blocks_of, request
from placement.types import Assignment, ReplicaState, Snapshot, Start


@dataclass(frozen=True, slots=True)
class Binding:
    assignments: tuple[Assignment, ...]
    keep: tuple[str, ...]
    stop: tuple[str, ...]
    starts: tuple[Start, ...]


def bind(problem: Problem, starts: Sequence[int], stops: Sequence[int], slots: Mapping[int, dict[str, dict[int, int]]]) -> Binding:
    """Counts of starts per way and of stops per group, and the cut of each node where sizes are no chain. BindError if they do not fit."""
    stop_order: list[tuple[int, str]] = []
    kept: Counter[tuple[str, str, str, str]] = Counter()
    on_node: Counter[tuple[int, str]] = Counter()
    total: Counter[int] = Counter()
    keep: list[str] = []
    for g in problem.groups:
        gone = stops[g.index]
        stop_order += [(-problem.rank[g.model], replica) for replica in g.ids[:gone]]
        keep += g.ids[gone:]
        left = len(g.ids) - gone
        if left:
            where = "" if g.cell is None else problem.cells[g.cell].name
            kept[(problem.models[g.model].name, g.option or "", where, g.node)] += left
            on_node[(g.model, g.node)] += left
            total[g.model] += left
    by_cell: dict[int, list[Way]] = {}
    for way in problem.ways:
        if starts[way.index]:
            total[way.model] += starts[way.index]
            by_cell.setdefault(way.cell, []).append(way)

    rooms = rooms_of(problem, stops, only=set(by_cell))
    placed: list[tuple[int, Start]] = []
    for cell, mine in sorted(by_cell.items()):
        mine.sort(key=lambda w: _order(problem, w))
        ordered = Rooms(problem, cell, rooms.get(cell, []), slots.get(cell))
        for way in mine:
            for start in _starts(problem, way, starts[way.index], ordered, on_node, total):
                placed.append((problem.rank[way.model], start))
                kept[(start.model, start.option, start.cell, start.node)] += 1
    return Binding(
        assignments=tuple(Assignment(*key, replicas=count) for key, count in sorted(kept.items())),
        keep=tuple(sorted(keep)),
        stop=tuple(replica for _, replica in sorted(stop_order)),
        starts=_in_order(problem, placed),
    )


def bound(problem: Problem, stop: Collection[str], starts: Sequence[Start]) -> Binding:
    """The same for acts that are known already: replicas that stop, and starts on their nodes."""
    kept: Counter[tuple[str, str, str, str]] = Counter((s.model, s.option, s.cell, s.node) for s in starts)
    keep: list[str] = []
    order: list[tuple[int, str]] = []
    for g in problem.groups:
        where = "" if g.cell is None else problem.cells[g.cell].name
        for replica in g.ids:
            if replica in stop:
                order.append((-problem.rank[g.model], replica))
            else:
                keep.append(replica)
                kept[(problem.models[g.model].name, g.option or "", where, g.node)] += 1
    rank = {m.name: problem.rank[i] for i, m in enumerate(problem.models)}
    return Binding(
        assignments=tuple(Assignment(*key, replicas=count) for key, count in sorted(kept.items())),
        keep=tuple(sorted(keep)),
        stop=tuple(replica for _, replica in sorted(order)),
        starts=_in_order(problem, [(rank[s.model], s) for s in starts]),
    )


def _in_order(problem: Problem, placed: list[tuple[int, Start]]) -> tuple[Start, ...]:
    """Within a rank the starts that need nobody's devices first: they can begin at once. Of those the larger first: a single device that
    begins together with a larger request must not take the half of the card or ring that the other was promised."""
    size = {o.id: -o.devices for o in problem.options}
    placed.sort(key=lambda p: (p[0], len(p[1].after) > 0, size[p[1].option], p[1].model, p[1].option, p[1].node, p[1].after))
    return tuple(start for _, start in placed)


def _order(problem: Problem, way: Way) -> tuple[bool, int, int, str, str]:
    option = problem.options[way.option]
    return option.span == 1, -request(option), problem.rank[way.model], problem.models[way.model].name, option.id


def _starts(problem: Problem, way: Way, count: int, rooms: Rooms, on_node: Counter[tuple[int, str]], total: Counter[int]) -> list[Start]:
    option, cell = problem.options[way.option], problem.cells[way.cell]
    size = request(option)
    blocks = blocks_of(cell, size)
    result: list[Start] = []
    for _ in range(count):
        if option.span > 1:
            node, after = rooms.take_whole(size, blocks, option.span)
        else:
            room = rooms.best(size, blocks, avoid=_holds_the_others(on_node, way.model, total[way.model] - 1))
            if room is None:
                raise BindError(f"no node of {cell.name} takes {size} devices: the counts of the plan do not fit")
            node, after = room.bin.node, rooms.take(room, size, blocks)
        on_node[(way.model, node)] += 1
        result.append(Start(problem.models[way.model].name, option.id, cell.name, node, after))
    return result


def _holds_the_others(on_node: Counter[tuple[int, str]], model: int, others: int) -> Callable[[str], bool]:
    """Only a node that holds all other replicas of the model could come to hold them all."""
    return lambda node: others > 0 and on_node[(model, node)] == others


def choose_stops(problem: Problem, going: Mapping[tuple[int, str | None, int | None], int]) -> tuple[int, ...]:
    """Stops per group for numbers of replicas to go per (model, option id, cell): those of a cell that is above its share.

    Not serving first, then nodes that take no new work, then the emptiest node, then its name. BindError if fewer may stop.
    """
    stops = [0] * len(problem.groups)
    left = {key: count for key, count in going.items() if count > 0}
    for g in sorted(problem.groups, key=lambda g: (g.preference, g.node, g.index)):
        key = (g.model, g.option, g.cell)
        if g.stoppable and left.get(key):
            stops[g.index] = min(len(g.ids), left[key])
            left[key] -= stops[g.index]
    for (model, option, _), count in sorted(left.items(), key=str):
        if count:
            raise BindError(f"{problem.models[model].name}: {count} replicas of {option} more than may stop")
    return tuple(stops)


def begin_now(snapshot: Snapshot, starts: Sequence[Start]) -> tuple[Start, ...]:
    """The starts that may begin, of those in a plan: all in cells whose nodes we choose, one at a time in each other cell.

    A replica that is pending there, or nowhere yet with a profile of that cell, is the one.
    """
    loose = {c.name: c for c in snapshot.cells if not c.exact_nodes}
    cell_of = {n.name: n.cell for n in snapshot.nodes}
    profiles = {o.id: o.profile for o in snapshot.options}
    busy: set[str] = set()
    for r in snapshot.replicas:
        if r.state is ReplicaState.PENDING:
            at = cell_of.get(r.node.split(",")[0])
            busy |= {at} if at is not None else {name for name, c in loose.items() if c.profile == profiles.get(r.option or "", c.profile)}
    result: list[Start] = []
    for start in starts:
        if start.cell in loose:
            if start.cell in busy:
                continue
            busy.add(start.cell)
        result.append(start)
    return tuple(result)
