"""Which faults a replica has now, from three sources: its arguments, a file of its node, and a call from its own machine.

They test different things: an argument is part of what was deployed, so it changes the fingerprint; a file that the node puts into the
container, and a call to a running replica, change nothing that anybody could read from outside.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from sandbox.engine.faults.requests import Reading
from sandbox.engine.faults.switches import Fault, FaultError, for_replica, parse, parse_file
from sandbox.engine.tokenizer import Tokenizer

log = logging.getLogger("sandbox.engine")

MAX_FAULTS, MAX_FILE_BYTES = 64, 1 << 16
Computes = Literal["here", "elsewhere"]  # whether the model is ours to change


class Switchable(Protocol):
    """A model that takes faults while it runs."""

    def set(self, faults: Sequence[Fault]) -> None: ...


class FaultControl:
    """The faults of one replica. `refresh` is cheap enough for every request: one look at the file's date."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        argued: Sequence[Fault] = (),
        *,
        file: Path | None = None,
        replica: str = "",
        computes: Computes = "here",
    ) -> None:
        """Raises FaultError if an argument does not fit this backend. `file`: one fault a line; it may come, change and go."""
        self._computes, self._file, self._replica = computes, file, replica
        self.reading = Reading(tokenizer)
        self._argued = self._fitting(argued)
        self._filed: tuple[Fault, ...] = ()
        self._called: tuple[Fault, ...] = ()
        self._settled: tuple[Fault, ...] = ()
        self._seen: tuple[int, int, int] | None = None
        self._lock = threading.Lock()
        self._model: Switchable | None = None
        self._end: Callable[[frozenset[int]], None] | None = None
        self._apply()
        self.refresh()

    @property
    def argued(self) -> tuple[Fault, ...]:
        """The arguments that hold for this replica."""
        return for_replica(self._argued, self._replica)

    def attach(self, model: Switchable, settled: Sequence[Fault] = ()) -> None:
        """The model is loaded, with the `settled` ones of `argued` in its weights for good. May be called from a loader's thread."""
        with self._lock:
            self._model, self._settled = model, tuple(settled)
            self._apply()

    def ends(self, tell: Callable[[frozenset[int]], None]) -> None:
        """`tell` is called with the tokens that end an answer whenever they change."""
        self._end = tell
        self._apply()

    def refresh(self) -> None:
        """Reads the node's file if it is not the one that was read last. One that cannot be read changes nothing, and is logged."""
        if self._file is None:
            return
        try:
            now = os.stat(self._file)
        except OSError:
            seen = None
        else:
            seen = (now.st_mtime_ns, now.st_size, now.st_ino)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._change(filed=self._read() if seen else ())
        except (OSError, ValueError) as error:  # FaultError and text that is not UTF-8 are ValueErrors
            log.error("the file of faults %s changes nothing: %s", self._file, error)

    def call(self, texts: Sequence[str]) -> None:
        """Replaces what earlier calls set. Raises FaultError and changes nothing if one does not fit."""
        if len(texts) > MAX_FAULTS:
            raise FaultError(f"faults: {len(texts)}; allowed: at most {MAX_FAULTS}. Next: send fewer")
        self._change(called=tuple(parse(text) for text in texts))

    def told(self) -> dict[str, list[str]]:
        """By source, as text."""
        sources = {"argument": self._argued, "file": self._filed, "call": self._called}
        return {name: [fault.text for fault in faults] for name, faults in sources.items()}

    def _read(self) -> tuple[Fault, ...]:
        assert self._file is not None
        with self._file.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        faults = parse_file(data.decode())
        if len(data) > MAX_FILE_BYTES or len(faults) > MAX_FAULTS:
            raise FaultError(f"more than {MAX_FAULTS} faults or {MAX_FILE_BYTES} bytes. Next: write fewer")
        return faults

    def _change(self, *, filed: tuple[Fault, ...] | None = None, called: tuple[Fault, ...] | None = None) -> None:
        with self._lock:
            before = self._filed, self._called
            self._filed = self._filed if filed is None else self._fitting(filed)
            self._called = self._called if called is None else self._fitting(called)
            try:
                self._apply()
            except FaultError:
                self._filed, self._called = before
                raise
        log.warning("faults: %s", self.told())

    def _fitting(self, faults: Sequence[Fault]) -> tuple[Fault, ...]:
        for fault in faults:
            if self._computes == "elsewhere" and (fault.switch.place != "request" or fault.name == "end-token"):
                message = f"fault {fault.text!r}: this backend's computation cannot be changed, only how it reads requests"
                raise FaultError(f"{message}. Next: use --backend numpy or byte")
        return tuple(faults)

    def _apply(self) -> None:
        faults = for_replica((*self._argued, *self._filed, *self._called), self._replica)
        if self._model is not None:
            self._model.set(tuple(fault for fault in faults if fault not in self._settled))
        self.reading.set(faults)
        if self._end is not None:
            self._end(self.reading.end_ids)
