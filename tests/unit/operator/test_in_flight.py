"""What an engine says of its requests in flight, asked over HTTP; whatever is no clear answer is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from polyfleet import in_flight
from polyfleet.drain import Drain, idle
from polyfleet.in_flight import MOST_BYTES, Counter, ask, inside

from tests.unit.operator import builders as b

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BUSY = 'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_running{engine="1"} 1.0\nvllm:num_requests_waiting 4\n'


@asynccontextmanager
async def engine(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/metrics", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        await runner.cleanup()


def answer(page: str, status: int = 200, **more: str) -> float | None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=page, status=status, headers=more)

    async def run() -> float | None:
        async with engine(handler) as url, aiohttp.ClientSession() as session:
            found = await ask(session, url)
            return found.inside if found is not None else None

    return asyncio.run(run())


def test_what_runs_and_what_waits_is_added_up() -> None:
    """2 + 1 of two data parallel engines, and 4 that wait."""
    assert answer(BUSY) == 7
    assert answer("sglang_num_running_reqs 0\nsglang_num_queue_reqs 0\n") == 0


@pytest.mark.parametrize(
    ("page", "status"),
    [
        ("", 200),
        ("# nothing here\nprocess_cpu_seconds_total 4\n", 200),
        ("vllm:num_requests_running 0\n", 200),  # what waits is not said
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting 0\n", 200),
        ("vllm:num_requests_running -1\nvllm:num_requests_waiting 0\n", 200),
        (BUSY, 500),
        (BUSY, 302),
        (BUSY + "#" * MOST_BYTES, 200),
    ],
)
def test_anything_else_is_unknown(page: str, status: int) -> None:
    assert answer(page, status, **({"Location": "/elsewhere"} if status == 302 else {})) is None


@pytest.mark.parametrize(
    ("engine", "page", "requests"),
    [
        ("tgi", "tgi_batch_current_size 12\ntgi_queue_size 3\n", 15),
        ("llama.cpp", "llamacpp:requests_processing 4\nllamacpp:requests_deferred 2\n", 6),
        ("trtllm", "trtllm_num_requests_running 8\ntrtllm_num_requests_waiting 0\n", 8),
        ("mindie", "num_requests_running 20\nnum_requests_waiting 10\nnum_requests_swapped 1\n", 31),
        ("", "num_requests_running 1\nnum_requests_waiting 0\n", 1),
        ("vllm", "num_requests_running 0\nnum_requests_waiting 0\n", None),  # these are not vLLM's
        ("my-own-build", BUSY, 7),
        ("sglang", BUSY, 7),  # the profile is wrong, and the names cannot be anybody else's
        ("vllm", BUSY.removesuffix("\n"), None),  # cut off
    ],
)
def test_every_engine_is_counted(engine: str, page: str, requests: float | None) -> None:
    found = inside(page.encode(), engine)
    assert (found.inside if found is not None else None) == requests


def test_where_an_engine_is_asked_while_it_drains() -> None:
    pod = replace(b.pod("m-1"), ip="10.0.0.1")
    assert in_flight.address(Drain(pod, 60.0, None, "trtllm")) == "http://10.0.0.1:8000/prometheus/metrics"
    assert in_flight.address(Drain(pod, 60.0, None)) == "http://10.0.0.1:8000/metrics"
    assert in_flight.address(Drain(b.pod("m-1"), 60.0, None)) == ""


def test_an_engine_that_is_gone_is_unknown() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=BUSY)

    async def run() -> object:
        async with engine(handler) as url:
            pass  # it listened here until now
        async with aiohttp.ClientSession() as session:
            return await ask(session, url)

    assert asyncio.run(run()) is None


class Clock:
    """A second passes with every look at it, as with every reading."""

    def __init__(self) -> None:
        self.seconds = -1

    def __call__(self) -> str:
        self.seconds += 1
        return f"2026-11-25T08:00:{self.seconds:02d}Z"


def drained(monkeypatch: pytest.MonkeyPatch, pages: list[str], *, closed_after: int = 0) -> list[tuple[float | None, bool]]:
    """What each wake-up of the cycle saw, until the replica is idle: (requests, whether it may go); at last how often it was asked. The
    replica leaves its Service while it is asked for the time with this number."""
    pod, left, asked = replace(b.pod("m-1", namespace="llm"), ip="127.0.0.1"), iter(pages), 0

    async def run() -> list[tuple[float | None, bool]]:
        told: asyncio.Queue[str] = asyncio.Queue()
        seen: list[tuple[float | None, bool]] = []

        async def handler(_: web.Request) -> web.Response:
            nonlocal asked
            asked += 1
            if asked == closed_after:
                counter.update([Drain(pod, 60.0, None, closed=True)])
            return web.Response(text=next(left, pages[-1]))

        async with engine(handler) as url:
            monkeypatch.setattr(in_flight, "address", lambda _: url)
            counter = Counter(Clock(), told.put_nowait, period_s=0.001)
            counter.update([Drain(pod, 60.0, None, closed=not closed_after)])
            while not seen or not seen[-1][1]:
                assert await told.get() == "drained"
                found = counter.view(b.observed()).in_flight[pod.uid]
                seen.append((found.requests, idle(found)))
            counter.update([])
            assert counter.view(b.observed()).in_flight == {}
            await counter.close()
        assert told.qsize() <= 1  # nothing is asked any more when nobody drains
        return seen

    found = asyncio.run(run())
    return [*found, (float(asked), True)]


def page(inside: int, finished: int) -> str:
    return f"vllm:num_requests_running {inside}\nvllm:num_requests_waiting 0\nvllm:request_success_total {finished}\n"


def test_the_cycle_is_woken_when_the_last_request_has_ended_and_none_has_come_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once a second: 2, 1, then none; 4 s after it left its Service and a second after the first zero it may go."""
    pages = [page(2, 5), page(1, 6), page(0, 7), page(0, 7)]
    assert drained(monkeypatch, pages) == [(2.0, False), (0.0, True), (5.0, True)]


def test_requests_on_a_kept_connection_between_two_readings_are_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reading finds nothing in flight, and until the seventh another request has ended meanwhile."""
    pages = [page(0, 10 + i) for i in range(7)]
    assert drained(monkeypatch, pages) == [(0.0, False), (0.0, True), (8.0, True)]


def test_a_replica_that_is_still_in_its_service_is_asked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle all the time, out of its Service when it is asked for the third time: known at the fourth, and 4 s later it may go."""
    assert drained(monkeypatch, [page(0, 1)], closed_after=3) == [(0.0, False), (0.0, True), (8.0, True)]


def test_an_answer_that_is_missing_breaks_the_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four zeros from 0 s on, nothing at 4 s, zeros from 5 s on: the second of those, at 6 s, ends it."""
    pages = [*[page(0, 1)] * 4, "", page(0, 1)]
    assert drained(monkeypatch, pages) == [(0.0, False), (None, False), (0.0, False), (0.0, True), (7.0, True)]
