"""The next replicas of each model, prepared so that scaling needs no solver, and the fast step for when they do not fit any more.

A ladder step is a complete act: option, cell and node of a start, or the replica to stop. Ups come in the order of the time until they
serve, then of money; each model's ups are legal one after the other, the ups of all models together need not fit at once. They obey every
rule of a plan, except that urgent steps may use a pool's reserve. Downs take the dearest work first and never cut into the minimum or the
demand.

`fast_step` answers one model's change on the live fleet, all others fixed: the prepared step if it still fits, else the best single change
at the prices of the last plan's rows. Fast steps alone drift away from the optimum, so the caller solves anew after a few of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from placement import bars
from placement.free import Need, fits
from placement.lack import lack, minimum, serves
from placement.live import Acts, At, Live
from placement.nodes import Group, members
from placement.problem import Problem
from placement.types import Demand, LadderStep, Option, Plan, Snapshot, Spread

STEPS = 2
EPS = 1e-9
LATE = float("inf")  # of a start whose duration is unknown
Answers = dict[tuple[int, Need], tuple[str, ...] | None]  # (cell, what is needed) -> the best nodes


@dataclass(frozen=True, slots=True)
class Up:
    """A start that is legal now."""

    option: Option
    cell: int
    place: str
    cost: float


def ladder(problem: Problem, acts: Acts, *, steps: int = STEPS, live: Live | None = None) -> tuple[LadderStep, ...]:
    """Up to `steps` steps up and down per model, in the order of models and then +1, +2, -1, -2."""
    live = live or Live.of_problem(problem, acts)
    found: list[LadderStep] = []
    for model in live.models:
        found += ups(live, model, steps)
        found += downs(live, model, steps)
    return tuple(found)


def ups(live: Live, model: str, steps: int = STEPS, *, asked: list[Answers] | None = None) -> list[LadderStep]:
    """The next starts. The fleet is as before afterwards. `asked` gets, per step, each question to the free devices with its answer."""
    found: list[LadderStep] = []
    taken = []
    ranked = _ranked(live, _growing(live, model))
    for delta in range(1, steps + 1):
        answers: Answers = {}
        best = _first(live, ranked, answers)
        if asked is not None:
            asked.append(answers)
        if best is None:
            break
        found.append(_step(live, best, delta))
        if delta < steps:
            taken.append((best, live.states(best.place)))
            live.start(best.option, best.cell, best.place)
    for up, before in reversed(taken):
        live.undo(up.option, up.cell, before)
    return found


Ranked = tuple[tuple[float, float, int, str], Option, list[int]]


def _ranked(live: Live, options: Iterable[Option]) -> list[Ranked]:
    """(option, cells of one kind) in the order in which starts are preferred: those that serve soonest first, then by money."""
    found = [((_seconds(o), live.price(o, kind[0]), o.devices, o.id), o, kind) for o in options for kind in live.kinds(o)]
    found.sort(key=lambda item: item[0])
    return found


def _first(live: Live, ranked: Iterable[Ranked], answers: Answers) -> Up | None:
    """The first of them that is legal now; `starts_of` need not look at the rest."""
    for _, equal in groupby(ranked, key=lambda item: item[0]):
        best: Up | None = None
        for (_, cost, _, _), o, kind in equal:
            for c, place in _places(live, o, kind, (), reserve=False, answers=answers):
                if best is None or place < best.place:
                    best = Up(o, c, place, cost)
        if best is not None:
            return best
    return None


def _growing(live: Live, model: str) -> list[Option]:
    """The options that one more replica may use; of a split deployment those of the role that has least beyond its need."""
    m = live.models[model]
    if m.hold or live.count(model) >= m.max_replicas:
        return []
    options = [o for o in live.options_of[model] if serves(live, o)]
    entries = [d for d in live.entries(model) if sum(d.loads) > 0]
    if len(entries) < 2:
        return options
    have = live.have[model]

    def slack(role: str, load: float) -> tuple[float, str]:
        return (sum(work_of(live, o) * have[o.id] for o in options if o.role == role) / load, role)

    tightest = min(slack(d.role, sum(d.loads)) for d in entries)[1]
    return [o for o in options if o.role == tightest]


def starts_of(live: Live, options: Iterable[Option], *, lift: Collection[str] = (), reserve: bool = False) -> Iterator[Up]:
    """Every start of these options that the rules (but those in `lift`) and the nodes allow: the best node of each cell."""
    for o in options:
        for kind in live.kinds(o):
            for c, place in _places(live, o, kind, lift, reserve=reserve):
                yield Up(o, c, place, live.price(o, c))


def _places(
    live: Live, option: Option, kind: list[int], lift: Collection[str], *, reserve: bool, answers: Answers | None = None
) -> list[tuple[int, str]]:
    need = live.need(option, kind[0])
    found = [] if need is None else [(c, live.free.best(c, need)) for c in kind]
    if answers is not None and need is not None:
        answers.update(((c, need), place) for c, place in found)
    places = [(c, place) for c, place in found if place is not None]
    if not places or bars.bar(live, option, kind[0], lift=lift, reserve=reserve) is not None:
        return []
    return [(c, ",".join(place)) for c, place in places]


def _seconds(option: Option) -> float:
    return LATE if option.start_seconds is None else option.start_seconds


def _step(live: Live, up: Up, delta: int) -> LadderStep:
    return LadderStep(
        model=up.option.model,
        delta=delta,
        option=up.option.id,
        cell=live.cells[up.cell].name,
        node=up.place,
        replica="",
        work_per_s=work_of(live, up.option),
        hourly_cost=up.cost,
        eta_seconds=up.option.start_seconds,
    )


def work_of(live: Live, option: Option) -> float:
    """Work/s of one replica at the mix of lengths that is asked."""
    for d in live.entries(option.model):
        if d.role == option.role and len(d.loads) > 1 and sum(d.loads) > 0:
            pairs = list(zip(d.loads, option.rates(len(d.loads)), strict=False))
            if any(w > 0 and r <= 0 for w, r in pairs):
                return 0.0
            return sum(d.loads) / sum(w / r for w, r in pairs if w > 0)
    return option.rates(1)[0]


def downs(live: Live, model: str, steps: int = STEPS) -> list[LadderStep]:
    """The next stops, dearest work first; not yet serving ones before others of the same price. The fleet is as before afterwards."""
    m = live.models[model]
    found: list[LadderStep] = []
    if m.hold or any(not d.may_shrink for d in live.entries(model)):
        return found
    placed, vendors, domains = Counter(live.placed[model]), Counter(live.vendors[model]), Counter(live.domains[model])
    runs = {g.option for g, ids in live.kept[model] if ids}
    work = {o.id: work_of(live, o) for o in live.options_of[model] if o.id in runs}
    order = [
        (-(g.cost / per if (per := work.get(g.option or "", 0.0)) > 0 else LATE), g.preference, replica, g)
        for g, ids in live.kept[model]
        if g.stoppable
        for replica in ids[:steps]
    ]
    order.sort(key=lambda e: e[:3])
    for delta in range(1, steps + 1):
        if placed.total() <= minimum(live, model):
            break
        allowed: dict[tuple[At, str, str], bool] = {}
        for entry in order:
            g = entry[3]
            kind = (_at(live, g), g.vendor, g.domain)
            if kind not in allowed:
                allowed[kind] = _may_go(live, model, g, placed, vendors, domains)
            if allowed[kind]:
                break
        else:
            break
        order.remove(entry)
        placed[_at(live, g)] -= 1
        vendors[g.vendor] -= 1
        domains[g.domain] -= 1
        cell = "" if g.cell is None else live.cells[g.cell].name
        found.append(LadderStep(model, -delta, g.option or "", cell, g.node, entry[2], work.get(g.option or "", 0.0), g.cost, None))
    return found


def _at(live: Live, g: Group) -> At:
    return g.option or "", "" if g.cell is None else live.cells[g.cell].network_domain


def _may_go(live: Live, model: str, g: Group, placed: Counter[At], vendors: Counter[str], domains: Counter[str]) -> bool:
    """Whether the rest still carries what is asked and breaks no spread that holds today."""
    rest = placed.copy()
    rest[_at(live, g)] -= 1
    if lack(live, model, rest) is not None:
        return False
    m, total = live.models[model], rest.total()
    after = vendors.copy()
    after[g.vendor] -= 1
    if len(+after) < min(m.min_vendors, total, len(+vendors)):
        return False
    share = m.max_vendor_share_percent
    if share is not None and _over(after, total, share) > max(0.0, _over(vendors, total + 1, share)):
        return False
    if m.spread is not Spread.STRICT:
        return True
    zones = domains.copy()
    zones[g.domain] -= 1
    share = m.max_domain_share_percent
    return _over(zones, total, share) <= max(0.0, _over(domains, total + 1, share))


def _over(count: Counter[str], total: int, share: int) -> float:
    """By how much the largest count is above its share: count <= 1 - a + a * total."""
    return max((100 * (n - 1) - share * (total - 1) for n in count.values()), default=0)


def fast_step(snapshot: Snapshot, demand: Demand, plan: Plan, model: str, *, live: Live | None = None) -> LadderStep | None:
    """The next single change of this model for `demand`, others fixed; None if none is needed or none fits.

    `live` is the fleet with the plan and the steps since; it is built if absent (slow) and not changed: `apply` does that.
    """
    live = live or Live.of(snapshot, demand, plan)
    if lack(live, model) is None:
        return next(iter(downs(live, model, 1)), None)
    options = _growing(live, model)
    for step in plan.ladder:
        if step.model == model and step.delta == 1 and still_fits(live, step):
            return step
    prices = _prices(plan)
    best = min(starts_of(live, options), key=lambda up: _value(live, up, prices), default=None)
    return None if best is None else _step(live, best, 1)


def still_fits(live: Live, step: LadderStep) -> bool:
    """Whether a prepared start is legal on the live fleet."""
    option, cell = live.options.get(step.option), live.cell_index.get(step.cell)
    if option is None or cell is None or not serves(live, option):
        return False
    need = live.need(option, cell)
    nodes = members(step.node)
    known = [live.free.states[n] for n in nodes if n in live.free.states and live.free.cell_of[n] == cell]
    if need is None or len(known) < len(nodes) or not all(fits(state, need) for state in known):
        return False
    return bars.bar(live, option, cell, reserve=False) is None


def apply(live: Live, step: LadderStep) -> None:
    """The live fleet after the step."""
    if step.delta > 0:
        live.start(live.options[step.option], live.cell_index[step.cell], step.node)
    else:
        live.stop(step.replica, step.model)


def _prices(plan: Plan) -> dict[str, list[tuple[int, float]]]:
    """Prices of the last plan's rows: per cell by size, other rows under their name (size 1)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in plan.rows:
        kind, _, rest = row.name.partition("/")
        cell, _, size = rest.rpartition("/")
        if kind == "bins" and size.isdigit():
            found.setdefault(f"bins/{cell}", []).append((int(size), row.price))
        else:
            found.setdefault(row.name, []).append((1, row.price))
    return found


def _value(live: Live, up: Up, prices: dict[str, list[tuple[int, float]]]) -> tuple[float, float, float, str, str]:
    """Money per work gained, the place priced as in the last plan."""
    o, where = up.option, live.cells[up.cell]
    pod = o.devices // o.span
    priced = up.cost
    priced += o.span * sum(price * (pod // size) for size, price in prices.get(f"bins/{where.name}", []) if size <= pod)
    names = [f"limit/{where.pool}", f"reserve/{where.pool}"]
    names += [bars.quota_name(live.quotas[q]) for q in live.quotas_for(o.model, o.profile)]
    priced += o.devices * sum(price for name in names for _, price in prices.get(name, []))
    priced += up.cost * sum(price for _, price in prices.get("budget", []))
    gained = work_gained(live, o)
    per = priced / gained if gained > 0 else LATE
    return (per, priced, _seconds(o), o.id, up.place)


def work_gained(live: Live, option: Option) -> float:
    """About the share of its role's work that one more replica carries, to compare options: the lengths that it serves, at their mix.

    A model of counts gains the same by each. (The exact share is `lack.carried`; it takes a small program per question.)
    """
    for d in live.entries(option.model):
        if d.role == option.role and sum(d.loads) > 0:
            served = [(w, r) for w, r in zip(d.loads, option.rates(len(d.loads)), strict=False) if w > 0 and r > 0]
            if not served:
                return 0.0
            return sum(w for w, _ in served) / sum(d.loads) / sum(w / r for w, r in served)
    return 1.0
