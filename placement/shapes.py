"""What one request takes of a node, and which requests may share one: pure functions of a cell's allocation rule.

Units are devices; *blocks* are whole aligned groups of them (A3: cards of 2 dies), of which every request above size 1 takes whole ones.
A *place* is a tuple of parts with free blocks: a node without rings is one part, a node with rings has one part per ring (910A 2 of 4,
A2 Box16 2 of 8).

- A request up to a ring stays in one ring; a larger one takes equal shares of as many rings as it needs (10 on Box16 = 5 + 5).
- A single device of a cell with blocks or rings needs no partner: it has no blocks and only counts in the sum of the units.
- A request of several nodes (`span`) takes whole nodes of one cell, and a cell lies in one network domain: any `span` whole free nodes of
  the cell will do, so it packs as `span` requests of a whole node. A span that takes part of a node is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from placement.types import Cell, Option

Place = tuple[int, ...]
Multiset = tuple[tuple[int, int], ...]  # (size, count), ascending


def alignment(cell: Cell) -> int:
    """Devices of one block. Whole nodes need no partner rule: all devices are taken."""
    return 1 if cell.whole_node_only else cell.align_to


def ring_of(cell: Cell) -> int | None:
    """Devices of a ring, or None where the whole node is one."""
    if cell.ring is None or cell.whole_node_only or (cell.per_node is not None and cell.ring >= cell.per_node):
        return None
    return cell.ring


def loose_singles(cell: Cell) -> bool:
    """Whether a single device takes any free unit without touching the blocks that larger requests count in."""
    return alignment(cell) > 1 or ring_of(cell) is not None


def blocks_of(cell: Cell, size: int) -> int:
    """Whole blocks that a request of this size takes of one node (0 for a single device in a cell with blocks or rings)."""
    return 0 if size == 1 and loose_singles(cell) else size // alignment(cell)


def request(option: Option) -> int:
    """Devices that one pod of the option asks for on its node."""
    return option.devices // option.span


def legal(cell: Cell, size: int, span: int = 1) -> bool:
    """Whether a replica of `size` devices over `span` nodes may be asked for under this pool's scheduler."""
    if span < 1 or size < 1 or size % span:
        return False
    pod = size // span
    if pod not in cell.sizes or (span > 1 and pod != cell.per_node):
        return False
    if pod == 1:
        return True
    if cell.whole_node_only:
        return cell.per_node is None or pod == cell.per_node
    if pod % cell.align_to:
        return False
    ring = ring_of(cell)
    if ring is None or pod <= ring:
        return True
    rings = -(-pod // ring)
    return pod % (rings * cell.align_to) == 0 and (cell.per_node is None or rings <= cell.per_node // ring)


def parts_of(cell: Cell, size: int) -> Place:
    """Blocks that a legal request takes of each ring that it uses."""
    blocks, ring = blocks_of(cell, size), ring_of(cell)
    if ring is None or size <= ring:
        return (blocks,)
    rings = -(-size // ring)
    return (blocks // rings,) * rings


def is_chain(sizes: Sequence[int]) -> bool:
    """Whether each of the ascending sizes divides the next."""
    return all(b % a == 0 for a, b in pairwise(sizes))


def chain(cell: Cell, sizes: Sequence[int]) -> bool:
    """Whether the rows of chunks are exact for requests of these sizes on one node. With rings a full ring is a link of the chain."""
    links = {s for s in sizes if blocks_of(cell, s)}
    ring = ring_of(cell)
    if ring is not None and any(s > ring for s in links):
        links.add(ring)
    return is_chain(sorted(links))


def chunks(place: Place, need: Place) -> int:
    """How many requests of one kind the place takes if it takes no others."""
    if len(need) == 1:
        return sum(part // need[0] for part in place)
    # A share is more than half a ring, so no ring takes two.
    return sum(1 for part in place if part >= need[0]) // len(need)


def maximal_patterns(sizes: Sequence[int], capacity: int) -> list[dict[int, int]]:
    """Every multiset of the sizes that fits the capacity and to which nothing can be added."""
    ordered = sorted(sizes, reverse=True)
    smallest = ordered[-1] if ordered else capacity + 1
    found: list[dict[int, int]] = []

    def fill(position: int, left: int, chosen: dict[int, int]) -> None:
        if position == len(ordered):
            if left < smallest:
                found.append(dict(chosen))
            return
        size = ordered[position]
        for count in range(left // size, -1, -1):
            if count:
                chosen[size] = count
            fill(position + 1, left - count * size, chosen)
            chosen.pop(size, None)

    fill(0, capacity, {})
    return found


@lru_cache(maxsize=4096)
def place_patterns(place: Place, needs: tuple[Place, ...]) -> tuple[Multiset, ...]:
    """Every maximal multiset of requests that one place takes: ((blocks of one request, count), ...). `needs` without repeats."""
    small = tuple(sorted(n[0] for n in needs if len(n) == 1))
    large = sorted((n for n in needs if len(n) > 1), reverse=True)
    found: set[Multiset] = set()

    def rings(parts: Place, first: int, chosen: dict[int, int]) -> None:
        for i in range(first, len(large)):
            need = large[i]
            for taken in _takes(parts, need):
                left = tuple(part - need[0] if p in taken else part for p, part in enumerate(parts))
                rings(left, i, {**chosen, sum(need): chosen.get(sum(need), 0) + 1})
        mixes: set[Multiset] = {tuple(sorted(chosen.items()))}
        for part in parts:
            mixes = {_sum(mix, tuple(p.items())) for mix in mixes for p in maximal_patterns(small, part)}
        found.update(mixes)

    rings(place, 0, {})
    return tuple(p for p in sorted(found) if not any(_within(p, q) for q in found if q != p))


def _takes(parts: Sequence[int], need: Place) -> Iterator[tuple[int, ...]]:
    """Parts that one request could take, by index. Parts with as much free are alike, so of these only how many are taken counts: without
    that a node of 32 rings has C(32, 16) = 6e8 ways to give 16 of them."""
    alike: dict[int, list[int]] = {}
    for p, part in enumerate(parts):
        if part >= need[0]:
            alike.setdefault(part, []).append(p)
    kinds = [mine for _, mine in sorted(alike.items())]

    def choose(kind: int, count: int) -> Iterator[tuple[int, ...]]:
        if not count:
            yield ()
        elif kind < len(kinds):
            for n in range(min(count, len(kinds[kind])), -1, -1):
                for others in choose(kind + 1, count - n):
                    yield (*kinds[kind][:n], *others)

    return choose(0, len(need))


def _sum(a: Multiset, b: Multiset) -> Multiset:
    total = dict(a)
    for size, count in b:
        total[size] = total.get(size, 0) + count
    return tuple(sorted(total.items()))


def _within(a: Multiset, b: Multiset) -> bool:
    larger = dict(b)
    return all(count <= larger.get(size, 0) for size, count in a)


def pack(places: Sequence[Place], needs: Sequence[Place]) -> list[tuple[int, tuple[int, ...]]] | None:
    """Exhaustive: per request (in the given order) the place and the parts of it that it takes, or None. For one node's few requests."""
    left = [list(place) for place in places]
    chosen: list[tuple[int, tuple[int, ...]]] = []
    dead: set[tuple[int, tuple[Place, ...]]] = set()

    def fits(position: int) -> bool:
        if position == len(needs):
            return True
        state = (position, tuple(tuple(sorted(parts)) for parts in left))
        if state in dead:
            return False
        need = needs[position]
        tried: set[Place] = set()
        for i, parts in enumerate(left):
            alike = tuple(sorted(parts))
            if alike in tried:
                continue
            tried.add(alike)
            for taken in _takes(parts, need):
                for p in taken:
                    parts[p] -= need[0]
                chosen.append((i, tuple(sorted(taken))))
                if fits(position + 1):
                    return True
                chosen.pop()
                for p in taken:
                    parts[p] += need[0]
        dead.add(state)
        return False

    return chosen if fits(0) else None
