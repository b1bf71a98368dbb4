"""A thin Kubernetes client: one kubeconfig, JSON in and out, list and watch with replacement on every relist.

The sandbox needs about a dozen calls, most of them on subresources, so plain paths are shorter than a generated client.
"""

import asyncio
import base64
import json
import os
import random
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

Json = dict[str, Any]

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"

# Errors after which the same request may be tried again: the connection broke or timed out.
CONNECTION_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)

_REQUEST_TIMEOUT_SECONDS = 30.0
_WATCH_SECONDS = 300  # the API server ends a watch after this long; client-go asks for 300 to 600
_STALL_SECONDS = _WATCH_SECONDS + 60  # a watch that outlives its own end by this much is dead


class ApiError(Exception):
    """The API server answered with an error status."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status == 429 or self.status >= 500


@dataclass(frozen=True)
class KubeConfig:
    """What a kubeconfig file's current context says."""

    server: str
    ca: bytes
    certificate: bytes | None
    key: bytes | None
    token_file: Path | None
    token: str | None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the current context of a kubeconfig file."""
        document: Json = yaml.safe_load(path.read_text())
        contexts = {entry["name"]: entry["context"] for entry in document.get("contexts") or []}
        current = document.get("current-context")
        if current not in contexts:
            known = ", ".join(sorted(contexts)) or "none"
            raise ValueError(f"{path}: current-context is {current!r}, which is not one of its contexts: {known}")
        context = contexts[current]
        cluster = next(entry["cluster"] for entry in document["clusters"] if entry["name"] == context["cluster"])
        user: Json = next((entry["user"] for entry in document.get("users") or [] if entry["name"] == context["user"]), {})

        def material(source: Json, field: str) -> bytes | None:
            if source.get(f"{field}-data"):
                return base64.b64decode(source[f"{field}-data"])
            return (path.parent / source[field]).read_bytes() if source.get(field) else None

        return cls(
            server=str(cluster["server"]).rstrip("/"),
            ca=material(cluster, "certificate-authority") or b"",
            certificate=material(user, "client-certificate"),
            key=material(user, "client-key"),
            token_file=path.parent / user["tokenFile"] if user.get("tokenFile") else None,
            token=user.get("token"),
        )

    def ssl_context(self) -> ssl.SSLContext:
        """A TLS context that trusts the cluster's CA and presents the client certificate."""
        context = ssl.create_default_context(cadata=self.ca.decode()) if self.ca else ssl.create_default_context()
        if self.certificate and self.key:
            # OpenSSL only loads key pairs from files.
            descriptor, name = tempfile.mkstemp(prefix="polyfleet-client-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self.certificate + b"\n" + self.key)
                context.load_cert_chain(name)
            finally:
                os.unlink(name)
        return context


class Kube:
    """One connection pool to one API server. Create it inside the running event loop."""

    def __init__(self, config: KubeConfig) -> None:
        self.config = config
        connector = aiohttp.TCPConnector(ssl=config.ssl_context() if config.server.startswith("https") else False, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": "polyfleet-sandbox-processnode", "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_SECONDS),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _auth(self) -> dict[str, str]:
        token = self.config.token_file.read_text().strip() if self.config.token_file else self.config.token
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """Send one request; raise ApiError for an error status."""
        headers = self._auth()
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body)
        async with self._session.request(method, self.config.server + path, data=data, params=params, headers=headers) as response:
            text = await response.text()
            if response.status >= 400:
                raise _error(response.status, text)
            result: Json = json.loads(text)
            return result

    async def get(self, path: str) -> Json:
        """Read one object."""
        return await self.request("GET", path)

    async def patch(self, path: str, body: Json, content_type: str = STRATEGIC) -> Json:
        """Patch one object, by default with a strategic merge."""
        return await self.request("PATCH", path, body, content_type=content_type)

    async def watch(self, path: str, version: str, params: dict[str, str]) -> AsyncIterator[tuple[str, Json]]:
        """Yield (type, object) from one watch request until the server ends it."""
        query = {
            **params,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS + random.randrange(30)),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_REQUEST_TIMEOUT_SECONDS, sock_read=_STALL_SECONDS)
        async with self._session.get(self.config.server + path, params=query, headers=self._auth(), timeout=timeout) as response:
            if response.status >= 400:
                raise _error(response.status, await response.text())
            # Objects may be larger than the line buffer of the HTTP library, so lines are cut here.
            rest = b""
            async for chunk in response.content.iter_any():
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if line.strip():
                        event: Json = json.loads(line)
                        yield event["type"], event["object"]


def _error(status: int, text: str) -> ApiError:
    with suppress(ValueError, AttributeError):
        document = json.loads(text)
        return ApiError(int(document.get("code") or status), str(document.get("reason", "")), str(document.get("message", "")))
    return ApiError(status, "", text.strip()[:500])


@dataclass(frozen=True)
class Replaced:
    """The whole content of a collection: everything that is not in it is gone."""

    items: tuple[Json, ...]


@dataclass(frozen=True)
class Changed:
    """One object appeared or changed."""

    object: Json


@dataclass(frozen=True)
class Deleted:
    """One object was seen to go away."""

    object: Json


async def reflect(kube: Kube, path: str, params: dict[str, str] | None = None) -> AsyncIterator[Replaced | Changed | Deleted]:
    """Follow a collection for ever: a Replaced after every list, then single events; errors lead to a new list, never to silence."""
    query = params or {}
    delay = 0.2
    while True:
        try:
            listed = await kube.request("GET", path, params=query)
            version = listed["metadata"]["resourceVersion"]
            yield Replaced(tuple(listed.get("items") or ()))
            delay = 0.2
            while True:
                async for kind, obj in kube.watch(path, version, query):
                    if kind == "ERROR":
                        raise ApiError(int(obj.get("code") or 500), str(obj.get("reason", "")), str(obj.get("message", "")))
                    version = obj["metadata"]["resourceVersion"]
                    if kind == "DELETED":
                        yield Deleted(obj)
                    elif kind != "BOOKMARK":
                        yield Changed(obj)
        except (ApiError, *CONNECTION_ERRORS) as error:
            if isinstance(error, ApiError) and error.status in (401, 403):
                delay = max(delay, 2.0)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)
