"""The activator over loopback: what a client sees, and what is counted."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from polyfleet.activator.asks import Ask, kind
from polyfleet.activator.directory import Directory
from polyfleet.activator.page import Page
from polyfleet.activator.proxy import passed
from polyfleet.activator.settings import Bounds
from polyfleet.wake import slices

from tests.unit.operator.activating import CHAT, KEY, echo, error_of, free_port, row, run, scene
from tests.unit.operator.test_wake_slices import controllers, held

# ---- held, and passed on


def test_a_request_at_zero_is_held_until_a_replica_serves_and_is_passed_on_as_it_came() -> None:
    async def scenario() -> None:
        async with scene() as s:
            asked = s.post(
                f"{CHAT}?a=%2F&b=1",
                b'{"model":"llama"}',
                headers={"Authorization": "Bearer x", "Connection": "keep-alive, X-Hop", "X-Hop": "1"},
            )
            await s.until(lambda: s.queue.waiting == 1)
            assert (s.queue.requests, s.queue.held_bytes) == (1, 17)
            await s.serve(await s.replica(echo))
            status, headers, body = await asked
            seen = json.loads(body)
            assert (status, headers["Connection"]) == (200, "close")
            assert (seen["path"], seen["body"]) == (f"{CHAT}?a=%2F&b=1", '{"model":"llama"}')
            assert (seen["headers"]["Authorization"], seen["headers"]["Host"]) == ("Bearer x", f"127.0.0.1:{s.port}")
            assert "X-Hop" not in seen["headers"]
            await s.until(lambda: (s.queue.requests, s.queue.outcomes) == (1, {"passed": 1}))
            assert (s.queue.waiting, s.queue.held_bytes, s.hall.held_bytes, s.hall.passing) == (0, 0, 0, 0)

    run(scenario)


def test_an_answer_is_passed_on_as_it_comes() -> None:
    """The replica sends its second token only when the client has the first one."""

    async def scenario() -> None:
        async with scene() as s:
            got = asyncio.Event()

            async def tokens(request: web.Request) -> web.StreamResponse:
                answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await answer.prepare(request)
                await answer.write(b"data: 1\n\n")
                await got.wait()
                await answer.write(b"data: 2\n\n")
                return answer

            await s.serve(await s.replica(tokens))
            async with asyncio.timeout(20), s.http.post(f"{s.url}{CHAT}", data=b"{}") as answer:
                assert answer.headers["Content-Type"] == "text/event-stream"
                assert await answer.content.readany() == b"data: 1\n\n"
                assert s.hall.passing == 1
                got.set()
                assert await answer.content.read() == b"data: 2\n\n"

    run(scenario)


def test_a_replica_that_refuses_the_connection_is_left_for_another_one() -> None:
    async def scenario() -> None:
        async with scene() as s:
            with socket.socket() as closed:  # bound and never listened on: it refuses
                closed.bind(("127.0.0.1", 0))
                dead = closed.getsockname()[1]
                asked = s.post()
                await s.serve(dead)
                await s.until(lambda: s.queue.waiting == 1)
                await s.serve(dead, await s.replica(echo))
                assert (await asked)[0] == 200

    run(scenario)


def test_a_request_that_left_for_a_replica_is_not_sent_twice() -> None:
    async def scenario() -> None:
        async with scene() as s:
            seen: list[str] = []

            async def dies(request: web.Request) -> web.StreamResponse:
                seen.append(request.path)
                assert request.transport is not None
                request.transport.abort()
                return web.Response()

            await s.serve(await s.replica(dies), await s.replica(dies))
            status, _, body = await s.post()
            assert (status, error_of(body), seen) == (502, "replica_lost", [CHAT])
            await s.until(lambda: s.queue.outcomes == {"lost": 1})

    run(scenario)


def test_half_an_answer_does_not_look_like_a_whole_one() -> None:
    async def scenario() -> None:
        async with scene() as s:

            async def half(request: web.Request) -> web.StreamResponse:
                answer = web.StreamResponse()
                await answer.prepare(request)
                await answer.write(b"data: 1\n\n")
                assert request.transport is not None
                request.transport.abort()
                return answer

            await s.serve(await s.replica(half))
            with pytest.raises(aiohttp.ClientError):
                await s.post()

    run(scenario)


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    async def scenario() -> None:
        async with scene() as s:
            await s.serve(await s.replica(echo))
            status, _, body = await s.post(data=b"x" * 100_000, expect100=True)
            assert (status, len(json.loads(body)["body"])) == (200, 100_000)

    run(scenario)


# ---- what wakes


@pytest.mark.parametrize(
    ("method", "path", "ask"),
    [
        ("POST", "/v1/chat/completions", Ask.WORK),
        ("POST", "/v1/completions/", Ask.WORK),
        ("POST", "/v1/responses", Ask.WORK),
        ("POST", "/v2/models/m/infer", Ask.WORK),
        ("POST", "/generate", Ask.WORK),
        ("POST", "/rerank", Ask.WORK),
        ("POST", "/%76%31/completions", Ask.WORK),  # "v1", encoded
        ("POST", "/", Ask.OTHER),
        ("POST", "/xmlrpc.php", Ask.OTHER),
        ("POST", "/v1", Ask.OTHER),
        ("PUT", "/v1/completions", Ask.OTHER),
        ("OPTIONS", "/v1/completions", Ask.OTHER),
        ("GET", "/v1/completions", Ask.OTHER),
        ("GET", "/", Ask.OTHER),
        ("GET", "/metrics", Ask.OTHER),
        ("GET", "/health", Ask.HEALTH),
        ("HEAD", "/health", Ask.HEALTH),
        ("POST", "/health", Ask.OTHER),
        ("GET", "/v1/models", Ask.MODELS),
        ("GET", "/v1/models/", Ask.MODELS),
    ],
)
def test_only_a_post_of_work_wakes(method: str, path: str, ask: Ask) -> None:
    assert kind(method, path) is ask


def test_health_checks_lists_and_scanners_are_answered_and_neither_counted_nor_held() -> None:
    async def scenario() -> None:
        async with scene() as s:
            for method, path, status in (("GET", "/health", 200), ("GET", "/v1/models", 200), ("GET", "/admin", 503), ("POST", "/x", 503)):
                async with s.http.request(method, f"{s.url}{path}") as answer:
                    assert (answer.status, answer.headers["Connection"]) == (status, "close")
                    body = await answer.json()
                    if status == 503:
                        assert (body["error"]["code"], answer.headers["Retry-After"]) == ("asleep", "120")
                    if path == "/v1/models":
                        assert [each["id"] for each in body["data"]] == ["llama"]
            assert (s.queue.requests, s.queue.waiting) == (0, 0)
            await s.serve(await s.replica(echo))
            async with s.http.get(f"{s.url}/health") as answer:  # who serves answers for himself
                assert (await answer.json())["path"] == "/health"
            assert s.queue.requests == 0

    run(scenario)


# ---- bounds


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Bounds(model_requests=1), "1 requests wait already"),
        (Bounds(requests=1), "1 requests wait for all models already"),
        (Bounds(model_bytes=150), "its waiting requests have 150 bytes already"),
        (Bounds(total_bytes=150), "the waiting requests of all models have 150 bytes already"),
    ],
)
def test_past_a_bound_a_client_is_told_when_to_come_again(bounds: Bounds, words: str) -> None:
    async def scenario() -> None:
        async with scene(bounds=bounds) as s:
            first = s.post(data=b"x" * 100)
            await s.until(lambda: s.queue.held_bytes == 100)
            status, headers, body = await s.post(data=b"x" * 100)
            assert (status, headers["Retry-After"], error_of(body)) == (503, "120", "too_many_waiting")
            assert words in json.loads(body)["error"]["message"]
            assert (s.queue.requests, s.queue.waiting, s.queue.held_bytes, s.hall.waiting) == (2, 1, 100, 1)
            await s.serve(await s.replica(echo))
            assert (await first)[0] == 200
            await s.until(lambda: s.queue.outcomes == {"passed": 1, "refused": 1})
            assert (s.hall.waiting, s.hall.held_bytes) == (0, 0)

    run(scenario)


def test_large_headers_are_held_and_count() -> None:
    """120 of 8,000 bytes are 960,000 and their names: a thousand such requests would be four times what the bodies may have."""

    async def scenario() -> None:
        async with scene(bounds=Bounds(model_bytes=1_000_000)) as s:
            large = {f"X-{number:03}": "x" * 8000 for number in range(120)}
            first = s.post(headers=large)
            await s.until(lambda: s.queue.waiting == 1 and s.queue.held_bytes > 0)
            assert 950_000 < s.queue.held_bytes < 970_000
            status, _, body = await s.post(headers=large)
            assert (status, error_of(body)) == (503, "too_many_waiting")
            first.cancel()
            await s.until(lambda: s.hall.held_bytes == 0)

    run(scenario)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 40

    async def scenario() -> None:
        async with scene(bounds=Bounds(body_bytes=100)) as s:
            status, _, body = await s.post(data=parts() if chunked else b"x" * 101)
            assert (status, error_of(body)) == (413, "body_too_large")
            assert (s.hall.waiting, s.hall.held_bytes) == (0, 0)

    run(scenario)


def test_who_leaves_is_counted_and_waits_no_more() -> None:
    async def scenario() -> None:
        async with scene() as s:
            asked = s.post()
            await s.until(lambda: s.queue.waiting == 1)
            asked.cancel()
            await s.until(lambda: s.queue.outcomes == {"gone": 1})
            assert (s.queue.requests, s.queue.waiting, s.hall.held_bytes) == (1, 0, 0)

    run(scenario)


def test_past_the_promise_it_is_told_that_the_wake_took_too_long() -> None:
    async def scenario() -> None:
        async with scene(hold_s=0.05) as s:
            status, headers, body = await s.post()
            assert (status, headers["Retry-After"], error_of(body)) == (504, "120", "wake_too_slow")
            assert "kubectl describe mdep m -n a" in json.loads(body)["error"]["message"]
            await s.until(lambda: s.queue.outcomes == {"late": 1})

    run(scenario)


def test_nobody_is_held_for_longer_than_the_activator_itself_may() -> None:
    async def scenario() -> None:
        async with scene(hold_s=300.0, most_hold_s=0.05) as s:
            assert (await s.post())[0] == 504
            ((_, promise),) = s.doors.listening().values()
            assert promise == 0.05

    run(scenario)


def test_those_who_wait_hear_that_the_process_ends_and_that_the_model_is_gone() -> None:
    async def scenario() -> None:
        async with scene() as s:
            asked = s.post()
            await s.until(lambda: s.queue.waiting == 1)
            s.directory.update([])
            assert error_of((await asked)[2]) == "no_model"
            assert s.queue.waiting == 0
        async with scene() as s:
            asked = s.post()
            await s.until(lambda: s.queue.waiting == 1)
            s.proxy.closing.set()
            status, headers, body = await asked
            assert (status, headers["Retry-After"], error_of(body)) == (503, "1", "restarting")

    run(scenario)


# ---- bad input


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,  # the beginning of TLS
        b"GET\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\n" + b"A: " + b"x" * 9000 + b"\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\n" + b"".join(b"A%d: x\r\n" % i for i in range(200)) + b"\r\n",
    ],
    ids=["tls", "short", "length", "long header", "many headers"],
)
def test_garbage_is_refused_and_costs_nothing(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with scene() as s:
            assert (await s.raw(data)).startswith(b"HTTP/1.")
            assert not [each for each in caplog.records if each.exc_info]  # no trace per scanner
            assert (s.hall.waiting, s.hall.held_bytes, s.queue.waiting) == (0, 0, 0)
            await s.serve(await s.replica(echo))
            assert (await s.post())[0] == 200

    run(scenario)


def test_a_header_and_a_body_that_do_not_come_do_not_keep_a_place() -> None:
    async def scenario() -> None:
        async with scene(header_s=0.05, body_s=0.05) as s:
            assert await s.raw(b"") == b""
            assert await s.raw(b"POST /v1/completions HTTP/1.1\r\nHos") == b""
            assert s.queue.requests == 0
            found = await s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: m\r\nContent-Length: 10\r\n\r\n12345")
            assert found.startswith(b"HTTP/1.1 408")
            assert (s.hall.waiting, s.hall.held_bytes) == (0, 0)

    run(scenario)


@pytest.mark.parametrize(
    "target", [b"POST @127.0.0.1:1/v1/completions", b"POST v1@h/v1/completions", b"POST :1/v1/x", b"CONNECT h:1", b"OPTIONS *"]
)
def test_a_target_that_is_no_path_leads_nowhere_else(target: bytes) -> None:
    """Behind a replica's address it could name another host."""

    async def scenario() -> None:
        async with scene() as s:
            await s.serve(await s.replica(echo))
            found = await s.raw(target + b" HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n")
            assert found.startswith(b"HTTP/1.")
            assert int(found.split(b" ")[1]) >= 400
            assert s.hall.passing == 0

    run(scenario)


def test_an_absolute_target_goes_to_the_replica_all_the_same() -> None:
    async def scenario() -> None:
        async with scene() as s:
            await s.serve(await s.replica(echo))
            found = await s.raw(b"POST http://elsewhere:1/v1/completions HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n")
            assert found.startswith(b"HTTP/1.1 200")
            assert b'"path": "/v1/completions"' in found

    run(scenario)


def test_an_upgrade_is_refused_in_words() -> None:
    async def scenario() -> None:
        async with scene() as s:
            asked = (
                b"GET /v1/realtime HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert (await s.raw(asked)).startswith(b"HTTP/1.1 501")

    run(scenario)


def test_headers_of_one_connection_stay_there() -> None:
    first = {"Connection": "close, X-Own", "X-Own": "1", "TE": "trailers", "Transfer-Encoding": "chunked", "Content-Length": "3", "A": "b"}
    given = CIMultiDictProxy(CIMultiDict([*first.items(), ("Connection", "X-Second"), ("X-Second", "2")]))
    assert dict(passed(given)) == {"A": "b"}
    assert dict(passed(given, request=False)) == {"A": "b", "Content-Length": "3"}


# ---- what is published


def test_the_counter_is_there_and_zero_before_anybody_came() -> None:
    async def scenario() -> None:
        async with scene() as s:
            text = Page(s.hall, s.doors.listening).render().decode()
            where = '{name="m",namespace="a"}'
            for line in (
                f"polyfleet_activator_requests_total{where} 0.0",
                f"polyfleet_activator_waiting_requests{where} 0.0",
                f"polyfleet_activator_hold_seconds{where} 300.0",
                'polyfleet_activator_answers_total{name="m",namespace="a",outcome="late"} 0.0',
            ):
                assert line in text.splitlines()

    run(scenario)


def test_a_port_that_somebody_else_has_is_no_listener() -> None:
    """The model's series are missing then, which says "not read" to the operator; they come with the next change."""

    async def scenario() -> None:
        async with scene() as s:
            taken = free_port()
            with socket.socket() as other:
                other.bind(("127.0.0.1", taken))
                other.listen()
                s.directory.update([held(number=taken, hold_s=300.0)])
                await s.doors.settle()
                assert (s.doors.listening(), s.doors.whole()) == ({}, False)
            await s.doors.settle()
            assert (list(s.doors.listening()), s.doors.whole()) == ([KEY], True)

    run(scenario)


def test_two_replicas_share_what_waited() -> None:
    async def scenario() -> None:
        async with scene() as s:
            go = asyncio.Event()
            seen: list[int] = []

            async def slow(request: web.Request) -> web.StreamResponse:
                assert request.transport is not None
                seen.append(request.transport.get_extra_info("sockname")[1])
                await go.wait()
                return web.Response()

            asked = [s.post() for _ in range(6)]
            await s.until(lambda: s.queue.waiting == 6)
            one, two = await s.replica(slow), await s.replica(slow)
            await s.serve(one, two)
            await s.until(lambda: len(seen) == 6)
            assert (s.queue.waiting, s.queue.held_bytes) == (0, 12)  # they are on their way; their bodies are still here
            go.set()
            assert [(await each)[0] for each in asked] == [200] * 6
            assert sorted(seen) == sorted([one] * 3 + [two] * 3)

    run(scenario)


def test_replicas_are_those_of_the_models_own_service_and_namespace() -> None:
    directory = Directory()
    directory.update(
        [
            held(number=20007),
            controllers("serving", [row()], 1111, **{"kubernetes.io/service-name": "other"}),
            controllers("pods", [row()], 2222, **{"kubernetes.io/service-name": "m"}),
        ]
    )
    assert directory.by_port[20007].replicas == ()
    assert slices.routes([held(number=20007)])[20007].key == KEY
