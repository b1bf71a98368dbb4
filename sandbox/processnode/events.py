"""Events about pods, with the kubelet's reasons. The same event again only raises its count."""

import logging
from typing import Any

from sandbox.processnode import timestamps
from sandbox.processnode.kube import CONNECTION_ERRORS, MERGE, ApiError, Kube

_LOG = logging.getLogger(__name__)
_REMEMBERED = 1000


class EventRecorder:
    """Writes Events for one node."""

    def __init__(self, kube: Kube, node: str) -> None:
        self._kube = kube
        self._node = node
        self._seen: dict[tuple[str, str, str], tuple[str, int]] = {}

    async def record(self, pod: dict[str, Any], kind: str, reason: str, message: str, container: str = "") -> None:
        """Record one event; an event that cannot be written is lost, as the kubelet's are."""
        metadata = pod["metadata"]
        message = message[:1000]  # the API server refuses more than 1024
        key = (metadata["uid"], reason, message)
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        now = timestamps.seconds(timestamps.now())
        name, count = self._seen.get(key, ("", 0))
        try:
            if name:
                await self._kube.patch(f"{path}/{name}", {"count": count + 1, "lastTimestamp": now}, MERGE)
            else:
                created = await self._kube.request("POST", path, self._event(metadata, kind, reason, message, container, now))
                name = created["metadata"]["name"]
        except (ApiError, *CONNECTION_ERRORS) as error:
            self._seen.pop(key, None)
            # A namespace that is being deleted takes no new objects; that is nothing to worry about.
            if not (isinstance(error, ApiError) and error.status in (403, 404)):
                _LOG.warning("event %s for %s/%s was not written: %s", reason, metadata["namespace"], metadata["name"], error)
            return
        self._seen[key] = (name, count + 1)
        while len(self._seen) > _REMEMBERED:
            self._seen.pop(next(iter(self._seen)))

    def _event(self, metadata: dict[str, Any], kind: str, reason: str, message: str, container: str, now: str) -> dict[str, Any]:
        involved = {"apiVersion": "v1", "kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}
        if container:
            involved["fieldPath"] = f"spec.containers{{{container}}}"
        return {
            "apiVersion": "v1", "kind": "Event", "type": kind, "reason": reason, "message": message, "count": 1,
            "metadata": {"generateName": f"{metadata['name'][:200]}.", "namespace": metadata["namespace"]},
            "involvedObject": involved, "source": {"component": "kubelet", "host": self._node},
            "firstTimestamp": now, "lastTimestamp": now,
        }  # fmt: skip
