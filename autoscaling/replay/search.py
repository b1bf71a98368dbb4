"""Hours that the clairvoyant and the best fixed size need for a given attainment, with few runs.

Both are curves of hours over attainment, drawn by straight lines between runs. The search walks towards the wanted attainment from a
guess and refines the brackets that could win; every run counts for the curve, so a run that happens to be better is never lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autoscaling.replay.harness import LEAST, MOST, Result
from autoscaling.replay.loads import Load
from autoscaling.replay.reference import BINS_S, Point, clairvoyant, frontier, hours_at, static

USE_STEP = 0.05  # of the clairvoyant's utilisation, before refinement
USE_RANGE = (0.1, 1.4)
GUESS_USE = {"conv3": 0.9, "ramp10h": 0.95, "code1": 0.6}
GUESS_SIZE = {"conv3": 14, "ramp10h": 20, "code1": 9}
REFINE = 3  # halvings of the best brackets
CLOSE = 1.04  # a bracket that is dearer than the best by more than this is not refined


@dataclass(slots=True)
class Search:
    """Remembers every run of one load, so that several attainments cost little more than one. `within_s`: the limit of the first token."""

    load: Load
    cold_start_s: float
    seed: int
    within_s: float = 2.0
    start: int | None = None
    least: int = LEAST
    most: int = MOST
    bins: Sequence[float] = BINS_S
    runs: dict[tuple[float, float], Result] = field(default_factory=dict)
    sizes: dict[int, Result] = field(default_factory=dict)

    def clairvoyant_point(self, bin_s: float, use: float) -> Point:
        key = (bin_s, round(use, 4))
        if key not in self.runs:
            self.runs[key] = clairvoyant(
                self.load, bin_s=bin_s, use=key[1], cold_start_s=self.cold_start_s, seed=self.seed, start=self.start, least=self.least,
                most=self.most,
            )  # fmt: skip
        found = self.runs[key]
        return Point(found.attainment(self.within_s), found.replica_hours, f"bins of {bin_s:g} s, use {key[1]:g}")

    def curve(self) -> list[Point]:
        """The clairvoyant's best runs so far."""
        return frontier(self.clairvoyant_point(*key) for key in sorted(self.runs))

    def clairvoyant_hours(self, attainment: float) -> float | None:
        """Least hours for that attainment, by straight lines between the best runs; None if no run reaches it."""
        guess = GUESS_USE.get(self.load.name, 0.8)
        brackets = []
        for bin_s in self.bins:
            low, high = self._bracket(bin_s, guess, attainment)
            brackets.append((self._between(bin_s, low, high, attainment), bin_s, low, high))
        best = min(brackets)[0]
        for hours, bin_s, low, high in sorted(brackets):
            if hours > best * CLOSE or high <= low:
                continue
            for _ in range(REFINE if hours == best else REFINE - 1):
                middle = (low + high) / 2.0
                if self.clairvoyant_point(bin_s, middle).attainment >= attainment:
                    low = middle
                else:
                    high = middle
        return hours_at(self.curve(), attainment)

    def _bracket(self, bin_s: float, guess: float, attainment: float) -> tuple[float, float]:
        """Two utilisations: the lower reaches the attainment, the higher does not, if there are such."""
        use, step = guess, USE_STEP
        if self.clairvoyant_point(bin_s, use).attainment >= attainment:
            while (above := min(use + step, USE_RANGE[1])) > use and self.clairvoyant_point(bin_s, above).attainment >= attainment:
                use, step = above, 2.0 * step
            return use, above
        while (below := max(use - step, USE_RANGE[0])) < use and self.clairvoyant_point(bin_s, below).attainment < attainment:
            use, step = below, 2.0 * step
        return below, use

    def _between(self, bin_s: float, low: float, high: float, attainment: float) -> float:
        found = hours_at(frontier([self.clairvoyant_point(bin_s, low), self.clairvoyant_point(bin_s, high)]), attainment)
        return float("inf") if found is None else found

    def static_point(self, replicas: int) -> Point:
        if replicas not in self.sizes:
            self.sizes[replicas] = static(self.load, replicas)
        found = self.sizes[replicas]
        return Point(found.attainment(self.within_s), found.replica_hours, f"{replicas} replicas")

    def static_hours(self, attainment: float) -> float | None:
        """Hours of the fixed size, known in advance, that reaches it: by a straight line between two neighbouring sizes."""
        size = GUESS_SIZE.get(self.load.name, 8)
        size = _walk(size, lambda n: self.static_point(n).attainment >= attainment, self.most * 2)
        if size > self.most * 2:
            return None
        points = [self.static_point(size)] if size == 1 else [self.static_point(size - 1), self.static_point(size)]
        return hours_at(frontier(points), attainment)


def _walk(size: int, enough: Callable[[int], bool], most: int) -> int:
    """The least size that is enough, from a guess; most + 1 if none is."""
    if enough(size):
        while size > 1 and enough(size - 1):
            size -= 1
        return size
    while size <= most:
        size += 1
        if size <= most and enough(size):
            return size
    return most + 1
