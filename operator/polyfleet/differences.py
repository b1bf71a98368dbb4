"""What changed between two readings of the same collection, found by identity: an object that did not change is the same object."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_not
from typing import TypeVar

Item = TypeVar("Item")


def changes(old: Sequence[Item], new: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """(gone, come): an object that was replaced is in both. In the order of the readings.

    Both are sorted alike, so what they share at the beginning and at the end is passed over at the speed of a loop in C.
    """
    if old is new:
        return [], []
    if len(old) == len(new):
        gone, come = _aligned(old, new)
    else:
        shortest = min(len(old), len(new))
        head = _run(old, new, shortest)
        tail = _run(old[::-1], new[::-1], shortest - head)
        gone, come = list(old[head : len(old) - tail]), list(new[head : len(new) - tail])
    # Between an insertion and a removal everything stands in another place.
    left, right = {id(item) for item in gone}, {id(item) for item in come}
    return [item for item in gone if id(item) not in right], [item for item in come if id(item) not in left]


def _aligned(old: Sequence[Item], new: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    marks = bytes(map(is_not, old, new))
    places = []
    at = marks.find(1)
    while at >= 0:
        places.append(at)
        at = marks.find(1, at + 1)
    return [old[at] for at in places], [new[at] for at in places]


def _run(old: Sequence[Item], new: Sequence[Item], limit: int) -> int:
    """How many objects at the beginning are the same."""
    found = bytes(map(is_not, old[:limit], new[:limit])).find(1)
    return limit if found < 0 else found
