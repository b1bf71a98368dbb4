"""Doors of the host: bytes go through both ways, a door can be pointed elsewhere, errors are answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox import forwarder
from sandbox.errors import SandboxError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _answering(word: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word + await reader.read())  # reads to the end: the half-close of the caller must arrive
        await writer.drain()
        writer.close()

    return handle


async def _call(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def _port(handler: Handler) -> int:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


def test_bytes_go_both_ways_and_the_door_keeps_its_port() -> None:
    """The same name twice is the same port outside, leading to the newest target inside."""

    async def scene() -> None:
        doors = forwarder.Forwarder(None)
        first, second = await _port(_answering(b"one ")), await _port(_answering(b"two "))
        door = await doors.open("mdep/default/x", "127.0.0.1", first)
        big = b"x" * 300_000
        assert await _call(door.outside, big) == b"one " + big
        again = await doors.open("mdep/default/x", "127.0.0.1", second)
        assert again.outside == door.outside
        assert await _call(door.outside, b"y") == b"two y"

    asyncio.run(scene())


def test_dead_target_closes_the_connection() -> None:
    """Nobody inside: the caller sees an end, not a hang."""

    async def scene() -> None:
        doors = forwarder.Forwarder(None)
        server = await asyncio.start_server(_answering(b""), "127.0.0.1", 0)
        port = int(server.sockets[0].getsockname()[1])
        server.close()
        await server.wait_closed()
        door = await doors.open("gone", "127.0.0.1", port)
        assert await _call(door.outside, b"") == b""

    asyncio.run(scene())


def test_control_socket_opens_lists_and_refuses(tmp_path: Path) -> None:
    """The protocol of the control socket, in a folder whose path is longer than a socket's path may be (107 bytes)."""
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()

    async def scene() -> list[Any]:
        doors = forwarder.Forwarder(None)
        target = await _port(_answering(b""))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            server = await asyncio.start_unix_server(doors.control, "c.sock")

        async def ask(request: dict[str, Any]) -> dict[str, Any]:
            return await asyncio.to_thread(forwarder.ask, folder / "c.sock", request)

        opened = await ask({"name": "a", "host": "127.0.0.1", "port": target})
        listed = await ask({})
        with pytest.raises(SandboxError, match="c cannot do that"):
            await ask({"name": "a"})
        server.close()
        return [opened, listed, target]

    opened, listed, target = asyncio.run(scene())
    assert listed == {"doors": {"a": ["127.0.0.1", target, opened["port"]]}}
    assert json.dumps(opened)


def test_missing_forwarder_is_said_in_words(tmp_path: Path) -> None:
    """No socket: the message names the program and the next command."""
    with pytest.raises(SandboxError, match=r"forwarder does not answer.*polyfleet-sandbox status"):
        forwarder.ask(tmp_path / "forwarder.sock", {})
