"""What is known of a model itself: its shape, the number format of its weights, and the names under which data lists it.

Order of trust: `spec.model.shape` (a field that is stated wins over the catalogue's, the others are filled from it), then the
catalogue, then the config.json beside weights in a volume (`volume_shape`). A variant with other weights is the same architecture, so the
main weights' catalogue entry stands in for one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from hwprofiles import catalogue
from hwprofiles.schema import decimal
from hwprofiles.shape import Shape
from polyfleet.api.modeldeployment import ModelShape

# Width of the rotary part that multi-head latent attention caches beside the latent vector: DeepSeek-V2, V3, R1 and Kimi K2 publish
# qk_rope_head_dim 64 in their configurations (read 2026-11).
ROPE = 64


class Reading(Protocol):
    """What somebody found in the volume where the weights lie."""

    @property
    def shape(self) -> Shape | None: ...
    @property
    def precision(self) -> str | None: ...
    @property
    def message(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Known:
    names: tuple[str, ...]  # as the URI says, then the catalogue's; throughput entries may use any of them
    shape: Shape | None = None
    precision: str | None = None  # number format of the published weights; None = not known
    origin: str = ""  # of the shape
    assumptions: tuple[str, ...] = ()
    note: str = ""  # why the shape is not known, or not yet


def known(model_id: str, base_id: str, stated: ModelShape | None, read: Reading | None = None) -> Known:
    """`model_id`: the weights that are served; `base_id`: those of spec.model where a variant has others; `read`: of the served ones."""
    own, base = catalogue.find(model_id), catalogue.find(base_id) if base_id != model_id else None
    entry = own or base
    names = [model_id, *_names(own), base_id, *_names(base)]
    found = entry.shape if entry is not None else None
    origin = f"catalogue entry {entry.model} of {entry.date}" if entry is not None else ""
    if found is None and read is not None and read.shape is not None:
        found, origin = read.shape, read.message
    assumptions: tuple[str, ...] = ()
    if stated is not None:
        found, assumptions = _stated(stated, found)
        origin = "spec.model.shape" + (f" over the {origin}" if origin else "")
    # What a variant's other weights are stored in is not what the main ones are.
    precision = own.precision if own is not None else read.precision if read is not None else None
    note = read.message if found is None and read is not None else ""
    return Known(tuple(dict.fromkeys(names)), found, precision, origin if found is not None else "", assumptions, note)


def _names(entry: catalogue.CatalogueEntry | None) -> list[str]:
    return [name for name in (entry.model, entry.same_as) if name is not None] if entry is not None else []


def _stated(stated: ModelShape, base: Shape | None) -> tuple[Shape | None, tuple[str, ...]]:
    params = float(decimal(stated.params_b)) if stated.params_b is not None else base.params_b if base is not None else None
    if params is None:
        return None, ()
    start = base if base is not None else Shape(params, params)
    active = float(decimal(stated.active_params_b)) if stated.active_params_b is not None else None
    if active is None:
        active = start.active_params_b if base is not None and stated.params_b is None else params
    given = {
        "layers": stated.layers,
        "hidden": stated.hidden,
        "heads": stated.heads,
        "kv_heads": stated.kv_heads,
        "head_dim": stated.head_dim,
        "experts": stated.experts,
        "experts_per_token": stated.experts_per_token,
        "kv_lora": stated.kv_lora + ROPE if stated.kv_lora is not None else None,
        "max_context": stated.max_context,
    }
    found = replace(start, params_b=params, active_params_b=active, **{key: value for key, value in given.items() if value is not None})
    assumptions = [f"kvLora {stated.kv_lora} plus {ROPE} rotary values cached per token and layer"] if stated.kv_lora is not None else []
    if found.head_dim is None and found.hidden and found.heads:
        found = replace(found, head_dim=found.hidden // found.heads)
        assumptions.append(f"headDim {found.head_dim} = hidden / heads")
    if (stated.experts or stated.active_params_b or stated.params_b) and 0 < found.experts_per_token < found.experts:
        # total = rest + experts, active = rest + experts * k / E
        share = Decimal(found.experts_per_token) / Decimal(found.experts)
        routed = (Decimal(str(found.params_b)) - Decimal(str(found.active_params_b))) / (1 - share)
        found = replace(found, expert_params_b=float(min(routed, Decimal(str(found.params_b)))))
    return found, tuple(assumptions)
