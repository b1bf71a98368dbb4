"""Sizes of our children that somebody else has set since they were last written, and that this cycle has set back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polyfleet.actions import EventNote
from polyfleet.inputs import Inputs

REASON = "DriftRepaired"
Child = tuple[str, str]  # namespace, name


@dataclass(slots=True)
class Drift:
    """What an earlier process wrote is not known, so its first cycle finds none."""

    _wanted: dict[Child, tuple[str, int]] = field(default_factory=dict)  # -> (uid, replicas) that the API server took of us

    def notes(self, inputs: Inputs, sizes: Mapping[Child, int] | None) -> list[EventNote]:
        """Call it once per cycle. `sizes`: what is wanted and stands in the API server now; None: a write failed, so nobody knows."""
        found: list[EventNote] = []
        wanted: dict[Child, tuple[str, int]] = {}
        for _, view in sorted(inputs.models.items()):
            for child in view.children:
                key, uid = (child.deployment.namespace, child.name), child.deployment.uid
                size, before = sizes.get(key) if sizes is not None else None, self._wanted.get(key)
                if size is None:
                    continue
                wanted[key] = (uid, size)
                was = child.deployment.replicas
                if before is not None and before[0] == uid and before[1] != was != size:
                    text = f"Deployment {child.name}: spec.replicas was set to {was} by somebody else, {before[1]} was wanted"
                    found.append(
                        EventNote(
                            "ModelDeployment",
                            view.state.namespace,
                            view.state.name,
                            view.state.uid,
                            "Normal",
                            REASON,
                            f"{text}: set back to {size}",
                        )
                    )
        self._wanted = wanted
        return found
