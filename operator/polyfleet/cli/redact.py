"""Takes secrets, environment values and prompt text out of an observed cluster, and keeps every fact that a plan depends on.

Two nets: fields that may hold such text are emptied by their place (environment, annotations, the free part of pod templates,
messages, arguments with telling names); then every text that looks like a credential is blanked wherever it stands. What the placer
sees is unchanged, and `snapshot` proves that each time it writes a file.

Emptied text changes the hash that tells revisions apart (`polyfleet.io/revision`), so `relabel` gives running replicas of the wanted
revision the revision that the emptied spec has. Replicas of an earlier revision keep theirs and stay earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from polyfleet import naming
from polyfleet.inputs import Inputs
from polyfleet.parse import ALLOCATION_ANNOTATIONS
from polyfleet.state import Condition, CustomState, DeploymentState, Observed, OwnedState, PodState

LEFT_OUT = "(left out)"
_SENTENCE = "(the sentence was left out of this snapshot)"  # where the schema asks for 20 characters

_OWN = f"{naming.GROUP}/"
_TELLING = (
    r"(?:api[-_]?key|access[-_]?key|private[-_]?key|key|token|secret|password|passwd|pwd|auth|authorization|bearer|credentials?"
    r"|prompt|template)"
)
_FLAG = re.compile(rf"^(--?(?:[A-Za-z0-9.]+[-_])*{_TELLING}(?:[-_][A-Za-z0-9.]+)*)(=.*)?$", re.IGNORECASE | re.DOTALL)
_ASSIGNED = re.compile(rf"({_TELLING}[\"']?\s*[:=]\s*[\"']?)[^\s\"',}}]+", re.IGNORECASE)
_FIELD = re.compile(r"(password|passwd|token|secret|credentials?|api_?key|private_?key|authorization|prompts?)$", re.IGNORECASE)
_LOOKS = re.compile(
    r"(?<=//)[^/@\s]+(?=@)"  # user:password of a URL
    r"|\b(?:hf|sk|ghp|gho|glpat|xox[abp])[_-][A-Za-z0-9_-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # a JWT
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=[?&])(?:[A-Za-z0-9_-]*(?:token|sig|signature|key|secret|password)[A-Za-z0-9_-]*)=[^&\s]+",
    re.IGNORECASE,
)
# Keys by which lists of a pod template are merged: their texts are names.
_NAMES = ("name", "mountPath", "ip")


def observed(given: Observed) -> Observed:
    """The same cluster without private text; `relabel` has to follow."""
    return replace(
        given,
        model_deployments=tuple(map(custom, given.model_deployments)),
        profiles=tuple(map(custom, given.profiles)),
        pools=tuple(map(custom, given.pools)),
        policy=custom(given.policy) if given.policy is not None else None,
        plans=tuple(map(custom, given.plans)),
        pods=tuple(map(_pod, given.pods)),
        replica_sets=tuple(map(_owned, given.replica_sets)),
        deployments=tuple(map(_deployment, given.deployments)),
        services=tuple(map(_owned, given.services)),
        budgets=tuple(map(_owned, given.budgets)),
    )


def custom(state: CustomState) -> CustomState:
    # A plan's status is numbers and names that a later cycle reads; every other status is derived anew.
    status = _blank(state.status) if state.kind == "PlacementPlan" else {}
    spec = _value(state.spec, ())
    return replace(state, resource_version="", labels=_ours(state.labels), annotations=_ours(state.annotations), spec=spec, status=status)


def spec_of(raw: Mapping[str, Any]) -> Any:
    """The spec of one object, for files that are laid over a snapshot: both sides must have lost the same text."""
    return _value(raw, ())


def relabel(original: Inputs, emptied: Inputs, given: Observed) -> Observed:
    """`given`, the emptied cluster, with its children's revisions as `emptied` renders them where they are what `original` wants."""
    changed: dict[tuple[str, str, str, str], str] = {}
    planned: dict[tuple[str, str, str, str], str] = {}
    for key, view in original.models.items():
        other = emptied.models.get(key)
        for item in view.rendered:
            twin = other.child_for(item.option, item.pool) if other is not None else None
            if twin is not None:
                changed[(view.state.uid, *_place(item.labels), item.revision)] = twin.revision
                planned[(key, item.pool, item.labels.get(naming.VARIANT, ""), item.revision)] = twin.revision
    if not changed:
        return given
    deployments = tuple(_relabelled(item, changed) for item in given.deployments)
    return replace(given, deployments=deployments, plans=tuple(_replanned(item, planned) for item in given.plans))


def _place(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get(naming.PROFILE, ""), labels.get(naming.VARIANT, "")


def _relabelled(item: DeploymentState, changed: Mapping[tuple[str, str, str, str], str]) -> DeploymentState:
    revision = changed.get((item.owner_uid, *_place(item.labels), item.labels.get(naming.REVISION, "")))
    return item if revision is None else replace(item, labels={**item.labels, naming.REVISION: revision})


def _replanned(state: CustomState, planned: Mapping[tuple[str, str, str, str], str]) -> CustomState:
    """A PlacementPlan whose entries name the revisions that the emptied specs have."""
    rows = state.spec.get("assignments")
    if not isinstance(rows, list):
        return state

    def renamed(row: Any) -> Any:
        if not isinstance(row, Mapping):
            return row
        place = (str(row.get("deployment")), str(row.get("pool")), str(row.get("variant")), str(row.get("revision")))
        return {**row, "revision": planned[place]} if place in planned else row

    return replace(state, spec={**state.spec, "assignments": [renamed(row) for row in rows]})


# ---- observed parts


def _ours(values: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in values.items() if key.startswith(_OWN) or key in ALLOCATION_ANNOTATIONS}


def _silent(conditions: Mapping[str, Condition]) -> dict[str, Condition]:
    return {key: replace(item, message="") for key, item in conditions.items()}


def _pod(pod: PodState) -> PodState:
    return replace(
        pod,
        resource_version="",
        labels=_ours(pod.labels),
        annotations=_ours(pod.annotations),
        conditions=_silent(pod.conditions),
        containers=tuple(replace(item, message="") for item in pod.containers),
        ip="",
    )


def _owned(item: OwnedState) -> OwnedState:
    return replace(item, resource_version="", labels=_ours(item.labels), annotations=_ours(item.annotations), spec={})


def _deployment(item: DeploymentState) -> DeploymentState:
    return replace(
        item,
        resource_version="",
        labels=_ours(item.labels),
        annotations=_ours(item.annotations),
        spec={},
        conditions=_silent(item.conditions),
    )


# ---- raw specs


def _value(value: Any, path: tuple[str, ...]) -> Any:
    last = path[-1] if path else ""
    if isinstance(value, Mapping):
        if last == "podTemplate":
            return _template(value)
        if last in ("annotations", "env"):
            return dict.fromkeys(value, LEFT_OUT)
        return {key: _value(part, (*path, str(key))) for key, part in value.items()}
    if isinstance(value, list | tuple):
        if last == "env":
            return [_env(item) for item in value]
        if last in ("args", "command"):
            return arguments([item if isinstance(item, str) else LEFT_OUT for item in value])
        if _FIELD.search(last):
            return [LEFT_OUT if isinstance(item, str) else _value(item, path) for item in value]
        return [_value(item, path) for item in value]
    if isinstance(value, str):
        if last == "acknowledgeRisk":
            return _SENTENCE
        return LEFT_OUT if last == "env" or _FIELD.search(last) else _scrubbed(value)
    return value


def _env(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return LEFT_OUT
    kept = {key: item[key] for key in ("name", "fieldPath", "valueFrom") if key in item}
    return {**kept, **{key: LEFT_OUT for key in item if key not in kept}}


def arguments(items: list[str]) -> list[str]:
    """`--api-key=X`, and `--api-key` followed by X."""
    found: list[str] = []
    expects = False
    for item in items:
        match = _FLAG.match(item)
        if expects and not item.startswith("-"):
            found.append(LEFT_OUT)
            expects = False
        elif match is not None:
            found.append(f"{match[1]}={LEFT_OUT}" if match[2] else item)
            expects = not match[2]
        else:
            found.append(_scrubbed(_ASSIGNED.sub(rf"\g<1>{LEFT_OUT}", item)))
            expects = False
    return found


def _template(value: Any, last: str = "") -> Any:
    """The shape of a pod template: its keys, names and numbers; every other text may be anything."""
    if isinstance(value, Mapping):
        return {key: _template(part, str(key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_template(part, last) for part in value]
    return value if not isinstance(value, str) or last in _NAMES else LEFT_OUT


def _blank(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _blank(part) for key, part in value.items() if key != "message"}
    if isinstance(value, list | tuple):
        return [_blank(part) for part in value]
    return _scrubbed(value) if isinstance(value, str) else value


def _scrubbed(text: str) -> str:
    return _LOOKS.sub(LEFT_OUT, text)
