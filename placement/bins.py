"""Rows that say which requests fit the nodes of a cell: exact, and without a variable per node and model.

Sizes in use that form a divisibility chain (1|2|4|8|16): counts n_s fit the nodes **if and only if**, for every size s_j,

    sum over i >= j of (s_i / s_j) * n_i  <=  A_j,      A_j = sum over nodes of floor(free / s_j)

because placing in descending size leaves exactly A_j - sum_{i>j} (s_i/s_j) n_i chunks of s_j, whichever nodes were chosen before. So do
whole aligned blocks in place of devices, rings (a full ring is a link of the chain) and levels above the node: a replica over g nodes is g
requests of a whole node, any of the cell. Single devices of a cell with blocks or rings need no partner: one row on the sum.

Sizes that are no chain (1, 2, 3, ...; 6 beside 4; halves of rings): places of equal free parts share integers over cutting patterns (every
maximal multiset of requests that fits).

**What may stop.** `add_cell` knows the node of each replica: a node contributes an integer a_nj with s_j * a_nj <= free + sum of what the
stops give, so two small stops on one node add up to one large chunk (and a stop on another node does not). Where it is not known which
devices a stop frees (rings), or which node a start gets (`exact_nodes` off), a stop gives a place of the replica's own size instead; on a
node with rings a binary says that everything goes and all rings are full.

**In place** (`chunk_counts`, `patterns_in_place`, for counts per option and cell that include what keeps running): bins are the free places
and one place per replica that may stop. Enough for every plan, for a kept replica that the packing put elsewhere swaps with the contents of
its own place, which are no larger. Replicas that may not stop, or whose node takes no new work, are no bins.

Conservative, never wrong: a node larger than the cell's full node gives no whole node while replicas over several nodes are in question; a
node that is not exactly the size that a whole-node cell asks for gives single devices only. `cuts` holds how a solution cuts each node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from placement.cuts import MAX_PATTERNS as MAX_PATTERNS
from placement.cuts import Cuts as Cuts
from placement.cuts import Demands, add_patterns, add_places, sources
from placement.form import Coefficients, Form, add
from placement.nodes import Bin, full_place, own_place
from placement.problem import Problem
from placement.shapes import Multiset, Place, blocks_of, chain, chunks, loose_singles, parts_of, place_patterns, request, ring_of
from placement.types import Cell


@dataclass(frozen=True, slots=True)
class BinClass:
    """`count` equal places, each cut by one of the patterns: ((size in devices on one node, how many), ...)."""

    place: Place
    count: int
    patterns: tuple[Multiset, ...]


@dataclass(frozen=True, slots=True)
class PatternRows:
    """In place, sizes that are no chain: sum of z over a class <= its count; n_s <= sum (pattern count) z per size on one node.

    A replica over g nodes counts as g requests of `node_size`. `units` bounds the sum of all devices where single devices are in no
    pattern (cells with blocks or rings); None = size 1 is in the patterns like any other.
    """

    classes: tuple[BinClass, ...]
    node_size: int | None
    units: int | None


def bins_of(problem: Problem, cell: int) -> list[Bin]:
    return [b for b in problem.bins if b.cell == cell]


def add_cell(form: Form, problem: Problem, cell: int, starts: dict[int, int], stops: dict[int, int]) -> Cuts | None:
    """`starts`: way -> variable (of this cell); `stops`: group -> variable. Returns how to read node cuts where sizes are no chain."""
    where = problem.cells[cell]
    by_pod: Demands = {}
    spans = False
    for way, variable in sorted(starts.items()):
        option = problem.options[problem.ways[way].option]
        by_pod.setdefault(request(option), []).append((variable, option.span))
        spans = spans or option.span > 1
    if not by_pod:
        return None
    bins = bins_of(problem, cell)
    if loose_singles(where) and 1 in by_pod:
        _unit_row(form, bins, by_pod, stops)
    bins = [_capped(where, b, max(by_pod), spans) for b in bins]
    pods: Demands = {size: requests for size, requests in sorted(by_pod.items()) if blocks_of(where, size)}
    if not pods:
        return None
    if ring_of(where) is not None or not where.exact_nodes:
        return add_places(form, where, sources(form, problem, where, bins, stops), pods)
    in_blocks: Demands = {blocks_of(where, size): requests for size, requests in pods.items()}
    if chain(where, list(pods)):
        _chunk_rows(form, problem, bins, in_blocks, stops)
        return None
    return add_patterns(form, problem, bins, in_blocks, stops)


def _capped(where: Cell, b: Bin, size: int, spans: bool) -> Bin:
    """A node that is not exactly the size that must be whole gives one block less than such a request, and no stop makes it whole."""
    must = size if where.whole_node_only and size > 1 else where.per_node if spans else None
    if must is None or b.installed <= must:  # a smaller node can never give so much
        return b
    most = blocks_of(where, must) - 1
    rings = tuple(min(r, max(0, min(parts_of(where, must)) - 1)) for r in b.rings)
    return replace(b, blocks=min(b.blocks, most), rings=rings, gains=(), draining=(), empties=False)


def _unit_row(form: Form, bins: list[Bin], by_pod: Demands, stops: dict[int, int]) -> None:
    row: Coefficients = {}
    for size, requests in sorted(by_pod.items()):
        for variable, times in requests:
            add(row, variable, float(size * times))
    for b in bins:
        for group, units, _ in b.gains:
            if group in stops:
                add(row, stops[group], -float(units))
    form.row(row, "<=", float(sum(b.free for b in bins)))


def _chunk_rows(form: Form, problem: Problem, bins: list[Bin], pods: Demands, stops: dict[int, int]) -> None:
    sizes = sorted(pods)
    for size in sizes:
        row: Coefficients = {}
        for larger in sizes:
            if larger >= size:
                for variable, times in pods[larger]:
                    add(row, variable, float(times * (larger // size)))
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


def chunk_counts(problem: Problem, cell: int, sizes: Sequence[int], *, repack: bool = False) -> dict[int, int]:
    """Size in devices of a replica -> A: rows sum_{i>=j} (s_i / s_j) * n_i <= A_j are exact for sizes that form a chain, else necessary.

    The counts n include what keeps running among the replicas that may stop. A size above the cell's full node is a replica over several
    nodes. `repack`: as if every replica that may stop had been taken off its node first, so what it leaves joins what is free beside it;
    the difference to the rows in place is what moving could win, and only that.
    """
    where = problem.cells[cell]
    node, places, units = _in_place(problem, cell, sizes, repack)
    result: dict[int, int] = {}
    for size in sizes:
        pod = size if node is None or size <= node else node
        if size != pod and (node is None or size % node):
            result[size] = 0
            continue
        if blocks_of(where, pod) == 0:
            result[size] = units
            continue
        need = parts_of(where, pod)
        result[size] = sum(count * chunks(place, need) for place, count in places.items()) // (size // pod)
    return result


def patterns_in_place(problem: Problem, cell: int, sizes: Sequence[int], *, repack: bool = False) -> PatternRows:
    """The rows for sizes (devices of a replica) that are no chain; exact as `chunk_counts` is for chains."""
    where = problem.cells[cell]
    node, places, units = _in_place(problem, cell, sizes, repack)
    pods = sorted({s if node is None or s <= node else node for s in sizes})
    needs = {parts_of(where, s): s for s in pods if blocks_of(where, s)}
    name = {sum(need): size for need, size in needs.items()}
    classes: list[BinClass] = []
    for place, count in sorted(places.items()):
        cuts = place_patterns(place, tuple(sorted(needs)))
        named = tuple(tuple((name[blocks], n) for blocks, n in cut) for cut in cuts if cut)
        if named:
            classes.append(BinClass(place, count, named))
    return PatternRows(tuple(classes), node, units if loose_singles(where) and 1 in pods else None)


def is_chain_cell(problem: Problem, cell: int, sizes: Sequence[int]) -> bool:
    """Whether `chunk_counts` is exact for replicas of these sizes (devices) in this cell."""
    where = problem.cells[cell]
    return chain(where, sorted({s if where.per_node is None else min(s, where.per_node) for s in sizes}))


def _in_place(problem: Problem, cell: int, sizes: Sequence[int], repack: bool) -> tuple[int | None, Counter[Place], int]:
    """The full node's size, places with their number, and the sum of units."""
    where = problem.cells[cell]
    node = where.per_node
    spans = node is not None and any(s > node for s in sizes)
    largest = max((s if node is None else min(s, node) for s in sizes), default=0)
    ringed = ring_of(where) is not None
    places: Counter[Place] = Counter()
    units = 0
    for b in bins_of(problem, cell):
        count = {g: len(problem.groups[g].ids) for g, _, _ in b.gains}
        units += b.free + sum(u * count[g] for g, u, _ in b.gains)
        now = _capped(where, b, largest, spans)
        if repack and now.gains and (not ringed or now.empties):
            total = now.blocks + sum(gain * count[g] for g, _, gain in now.gains)
            places[full_place(where, now) if ringed else (total,)] += 1
            continue
        places[now.rings if ringed else (now.blocks,)] += 1
        if ringed:
            for _, held, _ in now.draining:
                places[own_place(where, held)] += 1
        for g, held, _ in b.gains:
            # A single device beside blocks has none: while it is kept, no row would count it.
            place = own_place(where, held)
            if now is b or held < largest:
                places[place] += count[g]
    return node, Counter({p: n for p, n in places.items() if any(p)}), units
