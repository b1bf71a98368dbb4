"""Linux's inotify as asyncio events, so that the plugin waits for files instead of polling them. The standard library has no binding."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from pathlib import Path
from types import TracebackType

# Event bits of inotify(7).
CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_HEADER = struct.Struct("iIII")
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class Watch:
    """Sets `changed` whenever an entry of one of the folders is created, written, renamed or deleted."""

    def __init__(self, *folders: Path) -> None:
        self.changed = asyncio.Event()
        self._names: set[str] = set()
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 failed: raise fs.inotify.max_user_instances (sysctl) on this node")
        for folder in folders:
            mask = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE
            if libc.inotify_add_watch(self._fd, os.fsencode(folder), mask) < 0:
                error = ctypes.get_errno()
                os.close(self._fd)
                raise OSError(error, f"cannot watch {folder}: {os.strerror(error)}")

    def __enter__(self) -> Watch:
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        data = os.read(self._fd, 65536)
        offset = 0
        while offset < len(data):
            _watch, mask, _cookie, length = _HEADER.unpack_from(data, offset)
            name = os.fsdecode(data[offset + _HEADER.size : offset + _HEADER.size + length].rstrip(b"\0"))
            offset += _HEADER.size + length
            if mask & CREATE:
                self._names.add(name)
        self.changed.set()

    def take_created(self) -> set[str]:
        """The names created since the last call; also clears `changed`."""
        names, self._names = self._names, set()
        self.changed.clear()
        return names
