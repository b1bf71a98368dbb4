"""An activator over loopback, for tests: real sockets on both sides; replicas are small HTTP servers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from polyfleet.activator.directory import Directory
from polyfleet.activator.doors import Doors
from polyfleet.activator.hall import Hall
from polyfleet.activator.proxy import Proxy
from polyfleet.activator.settings import Bounds, Settings
from polyfleet.wake.names import FIRST_PORT, LAST_PORT
from yarl import URL

from tests.unit.operator.test_wake_slices import controllers, held

KEY, CHAT = "a/m", "/v1/chat/completions"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def free_port() -> int:
    """One of the activator's range that nobody holds at this moment."""
    for port in range(FIRST_PORT + 500, LAST_PORT):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@dataclass
class Scene:
    """An activator of one model. `serve` says which replicas there are."""

    port: int
    directory: Directory
    hall: Hall
    proxy: Proxy
    doors: Doors
    http: aiohttp.ClientSession
    hold_s: float
    runners: list[web.AppRunner] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def queue(self) -> Any:
        return self.hall.queue(KEY)

    async def serve(self, *ports: int) -> None:
        mine = held(number=self.port, hold_s=self.hold_s)
        self.directory.update([mine, *(controllers("serving", [row()], port, **{"kubernetes.io/service-name": "m"}) for port in ports)])
        await self.doors.settle()

    async def replica(self, handler: Handler) -> int:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.runners.append(runner)
        return int(runner.addresses[0][1])

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not reached():  # noqa: ASYNC110 - there is no event for what a peer does
                await asyncio.sleep(0.005)

    def post(self, path: str = CHAT, data: Any = b"{}", **more: Any) -> asyncio.Task[tuple[int, dict[str, str], bytes]]:
        async def send() -> tuple[int, dict[str, str], bytes]:
            async with self.http.post(URL(f"{self.url}{path}", encoded=True), data=data, **more) as answer:
                return answer.status, dict(answer.headers), await answer.read()

        return asyncio.create_task(send())

    async def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes, until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(20):
            found = await reader.read()
        writer.close()
        return found


def row() -> dict[str, Any]:
    return {"addresses": ["127.0.0.1"], "conditions": {"ready": True}}


@asynccontextmanager
async def scene(*, hold_s: float = 300.0, bounds: Bounds | None = None, **more: Any) -> AsyncIterator[Scene]:
    settings = Settings(bounds or Bounds(), host="127.0.0.1", **more)
    directory, hall = Directory(), Hall(settings.bounds)
    proxy = Proxy(directory, hall, settings)
    doors = Doors(directory, hall, proxy, settings.host)
    async with aiohttp.ClientSession() as http:
        found = Scene(free_port(), directory, hall, proxy, doors, http, hold_s)
        await found.serve()
        try:
            yield found
        finally:
            proxy.closing.set()
            await doors.close()
            await proxy.close()
            for runner in found.runners:
                await runner.cleanup()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"path": request.raw_path, "body": (await request.read()).decode(), "headers": dict(request.headers)})


def error_of(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])
