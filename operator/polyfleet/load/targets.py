"""Which pods are asked for their load, and how. Pure.

A pod belongs to a model by the chain of owners, never by labels that anybody may set: `standings` holds exactly those. Asked are replicas
whose containers are up, and those that leave; one that still loads would only refuse the connection.

The engine is the one whose names the HardwareProfile says that it publishes (`engines.<name>.metrics`), else the engine's own name. Port
and path are the engine's defaults, unless the pod has the annotations `polyfleet.io/metrics-port` and `polyfleet.io/metrics-path`
(`spec.podTemplate.metadata.annotations` of the ModelDeployment).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from autoscaling.signals import words_of
from polyfleet import naming
from polyfleet.children import Child, condition_true
from polyfleet.inputs import Inputs, ModelView
from polyfleet.render.engines import PORT
from polyfleet.snapshot import Standing, standings
from polyfleet.state import PodState

# Engine -> port and path. Others: the port that the operator gives them, /metrics. MindIE has a port of its own for it (`metricsPort`, 1027
# in the configuration that it ships); trtllm-serve answers plain /metrics with JSON.
_PLACES: Mapping[str, tuple[int, str]] = {"mindie": (1027, "/metrics"), "trtllm": (PORT, "/prometheus/metrics")}
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/%?-]{0,255}")


@dataclass(frozen=True, slots=True)
class Target:
    """One pod. `model` is the served name. `fault`: why it cannot be asked ("" = it can). `namespace`, `pod` and `created` (seconds since
    1970) say which one it is where somebody else has asked it."""

    uid: str
    url: str
    engine: str
    model: str = ""
    leaving: bool = False
    fault: str = ""
    namespace: str = ""
    pod: str = ""
    created: float = 0.0


def targets(inputs: Inputs, models: Iterable[str]) -> tuple[Target, ...]:
    """Of the named models, by uid."""
    found = [target(view, item) for key in models if (view := inputs.models.get(key)) is not None for item in standings(view) if up(item)]
    return tuple(sorted(found, key=lambda each: each.uid))


def up(item: Standing) -> bool:
    """Whether somebody may answer there."""
    return item.pod.phase == "Running" and (item.leaving or condition_true(item.pod, "ContainersReady"))


def target(view: ModelView, item: Standing) -> Target:
    engine = metrics_of(view, item.child)
    url, fault = address(item.pod, engine)
    option = view.resolution.option(item.child.option)
    served = option.wanted.served_name if option is not None else ""
    pod = item.pod
    return Target(pod.uid, url, engine, served, item.leaving, fault, pod.namespace, pod.name, _created(pod))


def _created(pod: PodState) -> float:
    """0: not known."""
    try:
        return datetime.fromisoformat(pod.created).timestamp()
    except ValueError:
        return 0.0


def metrics_of(view: ModelView, child: Child) -> str:
    """Whose names the engine of a child publishes: as the profile says, else the engine's own name."""
    option = view.resolution.option(child.option)
    entry = (option.wanted.profile.engines or {}).get(child.engine) if option is not None else None
    return (entry.metrics if entry is not None and entry.metrics else "") or child.engine


def address(pod: PodState, engine: str) -> tuple[str, str]:
    """(URL, "") or ("", why there is none)."""
    if not pod.ip:
        return "", "the pod has no address yet"
    words = words_of(engine)
    port, path = _PLACES.get(words.engine if words is not None else "", (PORT, "/metrics"))
    said = pod.annotations.get(naming.METRICS_PORT, str(port)).strip()
    where = pod.annotations.get(naming.METRICS_PATH, path).strip()
    if not said.isascii() or not said.isdecimal() or not 0 < int(said[:6]) < 65536:
        return "", f"annotation {naming.METRICS_PORT} is {said[:40]!r}: must be a port, 1 to 65535; correct it in spec.podTemplate"
    if _PATH.fullmatch(where) is None:
        return "", f"annotation {naming.METRICS_PATH} is {where[:40]!r}: must be a path that begins with /; correct it in spec.podTemplate"
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    return f"http://{host}:{int(said)}{where}", ""
