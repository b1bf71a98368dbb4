"""The share of one model's demand that some replicas cover: length buckets, KV cache, and networks that two roles must share.

One share for everything: a model at 0.8 serves 80 % of each bucket and keeps 80 % of the KV floor. A split deployment is a model with twice
the buckets, first those of decode, then those of prefill; each option serves those of its role, so the ratio of the two roles follows from
their loads. With `same_network` a request is prefilled and decoded in one network domain, so in each domain and length bucket the share of
prefill equals the share of decode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from placement.coverage import covered, covered_in_networks

# A replica as its model's demand sees it: work/s per bucket, KV tokens per floor, network domain ("" where it does not matter).
Kind = tuple[tuple[float, ...], tuple[float, ...], str]
Supply = tuple[tuple[Kind, int], ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What replicas must carry: `loads` per bucket, `floors` in tokens of KV cache; `half` > 0 = buckets of one role, same network."""

    loads: tuple[float, ...] = (0.0,)
    floors: tuple[float, ...] = ()
    half: int = 0

    @property
    def any(self) -> bool:
        return any(x > 0 for x in self.loads) or bool(self.floors)


def share(needs: Needs, supply: Mapping[Kind, int]) -> float:
    """0 to 1; 1 where nothing is asked."""
    return _share(needs, tuple(sorted((kind, n) for kind, n in supply.items() if n > 0)))


@lru_cache(maxsize=65536)
def _share(needs: Needs, supply: Supply) -> float:
    phi = 1.0
    if any(x > 0 for x in needs.loads):
        if needs.half:
            phi = covered_in_networks(needs.loads, needs.half, [(rates, n, network) for (rates, _, network), n in supply])
        else:
            merged: dict[tuple[float, ...], int] = {}
            for (rates, _, _), n in supply:
                merged[rates] = merged.get(rates, 0) + n
            phi = covered(needs.loads, sorted(merged.items()))
    for i, floor in enumerate(needs.floors):
        phi = min(phi, sum(tokens[i] * n for (_, tokens, _), n in supply) / floor)
    return phi
