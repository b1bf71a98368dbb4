"""An independent recount of a plan: plain integers, from the snapshot alone, sharing no code with the planner.

Every plan passes here before it leaves `plan`, and the operator runs it again on the newest snapshot before it acts. An empty result
means: applying the plan over-allocates nothing, breaks no rule and hides no missing replica. Work in several length buckets is verified by
the plan's own routes (`audit_demand`). Linear in the size of the fleet and of the plan.

Here: each replica kept or stopped, what may start where, limits, quotas, budgets, spread. `audit_nodes`: devices, blocks, rings, whole
nodes. `audit_demand`: replicas, work, KV cache, roles. `audit_change`: moves, residence.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from placement.audit_change import change_faults
from placement.audit_demand import demand_faults
from placement.audit_nodes import node_faults
from placement.audit_world import World
from placement.types import Cell, Demand, Option, Plan, Quota, Replica, ReplicaState, Snapshot, Spread, Stock

Count = Counter[tuple[str, str]]


def check(snapshot: Snapshot, demand: Demand, plan: Plan, *, explained: bool = True) -> tuple[str, ...]:
    """What is wrong with the plan, in plain words; empty if nothing. `explained` False: all but whether its shortfalls say what is
    missing, for a plan that has none yet."""
    return _Recount(snapshot, demand, plan, explained).faults()


class _Recount:
    def __init__(self, snapshot: Snapshot, demand: Demand, plan: Plan, explained: bool) -> None:
        self.w, self.explained = World(snapshot, plan), explained
        self.s, self.d, self.p = snapshot, demand, plan
        self.kept = set(plan.keep)
        self.found: list[str] = []

    def faults(self) -> tuple[str, ...]:
        self._replicas()
        self._starts()
        if not self.found:
            self._assignments()
            self.found += node_faults(self.w)
            self.found += demand_faults(self.w, self.d, explained=self.explained)
            self._count()
            self._limits()
            self._quotas()
            self._money()
            self._spread()
            self.found += change_faults(self.w, self.d)
        return tuple(self.found)

    def _say(self, text: str) -> None:
        self.found.append(text)

    # ---- one replica or start at a time

    def _replicas(self) -> None:
        seen = Counter(self.p.keep) + Counter(self.p.stop)
        for name in sorted(set(seen) - set(self.w.replicas)):
            self._say(f"replica {name}: in the plan but not in the snapshot")
        for name, replica in sorted(self.w.replicas.items()):
            wanted = 0 if replica.state is ReplicaState.DRAINING else 1
            if seen[name] != wanted:
                self._say(f"replica {name} ({replica.state}): named {seen[name]} times in keep and stop, must be {wanted}")
        for name in self.p.stop:
            if name in self.w.replicas and self.w.frozen(self.w.replicas[name]):
                self._say(f"replica {name}: stopped, but its stock is unknown or its model is on hold")

    def _starts(self) -> None:
        w = self.w
        going = set(self.p.stop) | {r.id for r in self.s.replicas if r.state is ReplicaState.DRAINING}
        for start in self.p.starts:
            at = f"start of {start.model} on {start.node}"
            names = start.node.split(",")
            option, cell, nodes = w.options.get(start.option), w.cells.get(start.cell), [w.nodes.get(n) for n in names]
            known = [n for n in nodes if n is not None]
            if option is None or cell is None or start.model not in w.models or len(known) < len(names):
                self._say(f"{at}: option, cell, node or model is not in the snapshot")
                continue
            model = w.models[start.model]
            if option.model != start.model or any(n.cell != start.cell for n in known) or cell.profile != option.profile:
                self._say(f"{at}: option, cell and node do not belong together")
            if not option.eligible or model.hold:
                self._say(f"{at}: the option is not eligible or the model is on hold")
            if any(not n.eligible for n in known) or not cell.schedulable or cell.stock is Stock.UNKNOWN:
                self._say(f"{at}: the node or pool may not take new replicas")
            if (option.pools and cell.pool not in option.pools) or cell.pool in option.excluded_pools:
                self._say(f"{at}: pool {cell.pool} is not allowed for this model")
            if cell.shared and not model.shared_ok:
                self._say(f"{at}: shared devices")
            if names != sorted(set(names)) or len(names) != option.span or option.devices % option.span:
                self._say(f"{at}: {option.devices} devices over {option.span} nodes, names {len(names)}; they must be distinct and sorted")
                continue
            self._size(at, option, cell.name, [n.installed for n in known])
            for name in start.after:
                held = w.replicas.get(name)
                if held is None or name not in going or not set(held.node.split(",")) & set(names):
                    self._say(f"{at}: waits for {name}, which does not go from this node")

    def _size(self, at: str, option: Option, cell_name: str, installed: list[int]) -> None:
        cell, pod = self.w.cells[cell_name], option.devices // option.span
        if pod not in cell.sizes:
            self._say(f"{at}: {pod} devices, allowed {list(cell.sizes)}")
        elif pod > 1 and cell.whole_node_only and any(pod != n for n in installed):
            self._say(f"{at}: {pod} devices, in this pool 1 or the whole node ({installed[0]})")
        elif pod > 1 and not cell.whole_node_only and pod % (_rings(cell, pod) * cell.align_to):
            rings = f", equal shares of {_rings(cell, pod)} rings" if _rings(cell, pod) > 1 else ""
            self._say(f"{at}: {pod} devices, must be whole blocks of {cell.align_to}{rings}")
        elif option.span > 1 and any(pod != n for n in installed):
            self._say(f"{at}: {pod} devices on each of {option.span} nodes, must be whole nodes ({installed})")

    def _assignments(self) -> None:
        target: Counter[tuple[str, str, str, str]] = Counter()
        for name in self.p.keep:
            r = self.w.replicas[name]
            cell = self.w.cell_of(r)
            target[(r.model, r.option or "", "" if cell is None else cell.name, r.node)] += 1
        for s in self.p.starts:
            target[(s.model, s.option, s.cell, s.node)] += 1
        listed: Counter[tuple[str, str, str, str]] = Counter()
        for a in self.p.assignments:
            listed[(a.model, a.option, a.cell, a.node)] += a.replicas
        if target != listed:
            self._say(f"assignments: {sorted(((target - listed) + (listed - target)).items())[:3]} differ from keep plus starts")

    # ---- sums

    def _count(self) -> None:
        """Sums over what is kept and what starts: devices, money, replicas per vendor and domain."""
        w = self.w
        self.held: Count = Counter()  # (tenant, profile) -> devices
        self.begun: Count = Counter()
        self.pool_kept: Counter[str] = Counter()
        self.pool_begun: Counter[str] = Counter()
        self.cost_kept: dict[str, float] = defaultdict(float)
        self.cost_begun: dict[str, float] = defaultdict(float)
        self.vendors: dict[str, Counter[str]] = defaultdict(Counter)
        self.domains: dict[str, Counter[str]] = defaultdict(Counter)
        self.new: dict[str, set[str]] = defaultdict(set)  # vendors and domains of starts, as "v/..." and "d/..."
        for name in self.p.keep:
            r = w.replicas[name]
            cell, option = w.cell_of(r), w.options.get(r.option or "")
            self.held[self._owner(r)] += r.devices
            self.vendors[r.model][option.vendor if option is not None else "" if cell is None else cell.vendor] += 1
            self.domains[r.model]["" if cell is None else cell.failure_domain] += 1
            if cell is not None:
                self.pool_kept[cell.pool] += r.devices
                self.cost_kept[r.model] += cell.cost_per_device_hour * r.devices
        for s in self.p.starts:
            option, cell = w.options[s.option], w.cells[s.cell]
            self.begun[(w.models[s.model].tenant, cell.profile)] += option.devices
            self.pool_begun[cell.pool] += option.devices
            self.cost_begun[s.model] += cell.cost_per_device_hour * option.devices
            self.vendors[s.model][option.vendor] += 1
            self.domains[s.model][cell.failure_domain] += 1
            self.new[s.model] |= {f"v/{option.vendor}", f"d/{cell.failure_domain}"}

    def _limits(self) -> None:
        cells_of: dict[str, list[Cell]] = defaultdict(list)
        for c in self.s.cells:
            cells_of[c.pool].append(c)
        free_in = self.w.free_by_pool()
        for pool in sorted(self.pool_begun):
            cells = cells_of[pool]
            held = self.pool_kept[pool] + self.pool_begun[pool]
            for limit in sorted({c.limit_devices for c in cells if c.limit_devices is not None}):
                if held > limit:
                    self._say(f"pool {pool}: {held} devices, limit {limit}")
            reserve = max(c.reserve_devices for c in cells)
            if reserve and (free := free_in[pool] - self.pool_begun[pool]) < reserve:
                self._say(f"pool {pool}: {free} devices stay free, reserve {reserve}")

    def _quotas(self) -> None:
        """Who starts something is within its own quota, or, where quotas of the same profiles lend, all of these are within their sum."""
        quotas = self.s.policy.quotas
        if not quotas:
            return
        now: Count = Counter()
        for running in self.w.running.values():
            for r in running:
                now[self._owner(r)] += r.devices
        held, begun, ran = _by_tenant(self.held), _by_tenant(self.begun), _by_tenant(now)
        cohorts: dict[frozenset[str], list[Quota]] = defaultdict(list)
        for q in quotas:
            cohorts[frozenset(q.profiles)].append(q)
        for cohort in cohorts.values():
            most = sum(q.devices for q in cohort)
            together = sum(_used(held, q) + _used(begun, q) for q in cohort)
            # What was above the sum already may shrink; until it has, everybody may fill its own.
            lends = any(q.borrow for q in cohort) and sum(_used(ran, q) for q in cohort) <= most
            for q in cohort:
                total, new = _used(held, q) + _used(begun, q), _used(begun, q)
                name = f"quota of {q.tenant or 'no tenant'}" + (f" on {', '.join(q.profiles)}" if q.profiles else "")
                if new and total > q.devices and not q.borrow:
                    self._say(f"{name}: {total} devices, at most {q.devices}")
                elif new and together > most and (lends or total > q.devices):
                    self._say(f"{name}: {total} devices of {q.devices}, and together with the quotas that lend {together} of {most}")

    def _owner(self, replica: Replica) -> tuple[str, str]:
        """(tenant, profile) whose quotas count it."""
        cell, option = self.w.cell_of(replica), self.w.options.get(replica.option or "")
        profile = cell.profile if cell is not None else "" if option is None else option.profile
        return self.w.models[replica.model].tenant, profile

    def _money(self) -> None:
        kept, begun = sum(self.cost_kept.values()), sum(self.cost_begun.values())
        if abs(kept + begun - self.p.hourly_cost) > 1e-4 * max(1.0, kept + begun):
            self._say(f"hourly cost: {self.p.hourly_cost}, recount {kept + begun}")
        limit = self.s.policy.max_hourly_cost
        if limit is not None and begun > 0 and kept + begun > limit + 1e-6:
            self._say(f"fleet: {kept + begun} per hour, budget {limit}")
        for name, started in sorted(self.cost_begun.items()):
            limit, total = self.w.models[name].max_hourly_cost, self.cost_kept[name] + started
            if limit is not None and started > 0 and total > limit + 1e-6:
                self._say(f"{name}: {total} per hour, maximum {limit}")

    def _spread(self) -> None:
        for name, new in sorted(self.new.items()):
            model, count, zones = self.w.models[name], self.vendors[name], self.domains[name]
            total = sum(count.values())
            if len(+count) < min(model.min_vendors, total):
                self._say(f"{name}: {len(+count)} vendors for {total} replicas, at least {min(model.min_vendors, total)}")
            share = model.max_vendor_share_percent
            for vendor in sorted(x[2:] for x in new if x.startswith("v/")):
                if share is not None and 100 * (count[vendor] - 1) > share * (total - 1):
                    self._say(f"{name}: {count[vendor]} of {total} replicas on {vendor}, share {share} %")
            for zone in sorted(x[2:] for x in new if x.startswith("d/")):
                if model.spread is Spread.STRICT and 100 * (zones[zone] - 1) > model.max_domain_share_percent * (total - 1):
                    at = f"failure domain {zone!r}, strict spread of {model.max_domain_share_percent} %"
                    self._say(f"{name}: {zones[zone]} of {total} replicas in {at}")


def _rings(cell: Cell, pod: int) -> int:
    """Rings that one pod needs."""
    return 1 if cell.ring is None else -(-pod // cell.ring)


def _by_tenant(counts: Count) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (tenant, profile), n in counts.items():
        found[tenant][profile] += n
    return found


def _used(counts: dict[str, Counter[str]], quota: Quota) -> int:
    mine: Counter[str] = counts.get(quota.tenant, Counter())
    return sum(mine[p] for p in set(quota.profiles)) if quota.profiles else mine.total()
