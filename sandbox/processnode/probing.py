"""Asks a container: the I/O behind `probes`, one loop per probe, and preStop handlers."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.processnode.kube import CONNECTION_ERRORS
from sandbox.processnode.probes import ContainerProbes, ProbeSpec


class Prober:
    """Runs the probes of one run of a container, and tells when something changed."""

    def __init__(self, container: Mapping[str, Any], pod_ip: str, env: Mapping[str, str], folder: Path) -> None:
        self._container = container
        self._pod_ip = pod_ip
        self._env = dict(env)
        self._folder = folder

    async def run(self, probes: ContainerProbes, changed: Callable[[str, str], None]) -> None:
        """Ask until cancelled. ``changed(kind, failure)`` is called after each answer; failure is empty for a success."""
        async with asyncio.TaskGroup() as group:
            for kind, spec in probes.specs.items():
                group.create_task(self._loop(kind, spec, probes, changed))

    async def _loop(self, kind: str, spec: ProbeSpec, probes: ContainerProbes, changed: Callable[[str, str], None]) -> None:
        await asyncio.sleep(spec.initial_delay_seconds)
        while True:
            if probes.wants(kind):
                failure = await self.ask(spec.handler, spec.timeout_seconds)
                probes.observe(kind, not failure)
                changed(kind, failure)
            # A probe that waits for startup looks often, so that readiness follows it without a whole period in between.
            await asyncio.sleep(spec.period_seconds if probes.wants(kind) else min(spec.period_seconds, 0.1))

    async def ask(self, handler: Mapping[str, Any], timeout_seconds: float) -> str:
        """One answer: empty when well, else what was wrong."""
        try:
            async with asyncio.timeout(timeout_seconds):
                if handler.get("httpGet"):
                    return await self._http(handler["httpGet"])
                if handler.get("tcpSocket"):
                    return await self._tcp(handler["tcpSocket"])
                if handler.get("exec"):
                    return await self._exec(handler["exec"])
        except TimeoutError:
            return f"no answer within {timeout_seconds:g} s"
        except (ValueError, *CONNECTION_ERRORS) as error:
            return str(error) or type(error).__name__
        return "this kind of handler is not supported on process nodes; use httpGet, tcpSocket or exec"

    def _port(self, port: object) -> int:
        if isinstance(port, int):
            return port
        for entry in self._container.get("ports") or []:
            if entry.get("name") == port:
                return int(entry["containerPort"])
        if str(port).isdigit():
            return int(str(port))
        raise ValueError(f"the container has no port named {port!r}")

    async def _http(self, get: Mapping[str, Any]) -> str:
        host, port = get.get("host") or self._pod_ip, self._port(get["port"])
        path = get.get("path") or "/"
        url = f"{str(get.get('scheme') or 'HTTP').lower()}://{host}:{port}{path if path.startswith('/') else '/' + path}"
        headers = {"User-Agent": "kube-probe/process", "Accept": "*/*", "Connection": "close"}
        headers |= {header["name"]: header["value"] for header in get.get("httpHeaders") or []}
        connector = aiohttp.TCPConnector(ssl=False, force_close=True)  # the kubelet does not verify either
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            return "" if 200 <= response.status < 400 else f"HTTP probe failed with statuscode: {response.status}"

    async def _tcp(self, socket: Mapping[str, Any]) -> str:
        _, writer = await asyncio.open_connection(socket.get("host") or self._pod_ip, self._port(socket["port"]))
        writer.close()
        return ""

    async def _exec(self, command: Mapping[str, Any]) -> str:
        child = await asyncio.create_subprocess_exec(
            *command["command"], env=self._env, cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = await child.communicate()
        except asyncio.CancelledError:
            child.kill()
            raise
        return "" if child.returncode == 0 else f"command ended with {child.returncode}: {output.decode(errors='replace')[:200]}"


async def pre_stop(prober: Prober, handler: Mapping[str, Any], remaining_seconds: float) -> str:
    """Run a preStop handler within the grace period; returns what went wrong."""
    if handler.get("sleep"):
        await asyncio.sleep(min(float(handler["sleep"]["seconds"]), remaining_seconds))
        return ""
    return await prober.ask(handler, max(remaining_seconds, 0.1))
