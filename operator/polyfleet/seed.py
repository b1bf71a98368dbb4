"""Puts the chart's hardware profiles and its FleetPolicy into the cluster, without touching what somebody edited.

The files are applied by server-side apply *without force*. A field that somebody else owns is a conflict: it is taken out of the
manifest and the rest is applied, so an edit survives every upgrade and only that field stops following the chart. `overwrite` forces
instead.

Which fields are edited is read from what is observed, in every cycle: those of the chart's manifest that have another value in the cluster.
They are listed in the profile's status and told once (`ProfileEdited`); a field that is put back leaves the list. A shipped profile that
somebody deletes comes back as the chart has it (`DriftRepaired`), at once and not only at the next start, so that a restart decides alike:
deleting is the way to drop all edits of a profile, and an empty `match` list (an edit) the way to do without it.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from hwprofiles.shipped_profiles import Loader
from polyfleet.actions import Apply, EventNote, Report
from polyfleet.client import Client, without_nulls
from polyfleet.compare import covers
from polyfleet.errors import ApiError, Conflict, Invalid
from polyfleet.resources import FLEET_POLICIES, HARDWARE_PROFILES
from polyfleet.state import CustomState, Observed

log = logging.getLogger(__name__)

KINDS = {resource.kind: resource for resource in (HARDWARE_PROFILES, FLEET_POLICIES)}
MAX_FIELDS = 256  # of the status
_ITEM = re.compile(r'\[((?:[^"\]]|"(?:[^"\\]|\\.)*")*)\]')  # [name="x",port=8080]: an item of a list by its keys; a text may hold any sign
_KEY = re.compile(r'([^=,"]+)=("(?:[^"\\]|\\.)*"|[^,"]+)')


@dataclass(frozen=True, slots=True)
class Edited:
    """An object of which somebody else owns some fields."""

    kind: str
    name: str
    uid: str
    paths: tuple[str, ...]


@dataclass(slots=True)
class Seeded:
    """What seeding did. `failed`: file or object -> why; `retry`: some of it may pass later."""

    applied: list[str] = field(default_factory=list)
    edited: dict[str, Edited] = field(default_factory=dict)  # by kind/name
    failed: dict[str, str] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)  # the objects as the API server has them now
    retry: bool = False
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)  # what the chart says, by kind/name
    overwrite: bool = False  # the next upgrade takes edits back
    restored: set[str] = field(default_factory=set)  # names of profiles that were deleted and applied again


def read_seeds(folder: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The manifests in the folder, sorted by kind and name, and what could not be read."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    failed: dict[str, str] = {}
    # A mounted ConfigMap holds "..data" links beside the files; only plain names count.
    for path in sorted(folder.glob("[!.]*.y*ml")) if folder.is_dir() else ():
        try:
            for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=Loader):
                if document is None:
                    continue
                resource = KINDS.get(document.get("kind"))
                if resource is None or document.get("apiVersion") != resource.api_version:
                    raise ValueError(f"must be one of {', '.join(sorted(KINDS))} of {HARDWARE_PROFILES.api_version}")
                found[(document["kind"], document["metadata"]["name"])] = document
        except (OSError, ValueError, KeyError, AttributeError, TypeError, yaml.YAMLError) as error:
            failed[path.name] = f"{type(error).__name__}: {error}"
    return [found[key] for key in sorted(found)], failed


async def seed(client: Client, folder: Path, *, overwrite: bool = False) -> Seeded:
    manifests, failed = await asyncio.to_thread(read_seeds, folder)
    result = Seeded(failed=failed, overwrite=overwrite)
    await asyncio.gather(*(_one(client, manifest, overwrite, result) for manifest in manifests))
    result.applied.sort()
    for what, why in sorted(result.failed.items()):
        log.error("a shipped object was not applied", extra={"object": what, "detail": why})
    if manifests:
        counts = {"applied": len(result.applied), "edited": len(result.edited), "failed": len(result.failed)}
        log.info("shipped objects seeded", extra=counts)
    return result


async def _one(client: Client, manifest: dict[str, Any], overwrite: bool, result: Seeded) -> None:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    key = f"{kind}/{name}"
    result.manifests[key] = manifest
    try:
        answer, paths = await _apply(client, manifest, overwrite)
    except ApiError as error:
        result.failed[key] = str(error)[:500]
        result.retry = result.retry or not isinstance(error, Invalid)
        return
    result.applied.append(key)
    result.answers.append(answer)
    if paths:
        result.edited[key] = Edited(kind, name, answer["metadata"]["uid"], paths)


async def _apply(client: Client, manifest: dict[str, Any], overwrite: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    try:
        return await client.apply(manifest, force=overwrite), ()
    except Conflict as conflict:
        paths = conflicting(conflict)
        if not paths:
            raise
        return await client.apply(without(manifest, paths), force=False), tuple(path.removeprefix(".spec.") for path in paths)


def conflicting(error: Conflict) -> list[str]:
    """The paths that a server-side apply without force could not take."""
    causes = error.details.get("causes") or []
    return sorted({cause["field"] for cause in causes if cause.get("reason") == "FieldManagerConflict" and cause.get("field")})


def without(manifest: Mapping[str, Any], paths: list[str]) -> dict[str, Any]:
    """A copy of the manifest that lacks the paths (`.spec.cost.perDeviceHour`, `.spec.match[name="x"].labels`)."""
    result: dict[str, Any] = copy.deepcopy(dict(manifest))
    for path in paths:
        _remove(result, path)
    return result


def _remove(parent: Any, path: str) -> bool:
    """Whether the path led somewhere, and is gone now.

    The API server does not mark where a key ends: `.annotations.huawei.com/schedule_policy` is one key of `annotations` with a dot in it.
    So keys that are there decide, the longest first.
    """
    if isinstance(parent, dict):
        rest = path.removeprefix(".")
        for key in sorted((str(key) for key in parent), key=len, reverse=True):
            if rest == key:
                del parent[key]
                return True
            if rest.startswith((f"{key}.", f"{key}[")) and _remove(parent[key], rest[len(key) :]):
                return True
    elif isinstance(parent, list) and (step := _ITEM.match(path)) is not None and (index := _find(parent, step[1])) is not None:
        if step.end() < len(path):
            return _remove(parent[index], path[step.end() :])
        del parent[index]
        return True
    return False


def _find(items: list[Any], keys: str) -> int | None:
    """The item with these keys, spelled as the API server does: `name="x"`, several with commas."""
    wanted = [(key, json.loads(value) if value.startswith('"') else value) for key, value in _KEY.findall(keys)]
    for index, item in enumerate(items):
        if isinstance(item, dict) and wanted and all(_spelled(item.get(key)) == value for key, value in wanted):
            return index
    return None


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- in every cycle: what of it still stands


def restore(seeded: Seeded, observed: Observed) -> tuple[Apply, ...]:
    """Shipped profiles that are gone, as the chart has them. None while the profiles cannot be read."""
    if HARDWARE_PROFILES.plural in observed.unknown:
        return ()
    there = {state.name for state in observed.profiles}
    found = [m for key, m in sorted(seeded.manifests.items()) if key.startswith(f"{HARDWARE_PROFILES.kind}/")]
    gone = [manifest for manifest in found if manifest["metadata"]["name"] not in there]
    seeded.restored.update(manifest["metadata"]["name"] for manifest in gone)
    return tuple(Apply(without_nulls(manifest), "a shipped profile was deleted", force=False) for manifest in gone)


def edited_fields(manifest: Mapping[str, Any], state: CustomState) -> tuple[str, ...]:
    """Paths below `spec` where the object has another value than the chart's, sorted; a list counts as one field."""
    return tuple(sorted(_differing(without_nulls(manifest.get("spec") or {}), state.spec, "")))


def _differing(want: Any, live: Any, path: str) -> Iterator[str]:
    if isinstance(want, Mapping) and isinstance(live, Mapping):
        for key in want:
            yield from _differing(want[key], live.get(key), f"{path}.{key}" if path else str(key))
    elif not covers(live, want):
        yield path


def annotate(report: Report, seeded: Seeded, observed: Observed) -> Report:
    """Adds the edited fields to the profiles' statuses, and one event for each profile that has some or was brought back."""
    edited: dict[str, tuple[str, ...]] = {}
    notes: list[EventNote] = []
    for state in (*observed.profiles, *([observed.policy] if observed.policy is not None else [])):
        manifest = seeded.manifests.get(f"{state.kind}/{state.name}")
        if manifest is None or state.deleting:
            continue
        if paths := edited_fields(manifest, state):
            edited[f"{state.kind}/{state.name}"] = paths
            fate = "taken back at the next start (profiles.overwriteEdited)" if seeded.overwrite else "upgrades keep them"
            text = f"edited by hand, {fate}: {', '.join(paths)}"
            notes.append(EventNote(state.kind, "", state.name, state.uid, "Normal", "ProfileEdited", text[:900]))
        if state.kind == HARDWARE_PROFILES.kind and state.name in seeded.restored:
            text = "the shipped profile was deleted and is back as the chart has it; to do without it, set spec.match to []"
            notes.append(EventNote(state.kind, "", state.name, state.uid, "Normal", "DriftRepaired", text))
    statuses = tuple(
        replace(item, status={**item.status, "editedFields": list(edited[f"{item.kind}/{item.name}"][:MAX_FIELDS])})
        if item.kind == HARDWARE_PROFILES.kind and f"{item.kind}/{item.name}" in edited
        else item
        for item in report.statuses
    )
    return replace(report, statuses=statuses, events=(*report.events, *notes))
