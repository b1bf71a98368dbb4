"""Rounding and storage of the number formats against known bit patterns and numpy's own conversion."""

from __future__ import annotations

import numpy as np
import pytest

from sandbox.engine.numerics import DTYPES, F32, Numerics


def _bits(values: F32) -> list[int]:
    return [int(b) for b in values.view(np.uint32)]


def test_bf16_rounds_half_to_even() -> None:
    """bfloat16 has 7 bits of mantissa: its step at 1 is 2^-7, and ties go to the even neighbour."""
    step = 2.0**-7
    given = np.array([1 + step / 2, 1 + step * 1.5, 1 + step * 0.51, -1 - step / 2, 3.4e38, np.inf, -np.inf], np.float32)
    wanted = [1.0, 1 + 2 * step, 1 + step, -1.0, np.inf, np.inf, -np.inf]
    assert Numerics("bf16").round(given).tolist() == wanted


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_every_nan_stays_nan(dtype: str) -> None:
    given = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7FC00000], np.uint32).view(np.float32)
    assert np.isnan(Numerics("bf16" if dtype == "bf16" else "fp16").round(given)).all()


def test_fp16_rounding_is_numpys_bit_for_bit() -> None:
    """All finite float16 values, all midpoints between neighbours, the numbers beside these, and the edge of overflow."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = np.sort(halves[np.isfinite(halves)]).astype(np.float32)
    middle = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)
    up, down = np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))
    edge = np.array([65504, 65519.996, 65520, 65536, 1e30, np.inf, -65520, 1e-8, -1e-8, 0.0, -0.0], np.float32)
    given = np.concatenate([finite, middle, up, down, edge])
    with np.errstate(over="ignore"):
        wanted = given.astype(np.float16).astype(np.float32)
    assert _bits(Numerics("fp16").round(given)) == _bits(wanted)


def test_fp16_storage_of_all_values_comes_back() -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    for part in (halves, halves[np.isfinite(halves)]):
        np.testing.assert_array_equal(Numerics("fp16").unpack(part), part.astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_stored_values_are_the_rounded_ones(dtype: str) -> None:
    numerics = Numerics("fp32" if dtype == "fp32" else "bf16" if dtype == "bf16" else "fp16")
    given = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(numerics.unpack(numerics.pack(given)), numerics.round(given))
    assert numerics.pack(given).itemsize == (4 if dtype == "fp32" else 2)
