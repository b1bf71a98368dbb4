"""The capacity rows say yes exactly where a packing exists: sizes in chains, other sizes, aligned blocks, nodes with possible stops."""

from __future__ import annotations

import random
from functools import cache

import pytest

from placement._solver import InfeasibleError, Limits, solver
from placement.bins import add_cell, is_chain, maximal_patterns
from placement.form import Form
from placement.problem import build
from placement.snapshot import normalised
from placement.types import Cell, Model, ModelDemand, Node, Option, Replica, Snapshot

SIZES = {"chain": (1, 2, 4, 8), "others": (1, 2, 3, 4, 6, 8), "odd": (2, 5, 8), "cards": (1, 2, 4, 6, 8)}


def packs(items: tuple[int, ...], bins: tuple[tuple[int, int], ...], align: int) -> bool:
    """Exhaustive: bins are (free units, whole blocks). Above 1 a request takes whole blocks, a single device a loose unit first."""

    @cache
    def fits(position: int, left: tuple[tuple[int, int], ...]) -> bool:
        if position == len(items):
            return True
        size = items[position]
        for i, (units, blocks) in enumerate(left):
            need = size // align if size > 1 or align == 1 else 0
            if units < size or blocks < need:
                continue
            rest = (units - size, min(blocks - need, (units - size) // align))
            if fits(position + 1, tuple(sorted((*left[:i], rest, *left[i + 1 :])))):
                return True
        return False

    return fits(0, tuple(sorted(bins)))


@pytest.mark.parametrize("kind", sorted(SIZES))
def test_rows_equal_exhaustive_packing(kind: str) -> None:
    """200 random cells of at most 4 nodes and 8 requests: rows feasible if and only if a packing exists."""
    rng, sizes, align = random.Random(kind), SIZES[kind], 2 if kind == "cards" else 1
    yes = 0
    for _ in range(200):
        shape = [(f := rng.randint(0, 8), rng.randint(0, f // align)) for _ in range(rng.randint(1, 4))]
        shape = [(f, f if align == 1 else b) for f, b in shape]
        items = tuple(sorted((rng.choice(sizes) for _ in range(rng.randint(1, 8))), reverse=True))
        expected = packs(items, tuple(shape), align)
        assert rows_allow(sizes, shape, items, align) == expected, (kind, shape, items)
        yes += expected
    assert 20 < yes < 180


def rows_allow(sizes: tuple[int, ...], shape: list[tuple[int, int]], items: tuple[int, ...], align: int) -> bool:
    cell = Cell("c", "p", "x", "v", tuple(sorted({*sizes})), align_to=align, per_node=8)
    nodes = tuple(Node(f"n{i}", "c", 8, 8, 8 - f, free_blocks=b if align > 1 else None) for i, (f, b) in enumerate(shape))
    models = tuple(Model(f"m{k}", min_replicas=items.count(k), max_replicas=items.count(k)) for k in sorted({*items}))
    options = tuple(Option(f"o{k}", f"m{k}", "x", "v", "d", "e", k) for k in sorted({*items}))
    problem = build(normalised(Snapshot((cell,), nodes, models, options)), tuple(ModelDemand(m.name) for m in sorted(models, key=str)))
    if len(problem.ways) < len(options):
        return False  # a size that fits no node has no variable
    form = Form()
    starts = {w.index: form.variable(float(items.count(w.size)), float(items.count(w.size))) for w in problem.ways}
    add_cell(form, problem, 0, starts, {})
    try:
        solver("HiGHS")(form, {0: 1.0}, Limits())
    except InfeasibleError:
        return False
    return True


def test_two_small_stops_on_one_node_make_a_large_chunk_and_on_two_nodes_do_not() -> None:
    cell = Cell("c", "p", "x", "v", (1, 2), per_node=2)
    options = (Option("a", "a", "x", "v", "d", "e", 1), Option("b", "b", "x", "v", "d", "e", 2))
    models = (Model("a", min_replicas=2, max_replicas=2), Model("b"))
    for second, possible in (("n1", True), ("n2", False)):
        nodes = (Node("n1", "c", 2, 2, 0 if possible else 1), Node("n2", "c", 2, 2, 1))
        replicas = (Replica("r1", "a", "a", "n1", 1), Replica("r2", "a", "a", second, 1))
        problem = build(normalised(Snapshot((cell,), nodes, models, options, replicas)), (ModelDemand("a"), ModelDemand("b")))
        if not possible:
            assert all(w.size == 1 for w in problem.ways)
            continue
        form = Form()
        starts = {w.index: form.variable(1.0 if w.size == 2 else 0.0, 1.0) for w in problem.ways}
        stops = {g.index: form.variable(0.0, float(len(g.ids))) for g in problem.groups}
        add_cell(form, problem, 0, starts, stops)
        answer = solver("HiGHS")(form, dict.fromkeys(stops.values(), 1.0), Limits())
        assert answer.objective == 2.0


def test_chains_and_patterns() -> None:
    """Chains by divisibility of neighbours; a node of 8 has 22 maximal cuts into all sizes 1 to 8 (the partitions of 8)."""
    assert is_chain([1, 2, 4, 8, 16])
    assert is_chain([2, 4, 16])
    assert not is_chain([1, 2, 3])
    assert not is_chain([4, 6])
    assert len(maximal_patterns(list(range(1, 9)), 8)) == 22
    assert maximal_patterns([2, 5], 8) == [{5: 1, 2: 1}, {2: 4}]
    assert maximal_patterns([4], 3) == [{}]
