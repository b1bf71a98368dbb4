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
from polyfleet.drain import Drain
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
            return await ask(session, url)

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
    assert inside(page.encode(), engine) == requests


def test_where_an_engine_is_asked_while_it_drains() -> None:
    pod = replace(b.pod("m-1"), ip="10.0.0.1")
    assert in_flight.address(Drain(pod, 60.0, None, "trtllm")) == "http://10.0.0.1:8000/prometheus/metrics"
    assert in_flight.address(Drain(pod, 60.0, None)) == "http://10.0.0.1:8000/metrics"
    assert in_flight.address(Drain(b.pod("m-1"), 60.0, None)) == ""


def test_an_engine_that_is_gone_is_unknown() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=BUSY)

    async def run() -> float | None:
        async with engine(handler) as url:
            pass  # it listened here until now
        async with aiohttp.ClientSession() as session:
            return await ask(session, url)

    assert asyncio.run(run()) is None


def test_the_cycle_is_woken_when_the_last_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again and again while the replica drains; nothing is asked any more when nobody drains."""
    pod = replace(b.pod("m-1", namespace="llm"), ip="127.0.0.1")
    left = iter([2, 1, 0])

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=f"vllm:num_requests_running {next(left, 0)}\nvllm:num_requests_waiting 0\n")

    async def run() -> list[float | None]:
        told: asyncio.Queue[str] = asyncio.Queue()
        seen: list[float | None] = []
        async with engine(handler) as url:
            monkeypatch.setattr(in_flight, "address", lambda _: url)
            counter = Counter(lambda: b.NOW, told.put_nowait, period_s=0.01)
            counter.update([Drain(pod, 60.0, None)])
            while not seen or seen[-1] != 0:
                assert await told.get() == "drained"
                seen.append(counter.view(b.observed()).in_flight[pod.uid].requests)
            counter.update([])
            assert counter.view(b.observed()).in_flight == {}
            await counter.close()
        return seen

    assert asyncio.run(run()) == [2, 0]
