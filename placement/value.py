"""What a plan is worth, from plain counts: the goals in their order, then money. The same quantities as the rows of `general`.

Goals per rank, highest first: disruption (running replicas stopped beyond the model's surplus, young ones stopped that need not go, running
coverage lost), then shortfall (missing replicas, unmet share of the demand with the second half three times as dear, rules of spread that
what runs breaks). All in device-equivalents. Money: cost per hour, price of starts and stops, tie-breaks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from placement.problem import EPS_DEVICE, EPS_DOMAIN, EPS_STOP, Problem, unmet_price
from placement.share import Kind, share
from placement.types import Spread

TOLERANCE = 1e-6
LOWEST, APART, HIGHEST = 100.0, 100.0, 1e8  # weights of the published objective: per missing device-equivalent, in median prices
LOST, MOVED = 10.0, 0.1  # of one missing device-equivalent of the same rank
START_UNIT = 1800.0


@dataclass(frozen=True, slots=True)
class Value:
    """`tiers`: disruption and shortfall per rank in turn; `loss_by_rank` = the shortfalls alone; `hourly` = cost of what runs then."""

    tiers: tuple[float, ...]
    money: float
    loss_by_rank: tuple[float, ...]
    hourly: float
    change: float = 0.0  # prices of starts and stops, without tie-breaks
    lost_by_rank: tuple[float, ...] = ()  # running coverage that is lost, in device-equivalents
    moved_by_rank: tuple[float, ...] = ()  # replicas that stop beyond the surplus, times the devices of the smallest


@dataclass(slots=True)
class _Sum:
    disruption: float = 0.0
    lost: float = 0.0
    shortfall: float = 0.0
    hourly: float = 0.0
    change: float = 0.0
    ties: float = 0.0


def value(problem: Problem, starts: Sequence[int], stops: Sequence[int]) -> Value:
    """`starts` per way (shorter = 0), `stops` per group."""
    ranks = max(problem.rank, default=-1) + 1
    disruption, shortfall, lost = [0.0] * ranks, [0.0] * ranks, [0.0] * ranks
    begun: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for i, n in enumerate(starts):
        if n:
            begun[problem.ways[i].model].append((i, n))
    money = hourly = change = 0.0
    domains: list[set[str]] = [set() for _ in problem.models]
    for w in problem.ways:
        domains[w.model].add(w.domain)
    for m, rank in enumerate(problem.rank):
        mine = tuple(begun.get(m, ()))
        # By what a way is and not by its number: a split that is given up takes its ways with it.
        key = (
            tuple((problem.ways[i].option, problem.ways[i].cell, n) for i, n in mine),
            tuple(stops[i] for i in problem.groups_of[m]),
            len(domains[m]),
        )
        known = problem.worths.get(m)
        if known is None or known[0] != key:
            # From one set of counts to the next most models stay as they are.
            known = problem.worths[m] = (key, _model(problem, m, mine, domains[m], stops))
        one = known[1]
        disruption[rank] += one.disruption
        shortfall[rank] += one.shortfall
        lost[rank] += one.lost
        money += one.hourly + one.change + one.ties
        hourly += one.hourly
        change += one.change
    tiers = tuple(x for pair in zip(disruption, shortfall, strict=True) for x in pair)
    moved = tuple(d - x for d, x in zip(disruption, lost, strict=True))
    return Value(tiers, money, tuple(shortfall), hourly, change, tuple(lost), moved)


def start_price(problem: Problem, option: int, cost: float) -> float:
    """kappa * cost per hour * start seconds / 1800 s; a start whose duration is unknown has no price."""
    return problem.snapshot.policy.start_price * cost * (problem.options[option].start_seconds or 0.0) / START_UNIT


def _model(problem: Problem, m: int, begun: Sequence[tuple[int, int]], domains: set[str], stops: Sequence[int]) -> _Sum:
    model, want, unit = problem.models[m], problem.wants[m], problem.unit
    result = _Sum()
    by_domain: Counter[str] = Counter()
    by_vendor: Counter[str] = Counter()
    supply: Counter[Kind] = Counter()
    grown: Counter[tuple[int, float]] = Counter()  # per option and price: starts beyond what runs
    stopped = young = total = 0
    for i in problem.groups_of[m]:
        g, gone = problem.groups[i], stops[i]
        left = len(g.ids) - gone
        stopped += gone
        total += left
        young += gone if g.resident else 0
        result.hourly += left * g.cost
        result.change += gone * problem.stop_price(g)
        result.ties += unit * (left * EPS_DEVICE * g.devices + gone * EPS_STOP * (1.0 + g.preference))
        by_domain[g.domain] += left
        by_vendor[g.vendor] += left
        kind = problem.kind_of(g)
        if kind is not None:
            supply[kind] += left
            grown[(problem.option_index[g.option or ""], g.cost)] -= gone
    for i, n in begun:
        w = problem.ways[i]
        total += n
        result.hourly += n * w.cost
        result.ties += n * EPS_DEVICE * unit * w.size
        by_domain[w.domain] += n
        by_vendor[w.vendor] += n
        supply[problem.kind(w.option, w.cell)] += n
        grown[(w.option, w.cost)] += n
    result.change += sum(n * start_price(problem, o, cost) for (o, cost), n in sorted(grown.items()) if n > 0)
    if len(domains) >= 2 and want.maximum >= 2:
        result.ties += EPS_DOMAIN * unit * max(by_domain.values(), default=0)
    if model.hold:
        return result
    phi = share(want.needs, supply) if want.needs.any else 1.0
    result.shortfall = 2.0 * want.smallest * max(0, want.minimum - total) + want.need * unmet_price(1.0 - phi)
    result.shortfall += _broken(problem, m, by_vendor, by_domain, total)
    disrupted = max(0, stopped - want.surplus) + max(0, young - must_go(problem, m))
    result.lost = want.need * max(0.0, want.running_share - phi)
    result.disruption = want.smallest * disrupted + result.lost
    return result


def must_go(problem: Problem, m: int) -> int:
    """Resident replicas that have to go: what runs above the maximum and is more than the others that may stop."""
    want = problem.wants[m]
    if want.running <= want.maximum:
        return 0
    others = sum(len(g.ids) for i in problem.groups_of[m] if (g := problem.groups[i]).stoppable and not g.resident)
    return max(0, want.running - want.maximum - others)


def _broken(problem: Problem, m: int, by_vendor: Counter[str], by_domain: Counter[str], total: int) -> float:
    """Rules of spread that the counts break; only what already ran may."""
    model, want = problem.models[m], problem.wants[m]
    broken = 0
    held = {v: n for v, n in by_vendor.items() if n > 0}
    if model.min_vendors > 1 and len(held) < min(model.min_vendors, total):
        broken += 1
    rules = [(held, model.max_vendor_share_percent)]
    if model.spread is Spread.STRICT:
        rules.append((dict(by_domain), model.max_domain_share_percent))
    for counts, most in rules:
        if most is not None and most < 100:
            broken += sum(1 for n in counts.values() if n > 0 and 100 * (n - 1) > most * (total - 1) + 1e-6)
    return float(want.smallest * broken)


def better(one: Value, other: Value, tolerance: float = TOLERANCE) -> bool:
    """Whether `one` comes first: the first goal that differs decides, then money."""
    for a, b in zip(one.tiers, other.tiers, strict=True):
        if abs(a - b) > tolerance * max(1.0, abs(a), abs(b)):
            return a < b
    return one.money < other.money - 1e-9 * max(1.0, abs(other.money))


def short(problem: Problem, found: Value) -> bool:
    """Whether something is missing that some plan could serve."""
    never = [0.0] * len(found.loss_by_rank)
    for m, want in enumerate(problem.wants):
        if not problem.models[m].hold:
            never[problem.rank[m]] += want.base_loss
    return any(loss - base > TOLERANCE * max(1.0, loss) for loss, base in zip(found.loss_by_rank, never, strict=True))


def weighed(problem: Problem, found: Value) -> float:
    """The order of goals as one number, for fleets that are planned by columns: money + weights of ranks 100 apart.

    Coverage that is lost counts `LOST` times what is missing, a replica that moves `MOVED` times: so a rank moves for its own shortage, and
    not for that of the rank below.
    """
    ranks = len(found.loss_by_rank)
    total = found.money
    for r in range(ranks):
        goal = found.loss_by_rank[r] + LOST * found.lost_by_rank[r] + MOVED * found.moved_by_rank[r]
        total += rank_weight(ranks, r) * problem.unit * goal
    return total


def rank_weight(ranks: int, rank: int) -> float:
    """Weight of one missing device-equivalent of a rank in the published objective, in median prices of a device-hour."""
    return float(min(HIGHEST, LOWEST * APART ** (ranks - 1 - rank)))


def objective(problem: Problem, found: Value, money: float) -> float:
    """The published objective: `money` (cost and prices of change, without tie-breaks) + weighted shortfall."""
    ranks = len(found.loss_by_rank)
    return money + sum(rank_weight(ranks, r) * problem.unit * loss for r, loss in enumerate(found.loss_by_rank))
