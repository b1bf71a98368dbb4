"""The number formats that a ModelDeployment declares for a pair: by them the accuracy gate picks its margins. Pure.

`model.precision` names the weights' format in a word of the profile's dtypes, `model.kvPrecision` the cache's, `model.activationPrecision`
that of the activations where the engine rounds them. A variant's own word is in place of the model's. A precision such as `w8a8` says
both: its weights' width and, behind the `a`, its activations'. What is not declared is judged as the reference's.
"""

from __future__ import annotations

import re

from accuracy.policy import Formats
from polyfleet.inputs import ModelView

_BOTH = re.compile(r"w\d+a(\d+)", re.IGNORECASE)
_WIDTHS = {"4": "int4", "8": "int8"}


def declared(view: ModelView, profile: str, variant: str) -> Formats:
    """For one pair of hardware and variant (`variant` "": whichever is used there). Of a pair that is no longer wanted, the model's own."""
    assert view.spec is not None
    model = view.spec.model
    fitting = next((o.wanted for o in view.resolution.options if o.profile == profile and variant in ("", o.wanted.variant)), None)
    name = fitting.variant if fitting is not None else variant
    own = next((item.model for item in view.spec.variants if item.name == name), None)
    weights = fitting.precision if fitting is not None else (own.precision if own is not None else None) or model.precision
    kv = (own.kv_precision if own is not None else None) or model.kv_precision
    stated = (own.activation_precision if own is not None else None) or model.activation_precision
    return Formats(weights=weights or "", kv=kv or "", activations=stated or activations(weights or ""))


def activations(precision: str) -> str:
    """What a word for weights says of the activations: `w8a8` int8, `w4a16` and `bf16` nothing."""
    found = _BOTH.fullmatch(precision)
    return _WIDTHS.get(found[1], "") if found else ""
