"""Scripted faults of one node: a YAML file that is read again whenever it changes.

    pods:
    - match: {name: "smol-*", namespace: default, labels: {app: x}, container: engine}   # every key optional, name may hold * and ?
      startDelaySeconds: 5       # the container stays in ContainerCreating for so long
      crashAfterSeconds: 20      # each run is killed after so long
      neverReady: true           # readiness is reported as false whatever the probe says
      imageError: true           # the image cannot be pulled
    devices: {lost: [Ascend910-3]}   # unhealthy in addition to the withdrawn file
    node: {silent: true}             # no Lease, no heartbeat, no status writes: as if the network to the node was cut

A file that cannot be read or does not fit is reported and the last good one stays in force.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(_Strict):
    """Which containers a rule is for."""

    name: str = "*"
    namespace: str = "*"
    labels: dict[str, str] = Field(default_factory=dict)
    container: str = "*"

    def fits(self, pod: Mapping[str, Any], container: str) -> bool:
        """Whether a container of a pod is meant."""
        metadata = pod["metadata"]
        labels = metadata.get("labels") or {}
        return (
            fnmatchcase(metadata["name"], self.name)
            and fnmatchcase(metadata["namespace"], self.namespace)
            and fnmatchcase(container, self.container)
            and all(labels.get(key) == value for key, value in self.labels.items())
        )


class Faults(_Strict):
    """What shall happen to a container."""

    start_delay_seconds: float = Field(default=0.0, ge=0, alias="startDelaySeconds")
    crash_after_seconds: float | None = Field(default=None, ge=0, alias="crashAfterSeconds")
    never_ready: bool = Field(default=False, alias="neverReady")
    image_error: bool = Field(default=False, alias="imageError")


class Rule(Faults):
    """One entry of ``pods``."""

    match: Match = Match()


class LostDevices(_Strict):
    """Devices that are to be unhealthy."""

    lost: frozenset[str] = frozenset()


class NodeFaults(_Strict):
    """What shall happen to the node."""

    silent: bool = False


class Scenario(_Strict):
    """A whole file. The first rule that fits a container counts."""

    pods: tuple[Rule, ...] = ()
    devices: LostDevices = LostDevices()
    node: NodeFaults = NodeFaults()

    def faults(self, pod: Mapping[str, Any], container: str) -> Faults:
        """The faults of one container."""
        return next((rule for rule in self.pods if rule.match.fits(pod, container)), Faults())


def read(path: Path) -> Scenario:
    """Read a scenario; a missing file is an empty one."""
    try:
        return Scenario.model_validate(yaml.safe_load(path.read_text()) or {})
    except FileNotFoundError:
        return Scenario()
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"{path}: {error}") from error
