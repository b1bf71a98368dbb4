"""One model, no stock, no nodes: the only problem that AIBrix and Mélange state. Seeded instances, the optimum, and polyfleet's answer.

A case is a grid of request lengths with a rate each and, per device type, the requests per second of one replica in each bucket. The least
cost of whole replicas whose routed load fits is a small integer program; `optimum` solves it to proof with a solver of its own call, so it
judges all planners alike.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from bench.placement.catalogue import DEVICES, MODELS, USABLE, seconds_per_request, smallest
from bench.placement.highs import INFINITY, Program
from bench.placement.measure import cpu_seconds
from placement import plan as make_plan
from placement.types import DEFAULT, Cell, Demand, Model, ModelDemand, Node, Option, Policy, Snapshot, Spread

GROUPS = ((55, 0.3, 3.0), (50, 3.0, 20.0), (45, 20.0, 200.0))  # cases, from, to requests/s
INPUTS, OUTPUTS = (128, 512, 2048, 8192), (64, 256, 1024)
ENOUGH = 1_000_000  # devices: no limit


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    inputs: tuple[int, ...]  # tokens
    outputs: tuple[int, ...]
    rates: tuple[tuple[float, ...], ...]  # [input][output] requests/s
    gpus: tuple[str, ...]
    costs: tuple[float, ...]  # per hour of one replica
    throughput: tuple[tuple[tuple[float, ...], ...], ...]  # [gpu][input][output] requests/s of one replica

    @property
    def rate(self) -> float:
        return sum(map(sum, self.rates))

    def loads(self) -> list[float]:
        return [r for row in self.rates for r in row]

    def speeds(self, gpu: int) -> list[float]:
        return [t for row in self.throughput[gpu] for t in row]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def cases(seed: int = 0) -> list[Case]:
    """150 cases: 3 or 4 of 8 types, 4 x 3 buckets, prices within 30 % of the list."""
    rng = np.random.default_rng(seed)
    made: list[Case] = []
    for count, low, high in GROUPS:
        for i in range(count):
            kinds = sorted(rng.permutation(len(DEVICES))[: int(rng.integers(3, 5))].tolist())
            rate = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            made.append(_case(rng, f"{low:g}-{high:g}/{i:02d}", INPUTS, OUTPUTS, kinds, int(rng.integers(6)), rate))
    return made


def sweep_case(types: int, buckets: int, rate: float, seed: int = 0) -> Case:
    """Mélange's sweep: the first types of the list, a grid of 10 x 6 or 20 x 11 lengths, an 8B model."""
    inputs, outputs = {60: (10, 6), 220: (20, 11)}[buckets]
    grid_in = tuple(int(x) for x in np.geomspace(32, 16384, inputs).round())
    grid_out = tuple(int(x) for x in np.geomspace(16, 2048, outputs).round())
    return _case(np.random.default_rng(seed), f"{types}x{buckets}@{rate:g}", grid_in, grid_out, list(range(types)), 3, rate)


def _case(
    rng: np.random.Generator, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...], kinds: list[int], entry: int, rate: float
) -> Case:
    model = MODELS[entry]
    mix = rng.dirichlet(np.full(len(inputs) * len(outputs), 0.7)) * rate
    costs: list[float] = []
    tables: list[tuple[tuple[float, ...], ...]] = []
    for k in kinds:
        device = DEVICES[k]
        byte = 1.0 if device.byte_weights else 2.0
        size = smallest(model, device, byte)
        luck = float(np.exp(rng.normal(0.0, 0.25)))
        costs.append(round(size * device.price * float(rng.uniform(0.7, 1.3)), 4))
        memory = size * device.gigabytes * USABLE
        room = min(1.0, 1.3 * (memory - model.parameters * byte) / memory)
        tables.append(tuple(tuple(size * luck / seconds_per_request((i, o), model, device, byte, room) for o in outputs) for i in inputs))
    rates = tuple(tuple(float(x) for x in row) for row in mix.reshape(len(inputs), len(outputs)))
    return Case(name, inputs, outputs, rates, tuple(DEVICES[k].name for k in kinds), tuple(costs), tuple(tables))


def optimum(case: Case) -> float:
    """The least cost of whole replicas, proven: routing is continuous, counts are whole."""
    loads, gpus = case.loads(), len(case.gpus)
    used = [b for b, load in enumerate(loads) if load > 0]
    pairs = [(g, b) for g in range(gpus) for b in used if case.speeds(g)[b] > 0]
    program = Program()
    count = [program.variable(c, float(ENOUGH), whole=True) for c in case.costs]
    x = {pair: program.variable(upper=1.0) for pair in pairs}
    for b in used:
        program.row(1.0, 1.0, [(x[g, b], 1.0) for g in range(gpus) if (g, b) in x])
    for g in range(gpus):
        program.row(-INFINITY, 0.0, [(count[g], -1.0), *((x[g, b], loads[b] / case.speeds(g)[b]) for b in used if (g, b) in x)])
    answer = program.solved().x
    return float(sum(round(answer[count[g]]) * case.costs[g] for g in range(gpus)))


def snapshot_of(case: Case) -> tuple[Snapshot, Demand]:
    """The same case for the placer: per type one node without an end, one device per replica."""
    cells = tuple(Cell(g, g, g, "any", (1,), per_node=ENOUGH, cost_per_device_hour=c) for g, c in zip(case.gpus, case.costs, strict=True))
    nodes = tuple(Node(f"node-{g}", g, ENOUGH, ENOUGH, 0) for g in case.gpus)
    options = tuple(
        Option(f"m|{g}", "m", g, "any", "default", "any", 1, bucket_work=tuple(case.speeds(i))) for i, g in enumerate(case.gpus)
    )
    model = Model("m", 0, 0, ENOUGH, spread=Spread.NONE)
    policy = Policy(start_price=0.0, time_limit_s=600.0)
    return Snapshot(cells, nodes, (model,), options, (), policy), Demand((ModelDemand("m", case.rate, tuple(case.loads()), reason="Load"),))


def ours(case: Case) -> tuple[float, float, dict[str, int]]:
    """(cost, CPU seconds of `plan`, replicas per type)."""
    snapshot, demand = snapshot_of(case)
    begin = cpu_seconds()
    plan, _ = make_plan(snapshot, demand, effort=DEFAULT)
    took = cpu_seconds() - begin
    counts = dict.fromkeys(case.gpus, 0)
    for a in plan.assignments:
        counts[a.cell] += a.replicas
    return sum(counts[g] * c for g, c in zip(case.gpus, case.costs, strict=True)), took, counts


def covers(case: Case, counts: dict[str, int]) -> bool:
    """Whether these replicas serve the case: the referee for every planner."""
    from bench.placement.counter import shares

    snapshot, demand = snapshot_of(case)
    options = {o.id: o for o in snapshot.options}
    asked = {d.model: d.loads for d in demand.models}
    mine = {f"m|{g}": n for g, n in counts.items() if n > 0}
    return shares(options, asked, {"m": mine})["m"] >= 1 - 1e-6
