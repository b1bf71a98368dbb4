"""From counts per (model, option) to counts per (option, cell), to starts and stops: a small program over cells, then hands.

The column engine says how many replicas of an option a model shall have, at most the zone with it. This module says in which cells, so
that every cell's nodes take them (`bins`, in place) and few running replicas must leave their cell: `splitform` is the program, `hands`
gives the cells to models.

Replicas on nodes that take no new work use no bin: they stay as long as the target allows, and are the first to go. What may not stop, or
whose option no longer exists, stays and is no part of the targets. Where the cells cannot take all, the lowest rank goes without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from placement._solver import Limits, Solve
from placement.bins import add_cell, is_chain_cell
from placement.form import Form
from placement.general import Counts
from placement.hands import starts_of, stay_of, stops_of
from placement.problem import Problem, Way, cells_by_profile, refusal, way
from placement.shapes import request
from placement.splitform import Key, Program, Running, Slot


@dataclass(frozen=True, slots=True)
class Targets:
    """(model index, option index, failure domain or None) -> replicas: what stays and what starts, of all that may stop or start."""

    counts: Mapping[Key, int]


def split(problem: Problem, targets: Targets, solve: Solve, limits: Limits) -> Counts:
    """Starts per way (new ways are appended to `problem.ways`), stops per group, cuts of nodes. SolverError or BindError if it fails."""
    wanted = {k: n for k, n in targets.counts.items() if n > 0}
    problem_in_place, running = _running(problem, wanted)
    slots = _slots(problem, wanted)
    program = Program(problem_in_place, wanted, running, slots)
    shares, keeps = program.solve(solve, limits)
    stay = stay_of(problem, wanted, running, slots, shares, keeps)
    stops = stops_of(problem, running, stay)
    starts = starts_of(problem, wanted, running, slots, shares, stay)
    ways, counts = _as_ways(problem, starts)
    problem.ways.extend(ways)
    slots_by_node = _cuts(problem, counts, stops, solve, limits)
    return Counts(counts, stops, slots_by_node, (), 0.0, False, False, None, False)


def _running(problem: Problem, wanted: Mapping[Key, int]) -> tuple[Problem, Running]:
    """What may stop, by key. Options that no longer exist stay: their bins are taken out, so that nothing is planned into them."""
    index = problem.option_index
    zones = {(m, o) for m, o, zone in wanted if zone is not None}
    running = Running(binned={g for b in problem.bins for g, _, _ in b.gains})
    staying: set[int] = set()
    for g in problem.groups:
        if not g.stoppable:
            continue
        if g.option is None or g.option not in index:
            staying.add(g.index)
            continue
        o = index[g.option]
        key = (g.model, o, g.domain if (g.model, o) in zones else None)
        running.groups.setdefault(key, []).append(g)
        if g.index in running.binned and g.cell is not None:
            running.inside[key][g.cell] += len(g.ids)
        else:
            running.off[key] += len(g.ids)
    if staying & running.binned:
        bins = [
            replace(b, gains=tuple(x for x in b.gains if x[0] not in staying), empties=b.empties and not _any(b.gains, staying))
            for b in problem.bins
        ]
        problem = replace(problem, bins=bins)
    return problem, running


def _any(gains: tuple[tuple[int, int, int], ...], groups: set[int]) -> bool:
    return any(g in groups for g, _, _ in gains)


def _slots(problem: Problem, wanted: Mapping[Key, int]) -> list[Slot]:
    of_profile = cells_by_profile(problem)
    alike: dict[tuple[object, ...], tuple[int, ...]] = {}
    slots: dict[tuple[object, ...], Slot] = {}
    for key in sorted(wanted, key=lambda k: (k[0], k[1], k[2] or "")):
        m, o, zone = key
        option, model = problem.options[o], problem.models[m]
        kind = (option.profile, option.devices, option.span, option.pools, option.excluded_pools, option.eligible, model.shared_ok, zone)
        if kind not in alike:
            found = [
                c
                for c in of_profile.get(option.profile, [])
                if refusal(option, model, problem.cells[c], False) is None and zone in (None, problem.cells[c].failure_domain)
            ]
            alike[kind] = tuple(found)
        cells = alike[kind]
        slot = slots.setdefault((option.profile, option.devices, option.span, cells, zone), Slot(option.devices, option.span, cells, zone))
        slot.keys.append(key)
    return list(slots.values())


def _as_ways(problem: Problem, starts: Counter[tuple[int, int, int]]) -> tuple[list[Way], tuple[int, ...]]:
    known = {(w.option, w.cell): w.index for w in problem.ways}
    counts = [0] * len(problem.ways)
    ways: list[Way] = []
    for (_, o, c), n in sorted(starts.items()):
        if (o, c) in known:
            counts[known[(o, c)]] = n
            continue
        ways.append(way(problem, o, c, len(counts)))
        counts.append(n)
    return ways, tuple(counts)


def _cuts(
    problem: Problem, starts: tuple[int, ...], stops: tuple[int, ...], solve: Solve, limits: Limits
) -> dict[int, dict[str, dict[int, int]]]:
    """How to cut the nodes of cells whose sizes are no chain, now that starts and stops are known."""
    by_cell: dict[int, list[Way]] = {}
    for w in problem.ways:
        if starts[w.index]:
            by_cell.setdefault(w.cell, []).append(w)
    result: dict[int, dict[str, dict[int, int]]] = {}
    for cell, ways in sorted(by_cell.items()):
        if is_chain_cell(problem, cell, sorted({request(problem.options[w.option]) for w in ways})):
            continue
        form = Form()
        made = {w.index: form.variable(float(starts[w.index]), float(starts[w.index])) for w in ways}
        here = {g for b in problem.bins if b.cell == cell for g, _, _ in b.gains}
        gone = {g: form.variable(float(stops[g]), float(stops[g])) for g in sorted(here)}
        cuts = add_cell(form, problem, cell, made, gone)
        if cuts is not None:
            answer = solve(form, {}, limits)
            result[cell] = cuts.slots([round(x) for x in answer.values])
    return result
