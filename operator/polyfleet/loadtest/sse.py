"""Server-sent events, from bytes as they come: any split, any line end, comments, fields that nobody asked for.

Follows the WHATWG event stream format: a line ends with LF, CR or CRLF; `:` begins a comment (proxies send them as keep-alives); `data`
lines of one event are joined with LF; an empty line ends the event. Only `data` and `event` matter here. What a broken server leaves
unfinished at the end is no event.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_BYTES = 1 << 20  # of one event; a token is some hundred bytes, a usage chunk less than a thousand


class TooLargeError(ValueError):
    """An event that is larger than any honest one: the stream is not what it says."""


@dataclass(slots=True)
class Parser:
    """`feed` takes bytes and gives the data of the events that they complete, in order."""

    _rest: bytes = b""
    _data: list[bytes] = field(default_factory=list)
    _size: int = 0
    _after_cr: bool = False
    _begun: bool = False

    def feed(self, chunk: bytes) -> list[str]:
        if self._after_cr and chunk.startswith(b"\n"):  # the second half of a CRLF that was split
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        text = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        if len(self._rest) + self._size > MOST_BYTES:
            raise TooLargeError(f"an event of more than {MOST_BYTES} bytes")
        events: list[str] = []
        for line in lines:
            if not self._begun:
                line = line.removeprefix(b"\xef\xbb\xbf")
                self._begun = True
            if line:
                self._line(line)
            elif self._data:
                events.append(b"\n".join(self._data).decode("utf-8", "replace"))
                self._data, self._size = [], 0
        return events

    def _line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name != b"data":  # a comment has an empty name
            return
        value = value.removeprefix(b" ")
        self._size += len(value) + 1
        if self._size > MOST_BYTES:
            raise TooLargeError(f"an event of more than {MOST_BYTES} bytes")
        self._data.append(value)
