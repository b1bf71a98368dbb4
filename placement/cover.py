"""The cheapest way to cover one load with counts of several options: exact, by depth-first search with the fractional bound.

min sum p_i n_i, sum n_i r_i >= load, 0 <= n_i <= u_i whole. Options in the order of p / r: what is left of the load costs at least
left * p / r of the best option that may still be used (the linear relaxation without limits). This is the pricing problem of a service
whose load has one bucket; a small integer program for a solver costs it a hundred times more.
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS = 20_000


@dataclass(frozen=True, slots=True)
class Cover:
    counts: tuple[int, ...] | None  # per option as given; None = the load cannot be covered
    money: float
    bound: float  # money if the search ended by itself
    steps: int


def cover(
    load: float, rates: list[float], prices: list[float], most: list[int], *, below: float = float("inf"), steps: int = STEPS
) -> Cover:
    """The cheapest cover. `below`: only covers cheaper than this are of interest; the bound then is at most `below`."""
    order = sorted((i for i in range(len(rates)) if rates[i] > 0 and most[i] > 0), key=lambda i: (prices[i] / rates[i], -rates[i], i))
    r, p, u = [rates[i] for i in order], [prices[i] for i in order], [most[i] for i in order]
    n = len(order)
    # What the options from i on can cover together.
    reach = [0.0] * (n + 1)
    for i in range(n - 1, -1, -1):
        reach[i] = reach[i + 1] + r[i] * u[i]
    slack = 1e-9 * load
    if reach[0] < load - slack:
        return Cover(None, float("inf"), float("inf"), 0)
    best = below
    found: list[int] | None = None
    chosen = [0] * n
    used = 0
    cut = False
    least_cut = float("inf")

    def search(i: int, left: float, money: float) -> None:
        nonlocal best, found, used, cut, least_cut
        used += 1
        if left <= slack:
            if money < best - 1e-12:
                best, found = money, list(chosen)
            return
        if i == n or reach[i] < left - slack:
            return
        bound = money + left * p[i] / r[i]
        if bound >= best - 1e-12:
            return
        if used > steps:
            cut, least_cut = True, min(least_cut, bound)
            return
        top = min(u[i], int(-(-(left - slack) // r[i])))
        for count in range(top, -1, -1):
            rest = left - count * r[i]
            spent = money + count * p[i]
            # Fewer of this option only make the rest dearer, for the next is dearer per rate: once the bound is passed it stays passed.
            if rest > slack and (i + 1 == n or spent + rest * p[i + 1] / r[i + 1] >= best - 1e-12):
                break
            chosen[i] = count
            search(i + 1, rest, spent)
        chosen[i] = 0

    search(0, load, 0.0)
    counts: tuple[int, ...] | None = None
    if found is not None:
        whole = [0] * len(rates)
        for at, i in enumerate(order):
            whole[i] = found[at]
        counts = tuple(whole)
    return Cover(counts, best, min(best, least_cut) if cut else best, used)


def covers_below(
    load: float, rates: list[float], prices: list[float], most: list[int], below: float, limit: int, steps: int = STEPS
) -> list[tuple[float, tuple[int, ...]]]:
    """Every cover cheaper than `below` from which no replica can be taken away: (money, counts) ascending, at most `limit`.

    A plan better than the best known uses no column whose reduced cost is above the gap, so these are the columns that can help.
    """
    order = sorted((i for i in range(len(rates)) if rates[i] > 0 and most[i] > 0), key=lambda i: (prices[i] / rates[i], -rates[i], i))
    r, p, u = [rates[i] for i in order], [prices[i] for i in order], [most[i] for i in order]
    n = len(order)
    slack = 1e-9 * load
    found: list[tuple[float, tuple[int, ...]]] = []
    chosen = [0] * n
    used = 0

    def search(i: int, left: float, money: float, smallest: float) -> None:
        """`smallest`: the least rate in use; a cover that exceeds the load by that much has a replica too many."""
        nonlocal used
        used += 1
        if left <= slack:
            if -left < smallest - slack:
                counts = [0] * len(rates)
                for at, k in enumerate(order):
                    counts[k] = chosen[at]
                found.append((money, tuple(counts)))
            return
        if i == n or money + left * p[i] / r[i] >= below:
            return
        if used > steps:
            return
        for count in range(min(u[i], int(-(-(left - slack) // r[i]))), -1, -1):
            rest, spent = left - count * r[i], money + count * p[i]
            if rest > slack and (i + 1 == n or spent + rest * p[i + 1] / r[i + 1] >= below):
                break
            if spent >= below:
                continue
            chosen[i] = count
            search(i + 1, rest, spent, min(smallest, r[i]) if count else smallest)
        chosen[i] = 0

    search(0, load, 0.0, float("inf"))
    found.sort()
    return found[:limit]
