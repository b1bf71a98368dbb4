"""Somebody else who writes the sizes of our children (an HPA on a child, a GitOps tool, a person): told, and not fought.

A HorizontalPodAutoscaler whose target is a child, made by hand or by KEDA, is seen before it writes anything (`named`). For all others: one
edit is drift, and the next cycle repairs it. `MOST` edits within `WINDOW_S` are another controller: from then on the model is held at
the sizes that it finds, `ScalingActive` is False with reason ConflictingScaler, and it goes on `WINDOW_S` after the last edit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from polyfleet.children import Child as Owned
from polyfleet.inputs import Inputs, ModelView
from polyfleet.state import Observed, ScalerState

MOST = 3
WINDOW_S = 600.0
Child = tuple[str, str]  # namespace, name


def named(scalers: Iterable[ScalerState], owned: Iterable[Owned]) -> str:
    """The autoscalers that have a child of the model for their target; "" = none."""
    names = {(child.deployment.namespace, child.name) for child in owned}
    found = sorted(
        f"HorizontalPodAutoscaler {item.name}{f' ({item.made_by})' if item.made_by else ''} scales Deployment {item.target[1]}"
        for item in scalers
        if item.target[0] == "Deployment" and (item.namespace, item.target[1]) in names
    )
    if not found:
        return ""
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return (
        f"{'; '.join(found[:2])}{more}: two writers of one size, so polyfleet keeps what it finds; delete the autoscaler, or set"
        " spec.scaling.mode External and let it scale the ModelDeployment"
    )


@dataclass(slots=True)
class Conflicts:
    _wanted: dict[Child, tuple[str, int]] = field(default_factory=dict)  # -> (uid, replicas) that the API server took of us
    _edits: dict[str, list[float]] = field(default_factory=dict)  # model -> when a size was found that is not ours
    _counted: dict[Child, int] = field(default_factory=dict)  # the foreign size that is counted already

    def of(self, view: ModelView, observed: Observed, now: float) -> str:
        """Why the model's sizes are somebody else's at this moment; "" = they are ours."""
        edits = self._edits.setdefault(view.key, [])
        if named(observed.scalers, view.children):
            edits.clear()  # what it writes is known, and ends with it
            return ""
        last = ""
        for child in view.children:
            key = (child.deployment.namespace, child.deployment.name)
            wanted, found = self._wanted.get(key), child.deployment.replicas
            if wanted is None or wanted[0] != child.deployment.uid or wanted[1] == found:
                self._counted.pop(key, None)
            elif self._counted.get(key) != found:
                self._counted[key] = found
                edits.append(now)
                last = f"Deployment {child.name} was set to {found} replicas, {wanted[1]} are wanted"
        edits[:] = [at for at in edits if now - at < WINDOW_S]
        if len(edits) < MOST:
            return ""
        before = view.force.conflict if view.force is not None else ""
        return before or (
            f"{last or 'the sizes of its Deployments are changed by somebody else'}; {MOST} such edits within {WINDOW_S / 60:.0f} minutes,"
            " so nothing is scaled: take the Deployment out of the other scaler, or set spec.scaling.mode External"
            f" and scale mdep/{view.state.name}"
        )

    def decided(self, observed: Observed, sizes: Mapping[Child, int] | None, scaled: Collection[str], inputs: Inputs) -> None:
        """The sizes that the API server holds of us from now on; None: a write failed, so what is there proves nothing."""
        if sizes is None:
            self._wanted.clear()
            return
        ours = {(c.deployment.namespace, c.name): c.deployment.uid for key in scaled for c in inputs.models[key].children}
        self._wanted = {key: (uid, sizes[key]) for key, uid in ours.items() if key in sizes}
        self._edits = {key: edits for key, edits in self._edits.items() if key in scaled}
