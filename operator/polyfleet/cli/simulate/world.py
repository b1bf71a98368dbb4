"""The fleet of a simulation: which replica stands where, what fails, and plans of the operator's own placer that become true over time.

A start holds its devices from the plan on and serves after its cold start (uniform within ±20 %, by seed); one that waits for devices of
a replica that leaves begins when that one is gone. A replica that leaves drains; one that is replaced stays until its successors serve, as
the operator holds it back (`polyfleet.workloads`), unless its devices are what they wait for. Replicas of other models are placed and
cost, but serve nobody here. Time is seconds from the beginning of the trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

import placement
from autoscaling.replay.engine import READY
from autoscaling.replay.fleet import Option as Kind
from autoscaling.types import Demand
from placement.types import Model, ModelDemand, Plan, Reason, Replica, ReplicaState, Shortfall, Snapshot, Warm
from polyfleet.cli.simulate.faults import Fault
from polyfleet.cli.simulate.servers import Servers, speed_of
from polyfleet.cli.simulate.subject import Subject
from polyfleet.scaling.starts import COLD, Starts

SPREAD = 0.2


@dataclass(slots=True)
class Unit:
    """One replica that stands somewhere."""

    row: Replica
    option: str
    since: float  # when it entered its state
    created: float
    ready_at: float | None = None  # None: it waits for `waits`
    waits: frozenset[str] = frozenset()
    price: float = 0.0  # per hour
    pool: str = ""
    profile: str = ""
    vendor: str = ""


@dataclass(slots=True)
class Change:
    """What a plan, a fault or time did to the fleet."""

    started: Counter[str] = field(default_factory=Counter)  # by pool, of the simulated model
    stopped: Counter[str] = field(default_factory=Counter)
    missing: int = 0  # replicas of the simulated model without room
    why: str = ""
    lost: int = 0  # requests


class World:
    def __init__(self, subject: Subject, servers: Servers, mean: tuple[float, float], seed: int) -> None:
        self.subject, self.servers, self.mean = subject, servers, mean
        self.dice = np.random.default_rng([seed, 21])
        self.units: dict[str, Unit] = {}
        self.down: dict[str, int] = {}  # node -> faults that hold it down
        self.starts = Starts()
        self.plan: Plan | None = None
        self.warm: Warm | None = None
        self.victims: list[str] = []  # replicas of the simulated model that the plan stops and that still serve, in its order
        self.floor = 0  # serving replicas of it that a change must leave
        self.share = 1.0  # of the work that a change must leave
        self.least_work, self.may_shrink = 0.0, False  # of the demand that the plan is for
        self.missing = 0  # replicas of it without room, by the last plan
        self.freed = False  # devices came free since the last plan
        self.solves = 0
        self._serial = 0
        self._cells = {cell.name: cell for cell in subject.snapshot.cells}
        self._cell_of = {node.name: node.cell for node in subject.snapshot.nodes}
        self._options = {option.id: option for option in subject.snapshot.options}
        for row in subject.snapshot.replicas:
            self._stands(row)

    # ---- what is there

    def _stands(self, row: Replica) -> None:
        """A replica of the snapshot: it serves at the beginning, unless it leaves already."""
        if row.state is ReplicaState.DRAINING:
            return
        mine = row.model == self.subject.model
        # A replica of an option that no longer exists has no number: it is taken for one of the model's slowest.
        option = row.option or ""
        if mine and option not in self.subject.rates:
            option = min(self.subject.rates, key=lambda name: (self.subject.rates[name], name))
        self._add(replace(row, state=ReplicaState.SERVING, resident=False), option, 0.0, 0.0)

    def _add(self, row: Replica, option: str, now: float, ready_at: float | None, waits: frozenset[str] = frozenset()) -> Unit:
        cell = self._cells[self._cell_of[row.node.split(",")[0]]] if row.node.split(",")[0] in self._cell_of else None
        unit = Unit(row, option, now, now, ready_at, waits)
        if cell is not None:
            unit.price, unit.pool, unit.profile, unit.vendor = cell.cost_per_device_hour * row.devices, cell.pool, cell.profile, cell.vendor
        self.units[row.id] = unit
        if row.model == self.subject.model and ready_at is not None:
            self._enter(unit, now)
        return unit

    def _enter(self, unit: Unit, now: float) -> None:
        assert unit.ready_at is not None
        speed = speed_of(self.subject.rates[unit.option], self.subject.costs, self.mean)
        self.servers.enter(unit.row.id, now, unit.ready_at, Kind(unit.option, speed, hourly_cost=unit.price))

    def mine(self) -> list[Unit]:
        return [unit for _, unit in sorted(self.units.items()) if unit.row.model == self.subject.model]

    def snapshot(self, models: tuple[Model, ...]) -> Snapshot:
        """The fleet as the placer may see it now."""
        base = self.subject.snapshot
        nodes = tuple(replace(node, eligible=False, excluded_reason="NotReady") if node.name in self.down else node for node in base.nodes)
        rows = tuple(unit.row for _, unit in sorted(self.units.items()))
        return replace(base, nodes=nodes, replicas=rows, models=models)

    # ---- what happens

    def settle(self, now: float) -> None:
        """What came true since the last tick: replicas that serve, that are gone, that may begin."""
        phases = self.servers.phases()
        for name, unit in sorted(self.units.items()):
            mine, state = unit.row.model == self.subject.model, unit.row.state
            if state is ReplicaState.DRAINING and (name not in phases if mine else now > unit.since):
                del self.units[name]
                self.freed = True
            elif state is ReplicaState.STARTING and (phases.get(name) == READY if mine else (unit.ready_at or 0.0) <= now):
                unit.row, unit.since = replace(unit.row, state=ReplicaState.SERVING), unit.ready_at or now
                if mine:
                    self.starts.add(unit.option, COLD, unit.since - unit.created)
        for _, unit in sorted(self.units.items()):
            if unit.ready_at is None and not unit.waits & self.units.keys():
                self._begin(unit, now)
        if self.victims:
            self.drain(now)

    def _begin(self, unit: Unit, now: float) -> None:
        unit.ready_at, unit.since, unit.created = now + self._draw(unit.option), now, now
        unit.row = replace(unit.row, state=ReplicaState.STARTING)
        if unit.row.model == self.subject.model:
            self._enter(unit, now)

    def _draw(self, option: str) -> float:
        return self.subject.starts[option].seconds * float(self.dice.uniform(1.0 - SPREAD, 1.0 + SPREAD))

    def strike(self, fault: Fault, now: float) -> Change:
        """Its nodes take nothing, and what ran there is gone with its requests."""
        done = Change()
        for node in fault.nodes:
            self.down[node] = self.down.get(node, 0) + 1
        for name, unit in sorted(self.units.items()):
            if fault.nodes & set(unit.row.node.split(",")):
                if unit.row.model == self.subject.model:
                    done.lost += self.servers.die(name, now)
                    done.stopped[unit.pool] += 1
                del self.units[name]
        return done

    def restore(self, fault: Fault) -> None:
        for node in fault.nodes:
            self.down[node] -= 1
            if not self.down[node]:
                del self.down[node]
        self.freed = True

    # ---- plans

    def replan(self, demand: Demand, now: float, *, at_once: bool = False) -> Change:
        """The placer's plan for this demand, and its first steps. `at_once`: what it starts serves already (the beginning)."""
        demand = self._in_move(demand)
        models = tuple(self._model(model, demand) for model in self.subject.snapshot.models)
        mine = [option for option in self.subject.snapshot.options if option.model == self.subject.model]
        # A floor of cache is asked for only where the cache of every option is known: else nothing would reach it.
        cache = demand.kv_floor if all(option.kv_tokens is not None for option in mine) else 0.0
        asked = tuple(
            ModelDemand(m.name, demand.work_per_s, demand.bucket_work, "", cache, demand.may_shrink, str(demand.reason))
            if m.name == self.subject.model and demand.work_per_s > 0
            else ModelDemand(m.name, may_shrink=m.name != self.subject.model or demand.may_shrink)
            for m in models
        )
        plan, self.warm = placement.plan(self.snapshot(models), placement.Demand(asked), warm=self.warm)
        self.plan, self.freed = plan, False
        self.least_work, self.may_shrink = demand.work_per_s, demand.may_shrink
        self.solves += 1
        return self._apply(plan, now, demand.max_replicas, at_once)

    def _in_move(self, demand: Demand) -> Demand:
        """Where nothing may shrink, those that a move replaces may still go, and nothing else: as the operator asks (`scaling.sizes`)."""
        if demand.may_shrink or not self.victims:
            return demand
        stay = [unit for unit in self.mine() if unit.row.state is not ReplicaState.DRAINING and unit.row.id not in self.victims]
        least = max(demand.min_replicas, min(len(stay), demand.max_replicas))
        work = max(demand.work_per_s, sum(self._work(unit) for unit in stay))
        return replace(demand, may_shrink=True, min_replicas=least, work_per_s=work)

    def _model(self, model: Model, demand: Demand) -> Model:
        if model.name != self.subject.model:
            return model
        low, high = demand.min_replicas, demand.max_replicas
        return replace(model, min_replicas=low, max_replicas=high, min_vendors=min(self.subject.min_vendors, max(1, high)), hold=False)

    def _apply(self, plan: Plan, now: float, most: int, at_once: bool) -> Change:
        done = Change()
        self.victims = []
        for name in plan.stop:
            unit = self.units[name]
            mine = unit.row.model == self.subject.model
            done.stopped[unit.pool] += mine
            if unit.ready_at is None:  # it waited for devices and holds none
                del self.units[name]
            elif mine:
                self.victims.append(name)
            else:
                self._leave(unit, now)
        for start in plan.starts:
            self._serial += 1
            option = self._options[start.option]
            waits = frozenset() if at_once else frozenset(start.after) & self.units.keys()
            state = ReplicaState.SERVING if at_once else ReplicaState.PENDING if waits else ReplicaState.STARTING
            row = Replica(f"sim-{self._serial:05d}", start.model, start.option, start.node, option.devices, state, 1_000_000 + self._serial)
            ready_at = now if at_once else None if waits else now + self._draw(start.option)
            unit = self._add(row, start.option, now, ready_at, waits)
            done.started[unit.pool] += start.model == self.subject.model
        aimed = len(self.mine()) - len(self.victims) - sum(unit.row.state is ReplicaState.DRAINING for unit in self.mine())
        self.floor = max(0, aimed - self.subject.unavailable(aimed))
        self.share = min(1.0, self.floor / aimed) if aimed > 0 else 0.0
        self.drain(now)
        for item in plan.shortfalls:
            if item.model == self.subject.model and not (aimed >= most and _only_maximum(item)):
                done.missing = item.replicas
                done.why = item.reasons[0].reason.value if item.reasons else ""
        self.missing = done.missing
        return done

    def drain(self, now: float) -> None:
        """Lets those go that the plan stops and that nobody misses: they do not serve yet, nothing is on its way to replace them, their
        devices are waited for, or enough others serve and do the work that is asked (all of it where nothing may shrink)."""
        needed = {name for unit in self.units.values() for name in unit.waits}
        mine = [unit for unit in self.mine() if unit.row.state is not ReplicaState.DRAINING]
        coming = any(unit.row.state is not ReplicaState.SERVING and unit.row.id not in self.victims for unit in mine)
        serving = sum(unit.row.state is ReplicaState.SERVING for unit in mine)
        work = sum(self._work(unit) for unit in mine if unit.row.state is ReplicaState.SERVING)
        least = min(work, self.least_work) if self.may_shrink else work
        kept: list[str] = []
        for name in self.victims:
            unit = self.units.get(name)
            if unit is None or unit.row.state is ReplicaState.DRAINING:
                continue
            serves = unit.row.state is ReplicaState.SERVING
            if (
                not serves
                or name in needed
                or not coming
                or (serving - 1 >= self.floor and work - self._work(unit) >= least * self.share - 1e-9)
            ):
                self._leave(unit, now)
                serving -= serves
                work -= self._work(unit) * serves
            else:
                kept.append(name)
        self.victims = kept

    def _work(self, unit: Unit) -> float:
        """Work/s of one replica; 0 where it is not known."""
        option = self._options.get(unit.row.option or "")
        return (option.work_per_s or 0.0) if option is not None else 0.0

    def _leave(self, unit: Unit, now: float) -> None:
        unit.row, unit.since = replace(unit.row, state=ReplicaState.DRAINING), now
        if unit.row.model == self.subject.model:
            self.servers.leave(unit.row.id, now)


def _only_maximum(short: Shortfall) -> bool:
    """Work beyond what `maxReplicas` carry is no missing device: the operator says `AtMaximum` of it (`polyfleet.scaling.sizes`)."""
    return bool(short.reasons) and short.reasons[0].reason is Reason.SLO_UNREACHABLE


def told(pools: Iterable[tuple[str, int]], sign: str) -> str:
    """`+2 h100-a, +1 ppu-1`."""
    return ", ".join(f"{sign}{count} {pool}" for pool, count in sorted(pools) if count)
