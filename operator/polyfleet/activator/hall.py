"""Who waits: counted per model and altogether, and bounded. No I/O.

A counter of requests exists from the moment on that a model is known here, so a flat one is a true zero. It counts every request for work,
those that are turned away or leave as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from polyfleet.activator.settings import Bounds

PASSED, REFUSED, LATE, GONE, LOST = "passed", "refused", "late", "gone", "lost"
OUTCOMES = (PASSED, REFUSED, LATE, GONE, LOST)


@dataclass(slots=True)
class Queue:
    """Of one model."""

    requests: int = 0
    waiting: int = 0
    held_bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Place:
    """Of one request that waits. Give it back with `leave`, once or often."""

    hall: Hall
    queue: Queue
    held_bytes: int = 0
    waits: bool = True

    def more(self, size: int) -> str:
        """Takes so many bytes more; "" or what is full."""
        bounds, hall = self.hall.bounds, self.hall
        if self.queue.held_bytes + size > bounds.model_bytes:
            return f"its waiting requests have {bounds.model_bytes} bytes already"
        if hall.held_bytes + size > bounds.total_bytes:
            return f"the waiting requests of all models have {bounds.total_bytes} bytes already"
        self.held_bytes += size
        self.queue.held_bytes += size
        hall.held_bytes += size
        return ""

    def called(self) -> None:
        """It waits no longer; its body is still here, and counts until it leaves."""
        if self.waits:
            self.waits = False
            self.queue.waiting -= 1
            self.hall.waiting -= 1

    def leave(self) -> None:
        self.called()
        self.queue.held_bytes -= self.held_bytes
        self.hall.held_bytes -= self.held_bytes
        self.held_bytes = 0


@dataclass(slots=True)
class Hall:
    bounds: Bounds
    queues: dict[str, Queue] = field(default_factory=dict)
    waiting: int = 0
    held_bytes: int = 0
    passing: int = 0

    def keep(self, keys: Iterable[str]) -> None:
        """The models there are. One that goes is forgotten; who still waits for it keeps its place until it leaves."""
        wanted = set(keys)
        self.queues = {key: self.queues.get(key) or Queue() for key in sorted(wanted)}

    def queue(self, key: str) -> Queue:
        return self.queues.setdefault(key, Queue())

    def enter(self, key: str) -> Place | str:
        """A place, or what is full."""
        queue, bounds = self.queue(key), self.bounds
        if queue.waiting >= bounds.model_requests:
            return f"{queue.waiting} requests wait already"
        if self.waiting >= bounds.requests:
            return f"{self.waiting} requests wait for all models already"
        queue.waiting += 1
        self.waiting += 1
        return Place(self, queue)
