"""Keeps requests in flight: exactly c of them (closed loop), or as they arrive at random (open loop). Clock and sleep are arguments.

Closed loop: c workers, each sends its next request when its last one ended. So the controlled quantity is the number in flight, which is
what `concurrency` means in the key of a throughput entry and in the published figures beside it.

Open loop: requests come at the moments of a Poisson process whether or not earlier ones ended, so a slow answer does not slow the asking
(a closed loop asks a slow server less often and so hides its worst waits). At most `cap` are in flight; whoever finds no place waits
here, and the wait counts from the moment of arrival.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any

from polyfleet.loadtest.samples import Phase, Record
from polyfleet.loadtest.stages import MOST_ERRORS
from polyfleet.loadtest.workload import Request

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
Send = Callable[[Request, Record, Clock], Awaitable[None]]  # fills the record; returns when the request ended, never raises but Cancelled
More = Callable[[Phase], float]  # asked when the time is up: how many seconds more are needed (0 = enough)

LEAST_FAILED = 3  # one lost connection is no verdict
AFTER_ERROR_S = 0.1  # a worker does not spin on a server that refuses at once


class Driver:
    """Runs phases against `send`. `stop` ends a phase early, from outside. `left` requests may still be sent (all phases together)."""

    def __init__(self, send: Send, clock: Clock, sleep: Sleep, stop: asyncio.Event, left: int) -> None:
        self._send, self._clock, self._sleep, self._stop, self.left = send, clock, sleep, stop, left

    async def hold(self, request: Callable[[int], Request], concurrency: int, seconds: float, more: More) -> Phase:
        """Closed loop with `concurrency` in flight."""
        return await self._phase(lambda run: run.closed(request, concurrency), seconds, more)

    async def arrive(self, request: Callable[[int], Request], arrivals: Iterator[float], cap: int, seconds: float, more: More) -> Phase:
        """Open loop: one request at each of `arrivals` (seconds from the start of the phase), at most `cap` in flight."""
        return await self._phase(lambda run: run.opened(request, arrivals, cap), seconds, more)

    async def _phase(self, begin: Callable[[_Run], Awaitable[None]], seconds: float, more: More) -> Phase:
        run = _Run(self, self._send, self._clock, self._sleep)
        stopped: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
        work: asyncio.Future[Any] = asyncio.ensure_future(begin(run))
        until = run.started + seconds
        try:
            while True:
                timer: asyncio.Future[Any] = asyncio.ensure_future(self._sleep(max(0.0, until - self._clock())))
                waited: set[asyncio.Future[Any]] = {timer, stopped, work, run.failing}
                done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                timer.cancel()
                if work.done():
                    work.result()  # a fault of this program shows itself
                reason = run.reason(stopped in done, work in done)
                phase = run.phase(reason or "TimeUp")  # what `more` judges is what is returned, to the last token
                extra = more(phase) if reason is None else 0.0
                if extra <= 0:
                    return phase
                until = self._clock() + extra
        finally:
            stopped.cancel()
            work.cancel()
            await run.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)


class _Run:
    """One phase while it runs."""

    def __init__(self, driver: Driver, send: Send, clock: Clock, sleep: Sleep) -> None:
        self._driver, self._send, self._clock, self._sleep = driver, send, clock, sleep
        self.started = clock()
        self.records: list[Record] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = self._done = 0
        self.failing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def reason(self, stopped: bool, worked: bool) -> str | None:
        if stopped:
            return "Interrupted"
        if self.failing.done():
            return "Errors"
        return "RequestLimit" if worked else None

    def phase(self, reason: str) -> Phase:
        return Phase(self.started, self._clock(), tuple(self.records), reason)

    async def cancel(self) -> None:
        """Requests in flight are cut off: their tokens so far are counted, their waiting would cost more than it tells."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.failing.cancel()

    async def closed(self, request: Callable[[int], Request], concurrency: int) -> None:
        numbers = count()

        async def worker() -> None:
            while self._driver.left > 0:
                index = next(numbers)
                now = self._clock()
                record = await self._one(request(index), now, now)
                if record.error:
                    await self._sleep(AFTER_ERROR_S)

        self._tasks = {asyncio.ensure_future(worker()) for _ in range(concurrency)}
        await asyncio.gather(*self._tasks)

    async def opened(self, request: Callable[[int], Request], arrivals: Iterator[float], cap: int) -> None:
        places = asyncio.Semaphore(cap)
        waiting = 0  # arrived and not sent yet: they have their place among the requests that are left

        async def one(index: int, due: float) -> None:
            nonlocal waiting
            record = Record(index, due, due)
            self.records.append(record)
            async with places:
                waiting -= 1
                await self._one(request(index), due, self._clock(), record)

        for index in count():
            if self._driver.left <= waiting:
                break
            due = self.started + next(arrivals)
            await self._sleep(max(0.0, due - self._clock()))
            waiting += 1
            task = asyncio.ensure_future(one(index, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)

    async def _one(self, request: Request, wanted: float, sent: float, record: Record | None = None) -> Record:
        self._driver.left -= 1
        if record is None:
            record = Record(request.index, wanted, sent)
            self.records.append(record)
        record.sent = sent
        await self._send(request, record, self._clock)
        record.ended = self._clock()
        self._done += 1
        if record.error:
            self._failed += 1
            if self._failed >= LEAST_FAILED and self._failed > MOST_ERRORS * self._done and not self.failing.done():
                self.failing.set_result(None)
        return record
