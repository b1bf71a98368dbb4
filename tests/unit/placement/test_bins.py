"""The capacity rows say yes exactly where a packing exists: chains, other sizes, cards, rings, several nodes; free, in place, stops."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from placement._solver import InfeasibleError, Limits, solver
from placement.bind import bind
from placement.bins import PatternRows, add_cell, chunk_counts, is_chain_cell, patterns_in_place
from placement.form import Form
from placement.nodes import members
from placement.problem import Problem, build
from placement.shapes import is_chain, maximal_patterns, place_patterns
from placement.snapshot import normalised
from placement.types import Cell, Model, ModelDemand, Node, Option, Replica, Snapshot
from tests.unit.placement.packing import ANY, BOX, CARDS, CARDS_EVEN, FOUR_RINGS, HGX, KINDS, RINGS, Kind, State, fits, take

Request = tuple[int, int]


def requests_of(kind: Kind, rng: random.Random, most: int) -> tuple[Request, ...]:
    kinds = [(s, 1) for s in kind.sizes] + [(kind.node, g) for g in kind.spans]
    few = rng.sample(kinds, min(len(kinds), rng.randint(1, 4)))
    return tuple(rng.choice(few) for _ in range(rng.randint(1, most)))


def free_state(kind: Kind, rng: random.Random) -> State:
    """A node that other people's pods use in any way that the rule allows."""
    full = kind.full[1]
    if rng.random() < 0.35:
        return kind.full
    rings = tuple(sorted(rng.randint(0, ring) for ring in full))
    # Of each card that is not complete one die may be free.
    loose = rng.randint(0, sum(full) - sum(rings)) if kind.align > 1 else 0
    return sum(rings) * kind.align + loose, rings


def problem_of(
    kind: Kind,
    states: Sequence[State],
    asked: Sequence[Request] = (),
    running: Sequence[tuple[str, Request]] = (),
    *,
    exact_nodes: bool = True,
) -> Problem:
    """Nodes n0, n1, ... in these states once `running` (nodes, request) has gone, which is all of model "old"."""
    cell = Cell(
        "c",
        "p",
        "x",
        "v",
        kind.sizes,
        align_to=kind.align,
        ring=kind.ring,
        per_node=kind.node,
        whole_node_only=kind.whole,
        exact_nodes=exact_nodes,
    )
    held: Counter[str] = Counter()
    for at, (size, _) in running:
        held.update(dict.fromkeys(members(at), size))
    nodes = []
    for i, (units, rings) in enumerate(states):
        own = held[f"n{i}"]
        full = (units, rings) == kind.full
        nodes.append(
            Node(
                f"n{i}",
                "c",
                kind.node,
                kind.node,
                kind.node - units,
                free_blocks=None if full or kind.align == 1 else rings[0] - sum(s // kind.align for at, (s, _) in running if f"n{i}" in at),
                free_rings=rings if kind.ring and not own else None,
            )
        )
    kinds = sorted({*asked} | {request for _, request in running})
    models = [Model(f"m{s}x{g}", min_replicas=0, max_replicas=99) for s, g in kinds]
    options = tuple(Option(f"o{s}x{g}", f"m{s}x{g}", "x", "v", "d", "e", s * g, span=g) for s, g in kinds)
    replicas = tuple(Replica(f"r{i}", f"m{s}x{g}", f"o{s}x{g}", at, s * g) for i, (at, (s, g)) in enumerate(running))
    snapshot = normalised(Snapshot((cell,), tuple(nodes), tuple(models), options, replicas))
    return build(snapshot, tuple(ModelDemand(m.name) for m in snapshot.models))


def says(problem: Problem, counts: Counter[Request], kind: Kind, *, repack: bool = False) -> bool:
    """What the rows for counts per cell say, without any solver."""
    sizes = sorted({s * g for s, g in counts})
    if is_chain_cell(problem, 0, sizes):
        room = chunk_counts(problem, 0, sizes, repack=repack)
        return all(sum(n * (s * g // small) for (s, g), n in counts.items() if s * g >= small) <= room[small] for small in sizes)
    rows = patterns_in_place(problem, 0, sizes, repack=repack)
    if rows.units is not None and sum(s * g * n for (s, g), n in counts.items()) > rows.units:
        return False
    need: Counter[int] = Counter()
    for (s, g), n in counts.items():
        if rows.units is None or s > 1:
            need[s] += n * g
    return covers(rows, need)


def covers(rows: PatternRows, need: Counter[int]) -> bool:
    """Whether patterns for each place exist that together supply what is needed."""
    sizes = sorted(need)
    places = [[tuple(dict(p).get(s, 0) for s in sizes) for p in c.patterns] for c in rows.classes for _ in range(c.count)]
    reached = {tuple(0 for _ in sizes)}
    wanted = tuple(need[s] for s in sizes)
    for patterns in places:
        reached |= {tuple(min(w, a + b) for w, a, b in zip(wanted, have, p, strict=True)) for have in reached for p in patterns}
    return wanted in reached


@pytest.mark.parametrize("kind", [*KINDS, FOUR_RINGS], ids=lambda k: k.name)
def test_rows_equal_exhaustive_packing(kind: Kind) -> None:
    """Random cells of at most 5 nodes and 14 requests: the rows hold if and only if a packing exists."""
    rng = random.Random(kind.name)
    yes = 0
    for _ in range(600):
        states = tuple(free_state(kind, rng) for _ in range(rng.randint(1, 5)))
        asked = requests_of(kind, rng, 14)
        expected = fits(kind, states, asked)
        assert says(problem_of(kind, states), Counter(asked), kind) == expected, (states, asked)
        yes += expected
    assert 60 < yes < 540


@pytest.mark.parametrize("kind", [*KINDS, FOUR_RINGS], ids=lambda k: k.name)
def test_the_program_and_the_node_choice_equal_exhaustive_packing(kind: Kind) -> None:
    """The rows of the general form, by a solver, on the same kind of cells; what they allow is also bound to nodes that hold it."""
    rng = random.Random("form" + kind.name)
    yes = 0
    for _ in range(60):
        states = tuple(free_state(kind, rng) for _ in range(rng.randint(1, 5)))
        asked = requests_of(kind, rng, 8)
        problem = problem_of(kind, states, asked)
        expected = fits(kind, states, asked)
        slots = solved(problem, Counter(asked), {})
        assert (slots is not None) == expected, (states, asked)
        if slots is not None:
            yes += 1
            binding = bind(problem, starts_of(problem, Counter(asked)), [], slots)
            assert len(binding.starts) == len(asked)
            for i, state in enumerate(states):
                here = [
                    o.devices // o.span for s in binding.starts for o in problem.options if o.id == s.option and f"n{i}" in members(s.node)
                ]
                assert fits(kind, (state,), tuple((k, 1) for k in here))
    assert 5 < yes < 55


def starts_of(problem: Problem, counts: Counter[Request]) -> list[int]:
    options = problem.options
    return [counts[(options[w.option].devices // options[w.option].span, options[w.option].span)] for w in problem.ways]


def solved(problem: Problem, counts: Counter[Request], stops: dict[int, int]) -> dict[int, dict[str, dict[int, int]]] | None:
    """The cuts of a solution with exactly these starts and these stops per group, or None."""
    possible = {problem.options[w.option].id for w in problem.ways}
    if any(f"o{s}x{g}" not in possible for (s, g), n in counts.items() if n):
        return None  # a size that fits no node has no variable
    form = Form()
    ways = {w.index: form.variable(float(n), float(n)) for w, n in zip(problem.ways, starts_of(problem, counts), strict=True)}
    gone = {g: form.variable(float(n), float(n)) for g, n in stops.items()}
    cuts = add_cell(form, problem, 0, ways, gone)
    if all(low == high for low, high in zip(form.lower, form.upper, strict=True)):
        return None if form.violated(form.lower) else {}
    try:
        answer = solver("HiGHS")(form, {0: 1.0}, Limits())
    except InfeasibleError:
        return None
    return {} if cuts is None else {0: cuts.slots([round(x) for x in answer.values])}


def crowded(kind: Kind, rng: random.Random) -> tuple[list[State], list[tuple[str, Request]]]:
    """Nodes and replicas that run on them, all where the rule allows; returns the states with them gone."""
    states = [free_state(kind, rng) if kind.ring is None else kind.full for _ in range(rng.randint(1, 4))]
    left = list(states)
    running: list[tuple[str, Request]] = []
    for _ in range(rng.randint(1, 7)):
        size, span = requests_of(kind, rng, 1)[0]
        spots = [i for i, s in enumerate(left) if s == kind.full] if span > 1 else list(range(len(left)))
        if len(spots) < span:
            continue
        chosen = sorted(rng.sample(spots, span))
        after = [sorted(take_one(kind, left[i], size)) for i in chosen]
        if all(after):
            for i, states_after in zip(chosen, after, strict=True):
                left[i] = rng.choice(states_after)
            running.append((",".join(f"n{i}" for i in chosen), (size, span)))
    return states, running


def take_one(kind: Kind, state: State, size: int) -> set[State]:
    found = take(kind, state, size)
    if size == 1 and kind.loose:  # it sits on one real device
        return {(units, tuple(min(r, units // kind.align) for r in rings) if len(rings) == 1 else rings) for units, rings in found}
    return found


@pytest.mark.parametrize("kind", [k for k in KINDS if k.ring is None], ids=lambda k: k.name)
def test_rows_in_place_are_enough_for_every_choice_of_stops(kind: Kind) -> None:
    """What they allow fits the real nodes whichever replicas stay; and they equal packing into the free parts and the replicas' own."""
    rng = random.Random("place" + kind.name)
    yes = 0
    for _ in range(250):
        states, running = crowded(kind, rng)
        problem = problem_of(kind, states, (), running)
        free, own = in_place_bins(kind, states, running)
        gone = [r for r in running if rng.random() < 0.5]
        kept = list((Counter(running) - Counter(gone)).elements())
        started = requests_of(kind, rng, 5)
        counts = Counter(started) + Counter(request for _, request in kept)
        allowed = says(problem, counts, kind)
        if not any(span > 1 for _, span in counts):
            assert allowed == fits(kind, (*free, *own), tuple(counts.elements())), (states, running, counts)
        if allowed:
            yes += 1
            after, _ = in_place_bins(kind, states, kept)
            assert fits(kind, tuple(after), started), (states, running, gone, started)
    assert yes > 20


def in_place_bins(kind: Kind, states: Sequence[State], running: Sequence[tuple[str, Request]]) -> tuple[list[State], list[State]]:
    """What is free beside the running replicas, as far as it is known; and a bin per replica. A single die gives no card."""
    free: list[State] = []
    own: list[State] = []
    for i, (units, rings) in enumerate(states):
        here = [size for at, (size, _) in running if f"n{i}" in members(at)]
        if kind.align == 1 or kind.whole:
            left = units - sum(here)
            free.append(
                (left, (left // (kind.align if not kind.whole else 1),))
                if not kind.whole
                else (left, kind.full[1] if left == kind.node else (0,))
            )
        else:
            singles = sum(1 for k in here if k == 1)
            known = (units, rings) == kind.full
            whole = rings[0] - sum(k // kind.align for k in here if k > 1) - (singles if known else 0)
            left = units - sum(here)
            free.append((left, (max(0, min(whole, left // kind.align)),)))
        for size in here:
            blocks = 0 if size == 1 and kind.loose and not kind.whole else size // kind.align
            own.append((size, (blocks,)) if not kind.whole or size == 1 else kind.full)
    return free, own


@pytest.mark.parametrize("kind", [HGX, ANY, CARDS, CARDS_EVEN], ids=lambda k: k.name)
def test_stops_on_one_node_add_up_and_equal_exhaustive_packing(kind: Kind) -> None:
    """The general form with given stops: feasible if and only if the starts fit the real nodes after them."""
    rng = random.Random("stops" + kind.name)
    yes = 0
    for _ in range(60):
        states, running = crowded(kind, rng)
        running = [r for r in running if r[1][1] == 1]
        started = tuple(r for r in requests_of(kind, rng, 4) if r[1] == 1)
        problem = problem_of(kind, states, started, running)
        stops = {g.index: rng.randint(0, len(g.ids)) for g in problem.groups}
        gone = {i for g in problem.groups for i in g.ids[: stops[g.index]]}
        kept = [r for i, r in enumerate(running) if f"r{i}" not in gone]
        expected = fits(kind, tuple(in_place_bins(kind, states, kept)[0]), started)
        slots = solved(problem, Counter(started), stops)
        assert (slots is not None) == expected, (states, running, stops, started)
        if slots is not None and started:
            yes += 1
            bind(problem, starts_of(problem, Counter(started)), [stops[g] for g in sorted(stops)], slots)
    assert yes > 5


@pytest.mark.parametrize("kind", [RINGS, BOX], ids=lambda k: k.name)
def test_rings_with_stops_are_never_promised_in_vain(kind: Kind) -> None:
    """Which ring a replica is in cannot be read: what the rows allow fits wherever the replicas that stay may be."""
    rng = random.Random("rings" + kind.name)
    yes = 0
    for _ in range(120):
        states, running = crowded(kind, rng)
        running = [r for r in running if r[1][1] == 1]
        started = tuple(r for r in requests_of(kind, rng, 4) if r[1] == 1)
        problem = problem_of(kind, states, started, running)
        stops = {g.index: rng.randint(0, len(g.ids)) for g in problem.groups}
        gone = {i for g in problem.groups for i in g.ids[: stops[g.index]]}
        slots = solved(problem, Counter(started), stops)
        if slots is None or not started:
            continue
        yes += 1
        binding = bind(problem, starts_of(problem, Counter(started)), [stops[g] for g in sorted(stops)], slots)
        for i in range(len(states)):
            now = [s for j, (at, (s, _)) in enumerate(running) if at == f"n{i}"]
            stay = [s for j, (at, (s, _)) in enumerate(running) if at == f"n{i}" and f"r{j}" not in gone]
            new = tuple((o.devices, 1) for s in binding.starts for o in problem.options if o.id == s.option and s.node == f"n{i}")
            for layout in layouts(kind, now, stay):
                assert fits(kind, (layout,), new), (running, stops, started, layout)
    assert yes > 20


def layouts(kind: Kind, running: Sequence[int], stay: Sequence[int]) -> set[State]:
    """Every state of a node after some of its replicas went, over all ways in which the rule could have put them."""
    left = list(running)
    for size in stay:
        left.remove(size)
    states: set[tuple[State, State]] = {(kind.full, kind.full)}  # (with all of them, with those that stay)
    for size, stays in [(s, True) for s in stay] + [(s, False) for s in left]:
        if size == 1:  # on any device: of any ring
            states = {
                (
                    (u - 1, tuple(r - (j == i) for j, r in enumerate(rings))),
                    (v - stays, tuple(r - (stays and j == i) for j, r in enumerate(kept))),
                )
                for (u, rings), (v, kept) in states
                for i in range(len(rings))
                if rings[i] > 0
            }
            continue
        count, blocks = kind.rings(size)
        assert count in (1, 2)
        states = {
            (
                (u - size, tuple(r - blocks * (count == 2 or j == i) for j, r in enumerate(rings))),
                (v - size * stays, tuple(r - blocks * stays * (count == 2 or j == i) for j, r in enumerate(kept))),
            )
            for (u, rings), (v, kept) in states
            for i in range(2 if count == 1 else 1)
            if all(rings[j] >= blocks for j in ((0, 1) if count == 2 else (i,)))
        }
    assert states, "the rule can always put what really runs"
    return {after for _, after in states}


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


def test_where_the_node_is_not_ours_to_choose_two_small_stops_make_no_large_chunk() -> None:
    """The same node as above under `enforcement: Pool`: rows in place only."""
    for exact in (True, False):
        problem = problem_of(Kind("two", (1, 2), 2), [(2, (2,))], [(2, 1)], [("n0", (1, 1)), ("n0", (1, 1))], exact_nodes=exact)
        assert (solved(problem, Counter({(2, 1): 1}), {0: 2}) is not None) == exact


def test_chunks_in_place_by_hand() -> None:
    """8 devices per node. n0: 4 + 2 run, 2 free. n1: 8 runs. n2, n3 empty; a replica of 16 runs on n4, n5.

    A_8 = n1's own 8, n2, n3 and two of the 16 = 5; A_16 = 2 (n4+n5, and two of the three others); A_4 = 2*5 + the 4 = 11;
    A_2 = 4*5 + 2 + 1 + 1 = 24; A_1 = 48. Repacked, n0 is a whole node too: A_8 = 6, A_16 = 3.
    """
    running = [("n0", (4, 1)), ("n0", (2, 1)), ("n1", (8, 1)), ("n4,n5", (8, 2))]
    problem = problem_of(Kind("hgx", (1, 2, 4, 8), 8, spans=(2,)), [(8, (8,))] * 6, (), running)
    assert chunk_counts(problem, 0, [1, 2, 4, 8, 16]) == {1: 48, 2: 24, 4: 11, 8: 5, 16: 2}
    assert chunk_counts(problem, 0, [1, 2, 4, 8, 16], repack=True) == {1: 48, 2: 24, 4: 12, 8: 6, 16: 3}


def test_cards_in_place_by_hand() -> None:
    """One A3 node, 16 dies = 8 cards: a replica of 4 dies and one of 1 run. 11 dies are free, 5 cards at least; the 4 gives its 2 cards.

    A_1 = 16 dies, A_2 = 7, A_4 = 2 + 1 = 3, A_8 = 1, A_16 = 0. The card of the single die is nobody's while it stays.
    """
    problem = problem_of(CARDS, [CARDS.full], (), [("n0", (4, 1)), ("n0", (1, 1))])
    assert chunk_counts(problem, 0, [1, 2, 4, 8, 16]) == {1: 16, 2: 7, 4: 3, 8: 1, 16: 0}


def test_patterns_in_place_by_hand() -> None:
    """Sizes 2, 3 and 5 on a node of 8 with a 3 running: classes 3 (its own) and 5 (what is free beside it)."""
    problem = problem_of(Kind("x", (2, 3, 5), 8), [(8, (8,))], (), [("n0", (3, 1))])
    rows = patterns_in_place(problem, 0, [2, 3, 5])
    assert not is_chain_cell(problem, 0, [2, 3, 5])
    assert [(c.place, c.count, c.patterns) for c in rows.classes] == [
        ((3,), 1, (((2, 1),), ((3, 1),))),
        ((5,), 1, (((2, 1), (3, 1)), ((2, 2),), ((5, 1),))),
    ]
    assert rows.units is None


def test_fixed_keeps_are_no_bins() -> None:
    """A replica that may not stop, and one whose node takes no new work, leave nothing to the rows in place."""
    cell = Cell("c", "p", "x", "v", (1, 2, 4), per_node=4)
    nodes = (Node("n1", "c", 4, 4, 0), Node("n2", "c", 4, 4, 0, eligible=False))
    models = (Model("free", max_replicas=9), Model("held", max_replicas=9, hold=True))
    options = (Option("f", "free", "x", "v", "d", "e", 2), Option("h", "held", "x", "v", "d", "e", 2))
    replicas = (Replica("r1", "held", "h", "n1", 2), Replica("r2", "free", "f", "n2", 2))
    problem = build(normalised(Snapshot((cell,), nodes, models, options, replicas)), (ModelDemand("free"), ModelDemand("held")))
    assert chunk_counts(problem, 0, [1, 2, 4]) == {1: 2, 2: 1, 4: 0}


def test_a_larger_node_gives_no_whole_node_to_a_replica_over_several() -> None:
    """Full nodes have 8. One of 16 is in the cell: it gives single-node requests below 8 only while a replica over two is in question."""
    cell = Cell("c", "p", "x", "v", (1, 2, 4, 8), per_node=8)
    nodes = tuple(Node(f"n{i}", "c", k, k, 0) for i, k in enumerate((8, 8, 16)))
    models, options = (Model("a", max_replicas=9),), (Option("a", "a", "x", "v", "d", "e", 16, span=2),)
    problem = build(normalised(Snapshot((cell,), nodes, models, options)), (ModelDemand("a"),))
    assert chunk_counts(problem, 0, [4, 8]) == {4: 8, 8: 4}
    assert chunk_counts(problem, 0, [4, 8, 16]) == {4: 5, 8: 2, 16: 1}
    # 8 and 4 run on it: what the 8 leaves is no whole node, what the 4 leaves is as good as any.
    models += (Model("b", max_replicas=9), Model("c", max_replicas=9))
    options += (Option("b", "b", "x", "v", "d", "e", 8), Option("c", "c", "x", "v", "d", "e", 4))
    replicas = (Replica("r1", "b", "b", "n2", 8), Replica("r2", "c", "c", "n2", 4))
    problem = build(normalised(Snapshot((cell,), nodes, models, options, replicas)), tuple(ModelDemand(m.name) for m in models))
    assert chunk_counts(problem, 0, [4, 8]) == {4: 8, 8: 3}
    assert chunk_counts(problem, 0, [4, 8, 16]) == {4: 6, 8: 2, 16: 1}


def test_chains_and_patterns() -> None:
    """Chains by divisibility of neighbours; a node of 8 has 22 maximal cuts into all sizes 1 to 8 (the partitions of 8)."""
    assert is_chain([1, 2, 4, 8, 16])
    assert is_chain([2, 4, 16])
    assert not is_chain([1, 2, 3])
    assert not is_chain([4, 6])
    assert len(maximal_patterns(list(range(1, 9)), 8)) == 22
    assert maximal_patterns([2, 5], 8) == [{5: 1, 2: 1}, {2: 4}]
    assert maximal_patterns([4], 3) == [{}]


def test_patterns_of_rings_by_hand() -> None:
    """Box16 with sizes 3, 8, 10 and 16: 10 leaves 3 + 3; 8 + 8; 8 and 3 3 in the other ring; four 3; 16."""
    found = place_patterns((8, 8), ((3,), (8,), (5, 5), (8, 8)))
    assert set(found) == {((3, 2), (10, 1)), ((8, 2),), ((3, 2), (8, 1)), ((3, 4),), ((16, 1),)}
