"""What was said of each model in the last plan, said again where nothing that it rests on has changed.

Ladder and explanations of one model rest on the model itself (its record, demand, options, replicas), on rules that all share, and on what
is free. The first two are compared by value. Of what is free the ladder keeps each question that it asked and the answer, and is said again
if the answers are still the same. The result is always what would be worked out anew; only the time differs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from placement import bars
from placement.explain import explained
from placement.facts import Asked, Facts
from placement.free import State
from placement.ladder import Answers, downs, ups
from placement.live import Live
from placement.nodes import Group
from placement.shortfall import shortfall_of
from placement.types import LadderStep, Shortfall, Why

Told = tuple[Shortfall | None, tuple[Why, ...]]


@dataclass(slots=True)
class Record:
    """Of one model."""

    own: object
    up: tuple[LadderStep, ...] | None = None
    down: tuple[LadderStep, ...] | None = None
    asked: list[Answers] = field(default_factory=list)  # per step up: what was asked of the free devices
    told: dict[bool, Told] = field(default_factory=dict)  # by whether the plan is proven
    looked: list[Asked] = field(default_factory=list)  # what the explanation asked of them; of a model that is short it is not kept


@dataclass(slots=True)
class Past:
    """Of one plan."""

    shared: object
    classes: list[dict[State, list[str]]]
    records: dict[str, Record] = field(default_factory=dict)


class Teller:
    """Ladder and explanations of a plan, with those of the plan before at hand."""

    def __init__(self, live: Live, past: object | None) -> None:
        self.live, self.facts = live, Facts(live)
        self.now = Past(_shared(live), live.free.classes)
        old = past if isinstance(past, Past) and past.shared == self.now.shared and not any(live.reserve.values()) else None
        self.changed = set[int]()
        if old is not None and len(old.classes) == len(live.free.classes):
            pairs = enumerate(zip(old.classes, live.free.classes, strict=True))
            self.changed = {c for c, (before, after) in pairs if before is not after and before != after}
        else:
            old = None
        room = _Room(live)
        for name in live.models:
            own = _own(live, name, room)
            known = old.records.get(name) if old is not None else None
            if known is not None and any(found is not None for found, _ in known.told.values()):
                known.told = {}  # who is short looks at more than is kept
            self.now.records[name] = self._kept(known, own)

    def _kept(self, known: Record | None, own: object) -> Record:
        record = Record(own)
        if known is None or known.own != own:
            return record
        record.down = known.down
        if known.up is not None and self._same(known):
            record.up, record.asked = known.up, known.asked
        if known.told and all(self.facts.answers(asked) for asked in known.looked if self._touched(asked)):
            record.told, record.looked = known.told, known.looked
        return record

    def _touched(self, asked: Asked) -> bool:
        _, where, _ = asked
        cells = self.live.pool_cells[where] if isinstance(where, str) else where
        return any(c in self.changed for c in cells)

    def _same(self, known: Record) -> bool:
        """Whether the free devices would answer as they did: before the first step up, and before the second, which sees the first."""
        if not self.changed:
            return True
        if not all(self._answers(asked) for asked in known.asked[:1]):
            return False
        first = next(iter(known.up or ()), None)
        if first is None or len(known.asked) < 2:
            return True
        live, option, cell = self.live, self.live.options[first.option], self.live.cell_index[first.cell]
        if cell not in self.changed:
            return self._answers(known.asked[1])
        before = live.states(first.node)
        live.start(option, cell, first.node)
        same = self._answers(known.asked[1])
        live.undo(option, cell, before)
        return same

    def _answers(self, asked: Answers) -> bool:
        best = self.live.free.best
        return all(best(c, need) == answer for (c, need), answer in asked.items() if c in self.changed)

    def ladder(self) -> tuple[LadderStep, ...]:
        """As `ladder.ladder`."""
        found: list[LadderStep] = []
        for name, record in self.now.records.items():
            if record.up is None:
                record.asked = []
                record.up = tuple(ups(self.live, name, asked=record.asked))
            if record.down is None:
                record.down = tuple(downs(self.live, name))
            found += (*record.up, *record.down)
        return tuple(found)

    def lacking(self, *, exact: bool) -> tuple[Shortfall, ...]:
        """What is missing and why, alone."""
        found = (shortfall_of(self.facts, name, exact=exact) for name in self.now.records)
        return tuple(s for s in found if s is not None)

    def told(self, *, exact: bool) -> tuple[tuple[Shortfall, ...], tuple[Why, ...]]:
        """As `explain.explain_plan`."""
        short: list[Shortfall] = []
        why: list[Why] = []
        for name, record in self.now.records.items():
            if exact not in record.told:
                self.facts.asked = []
                one = explained(self.facts, name, exact=exact)
                record.told = {exact: one}
                record.looked, self.facts.asked = self.facts.asked, None
            lacking, lines = record.told[exact]
            short += [lacking] if lacking is not None else []
            why += lines
        return tuple(short), tuple(why)


def _shared(live: Live) -> object:
    """What all models share and no single start or stop changes."""
    return live.cells, live.snapshot.policy, tuple(tuple(sorted(Counter(c).items())) for c in live.installed)


class _Room:
    """What the rules that models share leave to one of them, as far as two more replicas of its largest option can tell the difference."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.quotas = [bars.quota_left(live, i) for i in range(len(live.quotas))]
        limits = {pool: left for pool in live.pool_cells if (left := bars.limit_left(live, pool)) is not None}
        self.limits = {profile: sorted({live.cells[c].pool for c in cells} & limits.keys()) for profile, cells in live.cells_of.items()}
        self.left = limits
        budget = live.snapshot.policy.max_hourly_cost
        self.money = None if budget is None else budget - live.total_cost

    def of(self, name: str) -> object:
        live, options = self.live, self.live.options_of[name]
        if not self.quotas and not self.left and self.money is None:
            return None
        profiles = sorted({o.profile for o in options})
        most = 2 * max((o.devices for o in options), default=0)
        quotas = tuple((i, min(self.quotas[i], most)) for p in profiles for i in live.quotas_for(name, p))
        pools = tuple((pool, min(self.left[pool], most)) for p in profiles for pool in self.limits.get(p, ()))
        if self.money is None:
            return quotas, pools
        dearest = max((live.price(o, c) for o in options for c in live.cells_of.get(o.profile, ())), default=0.0)
        return quotas, pools, min(self.money, 2.0 * dearest + bars.EPS)


def _own(live: Live, name: str, room: _Room) -> object:
    def of(g: Group, ids: list[str]) -> object:
        return (g.option, g.cell, g.node, g.devices, g.cost, g.vendor, g.domain, g.preference, g.stoppable, tuple(ids))

    groups = tuple(of(g, ids) for g, ids in live.kept[name])
    starts = tuple((o.id, c, place) for o, c, place in live.starts.get(name, ()))
    runs = tuple(o.id for o in live.options_of[name] if o.id in live.runs)
    kept = live.models[name], tuple(live.entries(name)), tuple(live.options_of[name]), live.running[name]
    return kept, groups, starts, runs, room.of(name)
