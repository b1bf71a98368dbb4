"""kopf's part: it watches polyfleet's own kinds and marks the cycle dirty. Nothing is decided, read or written here.

Only `on.event` handlers: they are stateless, need no finalizer and write no annotation. kopf drops their exceptions and
knows no DELETED event for what vanished while it was blind, so they do nothing that could matter if it were lost: the
cache watches the same kinds and is what the cycle reads.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

import kopf

from polyfleet.queue import DirtyQueue
from polyfleet.resources import OWN_KINDS


def build(queue: DirtyQueue) -> kopf.OperatorRegistry:
    """A registry of its own for each operator, never kopf's global one."""
    registry = kopf.OperatorRegistry()
    for resource in OWN_KINDS:

        async def changed(plural: str = resource.plural, **_: Any) -> None:
            queue.mark(plural)

        kopf.on.event(resource.group, resource.version, resource.plural, id=f"mark-{resource.plural}", registry=registry)(changed)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # The same order as our own client: KUBECONFIG, else the pod's account.
        return kopf.login_with_kubeconfig(**kwargs) or in_pod(kopf.login_with_service_account(**kwargs), os.environ)

    return registry


def in_pod(connection: kopf.ConnectionInfo | None, environ: Mapping[str, str]) -> kopf.ConnectionInfo | None:
    """The API server by the address in the pod's environment, as every client does: kopf's own choice is a name that needs cluster DNS."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if connection is None or not host:
        return connection
    return dataclasses.replace(connection, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")


def settings() -> kopf.OperatorSettings:
    """kopf without anything that would need a right or leave a trace: no scanning, no Events, no peering."""
    result = kopf.OperatorSettings()
    result.scanning.disabled = True  # no watching of CRDs and namespaces
    result.posting.enabled = False
    result.posting.level = logging.CRITICAL
    result.peering.standalone = True
    result.watching.inactivity_timeout = 90
    result.process.ultimate_exiting_timeout = 20
    return result
