"""From a container's specification to a local command: environment, variable expansion, and paths.

There is no mount namespace, so a path inside the container is not a path here. Every argument and every environment value that is a
mount path, or lies below one, is rewritten to the local directory of that volume; in arguments also after the ``=`` of ``--flag=/path``.
A program that has a mount path built in does not see this and has to be told by argument or environment. Pure: no I/O.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

WILDCARD = "0.0.0.0"

_REFERENCE = re.compile(r"\$(?:\$|\(([-._a-zA-Z0-9]+)\))")
_INDEXED = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")
_FLAG = re.compile(r"^(--?[A-Za-z0-9][-\w.]*=)(.*)$", re.DOTALL)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' ``$(NAME)``: an unknown name stays as it is, ``$$`` is one dollar sign."""

    def value(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return "$"
        return variables.get(match.group(1), match.group(0))

    return _REFERENCE.sub(value, text)


def rewrite_path(text: str, mounts: Mapping[str, str]) -> str:
    """Replace a leading mount path (the longest that fits) by its local directory."""
    for mount in sorted(mounts, key=lambda path: (-len(path), path)):
        root = mount.rstrip("/") or "/"
        if text.rstrip("/") == root or text.startswith(root + "/"):
            return mounts[mount] + text[len(root) :]
    return text


def rewrite_argument(text: str, mounts: Mapping[str, str]) -> str:
    """Like `rewrite_path`, also behind ``--flag=``."""
    match = _FLAG.match(text)
    if match:
        return match.group(1) + rewrite_path(match.group(2), mounts)
    return rewrite_path(text, mounts)


def bind_host(arguments: Sequence[str], pod_ip: str) -> list[str]:
    """Replace the wildcard address by the pod's own: without a network namespace it would take the port on every pod's address."""
    result: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if value == WILDCARD and equals:
            result.append(f"{flag}={pod_ip}")
        else:
            result.append(pod_ip if argument == WILDCARD else argument)
    return result


def has_flag(arguments: Sequence[str], flag: str) -> bool:
    """Whether a command line sets a flag, in either form."""
    return any(argument == flag or argument.startswith(flag + "=") for argument in arguments)


def field_value(pod: Mapping[str, Any], path: str, *, pod_ip: str, host_ip: str) -> str:
    """The downward API's fieldRef."""
    metadata = pod["metadata"]
    match = _INDEXED.match(path)
    if match:
        return str((metadata.get(match.group(1)) or {}).get(match.group(2), ""))
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
    }
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{_escaped(pairs[key])}"' for key in sorted(pairs))
    if path not in simple:
        raise ValueError(
            f"fieldRef {path!r} is not one of {', '.join(sorted(simple))}, metadata.labels['KEY'], metadata.annotations['KEY']"
        )
    return str(simple[path])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip
_QUANTITY = re.compile(r"^([0-9]*\.?[0-9]+)(m|[EPTGMk]i?|Ki)?$")


def quantity_milli(text: str) -> int:
    """A Kubernetes quantity in thousandths, rounded up."""
    match = _QUANTITY.match(str(text))
    if not match:
        raise ValueError(f"quantity {text!r} is not a number with one of the suffixes m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei")
    whole, _, fraction = match.group(1).partition(".")
    digits, scale = int((whole or "0") + fraction), int("1" + "0" * len(fraction))
    milli = digits if match.group(2) == "m" else digits * 1000 * _UNITS[match.group(2) or ""]
    return -(-milli // scale)


def resource_value(containers: Sequence[Mapping[str, Any]], own: str, reference: Mapping[str, Any], allocatable: Mapping[str, str]) -> str:
    """The downward API's resourceFieldRef; a missing limit is the node's allocatable, as documented."""
    name = reference.get("containerName") or own
    container = next((entry for entry in containers if entry["name"] == name), None)
    if container is None:
        raise ValueError(
            f"resourceFieldRef.containerName is {name!r}; the pod's containers are {', '.join(str(entry['name']) for entry in containers)}"
        )
    kind, _, resource = str(reference["resource"]).partition(".")
    amounts = (container.get("resources") or {}).get(kind) or {}
    text = amounts.get(resource) or (allocatable.get(resource, "0") if kind == "limits" else "0")
    divisor = quantity_milli(str(reference.get("divisor") or "1")) or 1000
    return str(-(-quantity_milli(str(text)) // divisor))
