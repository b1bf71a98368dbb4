"""What is left on one node while starts are placed: what is free now, and what will be once the replicas that go have gone."""

from __future__ import annotations

from dataclasses import dataclass, field

from placement.nodes import Bin, full_place, own_place
from placement.shapes import Place, alignment, pack, parts_of, ring_of
from placement.types import Cell


class BindError(RuntimeError):
    """Counts that fit no nodes: the rows of `bins` were not met. The caller falls back."""


@dataclass(slots=True)
class Room:
    """A node without rings. `waits` are replicas whose devices come later, in the order to use them."""

    bin: Bin
    align: int
    free: int
    blocks: int
    free_now: int
    blocks_now: int
    waits: list[tuple[str, int, int]]
    used: list[str] = field(default_factory=list)
    version: int = 0

    def fits(self, size: int, blocks: int) -> bool:
        return self.free >= size and self.blocks >= blocks

    def fits_now(self, size: int, blocks: int) -> bool:
        return self.free_now >= size and self.blocks_now >= blocks

    def half_used(self) -> bool:
        return self.free > self.align * self.blocks

    def left(self, size: int, blocks: int) -> int:
        """What best fit keeps small."""
        return self.blocks if self.align > 1 and blocks else self.free

    def empty(self) -> bool:
        """Whether nothing of ours or of others will be on the node."""
        return self.free == self.bin.installed

    def take(self, size: int, blocks: int) -> tuple[str, ...]:
        """Takes the devices; returns the replicas that must be gone first."""
        self.version += 1
        while not self.fits_now(size, blocks):
            replica, units, whole = self.waits.pop(0)
            self.used.append(replica)
            self.free_now += units
            self.blocks_now += whole
        self.free, self.blocks = _less(self.free, self.blocks, size, blocks, self.align)
        self.free_now, self.blocks_now = _less(self.free_now, self.blocks_now, size, blocks, self.align)
        return tuple(sorted(self.used))

    def cut(self, cell: Cell, sizes: dict[int, int]) -> None:
        """Told which requests (blocks -> count) will come. Without rings any order fits."""

    def uncut(self) -> None:
        """Whatever was told, from now on what is left is free for any request."""


def _less(free: int, blocks: int, size: int, taken: int, align: int) -> tuple[int, int]:
    free -= size
    # A single device takes a half-used block's rest if there is one, else it breaks a block.
    blocks = min(blocks - taken, free // align) if align > 1 else blocks - taken
    return free, blocks


@dataclass(slots=True)
class Spot:
    """A place with rings: `later` once `waits` have gone, of which `now` is free already."""

    later: list[int]
    now: list[int]
    waits: tuple[str, ...]
    joined: bool = False  # what goes joins what is free now


@dataclass(slots=True)
class RingRoom(Room):
    """A node with rings. A large request takes its shares in one spot; a single device any unit."""

    cell: Cell | None = None
    spots: list[Spot] = field(default_factory=list)
    going: tuple[str, ...] = ()
    promised: dict[int, list[tuple[Spot, tuple[int, ...]]]] = field(default_factory=dict)
    waiting: bool = False  # a start waits here for devices among which some are free now

    def fits(self, size: int, blocks: int) -> bool:
        return self.free >= size and (not blocks or self._find(size, blocks) is not None)

    def fits_now(self, size: int, blocks: int) -> bool:
        if not blocks:
            return self.free_now >= size and not self.waiting
        found = self._find(size, blocks)
        return found is not None and _holds(found[0].now, found[1], self._need(size))

    def half_used(self) -> bool:
        full = ring_of(self._cell()) or 0
        parts = [p for s in self.spots for p in s.later]
        return self.free > sum(p for p in parts if p * self.align == full) * self.align

    def left(self, size: int, blocks: int) -> int:
        found = self._find(size, blocks) if blocks else None
        return self.free if found is None else 1000 * max(found[0].later[p] for p in found[1]) + self.free

    def take(self, size: int, blocks: int) -> tuple[str, ...]:
        self.version += 1
        self.free -= size
        if not blocks:
            return self._single(size)
        found = self._find(size, blocks)
        assert found is not None, "take follows fits"
        if self.promised:
            self.promised[blocks].pop(0)
        spot, parts = found
        need = self._need(size)
        at_once = _holds(spot.now, parts, need)
        for p in parts:
            spot.later[p] -= need[0]
            spot.now[p] = spot.now[p] - need[0] if at_once else min(spot.now[p], spot.later[p])
        if at_once:
            self.free_now -= size
            return ()
        self.waiting = self.waiting or spot.joined
        return spot.waits

    def cut(self, cell: Cell, sizes: dict[int, int]) -> None:
        ring = ring_of(cell) or 0
        needs: list[Place] = []
        for blocks, count in sorted(sizes.items(), reverse=True):
            needs += [parts_of(cell, blocks * alignment(cell))] * count
        # What can begin at once goes where nothing is waited for, if that packs; else wherever it packs.
        for places in ([tuple(s.now) for s in self.spots], [tuple(s.later) for s in self.spots]):
            found = pack(places, needs)
            if found is not None:
                break
        else:
            raise BindError(f"node {self.bin.node}: its cut {sizes} does not fit its rings of {ring}")
        for need, (place, parts) in zip(needs, found, strict=True):
            self.promised.setdefault(sum(need), []).append((self.spots[place], parts))

    def uncut(self) -> None:
        self.promised = {}

    def _single(self, size: int) -> tuple[str, ...]:
        if self.free_now < size or self.waiting:
            self.waiting = True
            _shrink(self.spots, self.free // self.align, now=False)
            return self.going
        self.free_now -= size
        _shrink(self.spots, self.free_now // self.align, now=True)
        _shrink(self.spots, self.free // self.align, now=False)
        return ()

    def _find(self, size: int, blocks: int) -> tuple[Spot, tuple[int, ...]] | None:
        """Best fit among the spots, those that need no waiting first."""
        if self.promised:
            return next(iter(self.promised.get(blocks, [])), None)
        need = self._need(size)
        best: tuple[tuple[bool, tuple[int, ...], int], Spot, tuple[int, ...]] | None = None
        for i, spot in enumerate(self.spots):
            for late, parts in ((False, spot.now), (True, spot.later)):
                fitting = sorted((part, p) for p, part in enumerate(parts) if part >= need[0])[: len(need)]
                if len(fitting) == len(need):
                    key = (late, tuple(part for part, _ in fitting), i)
                    if best is None or key < best[0]:
                        best = (key, spot, tuple(p for _, p in fitting))
                    break
        return None if best is None else best[1:]

    def _need(self, size: int) -> Place:
        return parts_of(self._cell(), size)

    def _cell(self) -> Cell:
        assert self.cell is not None
        return self.cell


def _holds(parts: list[int], chosen: tuple[int, ...], need: Place) -> bool:
    return all(parts[p] >= need[0] for p in chosen)


def _shrink(spots: list[Spot], free: int, *, now: bool) -> None:
    """A single device was taken: the rings cannot hold more than the blocks that are left; the most used ring loses first."""
    parts = sorted(((s.now if now else s.later)[p], i, p) for i, s in enumerate(spots) for p in range(len(s.now)))
    over = sum(part for part, _, _ in parts) - free
    for part, i, p in parts:
        if over <= 0:
            return
        less = min(part, over)
        (spots[i].now if now else spots[i].later)[p] -= less
        over -= less


def ring_room(cell: Cell, b: Bin, free: int, waits: list[tuple[str, int, int]], empties: bool) -> RingRoom:
    ids = tuple(sorted(w[0] for w in waits))
    room = RingRoom(b, alignment(cell), free, b.blocks, b.free_now, b.blocks_now, waits, cell=cell, going=ids)
    if empties:
        full = full_place(cell, b)
        room.spots = [Spot(list(full), list(b.rings), ids, joined=True)]
    else:
        places = [(own_place(cell, units), (replica,)) for replica, units, _ in waits]
        room.spots = [Spot(list(b.rings), list(b.rings), ())]
        room.spots += [Spot(list(p), [0] * len(p), who) for p, who in places if p]
    return room
