"""The program of `split`: how many replicas of each kind of request every cell takes, and which of those that run stay in their cell.

A *slot* is one kind of request: a size on one device type, in the cells that its options may use (zone-bound replicas apart). Variables:

    s_kp  replicas of slot k in cell p             sum over p of s_kp + miss_k = total of the slot
    h_op  running replicas of an option that stay  h_op <= running there, sum over p of h_op <= the option's target; only if some go
    K_kp  the same, in sum over the slot's options that lose none
    T_k   how many more of the slot than today the failure domain has that grows most

Minimised, in money: devices that must migrate at the price of a move, dearer cells, then T. `miss` is there only so that an answer always
exists. Rows: bins in place (`bins`), limits and reserves of pools.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import floor

from placement._solver import Limits, Solve
from placement.bins import chunk_counts, is_chain_cell, patterns_in_place
from placement.form import Coefficients, Form, add
from placement.nodes import Group
from placement.problem import Problem
from placement.shapes import blocks_of

MISS = 1000.0  # price of a replica that finds no cell, in moves: its devices are then short, which no saving is worth
MOVE_PERCENT = 5.0  # least price of a migrated device, in percent of the median price of a device-hour
STAYS = 300.0  # the same where the pool's own scheduler chooses nodes, in moves: no price of a device is worth one, room for another is
EVEN = 1e-3  # of a move, for one start more in the fullest failure domain: never worth a move


Key = tuple[int, int, str | None]


@dataclass(slots=True)
class Slot:
    size: int
    span: int
    cells: tuple[int, ...]
    zone: str | None
    keys: list[Key] = field(default_factory=list)


@dataclass(slots=True)
class Running:
    """Replicas that may stop, per key of the targets and cell; `off` = on nodes that take no new work."""

    inside: dict[Key, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    off: Counter[Key] = field(default_factory=Counter)
    groups: dict[Key, list[Group]] = field(default_factory=dict)
    binned: set[int] = field(default_factory=set)


class Program:
    def __init__(self, problem: Problem, wanted: Mapping[Key, int], running: Running, slots: list[Slot]) -> None:
        self.p, self.wanted, self.running, self.slots = problem, wanted, running, slots
        self.form = Form()
        self.objective: Coefficients = {}
        self.share: dict[tuple[int, int], int] = {}
        self.own: dict[tuple[Key, int], int] = {}
        saving = max(MOVE_PERCENT, problem.snapshot.policy.min_saving_percent)
        self.move = problem.unit * saving / 100.0
        self.cells = self._cells_in_use()
        for k, slot in enumerate(slots):
            self._slot(k, slot)
        for cell in sorted(self.cells):
            self._bins(cell)
        self._pools()

    def _cells_in_use(self) -> dict[int, list[int]]:
        """Cell -> slots that may use it."""
        cells: dict[int, list[int]] = {}
        for k, slot in enumerate(self.slots):
            for c in self._cells_of(k, slot):
                cells.setdefault(c, []).append(k)
        return cells

    def _cells_of(self, k: int, slot: Slot) -> list[int]:
        """Where the slot may start, and where its replicas run (they may stay in a pool that takes no more)."""
        return sorted({*slot.cells, *(c for key in slot.keys for c in self.running.inside.get(key, ()))})

    def _slot(self, k: int, slot: Slot) -> None:
        form, devices = self.form, float(slot.size)
        total = sum(self.wanted[key] for key in slot.keys)
        cells = self._cells_of(k, slot)
        row: Coefficients = {}
        domains: dict[str, Coefficients] = {}
        runs: Counter[str] = Counter()
        cheapest = min((self.p.cells[c].cost_per_device_hour for c in cells), default=0.0)
        in_place, losing = self._kept(slot)
        for c in cells:
            share = self.share[(k, c)] = form.variable(0.0, float(total))
            row[share] = 1.0
            add(self.objective, share, devices * (self.p.cells[c].cost_per_device_hour - cheapest))
            held: Coefficients = {share: -1.0}
            # Given whole shares this is a flow, so it need not be declared whole; what is left of a fraction the hands fill up.
            for key, here in [(None, in_place[c]), *losing.get(c, [])]:
                if here:
                    kept = form.variable(0.0, float(here), integer=False)
                    held[kept] = 1.0
                    add(self.objective, kept, -devices * self.move * (1.0 if self.p.cells[c].exact_nodes else STAYS))
                    if key is not None:
                        self.own[(key, c)] = kept
            if len(held) > 1:
                form.row(held, "<=", 0.0)
            if c not in slot.cells:
                form.row({v: -x for v, x in held.items()}, "<=", 0.0)
            domain = self.p.cells[c].failure_domain
            domains.setdefault(domain, {})[share] = 1.0
            runs[domain] += in_place[c] + sum(here for _, here in losing.get(c, []))
        for key in slot.keys:
            self._off(key, slot, row)
        miss = form.variable(0.0, float(total), integer=False)
        add(self.objective, miss, MISS * devices * self.move)
        form.row({**row, miss: 1.0}, "==", float(total))
        if len(domains) > 1:
            fullest = form.variable(0.0, None, integer=False)
            add(self.objective, fullest, EVEN * devices * self.move)
            for domain, shares in domains.items():
                form.row({**shares, fullest: -1.0}, "<=", float(runs[domain]))

    def _kept(self, slot: Slot) -> tuple[Counter[int], dict[int, list[tuple[Key, int]]]]:
        """Per cell: running replicas of the options that lose none, and those of each option that loses some."""
        in_place: Counter[int] = Counter()
        losing: dict[int, list[tuple[Key, int]]] = {}
        for key in slot.keys:
            inside = self.running.inside.get(key, Counter())
            if self.wanted[key] >= sum(inside.values()) + self.running.off.get(key, 0):
                in_place.update(inside)
                continue
            for c, here in inside.items():
                losing.setdefault(c, []).append((key, min(here, self.wanted[key])))
        return in_place, losing

    def _off(self, key: Key, slot: Slot, row: Coefficients) -> None:
        """Those on nodes that take no new work count into the target without using a cell; they are worth a little less than others."""
        off = self.running.off.get(key, 0)
        mine = {self.own[(key, c)]: 1.0 for c in self.running.inside.get(key, ()) if (key, c) in self.own}
        if off:
            stay = self.own[(key, -1)] = self.form.variable(0.0, float(min(off, self.wanted[key])))
            add(self.objective, stay, -0.99 * slot.size * self.move)
            row[stay] = 1.0
            mine[stay] = 1.0
        if mine:
            self.form.row(mine, "<=", float(self.wanted[key]))

    def _bins(self, cell: int) -> None:
        where = self.p.cells[cell]
        mine = [self.slots[k] for k in self.cells[cell]]
        pods = sorted({s.size // s.span for s in mine})
        sizes = sorted({*pods, *(s.size for s in mine)})
        if is_chain_cell(self.p, cell, pods):
            room = chunk_counts(self.p, cell, sizes)
            for pod in pods:
                row: Coefficients = {}
                for k in self.cells[cell]:
                    slot = self.slots[k]
                    if slot.size // slot.span >= pod:
                        add(row, self.share[(k, cell)], float(slot.span * (slot.size // slot.span // pod)))
                self.form.row(row, "<=", float(room[pod]))
            return
        rows = patterns_in_place(self.p, cell, sizes)
        supply: dict[int, Coefficients] = {pod: {} for pod in pods}
        for each in rows.classes:
            cut = [(self.form.variable(0.0, float(each.count)), pattern) for pattern in each.patterns]
            self.form.row({v: 1.0 for v, _ in cut}, "<=", float(each.count))
            for v, pattern in cut:
                for pod, n in pattern:
                    add(supply[pod], v, -float(n))
        units: Coefficients = {}
        for k in self.cells[cell]:
            slot = self.slots[k]
            pod = slot.size // slot.span
            add(units, self.share[(k, cell)], float(slot.size))
            if blocks_of(where, pod):
                add(supply[pod], self.share[(k, cell)], float(slot.span))
        for pod in pods:
            self.form.row(supply[pod], "<=", 0.0)
        if rows.units is not None:
            self.form.row(units, "<=", float(rows.units))

    def _pools(self) -> None:
        """Limits and reserves. Where what runs is above already, nothing grows: no slot may have more there than it has."""
        held: Counter[str] = Counter()
        movable: Counter[str] = Counter()
        for g in self.p.groups:
            if g.cell is not None:
                held[self.p.cells[g.cell].pool] += g.devices * len(g.ids)
        for key, at in self.running.inside.items():
            for c, n in at.items():
                movable[self.p.cells[c].pool] += self.p.options[key[1]].devices * n
        free: Counter[str] = Counter()
        for b in self.p.bins:
            free[self.p.cells[b.cell].pool] += b.free
        for pool in sorted({self.p.cells[c].pool for c in self.cells}):
            cells = [c for c in range(len(self.p.cells)) if self.p.cells[c].pool == pool]
            rooms: list[int] = []
            limits = [x for c in cells if (x := self.p.cells[c].limit_devices) is not None]
            if limits:
                rooms.append(min(limits) - (held[pool] - movable[pool]))
            reserve = max(self.p.cells[c].reserve_devices for c in cells)
            if reserve:
                rooms.append(free[pool] + movable[pool] - reserve)
            if not rooms:
                continue
            here = [(k, c) for k, c in self.share if c in cells]
            self.form.row({self.share[x]: float(self.slots[x[0]].size) for x in here}, "<=", float(max(0, movable[pool], min(rooms))))
            if movable[pool] > min(rooms):
                for k, c in here:
                    runs = sum(self.running.inside.get(key, Counter())[c] for key in self.slots[k].keys)
                    self.form.row({self.share[(k, c)]: 1.0}, "<=", float(runs))

    def solve(self, engine: Solve, limits: Limits) -> tuple[dict[tuple[int, int], int], dict[tuple[Key, int], int]]:
        """Replicas per (slot, cell), and per (key, cell) the running ones that stay of those options that lose some."""
        if not self.form.lower:
            return {}, {}
        # Ends when only evenness is left to win: half a start, and in fleets with many kinds of requests a quarter start for each.
        settled = EVEN * self.move * max(0.5, 0.25 * len(self.slots))
        answer = engine(self.form, self.objective, replace(limits, absolute_gap=max(limits.absolute_gap, settled)))
        whole = [round(x) for x in answer.values]
        return {x: whole[v] for x, v in self.share.items()}, {x: floor(answer.values[v] + 1e-6) for x, v in self.own.items()}
