"""More instances of the services family, made by seed: as many services as wanted, any load, stock in proportion.

The five kept files are of one family: services27, each service several times, at other loads. A drawn instance takes the 27 services in
turn; each copy of a model is a slightly faster or slower model (its rates move together), each service has its own demand, some candidates
are missing, and the stock of each device type lies around its share. Load 1 leaves room, 1.5 is short of devices on most seeds.
"""

from __future__ import annotations

import numpy as np

from bench.placement.openb import DATA
from bench.placement.services import Candidate, Instance, Service, read

BASE = "services27"
SPEED, DEMAND, STOCK = 0.15, 0.30, 0.15  # spread of a copy's rates, of a service's demand, of a type's stock (logarithms)
MISSING = 0.15  # of the candidates


def kept(name: str) -> Instance:
    """One of the five files."""
    return read(DATA / "services" / f"{name}.csv.gz", DATA / "services" / f"{name}.stock.csv")


def draw(services: int, load: float, seed: int) -> Instance:
    """`services` services at `load` times the family's demand."""
    base, rng = kept(BASE), np.random.default_rng([services, round(load * 1000), seed])
    order = sorted(base.services, key=lambda s: (s.name.split("-", 1)[1], s.priority))
    copies = -(-services // len(order))
    drawn: list[Service] = []
    for copy in range(copies):
        speeds: dict[str, float] = {}
        for s in order:
            model = s.name.split("-", 1)[1]
            speed = speeds.setdefault(model, float(np.exp(rng.normal(0.0, SPEED))))
            demand = max(1.0, round(s.demand * load * float(np.exp(rng.normal(0.0, DEMAND)))))
            there = rng.random(len(s.candidates)) >= MISSING
            there[int(rng.integers(len(there)))] = True
            candidates = tuple(
                Candidate(c.accelerator, c.device_type, c.devices, round(c.rate * speed, 6), c.cost)
                for c, keep in zip(s.candidates, there, strict=True)
                if keep
            )
            drawn.append(Service(f"{s.name}#{copy:02d}", s.priority, demand, candidates))
    chosen = [drawn[i] for i in sorted(rng.permutation(len(drawn))[:services].tolist())]
    factor = services / len(order)
    stock = {kind: max(1, round(n * factor * float(np.exp(rng.normal(0.0, STOCK))))) for kind, n in base.stock.items()}
    return Instance(tuple(sorted(chosen, key=lambda s: s.name)), stock)
