"""What the exhaustive placer knows of single things and of one model: what may start where, what replicas carry, what a choice is worth.
Written apart from the placer, from its documented meaning."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement, product

from placement.types import Demand, Model, ModelDemand, Node, Option, Replica, ReplicaState, Snapshot, Spread, Stock


@dataclass
class Choice:
    """What one model could do: which replicas it stops, where it starts new ones."""

    stops: tuple[str, ...]
    starts: tuple[tuple[str, str], ...]  # (option, node)


def unmet_loss(need: float, share: float) -> float:
    share = min(1.0, max(0.0, share))
    return need * (min(share, 0.5) + 3.0 * max(0.0, share - 0.5))


def two_buckets(loads: tuple[float, float], rates: list[tuple[float, float]]) -> float:
    """Share of two loads that these replicas carry: who is relatively best at the first takes it first; the frontier is cut by the ray of
    the loads."""
    order = sorted(rates, key=lambda r: (-(r[0] / r[1]) if r[1] > 0 else float("-inf"), r))
    first, second = 0.0, sum(r[1] for r in order)
    best = min(1.0, second / loads[1]) if loads[0] <= 0 and loads[1] > 0 else 0.0
    if loads[0] <= 0 or loads[1] <= 0:
        carried, load = (sum(r[0] for r in order), loads[0]) if loads[0] > 0 else (second, loads[1])
        return min(1.0, carried / load) if load > 0 else 1.0
    for r in [*order, None]:
        if r is None:
            best = max(best, min(first / loads[0], second / loads[1]))
            break
        # Between (first, second) and (first + r0, second - r1): the point where both buckets have the same share.
        low, high = 0.0, 1.0
        for _ in range(60):
            part = (low + high) / 2.0
            if (first + part * r[0]) / loads[0] < (second - part * r[1]) / loads[1]:
                low = part
            else:
                high = part
        best = max(best, min((first + low * r[0]) / loads[0], (second - low * r[1]) / loads[1]))
        first, second = first + r[0], second - r[1]
    return min(1.0, best)


def middle(values: list[float]) -> float:
    """The median of those above 0; 0 if there are none."""
    ordered = sorted(x for x in values if x > 0)
    at = len(ordered) // 2
    return 0.0 if not ordered else ordered[at] if len(ordered) % 2 else (ordered[at - 1] + ordered[at]) / 2


class Facts:
    def __init__(self, snapshot: Snapshot, demand: Demand) -> None:
        self.s = snapshot
        self.cells = {c.name: c for c in snapshot.cells}
        self.nodes = {n.name: n for n in snapshot.nodes}
        self.options = {o.id: o for o in snapshot.options}
        self.models = sorted(snapshot.models, key=lambda m: m.name)
        self.asked: dict[str, list[ModelDemand]] = {}
        for d in sorted(demand.models, key=lambda d: (d.model, d.role)):
            self.asked.setdefault(d.model, []).append(d)
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
        if self.works(model) and not any(o.bucket_work or (o.work_per_s or 0.0,)):
            return False
        if o.devices not in c.sizes:
            return False
        if o.devices > 1 and c.whole_node_only:
            return o.devices == node.installed == c.per_node
        return o.devices == 1 or o.devices % c.align_to == 0

    def price(self, r: Replica) -> float:
        return self.cells[self.nodes[r.node].cell].cost_per_device_hour * r.devices

    # --- what a model asks and gets ----------------------------------------------------------------------------------------

    def works(self, model: Model) -> bool:
        return any(x > 0 for d in self.asked.get(model.name, []) for x in d.loads)

    def dead(self, model: str) -> set[int]:
        """Lengths that nobody serves (of a split deployment: that one of the roles does not serve); empty if none is served at all."""
        entries = self.asked.get(model, [])
        runs = {r.option for r in self.running(model)}
        mine = [o for o in self.s.options if o.model == model and (o.eligible or o.id in runs)]
        dead: set[int] = set()
        for d in entries:
            able = [o.rates(len(d.loads)) for o in mine if o.role == d.role]
            dead |= {b for b, x in enumerate(d.loads) if x > 0 and not any(r[b] > 0 for r in able)}
        return dead if any(x > 0 and b not in dead for d in entries for b, x in enumerate(d.loads)) else set()

    def loads(self, asked: ModelDemand) -> tuple[float, ...]:
        dead = self.dead(asked.model)
        return tuple(0.0 if b in dead else x for b, x in enumerate(asked.loads))

    def share(self, model: Model, replicas: list[tuple[str, str]]) -> float:
        """Of the demand that (option, node) replicas carry."""
        entries = self.asked.get(model.name, [])
        if model.same_network and len(entries) == 2:
            here: dict[str, list[tuple[str, str]]] = {}
            for r in replicas:
                here.setdefault(self.cells[self.nodes[r[1]].cell].network_domain, []).append(r)
            phi = sum(min(self._carried(d, mine) for d in entries if sum(d.loads) > 0) for mine in here.values())
            phi = min(1.0, phi)
        else:
            phi = min([self._carried(d, replicas) for d in entries], default=1.0)
        for d in entries:
            if d.kv_floor > 0:
                tokens = [self.options[o].kv_tokens or 0.0 for o, _ in replicas if o and self.options[o].role == d.role]
                phi = min(phi, sum(tokens) / d.kv_floor)
        return min(1.0, phi)

    def _carried(self, asked: ModelDemand, replicas: list[tuple[str, str]]) -> float:
        loads = self.loads(asked)
        rates = [self.options[o].rates(len(loads)) for o, _ in replicas if o and self.options[o].role == asked.role]
        if not any(x > 0 for x in loads):
            return 1.0
        if len(loads) == 1:
            return min(1.0, sum(r[0] for r in rates) / loads[0])
        return two_buckets((loads[0], loads[1]), [(r[0], r[1]) for r in rates])

    def keeps(self, model: Model) -> bool:
        return not self.s.policy.preemption or not model.preemptable

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
            zones, new = self._zones(model, choice)
            if model.spread is Spread.STRICT and any(100 * (zones[z] - 1) > model.max_domain_share_percent * (total - 1) for z in new):
                return False
        if not self.keeps(model) or model.hold:
            return True
        running = self.running(model.name)
        if total < min(len(running), model.min_replicas):
            return False
        return len(running) > model.max_replicas or self._after(model, choice) >= self._before(model) - 1e-9

    def _before(self, model: Model) -> float:
        return self.share(model, [(r.option or "", r.node) for r in self.running(model.name)])

    def _after(self, model: Model, choice: Choice) -> float:
        kept = [(r.option or "", r.node) for r in self.running(model.name) if r.id not in choice.stops]
        return self.share(model, [*kept, *choice.starts])

    def _zones(self, model: Model, choice: Choice) -> tuple[dict[str, int], set[str]]:
        counts: dict[str, int] = {}
        kept = [r.node for r in self.running(model.name) if r.id not in choice.stops]
        for node in [*kept, *(n for _, n in choice.starts)]:
            zone = self.cells[self.nodes[node].cell].failure_domain
            counts[zone] = counts.get(zone, 0) + 1
        return counts, {self.cells[self.nodes[n].cell].failure_domain for _, n in choice.starts}

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

    def _shape(self, model: Model) -> tuple[float, int, int, int]:
        """need, smallest, minimum, surplus."""
        own = [o for o in self.s.options if o.model == model.name]
        running = self.running(model.name)
        smallest = min([o.devices for o in own] or [r.devices for r in running] or [1])
        need = self._need(model, own, smallest)
        return need, smallest, model.min_replicas, max(self._surplus(model, running), len(running) - model.max_replicas, 0)

    def _need(self, model: Model, own: list[Option], smallest: int) -> float:
        need, floor = 0.0, 0.0
        for d in self.asked.get(model.name, []):
            floor = max(floor, d.kv_floor)
            for b, load in enumerate(self.loads(d)):
                if load > 0:
                    typical = middle([o.rates(len(d.loads))[b] / o.devices for o in own if o.role == d.role])
                    need += load / typical if typical else float(smallest)
        if need or not floor:
            return need
        typical = middle([(o.kv_tokens or 0.0) / o.devices for o in own])
        return floor / typical if typical else float(smallest)

    def _surplus(self, model: Model, running: list[Replica]) -> int:
        """Weakest first: unknown ones, then by the sum of the rates."""

        def weak(r: Replica) -> tuple[object, ...]:
            if not r.option:
                return (0, 0.0)
            o = self.options[r.option]
            entries = self.asked.get(model.name, [ModelDemand(model.name)])
            rates: tuple[float, ...] = ()
            for d in entries:
                own = o.rates(len(d.loads))
                rates += own if o.role == d.role else (0.0,) * len(own)
            tokens = tuple((o.kv_tokens or 0.0) if o.role == d.role else 0.0 for d in entries if d.kv_floor > 0)
            network = self.cells[self.nodes[r.node].cell].network_domain if model.same_network else ""
            return (1, sum(rates), rates, tokens, network)

        order = sorted(running, key=weak)
        before, surplus = self._before(model), 0
        while surplus < len(running) - model.min_replicas:
            left = [(r.option or "", r.node) for r in order[surplus + 1 :]]
            if self.share(model, left) < before - 1e-9:
                break
            surplus += 1
        return surplus

    def value(self, model: Model, choice: Choice) -> tuple[float, float, float]:
        """Disruption, shortfall, money."""
        running = self.running(model.name)
        kept = [r for r in running if r.id not in choice.stops]
        saving = self.s.policy.min_saving_percent / 100.0
        money = self._cost(model, choice) + sum(saving * self.price(r) for r in running if r.id in choice.stops)
        money += self._begin_price(model, choice)
        if model.hold:
            return 0.0, 0.0, money
        need, smallest, minimum, surplus = self._shape(model)
        after = self._after(model, choice)
        lost = max(0.0, self._before(model) - after)
        disruption = smallest * (max(0, len(choice.stops) - surplus) + self.early(model, choice)) + need * lost
        counts, _ = self._vendors(model, choice)
        total = len(kept) + len(choice.starts)
        shortfall = 2.0 * smallest * max(0, minimum - total) + unmet_loss(need, 1.0 - after)
        if running and sum(1 for v in counts.values() if v) < min(model.min_vendors, total):
            shortfall += smallest
        share = model.max_vendor_share_percent
        if share is not None and share < 100:
            shortfall += smallest * sum(1 for n in counts.values() if 100 * (n - 1) > share * (total - 1) and n)
        if model.spread is Spread.STRICT:
            zones, _ = self._zones(model, choice)
            shortfall += smallest * sum(1 for n in zones.values() if 100 * (n - 1) > model.max_domain_share_percent * (total - 1) and n)
        return disruption, shortfall, money

    def early(self, model: Model, choice: Choice) -> int:
        """Young replicas that stop although others could have gone."""
        running = self.running(model.name)
        others = sum(1 for r in running if not r.resident and not self.frozen(r))
        forced = max(0, len(running) - model.max_replicas - others) if len(running) > model.max_replicas else 0
        return max(0, sum(1 for r in running if r.resident and r.id in choice.stops) - forced)

    def _begin_price(self, model: Model, choice: Choice) -> float:
        """kappa * price per hour * seconds / 1800 for every start beyond what runs of that option at that price."""
        grown: dict[tuple[str, float], int] = {}
        for s in choice.starts:
            key = (s[0], self._start_price(s))
            grown[key] = grown.get(key, 0) + 1
        for r in self.running(model.name):
            if r.id in choice.stops and r.option:
                key = (r.option, self.price(r))
                grown[key] = grown.get(key, 0) - 1
        kappa = self.s.policy.start_price
        return sum(kappa * cost * (self.options[o].start_seconds or 0.0) / 1800.0 * n for (o, cost), n in grown.items() if n > 0)
