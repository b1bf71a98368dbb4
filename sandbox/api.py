"""A small blocking client of the API server for this room's own waiting: health checks, one GET, one watch.

The sandbox has to speak to servers that are still starting, and inside a network namespace that it is not in itself; that is
all that this module is for. Whatever tests and operator do with objects goes through a real client.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxError
from sandbox.netns import tcp_socket
from sandbox.pki import Pair

PAUSE_SECONDS = 0.05  # between two looks at a server that offers no event for "I am ready"


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, pin: Path | None, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._tls, self._pin, self._seconds = context, pin, timeout

    def connect(self) -> None:
        plain = tcp_socket(self._pin)
        try:
            plain.settimeout(self._seconds)
            plain.connect((self.host, self.port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def tls_context(authority: Path, pair: Pair | None) -> ssl.SSLContext:
    """Trust one authority, and show a certificate when one is given."""
    context = ssl.create_default_context(cafile=str(authority))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


class Api:
    """One HTTPS server with a client certificate; without an authority, a plain HTTP one (health checks on loopback)."""

    def __init__(self, host: str, port: int, authority: Path | None, pair: Pair | None, *, pin: Path | None = None) -> None:
        self.host, self.port, self._pin = host, port, pin
        self._context = None if authority is None else tls_context(authority, pair)

    def get(self, path: str, *, timeout: float = 10.0) -> tuple[int, bytes]:
        """One GET: status and body."""
        connection = _Connection(self.host, self.port, self._context, self._pin, timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get_json(self, path: str) -> dict[str, Any]:
        """One GET of an object; anything but 200 is an error."""
        status, body = self.get(path)
        if status != 200:
            raise SandboxError(f"the API server answered {status} to GET {path}: {body[:300].decode(errors='replace')}")
        found: dict[str, Any] = json.loads(body)
        return found

    def send(self, method: str, path: str, body: object, *, content_type: str = "application/json") -> tuple[int, bytes]:
        """One writing request: status and body."""
        connection = _Connection(self.host, self.port, self._context, self._pin, 30.0)
        try:
            connection.request(method, path, body=json.dumps(body), headers={"Content-Type": content_type})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def wait_ok(self, path: str, *, name: str, seconds: float, alive: Callable[[], None]) -> None:
        """Ask until the server answers 200; `alive` raises when its process has ended, so that nobody waits for the dead."""
        deadline, last = time.monotonic() + seconds, "nothing answered"
        while time.monotonic() < deadline:
            alive()
            try:
                status, body = self.get(path, timeout=5.0)
                if status == 200:
                    return
                last = f"it answered {status}: {body[-200:].decode(errors='replace').strip()}"
            except (OSError, http.client.HTTPException) as error:
                last = str(error) or type(error).__name__
            time.sleep(PAUSE_SECONDS)
        raise SandboxError(f"{name} is not ready after {seconds:.0f} s ({last}). Its log: polyfleet-sandbox logs {name}")

    def watch(self, path: str, *, seconds: float) -> Iterator[dict[str, Any]]:
        """List, then watch: yields objects as they are now and as they change, until the time is over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            listed = self.get_json(path)
            yield from listed["items"]
            query = f"?watch=1&resourceVersion={listed['metadata']['resourceVersion']}&timeoutSeconds={max(1, int(left))}"
            connection = _Connection(self.host, self.port, self._context, self._pin, left + 1)
            try:
                connection.request("GET", path + query)
                response = connection.getresponse()
                while response.status == 200 and (line := response.readline()):
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        yield event["object"]
                    elif event["type"] == "ERROR":  # 410: the version is too old; list again
                        break
            except TimeoutError:
                return
            finally:
                connection.close()
