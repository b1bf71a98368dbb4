"""Number formats of quantised weights, activations and caches, as values: each function returns float32 that the format can hold.

fp8 is the OCP 8-bit format: e4m3 without infinities (largest 448, subnormal step 2^-9) and e5m2 (as IEEE, largest 57344).
"""

from __future__ import annotations

import numpy as np

from sandbox.engine.numerics import F32

E4M3_MAX = 448.0


def symmetric(x: F32, levels: int, axis: int | tuple[int, ...] | None) -> F32:
    """Rounded to whole multiples of a scale that maps the largest magnitude along `axis` (None: of all) to `levels`."""
    scale = np.max(np.abs(x), axis=axis, keepdims=True) / np.float32(levels)
    scale = np.where(scale > 0, scale, np.float32(1))
    out: F32 = np.rint(x / scale)
    out *= scale
    return out


def grouped(x: F32, levels: int, size: int) -> F32:
    """As `symmetric`, a scale for every `size` values along the last axis; a rest that is shorter is a group of its own."""
    whole = x.shape[-1] // size * size
    head = symmetric(x[..., :whole].reshape(*x.shape[:-1], -1, size), levels, -1).reshape(*x.shape[:-1], whole)
    return head if whole == x.shape[-1] else np.concatenate([head, symmetric(x[..., whole:], levels, -1)], axis=-1)


def e4m3(x: F32) -> F32:
    """Rounded to fp8 e4m3, ties to even; beyond the range the largest number (saturating, as quantisers do)."""
    _, exponent = np.frexp(x)
    step = np.ldexp(np.float32(1), np.maximum(exponent - 1, -6) - 3)
    out: F32 = np.clip(np.rint(x / step) * step, -E4M3_MAX, E4M3_MAX).astype(np.float32, copy=False)
    return out


def e4m3_read_as_e5m2(x: F32) -> F32:
    """The same eight bits, written as e4m3 and read as e5m2: what a reinterpreted cache holds."""
    stored = e4m3(x)
    at = np.searchsorted(_E4M3, np.abs(stored))
    out: F32 = np.copysign(_E5M2[at], stored)
    return out


def _table(mantissa_bits: int, bias: int, count: int) -> F32:
    """The first `count` numbers from 0 on by their bits, which for either format are in order of size."""
    bits = np.arange(count)
    exponent, fraction = bits >> mantissa_bits, bits & ((1 << mantissa_bits) - 1)
    steps = np.where(exponent > 0, fraction + (1 << mantissa_bits), fraction)
    out: F32 = np.ldexp(steps.astype(np.float32), np.maximum(exponent, 1) - bias - mantissa_bits).astype(np.float32)
    return out


_E4M3 = _table(3, 7, 127)  # 0 to 448; the 128th is NaN
_E5M2 = np.concatenate([_table(2, 15, 124), np.full(3, np.inf, np.float32)])  # then infinity and NaN, both unusable
