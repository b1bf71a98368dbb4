"""Number formats of the numpy backend: round after every operation, and store in as few bytes as the format needs.

numpy computes in float32 only at full speed, so a 16-bit device is imitated by rounding each result to the format's nearest
value (ties to even) and going on in float32. Products are still accumulated in float32, as matrix units do.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Stored = npt.NDArray[Any]
Dtype = Literal["fp32", "bf16", "fp16"]
DTYPES: tuple[Dtype, ...] = ("fp32", "bf16", "fp16")


_MAGNITUDE, _INFINITY = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
_FP16_OVERFLOW = np.uint32(0x47800000)  # 65536: what 65520, the first number beyond fp16, rounds up to
_FP16_SMALLEST_NORMAL = np.uint32(0x38800000)  # 2^-14


def _bf16_bits(x: F32) -> npt.NDArray[np.uint32]:
    """The float32 bit patterns of `x` rounded to bfloat16: the upper 16 bits, round half to even, NaN kept."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded &= np.uint32(0xFFFF0000)
    magnitude = bits & _MAGNITUDE
    if magnitude.size and magnitude.max() > _INFINITY:  # a NaN whose payload is all ones would overflow into zero
        rounded[magnitude > _INFINITY] = 0x7FC00000
    return rounded


def _fp16_round(x: F32) -> F32:
    """`x` rounded to float16 and back, in integer arithmetic: numpy's own conversion is scalar and several times slower."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = bits >> np.uint32(13)
    rounded &= np.uint32(1)
    rounded += np.uint32(0xFFF)
    rounded += bits
    rounded &= np.uint32(0xFFFFE000)
    magnitude = rounded & _MAGNITUDE
    values = rounded.view(np.float32)
    if not magnitude.size:
        return values
    if magnitude.min() < _FP16_SMALLEST_NORMAL:
        # subnormals are multiples of 2^-24, float32's step between 0.5 and 1: adding 0.75 and taking it away rounds to them
        small = (bits & _MAGNITUDE) < _FP16_SMALLEST_NORMAL
        with np.errstate(invalid="ignore"):  # a signalling NaN elsewhere in x is not chosen below
            step = x + np.float32(0.75)
            step -= np.float32(0.75)
        np.copyto(values, np.copysign(step, x), where=small)
    if magnitude.max() >= _FP16_OVERFLOW:
        values[magnitude >= _FP16_OVERFLOW] = np.copysign(np.float32(np.inf), x[magnitude >= _FP16_OVERFLOW])
        values[np.isnan(x)] = np.nan
    return values


class Numerics:
    """One number format: `round` for results of operations, `pack`/`unpack` for stored weights and cache entries."""

    def __init__(self, dtype: Dtype) -> None:
        self.dtype: Dtype = dtype
        self.storage: np.dtype[Any] = np.dtype({"fp32": np.float32, "bf16": np.uint16, "fp16": np.float16}[dtype])

    def round(self, x: F32) -> F32:
        if self.dtype == "fp32":
            return x
        if self.dtype == "bf16":
            return _bf16_bits(x).view(np.float32)
        return _fp16_round(x)

    def pack(self, x: F32) -> Stored:
        if self.dtype == "bf16":
            return (_bf16_bits(x) >> np.uint32(16)).astype(np.uint16)
        with np.errstate(over="ignore"):
            return x.astype(self.storage, copy=False)

    def unpack(self, stored: Stored) -> F32:
        if self.dtype == "bf16":
            return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if self.dtype == "fp16":
            return _fp16_values(stored)
        return stored.astype(np.float32, copy=False)


def _fp16_values(stored: Stored) -> F32:
    """float16 to float32 in integer arithmetic: numpy's own conversion is scalar and five times slower (the head felt it).

    Exponent and mantissa are moved to float32's places and the exponent's bias corrected by one exact product, which also makes
    subnormals right. Only infinities and NaN do not fit the trick.
    """
    bits = stored.view(np.uint16).astype(np.uint32)
    magnitude = bits & np.uint32(0x7FFF)
    if magnitude.size and int(magnitude.max()) >= 0x7C00:
        return stored.astype(np.float32)
    magnitude <<= np.uint32(13)
    values = magnitude.view(np.float32)
    values *= np.float32(2.0**112)
    bits &= np.uint32(0x8000)
    bits <<= np.uint32(16)
    magnitude |= bits
    return values
