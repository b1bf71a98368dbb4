"""How much of a load with several length buckets some replicas cover, and by which routing.

One share phi for all buckets: sum over options of y[o][b] = phi for every bucket with load, and the load that an option takes, counted in
replicas that it fills (load * y / rate), is at most its count. Closed form for one and two options (`columns.covered_pair`), a small linear
program for more. Without HiGHS the program is replaced by filling buckets in turn: never more than the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from placement._solver import Lp, SolverError
from placement.columns import covered_pair, shares_of_first

Rates = Sequence[float]
Supply = Sequence[tuple[Rates, int]]  # (work/s of one replica per bucket, replicas)
SECONDS = 60.0  # watchdog of a program of some dozen variables
INF = float("inf")


def tot(loads: Rates, rates: Rates) -> float:
    """Replicas of one option that carry the whole load; inf if a bucket cannot be served."""
    total = 0.0
    for load, rate in zip(loads, rates, strict=True):
        if load > 0:
            total += load / rate if rate > 0 else INF
    return total


def covered(loads: Rates, supply: Supply) -> float:
    """Share of the load, 0 to 1, that these counts cover; 1 where there is no load."""
    if not any(x > 0 for x in loads):
        return 1.0
    used = tuple((tuple(rates), count) for rates, count in supply if count > 0 and any(r > 0 for r in rates))
    return _covered(tuple(loads), used) if used else 0.0


@lru_cache(maxsize=32768)
def _covered(loads: tuple[float, ...], used: tuple[tuple[tuple[float, ...], int], ...]) -> float:
    """Kept from plan to plan: from one to the next most models ask the same and have the same."""
    if len(used) == 1:
        total = tot(loads, used[0][0])
        return min(1.0, used[0][1] / total) if total > 0 else 1.0
    if len(loads) == 1:
        return min(1.0, sum(rates[0] * count for rates, count in used) / loads[0])
    if len(used) == 2:
        first, second = (np.array([_ratios(loads, rates)]) for rates, _ in used)
        return float(covered_pair(first, second, np.array([float(used[0][1])]), np.array([float(used[1][1])]))[0])
    return _program(loads, [(rates, count, "") for rates, count in used], 0)[0]


def covered_in_networks(loads: Rates, half: int, supply: Sequence[tuple[Rates, int, str]]) -> float:
    """The same for a split deployment within networks: buckets b and b + half are two roles of the same requests, and in each network
    both take the same share of them."""
    used = [(tuple(rates), count, network) for rates, count, network in supply if count > 0]
    return _program(loads, used, half)[0] if used else 0.0


def shares(loads: Rates, supply: Supply) -> tuple[tuple[float, ...], ...]:
    """y[option][bucket]: the share of each bucket that an option takes; the sums over options are the covered share."""
    return shares_in_networks(loads, 0, [(rates, count, "") for rates, count in supply])


def shares_in_networks(loads: Rates, half: int, supply: Sequence[tuple[Rates, int, str]]) -> tuple[tuple[float, ...], ...]:
    """As `shares`, per entry of `supply`; `half` as in `covered_in_networks`, 0 = networks do not matter."""
    buckets = len(loads)
    if not any(x > 0 for x in loads) or not any(n > 0 for _, n, _ in supply):
        return tuple((0.0,) * buckets for _ in supply)
    return _shares(tuple(loads), half, tuple((tuple(rates), n, network) for rates, n, network in supply))


@lru_cache(maxsize=16384)
def _shares(loads: tuple[float, ...], half: int, supply: tuple[tuple[tuple[float, ...], int, str], ...]) -> tuple[tuple[float, ...], ...]:
    used = [i for i, (rates, n, _) in enumerate(supply) if n > 0 and any(rates)]
    if half or not 0 < len(used) <= 2:
        return tuple(tuple(row) for row in _program(loads, supply, half)[1])
    # One or two options: their share follows from the order of the buckets.
    buckets = len(loads)
    phi = covered(loads, [supply[i][:2] for i in used])
    first = np.array(_ratios(loads, supply[used[0]][0]))
    on_first = np.ones(buckets)
    if len(used) == 2 and phi > 0:
        on_first = shares_of_first(first, np.array(_ratios(loads, supply[used[1]][0])), supply[used[0]][1] / phi)
    y = [(0.0,) * buckets for _ in supply]
    y[used[0]] = tuple(float(phi * q) if x > 0 else 0.0 for q, x in zip(on_first, loads, strict=True))
    if len(used) == 2:
        y[used[1]] = tuple(float(phi * (1.0 - q)) if x > 0 else 0.0 for q, x in zip(on_first, loads, strict=True))
    return tuple(y)


def _ratios(loads: Rates, rates: Rates) -> list[float]:
    return [0.0 if x <= 0 else (x / r if r > 0 else INF) for x, r in zip(loads, rates, strict=True)]


def _program(loads: Rates, used: Sequence[tuple[Rates, int, str]], half: int) -> tuple[float, list[list[float]]]:
    """max phi. Columns: phi, then y[o, b] where the option serves the bucket; rows: buckets with load, options, (network, bucket) pairs."""
    buckets = [b for b, x in enumerate(loads) if x > 0]
    ratio = [_ratios(loads, rates) for rates, _, _ in used]
    pairs = [(o, b) for o in range(len(used)) for b in buckets if ratio[o][b] < INF and used[o][1] > 0]
    row_of = {b: i for i, b in enumerate(buckets)}
    joined = [b for b in buckets if half and b < half and loads[b + half] > 0]
    equal = {key: i for i, key in enumerate((n, b) for n in sorted({x for _, _, x in used}) for b in joined)}
    n_b, n_o = len(buckets), len(used)
    lower = np.concatenate([np.zeros(n_b), np.full(n_o, -np.inf), np.zeros(len(equal))])
    upper = np.concatenate([np.zeros(n_b), [float(count) for _, count, _ in used], np.zeros(len(equal))])
    ptr, rows, values = [0], list(range(n_b)), [-1.0] * n_b
    ptr.append(len(rows))
    for o, b in pairs:
        rows += [row_of[b], n_b + o]
        values += [1.0, ratio[o][b]]
        key = (used[o][2], b % half) if half else ("", -1)
        if key in equal:
            rows.append(n_b + n_o + equal[key])
            values.append(1.0 if b < half else -1.0)
        ptr.append(len(rows))
    cost = np.zeros(1 + len(pairs))
    cost[0] = -1.0
    try:
        lp = Lp(lower, upper)
        lp.add_columns(cost, np.zeros(len(cost)), np.ones(len(cost)), ptr, rows, values)
        answer = lp.solve(seconds=SECONDS)
        if not answer.optimal:
            raise SolverError("a program of some dozen variables was not solved")
    except SolverError:
        return _filled(loads, used, half)
    y = [[0.0] * len(loads) for _ in used]
    for (o, b), x in zip(pairs, answer.x[1:], strict=True):
        y[o][b] = max(0.0, float(x))
    return min(1.0, max(0.0, float(answer.x[0]))), y


def _filled(loads: Rates, used: Sequence[tuple[Rates, int, str]], half: int) -> tuple[float, list[list[float]]]:
    """A routing that covers some share, found by bisection: buckets that few serve first, each by whom it costs least."""

    def route(phi: float) -> list[list[float]] | None:
        left = [float(count) for _, count, _ in used]
        y = [[0.0] * len(loads) for _ in used]
        order = sorted((b for b, x in enumerate(loads) if x > 0), key=lambda b: (sum(n for r, n, _ in used if r[b] > 0), b))
        for b in order:
            rest = phi
            able = [o for o in range(len(used)) if used[o][0][b] > 0 and left[o] > 0]
            for o in sorted(able, key=lambda o: (sum(x > 0 for x in used[o][0]), loads[b] / used[o][0][b], o)):
                take = min(rest, left[o] * used[o][0][b] / loads[b])
                y[o][b] += take
                left[o] -= take * loads[b] / used[o][0][b]
                rest -= take
            if rest > 1e-12:
                return None
        return y

    if half:  # both roles in the network that serves most, alone
        best: tuple[float, list[list[float]]] = (0.0, [[0.0] * len(loads) for _ in used])
        for network in sorted({x for _, _, x in used}):
            found = _filled(loads, [(r, n if x == network else 0, "") for r, n, x in used], 0)
            best = max(best, found, key=lambda f: f[0])
        return best
    whole = route(1.0)
    if whole is not None:
        return 1.0, whole
    low, high, kept = 0.0, 1.0, [[0.0] * len(loads) for _ in used]
    for _ in range(30):
        middle = (low + high) / 2.0
        routed = route(middle)
        if routed is None:
            high = middle
        else:
            low, kept = middle, routed
    return low, kept
