"""One streamed request to an OpenAI-compatible endpoint, and what it says about itself. aiohttp; every wait and every size is bounded.

A request never raises: what went wrong is a short word in the record, so that equal failures count together. An endpoint that cannot be
tested at all ends the command before anything is sent (`identify`).
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from polyfleet.loadtest.driver import Clock
from polyfleet.loadtest.samples import Record
from polyfleet.loadtest.sse import Parser, TooLargeError
from polyfleet.loadtest.workload import Request

CONNECT_S = 10.0
STALL_S = 60.0  # without a byte; a first token takes long on a full engine, so this is the user's to raise
TOTAL_S = 3600.0
MOST_BODY = 4 << 20  # of an answer that is no stream
MOST_TOKENS = 1_000_000

Json = dict[str, Any]


async def no_headers() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Where:
    """How to reach an endpoint. `base` ends before `/v1` (engines answer /version and /metrics beside it).

    `headers` may hold credentials and is never printed; they are asked for each request, because a cluster's token is renewed.
    """

    base: str
    headers: Callable[[], Awaitable[Mapping[str, str]]] = field(default=no_headers, repr=False)
    tls: ssl.SSLContext | bool = field(default=True, repr=False)
    stall_s: float = STALL_S

    def url(self, path: str) -> URL:
        return URL(self.base.rstrip("/") + path, encoded=True)


def session(where: Where, connections: int) -> aiohttp.ClientSession:
    """A pool that never makes a request wait for a connection: the wait would be measured as the engine's."""
    connector = aiohttp.TCPConnector(limit=connections + 8, ssl=where.tls, ttl_dns_cache=300)
    timeout = aiohttp.ClientTimeout(total=TOTAL_S, connect=None, sock_connect=CONNECT_S, sock_read=where.stall_s)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 16, auto_decompress=True)


@dataclass(slots=True)
class Api:
    """What was found out about the endpoint's dialect by the probe requests (`identify.probe`)."""

    model: str
    chat: bool = False
    ignore_eos: bool = True
    usage: bool = True  # it knows stream_options.include_usage
    total_s: float = TOTAL_S

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def body(self, request: Request) -> Json:
        said: Json = {"messages": [{"role": "user", "content": request.prompt}]} if self.chat else {"prompt": request.prompt}
        said |= {"model": self.model, "max_tokens": request.max_tokens, "temperature": 0, "stream": True}
        if self.usage:
            said["stream_options"] = {"include_usage": True}
        if self.ignore_eos:
            said["ignore_eos"] = True  # as many tokens as asked for, whatever the model would say
        return said


class Client:
    """`send` is a driver's Send."""

    def __init__(self, where: Where, api: Api, http: aiohttp.ClientSession) -> None:
        self._where, self.api, self._http = where, api, http
        self.last_error = ""  # the endpoint's own words of the latest failure, for the report
        self.received = 0  # output tokens of all requests, cut off ones included
        self.unseen = 0  # what those may have got beyond it, at most

    async def send(self, request: Request, record: Record, clock: Clock) -> None:
        whole = False  # nothing is on its way any more
        try:
            async with asyncio.timeout(self.api.total_s):
                record.error = await self._stream(request, record, clock)
                whole = not record.error or record.error.startswith("HTTP ")
        except TimeoutError:
            record.error = "stalled" if record.pieces else "no answer in time"
        except aiohttp.ClientConnectorError as error:
            record.error, whole = "connection refused", True
            self.last_error = short(error)
        except (aiohttp.ClientError, OSError) as error:
            record.error = "connection lost"
            self.last_error = short(error)
        except TooLargeError as error:
            record.error = "not an event stream"
            self.last_error = str(error)
        finally:
            self.received += record.output_tokens if record.output_tokens is not None else len(record.pieces)
            if record.output_tokens is None and not whole:
                self.unseen += max(0, request.max_tokens - len(record.pieces))

    async def _stream(self, request: Request, record: Record, clock: Clock) -> str:
        url = self._where.url(self.api.path)
        headers = await self._where.headers()
        async with self._http.post(url, json=self.api.body(request), headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                self.last_error = await message_of(answer)
                return f"HTTP {answer.status}"
            parser, ended = Parser(), False
            async for chunk in answer.content.iter_any():
                now = clock()
                for data in parser.feed(chunk):
                    if ended:
                        continue
                    if data.strip() == "[DONE]":
                        ended = True
                        continue
                    error = self._event(data, record, now)
                    if error:
                        return error
            if not record.pieces:
                return "no text in the answer"
            return "" if ended or record.output_tokens is not None else "stream cut off"

    def _event(self, data: str, record: Record, now: float) -> str:
        try:
            event = json.loads(data)
        except ValueError:
            self.last_error = f"an event that is not JSON: {data[:200]}"
            return "not an event stream"
        if not isinstance(event, dict):
            return "not an event stream"
        if event.get("error"):
            self.last_error = short(event["error"])
            return "error in the stream"
        if has_text(event) and len(record.pieces) < MOST_TOKENS:
            record.pieces.append(now)
        usage = event.get("usage")
        if isinstance(usage, dict):
            record.input_tokens = count_of(usage, "prompt_tokens", record.input_tokens)
            record.output_tokens = count_of(usage, "completion_tokens", record.output_tokens)
        return ""


def has_text(event: Mapping[str, Any]) -> bool:
    """Whether the event brings text. A role, an empty delta or a finish reason is not a token that anybody sees."""
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    choice = choices[0]
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return any(isinstance(delta.get(name), str) and delta[name] for name in ("content", "reasoning_content", "reasoning"))
    return bool(isinstance(choice.get("text"), str) and choice["text"])


def count_of(usage: Mapping[str, Any], name: str, before: int | None) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS else before


async def bounded(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, or its first `most` bytes."""
    raw = bytearray()
    async for chunk in answer.content.iter_any():
        raw += chunk
        if len(raw) >= most:
            break
    return bytes(raw[:most])


async def message_of(answer: aiohttp.ClientResponse) -> str:
    """What an endpoint says about its own refusal: `error.message`, `message` or `detail`, else the start of the body."""
    raw = await bounded(answer, 64 << 10)
    try:
        body = json.loads(raw)
    except ValueError:
        return short(raw.decode("utf-8", "replace")) or str(answer.reason)
    for part in (body.get("error"), body) if isinstance(body, dict) else ():
        if isinstance(part, dict):
            found = next((part[name] for name in ("message", "detail") if part.get(name)), None)
            if found is not None:
                return short(found)
        elif isinstance(part, str) and part:
            return short(part)
    return short(body)


def short(value: object, most: int = 300) -> str:
    if isinstance(value, Exception):
        value = f"{type(value).__name__}: {value}"
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split())[:most]
