"""In what order and under what conditions the prompts are sent: a seeded, balanced design in which each prompt is sent once. Pure.

The order goes round the strata, one prompt of each, so that every stratum has evidence early and a round is a fair mix of them. Conditions
(requests in flight, state of the prefix cache, replica) change from prompt to prompt so that each value of each condition, and over
more prompts each combination, has its equal share within every stratum and within every round. Nothing depends on the order in which
the items are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from accuracy.policy import Policy
from accuracy.tasks import judged
from accuracy.types import Condition, Item

T = TypeVar("T")
ENOUGH = 34  # prompts of one stratum that Tokens needs at ordinary noise


@dataclass(frozen=True, slots=True)
class Planned:
    """One prompt of the run."""

    index: int  # place in the run's order, from 0
    item: Item
    condition: Condition


def plan_order(items: Sequence[Item], policy: Policy, *, replicas: Sequence[str] = (), used: Collection[str] = ()) -> tuple[Planned, ...]:
    """All of `items` but those whose id is in `used`, in the order in which they are sent. An id that stands twice counts once.

    `replicas`: names to spread the prompts over, () = the condition names none.
    """
    rows: dict[str, dict[str, Item]] = {}
    left_out = frozenset(used)
    for item in items:
        if item.id not in left_out:
            rows.setdefault(stratum_of(item), {}).setdefault(item.id, item)
    seed = policy.seed
    queues = [_shuffled(rows[name].values(), seed, [item.id for item in rows[name].values()]) for name in _drawn(rows, seed, "stratum")]
    if policy.tasks_wanted:
        queues = [sorted(queue, key=lambda item: not judged(item)) for queue in queues]
    cells = _cells(policy, tuple(sorted(set(replicas))) if policy.per_replica else ())
    rounds = [
        [(queue[turn], cells[(number + turn) % len(cells)]) for number, queue in enumerate(queues) if turn < len(queue)]
        for turn in range(max(map(len, queues), default=0))
    ]
    if policy.tasks_wanted:
        # A task score needs many items, and few strata have them: they come before the rest once every stratum has enough for itself.
        later = rounds[ENOUGH:]
        rounds[ENOUGH:] = [[one for one in row if judged(one[0]) is want] for want in (True, False) for row in later]
    return tuple(Planned(index, item, condition) for index, (item, condition) in enumerate(one for row in rounds for one in row))


def stratum_of(item: Item) -> str:
    """The stratum that an item is tested in: a modality beside text has strata of its own, so that each has its own score."""
    return item.stratum if item.modality == "Text" else f"{item.stratum}/{item.modality}"


def count_strata(items: Iterable[Item]) -> dict[str, int]:
    """Items of each stratum, by name."""
    found: dict[str, int] = {}
    for item in items:
        found[stratum_of(item)] = found.get(stratum_of(item), 0) + 1
    return dict(sorted(found.items()))


def _cells(policy: Policy, replicas: Sequence[str]) -> tuple[Condition, ...]:
    """Every combination once, in such an order that a few of them in a row already balance each condition."""
    loads = _drawn(policy.concurrency, policy.seed, "load")
    caches = _drawn(policy.prefix_cache, policy.seed, "cache")
    names = _drawn(replicas, policy.seed, "replica") or [""]
    found: list[Condition] = []
    for at in range(len(loads) * len(caches) * len(names)):
        load, rest = at % len(loads), at // len(loads)
        cache, rest = rest % len(caches), rest // len(caches)
        found.append(
            Condition(
                concurrency=loads[load],
                prefix_cache="Hit" if caches[(cache + load) % len(caches)] == "Hit" else "Miss",
                replica=names[(rest + load + cache) % len(names)],
            )
        )
    return tuple(found)


def _drawn(values: Iterable[T], seed: int, what: str) -> list[T]:
    rows = list(values)
    return _shuffled(rows, seed, [f"{what}/{value}" for value in rows])


def _shuffled(values: Iterable[T], seed: int, names: Sequence[str]) -> list[T]:
    """A permutation that depends on the seed and the names alone."""
    keyed = [(hashlib.sha256(f"{seed}/{name}".encode()).digest(), name, value) for name, value in zip(names, values, strict=True)]
    return [value for _, _, value in sorted(keyed, key=lambda row: row[:2])]
