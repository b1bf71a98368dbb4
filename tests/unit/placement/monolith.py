"""One large program for a tiny fleet, written apart from the placer and in another form: replicas per option and *node*, weights instead of
passes. Solved by HiGHS' own interface, so that it shares neither rows nor solver layer with the placer.

For fleets where nothing runs yet: money + sum of weight * loss, the weight of a rank 1000 times that of the next.
"""

from __future__ import annotations

from statistics import median

import highspy
import numpy as np

from placement.types import Demand, Model, Snapshot, Spread

WEIGHT, APART = 1000.0, 1000.0


class Monolith:
    def __init__(self, snapshot: Snapshot, demand: Demand) -> None:
        self.s, self.demand = snapshot, {d.model: d for d in demand.models}
        self.h = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in (("output_flag", False), ("mip_rel_gap", 0.0), ("mip_abs_gap", 1e-9), ("mip_feasibility_tolerance", 1e-9)):
            self.h.setOptionValue(option, value)
        self.columns = 0
        self.cost: list[float] = []
        self.cells = {c.name: c for c in snapshot.cells}
        self.options = {o.id: o for o in snapshot.options}
        self.x: dict[tuple[str, str], int] = {}  # (option, node) -> variable
        for o in snapshot.options:
            for n in snapshot.nodes:
                c = self.cells[n.cell]
                free = n.allocatable - n.held_by_others
                if o.profile == c.profile and o.devices in c.sizes and o.devices <= free and o.eligible:
                    price = self._price(o.devices, c.cost_per_device_hour, o.start_seconds)
                    self.x[(o.id, n.name)] = self.variable(0, free // o.devices, price)
        for n in snapshot.nodes:
            mine = {v: float(self.options[o].devices) for (o, name), v in self.x.items() if name == n.name}
            self.row(mine, -np.inf, n.allocatable - n.held_by_others)
        for q in snapshot.policy.quotas:
            models = {m.name for m in snapshot.models if m.tenant == q.tenant}
            held = {v: float(self.options[o].devices) for (o, _), v in self.x.items() if self.options[o].model in models}
            self.row(held, -np.inf, q.devices)
        ranks = sorted({m.priority for m in snapshot.models})
        self.unit = median(c.cost_per_device_hour for c in snapshot.cells)
        for m in snapshot.models:
            self._model(m, WEIGHT * self.unit * APART ** ranks.index(m.priority))

    def _price(self, devices: int, each: float, seconds: float | None) -> float:
        cost = devices * each
        return cost + self.s.policy.start_price * cost * (seconds or 0.0) / 1800.0

    def variable(self, low: float, high: float, cost: float, *, whole: bool = True) -> int:
        self.h.addVar(float(low), float(high))
        index, self.columns = self.columns, self.columns + 1
        self.h.changeColCost(index, cost)
        if whole:
            self.h.changeColIntegrality(index, highspy.HighsVarType.kInteger)
        return index

    def row(self, row: dict[int, float], low: float, high: float) -> None:
        self.h.addRow(float(low), float(high), len(row), np.array(list(row), dtype=np.int32), np.array(list(row.values())))

    def _model(self, m: Model, weight: float) -> None:
        mine = [(o, n, v) for (o, n), v in self.x.items() if self.options[o].model == m.name]
        asked = self.demand[m.name]
        every = {v: 1.0 for _, _, v in mine}
        own = [o for o in self.s.options if o.model == m.name]
        missing = self.variable(0, np.inf, weight * 2.0 * min(o.devices for o in own), whole=False)
        self.row({**every, missing: 1.0}, m.min_replicas, np.inf)
        self.row(every, -np.inf, m.max_replicas)
        need = sum(load / median(o.rates(len(asked.loads))[b] / o.devices for o in own) for b, load in enumerate(asked.loads) if load > 0)
        half, rest = (self.variable(0, 0.5, weight * need * k, whole=False) for k in (1.0, 3.0))
        flow: dict[int, dict[int, float]] = {b: {half: 1.0, rest: 1.0} for b, load in enumerate(asked.loads) if load > 0}
        for o in own:
            fill: dict[int, float] = {v: -1.0 for name, _, v in mine if name == o.id}
            for b, rate in enumerate(o.rates(len(asked.loads))):
                if b in flow:
                    y = self.variable(0, 1, 0.0, whole=False)
                    flow[b][y] = 1.0
                    fill[y] = asked.loads[b] / rate
            self.row(fill, -np.inf, 0.0)
        for row in flow.values():
            self.row(row, 1.0, 1.0)
        if m.spread is Spread.STRICT:
            share = m.max_domain_share_percent / 100.0
            for zone in sorted({c.failure_domain for c in self.s.cells}):
                nodes = {n.name for n in self.s.nodes if self.cells[n.cell].failure_domain == zone}
                self.row({v: (1.0 if n in nodes else 0.0) - share for _, n, v in mine}, -np.inf, 1.0 - share + 1e-9)

    def solve(self) -> float:
        self.h.run()
        assert self.h.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return float(self.h.getInfo().objective_function_value)
