"""Own writes that the cache has not seen yet: the next cycle waits for them, so it never acts twice on one observation.

The API server returns the resourceVersion of every write. Until the cache holds that version (or a newer one) of the object, or
knows that it is gone, a decision would be made on a view from before our own write: a pod would be pinned twice, a device
promised twice. So the cycle waits; if the wait is too long, the cache itself is in doubt and the kind is listed anew.

resourceVersions are compared as numbers, which Kubernetes documents since 1.35 for versions of one resource.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polyfleet.cache import Cache


@dataclass(frozen=True, slots=True)
class Expected:
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: int
    deleted: bool = False


class Expectations:
    def __init__(self, cache: Cache, *, patience_s: float = 5.0) -> None:
        self._cache, self._patience = cache, patience_s
        self._open: dict[tuple[str, str, str], Expected] = {}

    def wrote(self, kind: str, answer: dict[str, Any]) -> None:
        """Records the object that a write returned."""
        metadata = answer.get("metadata") or {}
        version = str(metadata.get("resourceVersion") or "")
        if not version.isdigit() or not self._cache.holds(kind):
            return
        entry = Expected(kind, metadata.get("namespace") or "", metadata["name"], metadata.get("uid") or "", int(version))
        self._open[(kind, entry.namespace, entry.name)] = entry

    def deleted(self, kind: str, namespace: str, name: str, uid: str) -> None:
        if self._cache.holds(kind):
            self._open[(kind, namespace, name)] = Expected(kind, namespace, name, uid, 0, deleted=True)

    def open(self) -> list[Expected]:
        """What is still unseen, oldest knowledge dropped."""
        for key in [key for key, entry in self._open.items() if self._seen(entry)]:
            del self._open[key]
        return list(self._open.values())

    def _seen(self, entry: Expected) -> bool:
        found = self._cache.find(entry.kind, entry.namespace, entry.name)
        if entry.deleted:
            return found is None or found.uid != entry.uid or bool(getattr(found, "deleting", False))
        if found is None:
            # Not there although everything up to our write was read: somebody deleted it since, before we had seen the write.
            return self._cache.read_up_to(entry.kind, entry.namespace) >= entry.resource_version
        # Another uid is a newer object under the same name: what we wrote is gone.
        return found.uid != entry.uid or int(found.resource_version) >= entry.resource_version

    async def settle(self) -> bool:
        """Waits until every write is seen. False: it took too long, the kinds were listed anew and the record was dropped."""
        if await self._cache.wait_for(lambda: not self.open(), self._patience):
            return True
        # A LIST is authoritative: after it the cache is right whatever became of our writes.
        before = {kind: self._cache.lists(kind) for kind in sorted({entry.kind for entry in self.open()})}
        for kind in before:
            self._cache.relist(kind)
        await self._cache.wait_for(lambda: all(self._cache.lists(kind) > count for kind, count in before.items()), self._patience)
        self._open.clear()
        return False
