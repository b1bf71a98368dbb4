"""An exhaustive placer for tiny instances: tries every set of stops and every node for every start. Written apart from the placer, from
its documented meaning (the README of placement), so that the two can only agree if both are right. numpy only makes the loops fast."""

from __future__ import annotations

import numpy as np

from placement.types import Cell, Model, Node, Plan, Quota, Replica, ReplicaState
from tests.unit.placement.one_model import Choice as Choice
from tests.unit.placement.one_model import Facts, unmet_loss

TIE = 0.04  # of money: tie-breaks are worth less in sum


def _lexicographic(value: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of these rows those that are best in every tier, in turn."""
    for t in range(value.shape[1] - 1):
        rows = rows[value[rows, t] <= value[rows, t].min() + 1e-6]
    return rows


class World(Facts):
    """Everything together."""

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
            for i, q in enumerate(self.s.policy.quotas):
                if self._counts(q, self.options[option].model, cell.profile):
                    put("quota", str(i), size)
                    put("quota-starts", str(i), size)
            if cell.align_to > 1 and not cell.whole_node_only and size > 1:
                put("blocks", name, size // cell.align_to)
        for stop in choice.stops:
            r = replicas[stop]
            node = self.nodes[r.node]
            cell = self.cells[node.cell]
            put("held", cell.pool, -r.devices)
            for i, q in enumerate(self.s.policy.quotas):
                if self._counts(q, r.model, cell.profile):
                    put("quota", str(i), -r.devices)
            put("money", "", -self.price(r))
            if self.open_node(node):
                put("units", r.node, -r.devices)
                put("freed", cell.pool, r.devices)
                if cell.align_to > 1 and not cell.whole_node_only:
                    put("blocks", r.node, -self._block_gain(r, node, cell))
        return use

    def _counts(self, q: Quota, model: str, profile: str) -> bool:
        tenant = next(m.tenant for m in self.models if m.name == model)
        return tenant == q.tenant and (not q.profiles or profile in q.profiles)

    def optimum(self) -> tuple[tuple[float, ...], float]:
        """(tiers, money) of the best plan in the order of goals. With quotas that lend, and above a budget, see `optima`."""
        return self.optima(cured=False)[0]

    def optima(self, *, cured: bool = True) -> list[tuple[tuple[float, ...], float]]:
        """(tiers, money) of the best plan: tiers first, then money; with nothing short, money alone among plans with nothing short. Several
        where tenants may be served equally well in different ways before anything is borrowed. `cured`: with the moves that end below a
        budget."""
        options = [self.choices(m) for m in self.models]
        uses = [[self.usage(c) for c in cs] for cs in options]
        keys = sorted({k for us in uses for u in us for k in u})
        tables = [np.array([[u.get(k, 0.0) for k in keys] for u in us]).reshape(len(us), len(keys)) for us in uses]
        tiers = [self._tier_table(m, cs) for m, cs in zip(self.models, options, strict=True)]
        change = [self._change_table(m, cs) for m, cs in zip(self.models, options, strict=True)]
        shape = [len(cs) for cs in options]
        grid = np.indices(shape).reshape(len(shape), -1)
        total = np.zeros((grid.shape[1], len(keys)))
        value = np.zeros((grid.shape[1], 2 * len(self.ranks) + 1))
        moves = np.zeros((grid.shape[1], 3))
        lacks = np.zeros((grid.shape[1], len(shape)))
        stopped = np.zeros((grid.shape[1], len(shape)))
        owed: dict[tuple[str, int], np.ndarray] = {}
        for i, index in enumerate(grid):
            total += tables[i][index]
            value += tiers[i][index]
            moves += change[i][index]
            rank = self.ranks.index(self.models[i].priority)
            lacks[:, i] = tiers[i][index][:, 2 * rank + 1]
            stopped[:, i] = np.array([len(c.stops) for c in options[i]])[index]
            key = (self.models[i].tenant, rank)
            owed[key] = owed.get(key, 0.0) + tiers[i][index][:, 2 * rank + 1]
        ok = self._feasible(keys, total)
        total, value, moves, own = total[ok], value[ok], moves[ok], (lacks[ok], stopped[ok])
        value[:, 1:-1:2] -= self.unavoidable()
        lenders = {self.s.policy.quotas[i].tenant for i in self._lending()}
        if not any(tenant in lenders for tenant, _ in owed) or np.any(np.all(value[:, :-1] <= 1e-6, axis=1)):
            return self._best(value, moves, own, cured)
        beyond = self._beyond(keys, total)
        alone = _lexicographic(value, np.flatnonzero(beyond <= beyond.min() + 1e-6))
        debts = np.array([owed[k][ok] for k in sorted(owed) if k[0] in lenders]).T
        found = []
        for debt in np.unique(np.round(debts[alone], 6), axis=0):
            mine = np.all(debts <= debt + 1e-5, axis=1)
            found += self._best(value[mine], moves[mine], (own[0][mine], own[1][mine]), cured)
        return found

    def _best(
        self, value: np.ndarray, moves: np.ndarray, own: tuple[np.ndarray, np.ndarray], cured: bool
    ) -> list[tuple[tuple[float, ...], float]]:
        """`own`: shortfall and stops per model. Several plans where equal money leaves open who is short and may not be shorter."""
        most = self.s.policy.max_moves
        best = _lexicographic(value, np.arange(len(value)))
        rooted = moves[best, 2].min()
        best = best[moves[best, 2] <= rooted]
        allowed = np.inf if most is None else most + moves[best, 0].min()
        still = best[moves[best, 0] <= allowed]
        money = float(value[still, -1].min())
        tiers = tuple(float(x) for x in value[best[0], :-1])
        free = (moves[:, 0] <= allowed) & (moves[:, 2] <= rooted)
        if any(x > 1e-6 for x in tiers[1::2]):
            over = self.over() if cured else []
            cheapest = still[value[still, -1] <= money + TIE]
            return [(tiers, money)] if not over else [x for row in cheapest for x in self._cured(row, over, value, moves, own, free)]
        served = np.flatnonzero(np.all(value[:, 1:-1:2] <= 1e-6, axis=1))
        moved = served[free[served] & (moves[served, 1] <= moves[served, 1].min())]
        return [(tuple(0.0 for _ in self.ranks), min(money, float(value[moved, -1].min()) if len(moved) else money))]

    def _cured(
        self,
        still: int,
        over: list[int],
        value: np.ndarray,
        moves: np.ndarray,
        own: tuple[np.ndarray, np.ndarray],
        free: np.ndarray,
    ) -> list[tuple[tuple[float, ...], float]]:
        """Above a budget, and short: moves for money of these models, nobody lacking more than without them."""
        lacks, stopped = own
        others = [m for m in range(len(self.models)) if m not in over]
        ok = np.all(lacks <= lacks[still] + 1e-5, axis=1) & np.all(stopped[:, others] <= stopped[still, others], axis=1)
        served = np.flatnonzero(ok)
        moved = served[free[served] & (moves[served, 1] <= moves[served, 1].min())]
        if len(moved):
            moved = moved[value[moved, -1] <= value[moved, -1].min() + TIE]
        plans = moved if len(moved) and value[moved, -1].min() < value[still, -1] - TIE else [still, *moved]
        return sorted({(tuple(float(x) for x in value[p, :-1]), float(value[p, -1])) for p in plans})

    def over(self) -> list[int]:
        """Models that cost more than they or the fleet may."""
        running = [sum(self.price(r) for r in self.running(m.name)) for m in self.models]
        budget = self.s.policy.max_hourly_cost
        if budget is not None and sum(running) > budget + 1e-9:
            return list(range(len(running)))
        return [i for i, m in enumerate(self.models) if m.max_hourly_cost is not None and running[i] > m.max_hourly_cost + 1e-9]

    def _change_table(self, model: Model, choices: list[Choice]) -> np.ndarray:
        """Moves, young replicas that stop early, and moves out of pools that choose their nodes themselves."""
        rows = []
        for c in choices:
            early = 0 if model.hold else self.early(model, c)
            loose = sum(1 for r in self.running(model.name) if r.id in c.stops and not self.cells[self.nodes[r.node].cell].exact_nodes)
            replaced = max(0, len(c.starts) - (len(c.stops) - loose))  # by starts that no other stop accounts for
            rows.append([min(len(c.stops), len(c.starts)), early, min(loose, replaced)])
        return np.array(rows, dtype=float)

    def _lending(self) -> list[int]:
        """Quotas over the same profiles of which one may borrow, unless their tenants hold more than all of them together."""
        found: list[int] = []
        for group in self._groups():
            quotas = [self.s.policy.quotas[i] for i in group]
            if any(q.borrow for q in quotas) and sum(self._held(i) for i in group) <= sum(q.devices for q in quotas):
                found += group
        return found

    def _groups(self) -> list[list[int]]:
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, q in enumerate(self.s.policy.quotas):
            groups.setdefault(tuple(sorted(q.profiles)), []).append(i)
        return list(groups.values())

    def _held(self, quota: int) -> int:
        q = self.s.policy.quotas[quota]
        running = [r for r in self.s.replicas if r.state is not ReplicaState.DRAINING]
        return sum(r.devices for r in running if self._counts(q, r.model, self.cells[self.nodes[r.node].cell].profile))

    def _beyond(self, keys: list[tuple[str, str]], total: np.ndarray) -> np.ndarray:
        column = {k: total[:, i] for i, k in enumerate(keys)}
        beyond = np.zeros(len(total))
        for i in self._lending():
            q = self.s.policy.quotas[i]
            if q.borrow:
                beyond += np.maximum(0.0, self._held(i) + column.get(("quota", str(i)), 0.0) - q.devices)
        return beyond

    def _within_quotas(self, column: dict[tuple[str, str], np.ndarray], zero: np.ndarray) -> np.ndarray:
        ok = np.ones(len(zero), dtype=bool)
        for group in self._groups():
            quotas = [self.s.policy.quotas[i] for i in group]
            held = sum(self._held(i) for i in group)
            together, total = sum(column.get(("quota", str(i)), zero) for i in group) + held, sum(q.devices for q in quotas)
            lends = any(q.borrow for q in quotas) and held <= total
            starts = sum(column.get(("quota-starts", str(i)), zero) for i in group)
            if lends:
                ok &= (starts == 0) | (together <= total)
            for i in group:
                if lends and self.s.policy.quotas[i].borrow:
                    continue
                mine = column.get(("quota-starts", str(i)), zero)
                ok &= (mine == 0) | (self._held(i) + column.get(("quota", str(i)), zero) <= self.s.policy.quotas[i].devices)
        return ok

    def unavoidable(self) -> np.ndarray:
        """Per rank the shortfall of models that can start nothing anywhere: it is no reason to hold back others' moves."""
        bases = np.zeros(len(self.ranks))
        for m in self.models:
            if m.hold or self._could_start(m):
                continue
            need, smallest, minimum, _ = self._shape(m)
            base = 2.0 * smallest * max(0, minimum - len(self.running(m.name))) + unmet_loss(need, 1.0 - self._before(m))
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
        ok &= self._within_quotas(column, zero)
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
