"""The floor of KV cache of a decision to shrink: what those who stay must be able to hold, in the tokens that the engines say they have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.scaling.board import Board

from autoscaling.memory import Memory
from autoscaling.types import Decision
from autoscaling.windows import Windows
from tests.unit.operator import builders as b
from tests.unit.operator.forces import KEY, aimed, child_of, demand, force, look, scaled
from tests.unit.operator.test_scaling_sizes import OLD, running, wanted


def option(profile: str) -> str:
    (found,) = [o.id for o in look(scaled(), force(1.0)).inputs.models[KEY].resolution.options if o.profile == profile]
    return found


def shrunk(floor: float, **cache: float) -> Any:
    """Four replicas on PPUs, and a decision to go down to 1.5 work/s, that two carry. `cache`: tokens of one replica by device."""
    model = aimed(scaled(), 4)
    child, pods = running(model, 4, created=OLD)
    said = force(1.5, shrink=True, kv_floor=floor)
    known = tuple((option(f"sandbox-{name}"), tokens) for name, tokens in cache.items())
    return look(model, replace(said, cache=known), deployments=(child,), pods=pods)


@pytest.mark.parametrize(("floor", "size"), [(0.0, 2), (70_000.0, 2), (100_000.0, 3), (150_000.0, 4)])
def test_as_many_stay_as_hold_what_is_in_the_caches(floor: float, size: int) -> None:
    """40,000 tokens each: two hold 80,000, three 120,000."""
    done = shrunk(floor, ppu=40_000.0)
    assert (wanted(done), len(done.plan.stop), done.plan.starts) == (size, 4 - size, ())


def test_a_floor_above_all_that_is_there_keeps_everything_and_is_no_reason_to_grow() -> None:
    done = shrunk(1_000_000.0, ppu=40_000.0)
    assert (wanted(done), done.plan.stop, done.plan.starts) == (4, (), ())
    assert "shortfall" not in done.status("ModelDeployment", "m")


def test_where_an_engine_does_not_say_what_it_holds_only_the_work_counts() -> None:
    assert wanted(shrunk(150_000.0)) == 2
    assert wanted(shrunk(150_000.0, nvidia=40_000.0)) == 2


@pytest.mark.parametrize(("floor", "moved"), [(0.0, True), (70_000.0, False)])
def test_caches_are_not_given_up_for_a_device_of_which_nothing_is_known(floor: float, moved: bool) -> None:
    """Two on the dear type, 40,000 tokens each, and the cheap one is free, which never ran."""
    model = aimed(scaled({"placement": {"excludeProfiles": ["sandbox-ascend"]}}), 2)
    child = child_of(model, "sandbox-nvidia", 2)
    pods = tuple(b.replica(child, f"p{i}", node="h100-0", serving=True, created=OLD) for i in range(2))
    said = replace(force(2.0, shrink=True, kv_floor=floor), cache=((option("sandbox-nvidia"), 40_000.0),))
    assert bool(look(model, said, deployments=(child,), pods=pods).plan.stop) is moved


def test_the_least_cache_of_an_option_is_told_once() -> None:
    """Replicas of one option differ by a few blocks, and a reading that moves by less than a hundredth is no news."""
    board = Board()
    entry = board.entry(KEY, "uid")
    told = []
    for tokens in (None, 40_000.0, 39_900.0, 40_100.0, 39_000.0, 39_500.0):
        entry.cached("o", tokens)
        board.tell(KEY, Decision(demand(), Memory(Windows(0.0))), 0.0)
        told.append(board.forces()[KEY].cache)
    assert told == [(), *[(("o", 40_000.0),)] * 3, *[(("o", 39_000.0),)] * 2]
