"""What a model lacks after a plan: replicas below its minimum, a share of its work, KV cache, length buckets that nobody serves."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from placement.coverage import covered
from placement.live import At, Live
from placement.share import Kind, Needs, share
from placement.snapshot import ROLES
from placement.types import ModelDemand, Option

EPS = 1e-9


@dataclass(frozen=True, slots=True)
class Lack:
    """Replicas are those below the minimum, or those that the rest would need of the model's strongest option, whichever is more. `below`
    counts also those that work that may not go (`held`) would need."""

    replicas: int
    unmet: float = 0.0  # share of the work
    role: str = ""  # the role that lacks most
    dead: tuple[int, ...] = ()  # its length buckets with work that no option serves
    kv: float = 0.0  # tokens of KV cache
    below: int = 0  # replicas below the minimum

    @property
    def size(self) -> tuple[int, float, float]:
        """To compare two plans: smaller is better in each part."""
        return self.replicas, self.unmet, self.kv


def minimum(live: Live, model: str) -> int:
    """Replicas asked at least; as many as run, while they may not shrink and their work cannot be weighed (`held`)."""
    m = live.models[model]
    if all(d.may_shrink for d in live.entries(model)) or held(live, model) is not None:
        return m.min_replicas
    return max(m.min_replicas, min(live.running[model], m.max_replicas))


def held(live: Live, model: str) -> float | None:
    """Work/s of what runs, where it may not shrink; None = it may, or its number is kept instead (`wants`)."""
    entries = live.entries(model)
    if all(d.may_shrink for d in entries) or len(entries) > 1 or len(entries[0].loads) > 1 or entries[0].loads[0] <= 0:
        return None
    if live.running[model] > live.models[model].max_replicas or any(rate <= 0 for rate, _ in live.rates[model]):
        return None
    return sum(rate * count for rate, count in live.rates[model])


def works(live: Live, model: str) -> bool:
    """Whether work is asked of the model, not only a number of replicas."""
    return any(sum(d.loads) > 0 for d in live.entries(model))


def serves(live: Live, option: Option) -> bool:
    """Whether the option may carry demand: eligible, and with a rate in a bucket that is asked, if work is asked."""
    if not option.eligible:
        return False
    for d in live.entries(option.model):
        if d.role == option.role and sum(d.loads) > 0:
            return any(r > 0 for r, w in zip(option.rates(len(d.loads)), d.loads, strict=False) if w > 0)
    return True


def carried(live: Live, entry: ModelDemand, placed: Counter[At]) -> float:
    """The share of the entry's work that these replicas carry, 0 to 1: one share for all its buckets, and for both roles of a split
    deployment whose requests stay in one network domain."""
    loads = reached(live, entry)
    if sum(loads) <= 0:
        return 1.0
    roles = sorted((d for d in live.entries(entry.model) if d.role), key=lambda d: d.role)
    if live.models[entry.model].same_network and len(roles) == len(ROLES):
        return _joined(live, roles, placed)
    have = by_option(placed)
    supply = []
    for o in live.options_of[entry.model]:
        if o.role == entry.role and have[o.id] > 0:
            rates = o.rates(len(loads))
            if any(rates):
                supply.append((rates, have[o.id]))
    if not supply:
        return 0.0
    if len(loads) == 1:
        return min(1.0, sum(r[0] * n for r, n in supply) / loads[0])
    return min(1.0, covered(loads, supply))


def beyond(live: Live, model: str) -> frozenset[int]:
    """Length buckets with work that no option serves, of a split deployment in one of its roles. They are reported, and left out of what
    is short as long as there are others."""
    if model not in live.beyond:
        found: set[int] = set()
        asked: set[int] = set()
        for d in live.entries(model):
            able = [o.rates(len(d.loads)) for o in live.options_of[model] if o.role == d.role and (o.eligible or o.id in live.runs)]
            asked |= {b for b, w in enumerate(d.loads) if w > 0}
            found |= {b for b, w in enumerate(d.loads) if w > 0 and not any(r[b] > 0 for r in able)}
        live.beyond[model] = frozenset(found if found != asked else ())
    return live.beyond[model]


def reached(live: Live, entry: ModelDemand) -> tuple[float, ...]:
    """The entry's work per bucket without that of buckets that nobody serves."""
    out = beyond(live, entry.model)
    return tuple(0.0 if b in out else w for b, w in enumerate(entry.loads)) if out else entry.loads


def by_option(placed: Counter[At]) -> Counter[str]:
    have: Counter[str] = Counter()
    for (option, _), n in placed.items():
        have[option] += n
    return have


def lack(live: Live, model: str, placed: Counter[At] | None = None) -> Lack | None:
    """What is missing with `placed` replicas (default: as planned); None if nothing is, or if the model is on hold."""
    m = live.models[model]
    if m.hold:
        return None
    if placed is None:
        placed = live.placed[model]
    counts = by_option(placed)
    count = counts.total()
    below = max(0, minimum(live, model) - count, _lost(live, model, counts))
    found = Lack(below, below=below)
    for d in live.entries(model):
        rest = 1.0 - carried(live, d, placed)
        tokens = sum((o.kv_tokens or 0.0) * counts[o.id] for o in live.options_of[model] if o.role == d.role)
        kv = max(0.0, d.kv_floor - tokens)
        if rest <= EPS:
            rest = 0.0
        if not rest and kv <= EPS * max(1.0, d.kv_floor) and not any(d.loads[b] > 0 for b in beyond(live, model)):
            continue
        mine = [o for o in live.options_of[model] if o.role == d.role and o.eligible]
        most = max((o.kv_tokens or 0.0 for o in mine), default=0.0)
        more = max(_by_work(mine, reached(live, d), rest), math.ceil(kv / most - EPS) if most > 0 else 0, 1)
        replicas = max(found.replicas, min(more, max(1, m.max_replicas - count)))
        worst = rest > found.unmet or (not found.unmet and not found.kv)
        dead = tuple(b for b, w in enumerate(d.loads) if w > 0 and not any(o.rates(len(d.loads))[b] > 0 for o in mine))
        found = Lack(replicas, max(rest, found.unmet), d.role if worst else found.role, dead or found.dead, max(kv, found.kv), below)
    return found if found.replicas else None


def _joined(live: Live, roles: list[ModelDemand], placed: Counter[At]) -> float:
    """The share of a split deployment's work that is prefilled and decoded in one network domain; `roles` in the order of `ROLES`."""
    half = len(roles[0].loads)
    loads = tuple(x for d in roles for x in reached(live, d))
    supply: Counter[Kind] = Counter()
    for (name, network), n in placed.items():
        option = live.options.get(name)
        if option is not None and option.role in ROLES:
            rates, none = option.rates(half), (0.0,) * half
            both = rates + none if option.role == ROLES[0] else none + rates
            supply[(both, (), network)] += n
    return share(Needs(loads, (), half), supply)


def _lost(live: Live, model: str, counts: Counter[str]) -> int:
    """Replicas of the strongest option for the work that may not go and is gone."""
    work = held(live, model)
    if not work:
        return 0
    mine = live.options_of[model]
    gone = work - sum(o.rates(1)[0] * counts[o.id] for o in mine)
    most = max((o.rates(1)[0] for o in mine if o.eligible or o.id in live.runs), default=0.0)
    return math.ceil(gone / most - EPS) if gone > EPS * work and most > 0 else 0


def _by_work(options: list[Option], loads: tuple[float, ...], rest: float) -> int:
    """Replicas of the strongest option that the unmet share would need; 0 where no option serves all buckets."""
    fewest = math.inf
    for o in options:
        needs = [w * rest / r if r > 0 else math.inf for w, r in zip(loads, o.rates(len(loads)), strict=False) if w > 0]
        fewest = min(fewest, sum(needs))
    return math.ceil(fewest - EPS) if fewest < math.inf else 0
