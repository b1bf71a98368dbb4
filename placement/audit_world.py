"""The snapshot and the plan as the recount reads them: by name, each list walked once. Shares no code with the planner."""

from __future__ import annotations

from collections import Counter, defaultdict

from placement.types import Cell, Plan, Replica, ReplicaState, Snapshot, Start, Stock


class World:
    def __init__(self, snapshot: Snapshot, plan: Plan) -> None:
        self.snapshot, self.plan = snapshot, plan
        self.cells = {c.name: c for c in snapshot.cells}
        self.nodes = {n.name: n for n in snapshot.nodes}
        self.models = {m.name: m for m in snapshot.models}
        self.options = {o.id: o for o in snapshot.options}
        self.replicas = {r.id: r for r in snapshot.replicas}
        self.kept = set(plan.keep)
        self.any_unknown = any(c.stock is Stock.UNKNOWN for c in snapshot.cells)
        self.on: dict[str, list[tuple[Replica, int]]] = defaultdict(list)  # node -> replicas with their devices there
        self.running: dict[str, list[Replica]] = defaultdict(list)  # model -> replicas that are not draining
        for r in snapshot.replicas:
            names = r.node.split(",")
            for name in names:
                self.on[name].append((r, -(-r.devices // len(names))))
            if r.state is not ReplicaState.DRAINING:
                self.running[r.model].append(r)
        self.starts_on: dict[str, list[tuple[Start, int]]] = defaultdict(list)
        for s in plan.starts:
            names = s.node.split(",")
            option = self.options.get(s.option)
            for name in names:
                self.starts_on[name].append((s, 0 if option is None else option.devices // len(names)))

    def cell_of(self, replica: Replica) -> Cell | None:
        """Of the first of its nodes that the snapshot knows."""
        for name in replica.node.split(","):
            if name in self.nodes:
                return self.cells[self.nodes[name].cell]
        return None

    def frozen(self, replica: Replica) -> bool:
        """May not be stopped: on hold, or where the stock is unknown."""
        if self.models[replica.model].hold:
            return True
        names = replica.node.split(",")
        cells = [self.cells[self.nodes[n].cell] for n in names if n in self.nodes]
        return any(c.stock is Stock.UNKNOWN for c in cells) or (len(cells) < len(names) and self.any_unknown)

    def free_by_pool(self) -> Counter[str]:
        """Devices that are free once everything that goes is gone, before the starts."""
        free: Counter[str] = Counter()
        for node in self.snapshot.nodes:
            cell = self.cells[node.cell]
            if not node.eligible or cell.stock is Stock.UNKNOWN:
                continue
            here = self.on.get(node.name, [])
            room = node.allocatable - node.held_by_others
            if sum(k for _, k in here) <= room:
                free[cell.pool] += room - sum(k for r, k in here if r.id in self.kept)
        return free
