"""The shipped decision, in work, beside policies that count every device as one, on a fleet of three unequal types of limited stock.

The types are made up, with the ratios of real ones: a fast card, one of 0.8 of its speed that is cheaper and slower to start, and a small
one of a quarter. Devices are taken from one ladder by cost per work, the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autoscaling.replay.baselines import BASELINES
from autoscaling.replay.fleet import Option
from autoscaling.replay.loads import Load
from autoscaling.replay.mixed import Count, Mixed, Type, Work, clairvoyant, run
from autoscaling.replay.reference import Point, frontier, hours_at
from autoscaling.replay.shipped import GOALS, Shipped

TYPES = (
    Type(Option("H100-like", 1.0, 80_000, 1.0), 120.0, 8),
    Type(Option("910C-like", 0.8, 64_000, 0.6), 180.0, 6),
    Type(Option("L4-like", 0.25, 20_000, 0.2), 90.0, 24),
)
SHARES = (1.0, 0.6, 0.7, 0.8, 0.9, 1.15)  # of what the shipped decision asks for
COUNTED = {"HPA in-flight": (0.7, 0.35, 0.2), "KEDA waiting": (5.0, 1.0), "KPA in-flight": (0.7, 0.35), "demand hysteresis": (0.9, 0.7)}
BINS_S = (30.0, 60.0, 120.0)
USES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)


@dataclass(frozen=True, slots=True)
class Line:
    policy: str
    knob: float
    run: Mixed
    reference: float | None  # the clairvoyant's cost at the same attainment
    most: float  # that the clairvoyant attains at all

    def more(self) -> dict[str, Any]:
        return {
            "cost": round(self.run.result.cost, 3),
            "clairvoyant_cost": None if self.reference is None else round(self.reference, 3),
            "clairvoyant_most": round(self.most, 4),
            "type_hours": {name: round(hours, 2) for name, hours in self.run.hours.items()},
        }


def lines(of: Load, seed: int, within_s: float, types: Sequence[Type] = TYPES) -> Iterator[Line]:
    """Every policy over one load."""
    curve = [clairvoyant(of, types, bin_s=bin_s, use=use, seed=seed).result for bin_s in BINS_S for use in USES]
    best = frontier(Point(found.attainment(within_s), found.cost, "") for found in curve)
    starts = tuple((t.option.name, t.cold_start_s) for t in types)
    for share in SHARES:
        asked = Work(Shipped(GOALS[of.name], types[0].cold_start_s, share=share, starts=starts))
        yield _line("decide", share, run(of, asked, types, seed=seed), best, within_s)
    for one in BASELINES:
        for knob in COUNTED.get(one.name, ()):
            yield _line(one.name, knob, run(of, Count(one.make(knob, types[0].cold_start_s)), types, seed=seed), best, within_s)


def _line(policy: str, knob: float, found: Mixed, best: Sequence[Point], within_s: float) -> Line:
    return Line(policy, knob, found, hours_at(best, found.result.attainment(within_s)), best[-1].attainment)
