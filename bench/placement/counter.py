"""The referee of fleet plans: recounts nodes, quotas, spread, cost and the work that the replicas cover. It shares no code with the placer.

It reads only the placer's types. What a set of replicas covers is a linear program of its own: the largest share of every bucket that can
be routed to them at once. Rules that no instance here uses (vendors, budgets, rings) are not counted; the placer's own `check` does that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.placement.highs import INFINITY, Program
from placement.types import Demand, ModelDemand, Option, Plan, Snapshot, Spread


@dataclass(frozen=True, slots=True)
class Count:
    faults: tuple[str, ...]  # rules broken; empty = a valid plan
    bind_failures: int  # planned starts that their node cannot take
    over_allocated: int  # nodes on which the target or the moment of change needs more devices than there are
    cost: float  # per hour
    served: dict[str, float]  # model -> share of its work, 0 to 1
    missing: dict[str, int]  # model -> replicas below its minimum
    unmet_percent: dict[int, float]  # priority -> unmet work in device-equivalents


def recount(snapshot: Snapshot, demand: Demand, plan: Plan, covered: Sequence[ModelDemand] = ()) -> Count:
    """The plan seen from outside. `covered` = the demand that a standing plan was made for, while the new one lies in its noise band:
    what the plan reports as unmet refers to that one; what is counted here refers to `demand`."""
    return _Counter(snapshot, demand).count(plan, covered)


class _Counter:
    def __init__(self, snapshot: Snapshot, demand: Demand) -> None:
        self.snapshot, self.demand = snapshot, demand
        self.nodes = {n.name: n for n in snapshot.nodes}
        self.cells = {c.name: c for c in snapshot.cells}
        self.options = {o.id: o for o in snapshot.options}
        self.models = {m.name: m for m in snapshot.models}
        self.faults: list[str] = []

    def count(self, plan: Plan, covered: Sequence[ModelDemand]) -> Count:
        failures, over = self._nodes(plan)
        cost = self._rules(plan)
        counts: dict[str, dict[str, int]] = {m.name: {} for m in self.snapshot.models}
        for a in plan.assignments:
            mine = counts[a.model]
            mine[a.option] = mine.get(a.option, 0) + a.replicas
        asked = {d.model: d.loads for d in self.demand.models}
        served = shares(self.options, asked, counts)
        promised = shares(self.options, asked | {d.model: d.loads for d in covered}, counts) if covered else served
        missing = {
            m.name: m.min_replicas - sum(counts[m.name].values())
            for m in self.snapshot.models
            if sum(counts[m.name].values()) < m.min_replicas
        }
        self._told(plan, missing, promised)
        return Count(tuple(self.faults), failures, over, cost, served, missing, self._unmet(served))

    def _nodes(self, plan: Plan) -> tuple[int, int]:
        room = {n.name: n.allocatable - n.held_by_others for n in self.snapshot.nodes}
        target: dict[str, int] = defaultdict(int)
        now: dict[str, int] = defaultdict(int)
        for r in self.snapshot.replicas:
            for node in r.node.split(","):
                now[node] += r.devices // len(r.node.split(","))
        for a in plan.assignments:
            option, places = self.options[a.option], a.node.split(",")
            if len(set(places)) != option.span or any(p not in self.nodes for p in places):
                self.faults.append(f"{a.option}: on {a.node}, which is not {option.span} nodes of the fleet")
                continue
            for place in places:
                there, cell = self.nodes[place], self.cells[self.nodes[place].cell]
                if there.cell != a.cell or cell.profile != option.profile:
                    self.faults.append(f"{a.option}: on {place} of {there.cell}, planned in {a.cell}")
                if option.span > 1 and (option.devices // option.span != there.installed or there.held_by_others):
                    self.faults.append(f"{a.option}: takes a part of {place}, replicas over several nodes take whole nodes")
                target[place] += a.replicas * option.devices // option.span
        failures = 0
        held: dict[str, int] = defaultdict(int)
        kept = set(plan.keep)
        for r in self.snapshot.replicas:
            if r.id in kept:
                for node in r.node.split(","):
                    held[node] += r.devices // len(r.node.split(","))
        gone = {r.id: r for r in self.snapshot.replicas if r.id in set(plan.stop)}
        for s in plan.starts:
            option, places = self.options[s.option], s.node.split(",")
            each = option.devices // option.span
            for place in places:
                held[place] += each
                if not s.after:
                    now[place] += each
            if any(p not in room or held[p] > room[p] for p in places):
                failures += 1
            if any(name not in gone or not set(gone[name].node.split(",")) & set(places) for name in s.after):
                self.faults.append(f"{s.option}: waits for {s.after}, which does not leave {s.node}")
        over = {n for n, used in target.items() if used > room[n]} | {n for n, used in now.items() if n in room and used > max(0, room[n])}
        self.faults += [f"node {n}: more devices than it has" for n in sorted(over)]
        return failures, len(over)

    def _rules(self, plan: Plan) -> float:
        tenant: dict[str, int] = defaultdict(int)
        zones: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        cost = 0.0
        for a in plan.assignments:
            devices = self.options[a.option].devices * a.replicas
            tenant[self.models[a.model].tenant] += devices
            zones[a.model][self.cells[a.cell].failure_domain] += a.replicas
            cost += devices * self.cells[a.cell].cost_per_device_hour
        for q in self.snapshot.policy.quotas:
            if not q.profiles and tenant[q.tenant] > q.devices:
                self.faults.append(f"quota of {q.tenant}: {tenant[q.tenant]} devices, allowed {q.devices}")
        for name, mine in zones.items():
            model, total = self.models[name], sum(mine.values())
            if model.spread is Spread.STRICT and max(mine.values()) > 1 + (total - 1) * model.max_domain_share_percent / 100 + 1e-9:
                self.faults.append(f"{name}: {max(mine.values())} of {total} replicas in one failure domain")
            if total > model.max_replicas:
                self.faults.append(f"{name}: {total} replicas, allowed {model.max_replicas}")
        return cost

    def _told(self, plan: Plan, missing: Mapping[str, int], served: Mapping[str, float]) -> None:
        """Every shortfall is reported."""
        said = {s.model: s for s in plan.shortfalls}
        for name, short in missing.items():
            if name not in said or said[name].replicas < short:
                self.faults.append(f"{name}: {short} replicas below the minimum, not reported")
        for name, share in served.items():
            told = said[name].unmet_share if name in said else 0.0
            if 1.0 - share > told + 1e-4:
                self.faults.append(f"{name}: {100 * (1 - share):.3f} % unmet, reported {100 * told:.3f} %")

    def _unmet(self, served: Mapping[str, float]) -> dict[int, float]:
        need = device_equivalents(self.snapshot, self.demand)
        total: dict[int, float] = {m.priority: 0.0 for m in self.snapshot.models}
        lost = dict(total)
        for m in self.snapshot.models:
            total[m.priority] += need[m.name]
            lost[m.priority] += need[m.name] * (1.0 - served[m.name])
        return {p: (100.0 * lost[p] / total[p] if total[p] > 0 else 0.0) for p in sorted(total, reverse=True)}


def device_equivalents(snapshot: Snapshot, demand: Demand) -> dict[str, float]:
    """Per model: its work over its options' median speed per device, bucket by bucket."""
    loads = {d.model: d.loads for d in demand.models}
    speeds: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for o in snapshot.options:
        speeds[o.model].append(tuple(rate / o.devices for rate in o.rates(len(loads.get(o.model, (0.0,))))))
    need: dict[str, float] = {}
    for m in snapshot.models:
        each = [median(column) for column in zip(*speeds[m.name], strict=True)] if speeds[m.name] else []
        need[m.name] = sum(load / speed for load, speed in zip(loads.get(m.name, ()), each, strict=False) if speed > 0)
    return need


def shares(
    options: Mapping[str, Option], loads: Mapping[str, Sequence[float]], counts: Mapping[str, Mapping[str, int]]
) -> dict[str, float]:
    """Per model the largest share of all its buckets that these replicas can serve together (linear program, all models in one)."""
    found: dict[str, float] = {}
    open_: list[str] = []
    for name, mine in counts.items():
        work = [(b, load) for b, load in enumerate(loads.get(name, ())) if load > 0]
        if not work:
            found[name] = 1.0
        elif not mine:
            found[name] = 0.0
        elif len(mine) == 1:
            ((option, count),) = mine.items()
            rate = options[option].rates(len(loads[name]))
            full = sum(load / rate[b] if rate[b] > 0 else float("inf") for b, load in work)
            found[name] = min(1.0, count / full)
        else:
            open_.append(name)
    if open_:
        found |= _routed(options, loads, counts, open_)
    return found


def _routed(
    options: Mapping[str, Option], loads: Mapping[str, Sequence[float]], counts: Mapping[str, Mapping[str, int]], names: Sequence[str]
) -> dict[str, float]:
    program = Program()
    share_of: dict[str, int] = {}
    for name in names:
        share_of[name] = program.variable(cost=-1.0, upper=1.0)
        use: dict[str, list[tuple[int, float]]] = {o: [] for o in counts[name]}
        for b, load in enumerate(loads[name]):
            if load <= 0:
                continue
            parts: list[tuple[int, float]] = [(share_of[name], -1.0)]
            for o in counts[name]:
                rate = options[o].rates(len(loads[name]))[b]
                if rate > 0:
                    routed = program.variable(upper=1.0)
                    parts.append((routed, 1.0))
                    use[o].append((routed, load / rate))
            program.row(0.0, INFINITY, parts)
        for o, used in use.items():
            if used:
                program.row(-INFINITY, float(counts[name][o]), used)
    answer = program.solved().x
    return {name: min(1.0, max(0.0, float(answer[i]))) for name, i in share_of.items()}
