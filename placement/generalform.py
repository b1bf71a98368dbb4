"""The rows of the general form: integers per (option, cell) for starts and per (model, option, node) for stops. `general` solves it.

Variables   x_w   starts of way w (an option in a cell)             integer
            r_g   stops of group g (equal replicas on one node)     integer
            v_m   missing replicas, u_m = u1 + u2 unmet share of the demand (second half three times as dear)
            y_kb  share of length bucket b that replicas of kind k take, only where they serve it; none for models with one bucket
            k_m   disruption: stops beyond the model's surplus, young replicas that need not go, and running coverage that is lost

Rows        replicas   sum + v_m >= min, sum <= max (what may not stop counts, so max is never the cause of "no plan")
            work       sum_k y_kb + u = 1 per bucket, one u for all; sum_b load_b y_kb / T_kb <= replicas of kind k
                       (one bucket: sum T x + load * u >= load)
            networks   `same_network`: sum of y over decode = sum of y over prefill, per network domain and length bucket: a request is
                       prefilled and decoded in one domain
            KV         sum of tokens + floor * u >= floor, per floor
            bins       `bins`: exact per node
            limits     `rules`, `quota`: hard for everything that starts. Where what runs is already above, a binary says "nothing starts
                       under this limit"
            spread     `spread`: hard for what starts; what runs and breaks a rule may stay and costs half a missing replica

A rank's goals are `tiers[2r]` (disruption) and `tiers[2r + 1]` (shortfall). Money = cost per hour of all replicas + price of starts beyond
what runs of their option + price of stops + tie-breaks (`problem`). `value` computes the same from counts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from placement.bins import Cuts, add_cell
from placement.form import Coefficients, Form, add
from placement.nodes import Group
from placement.problem import EPS_DEVICE, EPS_DOMAIN, EPS_STOP, Problem, Way
from placement.quota import Lending, add_quotas
from placement.rules import add_limits, moves_of, rooted_of
from placement.share import Kind
from placement.spread import add_spread
from placement.value import must_go, start_price

SLACK = 1e-7  # of a share: what today's coverage is counted apart from the program, and CBC takes 1e-12 for infeasible


@dataclass(slots=True)
class Model:
    """The built form and where its parts are."""

    form: Form
    starts: dict[int, int]
    stops: dict[int, int]
    tiers: list[Coefficients]
    bases: list[float]
    money: Coefficients
    fixed_money: float
    cuts: dict[int, Cuts] = field(default_factory=dict)
    owed: dict[tuple[str, int], Coefficients] = field(default_factory=dict)  # shortfall per tenant that lends and rank
    lacks: dict[int, Coefficients] = field(default_factory=dict)  # shortfall per model
    lending: Lending = field(default_factory=Lending)
    moves: Coefficients = field(default_factory=dict)  # replicas that stop while their model starts others; empty = no limit
    rooted: Coefficients = field(default_factory=dict)  # replicas that leave a pool with a scheduler of its own and are replaced elsewhere
    early: Coefficients = field(default_factory=dict)  # resident replicas that stop and need not

    def extended(self, rows: list[tuple[Coefficients, float]]) -> Form:
        form = Form(self.form.lower, self.form.upper, self.form.integer, list(self.form.rows))
        for coefficients, bound in rows:
            form.row(coefficients, "<=", bound)
        return form


def build(problem: Problem) -> Model:
    form = Form()
    starts = {w.index: form.variable(0.0, float(max(0, problem.wants[w.model].maximum))) for w in problem.ways}
    stops = {g.index: form.variable(0.0, float(len(g.ids))) for g in problem.groups if g.stoppable}
    ranks = max(problem.rank, default=-1) + 1
    model = Model(form, starts, stops, [{} for _ in range(2 * ranks)], [0.0] * (2 * ranks), {}, 0.0)
    in_cell: dict[int, dict[int, int]] = defaultdict(dict)
    ways: list[list[Way]] = [[] for _ in problem.models]
    for w in problem.ways:
        in_cell[w.cell][w.index] = starts[w.index]
        ways[w.model].append(w)
    for cell, mine in sorted(in_cell.items()):
        cuts = add_cell(form, problem, cell, mine, stops)
        if cuts is not None:
            model.cuts[cell] = cuts
    for m in range(len(problem.models)):
        groups = [problem.groups[i] for i in problem.groups_of[m]]
        _add_model(problem, model, m, ways[m], groups)
    add_limits(problem, form, starts, stops)
    model.lending = add_quotas(problem, form, starts, stops)
    model.moves = moves_of(problem, form, starts, stops)
    model.rooted = rooted_of(problem, form, starts, stops)
    for m in range(len(problem.models)):
        groups = [problem.groups[i] for i in problem.groups_of[m]]
        _add_money(problem, model, m, ways[m], groups)
    return model


def _add_model(problem: Problem, model: Model, m: int, ways: list[Way], groups: list[Group]) -> None:
    form, want, held = model.form, problem.wants[m], problem.models[m]
    count: Coefficients = {model.starts[w.index]: 1.0 for w in ways}
    going: Coefficients = {model.stops[g.index]: 1.0 for g in groups if g.stoppable}
    for stop in going:
        count[stop] = -1.0
    fixed = sum(len(g.ids) for g in groups if not g.stoppable)
    if count:
        form.row(count, "<=", float(max(want.maximum, fixed) - want.running))
    if held.hold:
        return
    rank = problem.rank[m]
    disruption, shortfall = model.tiers[2 * rank], dict[int, float]()
    model.bases[2 * rank + 1] += want.base_loss
    missing = form.variable(0.0, float(want.minimum), integer=False)
    form.row({**count, missing: 1.0}, ">=", float(want.minimum - want.running))
    add(shortfall, missing, 2.0 * want.smallest)
    keeps = not problem.snapshot.policy.preemption or not held.preemptable
    if going:
        disrupted = form.variable(0.0, None, integer=False)
        form.row({**going, disrupted: -1.0}, "<=", float(want.surplus))
        add(disruption, disrupted, float(want.smallest))
        young: Coefficients = {model.stops[g.index]: 1.0 for g in groups if g.stoppable and g.resident}
        if young:
            early = form.variable(0.0, None, integer=False)
            form.row({**young, early: -1.0}, "<=", float(must_go(problem, m)))
            add(disruption, early, float(want.smallest))
            model.early[early] = 1.0
        if keeps:
            form.row(dict(count), ">=", float(min(want.running, want.minimum) - want.running))
    if want.needs.any:
        first = form.variable(0.0, 0.5, integer=False)
        second = form.variable(0.0, 0.5, integer=False)
        _add_work(problem, model, m, ways, groups, {first: 1.0, second: 1.0})
        add(shortfall, first, want.need)
        add(shortfall, second, 3.0 * want.need)
        if going:
            # Who may not be preempted loses no coverage, unless it runs above its maximum.
            lost = form.variable(0.0, 0.0 if keeps and want.running <= want.maximum else 1.0, integer=False)
            form.row({first: 1.0, second: 1.0, lost: -1.0}, "<=", 1.0 - want.running_share + SLACK)
            add(disruption, lost, want.need)
    add_spread(problem, form, m, ways, groups, model.starts, model.stops, shortfall)
    for variable, c in shortfall.items():
        add(model.tiers[2 * rank + 1], variable, c)
    model.lacks[m] = shortfall
    owed = model.owed.setdefault((held.tenant, rank), {})
    for variable, c in shortfall.items():
        add(owed, variable, c)


def _add_work(problem: Problem, model: Model, m: int, ways: list[Way], groups: list[Group], unmet: Coefficients) -> None:
    """`unmet`: the variables of the unmet share. Rows that bound it from below by what the replicas cover."""
    form, needs = model.form, problem.wants[m].needs
    supply: dict[Kind, Coefficients] = defaultdict(dict)
    running: dict[Kind, int] = defaultdict(int)
    for w in ways:
        add(supply[problem.kind(w.option, w.cell)], model.starts[w.index], 1.0)
    for g in groups:
        kind = problem.kind_of(g)
        if kind is not None:
            running[kind] += len(g.ids)
            if g.stoppable:
                add(supply[kind], model.stops[g.index], -1.0)
    kinds = sorted(set(supply) | set(running))
    for i, floor in enumerate(needs.floors):
        row: Coefficients = {v: floor * c for v, c in unmet.items()}
        have = 0.0
        for kind in kinds:
            have += kind[1][i] * running[kind]
            for variable, c in supply[kind].items():
                add(row, variable, kind[1][i] * c)
        form.row(row, ">=", floor - have)
    loads = needs.loads
    if len(loads) == 1 and loads[0] > 0:
        row = {v: loads[0] * c for v, c in unmet.items()}
        have = 0.0
        for kind in kinds:
            have += kind[0][0] * running[kind]
            for variable, c in supply[kind].items():
                add(row, variable, kind[0][0] * c)
        form.row(row, ">=", loads[0] - have)
    elif any(x > 0 for x in loads):
        _add_buckets(form, needs.half, loads, supply, running, unmet)


def _add_buckets(
    form: Form,
    half: int,
    loads: tuple[float, ...],
    supply: dict[Kind, Coefficients],
    running: dict[Kind, int],
    unmet: Coefficients,
) -> None:
    # Kinds that differ only in KV cache share the routing.
    merged: dict[tuple[tuple[float, ...], str], tuple[Coefficients, int]] = {}
    for kind in sorted(set(supply) | set(running)):
        row, have = merged.get((kind[0], kind[2]), ({}, 0))
        for variable, c in supply.get(kind, {}).items():
            add(row, variable, c)
        merged[(kind[0], kind[2])] = (row, have + running.get(kind, 0))
    demand: dict[int, Coefficients] = {b: dict(unmet) for b, load in enumerate(loads) if load > 0}
    network: dict[tuple[str, int], Coefficients] = defaultdict(dict)
    for (rates, domain), (counts, have) in sorted(merged.items(), key=lambda item: item[0]):
        capacity: Coefficients = {v: -c for v, c in counts.items()}
        for b in demand:
            if rates[b] > 0:
                y = form.variable(0.0, 1.0, integer=False)
                capacity[y] = loads[b] / rates[b]
                demand[b][y] = 1.0
                if half and demand.get((b + half) % (2 * half)) is not None:
                    network[(domain, b % half)][y] = 1.0 if b < half else -1.0
        form.row(capacity, "<=", float(have))
    for _, row in sorted(demand.items()):
        form.row(row, ">=", 1.0)
    for _, row in sorted(network.items()):
        form.row(row, "==", 0.0)


def _add_money(problem: Problem, model: Model, m: int, ways: list[Way], groups: list[Group]) -> None:
    unit, form = problem.unit, model.form
    begun: dict[tuple[int, float], Coefficients] = defaultdict(dict)
    for w in ways:
        add(model.money, model.starts[w.index], w.cost + EPS_DEVICE * unit * w.size)
        if start_price(problem, w.option, w.cost) > 0:
            begun[(w.option, w.cost)][model.starts[w.index]] = 1.0
    for g in groups:
        each = g.cost + EPS_DEVICE * unit * g.devices
        model.fixed_money += each * len(g.ids)
        if g.stoppable:
            price = problem.stop_price(g) + EPS_STOP * unit * (1.0 + g.preference)
            add(model.money, model.stops[g.index], price - each)
            key = (problem.option_index.get(g.option or "", -1), g.cost)
            if key in begun:
                begun[key][model.stops[g.index]] = -1.0
    for (option, cost), row in sorted(begun.items()):
        price = start_price(problem, option, cost)
        if min(row.values()) > 0:
            for variable in row:
                add(model.money, variable, price)
            continue
        grown = form.variable(0.0, None, integer=False)
        form.row({**row, grown: -1.0}, "<=", 0.0)
        add(model.money, grown, price)
    _add_evenness(problem, model, m, ways, groups)


def _add_evenness(problem: Problem, model: Model, m: int, ways: list[Way], groups: list[Group]) -> None:
    """Among plans of equal money: few replicas of a model in its fullest failure domain."""
    domains = sorted({w.domain for w in ways})
    if len(domains) < 2 or problem.wants[m].maximum < 2:
        return
    fullest = model.form.variable(0.0, None, integer=False)
    for domain in sorted({*domains, *(g.domain for g in groups)}):
        row: Coefficients = {model.starts[w.index]: 1.0 for w in ways if w.domain == domain}
        running = 0
        for g in groups:
            if g.domain == domain:
                running += len(g.ids)
                if g.stoppable:
                    add(row, model.stops[g.index], -1.0)
        model.form.row({**row, fullest: -1.0}, "<=", -float(running))
    add(model.money, fullest, EPS_DOMAIN * problem.unit)
