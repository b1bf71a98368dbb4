"""Seeded fleets of four sizes and three loads: arrays first (numpy's `default_rng`, draws in a fixed order), then Snapshot and Demand.

The order of the draws is part of an instance's definition, so that others can rebuild it: shares of the types, type, zone and sub-cell
of each node, occupied nodes and what is left of them; then per model catalogue entry, class, tenant, mix of request lengths, popularity;
then per model and allowed type luck and sizes. `t` is the demand at each model's median option in devices over free devices; at 1 the
fleet is loose, because good options beat the median.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.placement import openb
from bench.placement.catalogue import (
    ACROSS_NODES,
    BUCKETS,
    DEVICES,
    LARGEST,
    MODELS,
    OPENB,
    SCALING,
    USABLE,
    Device,
    seconds_per_request,
    smallest,
)
from placement.types import Cell, Demand, Model, ModelDemand, Node, Option, Policy, Quota, Snapshot, Spread

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ZONES = 3
OCCUPIED = 0.3  # of the nodes are partly taken
LUCK = 0.25  # spread of speeds around the formula
PRIORITIES = (1000, 500, 0)  # of the classes
CLASSES = ("critical", "standard", "bestEffort")
MANY = 100_000  # replicas: no limit


@dataclass(frozen=True, slots=True)
class Recipe:
    nodes: int
    models: int
    types: int
    subcells: int
    t: float


NAMES = {
    "tiny": Recipe(10, 5, 5, 1, 1.0),
    "small_loose": Recipe(100, 50, 5, 1, 1.0),
    "small_scarce": Recipe(100, 50, 5, 1, 2.0),
    "mid_loose": Recipe(1_000, 500, 5, 1, 1.0),
    "mid_scarce": Recipe(1_000, 500, 5, 1, 2.0),
    "mid_severe": Recipe(1_000, 500, 5, 1, 3.0),
    "large_loose": Recipe(10_000, 500, 8, 2, 1.0),
    "large_scarce": Recipe(10_000, 500, 8, 2, 3.0),
    "xl_loose": Recipe(10_000, 2_000, 8, 2, 1.0),
    "xl_scarce": Recipe(10_000, 2_000, 8, 2, 3.0),
}
OPENB_NAMES = {"openb_loose": 0.7, "openb_scarce": 1.5}  # t
OPENB_MODELS = 200


@dataclass(frozen=True, slots=True)
class Fleet:
    """One drawn fleet, indexes instead of names. N nodes, M models, O options, B buckets, P cells."""

    kinds: tuple[Device, ...]
    node_cell: Ints  # [N]
    node_size: Ints
    node_free: Ints
    cell_type: Ints  # [P]
    cell_zone: Ints
    cell_size: Ints  # devices of a full node
    rank: Ints  # [M] 0 = critical
    tenant: Ints
    demand: Floats  # [M, B] requests/s
    option_model: Ints  # [O]
    option_type: Ints
    option_devices: Ints
    option_rate: Floats  # [O, B] requests/s of one replica that serves this bucket alone
    option_start: Floats  # seconds
    quota: Ints  # [tenants] devices

    @property
    def free(self) -> int:
        return int(self.node_free.sum())

    def chunks(self, size: int) -> int:
        """Replicas of `size` devices that fit today: parts of nodes, or whole free nodes of one cell."""
        small = int((self.node_free // size)[self.node_size >= size].sum())
        whole = (self.node_free == self.node_size) & (self.node_size < size)
        idle = np.bincount(self.node_cell[whole], minlength=len(self.cell_size))
        return small + int((idle[self.cell_size < size] * self.cell_size[self.cell_size < size] // size).sum())

    def need(self) -> float:
        """Device-equivalents of the demand: work over the median speed per device of the model's options."""
        total = 0.0
        for m in range(len(self.rank)):
            mine = self.option_model == m
            if mine.any():
                each = np.median(self.option_rate[mine] / self.option_devices[mine, None], axis=0)
                total += float((self.demand[m] / each).sum())
        return total


def make(recipe: Recipe, seed: int) -> Fleet:
    """The fleet of a recipe."""
    rng = np.random.default_rng(seed)
    kinds = DEVICES[: recipe.types]
    nodes = recipe.nodes
    shares = rng.dirichlet(np.full(recipe.types, 3.0))
    kind = rng.choice(recipe.types, nodes, p=shares)
    first = min(recipe.types, nodes)
    kind[:first] = np.arange(first)
    zone, sub = rng.integers(0, ZONES, nodes), rng.integers(0, recipe.subcells, nodes)
    size = np.array([k.per_node for k in kinds])[kind]
    taken = rng.random(nodes) < OCCUPIED
    free = size.copy()
    free[taken] = (size[taken] * rng.random(int(taken.sum()))).astype(np.int64)
    ids, cell = np.unique((kind * ZONES + zone) * recipe.subcells + sub, return_inverse=True)
    cell_type = ids // (ZONES * recipe.subcells)
    places = (cell, size, free, cell_type, ids // recipe.subcells % ZONES, np.array([kinds[k].per_node for k in cell_type]))
    return _models(rng, kinds, places, recipe.models, recipe.t, across_nodes=True)


def make_openb(t: float, seed: int) -> Fleet:
    """Real nodes, half taken by the trace's pods; models as everywhere, but no replica over several nodes (the list has no networks)."""
    rng = np.random.default_rng(seed)
    places = openb.places(rng, [k.name for k in OPENB], ZONES)
    return _models(rng, OPENB, places, OPENB_MODELS, t, across_nodes=False)


Places = tuple[Ints, Ints, Ints, Ints, Ints, Ints]


def _models(rng: np.random.Generator, kinds: tuple[Device, ...], places: Places, models: int, t: float, *, across_nodes: bool) -> Fleet:
    weight = np.array([float(m.weight) for m in MODELS])
    entry = rng.choice(len(MODELS), models, p=weight / weight.sum())
    rank = rng.choice(3, models, p=[0.15, 0.55, 0.30])
    tenants = max(2, min(20, models // 10 + 1))
    tenant = rng.integers(0, tenants, models)
    mix = rng.dirichlet(np.full(len(BUCKETS), 0.7), models)
    popularity = rng.pareto(1.1, models) + 0.05
    popularity = np.minimum(popularity, np.quantile(popularity, 0.98))

    owner: list[int] = []
    on: list[int] = []
    devices: list[int] = []
    rates: list[list[float]] = []
    start: list[float] = []
    for m in range(models):
        model = MODELS[entry[m]]
        allowed = np.flatnonzero(rng.random(len(kinds)) < 0.8).tolist() or [int(rng.integers(len(kinds)))]
        for k in allowed:
            device = kinds[k]
            byte = 1.0 if device.byte_weights else 2.0
            if device.vendor != "nvidia" and rng.random() < 0.5:
                byte = 1.0
            least = smallest(model, device, byte)
            luck = float(np.exp(rng.normal(0.0, LUCK)))
            for step in range(3):
                size = least << step
                over = size > device.per_node
                if size > LARGEST or (over and (step or not across_nodes)):
                    break
                if step and rng.random() < 0.35:
                    continue
                memory = size * device.gigabytes * USABLE
                room = min(1.0, 1.3 * (memory - model.parameters * byte) / memory)
                speed = size * SCALING ** np.log2(size) * (ACROSS_NODES if over else 1.0) * luck
                owner.append(m)
                on.append(k)
                devices.append(size)
                rates.append([float(speed / seconds_per_request(b, model, device, byte, room)) for b in BUCKETS])
                start.append(30 + model.parameters * byte / 2)
    option_model, option_devices, option_rate = np.array(owner), np.array(devices), np.array(rates)

    share = popularity / popularity.sum()
    total = int(places[2].sum()) * t
    demand = np.zeros((models, len(BUCKETS)))
    for m in np.unique(option_model):
        mine = option_model == m
        per_request = option_devices[mine] * (mix[m] / option_rate[mine]).sum(axis=1)
        demand[m] = mix[m] / np.median(per_request) * share[m] * total
    quota = np.bincount(tenant, weights=share * total, minlength=tenants)
    return Fleet(
        kinds,
        *places,
        rank,
        tenant,
        demand,
        option_model,
        np.array(on),
        option_devices,
        option_rate,
        np.array(start),
        np.ceil(quota * 1.3 + 32).astype(np.int64),
    )


def snapshot_of(fleet: Fleet, *, start_price: float = 0.0) -> tuple[Snapshot, Demand]:
    """The placer's view. Models that fit no type are left out. `start_price` 0 = the first plan of an empty fleet, judged by cost alone."""
    kinds = fleet.kinds
    prefix = [f"{kinds[k].name}-z{z}" for k, z in zip(fleet.cell_type, fleet.cell_zone, strict=True)]
    cells = []
    for p, (k, size) in enumerate(zip(fleet.cell_type, fleet.cell_size, strict=True)):
        name, device = f"{prefix[p]}-{p:03d}", kinds[k]
        sizes = tuple(1 << i for i in range(int(size).bit_length()))
        cells.append(
            Cell(
                name,
                device.name,
                device.name,
                device.vendor,
                sizes,
                per_node=int(size),
                cost_per_device_hour=device.price,
                failure_domain=f"z{fleet.cell_zone[p]}",
                network_domain=name,
            )
        )
    nodes = tuple(
        Node(f"n{i:05d}", cells[fleet.node_cell[i]].name, int(s), int(s), int(s - f))
        for i, (s, f) in enumerate(zip(fleet.node_size, fleet.node_free, strict=True))
    )
    served = sorted(set(fleet.option_model.tolist()))
    names = {m: f"t{fleet.tenant[m]:02d}/m{m:04d}" for m in served}
    models = tuple(
        Model(
            names[m],
            PRIORITIES[fleet.rank[m]],
            2 if fleet.rank[m] == 0 else 1,
            MANY,
            tenant=f"t{fleet.tenant[m]:02d}",
            spread=Spread.STRICT if fleet.rank[m] == 0 else Spread.NONE,
            max_domain_share_percent=50,
        )
        for m in served
    )
    options = []
    for o, m in enumerate(fleet.option_model.tolist()):
        device, size = kinds[fleet.option_type[o]], int(fleet.option_devices[o])
        options.append(
            Option(
                f"{names[m]}|{device.name}|{size}",
                names[m],
                device.name,
                device.vendor,
                "default",
                "vllm",
                size,
                span=max(1, size // device.per_node),
                bucket_work=tuple(fleet.option_rate[o].tolist()),
                start_seconds=float(fleet.option_start[o]),
            )
        )
    quotas = tuple(Quota(f"t{i:02d}", int(q)) for i, q in enumerate(fleet.quota))
    policy = Policy(start_price=start_price, quotas=quotas, time_limit_s=600.0)
    demand = Demand(
        tuple(ModelDemand(names[m], float(fleet.demand[m].sum()), tuple(fleet.demand[m].tolist()), reason="Load") for m in served)
    )
    return Snapshot(tuple(cells), nodes, models, tuple(options), (), policy), demand


def fleet_named(name: str, seed: int = 0, t: float | None = None) -> Fleet:
    """A named instance, at another load if `t` is given. ValueError with the list of names for another one."""
    if name in OPENB_NAMES:
        return make_openb(OPENB_NAMES[name] if t is None else t, seed)
    if name not in NAMES:
        raise ValueError(f"--instance {name!r}: no such instance, allowed are {', '.join(sorted(NAMES | OPENB_NAMES))}")
    return make(NAMES[name] if t is None else replace(NAMES[name], t=t), seed)
