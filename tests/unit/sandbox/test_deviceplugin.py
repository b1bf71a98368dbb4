"""The device plugin against a gRPC server that stands where the kubelet's Registration service stands, over real unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from sandbox.deviceplugin import api_pb2 as pb
from sandbox.deviceplugin.kinds import LabelError, advertisement, preferred, withdrawn_ids
from sandbox.deviceplugin.plugin import run
from sandbox.deviceplugin.proto import generate

PATIENCE_SECONDS = 30.0
"""Only ends a test that would hang; nothing is measured."""


def labels(kind: str, count: str, resource: str = "") -> dict[str, str]:
    """Node labels as `polyfleet-sandbox up` writes them."""
    found = {"sandbox.polyfleet.io/device-kind": kind, "sandbox.polyfleet.io/device-count": count}
    if resource:
        found["sandbox.polyfleet.io/device-resource"] = resource
    return found


class Kubelet:
    """The other side of the protocol: takes registrations and calls plugins on their sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registrations: asyncio.Queue[pb.RegisterRequest] = asyncio.Queue()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        async def register(request: pb.RegisterRequest, context: Any) -> pb.Empty:
            await self.registrations.put(request)
            return pb.Empty()

        self._server = grpc.aio.server()
        handler: grpc.RpcMethodHandler[pb.RegisterRequest, pb.Empty] = grpc.unary_unary_rpc_method_handler(
            register, request_deserializer=pb.RegisterRequest.FromString, response_serializer=lambda m: m.SerializeToString()
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": handler}),))
        self._server.add_insecure_port(f"unix:{self.folder / 'kubelet.sock'}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)

    async def registered(self) -> pb.RegisterRequest:
        return await asyncio.wait_for(self.registrations.get(), PATIENCE_SECONDS)

    def channel(self, request: pb.RegisterRequest) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"unix:{self.folder / request.endpoint}")


async def call(channel: grpc.aio.Channel, method: str, request: Any, answer: Any) -> Any:
    """One unary call to a plugin."""
    stub: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
        f"/v1beta1.DevicePlugin/{method}", request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer.FromString
    )
    return await stub(request, timeout=PATIENCE_SECONDS)


def watch(channel: grpc.aio.Channel) -> AsyncIterator[pb.ListAndWatchResponse]:
    """Opens ListAndWatch."""
    stub: grpc.aio.UnaryStreamMultiCallable[pb.Empty, pb.ListAndWatchResponse] = channel.unary_stream(
        "/v1beta1.DevicePlugin/ListAndWatch",
        request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=pb.ListAndWatchResponse.FromString,
    )
    return aiter(stub(pb.Empty()))


async def unhealthy(stream: AsyncIterator[pb.ListAndWatchResponse]) -> list[str]:
    """The unhealthy devices of the stream's next message."""
    message = await asyncio.wait_for(anext(stream), PATIENCE_SECONDS)
    return [device.ID for device in message.devices if device.health != "Healthy"]


def scenario(tmp_path: Path, kind: str, count: int, body: Callable[[Kubelet, Path], Awaitable[None]]) -> None:
    """Run the plugin beside a kubelet while `body` plays."""

    async def play() -> None:
        plugins, state = tmp_path / "p", tmp_path / "s"
        plugins.mkdir()
        state.mkdir()
        kubelet = Kubelet(plugins)
        await kubelet.start()
        task = asyncio.create_task(run(advertisement("a3-0", labels(kind, str(count))), plugins, state))
        try:
            await body(kubelet, state)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await kubelet.stop()
        assert not [path for path in plugins.iterdir() if path.name.startswith("polyfleet")], "the plugin left its socket"

    asyncio.run(play())


def allocate(*ids: str) -> pb.AllocateRequest:
    return pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])


def test_an_ascend_node_registers_sixteen_dies_and_says_that_it_does_not_prefer(tmp_path: Path) -> None:
    """Registration names the vendor's resource and v1beta1; the list has 16 healthy dies; a preferred allocation is Unimplemented."""

    async def body(kubelet: Kubelet, state: Path) -> None:
        request = await kubelet.registered()
        assert (request.version, request.resource_name) == ("v1beta1", "huawei.com/Ascend910")
        assert not request.options.get_preferred_allocation_available
        async with kubelet.channel(request) as channel:
            message = await asyncio.wait_for(anext(watch(channel)), PATIENCE_SECONDS)
            assert [device.ID for device in message.devices] == [f"Ascend910-{i}" for i in range(16)]
            assert {device.health for device in message.devices} == {"Healthy"}
            options = await call(channel, "GetDevicePluginOptions", pb.Empty(), pb.DevicePluginOptions)
            assert not options.get_preferred_allocation_available
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(channel, "GetPreferredAllocation", pb.PreferredAllocationRequest(), pb.PreferredAllocationResponse)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

    scenario(tmp_path, "ascend", 16, body)


@pytest.mark.parametrize(
    ("kind", "ids", "expected"),
    [
        ("nvidia", ("GPU-a3-0-5", "GPU-a3-0-0"), {"NVIDIA_VISIBLE_DEVICES": "GPU-a3-0-0,GPU-a3-0-5"}),
        ("ascend", ("Ascend910-15", "Ascend910-3"), {"ASCEND_VISIBLE_DEVICES": "3,15"}),
        ("ppu", ("ppu-10", "ppu-9"), {"PPU_VISIBLE_DEVICES": "9,10"}),
    ],
)
def test_containers_get_the_vendors_environment(tmp_path: Path, kind: str, ids: tuple[str, ...], expected: dict[str, str]) -> None:
    """NVIDIA's variable holds ids, Ascend's and the PPU's hold numbers; the order is the devices', not the kubelet's."""

    async def body(kubelet: Kubelet, state: Path) -> None:
        request = await kubelet.registered()
        async with kubelet.channel(request) as channel:
            answer = await call(channel, "Allocate", allocate(*ids), pb.AllocateResponse)
            (container,) = answer.container_responses
            assert dict(container.envs) == {**expected, "POLYFLEET_FAULT_FILE": "/run/polyfleet-sandbox/faults"}
            (mount,) = container.mounts
            assert (mount.container_path, mount.host_path, mount.read_only) == ("/run/polyfleet-sandbox", str(state), True)

    scenario(tmp_path, kind, 16, body)


def test_a_device_of_another_node_is_refused(tmp_path: Path) -> None:
    """Allocate answers InvalidArgument and names the id, so that the pod fails instead of running on nothing."""

    async def body(kubelet: Kubelet, state: Path) -> None:
        request = await kubelet.registered()
        async with kubelet.channel(request) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(channel, "Allocate", allocate("ppu-3", "ppu-16"), pb.AllocateResponse)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "ppu-16" in str(refused.value.details())
            assert "ppu-3" not in str(refused.value.details())

    scenario(tmp_path, "ppu", 16, body)


def test_withdrawing_and_restoring_a_device_reaches_an_open_stream(tmp_path: Path) -> None:
    """A line in the file makes that device Unhealthy; replacing the file by rename and removing it both work."""

    async def body(kubelet: Kubelet, state: Path) -> None:
        request = await kubelet.registered()
        async with kubelet.channel(request) as channel:
            stream = watch(channel)
            assert await unhealthy(stream) == []
            (state / "withdrawn").write_text("ppu-2\n")
            assert await unhealthy(stream) == ["ppu-2"]
            (state / "new").write_text("# two\nppu-2\n\nppu-0\n")
            (state / "new").rename(state / "withdrawn")
            assert await unhealthy(stream) == ["ppu-0", "ppu-2"]
            (state / "withdrawn").unlink()
            assert await unhealthy(stream) == []

    scenario(tmp_path, "ppu", 4, body)


def test_devices_withdrawn_before_the_start_are_unhealthy_from_the_first_message(tmp_path: Path) -> None:
    """The file is state, not an event: a restarted plugin must not give back what was withdrawn."""

    async def body(kubelet: Kubelet, state: Path) -> None:
        (state / "withdrawn").write_text("GPU-a3-0-1\n")
        request = await kubelet.registered()
        async with kubelet.channel(request) as channel:
            stream = watch(channel)
            first = await unhealthy(stream)
            assert (first or await unhealthy(stream)) == ["GPU-a3-0-1"]

    scenario(tmp_path, "nvidia", 2, body)


def test_the_plugin_registers_again_with_a_restarted_kubelet(tmp_path: Path) -> None:
    """A starting kubelet empties its folder and opens a new socket; the plugin then serves and registers again."""

    async def body(kubelet: Kubelet, state: Path) -> None:
        first = await kubelet.registered()
        await kubelet.stop()
        for path in kubelet.folder.iterdir():
            path.unlink()
        await kubelet.start()
        again = await kubelet.registered()
        assert again.endpoint == first.endpoint
        async with kubelet.channel(again) as channel:
            assert await unhealthy(watch(channel)) == []

    scenario(tmp_path, "nvidia", 8, body)


def test_two_containers_and_preferred_devices(tmp_path: Path) -> None:
    """Preferred allocation answers per container, in order."""

    async def body(kubelet: Kubelet, state: Path) -> None:
        request = await kubelet.registered()
        assert request.options.get_preferred_allocation_available
        ask = pb.PreferredAllocationRequest(
            container_requests=[
                pb.ContainerPreferredAllocationRequest(available_deviceIDs=["ppu-7", "ppu-1", "ppu-0"], allocation_size=2),
                pb.ContainerPreferredAllocationRequest(available_deviceIDs=["ppu-9"], allocation_size=1),
            ]
        )
        async with kubelet.channel(request) as channel:
            answer = await call(channel, "GetPreferredAllocation", ask, pb.PreferredAllocationResponse)
        assert [list(c.deviceIDs) for c in answer.container_responses] == [["ppu-0", "ppu-1"], ["ppu-9"]]

    scenario(tmp_path, "ppu", 16, body)


@pytest.mark.parametrize(
    ("available", "must", "size", "expected"),
    [
        ((0, 2, 3, 4, 9), (), 3, (2, 3, 4)),
        ((0, 2, 4, 6), (), 2, (0, 2)),
        ((10, 9, 2), (), 2, (9, 10)),
        ((0, 1, 2, 7), (7,), 2, (0, 7)),
        ((3, 4), (3, 4), 2, (3, 4)),
        ((1,), (), 1, (1,)),
    ],
)
def test_preferred_takes_the_lowest_run_of_neighbours(
    available: tuple[int, ...], must: tuple[int, ...], size: int, expected: tuple[int, ...]
) -> None:
    """Numbers are compared as numbers (9 before 10); without a run the lowest ids are taken; what must be in is in."""
    chosen = preferred([f"ppu-{i}" for i in available], [f"ppu-{i}" for i in must], size)
    assert chosen == [f"ppu-{i}" for i in expected]


@pytest.mark.parametrize(
    ("found", "field", "value", "allowed"),
    [
        ({}, "device-kind", '""', "ascend, nvidia, ppu"),
        (labels("tpu", "4"), "device-kind", '"tpu"', "ascend, nvidia, ppu"),
        (labels("ppu", "0"), "device-count", '"0"', "from 1 to 1024"),
        (labels("ppu", "1.5"), "device-count", '"1.5"', "from 1 to 1024"),
        (labels("ppu", "16", "ppu"), "device-resource", '"ppu"', "with its domain"),
    ],
)
def test_wrong_labels_are_named_with_value_range_and_command(found: dict[str, str], field: str, value: str, allowed: str) -> None:
    """The message carries everything a person needs to repair the label."""
    with pytest.raises(LabelError) as wrong:
        advertisement("ppu-0", found)
    for part in (field, value, allowed, "kubectl label node ppu-0 --overwrite"):
        assert part in str(wrong.value)


def test_the_resource_label_overrides_the_kind() -> None:
    """A 950 node is `huawei.com/npu` with the same conventions; the first underscore is the slash."""
    offer = advertisement("n", labels("ascend", "8", "huawei.com_npu"))
    assert (offer.resource, len(offer.ids)) == ("huawei.com/npu", 8)


def test_withdrawn_file_skips_comments_and_blank_lines() -> None:
    """One id per line, surrounding space ignored."""
    assert withdrawn_ids("# lost\n\n ppu-1 \nppu-2") == {"ppu-1", "ppu-2"}


def test_generated_messages_are_up_to_date() -> None:
    """Regenerating from the .proto gives the files that are checked in."""
    for path, text in generate().items():
        assert path.read_text(encoding="utf-8") == text, path.name
