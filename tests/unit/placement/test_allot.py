"""All-or-nothing allotment against full enumeration: placed services priority by priority, then cost; and the bound of every such plan."""

from __future__ import annotations

import itertools
import random

import pytest

from placement.allot import AllotCandidate, AllotService, allot, allot_bound
from placement.cover import cover, covers_below
from placement.types import PlacementError

Covers = list[tuple[float, dict[str, int], tuple[tuple[str, int], ...]]]


def _instance(seed: int) -> tuple[list[AllotService], dict[str, int]]:
    rng = random.Random(seed)
    kinds = ["a", "b", "c"][: rng.randint(1, 3)]
    stock = {k: rng.randint(0, 7) for k in kinds}
    services = []
    for i in range(rng.randint(1, 4)):
        candidates = tuple(
            AllotCandidate(f"{n}x{k}", k, n, rng.choice((0.0, rng.uniform(0.4, 4.0), rng.uniform(0.4, 4.0))), float(rng.randint(1, 9)))
            for k in kinds
            for n in rng.sample((1, 2), rng.randint(1, 2))
        )
        services.append(AllotService(f"s{i}", rng.randint(1, 3), rng.uniform(0.5, 6.0), candidates))
    return services, stock


def _covers(service: AllotService, stock: dict[str, int]) -> Covers:
    """Every set of counts that serves the service within the whole stock."""
    found: Covers = []
    ranges = [range(stock[c.device_type] // c.devices + 1) for c in service.candidates]
    for counts in itertools.product(*ranges):
        if sum(n * c.rate for n, c in zip(counts, service.candidates, strict=True)) < service.demand * (1 - 1e-6):
            continue
        devices: dict[str, int] = {}
        for n, c in zip(counts, service.candidates, strict=True):
            devices[c.device_type] = devices.get(c.device_type, 0) + n * c.devices
        cost = sum(n * c.cost for n, c in zip(counts, service.candidates, strict=True))
        found.append((cost, devices, tuple((c.accelerator, n) for n, c in zip(counts, service.candidates, strict=True) if n)))
    return found


def _enumerated(services: list[AllotService], stock: dict[str, int]) -> tuple[tuple[int, ...], float]:
    """(placed per priority, first priority first; least cost), by trying everything."""
    levels = sorted({s.priority for s in services})
    best: tuple[tuple[int, ...], float] = (tuple(-1 for _ in levels), 0.0)

    def go(i: int, left: dict[str, int], placed: list[int], cost: float) -> None:
        nonlocal best
        if i == len(services):
            key = tuple(placed)
            if key > best[0] or (key == best[0] and cost < best[1] - 1e-9):
                best = (key, cost)
            return
        go(i + 1, left, placed, cost)
        level = levels.index(services[i].priority)
        for money, devices, _ in _covers(services[i], left):
            rest = {k: n - devices.get(k, 0) for k, n in left.items()}
            if min(rest.values()) >= 0:
                placed[level] += 1
                go(i + 1, rest, placed, cost + money)
                placed[level] -= 1

    go(0, stock, [0] * len(levels), 0.0)
    return best


def test_equals_full_enumeration() -> None:
    seen = 0
    for seed in range(60):
        services, stock = _instance(seed)
        size = 1
        for s in services:
            size *= 1 + len(_covers(s, stock))
        if size > 30_000:
            continue
        seen += 1
        placed, cost = _enumerated(services, stock)
        plan = allot(services, stock)
        names = {name for name, _, _ in plan.replicas}
        levels = sorted({s.priority for s in services})
        assert tuple(sum(1 for s in services if s.priority == p and s.name in names) for p in levels) == placed, seed
        assert plan.cost == pytest.approx(cost, rel=2e-4, abs=1e-9), seed
        assert allot_bound(services, stock, plan) <= cost + 1e-6, seed
    assert seen > 40


def test_the_plan_serves_what_it_says_and_fits_the_stock() -> None:
    for seed in range(100, 140):
        services, stock = _instance(seed)
        plan = allot(services, stock)
        by_name = {s.name: {c.accelerator: c for c in s.candidates} for s in services}
        used: dict[str, int] = {}
        rate: dict[str, float] = {}
        cost = 0.0
        for name, accelerator, count in plan.replicas:
            c = by_name[name][accelerator]
            assert count > 0
            assert c.rate > 0
            used[c.device_type] = used.get(c.device_type, 0) + count * c.devices
            rate[name] = rate.get(name, 0.0) + count * c.rate
            cost += count * c.cost
        assert all(n <= stock[k] for k, n in used.items())
        assert all(rate[s.name] >= s.demand * (1 - 1e-6) for s in services if s.name in rate)
        assert plan.placed == len(rate)
        assert plan.cost == pytest.approx(cost)
        assert list(plan.replicas) == sorted(plan.replicas)


def test_order_of_input_changes_nothing() -> None:
    for seed in (3, 17, 40):
        services, stock = _instance(seed)
        turned = [AllotService(s.name, s.priority, s.demand, s.candidates[::-1]) for s in services[::-1]]
        assert allot(turned, dict(reversed(stock.items()))) == allot(services, stock)


def test_a_service_that_nothing_serves_is_left_out_and_the_others_are_placed() -> None:
    good = AllotService("good", 2, 3.0, (AllotCandidate("1xa", "a", 1, 2.0, 5.0),))
    none = AllotService("none", 1, 3.0, (AllotCandidate("1xa", "a", 1, 0.0, 5.0), AllotCandidate("9xa", "a", 9, 2.0, 5.0)))
    plan = allot([none, good], {"a": 4})
    assert plan.replicas == (("good", "1xa", 2),)
    assert (plan.placed, plan.cost) == (1, 10.0)
    assert allot([none], {"a": 4}).replicas == ()
    assert allot([], {}).placed == 0


def test_first_priority_wins_even_where_it_is_dearer_for_all_others() -> None:
    # One device: the first priority takes it, although two of the second would have been served by its absence.
    big = AllotService("big", 1, 2.0, (AllotCandidate("2xa", "a", 2, 2.0, 100.0),))
    small = [AllotService(f"s{i}", 2, 1.0, (AllotCandidate("1xa", "a", 1, 1.0, 1.0),)) for i in range(2)]
    assert allot([*small, big], {"a": 2}).replicas == (("big", "2xa", 1),)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"demand": float("nan")}, "services[s].demand: nan, must be a finite number of at least 0"),
        ({"demand": -1.0}, "services[s].demand: -1.0"),
        ({"candidates": (AllotCandidate("x", "a", 0, 1.0, 1.0),)}, "services[s].candidates[x].devices: 0, must be at least 1"),
        ({"candidates": (AllotCandidate("x", "a", 1, float("inf"), 1.0),)}, "services[s].candidates[x].rate: inf"),
    ],
)
def test_bad_input_names_field_value_and_what_is_allowed(change: dict[str, object], text: str) -> None:
    fields = {"name": "s", "priority": 1, "demand": 1.0, "candidates": (), **change}
    with pytest.raises(PlacementError) as error:
        allot([AllotService(**fields)], {"a": 1})  # type: ignore[arg-type]
    assert text in str(error.value)


def test_cover_equals_enumeration() -> None:
    rng = random.Random(1)
    for _ in range(300):
        n = rng.randint(1, 4)
        rates, prices = [rng.uniform(0.5, 5) for _ in range(n)], [rng.uniform(0.5, 5) for _ in range(n)]
        most, load = [rng.randint(0, 4) for _ in range(n)], rng.uniform(1, 20)
        all_covers = {
            counts: sum(c * p for c, p in zip(counts, prices, strict=True))
            for counts in itertools.product(*[range(u + 1) for u in most])
            if sum(c * r for c, r in zip(counts, rates, strict=True)) >= load - 1e-9
        }
        best = min(all_covers.values(), default=float("inf"))
        assert cover(load, rates, prices, most).money == pytest.approx(best)
        below = best * 1.3 if best < float("inf") else 10.0

        def minimal(counts: tuple[int, ...], rates: list[float] = rates, load: float = load) -> bool:
            supply = sum(c * r for c, r in zip(counts, rates, strict=True))
            return all(supply - r < load - 1e-9 for c, r in zip(counts, rates, strict=True) if c)

        wanted = sorted(c for c, money in all_covers.items() if money < below and minimal(c))
        assert sorted(c for _, c in covers_below(load, rates, prices, most, below, 10_000)) == wanted
