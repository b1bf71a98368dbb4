"""How long a pod has from its deletion to its kill. Pure.

The operator drains a replica before it is deleted, so this is the backstop: for pods that somebody else deletes or evicts, and for what is
in flight all the same. It must be strictly longer than the pre-stop pause, in which the Service loses the pod, and the drain; a shorter one
that the user's podTemplate asks for is raised, and said so, since it would cut requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from hwprofiles.schema import duration_seconds
from polyfleet.api import ModelDeploymentSpec

# Time for endpoints to lose the pod before the engine is told to stop. Endpoint changes take a second or two on a busy cluster.
PRE_STOP_S = 5
# Between the end of the drain and the kill: an engine needs a moment to close its devices.
MARGIN_S = 10
FIELD = "terminationGracePeriodSeconds"


@dataclass(frozen=True, slots=True)
class Grace:
    """In seconds. `warning`: what is wrong with the period that was asked for; "" = nothing."""

    period: int
    pre_stop: int
    warning: str = ""

    @property
    def drain(self) -> int:
        """What an engine that drains by itself has of it, from SIGTERM on."""
        return self.period - self.pre_stop - MARGIN_S


def of(spec: ModelDeploymentSpec) -> Grace:
    over: Mapping[str, Any] = (spec.pod_template.spec if spec.pod_template is not None else None) or {}
    pause = max([PRE_STOP_S, *(_pause(item) for item in _items(over.get("containers")))])
    drain = ceil(duration_seconds(spec.drain_timeout))
    needed = pause + drain + MARGIN_S
    asked = over.get(FIELD)
    if isinstance(asked, bool) or not isinstance(asked, int):
        return Grace(needed, pause)  # none, or one that the API server refuses
    if asked > pause + drain:
        return Grace(asked, pause)
    return Grace(
        needed,
        pause,
        f"spec.podTemplate.spec.{FIELD} {asked} is not longer than the pre-stop pause ({pause} s) and drainTimeout ({drain} s) together,"
        f" which would cut requests: pods get {needed}; set it to {needed} or more, remove it, or lower spec.drainTimeout",
    )


def _items(found: Any) -> list[Mapping[str, Any]]:
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _pause(container: Mapping[str, Any]) -> int:
    """Of a pre-stop sleep; how long a command takes nobody knows."""
    found: Any = container
    for key in ("lifecycle", "preStop", "sleep", "seconds"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0
