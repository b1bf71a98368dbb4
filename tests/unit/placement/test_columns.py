"""Columns, prices and bounds of the column engine against values from outside: bisection, enumeration, an independent count."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from placement._solver import Watchdog
from placement.bounds import exact_column, exact_round
from placement.columnform import Block, ColumnForm, option_prices
from placement.columnplan import solve
from placement.columns import Generator, covered_pair
from placement.master import Master, Pool


def _served(first: np.ndarray, second: np.ndarray, n1: float, n2: float) -> float:
    """Share that two options cover, by bisection over a greedy transport written for this test."""

    def fits(share: float) -> bool:
        left1, left2 = n1, n2
        flexible = []
        for a, b in zip(first * share, second * share, strict=True):
            if np.isinf(a) and np.isinf(b):
                return False
            if np.isinf(b):
                left1 -= a
            elif np.isinf(a):
                left2 -= b
            elif a > 0 or b > 0:
                flexible.append((b / a if a > 0 else np.inf, a, b))
        if left1 < -1e-9 or left2 < -1e-9:
            return False
        for _, a, b in sorted(flexible, reverse=True):
            part = 1.0 if a <= 0 else min(1.0, max(0.0, left1 / a))
            left1 -= part * a
            left2 -= (1.0 - part) * b
        return left2 >= -1e-9

    low, high = 0.0, 1.0
    if fits(1.0):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def test_the_share_that_two_options_cover() -> None:
    rng = np.random.default_rng(0)
    for special in (0.0, 0.2):
        first, second = np.exp(rng.normal(0, 1.5, (600, 3))), np.exp(rng.normal(0, 1.5, (600, 3)))
        nothing = rng.random((600, 3)) < 0.2
        first[nothing] = second[nothing] = 0.0
        first[(rng.random((600, 3)) < special) & ~nothing] = np.inf
        second[(rng.random((600, 3)) < special) & ~nothing] = np.inf
        n1, n2 = rng.integers(0, 6, 600).astype(float), rng.integers(0, 6, 600).astype(float)
        got = covered_pair(first, second, n1, n2)
        for i in range(600):
            assert got[i] == pytest.approx(_served(first[i], second[i], n1[i], n2[i]), abs=1e-6), i


def form(seed: int, models: int = 3) -> ColumnForm:
    """A few models with two to four options each on two device types, one cell each of one node size: small enough to enumerate."""
    rng = random.Random(seed)
    rows = []
    for m in range(models):
        for t, k in rng.sample([(0, 1), (0, 2), (1, 1), (1, 2)], rng.randint(2, 4)):
            rows.append((m, t, k, [rng.uniform(0.5, 3.0) * k for _ in range(2)], rng.choice((1.0, 2.0)) * k * (1 + t)))
    n = len(rows)
    slots = sorted({(t, k) for _, t, k, _, _ in rows})
    free = [rng.randint(2, 6), rng.randint(2, 6)]
    ptr, row, value, owner = [0], [], [], []
    for i, (t, k) in enumerate(slots):
        row += [2 * t] + ([2 * t + 1] if k == 2 else [])
        value += [float(k)] + ([1.0] if k == 2 else [])
        ptr.append(len(row))
        owner.append(i)
    zeros = np.zeros(models)
    load = np.array([[rng.uniform(0.5, 3.0), rng.uniform(0.0, 3.0)] for _ in range(models)])
    return ColumnForm(
        first=np.searchsorted([r[0] for r in rows], np.arange(models + 1)), rank=np.zeros(models, np.int64), load=load,
        minimum=np.ones(models, np.int64), maximum=np.full(models, 6), weight=np.full(models, 100.0), missing=np.full(models, 200.0),
        disrupt=zeros, disrupt_one=zeros, base=zeros, cost_cap=np.full(models, np.inf), min_vendors=np.ones(models, np.int64),
        vendor_share=np.ones(models), zone_share=np.ones(models), whole=False, model=np.array([r[0] for r in rows]),
        rate=np.array([r[3] for r in rows]), cost=np.array([r[4] for r in rows]), start=np.zeros(n), stop=np.zeros(n),
        running=np.zeros(n, np.int64), upper=np.array([free[t] // k for _, t, k, _, _ in rows]), devices=np.array([r[2] for r in rows]),
        vendor=np.zeros(n, np.int64), zone=np.full(n, -1), family=np.arange(n), slot=np.array([slots.index((r[1], r[2])) for r in rows]),
        slots=len(slots), block=Block(np.array(ptr), np.array(row), np.array(value), np.array(owner)),
        hard=np.array([free[0], free[0] // 2, free[1], free[1] // 2], float), side_ptr=np.zeros(n + 1, np.int64),
        side_row=np.zeros(0, np.int64), side_value=np.zeros(0),
    )  # fmt: skip


def _share(made: ColumnForm, model: int, counts: tuple[int, ...]) -> float:
    """Coverage of one model by any counts: bisection over every way to give each option its buckets, by a tiny transport search."""
    low = int(made.first[model])
    used = [(made.load[model] / made.rate[low + i], n) for i, n in enumerate(counts) if n]
    if not used:
        return 0.0
    if len(used) == 1:
        return min(1.0, used[0][1] / float(used[0][0].sum()))
    # Two buckets: the best plan gives bucket 0 to options in the order of their ratio, and what is left of them to bucket 1.
    order = sorted(used, key=lambda u: u[0][0] / u[0][1])

    def fits(share: float) -> bool:
        left0, serve1 = share, 0.0
        for ratio, n in order:
            part = min(left0, n / ratio[0])
            left0 -= part
            serve1 += (n - part * ratio[0]) / ratio[1]
        return left0 <= 1e-12 and serve1 >= share - 1e-12

    if fits(1.0):
        return 1.0
    low_s, high_s = 0.0, 1.0
    for _ in range(60):
        middle = (low_s + high_s) / 2
        low_s, high_s = (middle, high_s) if fits(middle) else (low_s, middle)
    return low_s


def _money(made: ColumnForm, model: int, counts: tuple[int, ...]) -> float:
    low = int(made.first[model])
    unmet = 1.0 - _share(made, model, counts)
    cost = sum(float(made.cost[low + i]) * n for i, n in enumerate(counts))
    price = min(unmet, 0.5) + 3.0 * max(0.0, unmet - 0.5)
    return cost + float(made.weight[model]) * price + float(made.missing[model]) * max(0, 1 - sum(counts))


def _choices(made: ColumnForm, model: int) -> list[tuple[int, ...]]:
    low, high = int(made.first[model]), int(made.first[model + 1])
    return [c for c in itertools.product(*[range(int(u) + 1) for u in made.upper[low:high]]) if sum(c) <= made.maximum[model]]


def test_every_column_is_worth_what_an_independent_count_says() -> None:
    for seed in range(12):
        made = form(seed)
        for columns in Generator(made).make(np.arange(3), (1.0, 0.6)):
            for owner, option, count, money in zip(columns.owner, columns.option, columns.count, columns.money, strict=True):
                low, high = int(made.first[owner]), int(made.first[owner + 1])
                counts = [0] * (high - low)
                for o, n in zip(option, count, strict=True):
                    if n:
                        counts[o - low] += int(n)
                assert money == pytest.approx(_money(made, int(owner), tuple(counts)), rel=1e-6, abs=1e-6)


def test_exact_pricing_is_the_least_over_all_counts() -> None:
    for seed in range(8):
        made = form(seed)
        ratio = made.ratios()
        prices = np.random.default_rng(seed).uniform(0, 2, made.options)
        for model in range(made.models):
            low = int(made.first[model])
            least = min(_money(made, model, c) + sum(float(prices[low + i]) * n for i, n in enumerate(c)) for c in _choices(made, model))
            found = exact_column(made, model, prices, ratio, 60.0)
            assert found.value == pytest.approx(least, rel=1e-4)
            assert found.bound <= least + 1e-4 * abs(least)


def _fits(made: ColumnForm, counts: list[tuple[int, ...]]) -> bool:
    """Two device types, sizes 1 and 2 on one node each: devices and pairs, by hand."""
    used = np.zeros(len(made.hard))
    for model, choice in enumerate(counts):
        for i, n in enumerate(choice):
            slot = int(made.slot[int(made.first[model]) + i])
            part = slice(made.block.ptr[slot], made.block.ptr[slot + 1])
            used[made.block.row[part]] += n * made.block.value[part]
    return bool((used <= made.hard + 1e-9).all())


def test_bounds_hold_and_whole_plans_fit() -> None:
    """Lower bound <= optimum by enumeration <= value of the plan; the bound of column generation <= master LP."""
    for seed in range(6):
        made = form(seed, models=2)
        best = min(
            sum(_money(made, m, c) for m, c in enumerate(pair))
            for pair in itertools.product(_choices(made, 0), _choices(made, 1))
            if _fits(made, list(pair))
        )
        master = Master(Pool.of(made), Watchdog(60.0))
        master.start()
        priced = master.generate(30)
        assert priced.bound <= priced.value + 1e-6 * abs(priced.value)
        true, _ = exact_round(master, priced.hard)
        assert true <= best + 1e-4 * abs(best)
        plan = solve(made, Watchdog(60.0), deep_rounds=6)
        assert plan.true_bound is not None
        assert plan.true_bound <= best + 1e-4 * abs(best)
        assert plan.money >= best - 1e-6 * abs(best)
        chosen = [[0] * int(made.first[m + 1] - made.first[m]) for m in range(2)]
        for m, option, count in zip(plan.columns.owner, plan.columns.option, plan.columns.count, strict=True):
            for o, n in zip(option, count, strict=True):
                if n:
                    chosen[int(m)][int(o - made.first[m])] += int(n)
        assert _fits(made, [tuple(c) for c in chosen])


def test_a_zone_bound_model_gets_every_order_of_zones() -> None:
    """One option in three zones, at most half of the replicas in one: 4 replicas are 2 + 2 in any two zones, and never 4 in one."""
    made = form(0, models=1)
    base = replace(
        made, first=np.array([0, 3]), model=np.zeros(3, np.int64), rate=np.full((3, 2), 1.0), cost=np.ones(3), start=np.zeros(3),
        stop=np.zeros(3), running=np.zeros(3, np.int64), upper=np.full(3, 9), devices=np.ones(3, np.int64), vendor=np.zeros(3, np.int64),
        zone=np.arange(3), family=np.zeros(3, np.int64), slot=np.zeros(3, np.int64), side_ptr=np.zeros(4, np.int64),
        zone_share=np.array([0.5]), maximum=np.array([9]), load=np.array([[2.0, 2.0]]),
    )  # fmt: skip
    _, bound = Generator(base).make(np.arange(1))
    full = {
        tuple(np.bincount(o[c > 0], c[c > 0], minlength=3))
        for o, c, phi in zip(bound.option, bound.count, bound.phi, strict=True)
        if phi >= 1
    }
    assert {(2, 2, 0), (2, 0, 2), (0, 2, 2)} <= full
    assert all(max(counts) <= (sum(counts) + 1) // 2 for counts in full)


def test_prices_are_feasible_for_every_cell_and_options_pay_their_slots() -> None:
    made = form(4)
    hard = np.array([1.0, 0.5, 2.0, 0.0])
    prices = option_prices(made, hard)
    for o in range(made.options):
        slot = int(made.slot[o])
        part = slice(made.block.ptr[slot], made.block.ptr[slot + 1])
        assert prices[o] == pytest.approx(float(made.block.value[part] @ hard[made.block.row[part]]))
