"""Recount of what every model gets: replicas, work, KV cache, roles. Shares no code with the planner.

Work in one bucket is a sum. Work in several is proven by the plan's routes: shares of a bucket that options take. They hold if the load
that an option takes fills no more replicas than there are, if each bucket's shares reach what the shortfall does not own up to, and, where
prefill and decode must share networks, if both take the same shares in each. A bucket that no option serves must be in a shortfall.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from placement.audit_world import World
from placement.types import Demand, Model, ModelDemand, Option, Reason, Route, Shortfall

NEAR = 1e-6


def demand_faults(world: World, demand: Demand, *, explained: bool = True) -> list[str]:
    """`explained` False: the plan has no shortfalls yet, so whether they say enough is not asked."""
    return _Demands(world, demand, explained).faults()


class _Demands:
    def __init__(self, world: World, demand: Demand, explained: bool) -> None:
        self.w, self.explained = world, explained
        self.found: list[str] = []
        self.asked: dict[str, list[ModelDemand]] = defaultdict(list)
        for d in demand.models:
            self.asked[d.model].append(d)
        self.short: dict[str, Shortfall] = {s.model: s for s in world.plan.shortfalls}
        self.count: Counter[str] = Counter()  # replicas per model
        self.per: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)  # model -> (option, network) -> replicas
        for a in world.plan.assignments:
            self.count[a.model] += a.replicas
            cell = world.cells.get(a.cell)
            self.per[a.model][(a.option, "" if cell is None else cell.network_domain)] += a.replicas
        self.options: dict[str, list[Option]] = defaultdict(list)
        for o in world.snapshot.options:
            self.options[o.model].append(o)
        self.routes: dict[str, list[Route]] = defaultdict(list)
        for r in world.plan.routes:
            self.routes[r.model].append(r)

    def faults(self) -> list[str]:
        for name in sorted(set(self.routes) - set(self.w.models)):
            self.found.append(f"routes of {name}: no such model")
        for name, model in sorted(self.w.models.items()):
            self._replicas(name, model)
            if not model.hold:
                for entry in self.asked.get(name, []):
                    self._entry(model, entry)
                self._same_network(model)
        return self.found

    def _replicas(self, name: str, model: Model) -> None:
        running = self.w.running.get(name, [])
        frozen = sum(1 for r in running if self.w.frozen(r))
        count = self.count[name]
        if count > max(model.max_replicas, frozen):
            self.found.append(f"{name}: {count} replicas, maximum {max(model.max_replicas, frozen)}")
        missing = self.short[name].replicas if name in self.short else 0
        least = model.min_replicas
        if not all(d.may_shrink for d in self.asked.get(name, [])):
            before = self._held(name, model)
            if before is None:
                least = max(least, min(len(running), model.max_replicas))
            elif not model.hold and not missing:
                after = sum(
                    (sum(o.bucket_work) or o.work_per_s or 0.0) * n
                    for o in self.options[name]
                    for (of, _), n in self.per[name].items()
                    if of == o.id
                )
                if after < before * (1.0 - NEAR):
                    self._unsaid(f"{name}: {before:g} work/s run and may not shrink, {after:g} are planned, and no shortfall says so")
        if not model.hold and missing < least - count:
            self._unsaid(f"{name}: {count} replicas of at least {least}, shortfall says {missing}")
        if self._keeps(model) and count < min(len(running), model.min_replicas):
            self.found.append(f"{name}: {len(running)} run, {count} planned, but preemption is off")

    def _held(self, name: str, model: Model) -> float | None:
        """Work/s of what runs, each with a number, while it may not shrink and no more run than may; None = their number is kept."""
        entries, running = self.asked[name], self.w.running.get(name, [])
        loads = [x for d in entries for x in d.loads]
        rate = {o.id: sum(o.bucket_work) or o.work_per_s or 0.0 for o in self.options[name]}
        rates = [rate.get(r.option or "", 0.0) for r in running]
        if len(entries) != 1 or len(loads) != 1 or loads[0] <= 0 or len(running) > model.max_replicas or not all(x > 0 for x in rates):
            return None
        return sum(rates)

    def _unsaid(self, text: str) -> None:
        """A fault of the shortfalls: something is missing and they do not say so."""
        if self.explained:
            self.found.append(text)

    def _keeps(self, model: Model) -> bool:
        return not model.hold and (not self.w.snapshot.policy.preemption or not model.preemptable)

    def _unmet(self, name: str) -> float:
        return self.short[name].unmet_share if name in self.short else 0.0

    def _entry(self, model: Model, asked: ModelDemand) -> None:
        name, at = model.name, f"{model.name}{'/' if asked.role else ''}{asked.role}"
        mine = [o for o in self.options[name] if o.role == asked.role]
        totals: Counter[str] = Counter()
        for (option, _), n in self.per[name].items():
            totals[option] += n
        if asked.kv_floor > 0:
            tokens = sum((o.kv_tokens or 0.0) * totals[o.id] for o in mine)
            if tokens < asked.kv_floor * (1.0 - NEAR) and name not in self.short:
                self._unsaid(f"{at}: {tokens:g} tokens of KV cache, floor {asked.kv_floor:g}, and no shortfall says so")
        loads = asked.loads
        if len(loads) == 1 and not asked.role:
            self._one_bucket(model, mine, asked, totals)
        elif any(x > 0 for x in loads):
            self._buckets(model, at, asked, mine)

    def _one_bucket(self, model: Model, mine: list[Option], asked: ModelDemand, totals: Counter[str]) -> None:
        load = asked.loads[0]
        if load <= 0:
            return
        rate = {o.id: o.rates(1)[0] for o in mine}
        name = model.name
        served = min(1.0, sum(rate[o.id] * totals[o.id] for o in mine) / load)
        if 1.0 - served > self._unmet(name) + NEAR:
            self._unsaid(f"{name}: {served:.6f} of the work is served, shortfall says {self._unmet(name):.6f} is not")
        running = self.w.running.get(name, [])
        before = min(1.0, sum(rate.get(r.option or "", 0.0) for r in running) / load)
        if self._keeps(model) and not asked.kv_floor and len(running) <= model.max_replicas and served < before - NEAR:
            self.found.append(f"{name}: {before:.6f} of the work is served today, {served:.6f} planned, but preemption is off")

    def _buckets(self, model: Model, at: str, asked: ModelDemand, mine: list[Option]) -> None:
        name, loads = model.name, asked.loads
        options = {o.id: o for o in mine}
        taken: dict[int, float] = defaultdict(float)
        filled: dict[tuple[str, str], float] = defaultdict(float)
        for r in self.routes[name]:
            if r.role != asked.role:
                continue
            option = options.get(r.option)
            if option is None or not 0 <= r.bucket < len(loads) or not math.isfinite(r.share) or r.share < 0:
                self.found.append(f"{at}: route of bucket {r.bucket} to {r.option}, share {r.share}: not one of this model")
                continue
            rate = option.rates(len(loads))[r.bucket]
            if rate <= 0:
                self.found.append(f"{at}: bucket {r.bucket} goes to {r.option}, which does not serve it")
                continue
            taken[r.bucket] += r.share
            filled[(r.option, r.network if model.same_network else "")] += loads[r.bucket] * r.share / rate
        for (option_id, network), load in sorted(filled.items()):
            have = sum(n for (o, where), n in self.per[name].items() if o == option_id and (not model.same_network or where == network))
            if load > have * (1.0 + NEAR) + NEAR:
                self.found.append(f"{at}: routes fill {load:.6f} replicas of {option_id}, {have} are planned")
        dead = [b for b in self._dead(name) if b < len(loads) and loads[b] > 0]
        for b, load in enumerate(loads):
            if load > 0 and b not in dead and taken[b] < 1.0 - self._unmet(name) - NEAR:
                text = f"routes serve {taken[b]:.6f} of bucket {b}, shortfall says {self._unmet(name):.6f} is not served"
                self._unsaid(f"{at}: {text}")
        said = self.short[name].reasons if name in self.short else ()
        if dead and not any(r.reason in (Reason.SLO_UNREACHABLE, Reason.NO_OPTION) for r in said):
            self._unsaid(f"{at}: no option serves buckets {dead}, and no shortfall says so")

    def _dead(self, name: str) -> list[int]:
        """Buckets with work that no option serves. A length that one role cannot serve is of no use to the other."""
        running = {r.option for r in self.w.running.get(name, [])}
        found: set[int] = set()
        for asked in self.asked[name]:
            able = [o for o in self.options[name] if o.role == asked.role and (o.eligible or o.id in running)]
            for b, load in enumerate(asked.loads):
                if load > 0 and not any(o.rates(len(asked.loads))[b] > 0 for o in able):
                    found.add(b)
        return sorted(found)

    def _same_network(self, model: Model) -> None:
        entries = {d.role: d.loads for d in self.asked.get(model.name, [])}
        if not model.same_network or set(entries) != {"prefill", "decode"}:
            return
        shares: dict[tuple[str, int], dict[str, float]] = defaultdict(lambda: {"prefill": 0.0, "decode": 0.0})
        for r in self.routes[model.name]:
            shares[(r.network, r.bucket)][r.role] += r.share
        for (network, b), of in sorted(shares.items()):
            if any(b >= len(loads) or loads[b] <= 0 for loads in entries.values()):
                continue
            if abs(of["prefill"] - of["decode"]) > NEAR:
                text = f"{of['prefill']:.6f} of bucket {b} is prefilled and {of['decode']:.6f} decoded"
                self.found.append(f"{model.name}: {text} in network domain {network!r}")
