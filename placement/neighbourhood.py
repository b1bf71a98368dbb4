"""Polish: some models free, everybody else's plan held, solved exactly in the general form and taken only if the fleet is better for it.

`improve` is one such step. `choose` names the models of a step, in the order that has paid most:

(a) one short model with the replicas of lower rank that stand in its way: on the nodes of its types the cheapest sets whose release makes
    room for it (small stops on one node add up, a stop on another does not), and who their owners could push out in turn;
(b) contested sets: up to five short models, drawn by what they lack, with users of the same types of equal or lower rank whose loss per
    freed device is least;
(c) money: a model that pays most above its cheapest fractional cost, with others that share its scarce types;
(d) everything, in a fleet of at most 100 models.

Each set comes once per round, and there is another round only if this one brought something.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from zlib import crc32

from placement._solver import Limits, Solve, SolverError, Watchdog
from placement.bind import BindError, bind
from placement.general import Counts
from placement.held import hold, padded
from placement.problem import Problem
from placement.quota import cohorts, profile_of
from placement.standing import Standing
from placement.types import Effort
from placement.value import Value, better, short, value

WHOLE, ALL = 100, 600  # models and integers up to which everything is one neighbourhood
SMALL, LARGE, MONEY = 12, 16, 10  # models of a neighbourhood (a), (b), (c)
DRAWN = 5  # short models of a contested set
WIDTH = 160  # integers of a neighbourhood: ten models of many options and cells cost ten times the effort of ten small ones


def improve(problem: Problem, counts: Counts, models: Sequence[int], solve: Solve, limits: Limits) -> Counts | None:
    """Better counts that differ in `models` only, or None. Ways that they use and the problem lacks are appended to `problem.ways`."""
    counts = padded(problem, counts)
    before = value(problem, counts.starts, counts.stops)
    short = [m for m in Standing(problem, counts).short() if m not in set(models)]
    held = hold(problem, counts, models, may_earn=not short)
    try:
        found = held.solve(solve, limits)
    except SolverError:
        return None
    found, first = held.whole(found)
    after = value(problem, found.starts, found.stops)
    if not _earns(problem, after, before) or _takes_from_lenders(problem, counts, found, short):
        del problem.ways[first:]
        return None
    return replace(found, tiers=after.tiers, money=after.money)


def _borrowed(problem: Problem, counts: Counts) -> Counter[str]:
    """Tenant -> devices beyond its own quotas, of those that may borrow; each tenant of a cohort that lends is in it."""
    quotas = problem.snapshot.policy.quotas
    used: Counter[tuple[str, str]] = Counter()
    for g in problem.groups:
        used[(problem.models[g.model].tenant, profile_of(problem, g))] += g.devices * (len(g.ids) - counts.stops[g.index])
    for w in problem.ways:
        used[(problem.models[w.model].tenant, problem.cells[w.cell].profile)] += w.size * counts.starts[w.index]
    found: Counter[str] = Counter()
    for cohort in cohorts(quotas):
        if any(q.borrow for q in cohort):
            for q in cohort:
                mine = sum(n for (tenant, profile), n in used.items() if tenant == q.tenant and profile in (q.profiles or (profile,)))
                found[q.tenant] += max(0, mine - q.devices) if q.borrow else 0
    return found


def _takes_from_lenders(problem: Problem, before: Counts, after: Counts, held_short: Sequence[int]) -> bool:
    """Whether more is borrowed while a tenant that lends is short: the lender comes first, whatever the ranks."""
    if not any(q.borrow for q in problem.snapshot.policy.quotas):
        return False
    # `before` may know fewer ways than the problem has since.
    old, new = _borrowed(problem, padded(problem, before)), _borrowed(problem, after)
    return new.total() > old.total() and any(problem.models[m].tenant in old for m in held_short)


def _earns(problem: Problem, after: Value, before: Value) -> bool:
    """While a model is short, the goals decide, and nobody moves for money. Once none is, only money does, and none may become short.

    That a plan which serves all comes first, whatever it stops, holds for what `general.solve` answers only: it moves for money only where
    the plan that stops the fewest serves all as well.
    """
    if not short(problem, after):
        return short(problem, before) or after.money < before.money - 1e-9 * max(1.0, abs(before.money))
    return short(problem, before) and better(after, before)


def polish(problem: Problem, counts: Counts, solve: Solve, limits: Limits, effort: Effort) -> tuple[Counts, int]:
    """At most `effort.neighbourhoods` steps; fewer when a whole round brought nothing. Returns the counts and the steps used.

    `limits` are those of each solve; its seconds are the watchdog of all steps together.
    """
    first = counts
    seed, used, gained = _seed(problem), 0, True
    watchdog = Watchdog(limits.seconds)
    while gained and used < effort.neighbourhoods:
        seed, gained = seed + 1, False
        done: set[frozenset[int]] = set()
        sets = _round(problem, counts, seed)
        while used < effort.neighbourhoods and watchdog.left() > 0 and (models := next(sets, None)) is not None:
            if frozenset(models) in done:
                continue
            done.add(frozenset(models))
            used += 1
            found = improve(problem, counts, models, solve, replace(limits, seconds=watchdog.left()))
            if found is not None:
                # Others may be short now, or pay too much: the round goes on with the sets that it has not had.
                counts, gained = found, True
                sets = _round(problem, counts, seed)
    return _bindable(problem, counts, first), used


def _bindable(problem: Problem, counts: Counts, first: Counts) -> Counts:
    """The polished counts, or those before if the nodes do not take them (which the rows exclude): a plan that binds is not lost here."""
    try:
        bind(problem, padded(problem, counts).starts, counts.stops, counts.slots)
    except BindError:
        counts = first
    return padded(problem, counts)


def choose(problem: Problem, counts: Counts, step: int, seed: int) -> list[int] | None:
    """The models of step `step` (0, 1, ...) of a round, sorted; None after the round's last."""
    for i, models in enumerate(_round(problem, counts, seed)):
        if i == step:
            return models
    return None


def _round(problem: Problem, counts: Counts, seed: int) -> Iterator[list[int]]:
    """The sets of a round in their order, each once."""
    standing = Standing(problem, padded(problem, counts))
    free = [m for m, model in enumerate(problem.models) if not model.hold]
    seen: set[frozenset[int]] = set()

    def new(models: Sequence[int]) -> bool:
        known = frozenset(models) in seen
        seen.add(frozenset(models))
        return bool(models) and not known

    if len(free) <= WHOLE and sum(standing.width(m) for m in free) <= ALL and new(free):
        yield free
    kinds = (_alone(standing), _contested(standing, seed), _money(standing))
    for sets in zip_longest(*kinds):
        for models in sets:
            if models is not None and new(models):
                yield models


class _Set:
    """A neighbourhood that grows until it is full: by models, or by the integers that they bring."""

    def __init__(self, standing: Standing, models: Sequence[int], most: int) -> None:
        self.standing, self.models, self.most = standing, list(models), most
        self.width = sum(standing.width(m) for m in models)

    def add(self, candidates: Iterable[int], most: int | None = None) -> _Set:
        """Takes candidates in their order until it is full, or until it has `most` models."""
        for m in candidates:
            if len(self.models) >= (self.most if most is None else min(most, self.most)):
                break
            if m not in self.models and self.width + self.standing.width(m) <= WIDTH:
                self.models.append(m)
                self.width += self.standing.width(m)
        return self


def _alone(standing: Standing) -> Iterator[list[int]]:
    for m in standing.short():
        found = _Set(standing, [m], LARGE).add(standing.in_the_way(m), SMALL)
        # Who is pushed out may push on: users of the victims' other types, of their rank or below.
        for victim in found.models[1:4]:
            others = standing.users(standing.types(victim), standing.problem.rank[victim])
            found.add(others, len(found.models) + 2)
        yield sorted(found.models)


def _contested(standing: Standing, seed: int) -> Iterator[list[int]]:
    rng = random.Random(seed)
    # A draw without replacement, heavy losses first: nobody is drawn twice in a round.
    drawn = sorted(standing.short(), key=lambda m: (-(rng.random() ** (1.0 / (1e-9 + standing.regret(m)))), m))
    for at in range(0, len(drawn), DRAWN):
        chosen = drawn[at : at + DRAWN]
        highest = min(standing.problem.rank[m] for m in chosen)
        types: frozenset[str] = frozenset().union(*(standing.types(m) for m in chosen))
        yield sorted(_Set(standing, chosen, LARGE).add(standing.users(types, highest)).models)


def _money(standing: Standing) -> Iterator[list[int]]:
    """Every model once: those with the largest gap first, each with the others that share most of its scarce types."""
    left = standing.by_gap()
    while left:
        near = sorted(left[1:], key=lambda m: (-standing.shared(left[0], m), -standing.gap(m), m))
        chosen = _Set(standing, [left[0]], MONEY).add(near).models
        left = [m for m in left if m not in set(chosen)]
        yield sorted(chosen)


def _seed(problem: Problem) -> int:
    """From the input, so that the same input draws the same."""
    text = "|".join(m.name for m in problem.models) + repr(problem.demand) + str(sum(len(g.ids) for g in problem.groups))
    return crc32(text.encode())
