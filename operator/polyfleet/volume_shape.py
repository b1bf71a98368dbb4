"""The shape of a model that lies in a volume: a reader pod looks into config.json there and answers in its termination message.

The operator reads no volume itself. For weights under pvc:// of which neither the spec nor the catalogue tells the shape it creates one
short-lived pod of its own image, which mounts the claim read-only and ends (`volume_reader`). The finished pod *is* the stored answer:
it holds no device, belongs to the ModelDeployment and goes with it, and a restarted operator finds it again. Deleting it makes the volume
be read anew. Its name is a function of model, claim and path, so other weights have another pod and the old one is removed.

Pure: pods in, answers out; `volume_pod` makes and removes the pods. The answer comes from a pod in the user's namespace, so it is checked
like any other input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from hwprofiles import catalogue
from hwprofiles.config_fields import CONTEXT, EXPERTS, HEAD_DIM, HEADS, LAYERS, WIDTH
from hwprofiles.shape import Shape
from polyfleet import naming
from polyfleet.api import ModelDeploymentSpec
from polyfleet.state import CustomState, Observed, PodState

# The value of the deployment label: our pods are listed by that label, and no model can have this name, so that no Service or
# PodDisruptionBudget of a model selects a reader.
READER = "Volume-reader"
CONTAINER = "reader"
MOST_ANSWER = 3_072  # of the 4096 bytes that Kubernetes keeps of a termination message
_FORMAT = 1  # of the answer; another one is read anew
_MOST_PARAMS_B = 1e6
_LIMITS: Mapping[str, int] = {
    "layers": LAYERS,
    "hidden": WIDTH,
    "heads": HEADS,
    "kv_heads": HEADS,
    "head_dim": 2 * HEAD_DIM,
    "experts": EXPERTS,
    "experts_per_token": EXPERTS,
    "kv_lora": 4 * WIDTH,
    "window": CONTEXT,
    "window_layers": LAYERS,
    "stateless_layers": LAYERS,
    "max_context": CONTEXT,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of the weights under one URI."""

    shape: Shape | None
    precision: str | None
    message: str  # where the shape comes from, or why there is none and what to do


# ---- the answer, as the reader writes it and the operator takes it


def answer(shape: Shape, precision: str | None) -> str:
    known = {field.name: getattr(shape, field.name) for field in fields(shape)}
    body = {"format": _FORMAT, "precision": precision, "shape": {name: value for name, value in known.items() if value not in (None, 0)}}
    return naming.canonical(body)


def refusal(why: str) -> str:
    return naming.canonical({"format": _FORMAT, "error": why[:1_000]})


def understood(text: str) -> Reading | None:
    """The reader's answer, or None for anything that no reader of this version writes."""
    try:
        body = json.loads(text) if len(text) <= MOST_ANSWER + 1_024 else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("format") != _FORMAT:
        return None
    error = body.get("error")
    if isinstance(error, str):
        return Reading(None, None, error[:1_000])
    shape, precision = _shape(body.get("shape")), body.get("precision")
    if shape is None or not (precision is None or (isinstance(precision, str) and precision.isalnum() and len(precision) <= 16)):
        return None
    return Reading(shape, precision, "")


def _shape(given: object) -> Shape | None:
    if not isinstance(given, dict) or not given.keys() <= {*_LIMITS, "params_b", "active_params_b", "expert_params_b"}:
        return None
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if name in _LIMITS and not (isinstance(value, int) and 0 < value <= _LIMITS[name]):
            return None
        if name not in _LIMITS and not 0 < value <= _MOST_PARAMS_B:
            return None
    params, active = given.get("params_b"), given.get("active_params_b")
    if params is None or active is None or active > params or given.get("expert_params_b", 0) > params:
        return None
    return Shape(**given)


# ---- which weights are read, and what is known of them


def wanted(spec: ModelDeploymentSpec) -> tuple[str, ...]:
    """URIs of weights in volumes of which nothing else tells the memory: no shape, no footprint, no size, not in the catalogue. Sorted."""
    asked = spec.runtime.parallelism
    found: set[str] = set()
    for weights, runtime in ((spec.model, None), *((variant.model, variant.runtime) for variant in spec.variants)):
        uri = (weights.uri if weights is not None else None) or spec.model.uri
        own = runtime.parallelism if runtime is not None and runtime.parallelism is not None else asked
        told = own is not None and own.tensor is not None
        for stated in (weights, spec.model):
            told = told or (stated is not None and (stated.shape is not None or stated.footprint is not None))
        if uri.startswith("pvc://") and not told and catalogue.find(uri.partition("://")[2]) is None and _legal(uri):
            found.add(uri)
    return tuple(sorted(found))


def _legal(uri: str) -> bool:
    """A path that stays inside the volume."""
    claim, _, path = uri.partition("://")[2].partition("/")
    return bool(claim) and ".." not in path.split("/") and "\0" not in path


Readers = Mapping[str, Mapping[str, PodState]]  # uid of the ModelDeployment -> name -> pod


def is_reader(pod: PodState) -> bool:
    return pod.labels.get(naming.DEPLOYMENT) == READER


def readers(observed: Observed) -> Readers:
    """One pass over all pods, for a whole cycle."""
    found: dict[str, dict[str, PodState]] = {}
    for pod in observed.pods:
        if is_reader(pod) and not pod.deleting:
            found.setdefault(pod.owner_uid, {})[pod.name] = pod
    return found


def readings(found: Readers, state: CustomState, spec: ModelDeploymentSpec) -> dict[str, Reading]:
    """By URI, for `resolve`: what readers said of the weights in `wanted`; a URI that nobody was asked about is absent."""
    own = found.get(state.uid)
    if own is None:
        return {}
    answers = {uri: own.get(reader_name(state.name, uri)) for uri in wanted(spec)}
    return {uri: _reading(uri, pod) for uri, pod in answers.items() if pod is not None and pod.namespace == state.namespace}


def known(observed: Observed, state: CustomState, uri: str) -> Reading | None:
    """What a reader found under this URI for this model; None if nobody was asked."""
    pod = readers(observed).get(state.uid, {}).get(reader_name(state.name, uri))
    return _reading(uri, pod) if pod is not None and pod.namespace == state.namespace else None


def _reading(uri: str, pod: PodState) -> Reading:
    again = f"kubectl -n {pod.namespace} delete pod {pod.name} reads it anew"
    text = next((item.message for item in pod.containers if item.name == CONTAINER and item.state == "terminated"), "")
    found = understood(text) if pod.phase == "Succeeded" else None
    if found is not None and found.shape is not None:
        return Reading(found.shape, found.precision, f"config.json under {uri}, read by pod {pod.name}")
    if found is not None:
        return Reading(None, None, f"{uri}: {found.message}; then {again}")
    if pod.finished:
        ended = pod.reason or next((item.reason for item in pod.containers if item.reason), "") or pod.phase
        return Reading(None, None, f"pod {pod.name}, which reads config.json under {uri}, ended with {ended} and no answer; {again}")
    return Reading(None, None, f"pod {pod.name} reads config.json under {uri} ({pod.phase or 'Pending'})")


def reader_name(model: str, uri: str) -> str:
    return naming.dns_label(model, "config", salt=[uri, _FORMAT])
