"""All or nothing: services that share a stock per device type, each served fully or not at all. No nodes, no moves, no unmet shares.

First as many services as possible are placed, priority by priority (the lowest number first), then the cost is least. It is the problem in
which placers without nodes are compared (`bench.placement solve`), and it runs on the same column engine as a fleet: the pricing problem of
a service is a covering knapsack, solved exactly (`cover`), so the master's LP value is a bound for every plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from placement._solver import Limits, SolverError, Watchdog
from placement.columnform import Block, ColumnForm, Floats, Ints, option_prices, served_prices
from placement.columns import Columns
from placement.cover import cover, covers_below
from placement.integer import integer_master
from placement.master import WIDTH, Master, Pool, Priced, finite
from placement.types import DEFAULT, Effort, PlacementError

PASSES = 3  # integer masters of one goal
WIDEST = 0.02  # of the bound: a wider window of reduced costs holds more columns than help
PER_SERVICE, SEARCH = 60, 4000  # columns and search steps of one service
COUNTED, SETTLED = 0.02, 3e-4  # relative gaps at which a goal is reached: a count (money weighs at most a fifth of one), money
NODES, BINARIES = 150, 1500  # of one integer master: more columns cost minutes in a scarce instance and gained 0.02 %
CLOSE = 1.5e-3  # relative gap that another integer master is not worth
PRICING = 3000  # search steps of one service's pricing; beyond them the bound of what is left counts
MONEY = 0.2  # of one service: what the money of all plans may weigh while services are counted
FEW = 0.25  # of the columns: fewer new ones are not worth another integer master
SECONDS = 600.0  # watchdog; effort is counted in rounds and nodes
SERVED = 1e-6  # relative: a service is placed when its replicas cover this much less than its demand at most


@dataclass(frozen=True, slots=True)
class AllotCandidate:
    accelerator: str
    device_type: str
    devices: int
    rate: float  # of one replica, in the unit of the demand; 0 = cannot serve
    cost: float  # of one replica


@dataclass(frozen=True, slots=True)
class AllotService:
    name: str
    priority: int  # 1 = first
    demand: float
    candidates: tuple[AllotCandidate, ...]


@dataclass(frozen=True, slots=True)
class AllotPlan:
    replicas: tuple[tuple[str, str, int], ...]  # (service, accelerator, count > 0), sorted
    placed: int
    cost: float
    outcome: str  # Optimal (proven within 1e-4), Feasible, Greedy


def allot(services: Sequence[AllotService], stock: Mapping[str, int], effort: Effort = DEFAULT) -> AllotPlan:
    """The plan. PlacementError for input that makes no sense; never fails otherwise: without a solver the greedy plan counts."""
    _validate(services, stock)
    run = _Run.of(services, stock)
    if run is None:
        return AllotPlan((), 0, 0.0, "Optimal")
    counts, outcome = run.solved(effort)
    return run.plan(counts, outcome)


def allot_bound(services: Sequence[AllotService], stock: Mapping[str, int], plan: AllotPlan) -> float:
    """A lower bound of the cost of every plan that places as many services per priority as `plan` does; 0 if none is known."""
    run = _Run.of(services, stock)
    if run is None:
        return 0.0
    placed = {name for name, _, _ in plan.replicas}
    levels = sorted({s.priority for s in run.services})
    served = [sum(1 for s in run.services if s.priority == p and s.name in placed) for p in levels]
    try:
        master, priced = run.priced(run.form_for(served, counting=None), _indexes(run, plan), rounds=400)
    except SolverError:
        return 0.0
    del master
    return max(0.0, priced.bound)


def _validate(services: Sequence[AllotService], stock: Mapping[str, int]) -> None:
    names: set[str] = set()
    for s in services:
        if s.name in names:
            raise PlacementError(f"services: {s.name!r} appears twice, names must be unique")
        names.add(s.name)
        if not (np.isfinite(s.demand) and s.demand >= 0):
            raise PlacementError(f"services[{s.name}].demand: {s.demand!r}, must be a finite number of at least 0")
        for c in s.candidates:
            at = f"services[{s.name}].candidates[{c.accelerator}]"
            if not (np.isfinite(c.rate) and c.rate >= 0):
                raise PlacementError(f"{at}.rate: {c.rate!r}, must be a finite number of at least 0")
            if not (np.isfinite(c.cost) and c.cost >= 0):
                raise PlacementError(f"{at}.cost: {c.cost!r}, must be a finite number of at least 0")
            if c.devices < 1:
                raise PlacementError(f"{at}.devices: {c.devices!r}, must be at least 1")
    for kind, devices in stock.items():
        if devices < 0:
            raise PlacementError(f"stock[{kind}]: {devices!r}, must be at least 0")


Counts = NDArray[np.int64]  # [O] replicas per option


@dataclass(frozen=True, slots=True)
class _Run:
    services: tuple[AllotService, ...]
    form: ColumnForm
    accelerator: tuple[str, ...]  # per option

    @classmethod
    def of(cls, services: Sequence[AllotService], stock: Mapping[str, int]) -> _Run | None:
        ordered = tuple(sorted((s for s in services), key=lambda s: (s.priority, s.name)))
        kinds = sorted({c.device_type for s in ordered for c in s.candidates})
        row = {k: i for i, k in enumerate(kinds)}
        first, model, rate, cost, devices, upper, side_row, names = [0], [], [], [], [], [], [], []
        for m, s in enumerate(ordered):
            for c in sorted(s.candidates, key=lambda c: c.accelerator):
                most = stock.get(c.device_type, 0) // c.devices
                if c.rate <= 0 or most < 1 or s.demand <= 0:
                    continue
                model.append(m)
                rate.append(c.rate)
                cost.append(c.cost)
                devices.append(c.devices)
                upper.append(most)
                side_row.append(row[c.device_type])
                names.append(c.accelerator)
            first.append(len(model))
        if not model:
            return None
        n, count = len(model), len(ordered)
        zeros, none = np.zeros(n), np.zeros(n, np.int64)
        levels = {p: i for i, p in enumerate(sorted({s.priority for s in ordered}))}
        demand = np.array([[s.demand * (1.0 - SERVED / 2)] for s in ordered])
        form = ColumnForm(
            first=np.array(first), rank=np.array([levels[s.priority] for s in ordered]), load=demand,
            minimum=np.zeros(count, np.int64), maximum=np.full(count, 2**31 - 1), weight=np.zeros(count), missing=np.zeros(count),
            disrupt=np.zeros(count), disrupt_one=np.zeros(count), base=np.zeros(count), cost_cap=np.full(count, np.inf),
            min_vendors=np.ones(count, np.int64), vendor_share=np.ones(count), zone_share=np.ones(count), whole=True,
            model=np.array(model), rate=np.array(rate)[:, None], cost=np.array(cost), start=zeros, stop=zeros, running=none,
            upper=np.array(upper), devices=np.array(devices), vendor=none, zone=none - 1, family=np.arange(n), slot=none, slots=1,
            block=Block(np.array([0, 0]), np.zeros(0, np.int64), np.zeros(0), np.zeros(1, np.int64)),
            hard=np.array([float(stock.get(k, 0)) for k in kinds]),
            side_ptr=np.arange(n + 1), side_row=np.array(side_row), side_value=np.array(devices, np.float64),
        )  # fmt: skip
        return cls(ordered, form, tuple(names))

    # ---- forms of the passes

    def form_for(self, served: Sequence[int | None], counting: int | None) -> ColumnForm:
        """Rows "at least `served[p]` services of priority p are placed" (None = no row yet).

        `counting` = the priority whose unplaced services are the goal; None = the cost is the goal.
        """
        form = self.form
        rows = len(form.hard)
        wanted = [0 if n is None else n for n in served]
        hard = np.concatenate([form.hard, -np.array(wanted, np.float64)])
        weight, cost = np.zeros(form.models), form.cost
        if counting is not None:
            # An unplaced service costs 2 * weight = 1; the money of all others together stays below one service.
            weight = np.where(form.rank == counting, 0.5, 0.0)
            cost = form.cost * (MONEY / max(1.0, self.dearest()))
        return replace(form, hard=hard, weight=weight, cost=cost, served_row=form.rank + rows)

    def dearest(self) -> float:
        """More than any sensible plan costs: every service on its dearest option alone."""
        form = self.form
        alone = form.cost * np.minimum(form.upper, np.ceil(form.load[form.model, 0] / form.rate[:, 0]))
        top = np.zeros(form.models)
        np.maximum.at(top, form.model, alone)
        return float(top.sum())

    # ---- column generation with exact pricing

    def priced(self, form: ColumnForm, start: Ints | None, rounds: int) -> tuple[Master, Priced]:
        watchdog = Watchdog(SECONDS)
        pool = Pool.of(form)
        master = Master(pool, watchdog)
        master.start()
        if start is not None:
            master.add(self.columns_of(master, start))
        else:
            master.add(self.columns_of(master, self.greedy(form)))
        result = master.generate(20)
        best, smooth = -np.inf, np.zeros(len(form.hard))
        for _ in range(rounds):
            hard, sigma = master.prices()
            improved = 0
            for prices in (hard,) if not np.isfinite(best) else (hard, 0.6 * smooth + 0.4 * hard):
                bound, found = self.exact(master, prices)
                if bound > best:
                    best, smooth = bound, prices
                at_lp = finite(option_prices(form, hard))
                served = served_prices(form, hard)
                value = found.money + (found.count * at_lp[found.option]).sum(axis=1)
                value -= np.where((found.count > 0).any(axis=1), served[found.owner], 0.0) if served is not None else 0.0
                fresh = found.taken(value < sigma[found.owner] - 1e-9 * max(1.0, abs(result.value)))
                improved += len(fresh)
                master.add(fresh)
            if not improved or result.value - best <= 1e-7 * max(1e-9, abs(result.value)):
                break
            answer = master.solve()
            result = replace(result, value=answer.objective, share=master.shares())
        return master, replace(result, bound=min(best, result.value), share=master.shares())

    def exact(self, master: Master, hard: Floats) -> tuple[float, Columns]:
        """True bound at these prices and the best column of each service."""
        form = master.form
        prices = form.cost + finite(option_prices(form, hard))
        served = served_prices(form, hard)
        total = -float(hard @ form.hard)
        # Only what is cheaper than every column known so far is of interest; where there is nothing, the cheapest known one is the minimum.
        least, _ = master.pool.least(hard)
        known = master.columns.money + (master.columns.count * finite(option_prices(form, hard))[master.columns.option]).sum(axis=1)
        if served is not None:
            known = known - np.where((master.columns.count > 0).any(axis=1), served[master.columns.owner], 0.0)
        np.minimum.at(least, master.columns.owner, known)
        owner: list[int] = []
        option = np.zeros((form.models, WIDTH), np.int32)
        count = np.zeros((form.models, WIDTH), np.int32)
        for m in range(form.models):
            low, high = int(form.first[m]), int(form.first[m + 1])
            gain = float(served[m]) if served is not None else 0.0
            below = float(least[m]) + gain
            got = cover(
                float(form.load[m, 0]), form.rate[low:high, 0].tolist(), prices[low:high].tolist(), form.upper[low:high].tolist(),
                below=below - 1e-9 * max(1.0, abs(below)), steps=PRICING,
            )  # fmt: skip
            total += min(float(least[m]), got.bound - gain)
            if got.counts is None:
                continue
            used = [i for i, c in enumerate(got.counts) if c][:WIDTH]
            option[len(owner), : len(used)] = [low + i for i in used]
            count[len(owner), : len(used)] = [got.counts[i] for i in used]
            owner.append(m)
        n = len(owner)
        return total, master.pool.generator.priced(np.array(owner, np.int64), option[:n], count[:n], np.ones(n))

    def columns_of(self, master: Master, counts: Counts) -> Columns:
        """The columns of a plan, one per service (the empty one included)."""
        form = master.form
        option = np.zeros((form.models, WIDTH), np.int32)
        count = np.zeros((form.models, WIDTH), np.int32)
        phi = np.zeros(form.models)
        for m in range(form.models):
            used = np.flatnonzero(counts[form.first[m] : form.first[m + 1]])[:WIDTH] + form.first[m]
            option[m, : len(used)], count[m, : len(used)] = used, counts[used]
            phi[m] = 1.0 if len(used) else 0.0
        return master.pool.generator.priced(np.arange(form.models), option, count, phi)

    # ---- plans

    def solved(self, effort: Effort) -> tuple[Counts, str]:
        levels = int(self.form.rank.max()) + 1
        total = [int((self.form.rank == p).sum()) for p in range(levels)]
        best = self.greedy(self.form)
        outcome = "Greedy"
        try:
            served: list[int | None] = list(self.served(best))
            if served != total:
                best, served = self._count(best, total, effort)
            best, outcome = self._cheapest(best, served, effort)
        except SolverError:
            return best, outcome  # the best plan so far stands
        return best, outcome

    def _count(self, best: Counts, total: list[int], effort: Effort) -> tuple[Counts, list[int | None]]:
        """As many services as possible, priority by priority."""
        served: list[int | None] = [None] * len(total)
        for p in range(len(total)):
            have = self.served(best)[p]
            if have < total[p]:
                found, bound = self._pass(self.form_for(served, p), best, effort, counting=True)
                if self._ahead(found, best, p):
                    best = found
                del bound
            served[p] = self.served(best)[p]
        return best, served

    def _ahead(self, one: Counts, other: Counts, level: int) -> bool:
        return self.served(one)[: level + 1] > self.served(other)[: level + 1]

    def _cheapest(self, best: Counts, served: Sequence[int | None], effort: Effort) -> tuple[Counts, str]:
        found, bound = self._pass(self.form_for(served, None), best, effort, counting=False)
        cost = [float(self.form.cost @ c) for c in (found, best)]
        if self.served(found) >= self.served(best) and cost[0] < cost[1]:
            best = found
        money = float(self.form.cost @ best)
        return best, "Optimal" if money - bound <= 1e-4 * money else "Feasible"

    def _pass(self, form: ColumnForm, start: Counts, effort: Effort, *, counting: bool) -> tuple[Counts, float]:
        """The best plan of one goal and its bound: integer masters over more and more columns until none could help.

        A plan better than the best one known uses no column whose reduced cost exceeds the gap between the two bounds. So once every such
        column is in the integer master, its optimum is the optimum.
        """
        gap = COUNTED if counting else SETTLED
        master, priced = self.priced(form, start, effort.rounds)
        first = np.full(form.models, -1)
        columns = self.columns_of(master, start)
        first[columns.owner] = master.add(columns)
        master.solve()
        hard, sigma = master.prices()
        best, money, bound = first, float(master.columns.money[first].sum()), priced.bound
        for step in range(PASSES):
            near = self._reduced(master, hard, sigma)
            chosen = integer_master(
                master, near, Limits(nodes=min(NODES, effort.mip_nodes), relative_gap=gap, seconds=SECONDS), best, BINARIES
            )
            better = chosen.money < money - 1e-9 * abs(money)
            best, money = chosen.column, chosen.money
            if (
                money - bound <= (CLOSE if step else gap) * abs(money)
                or (step and not better)
                or (counting and self._counted(master, best, bound))
            ):
                break
            fresh = self._near(master, hard, sigma, min(money - bound, WIDEST * abs(bound)))
            if not fresh or (fresh < FEW * len(near) and not better):
                break
        counts = np.zeros(form.options, np.int64)
        taken = master.columns.taken(best)
        np.add.at(counts, taken.option.reshape(-1), taken.count.reshape(-1))
        return counts, bound

    def _counted(self, master: Master, columns: Ints, bound: float) -> bool:
        """Whether no plan can place one more: unplaced services are whole, and money weighs less than `MONEY` of one."""
        weight = master.form.weight[master.columns.owner[columns]]
        unplaced = float((2.0 * weight)[(master.columns.count[columns] == 0).all(axis=1)].sum())
        return unplaced - 1.0 < bound - MONEY

    def _reduced(self, master: Master, hard: Floats, sigma: Floats) -> Floats:
        form, columns = master.form, master.columns
        value = columns.money + (columns.count * finite(option_prices(form, hard))[columns.option]).sum(axis=1)
        served = served_prices(form, hard)
        if served is not None:
            value = value - np.where((columns.count > 0).any(axis=1), served[columns.owner], 0.0)
        return np.asarray(value - sigma[columns.owner])

    def _near(self, master: Master, hard: Floats, sigma: Floats, window: float) -> int:
        """Enters every column of reduced cost below the window, up to a number per service; returns how many were new."""
        form = master.form
        prices = form.cost + finite(option_prices(form, hard))
        served = served_prices(form, hard)
        have = {
            (int(m), *((int(o), int(c)) for o, c in sorted(zip(option, count, strict=True)) if c))
            for m, option, count in zip(master.columns.owner, master.columns.option, master.columns.count, strict=True)
        }
        owner: list[int] = []
        options: list[list[int]] = []
        counts: list[list[int]] = []
        for m in range(form.models):
            low, high = int(form.first[m]), int(form.first[m + 1])
            gain = float(served[m]) if served is not None else 0.0
            least = float(sigma[m]) + gain
            found: list[tuple[float, tuple[int, ...]]] = []
            for part in (1 / 64, 1 / 16, 1 / 4, 1.0):  # a wide window at once would search long for columns that are cut off anyway
                found = covers_below(
                    float(form.load[m, 0]), form.rate[low:high, 0].tolist(), prices[low:high].tolist(), form.upper[low:high].tolist(),
                    least + part * window, PER_SERVICE, SEARCH,
                )  # fmt: skip
                if len(found) >= PER_SERVICE:
                    break
            for _, cut in found:
                used = [i for i, c in enumerate(cut) if c]
                key = (m, *((low + i, cut[i]) for i in used))
                if len(used) <= WIDTH and key not in have:
                    owner.append(m)
                    options.append([low + i for i in used] + [0] * (WIDTH - len(used)))
                    counts.append([cut[i] for i in used] + [0] * (WIDTH - len(used)))
        if owner:
            made = master.pool.generator.priced(
                np.array(owner), np.array(options, np.int32), np.array(counts, np.int32), np.ones(len(owner))
            )
            master.add(made)
        # The new columns have no negative reduced cost: prices and bound stay.
        master.solve()
        return len(owner)

    def served(self, counts: Counts) -> list[int]:
        """Placed services per priority."""
        form = self.form
        rate = np.zeros(form.models)
        np.add.at(rate, form.model, form.rate[:, 0] * counts)
        # `cover` ends within 1e-9 of the load, and the load is asked 5e-7 below the demand: far inside what counts as served.
        placed = rate >= form.load[:, 0] * (1.0 - SERVED / 10)
        placed &= np.diff(form.first) > 0
        return [int(placed[form.rank == p].sum()) for p in range(int(form.rank.max()) + 1)]

    def greedy(self, form: ColumnForm) -> Counts:
        """By priority, then by what a service loses on its second best option; one option per service, or the first mix that fits."""
        left = self.form.hard.copy()
        counts = np.zeros(form.options, np.int64)
        load = form.load[:, 0]
        alone = np.ceil(load[form.model] / form.rate[:, 0] - 1e-9)
        money = np.where(alone <= form.upper, self.form.cost * alone, np.inf)
        regret = np.zeros(form.models)
        for m in range(form.models):
            two = np.sort(money[form.first[m] : form.first[m + 1]])[:2]
            regret[m] = np.inf if len(two) < 2 or not np.isfinite(two[1]) else two[1] - two[0]
        for m in sorted(range(form.models), key=lambda m: (form.rank[m], -regret[m], m)):
            low, high = int(form.first[m]), int(form.first[m + 1])
            options = np.arange(low, high)
            room = (left[form.side_row[low:high]] // form.side_value[low:high]).astype(np.int64)
            single = options[(alone[options] <= room) & np.isfinite(money[options])]
            if len(single):
                best = single[np.argmin(money[single])]
                counts[best] = int(alone[best])
                left[form.side_row[best]] -= counts[best] * form.side_value[best]
                continue
            got = cover(float(load[m]), form.rate[low:high, 0].tolist(), self.form.cost[low:high].tolist(), room.tolist(), steps=2000)
            if got.counts is None:
                continue
            use = np.array(got.counts)
            spent = np.zeros(len(left))
            np.add.at(spent, form.side_row[low:high], use * form.side_value[low:high])
            if (spent <= left + 1e-9).all():
                counts[low:high] = use
                left -= spent
        return counts

    def plan(self, counts: Counts, outcome: str) -> AllotPlan:
        rows = [(self.services[int(self.form.model[o])].name, self.accelerator[o], int(counts[o])) for o in np.flatnonzero(counts)]
        return AllotPlan(tuple(sorted(rows)), sum(self.served(counts)), float(self.form.cost @ counts), outcome)


def _indexes(run: _Run, plan: AllotPlan) -> Counts:
    at = {(run.services[int(run.form.model[o])].name, run.accelerator[o]): o for o in range(run.form.options)}
    counts = np.zeros(run.form.options, np.int64)
    for name, accelerator, count in plan.replicas:
        counts[at[(name, accelerator)]] = count
    return counts
