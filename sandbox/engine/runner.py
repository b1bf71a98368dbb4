"""The engine's life: listen at once, load, serve, and on SIGTERM finish what was begun.

The port is open from the first moment, so a probe is told "loading" instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from sandbox.engine.config import Config, devices
from sandbox.engine.factory import build
from sandbox.engine.faults import FaultError
from sandbox.engine.gguf_weights import WeightsError
from sandbox.engine.metrics import EngineMetrics
from sandbox.engine.server import EngineServer, Identity

log = logging.getLogger("sandbox.engine")


def identity(config: Config, environ: Mapping[str, str]) -> Identity:
    extra: dict[str, Any] = {
        "backend": config.backend,
        "dtype": config.dtype,
        "paced": config.paced,
        "tensorParallelSize": config.tensor_parallel,
        "devices": devices(environ),
    }
    return Identity(config.served_name, config.model, extra)


async def serve(config: Config, environ: Mapping[str, str], threads: int) -> int:
    """Runs until told to stop; the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = EngineServer(identity(config, environ), EngineMetrics(config.served_name, time.monotonic))
    # cancellation: a client that goes away ends its request, and frees its place in the batch
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, config.host, config.port).start()
        except OSError as error:
            log.error("cannot listen on %s port %d: %s. Choose another --port.", config.host, config.port, error.strerror)
            return 1
        log.info("listening on %s, loading backend=%s dtype=%s paced=%s", runner.addresses[0], config.backend, config.dtype, config.paced)
        return await _load_and_wait(server, config, threads, stop)
    finally:
        await runner.cleanup()


async def _load_and_wait(server: EngineServer, config: Config, threads: int, stop: asyncio.Event) -> int:
    began = time.monotonic()
    loading, stopped = asyncio.ensure_future(build(config, threads)), asyncio.ensure_future(stop.wait())
    await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        loading.cancel()
        return 0
    try:
        engine = loading.result()
    except (WeightsError, FaultError) as error:
        log.error("%s", error)
        return 1
    server.ready(engine)
    log.info("ready after %.1f s, context %d", time.monotonic() - began, engine.context)
    await stopped
    server.drain()
    log.info("stopping: no new requests, %.0f s to finish the running ones", config.shutdown_seconds)
    stop.clear()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.idle(), config.shutdown_seconds)
    await engine.backend.close()
    return 0
