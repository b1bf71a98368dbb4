"""One endpoint over HTTP: every wait and every size is bounded, and every failure is one of the errors below.

No redirect is followed (the answer would come from somewhere else than what is certified). 429 and 503 are waited out as the endpoint
asks; a lost connection is tried again; an error of the engine itself (5xx) is not: it is evidence, and the caller decides what it means.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from accuracy.http.endpoint import Endpoint, Meter

if TYPE_CHECKING:
    from accuracy.http.probe import Dialect

Json = dict[str, Any]

CONNECT_S = 10.0
MOST_BODY = 48 << 20  # bytes of one answer: the log-probabilities of a long prompt are some megabytes
MOST_ERROR = 64 << 10
CONNECTIONS = 96
WAITS = 6  # of a 429 or 503
LONGEST_WAIT_S = 60.0
LOST_TRIES = 3  # of a lost connection; a silence is tried twice only, each takes the whole timeout
LOST_PAUSE_S = 0.5


class HttpError(Exception):
    """A request that brought no usable answer. `message` is the endpoint's own word where it said one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message, self.status = message, status


class UnavailableError(HttpError):
    """Nobody answers: no connection, silence, a closed connection, a redirect, 429 or 503 for too long, no permission."""


class RefusedError(HttpError):
    """4xx: the endpoint does not take this request."""


class FailedError(HttpError):
    """5xx: the engine failed on this request."""


class GarbledError(HttpError):
    """200, and the body is not what this API answers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 with a JSON object. `seconds` from sending to the last byte."""

    body: Json
    seconds: float


class Client:
    """Use as `async with connect(endpoint) as client`. `model` is the name sent with each request; `dialect` is what `probe` found."""

    def __init__(
        self,
        endpoint: Endpoint,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.endpoint, self._session, self._clock, self._sleep = endpoint, session, clock, sleep
        self.model = endpoint.model
        self.dialect: Dialect | None = None
        self.requests = self.prompt_tokens = self.generated_tokens = 0
        self._next_slot = 0.0
        self._turn = asyncio.Lock()

    @property
    def name(self) -> str:
        return self.endpoint.label

    async def get(self, path: str) -> Answer:
        return await self._asked("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Sends `body` with the model's name. Raises HttpError."""
        return await self._asked("POST", path, {"model": self.model, **body} if self.model else dict(body))

    async def complete(self, body: Mapping[str, Any]) -> Answer:
        return await self.post(self.endpoint.completions_path, body)

    async def chat(self, body: Mapping[str, Any]) -> Answer:
        return await self.post(self.endpoint.chat_path, body)

    async def stream(self, path: str, body: Mapping[str, Any]) -> list[Json]:
        """The chunks of a streamed answer. GarbledError where it stops before its end."""
        sent = {"model": self.model, **body, "stream": True} if self.model else {**body, "stream": True}
        raw, _ = await self._retried("POST", path, sent)
        events = [line[5:].strip() for line in raw.decode("utf-8", "replace").splitlines() if line.startswith("data:")]
        if not events or events[-1] != "[DONE]":
            raise GarbledError("the stream ended before its end mark", 200)
        return [_object(event.encode()) for event in events[:-1]]

    async def _asked(self, method: str, path: str, body: Json | None) -> Answer:
        raw, seconds = await self._retried(method, path, body)
        # Many answers may come at once, each of them milliseconds of work: one after another, with room for everything else in between.
        async with self._turn:
            await asyncio.sleep(0)
            found = _object(raw)
        usage = found.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens += count(usage.get("prompt_tokens")) or 0
            self.generated_tokens += count(usage.get("completion_tokens")) or 0
            if (meter := self._meter(path)) is not None:
                meter.prompt_tokens += count(usage.get("prompt_tokens")) or 0
                meter.output_tokens += count(usage.get("completion_tokens")) or 0
        return Answer(found, seconds)

    async def _retried(self, method: str, path: str, body: Json | None) -> tuple[bytes, float]:
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        lost = waits = 0
        while True:
            await self._slot()
            begun = self._clock()
            try:
                status, reason, headers, raw = await self._once(method, path, data)
            except TimeoutError:
                lost += 2
                why = f"no answer within {self.endpoint.timeout_s:g} s"
            except aiohttp.ClientConnectorError as error:
                lost += 1
                why = f"no connection: {_words(error.os_error.strerror or error)}"
            except (aiohttp.ClientError, OSError) as error:
                lost += 1
                why = f"the connection was lost: {_words(error)}"
            else:
                if status == 200:
                    return raw, self._clock() - begun
                if status in (429, 503) and waits < WAITS:
                    waits += 1
                    await self._sleep(_retry_after(headers.get("Retry-After"), waits))
                    continue
                raise _refusal(status, _message(raw) or reason)
            if lost >= LOST_TRIES:
                raise UnavailableError(why)
            await self._sleep(LOST_PAUSE_S * 2**lost)

    async def _once(self, method: str, path: str, data: bytes | None) -> tuple[int, str, Mapping[str, str], bytes]:
        self.requests += 1
        if (meter := self._meter(path)) is not None:
            meter.requests += 1
        headers = {"Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self.endpoint.token:
            headers["Authorization"] = f"Bearer {self.endpoint.token}"
        url = URL(self.endpoint.base + path)
        async with (
            asyncio.timeout(self.endpoint.timeout_s),
            self._session.request(method, url, data=data, headers=headers, allow_redirects=False) as answer,
        ):
            if meter is not None and (300 <= answer.status < 500 or answer.status == 503):
                meter.requests -= 1  # turned away: the engine never had it
            most = MOST_BODY if answer.status == 200 else MOST_ERROR
            raw = bytearray()
            async for chunk in answer.content.iter_any():
                raw += chunk
                if len(raw) > most:
                    if answer.status == 200:
                        raise GarbledError(f"the answer is longer than {MOST_BODY >> 20} MiB", 200)
                    break
            return answer.status, str(answer.reason or ""), answer.headers, bytes(raw)

    def _meter(self, path: str) -> Meter | None:
        """Of requests that an engine computes: not of what is asked about it."""
        return self.endpoint.meter if path in (self.endpoint.completions_path, self.endpoint.chat_path) else None

    async def _slot(self) -> None:
        """Waits for the next moment that max_rps allows."""
        if self.endpoint.max_rps is None:
            return
        now = self._clock()
        at = max(now, self._next_slot)
        self._next_slot = at + 1 / self.endpoint.max_rps
        if at > now:
            await self._sleep(at - now)


@asynccontextmanager
async def connect(
    endpoint: Endpoint,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Client]:
    """A client with its own connections. Raises EndpointError for a CA file that cannot be read."""
    tls = await asyncio.to_thread(endpoint.tls)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls)
    # The whole of a request is bounded in `_once`; a pool that is full must not count against it.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Client(endpoint, session, clock=clock, sleep=sleep)


def count(value: object) -> int | None:
    """A number of tokens or an id; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def _object(raw: bytes) -> Json:
    try:
        found = json.loads(raw)  # also takes NaN and Infinity, which some engines write
    except (ValueError, RecursionError) as error:
        raise GarbledError(f"the answer is not JSON: {_words(raw.decode('utf-8', 'replace')) or error}", 200) from error
    if not isinstance(found, dict):
        raise GarbledError(f"the answer is a JSON {type(found).__name__}, not an object", 200)
    if found.get("error"):  # some gateways answer 200 with an error inside
        raise GarbledError(f"the answer is an error: {_message(raw)}", 200)
    return found


def _refusal(status: int, message: str) -> HttpError:
    said = f"HTTP {status}: {message}"
    if 300 <= status < 400:
        return UnavailableError(f"HTTP {status}: it redirects, and redirects are not followed; give the engine's own address", status)
    if status in (401, 403, 429, 503):
        return UnavailableError(said, status)
    if 400 <= status < 500:
        return RefusedError(said, status)
    if status >= 500:
        return FailedError(said, status)
    return GarbledError(f"HTTP {status} instead of 200", status)


def _message(raw: bytes) -> str:
    """An endpoint's own words about its refusal: `error.message`, `message` or `detail`, else the start of the body."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return _words(raw.decode("utf-8", "replace"))
    for part in (body.get("error"), body) if isinstance(body, dict) else ():
        if isinstance(part, dict):
            found = next((part[name] for name in ("message", "detail") if part.get(name)), None)
            if found is not None:
                return _words(found)
        elif isinstance(part, str) and part:
            return _words(part)
    return _words(body)


def _retry_after(header: str | None, waits: int) -> float:
    """Seconds to wait: as asked (a number or a date), else doubling from one; between 0.1 and 60."""
    wanted = float(2 ** (waits - 1))
    if header:
        try:
            wanted = float(header)
        except ValueError:
            try:
                wanted = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
            except (ValueError, TypeError):
                pass  # neither a number nor a date: as if nothing was asked for
    return min(LONGEST_WAIT_S, max(0.1, wanted)) if wanted == wanted else 1.0


def _words(value: object, most: int = 300) -> str:
    text = value if isinstance(value, str) else str(value) if isinstance(value, Exception) else json.dumps(value)
    return " ".join(text.split())[:most]
