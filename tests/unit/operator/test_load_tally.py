"""What the accuracy checker's client sends is counted per pod: completions only, while they are under way, and not those turned away."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from polyfleet.certify.endpoints import endpoints
from polyfleet.clearance.work import Replica
from polyfleet.load.tally import Sent, Tally

from accuracy.http.client import HttpError, connect


def test_completions_are_counted_for_their_pod() -> None:
    """Two are answered (5 + 2 tokens each), one is refused, one fails inside the engine; what is asked about the engine is no load."""
    tally = Tally()
    inside: list[float] = []
    statuses = iter([200, 200, 400, 500])

    async def complete(_: web.Request) -> web.Response:
        inside.append(tally.to("uid-a").requests)
        status = next(statuses)
        return web.json_response({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, status=status)

    async def about(_: web.Request) -> web.Response:
        return web.json_response({"data": []})

    async def run() -> None:
        app = web.Application()
        app.add_routes([web.post("/v1/completions", complete), web.post("/v1/chat/completions", complete), web.get("/v1/models", about)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        (endpoint,) = endpoints([Replica("a", "uid-a", "cri://a", url)], "m", tally.to)
        async with connect(endpoint) as client:
            await client.get("/v1/models")
            await client.complete({})
            await client.chat({})
            for _ in range(2):
                with pytest.raises(HttpError):
                    await client.complete({})
        await runner.cleanup()

    asyncio.run(run())
    assert inside == [1.0, 2.0, 3.0, 3.0]  # counted before the engine answers
    assert tally.of("uid-a") == Sent(3.0, 10.0, 4.0)
    assert tally.of("uid-b") is None


def test_without_anybody_who_counts_nothing_is_counted() -> None:
    (endpoint,) = endpoints([Replica("a", "uid-a", "cri://a", "http://10.0.0.1:8000")], "m")
    assert endpoint.meter is None
    (counted,) = endpoints([Replica("a", "uid-a", "cri://a", "http://10.0.0.1:8000")], "m", Tally().to)
    assert counted == endpoint  # it is no part of what an endpoint is
