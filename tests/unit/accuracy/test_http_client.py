"""Every way in which an endpoint can fail to answer is one of the typed errors, within a bounded number of requests and bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from accuracy.http import client as http
from accuracy.http.client import Client, FailedError, GarbledError, HttpError, RefusedError, UnavailableError, connect
from accuracy.http.endpoint import Endpoint, EndpointError
from sandbox.pki import Authority
from tests.unit.accuracy.servers import handlers, served

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def asked(handler: Handler, work: Callable[[Client], Awaitable[Any]], **settings: Any) -> tuple[Any, list[float], int]:
    """What the work gave or raised, how long it would have waited, and how many requests it sent."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def main() -> tuple[Any, int]:
        async with served(handlers({"/{any:.*}": handler})) as url, connect(Endpoint(url, "m", **settings), sleep=sleep) as client:
            try:
                return await work(client), client.requests
            except HttpError as error:
                return error, client.requests

    found, requests = asyncio.run(main())
    return found, waits, requests


async def post(client: Client) -> Any:
    return (await client.complete({"prompt": "x"})).body


def replies(*answers: web.Response | Callable[[], web.Response]) -> Handler:
    left = list(answers)

    async def handler(request: web.Request) -> web.StreamResponse:
        one = left.pop(0) if len(left) > 1 else left[0]
        return one() if callable(one) else one

    return handler


def test_429_and_503_are_waited_out_as_asked_and_not_for_ever() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)
    busy = [
        web.Response(status=429, headers={"Retry-After": "7"}),
        web.Response(status=503),
        web.Response(status=429, headers={"Retry-After": date}),
    ]
    found, waits, requests = asked(replies(*busy, web.json_response({"ok": 1})), post)
    assert (found, requests) == ({"ok": 1}, 4)
    assert waits == [7.0, 2.0, 60.0]
    found, waits, requests = asked(replies(lambda: web.Response(status=429, headers={"Retry-After": "1e9"})), post)
    assert isinstance(found, UnavailableError)
    assert (waits, requests) == ([60.0] * 6, 7)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError),
        (404, RefusedError),
        (401, UnavailableError),
        (403, UnavailableError),
        (302, UnavailableError),
        (500, FailedError),
    ],
)
def test_a_status_is_an_error_of_its_kind_with_the_endpoints_own_words(status: int, kind: type[HttpError]) -> None:
    body = {"error": {"message": "no such thing"}}
    found, _, requests = asked(replies(lambda: web.json_response(body, status=status, headers={"Location": "http://127.0.0.1:1/"})), post)
    assert type(found) is kind
    assert (found.status, requests) == (status, 1)
    assert ("redirect" if status == 302 else "no such thing") in found.message


@pytest.mark.parametrize("text", ["", "<html>", "[1]", "null", '{"error": {"message": "inside"}}', "{" * 100_000])
def test_a_body_that_is_no_answer(text: str) -> None:
    found, _, requests = asked(replies(lambda: web.Response(text=text)), post)
    assert type(found) is GarbledError
    assert requests == 1


def test_size_and_silence_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BODY", 1 << 20)
    found, _, _ = asked(replies(lambda: web.Response(body=b" " * (2 << 20))), post)
    assert isinstance(found, GarbledError)

    async def hangs(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    found, waits, requests = asked(hangs, post, timeout_s=0.05)
    assert isinstance(found, UnavailableError)
    assert (requests, len(waits)) == (2, 1)

    async def closes(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    found, _, requests = asked(closes, post)
    assert isinstance(found, UnavailableError)
    assert requests == 3


def test_half_a_stream_is_no_answer() -> None:
    def stream(client: Client) -> Awaitable[Any]:
        return client.stream("/v1/completions", {})

    whole, _, _ = asked(replies(lambda: web.Response(text='data: {"a": 1}\n\ndata: [DONE]\n\n')), stream)
    assert whole == [{"a": 1}]
    for text in ('data: {"a": 1}\n\n', "", 'data: {"a": \n\ndata: [DONE]\n\n'):
        found, _, _ = asked(replies(lambda text=text: web.Response(text=text)), stream)  # type: ignore[misc]
        assert isinstance(found, GarbledError)


def test_requests_are_spaced_and_signed() -> None:
    keys: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        keys.append(request.headers["Authorization"])
        return web.json_response({"usage": {"prompt_tokens": 3, "completion_tokens": 2}})

    async def main() -> None:
        now, waits = [0.0], []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            now[0] += seconds

        async with (
            served(handlers({"/v1/completions": handler})) as url,
            connect(Endpoint(url + "/v1", "m", token="s3cret", max_rps=2.0), clock=lambda: now[0], sleep=sleep) as client,
        ):
            for _ in range(3):
                await client.complete({})
            assert (client.requests, client.prompt_tokens, client.generated_tokens) == (3, 9, 6)
            assert "s3cret" not in repr(client.endpoint)
        assert waits == [0.5, 0.5]

    asyncio.run(main())
    assert set(keys) == {"Bearer s3cret"}


def test_https_is_believed_by_the_authority_that_was_given_and_by_no_other(tmp_path: Path) -> None:
    """A real TLS server with a certificate of its own authority; a file that holds no certificate is refused in words."""
    mine, other = Authority(tmp_path, "mine"), Authority(tmp_path, "other")
    pair = mine.issue("server", "server", hosts=["127.0.0.1"])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.certificate, pair.key)
    (tmp_path / "no.pem").write_text("nothing", encoding="utf-8")

    async def once(url: str, ca_file: str) -> Any:
        async def at_once(seconds: float) -> None:
            return None

        async with connect(Endpoint(url, "m", ca_file=ca_file), sleep=at_once) as client:
            try:
                return await post(client)
            except HttpError as error:
                return error

    async def main() -> None:
        runner = web.AppRunner(handlers({"/{any:.*}": replies(lambda: web.json_response({"id": "x"}))}), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            assert await once(url, str(mine.certificate_path)) == {"id": "x"}
            for ca_file in (str(other.certificate_path), ""):
                found = await once(url, ca_file)
                assert isinstance(found, UnavailableError)
                assert "certificate" in found.message.lower()
            with pytest.raises(EndpointError, match=r"ca_file .*no\.pem.*give a PEM file"):
                await once(url, str(tmp_path / "no.pem"))
        finally:
            await runner.cleanup()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "changed"),
    [("ftp://x", {}), ("http://", {}), ("http://u:p@x", {}), ("http://x?y", {}), ("http://x", {"max_rps": 0}),
     ("http://x", {"timeout_s": -1})],
)  # fmt: skip
def test_addresses_that_cannot_be_used(url: str, changed: dict[str, Any]) -> None:
    with pytest.raises(EndpointError) as error:
        Endpoint(url, **changed)
    assert "u:p" not in str(error.value)
