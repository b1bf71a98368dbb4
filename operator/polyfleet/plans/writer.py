"""Writes a new PlacementPlan: the object, then its status. Nothing of the plan may be done before the cache shows the object."""

from __future__ import annotations

import logging

from polyfleet.cache import Cache
from polyfleet.client import Client
from polyfleet.errors import Conflict, NotFound
from polyfleet.expectations import Expectations
from polyfleet.plans.judge import New
from polyfleet.resources import PLACEMENT_PLANS

log = logging.getLogger(__name__)


class PlanWriter:
    def __init__(self, client: Client, cache: Cache, expectations: Expectations) -> None:
        self._client, self._cache, self._expectations = client, cache, expectations

    async def write(self, new: New) -> bool:
        """False: somebody else has the name, so the view of the plans is old; it is listed anew. Other failures are raised."""
        kind = PLACEMENT_PLANS.kind
        try:
            answer = await self._client.create(PLACEMENT_PLANS, new.manifest)
        except Conflict:
            self._cache.relist(kind)
            return False
        self._expectations.wrote(kind, answer)
        metadata = {"name": new.name, "uid": answer["metadata"]["uid"]}
        status = {"apiVersion": PLACEMENT_PLANS.api_version, "kind": kind, "metadata": metadata, "status": new.status}
        try:
            answer = await self._client.apply(status, subresource="status")
        except (NotFound, Conflict):
            log.warning("a plan was deleted as soon as it was written", extra={"plan": new.name})
            return False
        self._expectations.wrote(kind, answer)
        return True
