"""The operator's own HTTP: /metrics, /healthz (the event loop turns) and /readyz (leader or warm standby with a synced cache)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from polyfleet.queue import Clock

TICK_S = 1.0
STALLED_S = 30.0  # a loop that has not ticked for this long is stuck


class Health:
    """Ticks on the event loop; how late a tick is tells how long something blocked it."""

    def __init__(self, clock: Clock, on_lag: Callable[[float], None] = lambda _: None) -> None:
        self._clock, self._on_lag = clock, on_lag
        self._ticked = clock()
        self.ready: Callable[[], str] = lambda: "starting"  # "" when ready, else why not

    async def run(self) -> None:
        while True:
            before = self._clock()
            await asyncio.sleep(TICK_S)
            self._ticked = self._clock()
            self._on_lag(max(0.0, self._ticked - before - TICK_S))

    def stalled(self) -> float:
        return self._clock() - self._ticked


def application(health: Health, metrics: Callable[[], bytes]) -> web.Application:
    async def serve_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def healthz(_: web.Request) -> web.Response:
        age = health.stalled()
        if age < STALLED_S:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"the event loop stood still for {age:.0f} s\n")

    async def readyz(_: web.Request) -> web.Response:
        why_not = health.ready()
        return web.Response(status=503, text=f"{why_not}\n") if why_not else web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", serve_metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


async def start(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listens; the caller cleans the runner up."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
