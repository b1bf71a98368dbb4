"""Reads container logs (CRI format: time, stream, tag, text) with the options of `kubectl logs`."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from sandbox.processnode import timestamps

_FOLLOW_SECONDS = 0.2  # files have no event for "somebody wrote"; the kubelet uses inotify, which is not worth it here


@dataclass(frozen=True)
class LogOptions:
    """What the caller wants."""

    follow: bool = False
    previous: bool = False
    with_time: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: datetime | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """From a request's query."""

        def number(name: str) -> int | None:
            text = query.get(name)
            if text is None:
                return None
            if not text.isdigit():
                raise ValueError(f"{name} is {text!r}; it must be a whole number from 0")
            return int(text)

        since = timestamps.parse(query["sinceTime"]) if "sinceTime" in query else None
        ago = number("sinceSeconds")
        return cls(
            follow=query.get("follow") == "true",
            previous=query.get("previous") == "true",
            with_time=query.get("timestamps") == "true",
            tail_lines=number("tailLines"),
            limit_bytes=number("limitBytes"),
            since=timestamps.now() - timedelta(seconds=ago) if ago is not None else since,
        )


def render(line: bytes, options: LogOptions) -> bytes | None:
    """One log line as the caller wants it; None when it is too old."""
    stamp, _, rest = line.partition(b" ")
    _stream, _, rest = rest.partition(b" ")
    tag, _, text = rest.partition(b" ")
    if options.since is not None and timestamps.parse(stamp.decode()) < options.since:
        return None
    prefix = stamp + b" " if options.with_time else b""
    return prefix + text + (b"\n" if tag == b"F" else b"")


def tail(lines: Iterator[bytes], count: int | None) -> list[bytes]:
    """The last lines, or all."""
    return list(lines) if count is None else list(deque(lines, maxlen=count))


class _Reader:
    """Reads whole lines from a growing file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / "log").open("rb")
        self._rest = b""

    def older(self) -> list[bytes]:
        """The lines that were rotated away."""
        rotated = self._folder / "log.1"
        return rotated.read_bytes().splitlines() if rotated.exists() else []

    def lines(self) -> list[bytes]:
        """The lines that were completed since the last call."""
        *complete, self._rest = (self._rest + self._file.read()).split(b"\n")
        return complete

    def over(self) -> bool:
        """Whether nothing more will come."""
        return (self._folder / "exit.json").exists() or not self._folder.exists()

    def reopen(self) -> None:
        """Go on in the new file after a rotation."""
        path = self._folder / "log"
        if path.exists() and path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
            self._file.close()
            self._file = path.open("rb")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


async def read_log(folder: Path, options: LogOptions) -> AsyncIterator[bytes]:
    """Yield a run's log; with ``follow`` until the run has ended."""
    reader, left = _Reader(folder), options.limit_bytes
    try:
        over = reader.over()
        lines = tail(iter([*reader.older(), *reader.lines()]), options.tail_lines)
        while left != 0:
            for line in lines:
                rendered = render(line, options)
                if rendered is not None and left != 0:
                    yield rendered if left is None else rendered[:left]
                    left = None if left is None else max(0, left - len(rendered))
            if over or not options.follow:
                return
            await asyncio.sleep(_FOLLOW_SECONDS)
            over = reader.over()  # looked at before the last read, so that nothing is missed
            lines = reader.lines()
            reader.reopen()
    finally:
        reader.close()
