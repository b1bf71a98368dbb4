"""The second source of the load: a Prometheus that scrapes the same replicas. Asked only for those that do not answer themselves. Network.

It may be configured and is never needed (`POLYFLEET_PROMETHEUS_URL`). What it says is judged as a page of the replica, with the stamp of
the scrape: the same names, the same doubt. A replica that it knows nothing of is unknown, never zero. Everything is bounded: seconds of the
whole poll, bytes and series of an answer, replicas of a question, questions at a time. No redirect is followed, for the token would go
along; the token is read from its file at every poll, so that it may rotate, and stands in no message.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from autoscaling.policy import STALE_S
from autoscaling.signals import Sticky, Unreadable, read, words_of
from autoscaling.types import Sample
from polyfleet import bounded
from polyfleet.load import matrix
from polyfleet.load.scraper import Failed, Found
from polyfleet.load.tally import Sent, beside
from polyfleet.load.targets import Target

log = logging.getLogger(__name__)

POLL_S = 3.0  # of a whole poll: the direct one may have taken most of the tick
MOST_BYTES = 8 << 20  # of one answer
MOST_PODS = 50  # of one question: some 3 MB where a replica has 120 series
AT_ONCE = 4
LARGE = 1 << 18  # bytes above which an answer is read in a thread
_MOST_TOKEN = 1 << 14
_MOST_TEXT = 300


class FileError(ValueError):
    """The file of the token or of the CA is of no use; says why, and not what is in it."""


@dataclass(slots=True)
class Prometheus:
    """One per process; `close` it. `sent` as in `Scraper`, as of now: a scrape is older, so what the accuracy checker sent
    since is taken off one reading early."""

    url: str  # up to and without /api/v1
    ca_file: Path | None = None
    token_file: Path | None = None
    sent: Callable[[str], Sent | None] = lambda _: None
    poll_s: float = POLL_S
    most_bytes: int = MOST_BYTES
    most_pods: int = MOST_PODS
    _session: aiohttp.ClientSession | None = None
    _sticky: dict[str, Sticky] = field(default_factory=dict)
    _now: float = 0.0
    _told: str = ""  # the last failure that was logged: one line when it begins, one when it is over

    async def poll(self, targets: Sequence[Target], now: float) -> Found:
        """A sample or a reason of every target, by pod uid. `now` is the wall clock in seconds since 1970. Raises nothing but
        CancelledError."""
        self._now = now
        there = {item.uid for item in targets}
        self._sticky = {uid: each for uid, each in self._sticky.items() if uid in there}
        found: dict[str, Sample | Failed] = {}
        questions = self._questions(targets)
        if not questions:
            return found
        faults: list[str] = []
        workers = [asyncio.create_task(self._work(questions, found, faults)) for _ in range(AT_ONCE)]
        try:
            _, late = await asyncio.wait(workers, timeout=self.poll_s)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        slow = f"no whole answer within {self.poll_s:g} s"
        self._say(slow if late else min(faults, default=""))
        for item in targets:
            if words_of(item.engine) is not None and item.uid not in found:
                found[item.uid] = Failed(f"Prometheus: {slow}")
        return found

    async def close(self) -> None:
        session, self._session = self._session, None  # before the pause, in which another question may open a new one
        if session is not None:
            await session.close()

    # ---- one poll

    def _questions(self, targets: Sequence[Target]) -> Iterator[list[Target]] | None:
        """Replicas of one namespace and engine together, few at a time; those without an adapter are not asked for."""
        groups: dict[tuple[str, str], list[Target]] = {}
        for item in sorted(targets, key=lambda each: each.pod):
            if (words := words_of(item.engine)) is not None and item.pod:
                groups.setdefault((item.namespace, words.engine), []).append(item)
        parts = [group[at : at + self.most_pods] for _, group in sorted(groups.items()) for at in range(0, len(group), self.most_pods)]
        return iter(parts) if parts else None

    async def _work(self, questions: Iterator[list[Target]], found: dict[str, Sample | Failed], faults: list[str]) -> None:
        for group in questions:
            text = ""
            try:
                answer = await self._ask(group)
                if len(answer) > LARGE:
                    found |= await asyncio.to_thread(self._read, answer, group)
                else:
                    found |= self._read(answer, group)
            except (matrix.AnswerError, FileError) as error:
                text = str(error)
            except aiohttp.ClientConnectorError as error:
                await self.close()  # a new connection reads the CA file anew
                text = f"no connection: {error}"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                text = f"{type(error).__name__}: {error}"
            except Exception as error:  # a defect of ours must not hide what the replicas said themselves
                log.exception("the answer of Prometheus cannot be read")
                text = f"internal error: {type(error).__name__}"
            if text:
                faults.append(text)
                found |= {item.uid: Failed(f"Prometheus: {text}"[:_MOST_TEXT]) for item in group}

    async def _ask(self, group: Sequence[Target]) -> bytes:
        words = words_of(group[0].engine)
        assert words is not None
        form = {
            "query": matrix.query(words, group[0].namespace, [item.pod for item in group]),
            "timeout": f"{self.poll_s:g}s",
            "limit": str(matrix.MOST_SERIES),
        }
        headers = {"Authorization": f"Bearer {self._token()}"} if self.token_file is not None else None
        async with self._open().post(f"{self.url}/api/v1/query", data=form, headers=headers, allow_redirects=False) as answer:
            if 300 <= answer.status < 400:
                raise matrix.AnswerError(f"it answered {answer.status}, a redirect, which is not followed; set the URL to where it leads")
            if answer.status in (401, 403):
                raise matrix.AnswerError(f"it answered {answer.status}: it needs a token that may query it (chart value prometheus.token)")
            body = await self._body(answer)
            if answer.status >= 300 and not body.lstrip().startswith(b"{"):
                raise matrix.AnswerError(f"it answered {answer.status}")
            return body  # an error of the query comes as JSON, with 400, 422 or 503

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            answer.close()
            raise matrix.AnswerError("it answered with a packed page, although it was asked not to")
        found = await bounded.body(answer, self.most_bytes)
        if found is None:
            raise matrix.AnswerError(f"it answered with more than {self.most_bytes} bytes")
        return found

    def _read(self, answer: bytes, group: Sequence[Target]) -> dict[str, Sample | Failed]:
        found = matrix.pages(matrix.parse(answer), group)
        return {item.uid: self._sample(found.get(item.uid), item) for item in group}

    def _sample(self, page: matrix.Page | None, item: Target) -> Sample | Failed:
        if page is None:
            return Failed(
                f'Prometheus: no series with namespace="{item.namespace}" and pod="{item.pod}" in the last {matrix.WINDOW_S} s;'
                " see whether it scrapes the replicas and gives these labels"
            )
        if page.at < self._now - STALE_S:
            return Failed(f"Prometheus: its newest scrape is {self._now - page.at:.0f} s old, and {STALE_S:.0f} s are the most")
        sticky = self._sticky.setdefault(item.uid, Sticky())
        found = read(item.engine, page.text, at=page.at, model=item.model, sticky=sticky)
        if isinstance(found, Unreadable):
            return Failed(f"Prometheus: {found.text}")
        found = replace(found, every=page.every)
        return beside(found, self.sent(item.uid))

    # ---- the connection

    def _token(self) -> str:
        assert self.token_file is not None
        try:
            with self.token_file.open("rb") as file:
                text = file.read(_MOST_TOKEN + 1).strip()
        except OSError as error:
            raise FileError(f"the token cannot be read from {self.token_file}: {error.strerror}") from None
        if not text or len(text) > _MOST_TOKEN or not text.isascii() or any(byte <= 32 or byte == 127 for byte in text):
            raise FileError(f"{self.token_file} holds no token: one line of at most {_MOST_TOKEN} printable characters is expected")
        return text.decode("ascii")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            try:
                trusted = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file is not None else None)
            except OSError as error:  # also of a file that holds no certificate
                raise FileError(f"{self.ca_file} holds no certificates that can be read: {error.strerror or error}") from None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=AT_ONCE, ssl=trusted),
                timeout=aiohttp.ClientTimeout(total=None),  # the whole poll is bounded
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "polyfleet"},
                requote_redirect_url=False,
            )
        return self._session

    def _say(self, text: str) -> None:
        if text and not self._told:
            log.warning("Prometheus gives no load for replicas that do not answer themselves", extra={"detail": text[:_MOST_TEXT]})
        elif self._told and not text:
            log.info("Prometheus answers again")
        self._told = text
