"""Asks the engines of draining replicas how many requests they still have in flight; wakes the cycle when there is news.

Level-triggered, beside the loop: each cycle calls `view` when it begins and `update` when it has decided. While any replica drains it is
asked once a second; with none there is no task and no traffic. Every engine with an adapter (`autoscaling.signals`) can be asked. One that
does not answer, answers something else, or does not say both what runs and what waits is unknown, and the drain's own time limit decides.
How long a replica has been out of its Service and idle is reckoned by this process' clock; a new one begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import aiohttp

from autoscaling.signals import ENGINES, read, words_of
from autoscaling.types import Sample
from polyfleet.drain import Drain, idle
from polyfleet.load import targets
from polyfleet.state import InFlight, Observed

CAUSE = "drained"  # why a cycle runs
PERIOD_S = 1.0
DEADLINE_S = 2.0  # of one answer
MOST_BYTES = 4 << 20  # of one page; a vLLM page has 40 to 100 KB
AT_ONCE = 64
_UNMISTAKABLE = tuple(name for name, words in sorted(ENGINES.items()) if words.prefix)  # no other engine has names that begin so


@dataclass(slots=True)
class Counter:
    """`now` is the wall clock in RFC 3339; `mark` wakes the cycle."""

    now: Callable[[], str]
    mark: Callable[[str], None]
    period_s: float = PERIOD_S
    found: Mapping[str, InFlight] = field(default_factory=dict)
    _counters: dict[str, Counters] = field(default_factory=dict)  # of the last reading of each
    _asked: tuple[Drain, ...] = ()
    _task: asyncio.Task[None] | None = None

    def view(self, observed: Observed) -> Observed:
        return replace(observed, in_flight=self.found)

    def update(self, drains: Iterable[Drain]) -> None:
        """Everything that is to be waited for now."""
        self._asked = tuple(sorted(drains, key=lambda item: (item.pod.namespace, item.pod.name)))
        there = {item.pod.uid for item in self._asked}
        self.found = {uid: found for uid, found in self.found.items() if uid in there}
        self._counters = {uid: counters for uid, counters in self._counters.items() if uid in there}
        if self._asked and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="in flight")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Until nothing drains. No keep-alive: a connection held open would be one more thing that the engine waits for."""
        connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            while self._asked:
                asked, at = self._asked, self.now()
                counted = await asyncio.gather(*(ask(session, address(item), item.engine) for item in asked))
                still = {item.pod.uid for item in self._asked}
                fresh = {item.pod.uid: self._read(item, sample, at) for item, sample in zip(asked, counted, strict=True)}
                before, self.found = self.found, {uid: item for uid, item in fresh.items() if uid in still}
                if any(idle(item) for item in self.found.values()) or _known(before) != _known(self.found):
                    self.mark(CAUSE)
                await asyncio.sleep(self.period_s)

    def _read(self, item: Drain, sample: Sample | None, at: str) -> InFlight:
        uid, before = item.pod.uid, self.found.get(item.pod.uid)
        counters = _counters(sample)
        same, self._counters[uid] = self._counters.get(uid) == counters, counters
        closed = (before.closed if before is not None else "") or at if item.closed else ""
        requests = sample.inside if sample is not None else None
        if requests != 0 or not closed:
            return InFlight(requests, at, closed)
        return InFlight(requests, at, closed, before.quiet if before is not None and before.quiet and same else at)


Counters = tuple[float | None, ...]


def _counters(sample: Sample | None) -> Counters:
    """What grows with every request."""
    return (sample.arrived, sample.finished, sample.prompt_tokens, sample.output_tokens) if sample is not None else ()


def _known(found: Mapping[str, InFlight]) -> dict[str, bool]:
    return {uid: item.requests is not None for uid, item in found.items()}


def address(item: Drain) -> str:
    """ "": it cannot be asked."""
    return targets.address(item.pod, item.engine)[0]


async def ask(session: aiohttp.ClientSession, url: str, engine: str = "") -> Sample | None:
    """What one engine says, with the requests that run and wait in it; None = it does not say those. `engine`: whose names it publishes,
    "" = not known."""
    if not url:
        return None
    page = bytearray()
    try:
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            async for chunk in answer.content.iter_chunked(1 << 16):
                page += chunk
                if len(page) > MOST_BYTES:
                    return None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    return inside(bytes(page), engine)


def inside(page: bytes, engine: str) -> Sample | None:
    """Of all models on the page. Names without prefix are believed only of the engine that is known to use them, or where none is known."""
    words = words_of(engine)
    others = () if words is not None else tuple(name for name in ENGINES if name not in _UNMISTAKABLE)
    names = ((words.engine,) if words is not None else ()) + _UNMISTAKABLE + others
    for name in names:
        found = read(name, page, at=0.0)
        if isinstance(found, Sample) and found.inside is not None:
            return found
    return None
