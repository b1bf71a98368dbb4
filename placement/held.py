"""A part of the fleet as a problem of its own: some models free, everybody else's planned replicas held.

The sub-problem keeps all models, groups and cells with their indexes, so nothing has to be mapped back:

- a model that is not free is on hold; what it keeps is running and may not stop, so it counts in limits, reserves, quotas and budgets;
- what it stops is treated as draining: its devices can be planned for, in whichever form its node gives them;
- what it starts stays a variable, fixed at its count. It holds devices of its cell, not of a node: the rows of `bins` are exact for counts,
  so the free models may use any node as long as all of them fit;
- its moves are taken off the moves that are left; while a held model is short, none is left for money.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from placement import general
from placement._solver import Answer, Limits, Solve
from placement.form import Coefficients, Form
from placement.general import Counts
from placement.nodes import Bin, Group
from placement.problem import Problem, Way, cells_by_profile, refusal, way


@dataclass(frozen=True, slots=True)
class Held:
    """`full` is the whole problem, `problem` the part; `origin` = way of the part -> of the whole, None if it has none yet."""

    full: Problem
    problem: Problem
    counts: Counts  # of the whole problem, padded to its ways
    free: frozenset[int]
    origin: tuple[int | None, ...]

    def solve(self, engine: Solve, limits: Limits) -> Counts:
        """The best counts of the part. SolverError as the engine's."""
        return general.solve(self.problem, self._fixing(engine), limits)

    def whole(self, found: Counts) -> tuple[Counts, int]:
        """Counts of the whole problem. Ways that they use are appended to it; the second value says from which index on."""
        before = len(self.full.ways)
        starts = list(self.counts.starts)
        for new, origin, n in zip(self.problem.ways, self.origin, found.starts, strict=True):
            if origin is not None:
                starts[origin] = n
            elif n:
                self.full.ways.append(replace(new, index=len(starts)))
                starts.append(n)
        stops = tuple(found.stops[g.index] if g.model in self.free else self.counts.stops[g.index] for g in self.full.groups)
        return replace(found, starts=tuple(starts), stops=stops, proven=False, goals_proven=False, bound=None), before

    def _fixing(self, engine: Solve) -> Solve:
        """The engine with the starts of held models fixed. The form is built twice in the same order, so its indexes are known before."""
        variables = general.build(self.problem).starts
        fixed: dict[int, float] = {}
        for w, origin in zip(self.problem.ways, self.origin, strict=True):
            if w.model not in self.free and origin is not None:
                fixed[variables[w.index]] = float(self.counts.starts[origin])

        def solve(form: Form, objective: Coefficients, limits: Limits) -> Answer:
            lower, upper = list(form.lower), list(form.upper)
            for v, n in fixed.items():
                lower[v] = upper[v] = n
            return engine(Form(lower, upper, form.integer, form.rows), objective, limits)

        return solve


def padded(problem: Problem, counts: Counts) -> Counts:
    """The same counts for a problem that has got more ways since."""
    more = len(problem.ways) - len(counts.starts)
    return counts if more <= 0 else replace(counts, starts=(*counts.starts, *(0,) * more))


def hold(problem: Problem, counts: Counts, models: Collection[int], *, may_earn: bool = True) -> Held:
    """`problem` with `models` free and with all their ways. `may_earn` False: nobody moves for money (a held model is short)."""
    free = frozenset(models)
    counts = padded(problem, counts)
    kept, moves = _kept(problem, counts, free)
    ways: list[Way] = []
    origin: list[int | None] = []
    started = [0] * len(problem.models)
    for w in problem.ways:
        if w.model in free or counts.starts[w.index]:
            ways.append(replace(w, index=len(ways)))
            origin.append(w.index)
            started[w.model] += counts.starts[w.index]
    known = {(w.option, w.cell) for w in ways}
    for w in _ways_of(problem, sorted(free)):
        if (w.option, w.cell) not in known:
            ways.append(replace(w, index=len(ways)))
            origin.append(None)
    groups = [g if g.model in free else replace(g, ids=g.ids[counts.stops[g.index] :], stoppable=False) for g in problem.groups]
    bins = [_bin(problem, counts, b, free, groups) for b in problem.bins]
    models_ = tuple(m if i in free else replace(m, hold=True) for i, m in enumerate(problem.models))
    wants = [w if i in free else replace(w, running=kept[i], maximum=kept[i] + started[i]) for i, w in enumerate(problem.wants)]
    policy = problem.snapshot.policy
    if not may_earn:
        policy = replace(policy, max_moves=0)
    elif policy.max_moves is not None:
        policy = replace(policy, max_moves=max(0, policy.max_moves - moves))
    part = replace(
        problem, snapshot=replace(problem.snapshot, policy=policy), models=models_, ways=ways, groups=groups, bins=bins, wants=wants
    )
    return Held(problem, part, counts, free, tuple(origin))


def _ways_of(problem: Problem, models: Sequence[int]) -> Iterator[Way]:
    """Every way of these models. Whether a node can ever be free enough is left to the rows."""
    cells_of = cells_by_profile(problem)
    for m in models:
        model = problem.models[m]
        if model.hold or model.max_replicas == 0:
            continue
        works = sum(problem.demand[m].loads) > 0
        for o in problem.options_of[m]:
            option = problem.options[o]
            for c in cells_of.get(option.profile, []):
                if refusal(option, model, problem.cells[c], works) is None:
                    yield way(problem, o, c, -1)


def _kept(problem: Problem, counts: Counts, free: frozenset[int]) -> tuple[list[int], int]:
    """Running replicas per model that stay, and the moves of the held models."""
    kept = [0] * len(problem.models)
    gone = [0] * len(problem.models)
    started = [0] * len(problem.models)
    for g in problem.groups:
        kept[g.model] += len(g.ids) - counts.stops[g.index]
        gone[g.model] += counts.stops[g.index]
    for w in problem.ways:
        started[w.model] += counts.starts[w.index]
    return kept, sum(min(gone[m], started[m]) for m in range(len(kept)) if m not in free)


def _bin(problem: Problem, counts: Counts, b: Bin, free: frozenset[int], groups: Sequence[Group]) -> Bin:
    """What held models stop here drains; what they keep gives nothing."""
    if all(problem.groups[g].model in free for g, _, _ in b.gains):
        return b
    gains: list[tuple[int, int, int]] = []
    draining = list(b.draining)
    units, blocks, stays = 0, 0, False
    for g, devices, whole in b.gains:
        if problem.groups[g].model in free:
            gains.append((g, devices, whole))
            continue
        gone = problem.groups[g].ids[: counts.stops[g]]
        draining += [(replica, devices, whole) for replica in gone]
        units += devices * len(gone)
        blocks += whole * len(gone)
        stays = stays or bool(groups[g].ids)
    return replace(
        b,
        free=b.free + units,
        blocks=b.blocks + blocks,
        gains=tuple(gains),
        draining=tuple(draining),
        empties=b.empties and not stays,
    )
