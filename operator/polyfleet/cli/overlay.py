"""Objects of `-f` laid over what was observed: added, or in place of the object of the same name. Nothing is written anywhere.

An object is completed with the schema's defaults first, because that is what the API server would store and the operator would see.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hwprofiles.shipped_profiles import Loader
from polyfleet import rules
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.api.kinds import API_VERSION, BY_NAME
from polyfleet.api.objects import ObjectError, parse_object
from polyfleet.cli import redact
from polyfleet.cli.failure import Failure, nearest
from polyfleet.cli.profile import fields
from polyfleet.state import CustomState, Observed

_FIELDS = {
    "ModelDeployment": "model_deployments",
    "HardwareProfile": "profiles",
    "AcceleratorPool": "pools",
    "FleetPolicy": "policy",
}
_ASIDE = ("PlacementPlan", "AccuracyReport")
_LONGEST = 600  # signs of an explanation
_NAMESPACED = "ModelDeployment"


@dataclass(frozen=True, slots=True)
class Laid:
    """One object that was laid over: `change` is new, changed or same."""

    kind: str
    key: str
    change: str


@dataclass(frozen=True, slots=True)
class Overlay:
    observed: Observed
    laid: tuple[Laid, ...]
    notes: tuple[str, ...]


def lay(observed: Observed, files: list[str], namespace: str, *, emptied: bool) -> Overlay:
    """`emptied`: the observed side is a snapshot without private text, so the files lose theirs too."""
    laid: list[Laid] = []
    notes: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    for path in files:
        for raw in _documents(path):
            kind = str(raw.get("kind"))
            if not _plannable(path, raw, kind):
                metadata = raw.get("metadata")
                name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
                notes.append(f"{path}: {kind} {name} has no part in a plan and was left aside")
                continue
            state = _state(path, raw, kind, namespace, emptied)
            if (kind, state.key) in seen:
                raise Failure(
                    f"{kind} {state.key} is given twice",
                    f"in {seen[(kind, state.key)]} and in {path}",
                    "leave one of the two out",
                )
            seen[(kind, state.key)] = path
            observed, change = _put(observed, state)
            laid.append(Laid(kind, state.key, change))
    return Overlay(observed, tuple(laid), tuple(notes))


def _documents(path: str) -> Iterator[dict[str, Any]]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot read {path}", error.strerror or str(error), f"ls -l {path}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"cannot read {path}", "it is not UTF-8 text", "give a YAML or JSON file") from error
    try:
        documents = list(yaml.load_all(text, Loader=Loader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Failure(
            f"{path} is no YAML",
            " ".join(str(error).split())[:300],
            f"python -m yaml < {path}; or kubectl apply --dry-run=client -f {path}",
        ) from error
    found = False
    for document in documents:
        items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else [document]
        for item in items if isinstance(items, list) else [items]:
            if item is None:
                continue
            if not isinstance(item, dict):
                raise Failure(
                    f"{path} holds no Kubernetes object",
                    f"a document is {type(item).__name__}, must be a mapping",
                    "start from examples/smol.yaml",
                )
            found = True
            yield item
    if not found:
        raise Failure(f"{path} is empty", "it holds no object", "start from examples/smol.yaml")


def _plannable(path: str, raw: dict[str, Any], kind: str) -> bool:
    """Whether the object takes part in a plan. Failure for what was surely meant to and cannot."""
    version = str(raw.get("apiVersion") or "")
    if kind in _FIELDS and version == API_VERSION:
        return True
    if kind in ("PolyfleetSnapshot", "PlacementSnapshot"):
        raise Failure(f"{path} is a snapshot", "-f takes objects", f"polyfleet plan --snapshot {path}")
    ours = version.split("/")[0] == API_VERSION.split("/")[0]
    if (kind in _ASIDE and ours) or (version and raw.get("kind") and not ours):
        return False
    near = nearest(kind, list(_FIELDS), 1)
    raise Failure(
        f"{path}: apiVersion {version or '(missing)'}, kind {raw.get('kind') or '(missing)'} cannot be planned with",
        f"known: {', '.join(_FIELDS)} of {API_VERSION}" + (f"; did you mean {near[0]}?" if near and near[0] != kind else ""),
        "start from examples/smol.yaml",
    )


def _state(path: str, raw: dict[str, Any], kind: str, namespace: str, emptied: bool) -> CustomState:
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        raise Failure(f"{path}: a {kind} has no name", "metadata.name is missing", f"add metadata.name to {path}")
    where = str(metadata.get("namespace") or namespace or "default") if kind == _NAMESPACED else ""
    try:
        parsed: Any = parse_object({key: value for key, value in raw.items() if key != "status"})
    except (ObjectError, TypeError, ValueError) as error:
        raise Failure(
            f"{path}: {kind} {name} is not valid",
            _explained(error, kind) or str(error).removeprefix(f"{kind} {name}: ")[:_LONGEST],
            f"correct {path}; fields: docs/reference",
        ) from error
    spec = parsed.spec
    broken = rules.broken(spec) if isinstance(spec, ModelDeploymentSpec) else []
    if isinstance(spec, FleetPolicySpec) and name != "default":
        broken.append("there is one FleetPolicy and its name is default")
    if broken:
        raise Failure(f"{path}: {kind} {name} is not valid", "; ".join(broken), f"correct {path}")
    whole = spec.dump()
    labels = (
        {str(key): str(value) for key, value in (metadata.get("labels") or {}).items()} if isinstance(metadata.get("labels"), dict) else {}
    )
    state = CustomState(kind, where, name, f"new/{kind}/{where}/{name}", 1, "", labels, {}, whole, {}, False)
    return redact.custom(state) if emptied else state


def _explained(error: Exception, kind: str) -> str:
    """In the words of `polyfleet profile validate`: the value, what is allowed, the name that was meant; "" if it is no schema error."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return ""
    parts = [f"{path}: {text}" for path, text in fields.faults(cause, BY_NAME[kind].model, "")]
    shown = [part for number, part in enumerate(parts) if number == 0 or len("; ".join(parts[: number + 1])) <= _LONGEST]
    return "; ".join(shown) + (f"; and {len(parts) - len(shown)} more" if len(shown) < len(parts) else "")


def _put(observed: Observed, state: CustomState) -> tuple[Observed, str]:
    if state.kind == "FleetPolicy":
        merged, change = _merged(observed.policy, state)
        return replace(observed, policy=merged), change
    field = _FIELDS[state.kind]
    states: tuple[CustomState, ...] = getattr(observed, field)
    merged, change = _merged(next((item for item in states if item.key == state.key), None), state)
    kept = [item for item in states if item.key != state.key]
    changed: dict[str, Any] = {field: tuple(sorted([*kept, merged], key=lambda item: (item.namespace, item.name)))}
    return replace(observed, **changed), change


def _merged(before: CustomState | None, state: CustomState) -> tuple[CustomState, str]:
    """An object that exists keeps its identity, so that what it runs stays its own."""
    if before is None or before.deleting:
        return state, "new"
    same = _completed(before) == state.spec
    return replace(before, spec=state.spec, generation=before.generation + (not same)), "same" if same else "changed"


def _completed(state: CustomState) -> Any:
    """A stored spec with the defaults of this version, so that only real differences count."""
    try:
        parsed: Any = parse_object(
            {"apiVersion": API_VERSION, "kind": state.kind, "metadata": {"name": state.name}, "spec": dict(state.spec)}
        )
    except ObjectError:
        return state.spec
    return parsed.spec.dump()
