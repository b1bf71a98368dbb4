"""What has changed since the last cycle: a dirty set with a debounce, and a back-off per key. No I/O; the clock is injected.

One cycle serves everything, so a key only says why a cycle runs. The debounce waits until nothing new came for `idle` seconds,
but never longer than `longest` after the first change: a rollout of a hundred pods is a few cycles, not a hundred.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

Clock = Callable[[], float]


class Backoff:
    """Exponential waiting times per key, with jitter from a seeded generator so that runs repeat."""

    def __init__(self, *, first: float = 1.0, longest: float = 60.0, seed: int = 0) -> None:
        self._first, self._longest = first, longest
        self._random = random.Random(seed)  # jitter, not a secret
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def failed(self, key: str, now: float, at_least: float = 0.0) -> float:
        """Records a failure; returns for how long the key rests. `at_least` is the server's Retry-After."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = max(at_least, min(self._longest, self._first * 2.0**count) * self._random.uniform(1.0, 1.25))
        self._until[key] = now + delay
        return delay

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)
        self._until.pop(key, None)

    def resting(self, key: str, now: float) -> bool:
        return now < self._until.get(key, now)

    def failures(self, key: str) -> int:
        """How often in a row the key failed."""
        return self._failures.get(key, 0)

    def prune(self, now: float) -> None:
        """Forgets keys that were not tried again long after they might have been: their objects are gone, and the tables must not grow."""
        for key in [key for key, until in self._until.items() if until + self._longest < now]:
            self.succeeded(key)


class DirtyQueue:
    def __init__(self, clock: Clock, *, idle: float = 1.0, longest: float = 10.0) -> None:
        self._clock, self._idle, self._longest = clock, idle, longest
        self._dirty: dict[str, float] = {}  # key -> when first marked
        self._later: dict[str, float] = {}  # key -> when it becomes dirty by itself
        self._first = self._last = 0.0
        self._changed = asyncio.Event()

    def mark(self, key: str) -> None:
        now = self._clock()
        if not self._dirty:
            self._first = now
        self._dirty.setdefault(key, now)
        self._last = now
        self._changed.set()

    def mark_later(self, key: str, delay: float) -> None:
        """Marks the key after `delay` seconds; the earliest wish wins."""
        due = self._clock() + delay
        self._later[key] = min(due, self._later.get(key, due))
        self._changed.set()

    def due(self) -> float | None:
        """When the next cycle may start: None while nothing waits."""
        now = self._clock()
        for key in sorted(key for key, at in self._later.items() if at <= now):
            del self._later[key]
            if not self._dirty:
                self._first = self._last = now - self._idle  # it has waited already
            self._dirty.setdefault(key, now)
        candidates = [min(self._last + self._idle, self._first + self._longest)] if self._dirty else []
        candidates += self._later.values()
        return min(candidates) if candidates else None

    def take(self) -> frozenset[str]:
        """The keys of one cycle if one is due now, else nothing."""
        due = self.due()
        if due is None or due > self._clock() or not self._dirty:
            return frozenset()
        keys = frozenset(self._dirty)
        self._dirty.clear()
        return keys

    async def wait(self) -> frozenset[str]:
        """Waits for the next cycle's keys."""
        while True:
            keys = self.take()
            if keys:
                return keys
            self._changed.clear()
            due = self.due()
            timeout = None if due is None else max(0.001, due - self._clock())
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                continue
