"""A moment that may move closer: the end of a grace period, when a second and more urgent deletion arrives."""

import asyncio
from contextlib import suppress


class Deadline:
    """A moment that may move closer (a second, more urgent deletion)."""

    def __init__(self, seconds: float) -> None:
        self._at = asyncio.get_running_loop().time() + seconds
        self._moved = asyncio.Event()

    @property
    def remaining_seconds(self) -> float:
        """How long it is still away."""
        return self._at - asyncio.get_running_loop().time()

    def at_least(self, seconds: float) -> None:
        """Leave at least so much time."""
        self._at = max(self._at, asyncio.get_running_loop().time() + seconds)

    def at_most(self, seconds: float) -> None:
        """Leave at most so much time."""
        if seconds < self.remaining_seconds:
            self._at = asyncio.get_running_loop().time() + seconds
            self._moved.set()

    async def passed(self) -> None:
        """Wait for it."""
        while self.remaining_seconds > 0:
            self._moved.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), self.remaining_seconds)
