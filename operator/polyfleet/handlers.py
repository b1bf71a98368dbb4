"""kopf's part: it watches polyfleet's own kinds and marks the cycle dirty. Nothing is decided, read or written here.

Only `on.event` handlers: they are stateless, need no finalizer and write no annotation. kopf drops their exceptions and
knows no DELETED event for what vanished while it was blind, so they do nothing that could matter if it were lost: the
cache watches the same kinds and is what the cycle reads.
"""

from __future__ import annotations

import logging
from typing import Any

import kopf
from kubernetes.aio import client as kube

from polyfleet.queue import DirtyQueue
from polyfleet.resources import OWN_KINDS


def build(queue: DirtyQueue, configuration: kube.Configuration) -> kopf.OperatorRegistry:
    """A registry of its own for each operator, never kopf's global one."""
    registry = kopf.OperatorRegistry()
    for resource in OWN_KINDS:

        async def changed(plural: str = resource.plural, **_: Any) -> None:
            queue.mark(plural)

        kopf.on.event(resource.group, resource.version, resource.plural, id=f"mark-{resource.plural}", registry=registry)(changed)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(configuration)

    return registry


async def connection(configuration: kube.Configuration) -> kopf.ConnectionInfo:
    """Address and credentials of our own client: kopf's ways need cluster DNS in a pod, and know no token files."""
    bearer = (await configuration.get_api_key_with_prefix("BearerToken") or "").partition(" ")[2]
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert or None,
        insecure=not configuration.verify_ssl or None,
        token=bearer or None,
        certificate_path=configuration.cert_file or None,
        private_key_path=configuration.key_file or None,
    )


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
