"""The hands of `split`: from shares of cells to which running replicas stay, which stop, and what starts where.

Running replicas stay where the cell's share allows, higher ranks first. Those that go: not serving first, then on the emptiest nodes.
Starts go where room is; a model with `Soft` spread to the domain with the fewest of its replicas. Everything is sorted, nothing is drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from placement.problem import Problem
from placement.splitform import Key, Running, Slot
from placement.types import Spread


def _rank_order(problem: Problem, key: Key) -> tuple[int, str, int, str]:
    return problem.rank[key[0]], problem.models[key[0]].name, key[1], key[2] or ""


def stay_of(
    problem: Problem,
    wanted: Mapping[Key, int],
    running: Running,
    slots: list[Slot],
    shares: dict[tuple[int, int], int],
    keeps: dict[tuple[Key, int], int],
) -> dict[tuple[Key, int], int]:
    """(key, cell) -> running replicas that stay; cell -1 = on nodes that take no new work."""
    stay: dict[tuple[Key, int], int] = {}
    for k, slot in enumerate(slots):
        left = _shares_of(shares, k, slot, running)
        order = sorted(slot.keys, key=lambda x: _rank_order(problem, x))
        total: Counter[Key] = Counter()
        for key in order:
            if running.off.get(key, 0):
                total[key] = stay[(key, -1)] = keeps.get((key, -1), 0)
        # First what the program chose, then whoever still runs where its option has room left (the program's fractions).
        for chosen in (True, False):
            for key in order:
                if not chosen and total[key] == wanted[key]:
                    continue
                for c, here in sorted(running.inside.get(key, {}).items()):
                    already = stay.get((key, c), 0)
                    most = min(keeps.get((key, c), here) if chosen else here, already + left.get(c, 0), already + wanted[key] - total[key])
                    stay[(key, c)] = most
                    left[c] = left.get(c, 0) - (most - already)
                    total[key] += most - already
    return stay


def _shares_of(shares: dict[tuple[int, int], int], k: int, slot: Slot, running: Running) -> dict[int, int]:
    cells = {*slot.cells, *(c for key in slot.keys for c in running.inside.get(key, ()))}
    return {c: shares[(k, c)] for c in cells if (k, c) in shares}


def stops_of(problem: Problem, running: Running, stay: dict[tuple[Key, int], int]) -> tuple[int, ...]:
    """Of those that go: not resident ones first, not serving first, then on the emptiest nodes."""
    stops = [0] * len(problem.groups)
    for key, groups in running.groups.items():
        left = {c: stay.get((key, c), 0) for c in (-1, *running.inside.get(key, ()))}
        if sum(left.values()) == sum(len(g.ids) for g in groups):
            continue
        for g in sorted(groups, key=lambda g: (-g.resident, -g.preference, g.node, g.index)):
            at = g.cell if g.index in running.binned and g.cell is not None else -1
            kept = min(len(g.ids), left[at])
            left[at] -= kept
            stops[g.index] = len(g.ids) - kept
    return tuple(stops)


def starts_of(
    problem: Problem,
    wanted: Mapping[Key, int],
    running: Running,
    slots: list[Slot],
    shares: dict[tuple[int, int], int],
    stay: dict[tuple[Key, int], int],
) -> Counter[tuple[int, int, int]]:
    """(model, option, cell) -> starts."""
    spread: dict[int, Counter[str]] = defaultdict(Counter)
    total: Counter[int] = Counter()
    for g in problem.groups:
        if not g.stoppable:
            spread[g.model][g.domain] += len(g.ids)
            total[g.model] += len(g.ids)
    staying: Counter[Key] = Counter()
    used: Counter[tuple[int, int]] = Counter()
    slot_of = {key: k for k, slot in enumerate(slots) for key in slot.keys}
    for (key, c), n in stay.items():
        staying[key] += n
        if c >= 0:
            used[(slot_of[key], c)] += n
            spread[key[0]][problem.cells[c].failure_domain] += n
    for key, n in wanted.items():
        total[key[0]] += n
    result: Counter[tuple[int, int, int]] = Counter()
    domains, names = [c.failure_domain for c in problem.cells], [c.name for c in problem.cells]

    def order(key: Key) -> tuple[bool, tuple[int, str, int, str]]:
        model = problem.models[key[0]]
        # Those that must be spread choose first; where the others go is all the same to them.
        return model.spread is Spread.NONE or total[key[0]] < 2, _rank_order(problem, key)

    for k, slot in enumerate(slots):
        left = {c: shares[(k, c)] - used[(k, c)] for c in slot.cells if shares.get((k, c), 0) > used[(k, c)]}
        short = max(0, sum(wanted[key] - staying[key] for key in slot.keys) - sum(left.values()))
        missing = _missing(problem, wanted, staying, slot, short)
        for key in sorted(slot.keys, key=order):
            mine = spread[key[0]]
            for _ in range(wanted[key] - staying[key] - missing[key]):
                cell = min(left, key=lambda c: (mine[domains[c]], -left[c], names[c]))
                result[(key[0], key[1], cell)] += 1
                mine[domains[cell]] += 1
                left[cell] -= 1
                if not left[cell]:
                    del left[cell]
    return result


def _missing(problem: Problem, wanted: Mapping[Key, int], staying: Counter[Key], slot: Slot, short: int) -> Counter[Key]:
    """Who goes without, where the cells cannot take all: the lowest rank first."""
    missing: Counter[Key] = Counter()
    for key in sorted(slot.keys, key=lambda x: _rank_order(problem, x), reverse=True):
        missing[key] = min(short, wanted[key] - staying[key])
        short -= missing[key]
    return missing
