"""Builds a container's local command and environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.deviceplugin.kinds import FAULT_FILE, FAULT_VARIABLE
from sandbox.proc import MARK
from sandbox.processnode.context import NodeContext, Pod
from sandbox.processnode.images import Image, local_program
from sandbox.processnode.kube import ApiError
from sandbox.processnode.process import Launch
from sandbox.processnode.rewrite import (
    WILDCARD,
    bind_host,
    expand,
    field_value,
    has_flag,
    resource_value,
    rewrite_argument,
    rewrite_path,
)
from sandbox.processnode.volumes import contents

# From the agent's own environment: where programs, caches and the interpreter's packages are.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "PYTHONPATH", "XDG_CACHE_HOME", MARK)
_INHERITED_PREFIX = "POLYFLEET_SANDBOX_"


class ConfigError(Exception):
    """The container's configuration refers to something that is not there (CreateContainerConfigError)."""


async def build(node: NodeContext, pod: Pod, container: Mapping[str, Any], image: Image, folder: Path) -> Launch:
    """The command, environment and working directory of one container; ``folder`` is its writable root."""
    private = folder / "tmp"
    private.mkdir(parents=True, exist_ok=True)
    # The container's /tmp is a folder of its own. Only what the image and the pod say is rewritten, each before its references are
    # expanded: values that are local already (a checkout below /tmp, say) must not be taken for paths of the container.
    paths = {"/tmp": str(private), **pod.volumes.mounts(container)}
    env = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIX)}
    server = urlsplit(node.kube.config.server)
    env |= {
        "HOSTNAME": pod.object["metadata"]["name"],
        "TMPDIR": paths["/tmp"],
        "PYTHONUNBUFFERED": "1",
        "POD_IP": pod.ip,
        "KUBERNETES_SERVICE_HOST": server.hostname or "",
        "KUBERNETES_SERVICE_PORT": str(server.port or 443),
    }
    kubeconfig = pod.volumes.kubeconfig(container)
    if kubeconfig:
        env["KUBECONFIG"] = str(kubeconfig)
    if image.host_variable:
        env[image.host_variable] = pod.ip
    env |= {name: rewrite_path(value, paths) for name, value in image.env.items()}
    if given := pod.devices.get(container["name"], ()):
        env |= {**node.devices.environment(given), FAULT_VARIABLE: str(node.state / FAULT_FILE)}
    await _declared(node, pod, container, env, paths)

    command = container.get("command")
    argv = [expand(rewrite_argument(argument, paths), env) for argument in [*(command or []), *(container.get("args") or [])]]
    argv = bind_host(argv, pod.ip)
    if command:
        argv[0] = local_program(argv[0])
    else:
        argv = [*image.entrypoint, *argv]
    if image.host_flag and not command and not has_flag(argv, image.host_flag):
        argv += [image.host_flag, pod.ip]
    working = container.get("workingDir") or ""
    local = rewrite_path(working, paths)
    return Launch(tuple(argv), env, Path(local) if local != working else folder)


async def _declared(node: NodeContext, pod: Pod, container: Mapping[str, Any], env: dict[str, str], paths: Mapping[str, str]) -> None:
    """Add what envFrom and env say; later entries see earlier ones."""

    def declare(name: str, value: str) -> None:
        env[name] = pod.ip if value == WILDCARD else rewrite_path(value, paths)

    for source in container.get("envFrom") or []:
        kind = "configMapRef" if "configMapRef" in source else "secretRef"
        for key, data in sorted((await _read(node, pod, kind, source[kind])).items()):
            declare(source.get("prefix", "") + key, data.decode())
    for entry in container.get("env") or []:
        origin = entry.get("valueFrom")
        value = await _from(node, pod, container, origin) if origin else entry.get("value", "")
        if value is not None:
            declare(entry["name"], value)
            if not origin:  # values from elsewhere are taken as they are
                env[entry["name"]] = expand(env[entry["name"]], env)


async def _from(node: NodeContext, pod: Pod, container: Mapping[str, Any], origin: Mapping[str, Any]) -> str | None:
    try:
        if "fieldRef" in origin:
            return field_value(pod.object, origin["fieldRef"]["fieldPath"], pod_ip=pod.ip, host_ip=node.host_ip)
        if "resourceFieldRef" in origin:
            containers = pod.object["spec"]["containers"] + (pod.object["spec"].get("initContainers") or [])
            return resource_value(containers, container["name"], origin["resourceFieldRef"], node.allocatable)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in origin:
            reference = origin[kind]
            data = await _read(node, pod, kind, reference)
            if reference["key"] in data:
                return data[reference["key"]].decode()
            if reference.get("optional"):
                return None
            raise ConfigError(f"couldn't find key {reference['key']} in {kind.removesuffix('KeyRef')} {reference['name']}")
    raise ConfigError(f"valueFrom of kind {', '.join(sorted(origin))} is not supported on process nodes")


async def _read(node: NodeContext, pod: Pod, kind: str, reference: Mapping[str, Any]) -> dict[str, bytes]:
    plural = "configmaps" if kind.startswith("configMap") else "secrets"
    try:
        return contents(await node.kube.get(f"/api/v1/namespaces/{pod.object['metadata']['namespace']}/{plural}/{reference['name']}"))
    except ApiError as error:
        if error.status == 404 and reference.get("optional"):
            return {}
        if error.status in (403, 404):
            raise ConfigError(f'{plural.removesuffix("s")} "{reference["name"]}" not found') from error
        raise
