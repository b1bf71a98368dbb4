"""The snapshot file: everything that a plan needs, as one JSON document.

    kind PolyfleetSnapshot · version · polyfleet (who wrote it) · takenAt · source · objects (names only)
    observed   what was read, without private text (`redact`): what a plan is made from, so that objects can be laid over it
    placement  what the operator's own stages make of it: the placer's snapshot and demand, for a replay without the operator
    warm       prices and covered demand of the plan in force, if it published any

`placement` follows from `observed`: a file in which somebody edited only the former is told so. A bare `PlacementSnapshot` (what
`placement.snapshot.to_json` writes) can be planned too, without objects to lay over it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from placement._codec import decode as decode_placement
from placement.snapshot import from_json, to_json
from placement.types import Demand, PlacementError, Snapshot, Warm
from polyfleet.cli import redact
from polyfleet.cli.codec import FormError, decode, encode, read_json
from polyfleet.cli.failure import Failure
from polyfleet.cli.fleet import prepared
from polyfleet.inputs import Inputs
from polyfleet.state import Observed

KIND, VERSION = "PolyfleetSnapshot", 1
BARE = "PlacementSnapshot"
MOST_MIB = 512
_AGAIN = "take it anew: polyfleet snapshot -o FILE"


@dataclass(frozen=True, slots=True)
class Archive:
    observed: Observed | None  # None: a bare placement snapshot
    placement: tuple[Snapshot, Demand] | None
    warm: Warm | None
    taken_at: str = ""
    source: str = ""
    written_by: str = ""


def write(given: Observed, *, taken_at: str, source: str, written_by: str, warm: Warm | None) -> str:
    """The document. Raises Failure if leaving text out would change the plan: then there is no file rather than a wrong one."""
    original = prepared(given, taken_at)
    emptied = redact.observed(given)
    emptied = redact.relabel(original, prepared(emptied, taken_at), emptied)
    again = prepared(emptied, taken_at)
    if (again.snapshot, again.demand) != (original.snapshot, original.demand):
        raise Failure(
            "this cluster cannot be written to a snapshot",
            f"the plan depends on text that is left out of snapshots ({_difference(original, again)})",
            "polyfleet plan  # the same plan live; and please report this, it is a fault of polyfleet",
        )
    body = {
        "kind": KIND,
        "version": VERSION,
        "polyfleet": written_by,
        "takenAt": taken_at,
        "source": source,
        "objects": _names(emptied),
        "observed": encode(emptied),
        "placement": json.loads(to_json(again.snapshot, again.demand)),
    }
    if warm is not None:
        body["warm"] = {"version": warm.version, "prices": encode(warm.prices), "covered": encode(warm.covered)}
    return json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _names(observed: Observed) -> dict[str, list[str]]:
    found = {
        "modeldeployments": [state.key for state in observed.model_deployments],
        "hardwareprofiles": [state.name for state in observed.profiles],
        "acceleratorpools": [state.name for state in observed.pools],
        "nodes": [node.name for node in observed.nodes],
    }
    return {kind: sorted(names) for kind, names in found.items()}


def _difference(before: Inputs, after: Inputs) -> str:
    for part in ("cells", "nodes", "models", "options", "replicas", "policy"):
        if getattr(before.snapshot, part) != getattr(after.snapshot, part):
            return part
    return "demand"


def read(path: str) -> Archive:
    try:
        file = Path(path)
        if file.stat().st_size > MOST_MIB << 20:
            raise Failure(f"cannot read {path}", f"it has more than {MOST_MIB} MiB", _AGAIN)
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot read {path}", error.strerror or str(error), f"ls -l {path}; or --snapshot demo") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{path} is no snapshot", "it is not UTF-8 text", _AGAIN) from error
    try:
        return _parsed(read_json(text, "snapshot"), text, path)
    except (FormError, PlacementError) as error:
        raise Failure(f"{path} is no usable snapshot", str(error), _AGAIN) from error


def _parsed(body: Any, text: str, path: str) -> Archive:
    if isinstance(body, dict) and body.get("kind") == BARE:
        return Archive(None, from_json(text), None, source=path)
    if not isinstance(body, dict) or body.get("kind") != KIND:
        found = body.get("kind") if isinstance(body, dict) else None
        hint = "; objects go to -f" if isinstance(body, dict) and body.get("apiVersion") else ""
        raise FormError(f"kind: {found!r}, must be {KIND}{hint}")
    if body.get("version") != VERSION:
        raise FormError(
            f"version: {body.get('version')!r}, this polyfleet reads {VERSION}; the file was written by {body.get('polyfleet')!r}"
        )
    if "observed" not in body:
        raise FormError("field 'observed' is missing")
    placement = None
    if isinstance(body.get("placement"), dict):
        try:
            placement = from_json(json.dumps(body["placement"]))
        except PlacementError:
            placement = None  # of another version of the placer: `observed` decides anyway
    warm = decode_placement(Warm, body["warm"], "warm") if body.get("warm") is not None else None
    taken_at = body.get("takenAt")
    return Archive(
        observed=decode(Observed, body["observed"], "observed"),
        placement=placement,
        warm=warm,
        taken_at=taken_at if isinstance(taken_at, str) else "",
        source=str(body.get("source") or ""),
        written_by=str(body.get("polyfleet") or ""),
    )
