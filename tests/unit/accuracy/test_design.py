"""The order of the prompts: each once, round the strata, under balanced conditions, whatever the order of the items."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy.design import ENOUGH, count_strata, plan_order, stratum_of
from accuracy.types import HIT, MISS, Item
from tests.unit.accuracy.servers import policy

POLICY = policy(concurrency=(1, 8, 64))


def items(**counts: int) -> list[Item]:
    return [Item(f"{name}-{n}", name) for name, count in counts.items() for n in range(count)]


@given(st.permutations(items(A=7, B=4, C=5)), st.sets(st.sampled_from([i.id for i in items(A=7, B=4)]), max_size=6))
def test_it_depends_on_neither_the_order_of_the_items_nor_on_anything_outside(mixed: list[Item], used: set[str]) -> None:
    plan = plan_order(mixed, POLICY, used=used)
    assert plan == plan_order(items(A=7, B=4, C=5), POLICY, used=used)
    assert [p.index for p in plan] == list(range(len(plan)))
    assert Counter(p.item.id for p in plan) == Counter({i.id for i in mixed} - used)


def test_it_goes_round_the_strata_and_another_seed_gives_another_order() -> None:
    plan = plan_order(items(A=9, B=5, C=9), POLICY)
    for low in range(0, 15, 3):
        assert {p.item.stratum for p in plan[low : low + 3]} == {"A", "B", "C"}
    assert {p.item.stratum for p in plan[15:]} == {"A", "C"}
    other = plan_order(items(A=9, B=5, C=9), replace(POLICY, seed=1))
    assert [p.item.id for p in other] != [p.item.id for p in plan]
    assert plan_order([*items(A=3), *items(A=3)], POLICY) == plan_order(items(A=3), POLICY)


@pytest.mark.parametrize("replicas", [(), ("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d", "e")])
def test_conditions_are_balanced_in_every_stratum_and_from_the_first_prompts_on(replicas: tuple[str, ...]) -> None:
    cells = 3 * 2 * max(1, len(replicas))
    plan = plan_order(items(A=2 * cells, B=2 * cells), POLICY, replicas=replicas)
    for name in ("A", "B"):
        mine = [p.condition for p in plan if p.item.stratum == name]
        assert set(Counter(mine).values()) == {2}, "every combination equally often"
        for few in (12, 18):
            loads = Counter(c.concurrency for c in mine[:few])
            caches = Counter(c.prefix_cache for c in mine[:few])
            assert max(loads.values()) - min(loads.values()) <= 1
            assert (set(loads), set(caches)) == ({1, 8, 64}, {MISS, HIT})
            assert abs(caches[MISS] - caches[HIT]) <= few // 3
    assert {p.condition.replica for p in plan} == (set(replicas) or {""})
    apart = plan_order(items(A=6), replace(POLICY, per_replica=False), replicas=replicas)
    assert {p.condition.replica for p in apart} == {""}


def test_tasks_come_first_once_every_stratum_has_enough() -> None:
    tasks = [Item(f"t-{n}", "Mine", answer="4") for n in range(80)]
    given_ = [*items(A=80, B=80), *(i if n % 2 else replace(i, answer="") for n, i in enumerate(tasks))]
    wanted = replace(POLICY, margins=replace(POLICY.margins, require_tasks=True))
    plan = plan_order(given_, wanted)
    judged = [bool(p.item.answer) for p in plan]
    assert sum(judged[: 3 * ENOUGH]) == ENOUGH
    assert all(judged[3 * ENOUGH : 3 * ENOUGH + 40 - ENOUGH])
    assert len(plan) == len(given_)


def test_other_modalities_have_strata_of_their_own() -> None:
    assert stratum_of(Item("a", "Chat", modality="Image")) == "Chat/Image"
    mixed = [*items(Chat=2), Item("a", "Chat", modality="Image")]
    assert count_strata(mixed) == {"Chat": 2, "Chat/Image": 1}
