"""Which layouts of one replica are legal, and which of them hold the model.

Memory by order of trust: the footprint of a throughput entry of this engine version, `model.footprint`, the estimator on the model's
shape with the KV cache of one request, and, where nothing but the parameter count is known, the weights times a stated factor.

The one request is the longest that the engine promises to take: vLLM and its kin refuse to start where the KV cache holds less than
`--max-model-len` tokens, by default the model's context (vLLM documentation, 2026-08). Where neither is known, or the engine makes no such
promise, it has the lengths of `spec.workload`, by the schema's default 1024 + 256 tokens: a replica that cannot hold one such request
serves nothing.

Legal sizes depend on the pool's scheduler (`hwprofiles.legal_sizes`). A tensor size divides the attention heads, and divides the
key-value heads or is a multiple of them (then each is kept on several devices).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from hwprofiles import Layout as Layout
from hwprofiles import legal_sizes
from hwprofiles.estimate import Hardware, hardware_of, memory_need
from hwprofiles.estimate.formats import bytes_assumed, bytes_per_parameter
from hwprofiles.estimate.memory import kv_layer_bytes
from hwprofiles.schema import decimal, quantity_bytes
from hwprofiles.shape import Shape
from polyfleet.memo import Memo
from polyfleet.merge import Wanted

GIB = 1 << 30
# Weights, KV cache and activations over the bare weights, where only the parameter count is known: our own assumption (2026-11).
SHAPE_OVERHEAD = Decimal("1.2")
# vLLM's default for --gpu-memory-utilization (vLLM documentation, 2026-08); used where the profile states no usableFraction.
DEFAULT_USABLE = Decimal("0.9")
MODEL_SHAPE_UNKNOWN = "ModelShapeUnknown"
SIZE_NOT_ALLOWED = "SizeNotAllowed"
MODEL_TOO_LARGE = "ModelTooLarge"


@dataclass(frozen=True, slots=True)
class Rejection:
    profile: str
    reason: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one replica takes in one layout, bytes over all its devices."""

    need: int
    evidence: str
    basis: str  # where the figure comes from, in words


@dataclass(frozen=True, slots=True)
class Fit:
    """A legal layout that holds the model; `memory` None: the user states the size and nothing is known of the memory."""

    layout: Layout
    memory: Memory | None


def layouts(wanted: Wanted, scheduler: str, full: int | None) -> list[Layout] | Rejection:
    """Legal layouts under this scheduler by size."""
    asked = wanted.parallelism
    if (asked.span or 1) > 1:
        return _not_allowed(wanted, f"parallelism.span {asked.span}: replicas over several nodes are not supported", "set span 1")
    legal = legal_sizes(wanted.profile, scheduler, full)
    pipeline, data = asked.pipeline or 1, asked.data or 1
    shown = ", ".join(map(str, legal)) or "none"
    allowed = f"{wanted.profile_name} allows {shown} devices per replica under scheduler {scheduler}"
    choices = sorted({asked.tensor} if asked.tensor is not None else set(asked.tensor_choices or ()))
    tensors = [t for t in choices if t * pipeline * data in legal]
    if choices and not tensors:
        sizes = ", ".join(str(t * pipeline * data) for t in choices)
        return _not_allowed(
            wanted, f"parallelism asks for {sizes} devices; {allowed}", f"set spec.runtime.parallelism.tensorChoices to some of {shown}"
        )
    if not choices:
        tensors = [size // (pipeline * data) for size in legal if size % (pipeline * data) == 0]
    good = [t for t in tensors if divides(wanted.known.shape, t)]
    if not good:
        heads = _heads(wanted.known.shape)
        if choices:
            text = f"tensor {', '.join(map(str, tensors))} does not divide {heads} of {wanted.model_id}"
            return _not_allowed(wanted, text, f"set a tensor size that does; {allowed}")
        text = f"no size fits pipeline {pipeline} x data {data}" + (f" and {heads}" if heads else "") + f"; {allowed}"
        return _not_allowed(wanted, text, "change spec.runtime.parallelism.pipeline or data")
    return [Layout(tensor=t, pipeline=pipeline, data=data, expert=asked.expert) for t in sorted(good)]


def divides(shape: Shape | None, tensor: int) -> bool:
    """Whether the attention can be cut into `tensor` parts. What is not known stands in nobody's way."""
    if shape is None or not shape.heads:
        return True
    if shape.heads % tensor:
        return False
    if shape.kv_lora or not shape.kv_heads:
        return True  # the latent cache is replicated
    return shape.kv_heads % tensor == 0 or tensor % shape.kv_heads == 0


def _heads(shape: Shape | None) -> str:
    if shape is None or not shape.heads:
        return ""
    return f"{shape.heads} heads" + (f" ({shape.kv_heads} key-value heads)" if shape.kv_heads else "")


def fitting(wanted: Wanted, found: list[Layout], tokens: int) -> list[Fit] | Rejection:
    """The layouts that hold the model and the KV cache of `tokens` tokens, by size."""
    explicit = wanted.parallelism.tensor is not None
    good: list[Fit] = []
    largest: tuple[Layout, Memory] | None = None
    room = usable_bytes(wanted)
    for layout in found:
        memory = memory_of(wanted, layout, tokens)
        if memory is None:
            if explicit:
                good.append(Fit(layout, None))
            continue
        if room * layout.devices >= memory.need:
            good.append(Fit(layout, memory))
        largest = layout, memory
    if good:
        return good
    if largest is None:
        return Rejection(
            wanted.profile_name,
            MODEL_SHAPE_UNKNOWN,
            f"how much memory {wanted.model_id} needs is not known" + (f": {wanted.known.note}" if wanted.known.note else ""),
            "set spec.model.footprint (for example 24Gi) or spec.model.shape.paramsB, set spec.runtime.parallelism.tensor,"
            f" or measure: polyfleet bench --profile {wanted.profile_name} --model {wanted.model_id}",
        )
    layout, memory = largest
    return Rejection(
        wanted.profile_name,
        MODEL_TOO_LARGE,
        f"needs {_gib(memory.need)} GiB on {layout.devices} devices ({memory.basis});"
        f" {layout.devices} x {wanted.profile.unit.memory} hold {_gib(room * layout.devices)} GiB usable",
        _smaller(wanted, [item.devices for item in found]),
    )


def _smaller(wanted: Wanted, sizes: list[int]) -> str:
    narrow = sorted(
        word
        for word, support in (wanted.profile.dtypes or {}).items()
        if support != "Unsupported" and bytes_per_parameter(word) < bytes_per_parameter(wanted.precision or wanted.known.precision)
    )
    ways = [f"add a variant with match.profiles [{wanted.profile_name}] and weights in {' or '.join(narrow)}"] if narrow else []
    if wanted.parallelism.tensor is not None or wanted.parallelism.tensor_choices:
        ways.append(f"allow more devices than {max(sizes)} in spec.runtime.parallelism")
    if wanted.footprint is None and wanted.engine not in _NO_PROMISE and wanted.known.shape is not None and wanted.known.shape.complete:
        ways.append("set a lower --max-model-len in spec.runtime.args")
    return ", or ".join([*ways, "exclude the profile: spec.placement.excludeProfiles"])


def usable_bytes(wanted: Wanted) -> int:
    """Of one device."""
    unit = wanted.profile.unit
    return int(quantity_bytes(unit.memory) * (decimal(unit.usable_fraction) if unit.usable_fraction else DEFAULT_USABLE))


def memory_of(wanted: Wanted, layout: Layout, tokens: int) -> Memory | None:
    """Memory of one replica, by order of trust; None if nothing is known."""
    if (found := _listed(wanted, layout)) is not None:
        return found
    if wanted.footprint is not None:
        return Memory(quantity_bytes(wanted.footprint), "Estimated", "model.footprint")
    shape = wanted.known.shape
    if shape is None:
        return None
    precision = wanted.precision or wanted.known.precision
    guessed = f" ({bytes_assumed(precision)})" if bytes_assumed(precision) else ""
    stored = f"{shape.params_b:.4g}B parameters in {precision or 'bf16 (assumed)'}{guessed}"
    if shape.complete:
        length = longest(wanted, tokens)
        # One request lies in one attention group, so each group must have the room.
        need = memory_need(shape, hardware(wanted), layout, precision, kv_tokens=0)
        cache = _kv_bytes(shape, layout, length.tokens)
        if need is not None and cache is not None:
            text = f"{stored}, {wanted.known.origin}, with the KV cache of one request of {length.tokens} tokens, {length.origin}"
            return Memory((need + cache) * layout.devices, "Estimated", text)
    weights = Decimal(str(shape.params_b)) * 1_000_000_000 * Decimal(bytes_per_parameter(precision))
    text = f"{stored}, {wanted.known.origin}, times {SHAPE_OVERHEAD} for what comes beside them"
    return Memory(int(weights * SHAPE_OVERHEAD), "Estimated", text)


@dataclass(frozen=True, slots=True)
class Length:
    tokens: int
    origin: str


# Engines that promise nothing of the length: they take what memory there is.
_NO_PROMISE = ("sglang",)
_MAX_LENGTH = re.compile(r"--max[-_]model[-_]len(?:=(.*))?")
_SCALE = {"k": 1000, "K": 1 << 10, "m": 1_000_000, "M": 1 << 20, "": 1}


def longest(wanted: Wanted, tokens: int) -> Length:
    """The one request that must fit. `tokens`: of the workload."""
    context = wanted.known.shape.max_context if wanted.known.shape is not None else None
    if wanted.engine not in _NO_PROMISE:
        stated = _max_length(wanted.args)
        if stated is not None:
            return Length(stated, "as --max-model-len says") if stated > 0 else Length(min(tokens, context or tokens), "of spec.workload")
        if context is not None:
            return Length(context, "the context that the engine keeps room for unless --max-model-len says less")
    return Length(min(tokens, context or tokens), "of spec.workload")


def _max_length(args: tuple[str, ...]) -> int | None:
    """The last --max-model-len among the arguments; 0 = the engine is told to choose; None = not stated, or not to be read."""
    found: int | None = None
    for place, text in enumerate(args):
        match = _MAX_LENGTH.fullmatch(text)
        if match is None:
            continue
        value = match[1] if match[1] is not None else args[place + 1] if place + 1 < len(args) else ""
        number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kKmM]?)", value.strip())
        found = int(float(number[1]) * _SCALE[number[2]]) if number is not None else 0 if value.strip() in ("-1", "auto") else found
    return found


def _kv_bytes(shape: Shape, layout: Layout, tokens: int) -> int | None:
    """Of one request on one device. Layers with a window keep no more than it."""
    each = kv_layer_bytes(shape, layout)
    if each is None:
        return None
    kept = min(tokens, shape.window) if shape.window else tokens
    return int(each * (shape.growing_layers * tokens + shape.window_layers * kept))


def _listed(wanted: Wanted, layout: Layout) -> Memory | None:
    """A footprint of this engine version: of this layout, else of the layout that is nearest in size, the larger of two."""
    version = wanted.engine_version
    found = [
        entry for entry in wanted.entries() if entry.footprint is not None and (version is None or entry.engine_version in (None, version))
    ]
    if not found:
        return None

    def distance(index: int) -> tuple[bool, int, int, int]:
        entry = found[index]
        other = entry.parallelism
        same = (other.tensor, other.pipeline, other.data) == (layout.tensor, layout.pipeline, layout.data)
        return not same, abs(other.devices - layout.devices), -quantity_bytes(entry.footprint or "0"), index

    entry = found[min(range(len(found)), key=distance)]
    return Memory(quantity_bytes(entry.footprint or "0"), entry.evidence, f"footprint in throughput, {entry.source}, {entry.date}")


def hardware(wanted: Wanted) -> Hardware:
    return _HARDWARE.get(wanted.profile, wanted.engine, lambda: hardware_of(wanted.profile, wanted.engine, profile=wanted.profile_name))


_HARDWARE: Memo[Hardware] = Memo()


def _not_allowed(wanted: Wanted, message: str, hint: str) -> Rejection:
    return Rejection(wanted.profile_name, SIZE_NOT_ALLOWED, message, hint)


def _gib(value: int) -> str:
    return f"{value / GIB:.1f}"
