"""Properties of the decision (§7, requirement 1 of the design) over loads and faults that nobody chose by hand."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as how
from hypothesis import strategies as st

from autoscaling.decide import decide
from autoscaling.memory import learned
from autoscaling.types import Direction, FallbackRule, Look, Replica, Sample, Why
from tests.unit.autoscaling.scene import Distort, Scene, settings, steady

FEW = how(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=(Phase.explicit, Phase.reuse, Phase.generate))
LOADS = st.lists(st.floats(0.0, 30.0), min_size=3, max_size=12)
FAULTS: dict[str, Distort] = {
    "silent": lambda r: replace(r, sample=None, failed="timed out"),
    "nan": lambda r: replace(r, sample=replace(r.sample, arrived=nan, waiting=nan) if r.sample else None),
    "infinite": lambda r: replace(r, sample=replace(r.sample, arrived=inf) if r.sample else None),
    "negative": lambda r: replace(r, sample=replace(r.sample, arrived=-5.0, running=-1.0) if r.sample else None),
    "zero": lambda r: replace(r, sample=Sample(r.sample.at, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0) if r.sample else None),
    "stale": lambda r: replace(r, sample=replace(r.sample, at=r.sample.at - 100.0) if r.sample else None),
    "late": lambda r: replace(r, sample=replace(r.sample, at=r.sample.at + 1000.0) if r.sample else None),
    "empty": lambda r: replace(r, sample=Sample(r.sample.at) if r.sample else None),
}


@FEW
@given(st.lists(st.tuples(st.sampled_from(sorted(FAULTS)), st.floats(0.0, 6.0)), min_size=1, max_size=40))
def test_what_is_not_known_never_lowers(faults: list[tuple[str, float]]) -> None:
    """All replicas at once, any fault after any other, at any load up to the present one."""
    scene = steady()
    held, size = scene.said[-1].work_per_s, scene.size
    for name, load in faults:
        demand = scene.tick(load, FAULTS[name])
        assert demand.work_per_s >= held
        assert scene.size >= size
        held = demand.work_per_s


@FEW
@given(st.sampled_from(sorted(FAULTS)), st.integers(1, 6), st.integers(1, 60))
def test_faults_of_some_never_lower(name: str, count: int, ticks: int) -> None:
    scene = steady()
    size = scene.size
    broken = {pod.id for pod in scene.pods[:count]}
    for _ in range(ticks):
        scene.tick(5.5, lambda r: FAULTS[name](r) if r.id in broken else r)
        assert scene.size >= size


@FEW
@given(LOADS, st.floats(1.0, 3.0))
def test_more_load_never_asks_for_less(loads: list[float], factor: float) -> None:
    """Two models that ran alike so far; one of them gets more from here on, in every tick of the next minute. It is never asked less for,
    until it gives something back, but for a twentieth: head-room is volatility, and a deeper fall is more volatile."""
    scene = Scene(count=6, settings=settings())
    for load in loads:
        scene.run(load, 50.0)
    less, more = deepcopy(scene), deepcopy(scene)
    less.follow = more.follow = False
    for _ in range(6):
        a, b = less.tick(loads[-1]), more.tick(loads[-1] * factor)
        if b.direction is Direction.DOWN:
            break
        assert b.work_per_s >= 0.95 * a.work_per_s - 1e-9


@FEW
@given(LOADS, st.integers(0, 5), st.integers(1, 12), st.sampled_from([*sorted(FAULTS), ""]), st.sampled_from(["Static", "CurrentReplicas"]))
def test_the_bounds_always_hold(loads: list[float], least: int, more: int, fault: str, behavior: str) -> None:
    most = least + more
    scene = Scene(count=least, settings=settings(least, most, fallback=FallbackRule(20, 3, behavior)))
    for i, load in enumerate(loads):
        scene.run(load, 40.0, FAULTS[fault] if fault and i % 2 else None)
        assert least <= scene.size <= most
        demand = scene.said[-1]
        assert (demand.min_replicas >= least, demand.max_replicas) == (True, most)


@FEW
@given(st.floats(0.3, 25.0), st.integers(0, 1000), st.booleans())
def test_no_two_opposite_moves_within_a_window_under_constant_load(load: float, seed: int, noisy: bool) -> None:
    """With the noise of single requests too, which at one work-second each is that of a small fleet."""
    scene = Scene(count=4, settings=settings(), noise=random.Random(seed) if noisy else None)
    scene.run(load, 3600.0)
    window = 95.0
    moves = [(i * 10.0, d.direction) for i, d in enumerate(scene.said) if d.direction is not Direction.HOLD]
    for (when, one), (then, other) in pairwise(moves):
        assert one == other or then - when >= window or (noisy and one is Direction.DOWN)  # noise may ask for more at any time


@FEW
@given(st.floats(0.5, 20.0), st.randoms(use_true_random=False), st.lists(st.sampled_from([*sorted(FAULTS), ""]), min_size=9, max_size=9))
def test_the_order_of_the_replicas_changes_nothing(load: float, dice: random.Random, faults: list[str]) -> None:
    """To the last bit, through several ticks with faults and unequal replicas."""
    scene = Scene(count=9, settings=settings(), follow=False)
    one = other = None

    def unequal(r: Replica) -> Replica:
        place = int(r.id[1:])
        fault = faults[place] if scene.now % 30 else ""
        r = replace(r, work_per_s=0.3 + 0.1 * place, option=f"o{place % 3}")
        return FAULTS[fault](r) if fault else r

    looks: list[Look] = []

    def keep(what: Look) -> Look:
        looks.append(what)
        return what

    for _ in range(12):
        scene.tick(load, unequal, look=keep)
    for what in looks:
        mixed = list(what.replicas)
        dice.shuffle(mixed)
        a, b = decide(one, what), decide(other, replace(what, replicas=tuple(mixed)))
        assert repr(a) == repr(b)
        one, other = a.memory, b.memory  # type: ignore[assignment]
    assert learned(one) == learned(other)  # type: ignore[arg-type]


def test_an_hour_of_constant_load_has_nothing_worth_writing() -> None:
    scene = steady()
    changes = []
    for _ in range(200):
        before = scene.memory
        scene.tick(5.5)
        assert before is not None
        assert scene.memory is not None
        changes.append(scene.memory.noted != before.noted)
    assert not any(changes)


@pytest.mark.parametrize("reason", list(Why))
def test_every_reason_is_one_word(reason: Why) -> None:
    assert reason.value.isalpha()
