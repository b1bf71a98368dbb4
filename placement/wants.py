"""What each model asks of a plan, after `may_shrink` was applied: replicas, loads, KV floors, and what may go without a loss."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

from placement.share import Kind, Needs, share
from placement.snapshot import Split
from placement.types import Model, ModelDemand, Option

if TYPE_CHECKING:
    from placement.problem import Problem


@dataclass(frozen=True, slots=True)
class Want:
    """A model's demand after `may_shrink` was applied."""

    minimum: int
    maximum: int
    work: float  # over all buckets that some option serves
    need: float  # device-equivalents of the whole demand
    smallest: int  # devices of its smallest replica
    running: int
    running_work: float
    surplus: int  # running replicas that may go without a loss
    base_loss: float  # loss that no plan can avoid
    needs: Needs = field(default_factory=Needs)  # loads per bucket, floors of KV cache
    running_share: float = 1.0  # of the demand that what runs covers
    unreachable: tuple[int, ...] = ()  # buckets with load that no option serves


Running = tuple[tuple[Kind | None, int, int], ...]  # per group: what a replica gives (None = nothing that is known), replicas, devices


def want_of(problem: Problem, m: int, startable: bool, dead: tuple[int, ...]) -> Want:
    model, asked = problem.models[m], problem.demand[m]
    buckets, floors = len(asked.loads), _floors(asked)
    for o in problem.options_of[m]:
        option, role = problem.options[o], problem.snapshot.options[o].role
        tokens = tuple((option.kv_tokens or 0.0) if role == of else 0.0 for _, of in floors) if floors else ()
        problem.kinds[o] = (option.rates(buckets), tokens, "")
    groups = [problem.groups[g] for g in problem.groups_of[m]]
    running = tuple((problem.kind_of(g), len(g.ids), g.devices) for g in groups)
    return _want(model, asked, tuple(problem.options[o] for o in problem.options_of[m]), running, startable, dead)


@lru_cache(maxsize=8192)
def _want(model: Model, asked: ModelDemand, own: tuple[Option, ...], running: Running, startable: bool, dead: tuple[int, ...]) -> Want:
    """Kept from plan to plan: from one to the next most models ask the same and run the same."""
    runs = sum(n for _, n, _ in running)
    minimum, loads = model.min_replicas, asked.loads
    work = sum(loads)
    smallest = min([o.devices for o in own] or [devices for _, _, devices in running] or [1])
    have: Counter[Kind] = Counter()
    for kind, n, _ in running:
        if kind is not None:
            have[kind] += n
    half = len(loads) // 2 if model.same_network and isinstance(asked, Split) else 0
    needs = Needs(loads, tuple(floor for floor, _ in _floors(asked)), half)
    if len(loads) == 1:
        running_work = sum(rates[0] * n for (rates, _, _), n in have.items())
    else:
        running_work = share(replace(needs, floors=()), have) * work if running else 0.0
    if not asked.may_shrink:
        if not _weighed(loads, running, runs, model):
            minimum = max(minimum, min(runs, model.max_replicas))
        if 0 < work < running_work:
            needs = replace(needs, loads=tuple(x * running_work / work for x in loads))
            work = running_work
    running_share = share(needs, have) if needs.any else 1.0
    need = _need(own, needs, smallest)
    surplus = _surplus(running, have, needs, running_share, minimum)
    base = 0.0
    if not startable and not model.hold:
        # Nothing can start: what is missing today stays missing, whatever the others do.
        base = 2.0 * smallest * max(0, minimum - runs) + need * unmet_price(1.0 - running_share)
    return Want(
        minimum, model.max_replicas, work, need, smallest, runs, running_work,
        max(runs - model.max_replicas, surplus, 0), base, needs, running_share, dead,
    )  # fmt: skip


def _weighed(loads: tuple[float, ...], running: Running, runs: int, model: Model) -> bool:
    """Whether `may_shrink` False keeps the work of what runs, so that fewer replicas of a stronger type may replace it. Where some replica
    has no number, lengths are told apart, or more run than are allowed, it keeps their number: on doubt never less."""
    known = all(kind is not None and kind[0][0] > 0 for kind, _, _ in running)
    return len(loads) == 1 and loads[0] > 0 and known and runs <= model.max_replicas


def _floors(asked: ModelDemand) -> list[tuple[float, str]]:
    """(tokens, role) of each floor."""
    parts = asked.parts if isinstance(asked, Split) else (asked,)
    return [(d.kv_floor, d.role) for d in parts if d.kv_floor > 0]


def _need(own: Sequence[Option], needs: Needs, smallest: int) -> float:
    """Device-equivalents of the demand: per bucket at the median option's work per device; without work those of the KV cache."""
    total, loads = 0.0, needs.loads
    for b, load in enumerate(loads):
        if load > 0:
            rates = [rate / o.devices for o in own if (rate := o.rates(len(loads))[b]) > 0]
            total += load / median(rates) if rates else float(smallest)
    if not total and needs.floors:
        tokens = [o.kv_tokens / o.devices for o in own if o.kv_tokens]
        total = max(needs.floors) / median(tokens) if tokens else float(smallest)
    return total


def _surplus(running: Running, have: Mapping[Kind, int], needs: Needs, before: float, minimum: int) -> int:
    """How many running replicas may go, the weakest first, without a loss. Those that carry nothing that is known go first."""
    kinds = [kind for kind, n, _ in running if kind is not None for _ in range(n)]
    useless = sum(n for _, n, _ in running) - len(kinds)
    kinds.sort(key=lambda k: (sum(k[0]), k))
    most = max(0, useless + len(kinds) - minimum)
    if most <= useless or not needs.any:
        return most

    def loses(gone: int) -> bool:
        left = Counter(have)
        left.subtract(kinds[:gone])
        return share(needs, left) < before - 1e-9

    # The more go, the less is covered, so the first number that loses is found by halving.
    return useless + max(0, bisect_left(range(most - useless + 1), True, key=loses) - 1)


def unmet_price(share: float) -> float:
    """Convex price of an unmet share: the second half hurts three times as much, so two models at 25 % beat one at 50 %."""
    return min(share, 0.5) + 3.0 * max(0.0, share - 0.5)
