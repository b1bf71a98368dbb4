"""The operator reads what the activator publishes: both ends of it, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from polyfleet import http
from polyfleet.activator.page import Page
from polyfleet.wake.reader import MOST_BYTES, Reader
from polyfleet.wake.slices import Endpoint

from tests.unit.operator.activating import run, scene
from tests.unit.operator.test_wake_path import PODS, activator, awake, look, replicas

POD = Endpoint("127.0.0.1", "x")


def inputs(port: int, model: str = "a/m") -> Any:
    """One model that may sleep, and one pod of the activator at this port."""
    seen = look(1, awake(), activator(*PODS), replicas("10.1.0.1")).inputs
    (view,) = seen.models.values()
    return replace(seen, models={model: view}, wake=replace(seen.wake, pods=(POD,), everyone=(POD,), metrics_port=port))


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[int]:
    runner = await http.start(app, "127.0.0.1", 0)
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def test_what_waits_at_the_activator_is_what_the_decision_sees() -> None:
    async def scenario() -> None:
        async with scene() as s:
            page = Page(s.hall, s.doors.listening)
            reader = Reader()
            async with serving(http.application(http.Health(lambda: 0.0), page.render)) as port:
                before = (await reader.poll(inputs(port), 10.0))["a/m"]
                assert (before.at, before.arrived, before.waiting, before.holds_s, before.only_at_zero) == (10.0, 0.0, 0.0, 300.0, True)
                asked = [s.post() for _ in range(2)]
                await s.until(lambda: s.queue.waiting == 2)
                after = (await reader.poll(inputs(port), 15.0))["a/m"]
                assert (after.arrived, after.waiting) == (2.0, 2.0)
                unknown = (await reader.poll(inputs(port, "a/other"), 20.0))["a/other"]
                assert (unknown.arrived, unknown.waiting, unknown.holds_s) == (None, None, None)
            s.proxy.closing.set()
            await asyncio.gather(*asked)
            gone = (await reader.poll(inputs(port), 25.0))["a/m"]
            assert (gone.arrived, gone.waiting) == (None, None)
            await reader.close()

    run(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        web.Response(text="<html>\n"),
        web.Response(body=b"\xff\xfe\n"),
        web.Response(body=b"# x\n" * (MOST_BYTES // 4 + 1)),
        web.Response(body=b"polyfleet_activator_requests_total 1\n", headers={"Content-Encoding": "gzip"}),
    ],
    ids=["500", "redirect", "html", "bytes", "large", "packed"],
)
def test_what_is_no_page_is_not_read(answer: web.Response) -> None:
    async def scenario() -> None:
        async def handle(_: web.Request) -> web.Response:
            return answer

        app = web.Application()
        app.add_routes([web.get("/metrics", handle)])
        reader = Reader()
        async with serving(app) as port:
            found = (await reader.poll(inputs(port), 10.0))["a/m"]
        await reader.close()
        assert (found.arrived, found.waiting, found.holds_s) == (None, None, None)

    run(scenario)


def test_without_a_model_that_may_sleep_nobody_is_asked() -> None:
    async def scenario() -> None:
        reader = Reader()
        seen = look(1, awake())  # refused: there is no activator
        assert await reader.poll(seen.inputs, 10.0) == {}
        assert reader._session is None

    run(scenario)
