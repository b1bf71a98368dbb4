"""Reads the whole fleet once from the API server, by the operator's own sources and parsers. LIST only: nothing is written.

What cannot be read ends the command: a plan over half a fleet would look like a plan.
"""

from __future__ import annotations

import logging
import time

from polyfleet.cache import Cache
from polyfleet.cli.connect import OFFLINE, Connection
from polyfleet.cli.failure import Failure, listed
from polyfleet.client import Client
from polyfleet.errors import Forbidden, NotFound, Unavailable
from polyfleet.resources import ALL, GROUP, Resource
from polyfleet.state import Observed

_BY_PLURAL: dict[str, Resource] = {resource.plural: resource for resource in ALL}


async def observe(connection: Connection, namespaces: tuple[str, ...] = ()) -> Observed:
    """`namespaces`: only these namespaces' models, as an operator that watches only them sees the cluster; pods always of all."""
    logging.getLogger("polyfleet").addHandler(logging.NullHandler())  # what matters is said as a Failure
    async with Client(connection.configuration) as client:
        cache = Cache(client, time.monotonic, namespaces=namespaces)
        failed = await cache.read_once()
    if failed:
        raise explain(failed, connection)
    return cache.observe()


def explain(failed: dict[str, Exception], connection: Connection) -> Failure:
    """One sentence for many failed lists: the cause that stands before the others."""
    names = sorted(failed)
    context = f" --context {connection.context}" if connection.context else ""
    dead = [error for error in failed.values() if isinstance(error, Unavailable) and error.status == 0]
    if dead:
        return Failure(
            f"the API server {connection.configuration.host} does not answer",
            _short(dead[0].message),
            f"kubectl cluster-info{context}; or {OFFLINE}",
        )
    refused = {name: error for name, error in failed.items() if isinstance(error, Forbidden)}
    if any(error.status == 401 for error in refused.values()):
        return Failure(
            "the API server does not accept these credentials",
            _short(next(error.message for error in refused.values() if error.status == 401) or "401 Unauthorized"),
            f"kubectl auth whoami{context}  # renew the login, then repeat the command",
        )
    if refused:
        name = min(refused)
        return Failure(
            f"these credentials may not list {listed(sorted(refused))}",
            _short(refused[name].message),
            f"kubectl auth can-i list {_full(name)} -A{context}; ask for a ClusterRole with the verb list on them (docs/cli.md, Rights)",
        )
    missing = [name for name in names if isinstance(failed[name], NotFound)]
    if missing:
        return Failure(
            f"the cluster does not know {listed([_full(name) for name in missing])}",
            "polyfleet's CRDs are not installed there (404)",
            f"helm install polyfleet charts/polyfleet -n polyfleet --create-namespace; or {OFFLINE}",
        )
    return Failure(f"cannot list {listed(names)}", _short(str(failed[names[0]])), f"kubectl get {_full(names[0])} -A{context}")


def _full(plural: str) -> str:
    resource = _BY_PLURAL.get(plural)
    return f"{plural}.{resource.group}" if resource is not None and resource.group == GROUP else plural


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
