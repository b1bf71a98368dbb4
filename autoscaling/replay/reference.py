"""What policies are compared with: a fixed size, and a clairvoyant that knows the load.

The clairvoyant knows the work of every bin, true outputs included, and has a replica for every `use` of it ready when the bin begins:
it starts them exactly one cold start ahead, the length of which it knows too, and keeps one over a dip that is shorter than a new start
would take. It takes the best over the widths of the bins and over `use`. A strong reference, and no proof of the optimum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from autoscaling.replay.fleet import Fleet, View
from autoscaling.replay.harness import LEAST, MOST, ColdStarts, Result, begin, result, run
from autoscaling.replay.loads import START, Load

BINS_S = (15.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True, slots=True)
class Static:
    """Always `replicas`."""

    replicas: int
    tick_s: float = 1e9

    def __call__(self, view: View) -> int:
        return self.replicas


def static(load: Load, replicas: int) -> Result:
    """A fixed size that was there from the beginning."""
    return run(load, Static(replicas), cold_start_s=0.0, seed=0, start=replicas, most=max(MOST, replicas))


def clairvoyant(
    load: Load, *, bin_s: float, use: float, cold_start_s: float, seed: int, start: int | None = None, least: int = LEAST, most: int = MOST
) -> Result:
    """One setting of the clairvoyant. `use`: work/s that it gives each replica on average over a bin."""
    first = START.get(load.name, 1) if start is None else start
    bins = int(load.arrival[-1] // bin_s) + 1
    work = np.bincount((load.arrival // bin_s).astype(int), weights=load.work, minlength=bins) / bin_s
    sizes = np.clip(np.ceil(work / use - 1e-9), least, most).astype(int)
    cold = ColdStarts(cold_start_s, seed)
    actions: list[tuple[float, int, float]] = []  # when; 1 = start, 0 = stop; when it serves
    for rank in range(1, int(max(sizes.max(), first)) + 1):
        actions += spans(sizes >= rank, rank <= first, bin_s, cold)
    actions.sort()
    fleet = begin(load, first, most)
    starts = 0
    for at, up, ready in actions:
        fleet.advance(at)
        if fleet.done:
            break
        if up:
            fleet.start(at, ready)
            starts += 1
        else:
            _stop(fleet, at)
    fleet.advance(math.inf)
    return result(load, fleet, len({at for at, _, _ in actions}), starts)


def spans(needed: np.ndarray, there: bool, bin_s: float, cold: ColdStarts, scale: float = 1.0) -> Iterable[tuple[float, int, float]]:
    """Starts and stops of the replica that serves whenever at least so many are needed: when, 1 = start and 0 = stop, when it serves.
    `scale`: of the cold starts that are drawn."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], needed.astype(int), [0]))))
    wanted = [(float(a) * bin_s, float(b) * bin_s) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    free_from = 0.0 if there else -math.inf  # when it was last needed; -inf = it does not run
    for begins, ends in wanted:
        if free_from == -math.inf:
            took = scale * cold.draw()
            yield max(0.0, begins - took), 1, max(begins, took)
        else:
            took = scale * cold.draw()
            if begins - free_from > took:
                yield free_from, 0, 0.0
                yield begins - took, 1, begins
        free_from = ends
    if free_from > -math.inf:
        last = float(len(needed)) * bin_s
        if free_from < last:
            yield free_from, 0, 0.0


def _stop(fleet: Fleet, at: float) -> None:
    fleet.stop(at, serving=True)


@dataclass(frozen=True, slots=True)
class Point:
    """One run on the curve of hours over attainment."""

    attainment: float
    hours: float
    setting: str


def frontier(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both, by rising attainment."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.attainment, point.hours)):
        if not kept or point.hours < kept[-1].hours:
            kept.append(point)
    return kept[::-1]


def hours_at(curve: Sequence[Point], attainment: float) -> float | None:
    """Hours by straight lines between the runs of a frontier; below its first run that run's hours; None above its last."""
    if not curve or attainment > curve[-1].attainment:
        return None
    if attainment <= curve[0].attainment:
        return curve[0].hours
    return float(np.interp(attainment, [point.attainment for point in curve], [point.hours for point in curve]))
