"""Asking real servers on the loopback for their pages: whatever is no whole, readable page is a reason and never a number."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from polyfleet.load.scraper import Failed, Scraper
from polyfleet.load.tally import Tally
from polyfleet.load.targets import Target

from autoscaling.types import Sample

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE = 'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_waiting{engine="0"} 1\nvllm:request_success_total{engine="0"} 40\n'
NOW = 1_800_000_000.0


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """The address of a page server that answers every path."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.01)  # 0 would be none
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def fixed(_: web.Request) -> web.Response:
    return web.Response(text=PAGE)


def asked(handler: Handler, *, path: str = "/metrics", engine: str = "vllm", **settings: float) -> Sample | Failed:
    """One poll of one pod."""

    async def run() -> Sample | Failed:
        scraper = Scraper(**settings)  # type: ignore[arg-type]
        async with served(handler) as base:
            found = await scraper.poll([Target("u", base + path, engine)], NOW)
            await scraper.close()
        return found["u"]

    return asyncio.run(run())


def reason(found: Sample | Failed) -> str:
    assert isinstance(found, Failed), found
    return found.text


def test_a_page_is_a_sample_with_the_time_of_its_answer() -> None:
    """The clock stands at 5 when the poll begins and at 5.25 when the answer does."""
    ticks = iter([5.0, 5.25])

    async def run() -> Sample | Failed:
        scraper = Scraper(clock=lambda: next(ticks))
        async with served(fixed) as base:
            found = await scraper.poll([Target("u", base + "/metrics", "vllm")], NOW)
            await scraper.close()
        return found["u"]

    assert asyncio.run(run()) == Sample(at=NOW + 0.25, finished=40.0, running=2.0, waiting=1.0)


def test_an_empty_page() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="")

    assert "empty" in reason(asked(handler))


@pytest.mark.parametrize("said", [True, False])
def test_ten_megabytes(said: bool) -> None:
    """With and without a length in the head. It is given up, not swallowed."""

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        if said:
            answer.content_length = 10 << 20
        await answer.prepare(request)
        try:
            for _ in range(160):
                await answer.write(b"#" * ((1 << 16) - 1) + b"\n")
        except ConnectionError:
            pass  # it hung up, as it should
        return answer

    assert "8388608 bytes" in reason(asked(handler, pod_s=30.0, poll_s=60.0))


def test_a_large_page_that_is_still_allowed_is_read() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="# x\n" * (1 << 18) + PAGE)

    found = asked(handler, pod_s=30.0, poll_s=60.0)
    assert isinstance(found, Sample)
    assert found.inside == 3.0


@pytest.mark.parametrize("status", [500, 503, 404, 204])
def test_anything_but_200(status: int) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, text="" if status == 204 else PAGE)

    assert f"answered {status}" in reason(asked(handler))


def test_a_redirect_is_not_followed() -> None:
    followed: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/metrics":
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        followed.append(request.path)
        return web.Response(text=PAGE)

    assert "/elsewhere" in reason(asked(handler))
    assert followed == []


def test_a_packed_page_is_not_unpacked() -> None:
    """Nobody asked for it, and how large it is inside is not known."""

    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=gzip.compress(PAGE.encode()), headers={"Content-Encoding": "gzip"})

    assert "packed" in reason(asked(handler))


def test_one_that_never_answers() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response(text=PAGE)

    assert "within 0.05 s" in reason(asked(handler, pod_s=0.05))


def test_a_slow_drip_ends_with_the_time_of_the_pod() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"# drip\n")
            await asyncio.sleep(0.005)

    assert "within 0.1 s" in reason(asked(handler, pod_s=0.1))


def test_a_page_that_breaks_off() -> None:
    """The head promises more than comes, and then the connection ends."""

    async def run() -> Failed | Sample:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + PAGE.encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(cut, "127.0.0.1", 0)
        scraper = Scraper()
        async with server:
            found = await scraper.poll([Target("u", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics", "vllm")], NOW)
            await scraper.close()
        return found["u"]

    assert "ClientPayloadError" in reason(asyncio.run(run()))


def test_no_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # held, and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/metrics"

        async def run() -> Sample | Failed:
            scraper = Scraper()
            found = await scraper.poll([Target("u", url, "vllm")], NOW)
            await scraper.close()
            return found["u"]

        assert "no connection" in reason(asyncio.run(run()))


def test_a_page_of_another_engine_says_what_was_looked_for() -> None:
    assert "sglang:num_running_reqs" in reason(asked(fixed, engine="sglang"))


def test_a_target_that_cannot_be_asked_is_not_asked() -> None:
    async def run() -> Sample | Failed:
        scraper = Scraper()
        found = await scraper.poll([Target("u", "", "vllm", fault="the pod has no address yet")], NOW)
        await scraper.close()
        return found["u"]

    assert reason(asyncio.run(run())) == "the pod has no address yet"


# ---- many


async def polled(scraper: Scraper, base: str, paths: Sequence[str]) -> dict[str, Sample | Failed]:
    return dict(await scraper.poll([Target(path, f"{base}/{path}", "vllm") for path in paths], NOW))


def test_the_poll_ends_in_time_and_the_healthy_are_read() -> None:
    """Two places, four silent pods: nobody else gets a turn before the poll's time is over. In the next poll they come last, so the healthy
    ones, which sort behind them, are read although the silent ones are silent still."""

    async def handler(request: web.Request) -> web.Response:
        if request.path.startswith("/a"):
            await asyncio.Event().wait()
        return web.Response(text=PAGE)

    async def run() -> list[dict[str, Sample | Failed]]:
        scraper = Scraper(at_once=2, pod_s=0.6, poll_s=0.9)
        paths = ["a1", "a2", "a3", "a4", "b1", "b2"]
        async with served(handler) as base:
            found = [await polled(scraper, base, paths), await polled(scraper, base, paths[::-1])]
            scraper.pod_s, scraper.poll_s = 30.0, 1.5
            found.append(await polled(scraper, base, paths))
            await scraper.close()
        return found

    first, second, third = asyncio.run(run())
    assert "poll ended" in reason(first["a4"])
    for found in (second, third):
        assert isinstance(found["b1"], Sample)
        assert isinstance(found["b2"], Sample)
        assert set(found) == {"a1", "a2", "a3", "a4", "b1", "b2"}
    assert "poll ended" in reason(third["a1"])


def test_so_many_are_asked_at_once_and_not_more() -> None:
    inside, most = 0, 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1
        return web.Response(text=PAGE)

    async def run() -> int:
        scraper = Scraper(at_once=5)
        async with served(handler) as base:
            found = await polled(scraper, base, [f"p{i}" for i in range(23)])
            await scraper.close()
        return sum(isinstance(each, Sample) for each in found.values())

    assert asyncio.run(run()) == 23
    assert most == 5


def test_connections_are_kept_except_to_those_that_leave() -> None:
    seen: list[tuple[object, str]] = []

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        seen.append((request.transport.get_extra_info("peername"), request.headers.get("Connection", "")))
        return web.Response(text=PAGE)

    async def run() -> None:
        scraper = Scraper()
        async with served(handler) as base:
            stays = Target("u", f"{base}/metrics", "vllm")
            for item in (stays, stays, replace(stays, leaving=True), stays):
                assert isinstance((await scraper.poll([item], NOW))["u"], Sample)
            await scraper.close()

    asyncio.run(run())
    assert [seen[at][0] == seen[0][0] for at in range(4)] == [True, True, True, False]
    assert seen[2][1] == "close"


def test_a_server_that_hung_up_between_two_polls_is_asked_anew() -> None:
    """Engines end idle connections after some seconds, sooner than the next tick."""

    async def run() -> list[Sample | Failed]:
        scraper = Scraper()
        found: list[Sample | Failed] = []
        for _ in range(2):
            async with served(fixed) as base:
                item = Target("u", f"{base}/metrics", "vllm")
                found.append((await scraper.poll([item], NOW))["u"])
        await scraper.close()
        return found

    assert all(isinstance(each, Sample) for each in asyncio.run(run()))


def test_per_cent_is_remembered_from_poll_to_poll() -> None:
    shares = iter(["1", "30", "1"])

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=f'npu_cache_usage_perc{{model_name="m"}} {next(shares)}\n')

    async def run() -> list[float | None]:
        scraper = Scraper()
        used: list[float | None] = []
        async with served(handler) as base:
            for _ in range(3):
                found = (await scraper.poll([Target("u", f"{base}/metrics", "mindie")], NOW))["u"]
                assert isinstance(found, Sample)
                used.append(found.kv_used)
            await scraper.close()
        return used

    assert asyncio.run(run()) == [1.0, 0.3, 0.01]


def test_what_the_checker_sent_is_told_beside_it() -> None:
    tally = Tally()
    sent = tally.to("checked")
    sent.requests, sent.prompt_tokens, sent.output_tokens = 3.0, 700.0, 12.0

    async def run() -> dict[str, Sample | Failed]:
        scraper = Scraper(sent=tally.of)
        async with served(fixed) as base:
            found = await polled(scraper, base, ["checked", "other"])
            await scraper.close()
        return found

    found = asyncio.run(run())
    checked, other = found["checked"], found["other"]
    assert isinstance(checked, Sample)
    assert isinstance(other, Sample)
    assert (checked.checker_requests, checked.checker_prompt_tokens, checked.checker_output_tokens) == (3.0, 700.0, 12.0)
    assert (checked.finished, other.checker_requests) == (40.0, None)


def test_a_poll_that_is_given_up_leaves_nothing_behind() -> None:
    started = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        started.set()
        await asyncio.Event().wait()
        return web.Response(text=PAGE)

    async def run() -> int:
        scraper = Scraper()
        async with served(handler) as base:
            poll = asyncio.create_task(polled(scraper, base, ["a", "b"]))
            await started.wait()
            poll.cancel()
            with pytest.raises(asyncio.CancelledError):
                await poll
            await scraper.close()
            return sum("_work" in repr(task.get_coro()) for task in asyncio.all_tasks())

    assert asyncio.run(run()) == 0
