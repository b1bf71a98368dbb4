"""Writes throughput entries into a live HardwareProfile: read, merge, patch under the resourceVersion that was read, again on conflict.

The list is atomic, so the patch carries all of it; the precondition makes sure that nobody's edit between the read and the write is lost.
The write has a field manager of its own: the operator, which applies shipped profiles without force, then sees `spec.throughput` as
somebody's edit, keeps it over an upgrade and lists it in `status.editedFields`. One request writes everything or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwprofiles.model import Throughput
from polyfleet.client import Client
from polyfleet.errors import Conflict
from polyfleet.profiledata.merge import merge_entries
from polyfleet.resources import HARDWARE_PROFILES

MANAGER = "polyfleet-profile"  # field manager of what a person brought in
ATTEMPTS = 8

Change = Callable[[Mapping[str, Any]], tuple[dict[str, Any], list[str]]]


@dataclass(frozen=True, slots=True)
class Written:
    """What is in the cluster now. `changes` empty: all of it was there already and nothing was sent."""

    changes: tuple[str, ...]
    spec: dict[str, Any]
    resource_version: str


async def write_throughput(client: Client, profile: str, entries: Sequence[Throughput], *, manager: str = MANAGER) -> Written:
    """Raises NotFound for a profile that does not exist, Invalid where the API server refuses an entry (its message names it), Conflict
    after eight lost races, Forbidden, Unavailable; SchemaError from the merge. In each of these cases nothing was written."""
    return await write_spec(client, profile, lambda spec: merge_entries(spec, entries), manager=manager)


async def write_spec(client: Client, profile: str, change: Change, *, manager: str = MANAGER) -> Written:
    """Applies a pure change of the spec; only the top-level fields that it changed are sent. Errors as above."""
    lost: Conflict | None = None
    for _ in range(ATTEMPTS):
        live = await client.get(HARDWARE_PROFILES, profile)
        version = str(live["metadata"]["resourceVersion"])
        before: dict[str, Any] = live.get("spec") or {}
        after, changes = change(before)
        sent = {name: value for name, value in sorted(after.items()) if before.get(name) != value}
        if not sent:
            return Written((), after, version)
        try:
            body = {"metadata": {"resourceVersion": version}, "spec": sent}
            answer = await client.merge_patch(HARDWARE_PROFILES, profile, body, manager=manager)
        except Conflict as conflict:  # somebody wrote meanwhile: what they wrote counts, so read it
            lost = conflict
            continue
        return Written(tuple(changes), answer["spec"], str(answer["metadata"]["resourceVersion"]))
    assert lost is not None
    raise lost
