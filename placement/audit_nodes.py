"""Recount of every node on which something starts: devices, whole blocks, rings, whole nodes. Shares no code with the planner.

What is not known of a node counts as taken: a plan has to fit whatever the unknown is. A replica that goes leaves a place of its own size,
apart from what is free beside it, unless everything on the node goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from placement.audit_world import World
from placement.types import Cell, Node, Replica, Start

Here = list[tuple[Replica, int]]
Spots = tuple[tuple[int, ...], ...]


def node_faults(world: World) -> list[str]:
    found: list[str] = []
    for name in sorted(world.starts_on):
        if name in world.nodes:
            node = world.nodes[name]
            _node(world, node, world.cells[node.cell], world.starts_on[name], world.on.get(name, []), found)
    return found


def _node(w: World, node: Node, cell: Cell, starts: list[tuple[Start, int]], here: Here, found: list[str]) -> None:
    at = f"node {node.name}"
    room = node.allocatable - node.held_by_others
    held_now = sum(k for _, k in here)
    kept = [(r, k) for r, k in here if r.id in w.kept]
    asked = [k for _, k in starts]
    if held_now > room:
        found.append(f"{at}: holds {held_now} of {room} and takes {sum(asked)} more")
    if sum(k for _, k in kept) + sum(asked) > room:
        found.append(f"{at}: {sum(k for _, k in kept)} kept and {sum(asked)} started, room {room}")
    # In the order of waiting: what starts at once fits what is free now; each later start fits what its waits have freed.
    here_ids = {r.id for r, _ in here}
    waits = [(frozenset(s.after) & here_ids, k) for s, k in starts]
    for gone in sorted({after for after, _ in waits}, key=sorted):
        before = sum(k for after, k in waits if after <= gone)
        freed = sum(k for r, k in here if r.id in gone)
        if held_now - freed + before > room:
            found.append(f"{at}: starts that wait for {sorted(gone)} do not fit when these are gone")
    whole = [s for s, _ in starts if w.options[s.option].span > 1]
    large = [k for k in asked if k > 1]
    if whole or (large and cell.whole_node_only):
        if kept or node.held_by_others or node.allocatable != node.installed or len(asked) > 1:
            found.append(f"{at}: a whole-node replica on a node that is not empty")
    elif large and cell.ring is not None and cell.ring < node.installed:
        _rings(w, node, cell, starts, here, found)
    elif large and cell.align_to > 1:
        at_once = [k for s, k in starts if k > 1 and not s.after]
        kept_sizes = [k for _, k in kept]
        if not _blocks(node, cell, at_once, here, [k for _, k in here], "now", found):
            _blocks(node, cell, large, here, kept_sizes, "once those that go have gone", found)


def _blocks(node: Node, cell: Cell, large: list[int], here: Here, kept: list[int], when: str, found: list[str]) -> bool:
    """Whole blocks: known free ones, plus those of every larger replica that goes; single starts use loose devices first. True: fault."""
    align = cell.align_to
    blocks = sum(k // align for _, k in here if k > 1) - sum(k // align for k in kept if k > 1)
    if node.free_blocks is not None:
        blocks += node.free_blocks
    elif not node.held_by_others and node.allocatable >= node.installed:
        # Larger replicas hold whole blocks, so single devices break at most as many as those leave today.
        all_blocks = node.allocatable // align
        breakable = max(0, all_blocks - sum(-(-k // align) for _, k in here if k > 1))
        broken = min(breakable, sum(1 for k in kept if k == 1))
        blocks = all_blocks - broken - sum(-(-k // align) for k in kept if k > 1)
    used = sum(k // align for k in large)
    if used > max(0, blocks):
        found.append(f"node {node.name}: {used} whole blocks started, {blocks} are known to be free {when}")
        return True
    return False


def _rings(w: World, node: Node, cell: Cell, starts: list[tuple[Start, int]], here: Here, found: list[str]) -> None:
    """A request up to a ring lies in one ring, a larger one in equal shares of as many rings as it needs, all in whole blocks."""
    ring = cell.ring or node.installed
    count = node.installed // ring
    going = [(r, k) for r, k in here if r.id not in w.kept]
    untouched = not node.held_by_others and node.allocatable == node.installed
    now = _usable(_known_rings(node, ring, count, [k for _, k in here], untouched), ring, cell.align_to)
    if len(going) == len(here) and untouched:
        later: Spots = ((ring,) * count,)
    else:
        later = (now, *(_own(k, ring, cell.align_to) for _, k in going))
    at_once = tuple(sorted((k for s, k in starts if k > 1 and not s.after), reverse=True))
    everything = tuple(sorted((k for _, k in starts if k > 1), reverse=True))
    for spots, sizes, when in (((now,), at_once, "now"), (later, everything, "once those that go have gone")):
        if sizes and not _packs(_state(spots), sizes, ring):
            found.append(f"node {node.name}: starts of {list(sizes)} do not fit its rings of {ring} {when}")
            return


def _known_rings(node: Node, ring: int, count: int, held: list[int], untouched: bool) -> list[int]:
    """Devices that are free per ring, at least."""
    if node.free_rings is not None:
        # Devices that are promised and not yet taken may come out of any ring.
        free = node.allocatable - node.held_by_others - sum(held)
        hidden = max(0, sum(node.free_rings) - free)
        return [max(0, f - hidden) for f in node.free_rings]
    if not untouched:
        return [0] * count
    touched = [-(-k // ring) for k in held if k]
    left = [ring] * max(0, count - sum(touched))
    if len(touched) == 1 and touched[0] <= count:
        left += [ring - -(-held[0] // touched[0])] * touched[0]
    return left


def _usable(rings: list[int], ring: int, align: int) -> tuple[int, ...]:
    """Of a ring that is partly used, no block of several devices is known to be complete."""
    return tuple(f if align == 1 or f == ring else 0 for f in rings)


def _own(devices: int, ring: int, align: int) -> tuple[int, ...]:
    rings = -(-devices // ring)
    if devices == 1 or devices % (rings * align):
        return ()
    return (devices // rings,) * rings


def _state(spots: Spots) -> Spots:
    return tuple(sorted(tuple(sorted(s, reverse=True)) for s in spots if any(s)))


@lru_cache(maxsize=4096)
def _packs(spots: Spots, sizes: tuple[int, ...], ring: int) -> bool:
    if not sizes:
        return True
    rings = -(-sizes[0] // ring)
    share = sizes[0] // rings
    for i, spot in enumerate(spots):
        for chosen in _choices(tuple(sorted(Counter(free for free in spot if free >= share).items())), rings):
            left = Counter(spot)
            left.subtract(chosen)
            after = (*left.elements(), *(free - share for free in chosen.elements()))
            if _packs(_state((*spots[:i], after, *spots[i + 1 :])), sizes[1:], ring):
                return True
    return False


def _choices(alike: tuple[tuple[int, int], ...], count: int) -> Iterator[Counter[int]]:
    """Ways to take so many rings; rings with as much free are alike."""
    if not count:
        yield Counter()
    elif alike:
        (free, most), rest = alike[0], alike[1:]
        for n in range(min(most, count), -1, -1):
            for others in _choices(rest, count - n):
                yield others + Counter({free: n})
