"""Which pod addresses stand behind a Service or a pod. Pure: objects in, addresses out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Objects = Mapping[tuple[str, str], Mapping[str, Any]]


class ProxyError(Exception):
    """A request that cannot be served."""


@dataclass(frozen=True)
class Target:
    """What a listener stands for; the port is the Service's or the pod's."""

    kind: str
    namespace: str
    name: str
    port: int


def find_port(kind: str, found: Mapping[str, Any], port: int | None) -> int:
    """The port meant by a request. A pod may be asked for any port, a Service only for its own."""
    if kind == "pod":
        known = [int(p["containerPort"]) for container in found["spec"]["containers"] for p in container.get("ports") or []]
        if port is not None:
            return port
    else:
        known = [int(p["port"]) for p in found["spec"].get("ports") or []]
        if port in known:
            return int(port)
    if port is None and len(known) == 1:
        return known[0]
    name = found["metadata"]["name"]
    given = "not given" if port is None else str(port)
    raise ProxyError(f'port of {kind} "{name}" is {given}; allowed: {", ".join(map(str, known)) or "none declared"}')


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod takes traffic: Ready, with an address, not being deleted."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or not status.get("podIP"):
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])


def addresses(target: Target, services: Objects, pods: Objects) -> list[tuple[str, int]]:
    """Address and port of every pod that may take a connection now, in order of name."""
    if target.kind == "pod":
        pod = pods.get((target.namespace, target.name))
        address = ((pod or {}).get("status") or {}).get("podIP")
        return [(address, target.port)] if address else []
    service = services.get((target.namespace, target.name))
    selector = ((service or {}).get("spec") or {}).get("selector")
    if service is None or not selector:
        return []
    entry = next((p for p in service["spec"].get("ports") or [] if p["port"] == target.port), None)
    if entry is None:
        return []
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    result = []
    for (namespace, _), pod in sorted(pods.items()):
        labels = pod["metadata"].get("labels") or {}
        if namespace != target.namespace or any(labels.get(key) != value for key, value in selector.items()):
            continue
        address = (pod.get("status") or {}).get("podIP")
        port = _pod_port(pod, entry.get("targetPort") or entry["port"])
        if address and port is not None and (is_ready(pod) or anyway):
            result.append((address, port))
    return result


def _pod_port(pod: Mapping[str, Any], wanted: int | str) -> int | None:
    if isinstance(wanted, int):
        return wanted
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            if port.get("name") == wanted:
                return int(port["containerPort"])
    return None
