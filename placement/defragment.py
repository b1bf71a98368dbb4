"""A proposal to move running replicas so that a size fits that is short only because free devices are scattered. `makeroom` carries it out.

Two bounds say whether it can help: the rows of a cell in place (nobody moves) and repacked (everybody may). Where one more request breaks
the first and not the second, a program over the cell's nodes looks for the fewest moves:

    m_gn  replicas of group g that go to node n             integer
    t_n   node n holds (a part of) the new replica           0 or 1, as many as it spans

    per node, in devices and in whole blocks:   what comes + what the new replica takes  <=  free + what goes

Only replicas that the plan keeps move, inside their cell (same pool, same failure domain, same price), and none that are younger than their
residence. Moves are ordered so that each starts before its old replica stops (make before break); where a ring of moves leaves no free spot
the one with the fewest devices stops first, and says so. `at_once` asks only for moves that can all start at the same moment, into what is
free now: these are safe to carry out whatever becomes of the others.

Not covered: cells with rings, and pools whose own scheduler chooses nodes (nobody could say where a replica lands).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from placement import _solver
from placement.bars import bar
from placement.bins import chunk_counts, is_chain_cell
from placement.form import Coefficients, Form, add
from placement.free import Need, State, fits, give, need_of, take
from placement.general import WEIGHT
from placement.lack import carried
from placement.live import Live
from placement.nodes import Group, members
from placement.problem import Problem, build, refusal, unmet_price
from placement.shapes import alignment, blocks_of, request, ring_of
from placement.snapshot import demand_by_model, normalised
from placement.types import Demand, Option, Plan, ReplicaState, Snapshot

NODES = 32  # of a cell that are looked at: those that need the fewest moves, and those with the most free devices to take them
FEWER = 1e-3  # of a move: a moved device, so that of equally many moves the smaller replicas are taken


@dataclass(frozen=True, slots=True)
class Move:
    """One running replica goes to another node of its cell. In this order."""

    replica: str
    model: str
    option: str
    source: str
    target: str
    devices: int
    make_before_break: bool  # the new one serves before the old one stops; False: no node has room for both


@dataclass(frozen=True, slots=True)
class Defragment:
    """Moves after which one more replica of `model` fits. `gain` and `price` are money per hour, in terms of the plan's objective."""

    model: str
    option: str
    cell: str
    node: str  # where it then fits; several nodes joined by commas
    moves: tuple[Move, ...]
    gain: float  # weighted shortfall that the replica takes away
    price: float  # what the moves cost: the saving that each must earn
    reason: str


@dataclass(frozen=True, slots=True)
class _Found:
    moves: list[tuple[Group, str, int]]  # group, target, how many
    nodes: tuple[str, ...]
    devices: int


def proposal(
    snapshot: Snapshot,
    demand: Demand,
    plan: Plan,
    *,
    model: str | None = None,
    solver: str = "HiGHS",
    limits: _solver.Limits | None = None,
) -> Defragment | None:
    """The cheapest defragmentation for the first short model (in the order of ranks) that one helps, on the fleet as `plan` leaves it.

    `model`: only for this one, short or not. None if nothing helps, or if it needs more moves than `maxMovesPerHour` leaves.
    """
    snapshot = normalised(snapshot)
    problem = build(snapshot, demand_by_model(snapshot, demand))
    short = {s.model for s in plan.shortfalls} if model is None else {model}
    return among(problem, plan, short, _solver.solver(solver), limits or _solver.Limits(search_gap=0.0))


def among(
    problem: Problem, plan: Plan, short: Collection[str], engine: _solver.Solve, limits: _solver.Limits, *, at_once: bool = False
) -> Defragment | None:
    """The same for these models of a problem. `at_once`: every move starts into what is free now."""
    live = Live.of_problem(problem, plan)
    order = sorted((i for i, m in enumerate(problem.models) if m.name in short), key=lambda i: (problem.rank[i], problem.models[i].name))
    most = problem.snapshot.policy.max_moves
    for m in order:
        best = _Search(problem, live, m, engine, limits, at_once).best()
        if best is not None and (most is None or len(best.moves) <= most - plan.moves):
            return best
    return None


class _Search:
    def __init__(self, problem: Problem, live: Live, m: int, engine: _solver.Solve, limits: _solver.Limits, at_once: bool) -> None:
        self.p, self.live, self.m, self.engine, self.limits, self.at_once = problem, live, m, engine, limits, at_once
        self.left = {g.index: ids for kept in live.kept.values() for g, ids in kept if ids}

    def best(self) -> Defragment | None:
        found: list[tuple[tuple[int, int, float, str, str], Option, int, _Found]] = []
        for option, cell in self._places():
            fewest = min((key[0] for key, _, _, _ in found), default=None)
            one = self._solve(option, cell, fewest)
            if one is not None:
                count = sum(n for _, _, n in one.moves)
                found.append(((count, one.devices, self.live.price(option, cell), option.id, self.p.cells[cell].name), option, cell, one))
        if not found:
            return None
        _, option, cell, one = min(found, key=lambda f: f[0])
        return self._tell(option, cell, one)

    def _places(self) -> Iterator[tuple[Option, int]]:
        """Options and cells where only the scatter of free devices is in the way."""
        for option in self.live.options_of[self.p.models[self.m].name]:
            for cell, where in enumerate(self.p.cells):
                if where.profile != option.profile or not option.eligible or ring_of(where) is not None or not where.exact_nodes:
                    continue
                need = self.live.need(option, cell)
                if need is None or bar(self.live, option, cell) is not None or self.live.free.best(cell, need) is not None:
                    continue
                if self._repacks(option, cell):
                    yield option, cell

    def _repacks(self, option: Option, cell: int) -> bool:
        """Whether the rows allow one more once everybody who may move has been taken off the nodes. Necessary, not sufficient."""
        counts: dict[int, int] = {request(option): option.span}
        whole = {option.devices, request(option)}
        for g in self.p.groups:
            if g.cell == cell and g.stoppable and g.index in self.left:
                pods = len(members(g.node))
                counts[g.devices // pods] = counts.get(g.devices // pods, 0) + pods * len(self.left[g.index])
                whole |= {g.devices, g.devices // pods}
        for o, c, _ in (start for starts in self.live.starts.values() for start in starts):
            if c == cell:
                counts[request(o)] = counts.get(request(o), 0) + o.span
                whole |= {o.devices, request(o)}
        if not is_chain_cell(self.p, cell, sorted(counts)):
            return True
        room = chunk_counts(self.p, cell, sorted(whole), repack=True)
        return all(sum(n * (size // s) for size, n in counts.items() if size >= s) <= room[s] for s in counts)

    # The program

    def _solve(self, option: Option, cell: int, fewest: int | None) -> _Found | None:
        need = need_of(self.p.cells[cell], option.devices, option.span)
        nodes = self._nodes(cell, need)
        movable = [g for g in self.p.groups if g.index in self.left and g.node in nodes and self._may_move(g, cell)]
        form = Form()
        objective: Coefficients = {}
        moves: dict[tuple[int, str], int] = {}
        target = {n: form.variable(0.0, 1.0) for n in nodes}
        form.row(dict.fromkeys(target.values(), 1.0), "==", float(need.span))
        where = self.p.cells[cell]
        whole = blocks_of(where, need.pod)
        units: dict[str, Coefficients] = {n: {target[n]: float(need.pod)} for n in nodes}
        blocks: dict[str, Coefficients] = {n: {target[n]: float(whole)} if whole else {} for n in nodes}
        coming: dict[str, list[tuple[int, Group]]] = {n: [] for n in nodes}
        for g in movable:
            out: Coefficients = {}
            gain = self.live.free.gains[g.node][g.index]
            for n in nodes:
                if n != g.node:
                    v = moves[(g.index, n)] = form.variable(0.0, float(len(self.left[g.index])))
                    out[v] = 1.0
                    objective[v] = 1.0 + FEWER * g.devices
                    add(units[n], v, float(g.devices))
                    add(blocks[n], v, float(blocks_of(where, g.devices)))
                    coming[n].append((v, g))
                    add(units[g.node], v, -float(gain[0]))
                    add(blocks[g.node], v, -float(gain[1]))
            form.row(out, "<=", float(len(self.left[g.index])))
        for n in nodes:
            state = self.live.free.states[n]
            form.row(units[n], "<=", float(state.free))
            if alignment(where) > 1:
                form.row(blocks[n], "<=", float(sum(state.parts)))
            if self.at_once and coming[n]:
                # What is free only once somebody has gone is not free now.
                form.row({v: float(g.devices) for v, g in coming[n]}, "<=", float(state.free if state.clear else 0))
                if alignment(where) > 1:
                    form.row({v: float(blocks_of(where, g.devices)) for v, g in coming[n]}, "<=", float(sum(state.parts)))
            if need.whole and state.installed != need.pod:
                form.row({target[n]: 1.0}, "<=", 0.0)
        if fewest is not None and objective:
            form.row(dict.fromkeys(objective, 1.0), "<=", float(fewest))
        try:
            answer = self.engine(form, objective, self.limits)
        except _solver.SolverError:  # no such moves, or none found: then there is no proposal
            return None
        groups = {g.index: g for g in movable}
        made = [(groups[g], n, k) for (g, n), v in moves.items() if (k := round(answer.values[v]))]
        chosen = tuple(n for n in nodes if round(answer.values[target[n]]))
        return _Found(made, chosen, sum(g.devices * k for g, _, k in made)) if made else None

    def _may_move(self, g: Group, cell: int) -> bool:
        """Its model may not be preempted, then not for this either; and its own kind must still be allowed to start here."""
        option = self.p.option_index.get(g.option or "")
        model = self.p.models[g.model]
        if option is None or not model.preemptable:
            return False
        works = sum(self.p.demand[g.model].loads) > 0
        return (
            g.cell == cell
            and refusal(self.p.options[option], model, self.p.cells[cell], works) is None
            and g.stoppable
            and not g.resident
            and not g.stays
            and g.index in self.live.free.gains.get(g.node, {})
        )

    def _nodes(self, cell: int, need: Need) -> list[str]:
        """All nodes of a small cell; of a large one the cheapest targets and the freest others."""
        free = self.live.free
        names = sorted(n for n, c in free.cell_of.items() if c == cell)
        if len(names) <= NODES:
            return names
        sizes: dict[str, list[int]] = {}
        for g in self.p.groups:
            if g.index in self.left and self._may_move(g, cell):
                sizes.setdefault(g.node, []).extend([g.devices] * len(self.left[g.index]))

        def moves(node: str) -> int:
            missing, count = need.pod - free.states[node].free, 0
            for size in sorted(sizes.get(node, []), reverse=True):
                if missing > 0:
                    missing, count = missing - size, count + 1
            return count if missing <= 0 else 10**6

        targets = sorted(names, key=lambda n: (moves(n), n))[: max(NODES // 2, need.span)]
        others = sorted((n for n in names if n not in set(targets)), key=lambda n: (-free.states[n].free, n))
        return sorted([*targets, *others[: NODES // 2]])

    # The answer

    def _tell(self, option: Option, cell: int, found: _Found) -> Defragment:
        where, model = self.p.cells[cell], self.p.models[self.m]
        moves = self._ordered(cell, found)
        node = ",".join(sorted(found.nodes))
        saving = self.p.snapshot.policy.min_saving_percent / 100.0
        price = sum(where.cost_per_device_hour * m.devices * saving for m in moves)
        need = need_of(where, option.devices, option.span)
        kinds = "device" if need.pod == 1 else "devices"
        largest, total = self.live.free.largest(cell, need), self.live.free.total(cell)
        on = f"on one node of {where.name}" if option.span == 1 else f"on each of {option.span} nodes of {where.name}"
        count = "1 move makes" if len(moves) == 1 else f"{len(moves)} moves make"
        reason = f"{model.name} needs {need.pod} {kinds} {on}; largest free {largest} of {total}; {count} room on {node}"
        late = [m.replica for m in moves if not m.make_before_break]
        if late:
            reason += f"; {', '.join(late)} must stop before the new replica starts"
        return Defragment(model.name, option.id, where.name, node, tuple(moves), self._gain(option), price, reason)

    def _gain(self, option: Option) -> float:
        """The shortfall that one more replica takes away: missing replicas, and the convex price of unmet work."""
        want, name = self.p.wants[self.m], self.p.models[self.m].name
        count = self.live.count(name)
        gain = 2.0 * want.smallest if count < want.minimum else 0.0
        for entry in self.live.entries(name):
            rates = option.rates(len(entry.loads))
            work = sum(entry.loads)
            if entry.role != option.role or work <= 0 or any(r <= 0 for r, w in zip(rates, entry.loads, strict=False) if w > 0):
                continue
            one = 1.0 / sum(w / r for r, w in zip(rates, entry.loads, strict=False) if w > 0)
            unmet = self._unmet(name, entry.role)
            gain += want.need * (unmet_price(unmet) - unmet_price(max(0.0, unmet - one)))
        return gain * WEIGHT * self.p.unit

    def _unmet(self, name: str, role: str) -> float:
        entry = next(e for e in self.live.entries(name) if e.role == role)
        return 1.0 - carried(self.live, entry, self.live.placed[name])

    def _ordered(self, cell: int, found: _Found) -> list[Move]:
        """Each move when its target has room; if none has, the smallest stops first."""
        states = {n: self.live.free.states[n] for n in self.live.free.states if self.live.free.cell_of[n] == cell}
        waiting: list[tuple[Group, str, str]] = []
        serving = {r.id for r in self.p.snapshot.replicas if r.state is ReplicaState.SERVING}
        for g, n, k in sorted(found.moves, key=lambda x: (x[0].index, x[1])):
            taken = {w[2] for w in waiting}
            ids = sorted((i for i in self.left[g.index] if i not in taken), key=lambda i: (i in serving, i))
            waiting += [(g, n, i) for i in ids[:k]]
        result: list[Move] = []
        early: set[str] = set()
        where = self.p.cells[cell]
        while waiting:
            ready = [w for w in waiting if fits(states[w[1]], need_of(where, w[0].devices, 1))]
            if not ready:
                g, _, replica = min((w for w in waiting if w[2] not in early), key=lambda w: (w[0].devices, w[2]))
                states[g.node] = self._give(cell, states[g.node], g)
                early.add(replica)
                continue
            g, n, replica = min(ready, key=lambda w: (w[2] not in early, -w[0].devices, w[2]))
            states[n] = take(where, states[n], need_of(where, g.devices, 1))
            if replica not in early:
                states[g.node] = self._give(cell, states[g.node], g)
            result.append(Move(replica, self.p.models[g.model].name, g.option or "", g.node, n, g.devices, replica not in early))
            waiting.remove((g, n, replica))
        return result

    def _give(self, cell: int, state: State, g: Group) -> State:
        return give(self.p.cells[cell], state, *self.live.free.gains[g.node][g.index])
