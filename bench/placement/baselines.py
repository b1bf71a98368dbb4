"""Simple ways to plan a fleet, on the same snapshot, for comparison: greedy, one program per model, LP prices and a commit, four parts.

| name | what | shape of |
|---|---|---|
| greedy | models by rank, then size; the option with the least cost per work first, best fit on nodes | most autoscalers |
| per model | each model's least cost as if it were alone, placed by rank; the rest greedily | Mélange |
| LP prices | the linear relaxation of the fleet prices devices and quotas; each model, by rank, takes its best that fits | CvxCluster |
| POP-4 | models, nodes and quotas in four random parts, each planned by polyfleet | POP |

What does not fit stays unserved. The referee's counts (`counter.shares`) say what is covered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bench.placement.counter import device_equivalents, recount, shares
from bench.placement.highs import INFINITY, Program
from bench.placement.room import Room
from placement import plan as make_plan
from placement.types import Demand, Effort, Option, Quota, Snapshot

MOST = 2_000  # replicas of one option in one model's own program


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    cost: float
    unmet_percent: dict[int, float]  # priority -> device-equivalents


class Fleet:
    """A snapshot with what all baselines look up."""

    def __init__(self, snapshot: Snapshot, demand: Demand) -> None:
        self.snapshot, self.demand = snapshot, demand
        self.loads = {d.model: d.loads for d in demand.models}
        self.need = device_equivalents(snapshot, demand)
        self.price = {c.profile: c.cost_per_device_hour for c in snapshot.cells}
        self.options: dict[str, list[Option]] = defaultdict(list)
        for o in snapshot.options:
            self.options[o.model].append(o)
        self.order = [m.name for m in sorted(snapshot.models, key=lambda m: (-m.priority, -self.need[m.name], m.name))]
        self.least = {m.name: m.min_replicas for m in snapshot.models}

    def cost(self, o: Option) -> float:
        return o.devices * self.price[o.profile]

    def full(self, o: Option) -> float:
        """Replicas of this option that serve the whole model."""
        rates = o.rates(len(self.loads[o.model]))
        return sum(load / r if r > 0 else float("inf") for load, r in zip(self.loads[o.model], rates, strict=True) if load > 0)

    def result(self, name: str, room: Room) -> Result:
        counts = {m.name: dict(room.placed[m.name]) for m in self.snapshot.models}
        served = shares({o.id: o for o in self.snapshot.options}, self.loads, counts)
        return Result(name, room.cost, self.unmet(served))

    def unmet(self, served: Mapping[str, float]) -> dict[int, float]:
        total: dict[int, float] = defaultdict(float)
        lost: dict[int, float] = defaultdict(float)
        for m in self.snapshot.models:
            total[m.priority] += self.need[m.name]
            lost[m.priority] += self.need[m.name] * (1 - served[m.name])
        return {p: 100 * lost[p] / total[p] for p in sorted(total, reverse=True)}


def greedy(fleet: Fleet) -> Result:
    room = Room(fleet.snapshot)
    for name in fleet.order:
        _fill(fleet, room, name, {o.id: fleet.cost(o) for o in fleet.options[name]})
    return fleet.result("greedy", room)


def _fill(fleet: Fleet, room: Room, name: str, price: Mapping[str, float]) -> None:
    """Serves the model with its best options at these prices, one after the other, until nothing is open or nothing fits."""
    placed = sum(room.placed[name].values())
    open_ = 1.0 - sum(n / fleet.full(o) for o in fleet.options[name] if (n := room.placed[name].get(o.id, 0)))
    for o in sorted(fleet.options[name], key=lambda o: (price[o.id] * fleet.full(o), o.id)):
        full = fleet.full(o)
        while (open_ > 1e-9 and np.isfinite(full)) or placed < fleet.least[name]:
            if not room.take(o):
                break
            placed += 1
            open_ -= 1.0 / full


def per_model(fleet: Fleet) -> Result:
    room = Room(fleet.snapshot)
    for name in fleet.order:
        price = {o.id: fleet.cost(o) for o in fleet.options[name]}
        _take(room, _alone(fleet, name, price))
        _fill(fleet, room, name, price)
    return fleet.result("per model", room)


def lp_prices(fleet: Fleet) -> Result:
    price = _prices(fleet)
    room = Room(fleet.snapshot)
    for name in fleet.order:
        _take(room, _alone(fleet, name, price, room))
        _fill(fleet, room, name, price)
    return fleet.result("LP prices", room)


def _take(room: Room, wanted: list[tuple[Option, int]]) -> None:
    for option, count in wanted:
        for _ in range(count):
            if not room.take(option):
                break


def _alone(fleet: Fleet, name: str, price: Mapping[str, float], room: Room | None = None) -> list[tuple[Option, int]]:
    """The cheapest whole replicas that serve this model at these prices; large replicas first. Without `room` the fleet is endless;
    with it only what its nodes hold now is taken, and what cannot be served stays open."""
    program = Program()
    options = fleet.options[name]
    count = [program.variable(price[o.id], float(MOST), whole=True) for o in options]
    open_ = program.variable(1e6 * max(price.values()), 1.0 if room is not None else 0.0)
    use: list[list[tuple[int, float]]] = [[] for _ in options]
    for b, load in enumerate(fleet.loads[name]):
        parts = [(open_, 1.0)]
        for i, o in enumerate(options):
            rate = o.rates(len(fleet.loads[name]))[b]
            if load > 0 and rate > 0:
                routed = program.variable(upper=1.0)
                parts.append((routed, 1.0))
                use[i].append((routed, load / rate))
        if len(parts) > 1:
            program.row(1.0, 1.0, parts)
    for i, terms in enumerate(use):
        program.row(-INFINITY, 0.0, [*terms, (count[i], -1.0)])
    if room is None:
        program.row(float(fleet.least[name]), INFINITY, [(c, 1.0) for c in count])
    else:
        for profile, size in sorted({(o.profile, o.devices) for o in options}):
            larger = [(count[i], float(o.devices // size)) for i, o in enumerate(options) if o.profile == profile and o.devices >= size]
            program.row(-INFINITY, float(room.chunks(profile, size)), larger)
        quota = room.quota.get(room.models[name].tenant)
        if quota is not None:
            program.row(-INFINITY, float(quota), [(count[i], float(o.devices)) for i, o in enumerate(options)])
    answer = program.solved(relative_gap=1e-4).x
    found = [(o, round(answer[count[i]])) for i, o in enumerate(options)]
    return sorted(((o, n) for o, n in found if n > 0), key=lambda f: (-f[0].devices, f[0].id))


def _prices(fleet: Fleet) -> dict[str, float]:
    """Cost of each option plus what its devices and quota are worth in the linear relaxation of the fleet."""
    program = Program()
    room = Room(fleet.snapshot)
    weight = {p: 100.0 * 100.0**i for i, p in enumerate(sorted({m.priority for m in fleet.snapshot.models}))}
    unit = float(np.median([c.cost_per_device_hour for c in fleet.snapshot.cells]))
    uses: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    tenants: dict[str, list[tuple[int, float]]] = defaultdict(list)
    sizes = {p: sorted({o.devices for o in fleet.snapshot.options if o.profile == p}) for p in fleet.price}
    for m in fleet.snapshot.models:
        unmet = program.variable(weight[m.priority] * unit * max(fleet.need[m.name], 1e-6), 1.0)
        use: dict[str, list[tuple[int, float]]] = defaultdict(list)
        count = {}
        for o in fleet.options[m.name]:
            count[o.id] = program.variable(fleet.cost(o))
            tenants[m.tenant].append((count[o.id], float(o.devices)))
            for s in sizes[o.profile]:
                if s <= o.devices:
                    uses[o.profile, s].append((count[o.id], float(o.devices // s)))
        for b, load in enumerate(fleet.loads[m.name]):
            if load <= 0:
                continue
            parts = [(unmet, 1.0)]
            for o in fleet.options[m.name]:
                rate = o.rates(len(fleet.loads[m.name]))[b]
                if rate > 0:
                    routed = program.variable(upper=1.0)
                    parts.append((routed, 1.0))
                    use[o.id].append((routed, load / rate))
                    # No share without a whole replica: it makes the relaxation, and with it the prices, far less weak.
                    program.row(-INFINITY, 0.0, [(routed, 1.0), (count[o.id], -1.0)])
            program.row(1.0, 1.0, parts)
        program.row(float(m.min_replicas), INFINITY, [(unmet, float(m.min_replicas)), *((c, 1.0) for c in count.values())])
        for o in fleet.options[m.name]:
            program.row(-INFINITY, 0.0, [*use[o.id], (count[o.id], -1.0)])
    rows = {key: program.row(-INFINITY, float(room.chunks(*key)), terms) for key, terms in sorted(uses.items())}
    quota = {t: program.row(-INFINITY, float(room.quota[t]), terms) for t, terms in sorted(tenants.items()) if t in room.quota}
    dual = program.solved().row_dual
    tenant = {m.name: m.tenant for m in fleet.snapshot.models}
    price: dict[str, float] = {}
    for o in fleet.snapshot.options:
        worth = sum(-dual[rows[o.profile, s]] * (o.devices // s) for s in sizes[o.profile] if s <= o.devices)
        worth += -dual[quota[tenant[o.model]]] * o.devices if tenant[o.model] in quota else 0.0
        price[o.id] = fleet.cost(o) + max(0.0, float(worth))
    return price


def pop(fleet: Fleet, effort: Effort, parts: int = 4, seed: int = 0) -> Result:
    """Each part is planned by polyfleet with its share of nodes and quotas."""
    rng = np.random.default_rng(seed)
    snapshot = fleet.snapshot
    model_part = dict(zip([m.name for m in snapshot.models], rng.integers(0, parts, len(snapshot.models)).tolist(), strict=True))
    node_part = dict(zip([n.name for n in snapshot.nodes], rng.integers(0, parts, len(snapshot.nodes)).tolist(), strict=True))
    cost = 0.0
    served: dict[str, float] = {}
    for part in range(parts):
        nodes = tuple(n for n in snapshot.nodes if node_part[n.name] == part)
        cells = {n.cell for n in nodes}
        quotas = tuple(
            Quota(q.tenant, q.devices // parts + (1 if part < q.devices % parts else 0), q.profiles) for q in snapshot.policy.quotas
        )
        piece = replace(
            snapshot,
            nodes=nodes,
            cells=tuple(c for c in snapshot.cells if c.name in cells),
            models=tuple(m for m in snapshot.models if model_part[m.name] == part),
            options=tuple(o for o in snapshot.options if model_part[o.model] == part),
            policy=replace(snapshot.policy, quotas=quotas),
        )
        asked = Demand(tuple(d for d in fleet.demand.models if model_part[d.model] == part))
        plan, _ = make_plan(piece, asked, effort=effort)
        count = recount(piece, asked, plan)
        cost += count.cost
        served |= count.served
    return Result("POP-4", cost, fleet.unmet(served))
