"""One resource, listed and watched for ever: the content is *replaced* on every list, so nothing that is gone can stay.

Why not kopf's index: an object that is deleted while the watch is broken yields no DELETED event after the relist, and the
index keeps its ghost for ever. Here a relist swaps the whole content, and the difference marks the cycle dirty.

    list (paged, current state) -> watch from its version -> cut or silent: watch again from the last version seen
                                                          -> 410, repeated failure, resync time, or asked: list again

`unknown` says why the content cannot be trusted (ListForbidden, ListFailed, NotServed); it is empty after a good list.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from bisect import bisect_left
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from polyfleet.client import Client
from polyfleet.errors import ApiError, Forbidden, Gone, NotFound
from polyfleet.queue import Clock
from polyfleet.resources import Resource

log = logging.getLogger(__name__)

# Why a resource cannot be read.
FORBIDDEN, FAILED, NOT_SERVED = "ListForbidden", "ListFailed", "NotServed"

State = TypeVar("State")
Key = tuple[str, str]  # (namespace, name)


@dataclass(frozen=True, slots=True)
class Source(Generic[State]):
    """What to list and watch, and how one raw object becomes a slim value (None: not worth holding)."""

    name: str  # unique; several sources may feed one tuple of `Observed`
    resource: Resource
    parse: Callable[[dict[str, Any]], State | None]
    field_selector: str = ""
    label_selector: str = ""
    everywhere: bool = False  # read from the whole cluster whatever namespaces are watched
    optional: bool = False  # a cluster may not serve it, or not to us: that is known and said, and asked again at the next resync


@dataclass(frozen=True, slots=True)
class Timing:
    resync_s: float = 300.0
    inactivity_s: float = 90.0  # the API server sends a bookmark about once a minute
    first_delay_s: float = 0.2
    longest_delay_s: float = 30.0


class Reflector(Generic[State]):
    def __init__(
        self,
        client: Client,
        source: Source[State],
        namespace: str,
        changed: Callable[[str], None],
        moved: Callable[[], None],
        clock: Clock,
        timing: Timing,
        seed: int = 0,
    ) -> None:
        self.source, self.namespace = source, namespace
        self.items: dict[Key, State] = {}
        self.tried = asyncio.Event()  # the first list succeeded or failed
        self.unknown = ""
        self.last_contact = clock()
        self.lists = 0  # successful lists so far
        self._client, self._clock, self._timing = client, clock, timing
        self._changed = changed  # the content differs in a way that matters
        self._moved = moved  # anything at all was read, a mere new version included
        self._random = random.Random(f"{seed}/{source.name}/{namespace}")  # jitter, not a secret
        self._version = ""
        self._failures = 0
        self._relist = asyncio.Event()
        self._keys: list[Key] = []  # of `items`, sorted
        self._states: list[State] = []  # in that order
        self._values: tuple[State, ...] | None = None  # the same, as it was last given away

    @property
    def resting(self) -> bool:
        """An optional resource that this cluster does not give: nothing is to be expected of it."""
        return self.source.optional and self.unknown in (FORBIDDEN, NOT_SERVED)

    def values(self) -> tuple[State, ...]:
        """The content, sorted by key: the same tuple until something changes."""
        if self._values is None:
            self._values = tuple(self._states)
        return self._values

    def keys(self) -> list[Key]:
        """The keys of `values`; not to be changed."""
        return self._keys

    @property
    def version(self) -> int:
        """Everything up to this resourceVersion was read; 0 before the first list."""
        return int(self._version) if self._version.isdigit() else 0

    def relist(self) -> None:
        """Asks for an authoritative LIST: used when the content is in doubt."""
        self._relist.set()

    async def list_once(self) -> None:
        """One LIST without a watch; raises what goes wrong, but for an optional resource that is not given."""
        try:
            await self._list()
        except (Forbidden, NotFound) as error:
            if not self.source.optional:
                raise
            self._failed(NOT_SERVED if isinstance(error, NotFound) else FORBIDDEN, error)

    async def run(self) -> None:
        while True:
            self._relist.clear()
            try:
                await self._list()
                await self._watch_until_relist()
            except Gone:
                self._failures += 1  # a server that answers 410 each time must not be listed in a tight loop
            except Forbidden as error:
                self._failed(FORBIDDEN, error)
            except NotFound as error:
                self._failed(NOT_SERVED if self.source.optional else FAILED, error)
            except (ApiError, OSError) as error:
                self._failed(FAILED, error)
            except (KeyError, TypeError, ValueError) as error:
                # An object that breaks the parser is a bug or a broken server; neither may end the watching of everything else.
                self._failed(FAILED, error)
            await self._pause()

    def _failed(self, reason: str, error: Exception) -> None:
        self._failures += 1
        if self.unknown != reason:
            level = logging.INFO if self.source.optional else logging.WARNING
            log.log(level, "cannot read a resource", extra={"resource": self.source.name, "reason": reason, "detail": str(error)[:500]})
            self.unknown = reason
            self._changed(self.source.name)
        self.tried.set()
        self._moved()

    async def _pause(self) -> None:
        if self.resting:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._relist.wait(), self._timing.resync_s * self._random.uniform(0.9, 1.1))
        elif self._failures:
            delay = min(self._timing.longest_delay_s, self._timing.first_delay_s * 2.0 ** min(self._failures - 1, 16))
            await asyncio.sleep(delay * self._random.uniform(0.75, 1.25))

    # ---- list

    async def _list(self) -> None:
        fresh: dict[Key, State] = {}
        version = ""
        pages = self._client.list_pages(
            self.source.resource,
            self.namespace,
            field_selector=self.source.field_selector,
            label_selector=self.source.label_selector,
        )
        async with aclosing(pages):  # type: ignore[type-var]
            async for page in pages:
                version = page.resource_version
                for raw in page.items:
                    state = self.source.parse(raw)
                    if state is not None:
                        key = _key(raw)
                        known = self.items.get(key)
                        # Who compares by identity must not take a relist for a change of everything.
                        fresh[key] = known if known is not None and known == state else state
                await asyncio.sleep(0)  # parsing a page takes milliseconds: let the loop turn between pages
        before = self.items
        self._hold(fresh)
        first = not self.tried.is_set()
        was_unknown, self.unknown = self.unknown, ""
        self._version = version
        self.last_contact = self._clock()
        self.lists += 1
        self.tried.set()
        self._moved()
        if first or was_unknown or not _same_content(before, fresh):
            self._changed(self.source.name)

    def _hold(self, content: dict[Key, State]) -> None:
        self.items, self._keys, self._values = content, sorted(content), None
        self._states = [content[key] for key in self._keys]

    def _set(self, key: Key, state: State | None) -> None:
        """Puts, replaces or (None) removes one object."""
        at = bisect_left(self._keys, key)
        there = at < len(self._keys) and self._keys[at] == key
        if state is None:
            if not there:
                return
            del self.items[key], self._keys[at], self._states[at]
        else:
            self.items[key] = state
            if there:
                self._states[at] = state
            else:
                self._keys.insert(at, key)
                self._states.insert(at, state)
        self._values = None

    # ---- watch

    async def _watch_until_relist(self) -> None:
        """Watches until something asks for a list; raises Gone, or the error of a watch that failed twice without progress."""
        until = self._clock() + self._timing.resync_s * self._random.uniform(0.9, 1.1)
        watching = asyncio.create_task(self._watch(until))
        asked = asyncio.create_task(self._relist.wait())
        try:
            await asyncio.wait({watching, asked}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            for task in (watching, asked):
                task.cancel()
            await asyncio.gather(watching, asked, return_exceptions=True)

    async def _watch(self, until: float) -> None:
        fruitless = 0
        while (left := until - self._clock()) > 0:
            seen, begun = self.last_contact, self._clock()
            try:
                await self._watch_once(max(1, int(left)))
                fruitless = 0
                if self._clock() - begun < self._timing.first_delay_s:
                    # Ended as soon as it began: a proxy or a server that is going down. Asking again at once would be a tight loop.
                    await asyncio.sleep(self._timing.first_delay_s * self._random.uniform(0.75, 1.25))
            except Gone:
                raise
            except ApiError:
                fruitless = 0 if self.last_contact > seen else fruitless + 1
                if fruitless >= 2:
                    raise
                self._failures += 1
                await self._pause()

    async def _watch_once(self, timeout_s: int) -> None:
        events = self._client.watch(
            self.source.resource,
            self.namespace,
            resource_version=self._version,
            field_selector=self.source.field_selector,
            label_selector=self.source.label_selector,
            timeout_s=timeout_s,
            inactivity_s=self._timing.inactivity_s,
        )
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                self.take(event["type"], event["object"])
        self.last_contact = self._clock()  # ended by the server in good order

    def take(self, kind: str, raw: dict[str, Any]) -> None:
        """One event of the watch: ADDED, MODIFIED, DELETED or BOOKMARK."""
        self.last_contact = self._clock()
        self._failures = 0
        self._version = raw["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        key = _key(raw)
        state = None if kind == "DELETED" else self.source.parse(raw)
        before = self.items.get(key)
        if before is not None and before == state:
            state = before  # the same object, so that nobody takes it for a change
        else:
            self._set(key, state)
        self._moved()
        if not _same(before, state):
            self._changed(self.source.name)


def _key(raw: dict[str, Any]) -> Key:
    metadata = raw["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _same(before: Any, after: Any) -> bool:
    """Equal but for the resourceVersion: a heartbeat that changes nothing that we look at wakes nobody."""
    if before is None or after is None:
        return before is after
    if hasattr(after, "resource_version"):
        before = replace(before, resource_version=after.resource_version)
    return bool(before == after)


def _same_content(before: dict[Key, Any], after: dict[Key, Any]) -> bool:
    return before.keys() == after.keys() and all(_same(before[key], after[key]) for key in after)
