"""A thin layer over `kubernetes.aio`: raw JSON in and out, typed errors, server-side apply, preconditions, a write fence.

The generated methods of the library validate every object with pydantic, which costs three times the parsing and refuses raw
bodies, so everything here goes through `ApiClient.call_api`. That call neither raises on 4xx nor adds credentials by itself;
both are done here, and in this one place every write is fenced (no Lease, no write) and counted.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio import client as kube
from kubernetes.aio import config as kube_config
from yarl import URL

from polyfleet.errors import ApiError, Fenced, Unavailable, from_status
from polyfleet.resources import BY_KIND, Resource

log = logging.getLogger(__name__)

FIELD_MANAGER = "polyfleet"
PAGE = 500  # objects per LIST page: bounds the JSON that is parsed in one go
REQUEST_TIMEOUT_S = 30.0
MUTATING = {"POST", "PUT", "PATCH", "DELETE"}

JSON = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Object]
    resource_version: str


async def load_configuration(environ: Mapping[str, str] = os.environ) -> kube.Configuration:
    """The API server's address and credentials: the file in KUBECONFIG if set, else the pod's ServiceAccount."""
    configuration = kube.Configuration()
    path = environ.get("KUBECONFIG", "")
    if path:
        await kube_config.load_kube_config(config_file=path, client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
        if token_file := find_token_file(Path(path)):
            # The library reads such a file once; the tokens that a kubelet or our node agent writes there live for an hour.
            configuration.refresh_api_key_hook = partial(_read_token, token_file)  # type: ignore[assignment]
    else:
        kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = 128
    return configuration


def find_token_file(kubeconfig: Path) -> Path | None:
    """The `tokenFile` of the current context's user, if it has one."""
    text = yaml.safe_load(kubeconfig.read_text(encoding="utf-8")) or {}
    contexts = {item["name"]: item["context"] for item in text.get("contexts") or ()}
    users = {item["name"]: item.get("user") or {} for item in text.get("users") or ()}
    found = users.get(contexts.get(text.get("current-context"), {}).get("user"), {}).get("tokenFile")
    return kubeconfig.parent / found if found else None


def _read_token(path: Path, configuration: kube.Configuration) -> None:
    configuration.api_key["BearerToken"] = f"Bearer {path.read_text(encoding='utf-8').strip()}"


def without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(part) for part in value]
    return value


class Client:
    """One connection pool to one API server. `fence` raises when this process may not write, and tells for how long it surely may."""

    def __init__(
        self,
        configuration: kube.Configuration,
        *,
        fence: Callable[[], float] | None = None,
        on_write: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self._api = kube.ApiClient(configuration)
        self.configuration = configuration
        self.fence = fence
        self.on_write = on_write
        self._warned: set[str] = set()

    async def close(self) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ---- reading

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return await self._json("GET", resource.path(namespace, name))

    async def list_pages(
        self, resource: Resource, namespace: str = "", *, field_selector: str = "", label_selector: str = ""
    ) -> AsyncIterator[Page]:
        """The collection in pages. No resourceVersion is sent, so the server answers from a current state, never from an old one."""
        params = {"limit": str(PAGE), "fieldSelector": field_selector, "labelSelector": label_selector}
        while True:
            body = await self._json("GET", resource.path(namespace), params)
            metadata = body.get("metadata") or {}
            yield Page(body.get("items") or [], str(metadata.get("resourceVersion") or ""))
            token = metadata.get("continue")
            if not token:
                return
            params["continue"] = token

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        field_selector: str = "",
        label_selector: str = "",
        timeout_s: int = 300,
        inactivity_s: float = 90.0,
    ) -> AsyncIterator[Object]:
        """Events after `resource_version`, bookmarks included. Ends when the server ends it; silence beyond `inactivity_s` raises."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
            "fieldSelector": field_selector,
            "labelSelector": label_selector,
        }
        path = resource.path(namespace)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=inactivity_s)
        async with AsyncExitStack() as stack:
            response = await self._call("GET", path, params, timeout=timeout)
            stack.callback(response.close)
            if response.status != 200:
                raise await self._error(response, f"watch {path}")
            buffer = b""
            try:
                # Lines are cut here and not by `readline`, whose limit a large object would exceed.
                async for chunk in response.content.iter_any():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield self._event(json.loads(line), path)
            except (TimeoutError, aiohttp.ClientError, ValueError) as error:
                raise Unavailable(0, "WatchBroken", f"{type(error).__name__}: {error}", where=f"watch {path}") from error

    @staticmethod
    def _event(event: Object, path: str) -> Object:
        if event.get("type") == "ERROR":
            status = event.get("object") or {}
            raise from_status(int(status.get("code") or 500), status, f"watch {path}")
        return event

    # ---- writing

    async def create(self, resource: Resource, body: Mapping[str, Any], namespace: str = "", *, fenced: bool = True) -> Object:
        return await self._write("POST", "create", resource, resource.path(namespace), {"fieldManager": FIELD_MANAGER}, body, JSON, fenced)

    async def replace(self, resource: Resource, body: Mapping[str, Any], *, fenced: bool = True) -> Object:
        """PUT of a whole object; its resourceVersion makes it an optimistic write."""
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        return await self._write("PUT", "update", resource, path, {"fieldManager": FIELD_MANAGER}, body, JSON, fenced)

    async def apply(
        self, manifest: Mapping[str, Any], *, force: bool = True, subresource: str = "", manager: str = FIELD_MANAGER
    ) -> Object:
        """Server-side apply of a whole object, or of its status when `subresource` says so.

        Nulls are left out first: in an apply they mean "not given", yet a CRD's schema refuses them where it wants a string.
        """
        resource = BY_KIND[manifest["kind"]]
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._write("PATCH", "apply", resource, path, params, without_nulls(manifest), APPLY, True)

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any],
        namespace: str = "",
        *,
        subresource: str = "",
        manager: str = FIELD_MANAGER,
    ) -> Object:
        path = resource.path(namespace, name, subresource)
        return await self._write("PATCH", "patch", resource, path, {"fieldManager": manager}, body, MERGE, True)

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str, resource_version: str | None = None) -> Object:
        """Deletes exactly the object that was observed: another one under the same name is a Conflict."""
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions, "propagationPolicy": "Background"}
        return await self._write("DELETE", "delete", resource, resource.path(namespace, name), {}, body, JSON, True)

    # ---- the one way out

    async def _write(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        params: Mapping[str, str],
        body: Mapping[str, Any],
        content_type: str,
        fenced: bool,
    ) -> Object:
        # A fenced write ends before the right to write does: an answer that comes later could be to a write of a former leader.
        limit = min(REQUEST_TIMEOUT_S, self.fence()) if fenced and self.fence is not None else REQUEST_TIMEOUT_S
        code = "error"
        try:
            answer = await self._json(method, path, params, body, content_type, timeout=aiohttp.ClientTimeout(total=limit))
            code = "200"
            return answer
        except ApiError as error:
            code = str(error.status)
            raise
        finally:
            if self.on_write is not None:
                self.on_write(resource.kind, verb, code)

    async def _json(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> Object:
        where = f"{method} {path}"
        response = await self._call(method, path, params or {}, body, content_type, timeout)
        try:
            if response.status >= 300:
                raise await self._error(response, where)
            self._log_warnings(response, where)
            answer: Object = json.loads(await response.read())
            return answer
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise Unavailable(0, "NoAnswer", f"{type(error).__name__}: {error}", where=where) from error
        finally:
            response.release()

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        query = urlencode({key: value for key, value in params.items() if value})
        url = URL(f"{self.configuration.host}{path}" + (f"?{query}" if query else ""), encoded=True)
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": "polyfleet"}
        # Asked anew for each request: an in-cluster token is replaced on disk about every hour.
        bearer = (await self.configuration.auth_settings()).get("BearerToken")
        if bearer and bearer["value"]:
            headers["Authorization"] = bearer["value"]
        limit = timeout or aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        try:
            answer = await self._api.call_api(method, url, header_params=headers, body=body, _request_timeout=limit)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unavailable(0, "NoConnection", f"{type(error).__name__}: {error}", where=f"{method} {path}") from error
        response: aiohttp.ClientResponse = answer.response
        return response

    @staticmethod
    async def _error(response: aiohttp.ClientResponse, where: str) -> ApiError:
        raw = await response.read()
        try:
            status = json.loads(raw)
        except ValueError:
            status = {}
        if not isinstance(status, dict):
            status = {}
        status.setdefault("message", raw[:200].decode(errors="replace"))
        return from_status(response.status, status, where, response.headers.get("Retry-After"))

    def _log_warnings(self, response: aiohttp.ClientResponse, where: str) -> None:
        """The API server's warnings name fields that it does not know and dropped: told once each, never hidden."""
        for text in response.headers.getall("Warning", []):
            if text not in self._warned and len(self._warned) < 1000:
                self._warned.add(text)
                log.warning("API server warns", extra={"request": where, "warning": text})


__all__ = ["FIELD_MANAGER", "Client", "Fenced", "Object", "Page", "load_configuration"]
