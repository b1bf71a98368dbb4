"""Packing of requests into the rings of one node: the same answers as trying everything, without trying what is alike twice."""

from __future__ import annotations

import random
from itertools import combinations

from placement.shapes import Place, pack, place_patterns


def packs(places: list[list[int]], needs: list[Place]) -> bool:
    """Every choice of parts for every request."""
    if not needs:
        return True
    need = needs[0]
    for parts in places:
        for taken in combinations(range(len(parts)), len(need)):
            if all(parts[p] >= need[0] for p in taken):
                for p in taken:
                    parts[p] -= need[0]
                found = packs(places, needs[1:])
                for p in taken:
                    parts[p] += need[0]
                if found:
                    return True
    return False


def test_packing_is_what_trying_everything_finds() -> None:
    rng = random.Random(5)
    seen = {True: 0, False: 0}
    for _ in range(600):
        places = [tuple(rng.randint(0, 4) for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(1, 3))]
        needs: list[Place] = [(rng.randint(1, 4),) * rng.choice((1, 1, 2, 3)) for _ in range(rng.randint(1, 4))]
        found = pack(places, needs)
        seen[found is not None] += 1
        assert (found is not None) == packs([list(p) for p in places], needs), (places, needs)
        if found is not None:
            left = [list(p) for p in places]
            for need, (place, parts) in zip(needs, found, strict=True):
                assert len(set(parts)) == len(need)
                for p in parts:
                    left[place][p] -= need[0]
            assert min(x for parts in left for x in parts) >= 0
    assert min(seen.values()) > 100


def test_rings_of_one_on_a_large_node_are_all_alike() -> None:
    """64 rings of one device: C(64, 32) = 1.8e18 ways to take 32 of them, and no two of them differ."""
    node: Place = (1,) * 64
    found = pack([node], [(1,) * 32, (1,) * 16, (1,) * 16])
    assert found is not None
    assert sorted(p for _, parts in found for p in parts) == list(range(64))
    assert pack([node], [(1,) * 32, (1,) * 33]) is None
    assert pack([node] * 8, [(1,) * 40] * 9) is None
    assert set(place_patterns((1,) * 32, ((1,), (1,) * 16))) == {((1, 32),), ((1, 16), (16, 1)), ((16, 2),)}
