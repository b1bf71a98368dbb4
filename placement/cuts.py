"""How nodes are cut: the rows for sizes that are no chain, for rings and for nodes that are not chosen by us, and how to read a solution.

A *source* is a number of equal places on one node: 1 for what is free, a stop variable for what stops leave, a binary for a node that
empties. All sources of equal places form a class; a class shares integers over the maximal patterns of its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from placement.form import Coefficients, Form, add
from placement.nodes import Bin, full_place, own_place
from placement.problem import Problem
from placement.shapes import Multiset, Place, chain, chunks, maximal_patterns, parts_of, place_patterns, ring_of
from placement.types import Cell

MAX_PATTERNS = 400  # above it (about: all sizes 1..16 on nodes of 18) a count per node and size is smaller

Demands = dict[int, list[tuple[int, int]]]  # size on one node -> (variable, requests of this size per unit of it)


@dataclass(frozen=True, slots=True)
class Source:
    place: Place
    node: str
    fixed: int
    by: tuple[tuple[int, int], ...]  # (variable, places per unit of it)

    def count(self, values: Sequence[int]) -> int:
        return self.fixed + sum(c * values[v] for v, c in self.by)


@dataclass(slots=True)
class Cuts:
    """How to read the cut of each node of one cell whose sizes are no chain. Sizes in blocks."""

    patterns: list[tuple[list[str], list[tuple[int, dict[int, int]]]]] = field(default_factory=list)  # nodes, (variable, multiset)
    counts: list[tuple[str, dict[int, int]]] = field(default_factory=list)  # node, size -> variable
    places: list[tuple[list[Source], list[tuple[int, Multiset]]]] = field(default_factory=list)  # of one class

    def slots(self, values: list[int]) -> dict[str, dict[int, int]]:
        """Per node: size in blocks -> how many of them the solution cuts."""
        result: dict[str, Counter[int]] = {}
        for nodes, patterns in self.patterns:
            free = iter(nodes)
            for variable, multiset in patterns:
                for _ in range(values[variable]):
                    result[next(free)] = Counter(multiset)
        for node, counts in self.counts:
            result[node] = Counter({size: values[v] for size, v in counts.items()})
        for sources_, cut in self.places:
            where = iter([s.node for s in sources_ for _ in range(s.count(values))])
            for variable, pattern in cut:
                for _ in range(values[variable]):
                    result.setdefault(next(where), Counter()).update(dict(pattern))
        return {node: dict(sizes) for node, sizes in sorted(result.items())}


def sources(form: Form, problem: Problem, where: Cell, bins: list[Bin], stops: dict[int, int]) -> list[Source]:
    """Places of a cell where what a stop frees does not join what is free beside it. What needs no waiting comes first."""
    now: list[Source] = []
    later: list[Source] = []
    ringed = ring_of(where) is not None
    for b in bins:
        going = [(own_place(where, k) if ringed else (gain,), g, len(problem.groups[g].ids)) for g, k, gain in b.gains if g in stops]
        drains = [own_place(where, k) if ringed else (gain,) for _, k, gain in b.draining]
        empties = b.empties and len(going) == len(b.gains) and where.exact_nodes
        if empties and not going:
            later.append(Source(full_place(where, b), b.node, 1, ()))
            continue
        lifted: tuple[tuple[int, int], ...] = ()
        if empties:
            empty = form.variable(0.0, 1.0)
            for _, g, count in going:
                form.row({empty: float(count), stops[g]: -1.0}, "<=", 0.0)
            lifted = ((empty, -1),)
            later.append(Source(full_place(where, b), b.node, 0, ((empty, 1),)))
        now.append(Source(b.rings if ringed else (b.blocks_now,), b.node, 1, lifted))
        later += [Source(place, b.node, 1, lifted) for place in drains]
        later += [Source(place, b.node, 0, ((stops[g], 1), *((v, -count) for v, _ in lifted))) for place, g, count in going]
    return [s for s in now + later if any(s.place)]


def add_places(form: Form, where: Cell, found: list[Source], pods: Demands) -> Cuts | None:
    """Rows over such places; `pods` by devices. Cuts where the sizes are no chain."""
    if chain(where, sorted(pods)):
        for size in sorted(pods):
            row: Coefficients = {}
            bound = 0
            for larger, requests in sorted(pods.items()):
                for variable, times in requests if larger >= size else ():
                    add(row, variable, float(times * (larger // size)))
            for s in found:
                gives = chunks(s.place, parts_of(where, size))
                bound += gives * s.fixed
                for variable, places in s.by:
                    add(row, variable, -float(gives * places))
            form.row(row, "<=", float(bound))
        return None
    cuts = Cuts()
    needs = {parts_of(where, size): size for size in sorted(pods)}
    supply: dict[int, Coefficients] = {sum(need): {} for need in needs}
    for place in sorted({s.place for s in found}):
        mine = [s for s in found if s.place == place]
        patterns = [p for p in place_patterns(place, tuple(sorted(needs))) if p]
        if not patterns:
            continue
        variables = [(form.variable(0.0, None), p) for p in patterns]
        row = {v: 1.0 for v, _ in variables}
        for s in mine:
            for variable, places in s.by:
                add(row, variable, -float(places))
        form.row(row, "<=", float(sum(s.fixed for s in mine)))
        for v, p in variables:
            for blocks, count in p:
                add(supply[blocks], v, float(count))
        cuts.places.append((mine, variables))
    _link(form, {sum(need): pods[size] for need, size in needs.items()}, supply)
    return cuts


def add_patterns(form: Form, problem: Problem, bins: list[Bin], pods: Demands, stops: dict[int, int]) -> Cuts:
    """Rows for nodes without rings whose stops join what is free; `pods` by blocks."""
    sizes = sorted(pods)
    cuts = Cuts()
    supply: dict[int, Coefficients] = {s: {} for s in sizes}
    classes: dict[int, list[Bin]] = {}
    own: list[Bin] = []
    for b in bins:
        if any(g in stops and gain for g, _, gain in b.gains):
            own.append(b)
        elif b.blocks >= sizes[0]:
            classes.setdefault(b.blocks, []).append(b)
    for capacity, nodes in sorted(classes.items()):
        patterns = maximal_patterns(sizes, capacity)
        if len(patterns) > MAX_PATTERNS:
            own.extend(nodes)
            continue
        variables = [(form.variable(0.0, float(len(nodes))), p) for p in patterns]
        form.row({v: 1.0 for v, _ in variables}, "<=", float(len(nodes)))
        for v, p in variables:
            for size, count in p.items():
                add(supply[size], v, float(count))
        cuts.patterns.append(([b.node for b in nodes], variables))
    for b in sorted(own, key=lambda x: x.node):
        gains = [(stops[g], gain, len(problem.groups[g].ids)) for g, _, gain in b.gains if g in stops and gain]
        most = b.blocks + sum(gain * count for _, gain, count in gains)
        counts = {s: form.variable(0.0, float(most // s)) for s in sizes if s <= most}
        row: Coefficients = {v: float(s) for s, v in counts.items()}
        for variable, gain, _ in gains:
            add(row, variable, -float(gain))
        form.row(row, "<=", float(b.blocks))
        for s, v in counts.items():
            add(supply[s], v, 1.0)
        cuts.counts.append((b.node, counts))
    _link(form, pods, supply)
    return cuts


def _link(form: Form, pods: Demands, supply: dict[int, Coefficients]) -> None:
    """What is asked of each size <= what the cuts supply of it."""
    for size, requests in sorted(pods.items()):
        row: Coefficients = {}
        for variable, times in requests:
            add(row, variable, float(times))
        for variable, supplied in supply[size].items():
            add(row, variable, -supplied)
        form.row(row, "<=", 0.0)
