"""Parameters of the vision tower of a multimodal config.json: a few per cent of the model, counted from the tower's own dimensions."""

from __future__ import annotations

from hwprofiles.architecture import Tower, count_tower
from hwprofiles.config_fields import LAYERS, WIDTH, Fields

_SIDE, _FRAMES = 4_096, 64
_GATED = ("qwen2_5_vl", "pixtral")


def beside(top: Fields, hidden: int) -> int:
    """Of a file that has the text model's fields on its top level and the tower in `vision_config` (Qwen2.5-VL); 0 without a tower."""
    return parameters(top, hidden) if top.has("vision_config") else 0


def parameters(top: Fields, hidden: int) -> int:
    """Tower and projector in front of a text model `hidden` wide; 0 where the wrapper has no tower."""
    vision = top.child("vision_config")
    if vision is None or not vision.values:
        return 0
    family = vision.text("model_type") or top.text("model_type")
    width = vision.integer("hidden_size", "embed_dim", "width", "vt_hidden_size", most=WIDTH)
    depth = vision.integer("num_hidden_layers", "depth", "layers", "vt_num_hidden_layers", most=LAYERS)
    inner = vision.maybe("intermediate_size", "vt_intermediate_size", most=10 * WIDTH) or 4 * width
    side = vision.maybe("patch_size", most=_SIDE) or 14
    frames = vision.maybe("temporal_patch_size", most=_FRAMES) or 1
    image = vision.maybe("image_size", most=1 << 20)
    positions = vision.maybe("num_position_embeddings", most=1 << 20) or ((image // side) ** 2 if image and family != "pixtral" else 0)
    stacked = vision.numbers("deepstack_visual_indexes", LAYERS, LAYERS)
    tower = Tower(
        depth=depth,
        hidden=width,
        intermediate=inner,
        gated=family in _GATED,
        patch=3 * frames * side * side,
        positions=positions,
        merge=vision.maybe("spatial_merge_size", most=64) or 0,
        out=vision.maybe("out_hidden_size", most=WIDTH) or hidden,
        mergers=1 + len(stacked or ()),
    )
    return count_tower(tower)
