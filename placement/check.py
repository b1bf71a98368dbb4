"""An independent recount of a plan: plain integers, from the snapshot alone, sharing no code with the planner.

Every plan passes here before it leaves `plan`, and the operator runs it again on the newest snapshot before it acts. An empty result
means: applying the plan over-allocates nothing, breaks no rule and hides no missing replica.
"""

from __future__ import annotations

from collections import Counter

from placement.types import Cell, Demand, Node, Option, Plan, Replica, ReplicaState, Snapshot, Stock


def check(snapshot: Snapshot, demand: Demand, plan: Plan) -> tuple[str, ...]:
    """What is wrong with the plan, in plain words; empty if nothing."""
    return _Recount(snapshot, demand, plan).faults()


class _Recount:
    def __init__(self, snapshot: Snapshot, demand: Demand, plan: Plan) -> None:
        self.s, self.d, self.p = snapshot, demand, plan
        self.cells = {c.name: c for c in snapshot.cells}
        self.nodes = {n.name: n for n in snapshot.nodes}
        self.models = {m.name: m for m in snapshot.models}
        self.options = {o.id: o for o in snapshot.options}
        self.replicas = {r.id: r for r in snapshot.replicas}
        self.kept = set(plan.keep)
        self.found: list[str] = []

    def faults(self) -> tuple[str, ...]:
        self._replicas()
        self._starts()
        if not self.found:
            self._assignments()
            self._nodes()
            self._counts()
            self._limits()
            self._money()
            self._vendors()
            self._moves()
        return tuple(self.found)

    def _say(self, text: str) -> None:
        self.found.append(text)

    def _cell_of(self, replica: Replica) -> Cell | None:
        node = self.nodes.get(replica.node)
        return None if node is None else self.cells[node.cell]

    def _frozen(self, replica: Replica) -> bool:
        """May not be stopped: on hold, or where the stock is unknown."""
        if self.models[replica.model].hold:
            return True
        cell = self._cell_of(replica)
        if cell is None:
            return any(c.stock is Stock.UNKNOWN for c in self.s.cells)
        return cell.stock is Stock.UNKNOWN

    def _replicas(self) -> None:
        seen = Counter(self.p.keep) + Counter(self.p.stop)
        for name in sorted(set(seen) - set(self.replicas)):
            self._say(f"replica {name}: in the plan but not in the snapshot")
        for name, replica in sorted(self.replicas.items()):
            wanted = 0 if replica.state is ReplicaState.DRAINING else 1
            if seen[name] != wanted:
                self._say(f"replica {name} ({replica.state}): named {seen[name]} times in keep and stop, must be {wanted}")
        for name in self.p.stop:
            if name in self.replicas and self._frozen(self.replicas[name]):
                self._say(f"replica {name}: stopped, but its stock is unknown or its model is on hold")

    def _starts(self) -> None:
        for start in self.p.starts:
            at = f"start of {start.model} on {start.node}"
            option, cell, node = self.options.get(start.option), self.cells.get(start.cell), self.nodes.get(start.node)
            if option is None or cell is None or node is None or start.model not in self.models:
                self._say(f"{at}: option, cell, node or model is not in the snapshot")
                continue
            model = self.models[start.model]
            if option.model != start.model or node.cell != start.cell or cell.profile != option.profile:
                self._say(f"{at}: option, cell and node do not belong together")
            if not option.eligible or model.hold:
                self._say(f"{at}: the option is not eligible or the model is on hold")
            if not node.eligible or not cell.schedulable or cell.stock is Stock.UNKNOWN:
                self._say(f"{at}: the node or pool may not take new replicas")
            if (option.pools and cell.pool not in option.pools) or cell.pool in option.excluded_pools:
                self._say(f"{at}: pool {cell.pool} is not allowed for this model")
            if cell.shared and not model.shared_ok:
                self._say(f"{at}: shared devices")
            if option.devices not in cell.sizes:
                self._say(f"{at}: {option.devices} devices, allowed {list(cell.sizes)}")
            elif option.devices > 1 and cell.whole_node_only and option.devices != node.installed:
                self._say(f"{at}: {option.devices} devices, in this pool 1 or the whole node ({node.installed})")
            elif option.devices > 1 and not cell.whole_node_only and option.devices % cell.align_to:
                self._say(f"{at}: {option.devices} devices, must be whole blocks of {cell.align_to}")
            for name in start.after:
                held = self.replicas.get(name)
                if held is None or held.node != start.node or (name not in self.p.stop and held.state is not ReplicaState.DRAINING):
                    self._say(f"{at}: waits for {name}, which does not go from this node")

    def _assignments(self) -> None:
        target: Counter[tuple[str, str, str, str]] = Counter()
        for name in self.p.keep:
            r = self.replicas[name]
            cell = self._cell_of(r)
            target[(r.model, r.option or "", "" if cell is None else cell.name, r.node)] += 1
        for s in self.p.starts:
            target[(s.model, s.option, s.cell, s.node)] += 1
        listed: Counter[tuple[str, str, str, str]] = Counter()
        for a in self.p.assignments:
            listed[(a.model, a.option, a.cell, a.node)] += a.replicas
        if target != listed:
            self._say(f"assignments: {sorted(((target - listed) + (listed - target)).items())[:3]} differ from keep plus starts")

    def _nodes(self) -> None:
        for node in self.s.nodes:
            starts = [s for s in self.p.starts if s.node == node.name]
            if starts:
                here = [r for r in self.s.replicas if r.node == node.name]
                self._node(node, self.cells[node.cell], [(self.options[s.option], s.after) for s in starts], here)

    def _node(self, node: Node, cell: Cell, starts: list[tuple[Option, tuple[str, ...]]], here: list[Replica]) -> None:
        at = f"node {node.name}"
        room = node.allocatable - node.held_by_others
        held_now = sum(r.devices for r in here)
        kept = [r for r in here if r.id in self.kept]
        asked = [o.devices for o, _ in starts]
        if held_now > room:
            self._say(f"{at}: holds {held_now} of {room} and takes {sum(asked)} more")
        if sum(r.devices for r in kept) + sum(asked) > room:
            self._say(f"{at}: {sum(r.devices for r in kept)} kept and {sum(asked)} started, room {room}")
        # In the order of waiting: what starts at once fits what is free now; each later start fits what its waits have freed.
        for waits in {after for _, after in starts}:
            gone = set(waits)
            before = sum(o.devices for o, after in starts if set(after) <= gone)
            freed = sum(r.devices for r in here if r.id in gone)
            if held_now - freed + before > room:
                self._say(f"{at}: starts that wait for {sorted(gone)} do not fit when these are gone")
        large = [k for k in asked if k > 1]
        if not large:
            return
        if cell.whole_node_only:
            if kept or node.held_by_others or node.allocatable != node.installed or len(asked) > 1:
                self._say(f"{at}: a whole-node replica on a node that is not empty")
        elif cell.align_to > 1:
            self._blocks(node, cell, asked, here)

    def _blocks(self, node: Node, cell: Cell, asked: list[int], here: list[Replica]) -> None:
        """Whole blocks: known free ones, plus those of every larger replica that goes; single starts use loose devices first."""
        align = cell.align_to
        going = [r for r in here if r.id not in self.kept]
        if node.free_blocks is not None:
            blocks = node.free_blocks + sum(r.devices // align for r in going if r.devices > 1)
        elif node.held_by_others or node.allocatable < node.installed:
            blocks = sum(r.devices // align for r in going if r.devices > 1)
        else:
            # Larger replicas hold whole blocks, so single devices break at most as many as those leave today.
            kept = [r for r in here if r.id in self.kept]
            all_blocks = node.allocatable // align
            breakable = max(0, all_blocks - sum(-(-r.devices // align) for r in here if r.devices > 1))
            broken = min(breakable, sum(1 for r in kept if r.devices == 1))
            blocks = all_blocks - broken - sum(-(-r.devices // align) for r in kept if r.devices > 1)
        used = sum(k // align for k in asked if k > 1)
        if used > max(0, blocks):
            self._say(f"node {node.name}: {used} whole blocks started, {blocks} are known to be free")

    def _counts(self) -> None:
        missing = {s.model: s.replicas for s in self.p.shortfalls}
        for name, model in sorted(self.models.items()):
            mine = [r for r in self.s.replicas if r.model == name and r.state is not ReplicaState.DRAINING]
            frozen = sum(1 for r in mine if self._frozen(r))
            count = sum(a.replicas for a in self.p.assignments if a.model == name)
            if count > max(model.max_replicas, frozen):
                self._say(f"{name}: {count} replicas, maximum {max(model.max_replicas, frozen)}")
            if not model.hold and missing.get(name, 0) < model.min_replicas - count:
                self._say(f"{name}: {count} replicas of at least {model.min_replicas}, shortfall says {missing.get(name, 0)}")
            if not self.s.policy.preemption and not model.hold and count < min(len(mine), model.min_replicas):
                self._say(f"{name}: {len(mine)} run, {count} planned, but preemption is off")

    def _started_in(self, pool: str) -> int:
        return sum(self.options[s.option].devices for s in self.p.starts if self.cells[s.cell].pool == pool)

    def _limits(self) -> None:
        kept = [self.replicas[k] for k in self.p.keep]
        for pool in sorted({c.pool for c in self.s.cells}):
            cells = [c for c in self.s.cells if c.pool == pool]
            started = self._started_in(pool)
            if not started:
                continue
            held = sum(r.devices for r in kept if (c := self._cell_of(r)) is not None and c.pool == pool)
            for cell in cells:
                if cell.limit_devices is not None and held + started > cell.limit_devices:
                    self._say(f"pool {pool}: {held + started} devices, limit {cell.limit_devices}")
            reserve = max(c.reserve_devices for c in cells)
            if reserve and (free := self._free_in(pool) - started) < reserve:
                self._say(f"pool {pool}: {free} devices stay free, reserve {reserve}")

    def _free_in(self, pool: str) -> int:
        """Devices that are free once everything that goes is gone, before the starts."""
        free = 0
        for node in self.s.nodes:
            cell = self.cells[node.cell]
            if cell.pool != pool or not node.eligible or cell.stock is Stock.UNKNOWN:
                continue
            here = [r for r in self.s.replicas if r.node == node.name]
            room = node.allocatable - node.held_by_others
            if sum(r.devices for r in here) <= room:
                free += room - sum(r.devices for r in here if r.id in self.kept)
        return free

    def _cost(self, model: str | None) -> tuple[float, float]:
        """Cost per hour of what is kept and of what starts."""
        kept = started = 0.0
        for name in self.p.keep:
            r = self.replicas[name]
            cell = self._cell_of(r)
            if cell is not None and model in (None, r.model):
                kept += cell.cost_per_device_hour * r.devices
        for s in self.p.starts:
            if model in (None, s.model):
                started += self.cells[s.cell].cost_per_device_hour * self.options[s.option].devices
        return kept, started

    def _money(self) -> None:
        kept, started = self._cost(None)
        if abs(kept + started - self.p.hourly_cost) > 1e-4 * max(1.0, kept + started):
            self._say(f"hourly cost: {self.p.hourly_cost}, recount {kept + started}")
        limit = self.s.policy.max_hourly_cost
        if limit is not None and started > 0 and kept + started > limit + 1e-6:
            self._say(f"fleet: {kept + started} per hour, budget {limit}")
        for name, model in sorted(self.models.items()):
            kept, started = self._cost(name)
            limit = model.max_hourly_cost
            if limit is not None and started > 0 and kept + started > limit + 1e-6:
                self._say(f"{name}: {kept + started} per hour, maximum {limit}")

    def _vendors(self) -> None:
        for name, model in sorted(self.models.items()):
            count: Counter[str] = Counter()
            started: Counter[str] = Counter()
            for s in self.p.starts:
                if s.model == name:
                    count[self.options[s.option].vendor] += 1
                    started[self.options[s.option].vendor] += 1
            if not started:
                continue
            for k in self.p.keep:
                r = self.replicas[k]
                if r.model == name:
                    cell = self._cell_of(r)
                    option = self.options.get(r.option or "")
                    count[option.vendor if option is not None else "" if cell is None else cell.vendor] += 1
            total = sum(count.values())
            if len(+count) < min(model.min_vendors, total):
                self._say(f"{name}: {len(+count)} vendors for {total} replicas, at least {min(model.min_vendors, total)}")
            share = model.max_vendor_share_percent
            for vendor in sorted(started):
                if share is not None and 100 * (count[vendor] - 1) > share * (total - 1):
                    self._say(f"{name}: {count[vendor]} of {total} replicas on {vendor}, share {share} %")

    def _moves(self) -> None:
        if self.s.policy.max_moves is None:
            return
        stopped = Counter(self.replicas[name].model for name in self.p.stop)
        started = Counter(s.model for s in self.p.starts)
        moves = sum(min(stopped[m], started[m]) for m in stopped)
        if moves > self.s.policy.max_moves:
            self._say(f"moves: {moves}, at most {self.s.policy.max_moves}")
