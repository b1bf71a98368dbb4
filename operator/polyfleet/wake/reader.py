"""Asks the activator's pods for their metrics pages: once per tick of the autoscaler while some model may sleep. Network; time comes in.

Bounded as the replicas' pages are: seconds of one answer, bytes of a page, no redirect, nothing unpacked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from autoscaling.types import Gateway
from polyfleet import bounded
from polyfleet.inputs import Inputs
from polyfleet.wake import ledger
from polyfleet.wake.ledger import Ledger, Page

log = logging.getLogger(__name__)

ANSWER_S = 3.0
MOST_BYTES = 8 << 20  # 12,000 models with 9 series each are 7 MB
LARGE = 1 << 17  # above, a page is read in a thread


@dataclass(slots=True)
class Reader:
    """`poll` once per tick; `close` at the end."""

    ledger: Ledger = field(default_factory=Ledger)
    _session: aiohttp.ClientSession | None = None
    _failed: dict[str, str] = field(default_factory=dict)

    async def poll(self, inputs: Inputs, now: float) -> Mapping[str, Gateway]:
        """A reading of every model that may sleep, by model; empty without an activator. `now`: seconds since 1970."""
        models = [key for key, view in inputs.models.items() if view.way is not None and view.way.sleeps and not view.way.refused]
        if not models:
            return {}
        wake = inputs.wake
        pods = {item.uid or item.address: item.address for item in wake.everyone}
        self._failed = {address: told for address, told in self._failed.items() if address in pods.values()}
        found = await asyncio.gather(*(self._ask(address, wake.metrics_port) for address in pods.values()))
        pages = dict(zip(pods, found, strict=True))
        return self.ledger.fold(models, pages, {item.uid or item.address for item in wake.pods}, now)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, address: str, port: int) -> Page | None:
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}/metrics"
        try:
            async with asyncio.timeout(ANSWER_S), self._open().get(url, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise ValueError(f"answered {answer.status}")
                found = await bounded.body(answer, MOST_BYTES)
                if found is None:
                    raise ValueError(f"its page has more than {MOST_BYTES} bytes")
            text = found.decode("utf-8")
            page = await asyncio.to_thread(ledger.read, text) if len(text) > LARGE else ledger.read(text)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"[:300]
            if self._failed.get(address) != detail:  # told once; a pod that leaves is asked until it is gone
                log.info("the activator was not read", extra={"url": url, "detail": detail})
            self._failed[address] = detail
            return None
        self._failed.pop(address, None)
        return page

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, use_dns_cache=False),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity", "User-Agent": "polyfleet"},
            )
        return self._session
