"""The number formats that a ModelDeployment declares for a pair: by them the accuracy gate picks its margins. Pure.

`model.precision` names the weights' format in a word of the profile's dtypes, `model.kvPrecision` the cache's, `model.activationPrecision`
that of the activations where the engine rounds them by itself. A variant's own word is in place of the model's. The margins of a precision
such as `w8a8` cover its activations. What is not declared is judged as the reference's.
"""

from __future__ import annotations

from accuracy.policy import Formats
from polyfleet.inputs import ModelView


def declared(view: ModelView, profile: str, variant: str) -> Formats:
    """For one pair of hardware and variant (`variant` "": whichever is used there). Of a pair that is no longer wanted, the model's own."""
    assert view.spec is not None
    model = view.spec.model
    fitting = next((o.wanted for o in view.resolution.options if o.profile == profile and variant in ("", o.wanted.variant)), None)
    name = fitting.variant if fitting is not None else variant
    own = next((item.model for item in view.spec.variants if item.name == name), None)
    weights = fitting.precision if fitting is not None else (own.precision if own is not None else None) or model.precision
    kv = (own.kv_precision if own is not None else None) or model.kv_precision
    activations = (own.activation_precision if own is not None else None) or model.activation_precision
    return Formats(weights=weights or "", kv=kv or "", activations=activations or "")
