"""Rows that say which starts fit the nodes of a cell: exact, and without a variable per node and model.

Sizes in use that form a divisibility chain (1|2|4|8|16): counts n_s fit the nodes **if and only if**, for every size s_j,

    sum over i >= j of (s_i / s_j) * n_i  <=  A_j,      A_j = sum over nodes of floor(free / s_j)

because placing in descending size leaves exactly A_j - sum_{i>j} (s_i/s_j) n_i chunks of s_j, whichever nodes were chosen before. A node
on which replicas may be stopped contributes an integer a_nj with s_j * a_nj <= free + sum of what the stops give, so two small stops on
one node add up to one large chunk (and a stop on another node does not). The same holds for whole aligned blocks in place of devices;
single devices of an aligned cell need no partner and only have a row on the sum.

Sizes that are no chain (1, 2, 3, ...; 6 beside 4): nodes of equal free size share integers over cutting patterns (every maximal multiset
of sizes that fits); a node with possible stops has its own count per size. `slots` reads the cut of every node back from a solution.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from placement.form import Coefficients, Form, add
from placement.nodes import Bin, alignment, blocks_of
from placement.problem import Problem
from placement.types import Cell

MAX_PATTERNS = 400  # above it (about: all sizes 1..16 on nodes of 18) a count per node and size is smaller


@dataclass(slots=True)
class Cuts:
    """How to read the cut of each node of one cell that has no chain. Sizes in blocks."""

    patterns: list[tuple[list[str], list[tuple[int, dict[int, int]]]]] = field(default_factory=list)  # nodes, (variable, multiset)
    counts: list[tuple[str, dict[int, int]]] = field(default_factory=list)  # node, size -> variable

    def slots(self, values: list[int]) -> dict[str, dict[int, int]]:
        """Per node: size in blocks -> how many of them the solution cuts."""
        result: dict[str, dict[int, int]] = {}
        for nodes, patterns in self.patterns:
            free = iter(nodes)
            for variable, multiset in patterns:
                for _ in range(values[variable]):
                    result[next(free)] = dict(multiset)
        for node, counts in self.counts:
            result[node] = {size: values[v] for size, v in counts.items()}
        return result


def is_chain(sizes: list[int]) -> bool:
    return all(b % a == 0 for a, b in pairwise(sizes))


def maximal_patterns(sizes: list[int], capacity: int) -> list[dict[int, int]]:
    """Every multiset of the sizes that fits the capacity and to which nothing can be added."""
    ordered = sorted(sizes, reverse=True)
    smallest = ordered[-1] if ordered else capacity + 1
    found: list[dict[int, int]] = []

    def fill(position: int, left: int, chosen: dict[int, int]) -> None:
        if position == len(ordered):
            if left < smallest:
                found.append(dict(chosen))
            return
        size = ordered[position]
        for count in range(left // size, -1, -1):
            if count:
                chosen[size] = count
            fill(position + 1, left - count * size, chosen)
            chosen.pop(size, None)

    fill(0, capacity, {})
    return found


def add_cell(form: Form, problem: Problem, cell: int, starts: dict[int, int], stops: dict[int, int]) -> Cuts | None:
    """`starts`: way -> variable (of this cell); `stops`: group -> variable. Returns how to read node cuts where sizes are no chain."""
    where = problem.cells[cell]
    bins = [b for b in problem.bins if b.cell == cell]
    by_size: dict[int, list[int]] = {}
    for way, variable in sorted(starts.items()):
        by_size.setdefault(problem.ways[way].size, []).append(variable)
    if not by_size:
        return None
    if alignment(where) > 1 and 1 in by_size:
        _unit_row(form, bins, by_size, stops)
    if where.whole_node_only:
        bins = [_whole(where, b, max(by_size)) for b in bins]
    blocks: dict[int, list[int]] = {}
    for size, variables in sorted(by_size.items()):
        in_blocks = blocks_of(where, size)
        if in_blocks:
            blocks.setdefault(in_blocks, []).extend(variables)
    sizes = sorted(blocks)
    if not sizes:
        return None
    if is_chain(sizes):
        _chunk_rows(form, problem, bins, blocks, stops)
        return None
    return _patterns(form, problem, bins, blocks, stops)


def _whole(where: Cell, b: Bin, size: int) -> Bin:
    """A node that is not exactly this size offers single devices only: what it can give is capped to one chunk less."""
    return b if b.takes(where, size) else replace(b, blocks=min(b.blocks, size - 1), gains=())


def _unit_row(form: Form, bins: list[Bin], by_size: dict[int, list[int]], stops: dict[int, int]) -> None:
    row: Coefficients = {}
    for size, variables in sorted(by_size.items()):
        for variable in variables:
            add(row, variable, float(size))
    for b in bins:
        for group, units, _ in b.gains:
            if group in stops:
                add(row, stops[group], -float(units))
    form.row(row, "<=", float(sum(b.free for b in bins)))


def _chunk_rows(form: Form, problem: Problem, bins: list[Bin], blocks: dict[int, list[int]], stops: dict[int, int]) -> None:
    sizes = sorted(blocks)
    for size in sizes:
        row: Coefficients = {}
        for larger in sizes:
            if larger >= size:
                for variable in blocks[larger]:
                    add(row, variable, float(larger // size))
        bound = 0
        for b in bins:
            gains = [(stops[g], gain, len(problem.groups[g].ids)) for g, _, gain in b.gains if g in stops and gain]
            bound += b.blocks // size
            if all(gain % size == 0 for _, gain, _ in gains):
                for variable, gain, _ in gains:
                    add(row, variable, -float(gain // size))
                continue
            most = (b.blocks + sum(gain * count for _, gain, count in gains)) // size - b.blocks // size
            if most <= 0:
                continue
            # extra = chunks that appear by stops: exact by the first row, tight for the relaxation by the second.
            extra = form.variable(0.0, float(most))
            exact: Coefficients = {extra: float(size)}
            tight: Coefficients = {extra: 1.0}
            for variable, gain, _ in gains:
                add(exact, variable, -float(gain))
                add(tight, variable, -float(-(-gain // size)))
            form.row(exact, "<=", float(b.blocks % size))
            form.row(tight, "<=", 0.0)
            add(row, extra, -1.0)
        form.row(row, "<=", float(bound))


def _patterns(form: Form, problem: Problem, bins: list[Bin], blocks: dict[int, list[int]], stops: dict[int, int]) -> Cuts:
    sizes = sorted(blocks)
    cuts = Cuts()
    supply: dict[int, Coefficients] = {s: {} for s in sizes}
    classes: dict[int, list[str]] = {}
    own: list[Bin] = []
    for b in bins:
        if any(g in stops and gain for g, _, gain in b.gains):
            own.append(b)
        elif b.blocks >= sizes[0]:
            classes.setdefault(b.blocks, []).append(b.node)
    for capacity, nodes in sorted(classes.items()):
        patterns = maximal_patterns(sizes, capacity)
        if len(patterns) > MAX_PATTERNS:
            own.extend(b for b in bins if b.node in nodes)
            continue
        variables = [(form.variable(0.0, float(len(nodes))), p) for p in patterns]
        form.row({v: 1.0 for v, _ in variables}, "<=", float(len(nodes)))
        for v, p in variables:
            for size, count in p.items():
                add(supply[size], v, float(count))
        cuts.patterns.append((nodes, variables))
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
    for size in sizes:
        row = dict.fromkeys(blocks[size], 1.0)
        for variable, supplied in supply[size].items():
            add(row, variable, -supplied)
        form.row(row, "<=", 0.0)
    return cuts
