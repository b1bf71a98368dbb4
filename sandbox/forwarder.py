"""Doors from the host's 127.0.0.1 into the cluster's network namespace, opened on demand: `python -m sandbox.forwarder`.

Listening sockets are made on the host's side and outgoing ones inside (a socket belongs to the namespace it was created in), so one
plain process serves both. Only 127.0.0.1 is ever listened on. A control socket in the state folder (0600 by its folder) takes one JSON
line: {"name": …, "host": …, "port": …} opens a door or points an open one elsewhere, and answers {"port": …}; {} lists the doors.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.api import PAUSE_SECONDS
from sandbox.errors import SandboxError
from sandbox.netns import tcp_socket

CHUNK = 64 * 1024
CONNECT_SECONDS = 10.0


def control_path(state: Path) -> Path:
    """The control socket."""
    return state / "run" / "forwarder.sock"


@dataclass
class Door:
    """One listening port of the host and where it leads."""

    host: str
    port: int
    outside: int
    server: asyncio.Server | None = None


class Forwarder:
    """All doors of one cluster."""

    def __init__(self, pin: Path | None) -> None:
        self._pin = pin
        self.doors: dict[str, Door] = {}

    async def open(self, name: str, host: str, port: int, wanted: int = 0) -> Door:
        """Open a door, or point an open one elsewhere (a Service that was made anew keeps its printed address)."""
        door = self.doors.get(name)
        if door is not None:
            door.host, door.port = host, port
            return door
        door = Door(host, port, 0)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(door, reader, writer)

        door.server = await asyncio.start_server(serve, "127.0.0.1", wanted)
        door.outside = int(door.server.sockets[0].getsockname()[1])
        self.doors[name] = door
        return door

    async def _serve(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside = tcp_socket(self._pin)
        inside.setblocking(False)
        inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(inside, (door.host, door.port))
            far_reader, far_writer = await asyncio.open_connection(sock=inside)
        except OSError:  # TimeoutError included: the caller sees a closed connection, as from any dead server
            inside.close()
            writer.close()
            return
        # Each direction ends by itself (half-closed connections are kept); a broken one closes both ends, which ends the other too.
        try:
            await asyncio.gather(_copy(reader, far_writer, writer), _copy(far_reader, writer, far_writer))
        finally:
            far_writer.close()
            writer.close()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request on the control socket."""
        answer: dict[str, Any]
        try:
            request = json.loads(await reader.readline())
            if request:
                door = await self.open(str(request["name"]), str(request["host"]), int(request["port"]), int(request.get("outside", 0)))
                answer = {"port": door.outside}
            else:
                answer = {"doors": {name: [door.host, door.port, door.outside] for name, door in sorted(self.doors.items())}}
        except (ValueError, KeyError, TypeError, OSError) as error:
            answer = {"error": str(error) or type(error).__name__}
        writer.write(json.dumps(answer).encode() + b"\n")
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter) -> None:
    """Copy one direction to its end."""
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()
        back.close()


def ask(control: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Send one request to a control socket and read the answer."""
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(10)
        try:
            # A socket's path may have 107 bytes at most; a checkout may lie deeper than that.
            os.chdir(control.parent)
            line.connect(control.name)
        except OSError as error:
            raise SandboxError(f"{control.stem} does not answer ({error.strerror}). See: polyfleet-sandbox status") from None
        finally:
            os.chdir(here)
        line.sendall(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(line.makefile().readline() or '{"error": "no answer"}')
    if "error" in answer:
        raise SandboxError(f"{control.stem} cannot do that: {answer['error']}")
    return answer


def wait_control(control: Path, alive: Callable[[], None]) -> None:
    """Wait until a control socket is there; `alive` raises when the process that should make it has ended."""
    deadline = time.monotonic() + 30
    while not control.exists():
        alive()
        if time.monotonic() > deadline:
            raise SandboxError(f"{control.stem} does not start. Its log: polyfleet-sandbox logs {control.stem}")
        time.sleep(PAUSE_SECONDS)


async def _main(control: Path, pin: Path | None, api: tuple[str, int] | None, outside: int) -> None:
    forwarder = Forwarder(pin)
    if api is not None:
        await forwarder.open("api", api[0], api[1], outside)
    os.chdir(control.parent)
    server = await asyncio.start_unix_server(forwarder.control, control.name)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="sandbox.forwarder", description="Doors from 127.0.0.1 into the cluster's network")
    parser.add_argument("--control", type=Path, required=True, help="path of the control socket")
    parser.add_argument("--network", type=Path, help="pin of the network namespace; without it: the host's own network")
    parser.add_argument("--api", help="HOST:PORT of the API server inside")
    parser.add_argument("--api-outside", type=int, default=0, help="port of 127.0.0.1 that leads there")
    options = parser.parse_args()
    api = None
    if options.api:
        host, _, port = options.api.rpartition(":")
        api = (host, int(port))
    asyncio.run(_main(options.control, options.network, api, options.api_outside))


if __name__ == "__main__":
    main()
