"""In what order and under what conditions the prompts are sent: a seeded, balanced design in which each prompt is sent once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from accuracy.policy import Policy
from accuracy.types import Condition, Item


@dataclass(frozen=True, slots=True)
class Planned:
    """One prompt of the run."""

    index: int  # place in the run's order, from 0
    item: Item
    condition: Condition


def plan_order(
    items: Sequence[Item], policy: Policy, *, replicas: Sequence[str] = (), used: Collection[str] = ()
) -> tuple[Planned, ...]:
    raise NotImplementedError


def stratum_of(item: Item) -> str:
    raise NotImplementedError


def count_strata(items: Iterable[Item]) -> dict[str, int]:
    raise NotImplementedError
