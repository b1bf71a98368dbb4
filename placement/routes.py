"""The routing that proves the coverage of every model with several length buckets: shares of each bucket per option, in a Plan's terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from placement.coverage import Rates, covered, shares_in_networks, tot
from placement.problem import Problem
from placement.snapshot import ROLES, Split
from placement.types import Assignment, Route

DIGITS = 9


def routes_of(problem: Problem, assignments: Iterable[Assignment]) -> tuple[Route, ...]:
    """Sorted by model, option, network and bucket. Buckets of a split deployment are named by their role again."""
    network_of = {c.name: c.network_domain for c in problem.cells}
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for a in assignments:
        counts.setdefault(a.model, Counter())[(a.option, network_of.get(a.cell, ""))] += a.replicas
    result: list[Route] = []
    for m, model in enumerate(problem.models):
        asked = problem.demand[m]
        loads, have = asked.loads, counts.get(model.name, Counter())
        if len(loads) < 2 or not any(x > 0 for x in loads):
            continue
        half = len(loads) // 2 if isinstance(asked, Split) else 0
        within = half if model.same_network else 0
        used: Counter[tuple[str, str]] = Counter()
        for (option, network), n in have.items():
            if option in problem.option_index:
                used[(option, network if within else "")] += n
        keys = sorted(used)
        supply = [(problem.options[problem.option_index[option]].rates(len(loads)), used[(option, network)]) for option, network in keys]
        rows = _shares(tuple(loads), within, tuple(supply), tuple(n for _, n in keys))
        for (option, network), row in zip(keys, rows, strict=True):
            for b, y in enumerate(row):
                if round(y, DIGITS) > 0:
                    role, bucket = (ROLES[b // half], b % half) if half else ("", b)
                    result.append(Route(model.name, role, bucket, option, round(y, DIGITS), network))
    return tuple(result)


Supply = tuple[tuple[tuple[float, ...], int], ...]


@lru_cache(maxsize=16384)
def _shares(loads: tuple[float, ...], within: int, supply: Supply, networks: tuple[str, ...]) -> list[tuple[float, ...]]:
    """One and two options without a program: most models have no more. Kept from plan to plan, as most models stay as they are."""
    if not within and len(supply) == 1:
        rates, count = supply[0]
        total = tot(loads, rates)
        phi = min(1.0, count / total) if total > 0 else 1.0
        return [tuple(phi if x > 0 else 0.0 for x in loads)]
    if not within and len(supply) == 2:
        found = _two(loads, supply)
        if found is not None:
            return found
    return list(shares_in_networks(loads, within, [(r, n, where) for (r, n), where in zip(supply, networks, strict=True)]))


def _two(loads: Rates, supply: Supply) -> list[tuple[float, ...]] | None:
    """The first option takes what the second does worst, until it is full. None where that does not reach the covered share."""
    phi = covered(loads, supply)
    (one, most), (other, rest) = supply
    first, second, left = [0.0] * len(loads), [0.0] * len(loads), float(most)
    buckets = [b for b, x in enumerate(loads) if x > 0 and (one[b] > 0 or other[b] > 0)]
    buckets.sort(key=lambda b: (other[b] > 0, other[b] / one[b] if one[b] > 0 else float("inf"), b))
    for b in buckets:
        if one[b] > 0:
            first[b] = phi if other[b] <= 0 else min(phi, max(0.0, left) * one[b] / loads[b])
            left -= first[b] * loads[b] / one[b]
        second[b] = phi - first[b]
    filled = sum(loads[b] * y / other[b] for b, y in enumerate(second) if y > 0 and other[b] > 0)
    if left < -1e-7 or filled > rest + 1e-7:
        return None
    return [tuple(first), tuple(second)]
