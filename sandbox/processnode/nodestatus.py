"""The node's presence in the cluster: registration, Lease and status."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from sandbox.processnode import timestamps
from sandbox.processnode.context import NodeContext
from sandbox.processnode.fleetnode import FleetNode, capacity, node_object, node_status
from sandbox.processnode.kube import CONNECTION_ERRORS, MERGE, ApiError

_LOG = logging.getLogger(__name__)
LEASE_SECONDS = 40  # kubelet: nodeLeaseDurationSeconds
RENEW_SECONDS = 10  # a quarter of it, as the kubelet
REPORT_SECONDS = 300.0  # kubelet: nodeStatusReportFrequency; in between only changes are reported
_RETRY_SECONDS = 1.0


class NodeStatus:
    """Keeps Node and Lease of one node alive."""

    def __init__(self, node: NodeContext, fleet: FleetNode, port: int) -> None:
        self._node, self._fleet, self._port = node, fleet, port
        self._path = f"/api/v1/nodes/{node.name}"
        self._total = capacity(fleet, node.devices.offer)
        self._changed = asyncio.Event()
        self._known: dict[str, dict[str, Any]] = {}
        self._version = ""
        self.recompute()

    def recompute(self) -> None:
        """Healthy devices have changed: allocatable follows, capacity stays."""
        self._node.allocatable.update(self._total)
        if self._node.devices.offer:
            self._node.allocatable[self._node.devices.offer.resource] = str(self._node.devices.allocatable)
        self._changed.set()

    async def register(self) -> None:
        """Create the Node, or take over the one that is there: its labels and taints may have been changed by others and stay."""
        wanted = node_object(self._fleet, self._node.name)
        while True:
            try:
                self._version = (await self._node.kube.get("/version"))["gitVersion"]
                try:
                    found = await self._node.kube.request("POST", "/api/v1/nodes", wanted)
                except ApiError as error:
                    if error.status != 409:
                        raise
                    found = await self._node.kube.patch(self._path, {"metadata": {"labels": wanted["metadata"]["labels"]}})
                self._remember(found)
                await self._report()
                await self._renew("")
                return
            except ApiError as error:
                if not error.retryable and error.status != 401:
                    raise
                _LOG.warning("registration of node %s: %s", self._node.name, error)
            except CONNECTION_ERRORS as error:
                _LOG.warning("registration of node %s: %s", self._node.name, error)
            await asyncio.sleep(_RETRY_SECONDS)

    def _remember(self, found: Mapping[str, Any]) -> None:
        self._known = {condition["type"]: condition for condition in (found.get("status") or {}).get("conditions") or []}

    async def _report(self) -> None:
        self._changed.clear()
        status = node_status(
            self._known, address=self._node.host_ip, port=self._port, version=self._version,
            total=self._total, allocatable=self._node.allocatable, now=timestamps.now(),
        )  # fmt: skip
        self._remember(await self._node.kube.patch(f"{self._path}/status", {"status": status}))

    async def report_loop(self) -> None:
        """Report changes at once and everything from time to time."""
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), REPORT_SECONDS)
            except TimeoutError:
                pass
            await self._node.online.wait()
            try:
                # Others write conditions too (the node controller sets Unknown after a silence), so they are read first.
                self._remember(await self._node.kube.get(self._path))
                await self._report()
            except (ApiError, *CONNECTION_ERRORS) as error:
                _LOG.warning("status of node %s was not written: %s", self._node.name, error)
                self._changed.set()
                await asyncio.sleep(RENEW_SECONDS)

    def came_back(self) -> None:
        """The node speaks again after a silence."""
        self._changed.set()

    async def lease_loop(self) -> None:
        """Renew the Lease."""
        uid = ""
        while True:
            await self._node.online.wait()
            try:
                uid = uid or str((await self._node.kube.get(self._path))["metadata"]["uid"])
                await self._renew(uid)
            except (ApiError, *CONNECTION_ERRORS) as error:
                _LOG.warning("lease of node %s was not renewed: %s", self._node.name, error)
                uid = ""
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await asyncio.sleep(RENEW_SECONDS)

    async def _renew(self, uid: str) -> None:
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {
            "holderIdentity": self._node.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": timestamps.micros(timestamps.now()),
        }  # fmt: skip
        metadata: dict[str, Any] = {"name": self._node.name}
        if uid:
            metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": self._node.name, "uid": uid}]
        try:
            await self._node.kube.patch(f"{path}/{self._node.name}", {"metadata": metadata, "spec": spec}, MERGE)
        except ApiError as error:
            if error.status != 404:
                raise
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._node.kube.request("POST", path, lease)
