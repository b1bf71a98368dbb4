"""Number formats of weights: bytes per parameter, which peak computes them, and whether a device serves them.

Three families. *16-bit and wider* compute in their own format. *Quantised weights and activations* (w8a8, fp8, w4a8, fp4) compute at the
peak of the activations' format. *Weight-only* formats (awq, gptq, w4a16, w8a16, and fp8 or fp4 on a device that only stores them) read
fewer bytes but are unpacked to 16 bit before they are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

# Bytes per parameter. mxfp4 and nvfp4 carry a shared 8-bit scale per 32 and 16 values (OCP MX specification v1.0; NVIDIA's NVFP4 layout).
BYTES: dict[str, Decimal] = {
    "fp32": Decimal(4),
    "bf16": Decimal(2),
    "fp16": Decimal(2),
    "fp8": Decimal(1),
    "int8": Decimal(1),
    "w8a8": Decimal(1),
    "w8a16": Decimal(1),
    "fp4": Decimal("0.5"),
    "int4": Decimal("0.5"),
    "awq": Decimal("0.5"),
    "gptq": Decimal("0.5"),
    "w4a8": Decimal("0.5"),
    "w4a16": Decimal("0.5"),
    "w4a4": Decimal("0.5"),
    "mxfp4": Decimal("0.53125"),
    "nvfp4": Decimal("0.5625"),
}
DEFAULT_PRECISION = "bf16"
# A format that is not listed counts as two bytes, the size of bf16, and is named as assumed.
DEFAULT_BYTES = Decimal(2)

# Names of the same arithmetic, tried in this order for peaks and for support.
_SAME: dict[str, tuple[str, ...]] = {
    "bf16": ("bf16",),
    "fp16": ("fp16",),
    "fp32": ("fp32",),
    "w8a8": ("w8a8", "int8"),
    "int8": ("int8", "w8a8"),
    "w4a8": ("w8a8", "int8"),
    "w4a4": ("w4a4", "int4"),
    "fp8": ("fp8",),
    "fp4": ("fp4", "mxfp4", "nvfp4"),
    "mxfp4": ("mxfp4", "fp4"),
    "nvfp4": ("nvfp4", "fp4"),
}
_SUPPORT: dict[str, tuple[str, ...]] = {
    **_SAME,
    "w4a8": ("w4a8",),
    "awq": ("awq", "w4a16", "int4"),
    "gptq": ("gptq", "w4a16", "int4"),
    "int4": ("int4", "w4a16"),
    "w4a16": ("w4a16", "int4"),
    "w8a16": ("w8a16",),
}
WEIGHT_ONLY = frozenset({"awq", "gptq", "int4", "w4a16", "w8a16"})
_SIXTEEN = ("bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Compute:
    """The peaks that a format runs at, FLOP/s; `attention` is the 16-bit one, in which attention is computed."""

    peak: float
    attention: float
    keys: tuple[str, ...]  # entries of the profile's peaks that were used
    assumptions: tuple[str, ...] = ()
    native: bool = True  # the peak is that of the format itself, so it bounds what is possible


def bytes_per_parameter(precision: str | None) -> float:
    """Bytes of one parameter; None = bf16; a format that is not listed counts as two bytes."""
    return float(BYTES.get(precision or DEFAULT_PRECISION, DEFAULT_BYTES))


def bytes_assumed(precision: str | None) -> str:
    """In words, for a format whose bytes nobody has told us; "" for the listed ones."""
    return "" if precision is None or precision in BYTES else f"bytes of {precision} unknown, {DEFAULT_BYTES} assumed"


def loaded_as(precision: str | None, dtypes: Mapping[str, str], peaks: Mapping[str, float]) -> str | None:
    """The format that weights have in memory: their own, but 16 bit for fp32 where the device has no fp32 peak and does have one of 16.

    Engines load fp32 weights as 16 bit unless told otherwise (vLLM documentation of `--dtype auto`, 2026-08).
    """
    if precision != "fp32" or "fp32" in peaks:
        return precision
    able = (name for name in _SIXTEEN if support(name, dtypes) != "Unsupported" and compute(name, dtypes, peaks) is not None)
    return next(able, precision)


def support(precision: str | None, dtypes: Mapping[str, str]) -> str | None:
    """`Native`, `Emulated`, `WeightOnly`, `Unsupported`, or None where the profile does not say. The exact name wins over its synonyms."""
    wanted = precision or DEFAULT_PRECISION
    for name in (wanted, *_SUPPORT.get(wanted, ())):
        if name in dtypes:
            return dtypes[name]
    return None


def compute(precision: str | None, dtypes: Mapping[str, str], peaks: Mapping[str, float]) -> Compute | None:
    """The peak that this format runs at on this device, or None where it is not known and nothing honest stands in for it.

    Stand-ins, each named in `assumptions`: fp16 for bf16 and the reverse where the device supports the wanted one natively (all devices
    of the shipped profiles have both within 7 %); the 16-bit peak, which is lower, for an 8- or 4-bit format whose own peak is absent.
    fp32 has no stand-in, a 16-bit peak would promise too much; what engines do instead says `loaded_as`.
    """
    wanted = precision or DEFAULT_PRECISION
    level = support(precision, dtypes)
    sixteen, note = _sixteen(wanted if wanted in _SIXTEEN else DEFAULT_PRECISION, dtypes, peaks)
    if wanted == "fp32":
        own = peaks.get("fp32")
        return None if own is None else Compute(own, own, ("fp32",))
    if wanted in _SIXTEEN:
        if sixteen is None:
            return None
        return Compute(peaks[sixteen], peaks[sixteen], (sixteen,), note, native=sixteen == wanted)
    own_key = next((name for name in _SAME.get(wanted, ()) if name in peaks), None)
    weight_only = wanted in WEIGHT_ONLY or level in ("WeightOnly", "Emulated") or wanted not in _SAME
    if own_key is not None and not weight_only:
        attention = peaks[sixteen] if sixteen is not None else peaks[own_key]
        keys = (own_key,) if sixteen is None else (own_key, sixteen)
        return Compute(peaks[own_key], attention, keys, () if sixteen is not None else (f"attention at the {own_key} peak assumed",))
    if sixteen is None:
        return None
    known = wanted in BYTES
    if not weight_only:
        note = (*note, f"peak of {wanted} unknown, the lower {sixteen} peak assumed")
    elif not known:
        note = (*note, f"peak of {wanted} unknown, the {sixteen} peak assumed")
    # How many bytes a word means that nobody explains is not known, so it bounds nothing.
    return Compute(peaks[sixteen], peaks[sixteen], (sixteen,), note, native=weight_only and known)


def _sixteen(wanted: str, dtypes: Mapping[str, str], peaks: Mapping[str, float]) -> tuple[str | None, tuple[str, ...]]:
    """The 16-bit peak to use, with what is assumed about it."""
    other = "fp16" if wanted == "bf16" else "bf16"
    if wanted in peaks:
        return wanted, ()
    if other not in peaks:
        return None, ()
    level = support(wanted, dtypes)
    if level in ("Native", None):
        return other, (f"{wanted} peak unknown, the {other} peak assumed",)
    # A device without bf16 (310P) still computes attention of its 8-bit formats in fp16; an emulated format has a peak of its own.
    return (other, ()) if level == "Unsupported" else (None, ())
