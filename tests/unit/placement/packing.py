"""An exhaustive packer for a handful of nodes, written from the allocation rules alone: the oracle of the capacity rows.

A node is (free units, free blocks per ring). A request is (size, span): above one node it takes whole nodes; above a ring equal shares of
as many rings as it needs; above size 1 whole blocks; a single device beside blocks or rings takes any unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations

State = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Kind:
    """An allocation rule with a name, as the hardware has it."""

    name: str
    sizes: tuple[int, ...]
    node: int
    align: int = 1
    ring: int | None = None
    whole: bool = False
    spans: tuple[int, ...] = ()

    @property
    def loose(self) -> bool:
        return self.align > 1 or self.ring is not None

    @property
    def full(self) -> State:
        ring = self.ring or self.node
        return self.node, (ring // self.align,) * (self.node // ring)

    def rings(self, size: int) -> tuple[int, int]:
        """How many rings a request uses, and blocks of each."""
        count = -(-size // (self.ring or self.node))
        return count, size // count // self.align


def fits(kind: Kind, nodes: tuple[State, ...], requests: tuple[tuple[int, int], ...]) -> bool:
    """Whether all requests (devices on one node, nodes) fit together."""

    @cache
    def place(position: int, left: tuple[State, ...]) -> bool:
        if position == len(ordered):
            return True
        size, span = ordered[position]
        if span > 1:
            empty = [i for i, state in enumerate(left) if state == kind.full]
            if len(empty) < span:
                return False
            rest = [state for i, state in enumerate(left) if i not in empty[:span]]
            return place(position + 1, tuple(sorted(rest)))
        for i, state in enumerate(left):
            if i and state == left[i - 1]:
                continue
            for after in take(kind, state, size):
                if place(position + 1, tuple(sorted((*left[:i], after, *left[i + 1 :])))):
                    return True
        return False

    # Single devices last: where they sit loosely they take what the others leave, and elsewhere the order changes nothing.
    ordered = tuple(sorted(requests, key=lambda r: (-r[1], -r[0])))
    return place(0, tuple(sorted(nodes)))


def take(kind: Kind, state: State, size: int) -> set[State]:
    """What one node may look like after one more request."""
    units, rings = state
    if units < size:
        return set()
    if kind.whole and size > 1:
        return {(0, (0,) * len(rings))} if state == kind.full and size == kind.node else set()
    if size == 1 and kind.loose:
        # It takes any device; that it must not break a ring or block matters to nobody after it.
        return {(units - 1, rings)}
    count, blocks = kind.rings(size)
    found: set[State] = set()
    for chosen in combinations([i for i, ring in enumerate(rings) if ring >= blocks], count):
        found.add((units - size, tuple(sorted(ring - blocks if i in chosen else ring for i, ring in enumerate(rings)))))
    return found


HGX = Kind("hgx", (1, 2, 4, 8), 8)
HGX_SPANS = Kind("hgx-spans", (1, 2, 4, 8), 8, spans=(2, 3, 4))
ANY = Kind("any", (1, 2, 3, 4, 5, 6, 7, 8), 8)
ODD = Kind("odd", (2, 5, 8), 8, spans=(2,))
CARDS = Kind("a3", (1, 2, 4, 8, 16), 16, align=2)
CARDS_EVEN = Kind("a3-even", (1, 2, 4, 6, 8, 10, 12, 14, 16), 16, align=2, spans=(2,))
RINGS = Kind("910a", (1, 2, 4, 8), 8, ring=4, spans=(2,))
BOX = Kind("box16", (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16), 16, ring=8)
BOX_CHAIN = Kind("box16-chain", (1, 2, 4, 8, 16), 16, ring=8, spans=(2,))
WHOLE = Kind("a3-default", (1, 16), 16, align=2, whole=True, spans=(2,))
KINDS = (HGX, HGX_SPANS, ANY, ODD, CARDS, CARDS_EVEN, RINGS, BOX, BOX_CHAIN, WHOLE)
# No such machine is known; it has what those above lack: more than one large request beside another on one node.
FOUR_RINGS = Kind("four-rings", (1, 2, 3, 4, 6, 8, 12, 16), 16, ring=4)
