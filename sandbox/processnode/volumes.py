"""Volumes of a pod as local directories: emptyDir, configMap, secret, downwardAPI, projected (ServiceAccount tokens included).

Files are replaced by renaming, so that a reader sees the old or the new content. Tokens come from the TokenRequest API, bound to the
pod, and are renewed when a fifth of their life is left. Beside a token lies a kubeconfig that names its file, for clients that know no
other way to find the API server without the fixed paths of a container.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from sandbox.processnode import timestamps
from sandbox.processnode.kube import ApiError, Kube
from sandbox.processnode.rewrite import field_value, resource_value

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
KUBECONFIG_NAME = "kubeconfig"
_RENEW_FRACTION = 0.8  # of a token's life, as the kubelet does
_RESYNC_SECONDS = 60.0  # the kubelet looks at ConfigMaps about once a minute


class VolumeError(Exception):
    """A volume cannot be provided (yet)."""


class Volumes:
    """The volumes of one pod, below one folder."""

    def __init__(self, kube: Kube, pod: dict[str, Any], folder: Path, *, pod_ip: str, host_ip: str, allocatable: Mapping[str, str]) -> None:
        self._kube = kube
        self.pod = pod
        self._folder = folder
        self._ips = {"pod_ip": pod_ip, "host_ip": host_ip}
        self._allocatable = allocatable
        self._token_due: dict[Path, Any] = {}

    def set_pod_ip(self, address: str) -> None:
        """The address is known only after admission."""
        self._ips["pod_ip"] = address

    def directory(self, volume: str) -> Path:
        """Where a volume lives."""
        return self._folder / volume

    def mounts(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Mount path → local path, for one container."""
        result = {}
        for mount in container.get("volumeMounts") or []:
            local = self.directory(mount["name"])
            if mount.get("subPath"):
                local = local / mount["subPath"]
            result[mount["mountPath"]] = str(local)
        return result

    def kubeconfig(self, container: Mapping[str, Any]) -> Path | None:
        """The kubeconfig for a container that has a token mounted."""
        for mount in container.get("volumeMounts") or []:
            if mount["mountPath"] == TOKEN_FOLDER:
                return self.directory(mount["name"]) / KUBECONFIG_NAME
        return None

    async def provide(self) -> None:
        """Write everything once; raises VolumeError when something is missing."""
        for volume in self.pod["spec"].get("volumes") or []:
            await self._provide(volume)

    async def keep_fresh(self) -> None:
        """Renew tokens and follow ConfigMaps and Secrets, until cancelled."""
        while True:
            await asyncio.sleep(_RESYNC_SECONDS)
            try:
                await self.provide()
            except (VolumeError, ApiError, OSError, TimeoutError):
                continue  # what is there stays; the next round tries again

    async def _provide(self, volume: Mapping[str, Any]) -> None:
        target = self.directory(volume["name"])
        target.mkdir(parents=True, exist_ok=True)
        if "emptyDir" in volume:
            return
        names: set[str] = set()
        if "projected" in volume:
            for source in volume["projected"].get("sources") or []:
                names |= await self._source(target, source)
        elif any(kind in volume for kind in ("configMap", "secret", "downwardAPI")):
            source = dict(volume)
            if "secret" in volume:
                source["secret"] = {**volume["secret"], "name": volume["secret"]["secretName"]}
            names |= await self._source(target, source)
        else:
            kinds = ", ".join(sorted(key for key in volume if key != "name"))
            raise VolumeError(
                f'volume "{volume["name"]}" is of kind {kinds}; process nodes know emptyDir, configMap, secret, downwardAPI and projected'
            )
        for path in sorted(target.rglob("*")):  # a key that was removed from a ConfigMap goes away here as well
            if path.is_file() and str(path.relative_to(target)) not in names:
                path.unlink()

    async def _source(self, target: Path, source: Mapping[str, Any]) -> set[str]:
        """Write one source; returns the files it stands for."""
        if source.get("serviceAccountToken"):
            await self._token(target, source["serviceAccountToken"])
            return {source["serviceAccountToken"]["path"], KUBECONFIG_NAME}
        if source.get("configMap"):
            return await self._object(target, "configmaps", source["configMap"])
        if source.get("secret"):
            return await self._object(target, "secrets", source["secret"])
        items = (source.get("downwardAPI") or {}).get("items") or []
        for item in items:
            write_file(target / item["path"], self._downward(item).encode())
        return {item["path"] for item in items}

    def _downward(self, item: Mapping[str, Any]) -> str:
        try:
            if item.get("fieldRef"):
                return field_value(self.pod, item["fieldRef"]["fieldPath"], **self._ips)
            return resource_value(self.pod["spec"]["containers"], "", item["resourceFieldRef"], self._allocatable)
        except ValueError as error:
            raise VolumeError(str(error)) from error

    async def _object(self, target: Path, plural: str, source: Mapping[str, Any]) -> set[str]:
        namespace = self.pod["metadata"]["namespace"]
        try:
            found = await self._kube.get(f"/api/v1/namespaces/{namespace}/{plural}/{source['name']}")
        except ApiError as error:
            if error.status == 404 and source.get("optional"):
                return set()
            if error.status in (403, 404):
                # Node authorization learns of a pod's references a moment after the binding, hence 403 as well.
                raise VolumeError(f'{plural.removesuffix("s")} "{source["name"]}": {error}') from error
            raise
        files = contents(found)
        if source.get("items"):
            missing = [item["key"] for item in source["items"] if item["key"] not in files]
            if missing and not source.get("optional"):
                raise VolumeError(f'{plural.removesuffix("s")} "{source["name"]}" has no key {", ".join(missing)}')
            files = {item["path"]: files[item["key"]] for item in source["items"] if item["key"] in files}
        for name, data in sorted(files.items()):
            write_file(target / name, data)
        return set(files)

    async def _token(self, target: Path, source: Mapping[str, Any]) -> None:
        path = target / source["path"]
        if path in self._token_due and timestamps.now() < self._token_due[path]:
            return
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        account = spec.get("serviceAccountName") or "default"
        lifetime = int(source.get("expirationSeconds") or 3600)
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [source["audience"]] if source.get("audience") else [],
                "expirationSeconds": lifetime,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]},
            },
        }
        url = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        try:
            answer = await self._kube.request("POST", url, request)
        except ApiError as error:
            if error.retryable:
                raise
            raise VolumeError(f'token of service account "{account}": {error}') from error
        write_file(path, answer["status"]["token"].encode())
        self._token_due[path] = timestamps.now() + timedelta(seconds=lifetime * _RENEW_FRACTION)
        write_file(target / KUBECONFIG_NAME, self._kubeconfig(path, metadata["namespace"]))

    def _kubeconfig(self, token: Path, namespace: str) -> bytes:
        config = self._kube.config
        cluster = {"server": config.server, "certificate-authority-data": base64.b64encode(config.ca).decode()}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "pod",
            "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod", "namespace": namespace}}],
            "clusters": [{"name": "pod", "cluster": cluster}],
            "users": [{"name": "pod", "user": {"tokenFile": str(token)}}],
        }
        return json.dumps(document, indent=1).encode()


def contents(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Key → content of a ConfigMap or a Secret."""
    if found.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    plain = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    return plain | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}


def write_file(path: Path, data: bytes) -> None:
    """Replace a file by renaming; an unchanged one is left alone."""
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)
