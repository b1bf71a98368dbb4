"""The activator's process: settings, one watch of EndpointSlices, the ports, metrics and probes, until a signal.

At a signal it becomes unready, so that the operator and the Services take it out of the way, goes on as long as somebody waits, and ends.
Exit codes: 0 ended by a signal; 1 a part failed; 2 the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, suppress

from kubernetes.aio.config import ConfigException

from polyfleet import http, logs
from polyfleet.activator.directory import Directory
from polyfleet.activator.doors import Doors
from polyfleet.activator.hall import Hall
from polyfleet.activator.page import Page
from polyfleet.activator.proxy import Proxy
from polyfleet.activator.settings import Settings, load
from polyfleet.client import Client, load_configuration
from polyfleet.config import ConfigError
from polyfleet.reflector import Reflector, Source, Timing
from polyfleet.resources import ENDPOINT_SLICES
from polyfleet.state import EndpointsState
from polyfleet.wake import names, slices

log = logging.getLogger(__name__)

OK, FAILED, BAD_CONFIG = 0, 1, 2
SPREAD_S = 10.0  # until everybody knows that this pod is no endpoint any more
LOOK_S = 1.0


def main(environ: Mapping[str, str] = os.environ) -> int:
    try:
        settings = load(environ)
    except ConfigError as error:
        logs.setup("text")
        log.error("%s", error)
        return BAD_CONFIG
    logs.setup(settings.log_format)
    try:
        return asyncio.run(run(settings, environ))
    except (ConfigError, ConfigException, OSError, ValueError) as error:
        log.error("cannot start: %s; set KUBECONFIG to a readable file, or run in a pod with a ServiceAccount", error)
        return BAD_CONFIG


async def run(settings: Settings, environ: Mapping[str, str]) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(await load_configuration(environ), fence=_never))
        activator = Activator(client, settings)
        stack.push_async_callback(activator.close)
        runner = await http.start(http.application(activator.health, activator.page.render), settings.host, settings.http_port)
        stack.push_async_callback(runner.cleanup)
        parts = [asyncio.create_task(part, name=name) for name, part in activator.parts()]
        ended = asyncio.create_task(stop.wait(), name="signal")
        done, _ = await asyncio.wait({ended, *parts}, return_when=asyncio.FIRST_COMPLETED)
        if ended in done:
            await activator.end()
        for task in (ended, *parts):
            task.cancel()
        results = await asyncio.gather(*parts, return_exceptions=True)
        failed = [each for each in results if isinstance(each, Exception)]
        for error in failed:
            log.error("a part of the activator failed", exc_info=error)
        return FAILED if failed else OK


def _never() -> float:
    raise PermissionError("the activator writes nothing")


class Activator:
    """Everything but the process around it."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.directory = Directory()
        self.hall = Hall(settings.bounds)
        self.proxy = Proxy(self.directory, self.hall, settings)
        self.doors = Doors(self.directory, self.hall, self.proxy, settings.host)
        self.page = Page(self.hall, self.doors.listening)
        self.health = http.Health(time.monotonic)
        self.health.ready = self._why_not_ready
        self._news = asyncio.Event()
        self._ending = False
        self._hold_s = settings.most_hold_s
        source: Source[EndpointsState] = Source("endpointslices", ENDPOINT_SLICES, slices.parse, label_selector=names.ROLE)
        self._slices = Reflector(client, source, "", lambda _: self._news.set(), lambda: None, time.monotonic, Timing())

    def parts(self) -> list[tuple[str, Coroutine[None, None, None]]]:
        return [("health", self.health.run()), ("slices", self._slices.run()), ("doors", self.follow())]

    async def follow(self) -> None:
        """The directory and the ports follow the slices. What cannot be read changes nothing: it stays as it was read last."""
        while True:
            await self._news.wait()
            self._news.clear()
            self.directory.update(self._slices.values())
            await self.doors.settle()

    async def end(self) -> None:
        """Takes no part any more, and lets those who wait go on until they have left or were held for as long as was promised."""
        self._ending = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() - began < self._hold_s + SPREAD_S:
            if loop.time() - began >= SPREAD_S and not self.hall.waiting and not self.hall.passing:
                break
            await asyncio.sleep(LOOK_S)
        self.proxy.closing.set()

    async def close(self) -> None:
        self.proxy.closing.set()
        with suppress(OSError):
            await self.doors.close()
        await self.proxy.close()

    def _why_not_ready(self) -> str:
        if self._ending:
            return "it ends"
        if not self._slices.lists:
            return f"EndpointSlices were not read yet{': ' + self._slices.unknown if self._slices.unknown else ''}"
        return "" if self.doors.whole() else "not every port is open"
