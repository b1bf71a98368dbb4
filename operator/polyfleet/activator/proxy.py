"""One request at the activator: counted, held until a replica serves, passed on. Network; time from the loop's clock.

What is bounded: bytes of a line and of a header and their number, seconds until the headers and until the body have come, bytes of a body,
requests and bytes that wait, requests on their way, seconds of waiting. An answer is passed on as it comes. Every answer ends its
connection, so that the client's next one goes through the Service, to a replica.

A replica that does not take the connection is left for another one; once a request has left for a replica it is never sent again, for it
may have been worked on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from polyfleet.activator import answers, asks
from polyfleet.activator.answers import Answer
from polyfleet.activator.directory import Directory, Model, Where
from polyfleet.activator.hall import GONE, LATE, LOST, PASSED, REFUSED, Hall, Place
from polyfleet.activator.settings import Settings

log = logging.getLogger(__name__)

CONNECT_S = 3.0
AGAIN_S = 0.5  # between two rounds over replicas none of which takes the connection, unless they change before
HEAD_FREE = 8 << 10  # bytes of headers; more of them count as those of the body do, for they are held as long
WRITE_S = 300.0  # a client that takes nothing of its answer for so long is gone
_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OWN = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # that aiohttp would add


class _Malformed(logging.Filter):
    """Leaves out what is no HTTP: each is answered 400, and a scanner would fill the log with traces of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, aiohttp.http_exceptions.HttpProcessingError)


_server_log = logging.getLogger(f"{__name__}.server")
_server_log.addFilter(_Malformed())


class _GoneError(Exception):
    """The client takes nothing any more."""


@dataclass(slots=True)
class Proxy:
    """`close` it. `closing`: set when the process is to end and waits no longer."""

    directory: Directory
    hall: Hall
    settings: Settings
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    _session: aiohttp.ClientSession | None = None
    _busy: Counter[Where] = field(default_factory=Counter)  # requests of ours at each replica

    def server(self) -> web.Server:
        """For any number of ports: whose a request is is told by the port that it came to."""
        return web.Server(
            self.handle,
            handler_cancellation=True,
            keepalive_timeout=self.settings.header_s,
            access_log=None,
            logger=_server_log,
            auto_decompress=False,
            lingering_time=min(2.0, self.settings.body_s),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        port = transport.get_extra_info("sockname")[1] if transport is not None else 0
        model = self.directory.by_port.get(port)
        if model is None:
            return _plain(answers.nobody())
        if request.headers.get("Upgrade", "").strip().lower() == "websocket":
            return _plain(answers.upgrade())
        if not request.rel_url.raw_path.startswith("/") or request.method == "CONNECT":
            return _plain(answers.error(400, "bad_target", "the target must be a path"))  # it goes behind a replica's address
        ask = asks.kind(request.method, request.rel_url.raw_path)
        if ask is not asks.Ask.WORK:
            return await self._aside(request, model, ask)
        queue = self.hall.queue(model.route.key)
        queue.requests += 1
        outcome = GONE
        try:
            outcome, answer = await self._work(request, model)
            return answer
        finally:
            queue.outcomes[outcome] += 1

    async def _aside(self, request: web.BaseRequest, model: Model, ask: asks.Ask) -> web.StreamResponse:
        """Not for work: to a replica if there is one, else answered here."""
        if model.replicas and self.hall.passing < self.settings.bounds.passing and not request.can_read_body:
            for where in self._order(model):
                try:
                    return await self._send(request, where, b"")
                except aiohttp.ClientError:
                    continue
                except _GoneError:
                    return _plain(answers.lost("the client left"))
        made: Mapping[asks.Ask, Answer] = {
            asks.Ask.HEALTH: answers.health(model.route),
            asks.Ask.MODELS: answers.models(model.route),
        }
        return _plain(made.get(ask) or answers.other(model.route))

    async def _work(self, request: web.BaseRequest, model: Model) -> tuple[str, web.StreamResponse]:
        place = self.hall.enter(model.route.key)
        if isinstance(place, str):
            return REFUSED, _plain(answers.full(model.route, place))
        try:
            head = sum(len(name) + len(value) for name, value in request.raw_headers)
            if what := place.more(max(0, head - HEAD_FREE)):
                return REFUSED, _plain(answers.full(model.route, what))
            until = asyncio.get_running_loop().time() + self.hold_s(model)
            body = await self._body(request, model, place)
            if isinstance(body, Answer):
                return REFUSED, _plain(body)
            return await self._deliver(request, model, place, body, until)
        finally:
            place.leave()

    def hold_s(self, model: Model) -> float:
        return min(model.route.hold_s, self.settings.most_hold_s)

    async def _body(self, request: web.BaseRequest, model: Model, place: Place) -> bytes | Answer:
        bounds = self.settings.bounds
        if (request.content_length or 0) > bounds.body_bytes:
            return answers.too_large(bounds.body_bytes)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.settings.body_s):
                while part := await request.content.readany():
                    size += len(part)
                    if size > bounds.body_bytes:
                        return answers.too_large(bounds.body_bytes)
                    if what := place.more(len(part)):
                        return answers.full(model.route, what)
                    parts.append(part)
        except TimeoutError:
            return answers.slow(self.settings.body_s)
        except (web.RequestPayloadError, aiohttp.ClientPayloadError, aiohttp.http_exceptions.HttpProcessingError):
            return answers.error(400, "bad_body", "the body is not what its header says")
        return b"".join(parts)

    async def _deliver(
        self, request: web.BaseRequest, model: Model, place: Place, body: bytes, until: float
    ) -> tuple[str, web.StreamResponse]:
        """Waits for a replica that takes the connection, and passes the request on."""
        loop = asyncio.get_running_loop()
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            while True:
                changed = model.changed
                if self.hall.passing < self.settings.bounds.passing:
                    for where in self._order(model):
                        try:
                            return PASSED, await self._send(request, where, body, place)
                        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                            continue
                        except aiohttp.ClientError as error:
                            return LOST, _plain(answers.lost(f"{type(error).__name__}"))
                        except _GoneError:
                            return GONE, _plain(answers.lost("the client left"))
                if not model.there:
                    return REFUSED, _plain(answers.nobody())
                if self.closing.is_set():
                    return REFUSED, _plain(answers.leaving(model.route))
                left = until - loop.time()
                if left <= 0:
                    return LATE, _plain(answers.late(model.route, self.hold_s(model)))
                pause = min(left, AGAIN_S) if model.replicas else left
                news = asyncio.ensure_future(changed.wait())
                try:
                    await asyncio.wait({news, closing}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
        finally:
            closing.cancel()

    def _order(self, model: Model) -> list[Where]:
        """Replicas, the one with the fewest requests of ours first."""
        return sorted(model.replicas, key=lambda where: (self._busy[where], where))

    async def _send(self, request: web.BaseRequest, where: Where, body: bytes, place: Place | None = None) -> web.StreamResponse:
        """Raises ClientConnectorError where nothing was sent, another ClientError where the replica left without an answer."""
        host = f"[{where[0]}]" if ":" in where[0] else where[0]
        url = URL(f"http://{host}:{where[1]}{request.rel_url.raw_path_qs}", encoded=True)
        headers = passed(request.headers)
        skip = [name for name in _OWN if name not in headers]
        self._busy[where] += 1
        self.hall.passing += 1
        try:
            asked = self._open().request(
                request.method,
                url,
                headers=headers,
                data=body or None,
                skip_auto_headers=skip,
                allow_redirects=False,
                trace_request_ctx=place,
            )
            async with asked as answer:
                return await _stream(request, answer)
        finally:
            self.hall.passing -= 1
            self._busy[where] -= 1
            if self._busy[where] <= 0:
                del self._busy[where]

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No connection is kept: one that its replica has just closed would fail a request that had nowhere else to go.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                requote_redirect_url=False,
                trace_configs=[_traced()],
            )
        return self._session


def _traced() -> aiohttp.TraceConfig:
    """A request waits until a replica has taken its connection, and not until the answer begins, which may be its end."""

    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceConnectionCreateEndParams) -> None:
        if isinstance(context.trace_request_ctx, Place):
            context.trace_request_ctx.called()

    found = aiohttp.TraceConfig()
    found.on_connection_create_end.append(connected)
    return found


async def _stream(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=passed(answer.headers, request=False))
    response.force_close()
    try:
        async with asyncio.timeout(WRITE_S):
            await response.prepare(request)
        while part := await answer.content.readany():
            async with asyncio.timeout(WRITE_S):
                await response.write(part)
        async with asyncio.timeout(WRITE_S):
            await response.write_eof()
    except (ConnectionError, TimeoutError):
        raise _GoneError from None
    except aiohttp.ClientError:
        # Half of an answer must not look like a whole one: the connection breaks off, as it would have without us.
        if request.transport is not None:
            request.transport.abort()
    return response


def passed(headers: CIMultiDictProxy[str], *, request: bool = True) -> CIMultiDict[str]:
    """The headers without those that are about one connection. Of a request also without its length and what was expected: it is whole."""
    named = {each.strip().lower() for line in headers.getall("Connection", ()) for each in line.split(",")}
    left = _HOP | named | ({"content-length", "expect"} if request else set())
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in left)


def _plain(answer: Answer) -> web.Response:
    made = web.Response(status=answer.status, body=answer.body, headers={"Content-Type": "application/json", **answer.headers})
    made.force_close()
    return made
