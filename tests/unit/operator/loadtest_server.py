"""For the load test's tests: a loop whose clock jumps to the next timer, and an HTTP server on loopback that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing else can happen: then it jumps to the next timer. No I/O is waited for."""

    def __init__(self) -> None:
        super().__init__(_Instant(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _Instant(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._owner = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen in this virtual time")
        if timeout > 0:
            self._owner.now += timeout
        return super().select(0)


def virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs `main()` in virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def chunk(text: str = "", **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": None}], **more}).encode() + b"\n\n"


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


@asynccontextmanager
async def serving(answer: Answer, model: str = "org/m", **card: Any) -> AsyncIterator[str]:
    """An endpoint whose completions are made by `answer`; gives its address."""

    async def completions(request: web.Request) -> web.StreamResponse:
        return await answer(request, await request.json())

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model, "object": "model", **card}]})

    app = web.Application()
    app.add_routes([web.post("/v1/completions", completions), web.get("/v1/models", models)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
