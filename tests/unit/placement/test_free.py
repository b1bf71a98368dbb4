"""Free devices by classes of nodes against a plain recount and exhaustive packing, over random starts and their undoing."""

from __future__ import annotations

import random
from dataclasses import replace

from placement.free import State, fits, need_of, take
from placement.live import Live
from placement.shapes import alignment, legal, pack, ring_of
from placement.types import Cell, Demand
from tests.unit.placement.fleet import cell, model, node, option, planned, replica, snap

KINDS = (
    cell("h100"),
    cell("910c"),
    cell("a3"),
    replace(cell("h100"), sizes=(1, 2, 4, 8), ring=4),
    replace(cell("910c"), align_to=1, ring=8, sizes=(1, 2, 4, 8, 10, 12, 14, 16)),
)


def full(where: Cell) -> State:
    ring, align, size = ring_of(where), alignment(where), where.per_node or 0
    return State(size, (size // align,) if ring is None else (ring // align,) * (size // ring), size, True)


def test_what_fits_is_what_exhaustive_packing_finds() -> None:
    """Requests in random order on one node: a request fits exactly if its parts pack into what is left, and devices never go below zero."""
    rng = random.Random(7)
    seen = 0
    for _ in range(400):
        where = rng.choice(KINDS)
        state = full(where)
        for _ in range(12):
            size = rng.choice([s for s in where.sizes if legal(where, s)])
            need = need_of(where, size, 1)
            packs = state.free >= size
            if need.whole:
                packs = packs and state.free == state.installed == size
            elif need.parts:
                packs = packs and pack([state.parts], [need.parts]) is not None
            assert fits(state, need) == packs
            if packs:
                state = take(where, state, need)
                seen += 1
            assert state.free >= 0
            assert min(state.parts, default=0) >= 0
            assert sum(state.parts) * alignment(where) <= state.free
    assert seen > 400


def test_single_devices_break_as_few_blocks_as_possible() -> None:
    """Six cards whole, two halves loose (OC-020): two singles take the halves, the third breaks a card."""
    dies = cell("910c")
    state = State(14, (6,), 16, True)
    one = need_of(dies, 1, 1)
    for parts in ((6,), (6,), (5,), (5,), (4,)):
        state = take(dies, state, one)
        assert state.parts == parts


def test_starts_and_their_undoing_leave_the_same_classes() -> None:
    """A random walk of starts, taken back in reverse: every node is as before, and the sums are too."""
    h, d = cell("h100"), cell("910c")
    nodes = [node(f"n{i}", h, 8) for i in range(6)] + [node(f"m{i}", d, 16) for i in range(4)]
    options = [*(option("a", "h100", k) for k in (1, 2, 4, 8)), *(option("a", "910c", k) for k in (1, 2, 4, 16))]
    snapshot = snap([h, d], nodes, [model("a", 0)], options)
    live = Live.of(snapshot, Demand(), planned(snapshot))
    before = (dict(live.free.states), live.count("ns/a"), live.total_cost, dict(live.pool_used))
    rng, done = random.Random(3), []
    for _ in range(40):
        o = rng.choice(options)
        c = live.cell_index[o.profile]
        need = live.need(o, c)
        assert need is not None
        place = live.free.best(c, need)
        if place is not None:
            done.append((o, c, live.states(place[0])))
            live.start(o, c, place[0])
            assert live.free.total(c) == sum(s.free for n, s in live.free.states.items() if live.free.cell_of[n] == c)
            assert live.free.largest(c, need) <= max(s.free for n, s in live.free.states.items() if live.free.cell_of[n] == c)
    assert len(done) > 10
    assert live.count("ns/a") == len(done)
    for o, c, states in reversed(done):
        live.undo(o, c, states)
    after = (dict(live.free.states), live.count("ns/a"), round(live.total_cost, 9), {k: v for k, v in live.pool_used.items() if v})
    assert after == (*before[:3], {k: v for k, v in before[3].items() if v})


def test_best_fit_keeps_the_larger_hole() -> None:
    """3 free on n1, 2 on n2, 8 on n3: a request of 2 goes to n2; one of 3 to n1; a clear node before one that waits for a stop."""
    h = cell("h100")
    snapshot = snap([h], [node("n1", h, 3), node("n2", h, 2), node("n3", h, 8)], [model("a", 0)], [option("a", "h100", 2)])
    live = Live.of(snapshot, Demand(), planned(snapshot))
    assert live.free.best(0, need_of(h, 2, 1)) == ("n2",)
    assert live.free.best(0, need_of(h, 3, 1)) == ("n1",)
    b = option("b", "h100", 2)
    waits = snap([h], [node("n1", h, 2), node("n2", h, 8)], [model("b", 0)], [b], [replica("rb", b, "n1")])
    live = Live.of(waits, Demand(), planned(waits))
    assert live.free.best(0, need_of(h, 2, 1)) == ("n2",)
    assert live.free.states["n1"].clear is False


def test_a_model_alone_is_seen_without_the_others_starts() -> None:
    """OC-011: b's three starts are not why a request of 8 finds 4 and 4."""
    h = cell("h100")
    models = [model("a", 1), model("b", 3)]
    snapshot = snap([h], [node("n1", h, 4), node("n2", h, 4)], models, [option("a", "h100", 8), option("b", "h100", 1)])
    live = Live.of(snapshot, Demand(), planned(snapshot))
    need = need_of(h, 8, 1)
    assert (live.free.total(0), live.alone("ns/a", [0]).largest(0, need), live.alone("ns/a", [0]).total(0)) == (5, 4, 8)
    assert live.alone("ns/b", [0]).total(0) == 5
    assert live.alone("ns/a", [0]).total(0) == 8
