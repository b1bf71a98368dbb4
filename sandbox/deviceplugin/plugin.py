"""The plugin's life: serve, register, follow the withdrawn file, and start again when the kubelet does.

A starting kubelet empties its plugin folder and creates a new `kubelet.sock`; a plugin has to notice and register again. Both are
changes in one folder, so one inotify watch covers kubelet restarts, a removed socket of our own and the withdrawn file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import grpc

from sandbox.deviceplugin.inotify import Watch
from sandbox.deviceplugin.kinds import Advertisement, withdrawn_ids
from sandbox.deviceplugin.service import KUBELET_SOCKET, DeviceService, register

log = logging.getLogger(__name__)

WITHDRAWN_FILE = "withdrawn"
RETRY_SECONDS = 2.0
"""After a refused registration: the kubelet may own a socket that does not answer yet, and then no further file event comes."""


def _exists(path: Path) -> bool:
    return path.exists()


def _read_withdrawn(state_dir: Path) -> frozenset[str]:
    try:
        return withdrawn_ids((state_dir / WITHDRAWN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return frozenset()


async def run(offer: Advertisement, plugin_dir: Path, state_dir: Path) -> None:
    """Advertise until cancelled. `plugin_dir` is the kubelet's folder, `state_dir` holds the withdrawn file."""
    service = DeviceService(offer, state_dir)
    endpoint = f"polyfleet-sandbox-{offer.kind.name}.sock"
    socket, kubelet = plugin_dir / endpoint, plugin_dir / KUBELET_SOCKET
    with Watch(plugin_dir, state_dir) as watch:
        while True:
            watch.take_created()
            socket.unlink(missing_ok=True)
            server = service.server(socket)
            await server.start()
            try:
                await _serve(service, watch, endpoint, socket, kubelet, state_dir)
            finally:
                await server.stop(grace=None)
                with contextlib.suppress(FileNotFoundError):
                    socket.unlink()


async def _serve(service: DeviceService, watch: Watch, endpoint: str, socket: Path, kubelet: Path, state_dir: Path) -> None:
    """Register and stay registered; returns when the server must be started anew."""
    registered = False
    while True:
        await service.withdraw(_read_withdrawn(state_dir))
        if not registered and _exists(kubelet):
            try:
                await register(kubelet, endpoint, service)
                registered = True
                log.info("registered %s x %d as %s", service.offer.resource, len(service.offer.ids), endpoint)
            except grpc.aio.AioRpcError as error:
                log.warning("the kubelet did not take the registration (%s): %s; trying again", error.code().name, error.details())
        timeout = None if registered or not _exists(kubelet) else RETRY_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(watch.changed.wait(), timeout)
        if KUBELET_SOCKET in watch.take_created() and registered:
            log.info("the kubelet started anew")
            return
        if not _exists(socket):
            log.info("the plugin's socket was removed")
            return
