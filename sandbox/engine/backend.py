"""What the HTTP server asks of a backend: start, run a job as a stream of events, say how busy it is.

Two backends implement it: the scheduler over a step model (numpy, byte, paced) and llama.cpp. The server does everything that a
client sees (text, stop strings, JSON, metrics), so that all of them answer alike.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. `logprobs`: how many alternatives to report per generated token, None for none at all."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    seed: int | None = None
    ignore_eos: bool = False
    stop_token_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    prompt_logprobs: int | None = None


@dataclass(frozen=True)
class Job:
    prompt: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities at one position, before temperature and filters. `top` is sorted, the most likely first."""

    token: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Started:
    """The job left the queue; `cached_tokens` of its prompt were found in the prefix cache."""

    queue_seconds: float
    cached_tokens: int


@dataclass(frozen=True)
class PromptScored:
    """Log-probabilities of the prompt's tokens from the second on (the first has nothing before it)."""

    positions: tuple[TokenLogprobs, ...]


@dataclass(frozen=True)
class Token:
    token: int
    logprobs: TokenLogprobs | None


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Finished:
    reason: FinishReason
    stop_token: int | None = None


Event = Started | PromptScored | Token | Finished


@dataclass(frozen=True)
class Load:
    """Right now. `kv_used` is the used share of the cache, 0 to 1; the last three are totals since the start."""

    running: int
    waiting: int
    kv_used: float
    prefix_queries: int
    prefix_hits: int
    preemptions: int


class QueueFullError(Exception):
    """No room to wait. Carries the bound, for the message."""

    def __init__(self, bound: int) -> None:
        super().__init__(bound)
        self.bound = bound


class BackendError(Exception):
    """The backend broke while it worked on a job."""


class EventStream:
    """The events of one job, fed from any thread of this event loop's process.

    `close` tells the backend that nobody listens any more; it is safe to call at any time and more than once.
    """

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._on_close: Callable[[], None] | None = on_close
        self._done = False

    def put(self, event: Event | Exception) -> None:
        # a closed loop (the process is ending) has nobody left to tell
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        if self._done:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        self._done = isinstance(event, Finished)
        return event

    def close(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


class Backend(Protocol):
    prompt_logprobs: bool  # whether it can score a prompt
    kv_blocks: int
    kv_block_size: int

    async def start(self) -> None: ...

    def open(self, job: Job) -> EventStream:
        """Queues the job at once (or raises QueueFullError). Closing the stream early aborts the job."""
        ...

    def load(self) -> Load: ...

    def fault(self) -> str | None:
        """Why it cannot work any more, None while it can."""
        ...

    async def close(self) -> None: ...
