"""What was learned of a model, in one ConfigMap that goes with it: read once when the operator begins, written rarely.

It is no API state: losing it costs a while of caution and nothing else, so whatever cannot be read is treated as no knowledge, with one
line in the log. A ConfigMap of that name that is not ours is never written to.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoscaling.types import Costs
from polyfleet import naming
from polyfleet.client import Client
from polyfleet.errors import ApiError, Conflict, NotFound
from polyfleet.resources import CONFIG_MAPS
from polyfleet.scaling.force import Reference
from polyfleet.state import CustomState

log = logging.getLogger(__name__)

KEY = "learned.json"
LIMIT = 32 * 1024  # bytes
VERSION = 1


@dataclass(frozen=True, slots=True)
class Learned:
    """`memory`: of `autoscaling.memory.learned`; `starts`: of `Starts.dump`; `season`: of `autoscaling.season.stored`, as it was read:
    whoever takes it up checks it, so that a bad one costs nothing else."""

    memory: Mapping[str, Any]
    starts: list[Any]
    unit: Reference | None
    season: object = None


def name_of(model: str) -> str:
    return naming.dns_label(model, "learned")


def encode(found: Learned) -> str | None:
    """JSON of at most `LIMIT` bytes; the season goes first, then cold starts, and without room for the memory nothing is kept (None)."""
    unit = found.unit
    body: dict[str, Any] = {"version": VERSION, "memory": dict(found.memory), "starts": found.starts}
    if unit is not None:
        body["unit"] = {"option": unit.option, "prompt": unit.costs.prompt, "output": unit.costs.output, "basis": unit.basis}
    season = {"season": found.season} if found.season is not None else {}
    for parts in ({**body, **season}, body, {**body, "starts": []}):
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        if len(text.encode()) <= LIMIT:
            return text
    return None


def decode(text: str) -> Learned:
    """Raises ValueError with what is wrong."""
    if len(text.encode()) > LIMIT:
        raise ValueError(f"{KEY} has {len(text.encode())} bytes, at most {LIMIT} are allowed")
    body = json.loads(text)
    if not isinstance(body, dict) or body.get("version") != VERSION or not isinstance(body.get("memory"), dict):
        raise ValueError(f"{KEY} is not of version {VERSION}")
    starts = body.get("starts")
    return Learned(body["memory"], starts if isinstance(starts, list) else [], _unit(body.get("unit")), body.get("season"))


def _unit(row: Any) -> Reference | None:
    if row is None:
        return None
    if not isinstance(row, dict):
        raise ValueError(f"{KEY}: unit is no object")
    costs = [row.get("prompt"), row.get("output")]
    if not all(isinstance(cost, int | float) and not isinstance(cost, bool) and 0 < cost < 1e9 for cost in costs):
        raise ValueError(f"{KEY}: unit has costs {costs!r}, must be two numbers above 0")
    basis = row.get("basis")
    if basis not in ("entries", "estimator", "default"):
        raise ValueError(f"{KEY}: unit has basis {basis!r}, allowed: entries, estimator, default")
    return Reference(str(row.get("option")), Costs(float(row["prompt"]), float(row["output"])), basis)


class Store:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, state: CustomState) -> Learned | None:
        """None if nothing was learned yet or it cannot be used. Raises ApiError where it may be there and cannot be read now."""
        try:
            found = await self._client.get(CONFIG_MAPS, name_of(state.name), state.namespace)
        except NotFound:
            return None
        if not _ours(found, state):
            return None
        try:
            return decode(str((found.get("data") or {}).get(KEY, "")))
        except (ValueError, RecursionError) as fault:
            log.warning(
                "what was learned of a model cannot be read; it is learned anew", extra={"model": state.key, "detail": str(fault)[:300]}
            )
            return None

    async def write(self, state: CustomState, found: Learned) -> bool:
        """False: it was not written, for a reason that may pass or because the name is taken; the log says so."""
        text = encode(found)
        if text is None:
            log.warning("what was learned of a model is too large to be kept", extra={"model": state.key})
            return False
        name = name_of(state.name)
        owner = {"apiVersion": naming.API_VERSION, "kind": "ModelDeployment", "name": state.name, "uid": state.uid}
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": state.namespace,
            "labels": {naming.DEPLOYMENT: naming.label_value(state.name)},
            "ownerReferences": [owner],
        }
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: text}}
        try:
            try:
                seen = await self._client.get(CONFIG_MAPS, name, state.namespace)
            except NotFound:
                await self._client.create(CONFIG_MAPS, manifest, state.namespace)
                return True
            if not _ours(seen, state):
                log.warning("a ConfigMap of another owner has our name; nothing is kept", extra={"model": state.key, "configmap": name})
                return False
            guard = {"uid": seen["metadata"]["uid"], "resourceVersion": seen["metadata"]["resourceVersion"]}
            await self._client.merge_patch(CONFIG_MAPS, name, {"metadata": guard, "data": {KEY: text}}, state.namespace)
        except Conflict:
            return False
        except ApiError as error:
            log.warning("what was learned of a model cannot be written", extra={"model": state.key, "detail": str(error)[:300]})
            return False
        return True


def _ours(found: Mapping[str, Any], state: CustomState) -> bool:
    return state.uid in {row.get("uid") for row in found["metadata"].get("ownerReferences") or ()}
