"""Asks every replica for its metrics page, once per poll, and reads the pages. Network; time comes in from outside.

Everything is bounded: requests at a time, seconds of one answer and of the whole poll, bytes of a page. No redirect is followed and nothing
is unpacked: the answer would come from elsewhere, or be larger than it looks. Connections stay open between polls while the process may
hold so many, since most of the cost of a request is its connection. A pod that gives no sample gives the reason; it is never zero.
"""

from __future__ import annotations

import asyncio
import logging
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from autoscaling.signals import MOST_BYTES, Sticky, Unreadable, read
from autoscaling.types import Sample
from polyfleet import bounded
from polyfleet.load.tally import Sent, beside
from polyfleet.load.targets import Target

log = logging.getLogger(__name__)

AT_ONCE = 256  # requests in flight
POD_S = 3.0  # of one answer, from the connection to the last byte
POLL_S = 8.0  # of a whole poll: below the tick of 10 s
KEPT_S = 45.0  # an idle connection is kept for some ticks
LARGE = 1 << 19  # bytes above which a page is read in a thread, so that the loop goes on
SPARE_FILES = 256  # descriptors left to the rest of the process
_MOST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a pod gave no sample."""

    text: str


Found = Mapping[str, Sample | Failed]


@dataclass(slots=True)
class Scraper:
    """One per process; `close` it. `clock` is monotonic, in seconds. `sent`: what the accuracy checker has sent to a pod (by uid), None =
    nothing is known to be its."""

    clock: Callable[[], float] = time.monotonic
    sent: Callable[[str], Sent | None] = lambda _: None
    at_once: int = AT_ONCE
    pod_s: float = POD_S
    poll_s: float = POLL_S
    most_bytes: int = MOST_BYTES
    _session: aiohttp.ClientSession | None = None
    _keeps: bool = True
    _urls: dict[str, URL] = field(default_factory=dict)
    _sticky: dict[str, Sticky] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)  # uids that this poll has come to
    _slow: set[str] = field(default_factory=set)  # uids that gave nothing when last asked: they come last, so that they keep nobody waiting

    async def poll(self, targets: Sequence[Target], now: float) -> Found:
        """A sample or a reason of every target, by pod uid. `now` is the wall clock in seconds since 1970; each sample bears `now` plus
        what has passed on `clock` when the answer began, so a step of the wall clock meanwhile does not show. Raises nothing but
        CancelledError."""
        began = self.clock()
        self._keep(targets)
        self._asked = set()
        found: dict[str, Sample | Failed] = {}
        queue = iter(sorted(targets, key=lambda item: (item.uid in self._slow, item.uid)))
        session = self._open(len(targets))
        workers = [
            asyncio.create_task(self._work(session, queue, now, began, found)) for _ in range(min(self.at_once, max(1, len(targets))))
        ]
        try:
            _, late = await asyncio.wait(workers, timeout=self.poll_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        except asyncio.CancelledError:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        for item in targets:
            found.setdefault(item.uid, Failed(f"no answer before the poll ended after {self.poll_s:g} s"))
        failed = {uid for uid, each in found.items() if isinstance(each, Failed)}
        self._slow = (self._slow - self._asked) | (failed & self._asked)
        return found

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ---- one poll

    async def _work(
        self, session: aiohttp.ClientSession, queue: Iterator[Target], now: float, began: float, found: dict[str, Sample | Failed]
    ) -> None:
        for item in queue:
            self._asked.add(item.uid)
            try:
                found[item.uid] = await self._ask(session, item, now, began)
            except Exception as error:  # a defect of ours on one page must not hide all the others
                log.exception("the load of a replica cannot be read", extra={"url": item.url})
                found[item.uid] = Failed(f"{item.url}: internal error: {type(error).__name__}: {error}"[:_MOST_TEXT])

    async def _ask(self, session: aiohttp.ClientSession, item: Target, now: float, began: float) -> Sample | Failed:
        if item.fault:
            return Failed(item.fault)
        url = self._urls.get(item.url)
        try:
            if url is None:
                url = self._urls[item.url] = URL(item.url, encoded=True)
            headers = _CLOSE if item.leaving or not self._keeps else None
            async with asyncio.timeout(self.pod_s), session.get(url, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    return Failed(f"{item.url} answered {answer.status}{_where(answer)}")
                if answer.headers.get("Content-Encoding", "identity") != "identity":
                    return Failed(f"{item.url} answered with a packed page, although it was asked not to")
                at = now + (self.clock() - began)
                page = await bounded.body(answer, self.most_bytes)
        except TimeoutError:
            return Failed(f"{item.url}: no whole answer within {self.pod_s:g} s")
        except aiohttp.ClientConnectorError as error:
            return Failed(f"{item.url}: no connection: {error.os_error.strerror or error}"[:_MOST_TEXT])
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Failed(f"{item.url}: {type(error).__name__}: {error}"[:_MOST_TEXT])
        if page is None:
            return Failed(f"{item.url}: the page has more than {self.most_bytes} bytes")
        return await self._read(item, page, at)

    async def _read(self, item: Target, page: bytes, at: float) -> Sample | Failed:
        sticky = self._sticky.setdefault(item.uid, Sticky())
        if len(page) > LARGE:
            found = await asyncio.to_thread(read, item.engine, page, at=at, model=item.model, sticky=sticky)
        else:
            found = read(item.engine, page, at=at, model=item.model, sticky=sticky)
        if isinstance(found, Unreadable):
            return Failed(f"{item.url}: {found.text}")
        return beside(found, self.sent(item.uid))

    # ---- between polls

    def _keep(self, targets: Sequence[Target]) -> None:
        """Forgets pods that are gone."""
        there, urls = {item.uid for item in targets}, {item.url for item in targets}
        self._sticky = {uid: each for uid, each in self._sticky.items() if uid in there}
        self._urls = {url: each for url, each in self._urls.items() if url in urls}
        self._slow &= there

    def _open(self, pods: int) -> aiohttp.ClientSession:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = math.inf if soft == resource.RLIM_INFINITY else soft
        self._keeps = pods + self.at_once + SPARE_FILES <= files
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S, use_dns_cache=False)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),  # the whole of a request is bounded in `_ask`
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=1 << 17,
                trust_env=False,
                headers={"Accept": "text/plain;version=0.0.4;q=0.9,*/*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "polyfleet"},
                requote_redirect_url=False,
            )
        return self._session


_CLOSE = {"Connection": "close"}  # a leaving engine need not wait for our connection


def _where(answer: aiohttp.ClientResponse) -> str:
    where = answer.headers.get("Location", "")
    return f", a redirect to {where[:100]}, which is not followed" if 300 <= answer.status < 400 and where else ""
