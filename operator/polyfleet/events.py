"""Kubernetes Events for people: one per (object, reason, message), also across restarts of the operator.

The name of an Event is a function of what it says, so that creating it twice is a Conflict and not a second line in
`kubectl describe`. Events are advice: a failed one is logged and never holds up a cycle.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from polyfleet.actions import EventNote
from polyfleet.client import Client
from polyfleet.errors import ApiError, Conflict
from polyfleet.resources import BY_KIND, EVENTS

log = logging.getLogger(__name__)

NOTE_LIMIT = 1024  # bytes, events.k8s.io/v1
REMEMBERED = 10_000
CONCURRENCY = 8


class EventPoster:
    def __init__(self, client: Client, instance: str) -> None:
        self._client, self._instance = client, instance[:128]
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._last: dict[tuple[str, str], str] = {}  # (uid, reason) -> message last told

    async def post(self, notes: Iterable[EventNote]) -> int:
        """Posts what was not told before; returns how many were new."""
        fresh = [note for note in notes if self._is_new(note)]
        return sum(await asyncio.gather(*(self._post(note) for note in fresh)))

    def _is_new(self, note: EventNote) -> bool:
        if self._last.get((note.uid, note.reason)) == note.message:
            return False
        if len(self._last) >= REMEMBERED:
            self._last.pop(next(iter(self._last)))
        self._last[(note.uid, note.reason)] = note.message
        return True

    async def _post(self, note: EventNote) -> bool:
        async with self._slots:
            try:
                await self._create(note)
            except Conflict:
                return False  # an earlier process told it
            except ApiError as error:
                log.warning("cannot post an Event", extra={"reason": note.reason, "detail": str(error)[:300]})
                return False
        return True

    async def _create(self, note: EventNote) -> None:
        resource = BY_KIND[note.kind]
        namespace = note.namespace or "default"  # Events of cluster-wide objects live there
        sign = hashlib.sha256("\0".join((note.uid, note.type, note.reason, note.message)).encode()).hexdigest()[:16]
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": "Event",
            "metadata": {"name": f"{note.name[:200]}.{sign}", "namespace": namespace},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": "polyfleet.io/operator",
            "reportingInstance": self._instance,
            "action": note.reason,
            "reason": note.reason,
            "type": note.type,
            "note": _shorten(note.message),
            "regarding": {
                "apiVersion": resource.api_version, "kind": note.kind, "name": note.name, "uid": note.uid, "namespace": note.namespace,
            },
        }  # fmt: skip
        await self._client.create(EVENTS, body, namespace)


def _shorten(text: str) -> str:
    raw = text.encode()
    return text if len(raw) <= NOTE_LIMIT else raw[: NOTE_LIMIT - 3].decode(errors="ignore") + "..."
