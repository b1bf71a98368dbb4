"""The plugin's side of the v1beta1 protocol, on asyncio gRPC.

The handlers are registered by name instead of through generated service classes, so that the only generated code is the messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc

from sandbox.deviceplugin import api_pb2 as pb
from sandbox.deviceplugin.kinds import FAULT_FILE, FAULT_FOLDER, FAULT_VARIABLE, Advertisement, preferred

log = logging.getLogger(__name__)

API_VERSION = "v1beta1"
KUBELET_SOCKET = "kubelet.sock"


class DeviceService:
    """Answers the kubelet for one resource of one node. `node_folder`: the node's own, which containers with devices see."""

    def __init__(self, offer: Advertisement, node_folder: Path) -> None:
        self.offer = offer
        self._mount = pb.Mount(container_path=FAULT_FOLDER, host_path=str(node_folder), read_only=True)
        self._withdrawn: frozenset[str] = frozenset()
        self._changed = asyncio.Condition()

    def options(self) -> pb.DevicePluginOptions:
        """What the kubelet may ask of this plugin."""
        return pb.DevicePluginOptions(pre_start_required=False, get_preferred_allocation_available=self.offer.kind.prefers)

    async def withdraw(self, ids: frozenset[str]) -> None:
        """Make exactly these devices unhealthy, all others healthy, and tell every open stream."""
        for device in sorted(ids - set(self.offer.ids)):
            log.warning("withdrawn file names %s, which is none of the %d devices of this node", device, len(self.offer.ids))
        async with self._changed:
            if ids != self._withdrawn:
                self._withdrawn = ids
                log.info("withdrawn devices: %s", ", ".join(sorted(ids)) or "none")
                self._changed.notify_all()

    def _devices(self) -> pb.ListAndWatchResponse:
        health = {True: "Unhealthy", False: "Healthy"}
        return pb.ListAndWatchResponse(devices=[pb.Device(ID=d, health=health[d in self._withdrawn]) for d in self.offer.ids])

    async def get_options(self, request: pb.Empty, context: Any) -> pb.DevicePluginOptions:
        """GetDevicePluginOptions."""
        return self.options()

    async def list_and_watch(self, request: pb.Empty, context: Any) -> AsyncIterator[pb.ListAndWatchResponse]:
        """ListAndWatch: the whole list now, and again after every change. Ends when the kubelet or the server closes the stream."""
        while True:
            sent = self._withdrawn
            yield self._devices()
            async with self._changed:
                # The value decides, not the wake-up: a change between the yield and this line is not lost.
                while self._withdrawn == sent:
                    await self._changed.wait()

    async def get_preferred(self, request: pb.PreferredAllocationRequest, context: Any) -> pb.PreferredAllocationResponse:
        """GetPreferredAllocation; a kind without it answers Unimplemented, as the options say."""
        if not self.offer.kind.prefers:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{self.offer.resource}: preferred allocation is not supported")
        return pb.PreferredAllocationResponse(
            container_responses=[
                pb.ContainerPreferredAllocationResponse(
                    deviceIDs=preferred(c.available_deviceIDs, c.must_include_deviceIDs, c.allocation_size)
                )
                for c in request.container_requests
            ]
        )

    async def allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        """Allocate: the environment of each container, and its node's folder. An id of another node or kind is refused, which fails the
        pod's admission."""
        known = set(self.offer.ids)
        for container in request.container_requests:
            unknown = sorted(set(container.devices_ids) - known)
            if unknown:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{self.offer.resource}: unknown devices {', '.join(unknown)}")
        responses = []
        for container in request.container_requests:
            envs = self.offer.environment(container.devices_ids)
            log.info("allocated %s", " ".join(f"{name}={value}" for name, value in sorted(envs.items())))
            envs = {**envs, FAULT_VARIABLE: f"{FAULT_FOLDER}/{FAULT_FILE}"}
            responses.append(pb.ContainerAllocateResponse(envs=envs, mounts=[self._mount]))
        return pb.AllocateResponse(container_responses=responses)

    def server(self, socket: Path) -> grpc.aio.Server:
        """A server for this service on a unix socket, not yet started."""
        server = grpc.aio.server()

        def unary(method: Callable[..., Any], request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=lambda message: message.SerializeToString()
            )

        handlers = {
            "GetDevicePluginOptions": unary(self.get_options, pb.Empty),
            "GetPreferredAllocation": unary(self.get_preferred, pb.PreferredAllocationRequest),
            "Allocate": unary(self.allocate, pb.AllocateRequest),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                self.list_and_watch,
                request_deserializer=pb.Empty.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{API_VERSION}.DevicePlugin", handlers),))
        server.add_insecure_port(f"unix:{socket}")
        return server


async def register(kubelet_socket: Path, endpoint: str, service: DeviceService) -> None:
    """Announce the plugin to the kubelet. Raises grpc.aio.AioRpcError when the kubelet does not answer or refuses."""
    async with grpc.aio.insecure_channel(f"unix:{kubelet_socket}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[pb.RegisterRequest, pb.Empty] = channel.unary_unary(
            f"/{API_VERSION}.Registration/Register",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb.Empty.FromString,
        )
        request = pb.RegisterRequest(
            version=API_VERSION, endpoint=endpoint, resource_name=service.offer.resource, options=service.options()
        )
        await call(request, timeout=10)
