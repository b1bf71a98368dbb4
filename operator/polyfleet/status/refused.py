"""What the API server refused to take of one model's children, as conditions say it.

A pod that the schema or a rule refuses (422, 400) is wrong in the user's part of it: `Accepted`. What a quota, Pod Security, a policy
or missing rights forbid (403) is no fault of the spec: `WorkloadsReady`. The server's own words are quoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polyfleet import naming
from polyfleet.actions import Refusal
from polyfleet.inputs import ModelView
from polyfleet.prepare import INVALID_SPEC, POD_TEMPLATE_INVALID
from polyfleet.resolve import Fault
from polyfleet.status.conditions import shorten

_QUOTE = 400
_MALFORMED, _FORBIDDEN, _INTERNAL = (400, 422), (401, 403), 0


@dataclass(frozen=True, slots=True)
class Refused:
    accepted: Fault | None = None
    forbidden: tuple[str, ...] = ()


def of_model(view: ModelView, refusals: Iterable[Refusal]) -> Refused:
    own = [item for item in refusals if _is_of(view, item)]
    malformed = [item for item in own if item.status in (*_MALFORMED, _INTERNAL)]
    forbidden = tuple(_words(item) for item in _ordered(own) if item.status in _FORBIDDEN)
    return Refused(_fault(view, _ordered(malformed)[0]) if malformed else None, forbidden)


def of_pool(name: str, refusals: Iterable[Refusal]) -> str:
    """Why the AcceleratorPool could not be created; "" if nothing was refused."""
    found = [item for item in refusals if item.kind == "AcceleratorPool" and item.name == name]
    return _words(found[0]) if found else ""


def _ordered(found: Sequence[Refusal]) -> list[Refusal]:
    return sorted(found, key=lambda item: (item.kind, item.name, item.status, item.message))


def _is_of(view: ModelView, item: Refusal) -> bool:
    if item.namespace != view.state.namespace:
        return False
    if item.kind == view.state.kind:
        return item.name == view.state.name
    if item.kind in ("Service", "PodDisruptionBudget"):
        return item.name == naming.service_name(view.state.name)
    if item.kind == "Deployment":
        return item.name in {child.name for child in view.rendered} | {child.name for child in view.children}
    return item.kind == "Pod" and any(item.name == pod.name for child in view.children for pod in child.pods)


def _fault(view: ModelView, item: Refusal) -> Fault:
    if item.status == _INTERNAL:
        return Fault(INVALID_SPEC, item.message)
    templated = item.kind == "Deployment" and view.spec is not None and view.spec.pod_template is not None
    if templated:
        return Fault(POD_TEMPLATE_INVALID, f"the API server refuses the pod that spec.podTemplate makes: {_words(item)}")
    return Fault(INVALID_SPEC, f"the API server refuses what the spec makes: {_words(item)}")


def _words(item: Refusal) -> str:
    return f'{item.kind} {item.name}: "{shorten(" ".join(item.message.split()), _QUOTE)}"'
