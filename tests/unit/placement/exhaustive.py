"""An exhaustive placer for tiny instances: tries every set of stops and every node for every start. Written apart from the placer, from
its documented meaning (the README of placement), so that the two can only agree if both are right. numpy only makes the loops fast."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np

from placement.types import Cell, Demand, Model, Node, Option, Plan, Replica, ReplicaState, Snapshot, Stock


@dataclass
class Choice:
    """What one model could do: which replicas it stops, where it starts new ones."""

    stops: tuple[str, ...]
    starts: tuple[tuple[str, str], ...]  # (option, node)


def unmet_loss(need: float, work: float, supply: float) -> float:
    share = min(1.0, max(0.0, 1.0 - supply / work)) if work > 0 else 0.0
    return need * (min(share, 0.5) + 3.0 * max(0.0, share - 0.5))


class World:
    def __init__(self, snapshot: Snapshot, demand: Demand) -> None:
        self.s = snapshot
        self.cells = {c.name: c for c in snapshot.cells}
        self.nodes = {n.name: n for n in snapshot.nodes}
        self.options = {o.id: o for o in snapshot.options}
        self.models = sorted(snapshot.models, key=lambda m: m.name)
        self.work = {d.model: d.work_per_s for d in demand.models}
        self.ranks = sorted({m.priority for m in snapshot.models}, reverse=True)

    # --- facts about single things -------------------------------------------------------------------------------------

    def running(self, model: str) -> list[Replica]:
        return [r for r in self.s.replicas if r.model == model and r.state is not ReplicaState.DRAINING]

    def frozen(self, r: Replica) -> bool:
        model = next(m for m in self.models if m.name == r.model)
        return model.hold or self.cells[self.nodes[r.node].cell].stock is Stock.UNKNOWN

    def open_node(self, node: Node) -> bool:
        held = sum(r.devices for r in self.s.replicas if r.node == node.name)
        known = self.cells[node.cell].stock is Stock.KNOWN
        return node.eligible and known and node.held_by_others + held <= node.allocatable

    def may_start(self, model: Model, o: Option, node: Node) -> bool:
        c = self.cells[node.cell]
        if model.hold or not o.eligible or o.profile != c.profile or not self.open_node(node) or not c.schedulable:
            return False
        if (c.shared and not model.shared_ok) or c.pool in o.excluded_pools or (o.pools and c.pool not in o.pools):
            return False
        if self.work.get(model.name, 0.0) > 0 and not o.work_per_s:
            return False
        if o.devices not in c.sizes:
            return False
        if o.devices > 1 and c.whole_node_only:
            return o.devices == node.installed == c.per_node
        return o.devices == 1 or o.devices % c.align_to == 0

    def price(self, r: Replica) -> float:
        return self.cells[self.nodes[r.node].cell].cost_per_device_hour * r.devices

    # --- all choices of one model ----------------------------------------------------------------------------------------

    def choices(self, model: Model) -> list[Choice]:
        running = self.running(model.name)
        loose = [r for r in running if not self.frozen(r)]
        fixed = len(running) - len(loose)
        spots = [(o.id, n.name) for o in self.s.options for n in self.s.nodes if o.model == model.name and self.may_start(model, o, n)]
        result: list[Choice] = []
        for mask in product((0, 1), repeat=len(loose)):
            stops = tuple(r.id for r, gone in zip(loose, mask, strict=True) if gone)
            kept = len(running) - len(stops)
            for count in range(max(0, model.max_replicas - kept) + 1):
                for starts in combinations_with_replacement(spots, count):
                    choice = Choice(stops, starts)
                    if kept + count <= max(model.max_replicas, fixed) and self._own_rules(model, choice):
                        result.append(choice)
        return result

    def _own_rules(self, model: Model, choice: Choice) -> bool:
        counts, started = self._vendors(model, choice)
        total = sum(counts.values())
        if choice.starts:
            cost = self._cost(model, choice)
            priced = any(self._start_price(s) > 0 for s in choice.starts)
            if model.max_hourly_cost is not None and priced and cost > model.max_hourly_cost + 1e-9:
                return False
            if sum(1 for v in counts.values() if v) < min(model.min_vendors, total):
                return False
            share = model.max_vendor_share_percent
            if share is not None and any(100 * (counts[v] - 1) > share * (total - 1) for v in started):
                return False
        need = self._shape(model)[3]
        return self.s.policy.preemption or total >= min(len(self.running(model.name)), need)

    def _start_price(self, start: tuple[str, str]) -> float:
        return self.cells[self.nodes[start[1]].cell].cost_per_device_hour * self.options[start[0]].devices

    def _vendors(self, model: Model, choice: Choice) -> tuple[dict[str, int], set[str]]:
        counts: dict[str, int] = {}
        for r in self.running(model.name):
            if r.id not in choice.stops:
                vendor = self.options[r.option].vendor if r.option else self.cells[self.nodes[r.node].cell].vendor
                counts[vendor] = counts.get(vendor, 0) + 1
        started = {self.options[o].vendor for o, _ in choice.starts}
        for o, _ in choice.starts:
            counts[self.options[o].vendor] = counts.get(self.options[o].vendor, 0) + 1
        return counts, started

    def _cost(self, model: Model, choice: Choice) -> float:
        kept = sum(self.price(r) for r in self.running(model.name) if r.id not in choice.stops)
        return kept + sum(self._start_price(s) for s in choice.starts)

    # --- value of one model's choice -------------------------------------------------------------------------------------

    def _shape(self, model: Model) -> tuple[float, float, int, int, int]:
        """work, need, smallest, minimum, surplus."""
        own = [o for o in self.s.options if o.model == model.name]
        running = self.running(model.name)
        smallest = min([o.devices for o in own] or [r.devices for r in running] or [1])
        work = self.work.get(model.name, 0.0)
        rates = sorted(o.work_per_s / o.devices for o in own if o.work_per_s)
        need = 0.0
        if work > 0:
            middle = len(rates) // 2
            typical = rates[middle] if len(rates) % 2 else (rates[middle - 1] + rates[middle]) / 2 if rates else 0.0
            need = work / typical if typical else float(smallest)
        supplies = sorted((self.options[r.option].work_per_s or 0.0) if r.option else 0.0 for r in running)
        surplus, left = 0, sum(supplies)
        floor = min(work, left)
        while surplus < len(running) - model.min_replicas and (work == 0 or left - supplies[surplus] >= floor - 1e-9):
            left -= supplies[surplus]
            surplus += 1
        return work, need, smallest, model.min_replicas, max(surplus, len(running) - model.max_replicas, 0)

    def value(self, model: Model, choice: Choice) -> tuple[float, float, float]:
        """Disruption, shortfall, money."""
        if model.hold:
            return 0.0, 0.0, self._cost(model, choice)
        work, need, smallest, minimum, surplus = self._shape(model)
        running = self.running(model.name)
        kept = [r for r in running if r.id not in choice.stops]

        def rate(option: str | None) -> float:
            return (self.options[option].work_per_s or 0.0) if option else 0.0

        before = sum(rate(r.option) for r in running)
        after = sum(rate(r.option) for r in kept) + sum(rate(o) for o, _ in choice.starts)
        lost = max(0.0, min(work, before) - after) / work if work > 0 else 0.0
        disruption = smallest * max(0, len(choice.stops) - surplus) + need * lost
        counts, _ = self._vendors(model, choice)
        total = sum(counts.values())
        shortfall = 2.0 * smallest * max(0, minimum - total) + unmet_loss(need, work, after)
        if running and sum(1 for v in counts.values() if v) < min(model.min_vendors, total):
            shortfall += smallest
        share = model.max_vendor_share_percent
        if share is not None and share < 100:
            shortfall += smallest * sum(1 for n in counts.values() if 100 * (n - 1) > share * (total - 1) and n)
        saving = self.s.policy.min_saving_percent / 100.0
        money = self._cost(model, choice) + sum(saving * self.price(r) for r in running if r.id in choice.stops)
        return disruption, shortfall, money

    # --- everything together ---------------------------------------------------------------------------------------------

    def _blocks(self, node: Node, cell: Cell) -> int:
        here = [r for r in self.s.replicas if r.node == node.name]
        left = node.allocatable - node.held_by_others - sum(r.devices for r in here)
        if node.free_blocks is not None:
            return min(node.free_blocks, left // cell.align_to)
        if node.held_by_others or node.allocatable < node.installed:
            return 0
        return max(0, min(left // cell.align_to, self._unbroken(node, cell)))

    def _unbroken(self, node: Node, cell: Cell) -> int:
        here = [r for r in self.s.replicas if r.node == node.name]
        return node.allocatable // cell.align_to - sum(1 if r.devices == 1 else -(-r.devices // cell.align_to) for r in here)

    def _block_gain(self, r: Replica, node: Node, cell: Cell) -> int:
        if r.devices > 1:
            return r.devices // cell.align_to
        derived = node.free_blocks is None and not node.held_by_others and node.allocatable == node.installed
        return 1 if derived and self._unbroken(node, cell) >= 0 else 0

    def usage(self, choice: Choice) -> dict[tuple[str, str], float]:
        """Every sum that the fleet bounds, as change by this choice."""
        use: dict[tuple[str, str], float] = {}

        def put(kind: str, name: str, amount: float) -> None:
            use[(kind, name)] = use.get((kind, name), 0.0) + amount

        replicas = {r.id: r for r in self.s.replicas}
        for option, name in choice.starts:
            node, size = self.nodes[name], self.options[option].devices
            cell = self.cells[node.cell]
            put("units", name, size)
            put("started", cell.pool, size)
            put("held", cell.pool, size)
            put("money", "", self._start_price((option, name)))
            put("spent", "", self._start_price((option, name)))
            if cell.align_to > 1 and not cell.whole_node_only and size > 1:
                put("blocks", name, size // cell.align_to)
        for stop in choice.stops:
            r = replicas[stop]
            node = self.nodes[r.node]
            cell = self.cells[node.cell]
            put("held", cell.pool, -r.devices)
            put("money", "", -self.price(r))
            if self.open_node(node):
                put("units", r.node, -r.devices)
                put("freed", cell.pool, r.devices)
                if cell.align_to > 1 and not cell.whole_node_only:
                    put("blocks", r.node, -self._block_gain(r, node, cell))
        return use

    def optimum(self) -> tuple[tuple[float, ...], float]:
        """(tiers, money) of the best plan: tiers first, then money; with nothing short, money alone among plans with nothing short."""
        options = [self.choices(m) for m in self.models]
        uses = [[self.usage(c) for c in cs] for cs in options]
        keys = sorted({k for us in uses for u in us for k in u})
        tables = [np.array([[u.get(k, 0.0) for k in keys] for u in us]).reshape(len(us), len(keys)) for us in uses]
        tiers = [self._tier_table(m, cs) for m, cs in zip(self.models, options, strict=True)]
        shape = [len(cs) for cs in options]
        grid = np.indices(shape).reshape(len(shape), -1)
        total = np.zeros((grid.shape[1], len(keys)))
        value = np.zeros((grid.shape[1], 2 * len(self.ranks) + 1))
        for i, index in enumerate(grid):
            total += tables[i][index]
            value += tiers[i][index]
        value = value[self._feasible(keys, total)]
        bases = self.unavoidable()
        value[:, 1:-1:2] -= bases
        best = value
        for t in range(value.shape[1] - 1):
            best = best[best[:, t] <= best[:, t].min() + 1e-6]
        if np.all(best[:, 1:-1:2] <= 1e-6):
            best = value[np.all(value[:, 1:-1:2] <= 1e-6, axis=1)]
            low = float(best[:, -1].min())
            return tuple(0.0 for _ in range(len(self.ranks))), low
        return tuple(float(x) for x in best[0, :-1]), float(best[:, -1].min())

    def unavoidable(self) -> np.ndarray:
        """Per rank the shortfall of models that can start nothing anywhere: it is no reason to hold back others' moves."""
        bases = np.zeros(len(self.ranks))
        for m in self.models:
            if m.hold or self._could_start(m):
                continue
            work, need, smallest, minimum, _ = self._shape(m)
            running = self.running(m.name)
            supply = sum((self.options[r.option].work_per_s or 0.0) if r.option else 0.0 for r in running)
            base = 2.0 * smallest * max(0, minimum - len(running)) + unmet_loss(need, work, supply)
            bases[self.ranks.index(m.priority)] += base
        return bases

    def _could_start(self, model: Model) -> bool:
        """Whether some node would take a replica if all that may stop on it stopped."""
        for o in self.s.options:
            for n in self.s.nodes:
                if o.model != model.name or not self.may_start(model, o, n) or model.max_replicas == 0:
                    continue
                cell = self.cells[n.cell]
                here = [r for r in self.s.replicas if r.node == n.name]
                going = [r for r in here if r.state is ReplicaState.DRAINING or not self.frozen(r)]
                room = n.allocatable - n.held_by_others - sum(r.devices for r in here if r not in going)
                blocks = self._blocks(n, cell) + sum(self._block_gain(r, n, cell) for r in going)
                aligned = cell.align_to > 1 and not cell.whole_node_only and o.devices > 1
                if room >= o.devices and (not aligned or blocks >= o.devices // cell.align_to):
                    return True
        return False

    def _tier_table(self, model: Model, choices: list[Choice]) -> np.ndarray:
        table = np.zeros((len(choices), 2 * len(self.ranks) + 1))
        rank = self.ranks.index(model.priority)
        for i, c in enumerate(choices):
            table[i, 2 * rank], table[i, 2 * rank + 1], table[i, -1] = self.value(model, c)
        return table

    def _feasible(self, keys: list[tuple[str, str]], total: np.ndarray) -> np.ndarray:
        ok = np.ones(len(total), dtype=bool)
        column = {k: total[:, i] for i, k in enumerate(keys)}
        zero = np.zeros(len(total))
        for n in self.s.nodes:
            if not self.open_node(n):
                continue
            cell = self.cells[n.cell]
            here = [r for r in self.s.replicas if r.node == n.name]
            draining = [r for r in here if r.state is ReplicaState.DRAINING]
            free = n.allocatable - n.held_by_others - sum(r.devices for r in here if r not in draining)
            ok &= column.get(("units", n.name), zero) <= free
            if ("blocks", n.name) in column:
                blocks = self._blocks(n, cell) + sum(self._block_gain(r, n, cell) for r in draining)
                ok &= column[("blocks", n.name)] <= blocks
        for pool in {c.pool for c in self.s.cells}:
            cells = [c for c in self.s.cells if c.pool == pool]
            starts = column.get(("started", pool), zero)
            held = sum(
                r.devices
                for r in self.s.replicas
                if r.state is not ReplicaState.DRAINING and self.cells[self.nodes[r.node].cell].pool == pool
            )
            for c in cells:
                if c.limit_devices is not None:
                    ok &= (starts == 0) | (held + column.get(("held", pool), zero) <= c.limit_devices)
                if c.reserve_devices:
                    free = sum(
                        n.allocatable
                        - n.held_by_others
                        - sum(r.devices for r in self.s.replicas if r.node == n.name and r.state is not ReplicaState.DRAINING)
                        for n in self.s.nodes
                        if self.cells[n.cell].pool == pool and self.open_node(n)
                    )
                    ok &= (starts == 0) | (free + column.get(("freed", pool), zero) - starts >= c.reserve_devices)
        budget = self.s.policy.max_hourly_cost
        if budget is not None:
            running = sum(self.price(r) for r in self.s.replicas if r.state is not ReplicaState.DRAINING)
            ok &= (column.get(("spent", ""), zero) == 0) | (running + column.get(("money", ""), zero) <= budget + 1e-9)
        return ok

    def of_plan(self, plan: Plan) -> tuple[tuple[float, ...], float]:
        """(tiers, money) of a plan, in the same terms as `optimum`."""
        value = np.zeros(2 * len(self.ranks) + 1)
        for m in self.models:
            mine = {r.id for r in self.running(m.name)}
            choice = Choice(
                tuple(i for i in plan.stop if i in mine),
                tuple((s.option, s.node) for s in plan.starts if s.model == m.name),
            )
            rank = self.ranks.index(m.priority)
            value[[2 * rank, 2 * rank + 1, -1]] += self.value(m, choice)
        value[1:-1:2] -= self.unavoidable()
        if np.all(value[1:-1:2] <= 1e-6):
            return tuple(0.0 for _ in self.ranks), float(value[-1])
        return tuple(float(x) for x in value[:-1]), float(value[-1])
