"""Writes one pod's status, only when it differs from what the API server has, and deletes the object at the end."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.processnode.context import NodeContext, Pod
from sandbox.processnode.kube import CONNECTION_ERRORS, ApiError

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0


def differs(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether writing ``wanted`` would change ``current``; what only others write does not count."""
    for field, value in wanted.items():
        if field == "conditions":
            known = {condition["type"]: condition for condition in current.get("conditions") or []}
            for condition in value:
                before = known.get(condition["type"], {})
                if any(before.get(key) != entry for key, entry in condition.items()):
                    return True
        elif current.get(field) != value:
            return True
    return False


class Reporter:
    """Keeps the API server's view of one pod up to date."""

    def __init__(self, node: NodeContext, pod: Pod, status: Callable[[], dict[str, Any]]) -> None:
        self.dirty = asyncio.Event()
        self._node, self._pod, self._status = node, pod, status

    @property
    def _path(self) -> str:
        metadata = self._pod.object["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    def observe(self, obj: dict[str, Any]) -> bool:
        """Take a state of the object from a watch or an answer, unless a newer one is known already."""
        if int(obj["metadata"]["resourceVersion"]) < int(self._pod.object["metadata"]["resourceVersion"]):
            return False
        self._pod.object = obj
        self.dirty.set()
        return True

    async def run(self) -> None:
        """Write whenever something may have changed, until cancelled."""
        while True:
            await self.dirty.wait()
            self.dirty.clear()
            await self._node.online.wait()
            if not await self._write():
                await asyncio.sleep(_RETRY_SECONDS)
                self.dirty.set()

    async def _write(self) -> bool:
        wanted = self._status()
        if not differs(self._pod.object.get("status") or {}, wanted):
            return True
        # The uid makes the patch fail on another pod of the same name. Strategic: conditions of others stay.
        if "podIPs" in wanted:  # this list would be merged by address
            wanted = {**wanted, "podIPs": [{"$patch": "replace"}, *wanted["podIPs"]]}
        body = {"metadata": {"uid": self._pod.uid}, "status": wanted}
        try:
            self.observe(await self._node.kube.patch(f"{self._path}/status", body))
        except ApiError as error:
            if error.status in (404, 409):
                return True  # gone, or replaced: the watch will say so
            _LOG.warning("%s: status was not written: %s", self._pod.label, error)
            return False
        except CONNECTION_ERRORS as error:
            _LOG.warning("%s: status was not written: %s", self._pod.label, error)
            return False
        return True

    async def delete(self) -> None:
        """Write the final status and remove the object, this one and no other of its name."""
        await self._node.online.wait()
        while not await self._write():  # noqa: ASYNC110 a refused write gives no event to wait for
            await asyncio.sleep(_RETRY_SECONDS)
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": self._pod.uid}}
        while True:
            try:
                await self._node.kube.request("DELETE", self._path, body)
                return
            except ApiError as error:
                if error.status in (404, 409):
                    return
                _LOG.warning("%s was not deleted: %s", self._pod.label, error)
            except CONNECTION_ERRORS as error:
                _LOG.warning("%s was not deleted: %s", self._pod.label, error)
            await asyncio.sleep(_RETRY_SECONDS)
            await self._node.online.wait()
