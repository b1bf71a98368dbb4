"""Asks the engines of draining replicas how many requests they still have in flight; wakes the cycle when there is news.

Level-triggered, beside the loop: each cycle calls `view` when it begins and `update` when it has decided. While any replica drains it is
asked once a second; with none there is no task and no traffic. An engine that does not answer, answers something else, or does not say
both what runs and what waits is unknown, and the drain's own time limit decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import aiohttp

from polyfleet.drain import Drain
from polyfleet.loadtest.readings import read
from polyfleet.render.engines import PORT
from polyfleet.state import InFlight, Observed, PodState

CAUSE = "drained"  # why a cycle runs
PERIOD_S = 1.0
DEADLINE_S = 2.0  # of one answer
MOST_BYTES = 4 << 20  # of one page; a vLLM page has 40 to 100 KB
AT_ONCE = 64


@dataclass(slots=True)
class Counter:
    """`now` is the wall clock in RFC 3339; `mark` wakes the cycle."""

    now: Callable[[], str]
    mark: Callable[[str], None]
    period_s: float = PERIOD_S
    found: Mapping[str, InFlight] = field(default_factory=dict)
    _asked: tuple[PodState, ...] = ()
    _task: asyncio.Task[None] | None = None

    def view(self, observed: Observed) -> Observed:
        return replace(observed, in_flight=self.found)

    def update(self, drains: Iterable[Drain]) -> None:
        """Everything that is to be waited for now."""
        self._asked = tuple(sorted((item.pod for item in drains), key=lambda pod: (pod.namespace, pod.name)))
        there = {pod.uid for pod in self._asked}
        self.found = {uid: found for uid, found in self.found.items() if uid in there}
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
                counted = await asyncio.gather(*(ask(session, address(pod)) for pod in asked))
                fresh = {pod.uid: InFlight(requests, at) for pod, requests in zip(asked, counted, strict=True)}
                still = {pod.uid for pod in self._asked}
                before, self.found = self.found, {uid: item for uid, item in fresh.items() if uid in still}
                if any(item.requests == 0 for item in self.found.values()) or _known(before) != _known(self.found):
                    self.mark(CAUSE)
                await asyncio.sleep(self.period_s)


def _known(found: Mapping[str, InFlight]) -> dict[str, bool]:
    return {uid: item.requests is not None for uid, item in found.items()}


def address(pod: PodState) -> str:
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    return f"http://{host}:{PORT}/metrics" if pod.ip else ""


async def ask(session: aiohttp.ClientSession, url: str) -> float | None:
    """Requests that run and wait in one engine; None = it does not say."""
    if not url:
        return None
    try:
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            page = b""
            async for chunk in answer.content.iter_chunked(1 << 16):
                page += chunk
                if len(page) > MOST_BYTES:
                    return None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    readings = read(page.decode("utf-8", "replace"))
    if readings.running is None or readings.waiting is None or min(readings.running, readings.waiting) < 0:
        return None
    return readings.running + readings.waiting
