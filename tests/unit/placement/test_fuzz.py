"""Broken snapshots: a typed error that names the field, or a plan that the recount accepts. Never anything else."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import placement
from placement.types import Demand, Effort, PlacementError, Snapshot
from tests.unit.placement.instances import wide

TRIES = 2000
QUICK = Effort(mip_nodes=20, ladder=False)
ODD: tuple[Any, ...] = (
    -1, 0, 1, 2, 3, 7, 101, 10**12, -0.5, 0.25, 1.0, 1e300, math.nan, math.inf, -math.inf, True, False, None,
    "", "x", "a,b", (), (0,), (1, 2), (math.nan,), (-1.0,), ("",),
)  # fmt: skip
INSTANCES = 100


def corrupted(rng: random.Random, snapshot: Snapshot, demand: Demand) -> tuple[str, Snapshot, Demand]:
    """One to three fields of one to three records replaced, or a record doubled, lost, or under another's name."""
    note: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.2:
            changed, text = _records(rng, demand if rng.random() < 0.3 else snapshot)
        else:
            changed, text = _field(rng, demand if rng.random() < 0.2 else snapshot)
        note.append(text)
        if isinstance(changed, Demand):
            demand = changed
        else:
            snapshot = changed
    return "; ".join(note), snapshot, demand


def _lists(whole: Any) -> list[str]:
    return [f.name for f in fields(whole) if (value := getattr(whole, f.name)) and isinstance(value, tuple) and is_dataclass(value[0])]


def _records(rng: random.Random, whole: Any) -> tuple[Any, str]:
    names = _lists(whole)
    if not names:
        return whole, "nothing"
    name = rng.choice(names)
    items: list[Any] = list(getattr(whole, name))
    at = rng.randrange(len(items))
    act = rng.choice(("double", "lose", "all"))
    if act == "double":
        items.append(items[at])
    elif act == "lose":
        del items[at]
    else:
        items = []
    return replace(whole, **{name: tuple(items)}), f"{act} {name}[{at}]"


def _field(rng: random.Random, whole: Any) -> tuple[Any, str]:
    """Another value in one field: an odd one, that of a like record, or a neighbour of its own."""
    names = _lists(whole)
    if isinstance(whole, Snapshot) and (not names or rng.random() < 0.12):
        policy, text = _changed(rng, whole.policy, [whole.policy])
        return replace(whole, policy=policy), text
    if not names:
        return whole, "nothing"
    name = rng.choice(names)
    items: list[Any] = list(getattr(whole, name))
    at = rng.randrange(len(items))
    items[at], text = _changed(rng, items[at], items)
    return replace(whole, **{name: tuple(items)}), f"{name}[{at}].{text}"


def _changed(rng: random.Random, item: Any, like: Sequence[Any]) -> tuple[Any, str]:
    field = rng.choice(fields(item)).name
    old = getattr(item, field)
    kind = rng.random()
    if kind < 0.35:
        new = getattr(rng.choice(like), field)
    elif kind < 0.55 and isinstance(old, int) and not isinstance(old, bool | Enum):
        new = old + rng.choice((-1, 1, 2))
    elif kind < 0.65 and isinstance(old, tuple) and old:
        new = rng.choice((old[1:], old * 2, old[::-1]))
    else:
        # Mostly a value of a kind that the field could hold: the others are found by their kind alone.
        alike = [x for x in ODD if isinstance(x, type(old)) or (old is None and isinstance(x, int | float))]
        new = rng.choice(alike if alike and rng.random() < 0.85 else ODD)
    return replace(item, **{field: new}), f"{field}: {old!r} -> {new!r}"


def test_corrupted_snapshots_give_an_error_or_a_checked_plan() -> None:
    rng = random.Random(20)
    errors = plans = 0
    for seed in range(TRIES):
        note, snapshot, demand = corrupted(rng, *wide(seed % INSTANCES))
        at = f"instance {seed % INSTANCES}, try {seed}: {note}"
        try:
            plan, _ = placement.plan(snapshot, demand, effort=QUICK, solvers=[])
        except PlacementError:
            errors += 1
            continue
        except Exception as error:
            raise AssertionError(at) from error
        plans += 1
        assert placement.check(snapshot, demand, plan) == (), at
    assert min(errors, plans) > TRIES // 5, (errors, plans)
