"""The ports that are listened on: one per model that may sleep."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from aiohttp import web

from polyfleet.activator.directory import Directory
from polyfleet.activator.hall import Hall
from polyfleet.activator.proxy import Proxy
from polyfleet.wake.slices import Route

log = logging.getLogger(__name__)

BACKLOG = 512


@dataclass(slots=True)
class Doors:
    """`settle` after each change of the directory; `close` at the end."""

    directory: Directory
    hall: Hall
    proxy: Proxy
    host: str
    _runner: web.ServerRunner | None = None
    _sites: dict[int, web.TCPSite] = field(default_factory=dict)
    _failed: dict[int, str] = field(default_factory=dict)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    def listening(self) -> dict[str, tuple[Route, float]]:
        """The models whose port is open, and how long a request of each is held."""
        there = ((port, model) for port, model in self.directory.by_port.items() if port in self._sites)
        return {model.route.key: (model.route, self.proxy.hold_s(model)) for _, model in there}

    def whole(self) -> bool:
        """Whether every port that should be open is."""
        return self._sites.keys() >= self.directory.by_port.keys()

    async def settle(self) -> None:
        """Opens and closes what is to be. A port that cannot be had is told once, and tried again at the next change."""
        async with self._one:
            if self._runner is None:
                self._runner = web.ServerRunner(self.proxy.server(), shutdown_timeout=1.0)
                await self._runner.setup()
            wanted = dict(self.directory.by_port)
            self.hall.keep(model.route.key for model in wanted.values())
            for port in sorted(self._sites.keys() - wanted.keys()):
                await self._sites.pop(port).stop()
            for port in sorted(wanted.keys() - self._sites.keys()):
                site = web.TCPSite(self._runner, self.host, port, backlog=BACKLOG)
                try:
                    await site.start()
                except OSError as error:
                    if self._failed.get(port) != str(error):
                        log.error("cannot listen for a model", extra={"model": wanted[port].route.key, "port": port, "detail": str(error)})
                    self._failed[port] = str(error)
                    continue
                self._sites[port] = site
                self._failed.pop(port, None)

    async def close(self) -> None:
        async with self._one:
            self._sites.clear()
            if self._runner is not None:
                await self._runner.cleanup()
                self._runner = None
