"""A load on one model: requests that arrive at random and do not wait for one another (open loop), each written down with its outcome.

Requests and answers are those of `polyfleet bench` (`polyfleet.loadtest`): streamed completions over a pool of kept-alive connections, a
record of each. What differs: the rate may be changed while it runs, and the end waits for what was begun, so that a request that is cut is
the cluster's doing. Prompts, lengths and gaps come from the seed. Bounded: so many in flight, so many in all; an arrival that finds no
place is an error in the log, not a request that is left out.

It runs in a thread of its own and sends to 127.0.0.1 only, to a door of the cluster.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from polyfleet.loadtest.client import Api, Client, Where, session
from polyfleet.loadtest.samples import Record
from polyfleet.loadtest.workload import Lengths, Scale, Workload

MOST_IN_FLIGHT = 128
MOST_REQUESTS = 5_000
STALL_S = 60.0  # without a byte; a paced token takes 31 ms, but the machine may be busy
END_S = 180.0  # for the requests that were begun before the end
BYTES_PER_WORD = 5.0  # of the prompts' words with their spaces, and so tokens of the byte model
FULL = "no place among the requests in flight"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the log. Times are seconds since 1970; `error` "" means a complete answer of `tokens` output tokens."""

    index: int
    due: float
    ended: float
    tokens: int
    error: str
    detail: str = ""


@dataclass
class Traffic:
    """Use as a context: it begins with no load, `rate` sets it, the end waits for what was begun. `log`: a file of JSON lines."""

    base: str
    model: str
    lengths: Lengths
    seed: int
    log: Path | None = None
    outcomes: list[Outcome] = field(default_factory=list)  # in the order of their ends
    sent: int = 0

    def __enter__(self) -> Traffic:
        assert urlsplit(self.base).hostname == "127.0.0.1", f"{self.base}: load goes to a door of the sandbox only"
        self._rate = 0.0
        self._workload = Workload(self.lengths, self.seed, scale=Scale(per_word=BYTES_PER_WORD))
        self._started = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="traffic", daemon=True)
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._call(self._stop.set)
        self._thread.join(END_S)
        late = self._thread.is_alive()
        if self.log is not None:
            self.log.write_text("".join(json.dumps(asdict(each)) + "\n" for each in self.outcomes))
        if kind is None:
            assert not late, f"requests did not end within {END_S:g} s"
            assert self._fault is None, f"the load generator failed: {self._fault!r}"
            assert len(self.outcomes) == self.sent

    def rate(self, per_s: float) -> None:
        """Requests per second from now on; 0 stops the sending."""

        def change() -> None:
            self._rate = per_s
            self._changed.set()

        self._call(change)

    @property
    def failed(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.error]

    def tell(self) -> str:
        """For the message of an assertion."""
        errors = Counter(f"{each.error} ({each.detail})" if each.detail else each.error for each in self.failed)
        return f"{self.sent} sent, {len(self.outcomes)} ended, {len(self.failed)} failed: {dict(errors)}"

    # ---- in the thread

    def _call(self, what: Callable[[], None]) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(what)

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # told at the end of the context
            self._fault = error
        finally:
            self._started.set()

    async def _run(self) -> None:
        self._loop, self._stop, self._changed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._started.set()
        where = Where(self.base, stall_s=STALL_S)
        running: set[asyncio.Task[None]] = set()
        async with session(where, MOST_IN_FLIGHT) as http:
            client = Client(where, Api(self.model), http)
            gaps = random.Random(f"gaps/{self.seed}")
            while self.sent < MOST_REQUESTS and await self._arrival(gaps.expovariate(1.0)):
                index, self.sent = self.sent, self.sent + 1
                if len(running) >= MOST_IN_FLIGHT:
                    self.outcomes.append(Outcome(index, time.time(), time.time(), 0, FULL))
                    continue
                task = asyncio.create_task(self._one(client, index))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.gather(*running)

    async def _arrival(self, left: float) -> bool:
        """Waits for the next arrival; False when it is time to stop. `left` is the gap in mean gaps: a change of the rate in the middle
        of it scales what is left, which keeps the arrivals those of a Poisson process."""
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            while not self._stop.is_set():
                self._changed.clear()
                rate, began = self._rate, self._loop.time()
                change = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({stop, change}, timeout=left / rate if rate > 0 else None, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
                left -= (self._loop.time() - began) * rate
                if left <= 0 and rate > 0:
                    return True
            return False
        finally:
            stop.cancel()

    async def _one(self, client: Client, index: int) -> None:
        due = time.time()
        now = self._loop.time()
        record = Record(index, now, now)
        request = self._workload.request("load", index)
        await client.send(request, record, self._loop.time)
        tokens = record.output_tokens or 0
        error = record.error or ("" if tokens == request.max_tokens else f"{tokens} of {request.max_tokens} tokens")
        self.outcomes.append(Outcome(index, due, time.time(), tokens, error, client.last_error if record.error else ""))
