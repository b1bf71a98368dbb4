"""Services on process nodes: a TCP proxy, because EndpointSlices refuse loopback addresses and so no kube-proxy could serve them.

    python -m sandbox.processnode.proxy --kubeconfig F --control SOCKET

Listeners on 127.0.0.1 are opened on request. The control socket speaks one JSON object per line, and so does the answer:
  {"op": "listen", "namespace": "default", "service": "smol", "port": 8000}  → {"address": "127.0.0.1:41234"}
  {"op": "listen", "namespace": "default", "pod": "smol-abc", "port": 8000}  → the same, for one pod, ready or not
  {"op": "close", "address": "127.0.0.1:41234"}                              → {"closed": true}
  anything else, or a name that is not there                                 → {"error": "..."}
The line "control socket PATH" on standard output says that the proxy is ready. In a request the namespace may be left out (it is
`default` then), and the port where there is only one. Asking twice gives the same address. Each new connection of a Service goes to
the next pod, round robin, that fits its selector, is Ready (readiness gates included) and is not being deleted. The pod's address has
to be reachable from here, which holds for process nodes.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandbox.processnode import kube as api
from sandbox.processnode.endpoints import ProxyError, Target, addresses, find_port

_LOG = logging.getLogger(__name__)
_CHUNK = 65536


class Store:
    """One kind of object, followed."""

    def __init__(self, client: api.Kube, path: str) -> None:
        self._client, self._path = client, path
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.synced = asyncio.Event()

    async def follow(self) -> None:
        """Until cancelled."""
        async for event in api.reflect(self._client, self._path):
            if isinstance(event, api.Replaced):
                self.objects = {_key(item): item for item in event.items}
                self.synced.set()
            elif isinstance(event, api.Deleted):
                self.objects.pop(_key(event.object), None)
            else:
                self.objects[_key(event.object)] = event.object


def _key(obj: Mapping[str, Any]) -> tuple[str, str]:
    return (obj["metadata"]["namespace"], obj["metadata"]["name"])


class Proxy:
    """All listeners."""

    def __init__(self, client: api.Kube) -> None:
        self.services = Store(client, "/api/v1/services")
        self.pods = Store(client, "/api/v1/pods")
        self._servers: dict[Target, tuple[asyncio.Server, str]] = {}
        self._turn: dict[Target, int] = {}

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the control socket."""
        with suppress(ConnectionError):
            while line := await reader.readline():
                try:
                    answer = await self.answer(json.loads(line))
                except (ProxyError, ValueError, KeyError, TypeError) as error:
                    answer = {"error": str(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one request."""
        operation = request.get("op")
        if operation == "close":
            return {"closed": self._close(str(request.get("address")))}
        if operation != "listen":
            raise ProxyError(f'op is {operation!r}; allowed: "listen", "close"')
        await self.services.synced.wait()
        await self.pods.synced.wait()
        kind = "pod" if request.get("pod") else "service"
        if not request.get(kind):
            raise ProxyError('"listen" needs a "service" or a "pod"')
        namespace, name = str(request.get("namespace") or "default"), str(request[kind])
        port = request.get("port")
        return {"address": await self.listen(kind, namespace, name, int(port) if port is not None else None)}

    async def listen(self, kind: str, namespace: str, name: str, port: int | None) -> str:
        """The address for a target; the listener is opened on first use."""
        objects = self.pods.objects if kind == "pod" else self.services.objects
        found = objects.get((namespace, name))
        if found is None:
            raise ProxyError(f'there is no {kind} "{name}" in namespace "{namespace}"; see: kubectl get {kind}s -n {namespace}')
        target = Target(kind, namespace, name, find_port(kind, found, port))
        if target not in self._servers:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._serve(target, reader, writer)

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            host, number = server.sockets[0].getsockname()[:2]
            self._servers[target] = (server, f"{host}:{number}")
            _LOG.info("%s %s/%s port %d is at %s:%d", kind, namespace, name, target.port, host, number)
        return self._servers[target][1]

    def _close(self, address: str) -> bool:
        for target, (server, known) in list(self._servers.items()):
            if known == address:
                server.close()
                del self._servers[target]
                return True
        return False

    async def _serve(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client. Without a ready pod it is closed at once, as a refused one would be."""
        choices = addresses(target, self.services.objects, self.pods.objects)
        turn = self._turn.get(target, 0)
        self._turn[target] = turn + 1
        start = turn % len(choices) if choices else 0
        for host, port in choices[start:] + choices[:start]:
            try:
                from_pod, to_pod = await asyncio.open_connection(host, port)
            except OSError:
                continue  # the pod went away a moment ago
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, to_pod))
                    group.create_task(_copy(from_pod, writer))
            finally:
                to_pod.transport.abort()
                writer.transport.abort()
            return
        writer.transport.abort()

    async def close(self) -> None:
        """Close all listeners."""
        for server, _ in self._servers.values():
            server.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy one direction; the end of it is passed on, the other direction may go on."""
    with suppress(ConnectionError):
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
        await target.drain()


async def run(kubeconfig: Path, control: Path) -> None:
    """Serve until cancelled."""
    client = api.Kube(api.KubeConfig.load(kubeconfig))
    proxy = Proxy(client)
    server = await asyncio.start_unix_server(proxy.control, control)
    print(f"control socket {control}", flush=True)  # whoever started this proxy waits for this line
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(proxy.services.follow())
            group.create_task(proxy.pods.follow())
    finally:
        server.close()
        await proxy.close()
        await client.close()


async def _main(kubeconfig: Path, control: Path) -> None:
    task = asyncio.create_task(run(kubeconfig, control))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.processnode.proxy", description="Serve Services of process nodes on 127.0.0.1."
    )
    parser.add_argument("--kubeconfig", type=Path, required=True, help="credentials that may list Services and pods")
    parser.add_argument("--control", type=Path, required=True, help="path of the unix control socket (at most 107 bytes)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.umask(0o077)  # the control socket is for the user alone
    try:
        args.control.unlink(missing_ok=True)
        asyncio.run(_main(args.kubeconfig, args.control))
        args.control.unlink(missing_ok=True)
    except (ValueError, OSError) as error:
        print(f"proxy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
