"""Hours that the clairvoyant and the best fixed size need for a given attainment, with few runs.

Both are curves of hours over attainment, drawn by straight lines between runs. The search walks towards the wanted attainment from a
guess and refines the brackets that could win; every run counts for the curve, so a run that happens to be better is never lost.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from autoscaling.replay.harness import LEAST, MOST, Result
from autoscaling.replay.hints import HINTS
from autoscaling.replay.loads import Load
from autoscaling.replay.reference import BINS_S, Point, clairvoyant, frontier, hours_at, static

USE_STEP = 0.02  # of the clairvoyant's utilisation, to both sides of the guess
USE_RANGE = (0.1, 1.4)
FINE = (0.01, 0.041)  # brackets are refined to this: loads of few and of MANY requests
CLOSE = 1.04  # a bracket that is dearer than the best by more than this is not refined
LIKELY = (1.25, 1.06)  # bins that the hints call dearer by more than this are not tried: loads of few and of MANY requests
MANY = 200_000  # requests from which on a second process is worth its start
GUESS_SIZE = {"conv3": 14, "ramp10h": 20, "code1": 9}


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
    processes: int = field(default_factory=lambda: os.cpu_count() or 1)
    runs: dict[tuple[float, float], Result] = field(default_factory=dict)
    sizes: dict[int, Result] = field(default_factory=dict)

    @property
    def large(self) -> bool:
        """Whether runs are dear, so that few must do."""
        return len(self.load.arrival) >= MANY

    def clairvoyant_point(self, bin_s: float, use: float) -> Point:
        key = (bin_s, round(use, 4))
        self.measure([key])
        found = self.runs[key]
        return Point(found.attainment(self.within_s), found.replica_hours, f"bins of {bin_s:g} s, use {key[1]:g}")

    def curve(self) -> list[Point]:
        """The clairvoyant's best runs so far."""
        return frontier(self.clairvoyant_point(*key) for key in sorted(self.runs))

    def clairvoyant_hours(self, attainment: float) -> float | None:
        """Least hours for that attainment, by straight lines between the best runs; None if no run reaches it."""
        chosen = self._promising(attainment)
        self.measure([(bin_s, round(use + side * USE_STEP, 4)) for bin_s, use in chosen for side in (-1.0, 1.0)])
        brackets = []
        for bin_s, use in chosen:
            low, high = self._bracket(bin_s, use, attainment)
            brackets.append((self._between(bin_s, low, high, attainment), bin_s, low, high))
        best = min(brackets)[0]
        for hours, bin_s, low, high in sorted(brackets):
            while hours <= best * CLOSE and high - low > FINE[self.large]:
                middle = (low + high) / 2.0
                if self.clairvoyant_point(bin_s, middle).attainment >= attainment:
                    low = middle
                else:
                    high = middle
        return hours_at(self.curve(), attainment)

    def _promising(self, attainment: float) -> list[tuple[float, float]]:
        """Bins that may be the best at this attainment, each with its likely utilisation."""
        known = HINTS.get(self.load.name, {})
        found = []
        for bin_s in self.bins:
            rows = known.get(bin_s)
            if rows is None:
                found.append((0.0, bin_s, 0.8))
                continue
            uses, attained, hours = (list(column) for column in zip(*reversed(rows), strict=True))
            use = float(np.interp(attainment, attained, uses))
            found.append((float(np.interp(-use, [-value for value in uses], hours)), bin_s, use))
        best = min(found)[0]
        return [(bin_s, use) for hours, bin_s, use in found if hours <= best * LIKELY[self.large]]

    def measure(self, keys: Sequence[tuple[float, float]]) -> None:
        """Runs of the clairvoyant that are still missing, on up to `processes` cores."""
        missing = sorted({key for key in keys if key not in self.runs})
        settings = [(self.load, key, self.cold_start_s, self.seed, self.start, self.least, self.most) for key in missing]
        if len(missing) < 2 or not self.large or self.processes < 2:
            self.runs.update(zip(missing, map(_measured, settings), strict=True))
            return
        with ProcessPoolExecutor(min(len(missing), self.processes), multiprocessing.get_context("spawn")) as pool:
            self.runs.update(zip(missing, pool.map(_measured, settings), strict=True))

    def _bracket(self, bin_s: float, guess: float, attainment: float) -> tuple[float, float]:
        """Two utilisations: the lower reaches the attainment, the higher does not, if there are such."""
        low, high, step = guess - USE_STEP, guess + USE_STEP, USE_STEP
        while low > USE_RANGE[0] and self.clairvoyant_point(bin_s, low).attainment < attainment:
            low, high, step = max(USE_RANGE[0], low - 2.0 * step), low, 2.0 * step
        while high < USE_RANGE[1] and self.clairvoyant_point(bin_s, high).attainment >= attainment:
            low, high, step = high, min(USE_RANGE[1], high + 2.0 * step), 2.0 * step
        return low, high

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


def _measured(setting: tuple[Load, tuple[float, float], float, int, int | None, int, int]) -> Result:
    load, (bin_s, use), cold_start_s, seed, start, least, most = setting
    found = clairvoyant(load, bin_s=bin_s, use=use, cold_start_s=cold_start_s, seed=seed, start=start, least=least, most=most)
    return replace(found, ttft=None)
