"""Compiles the inner loops where numba is installed. Without it the same functions run as plain Python, several times slower.

numba is optional and imported in this module only. Containers follow: numpy arrays for compiled code, lists for plain Python, which
reads and writes single elements of lists faster than of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

try:
    import numba
except ImportError:
    numba = None

COMPILED = numba is not None
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function in machine code, kept between runs of the program where a folder for it can be written."""
    if numba is None:
        return function
    try:
        found: F = numba.njit(cache=True)(function)
    except RuntimeError:  # no folder for the cache
        found = numba.njit(function)
    return found


def floats(values: Iterable[float] | int, fill: float = 0.0) -> Any:
    """A mutable row of floats: `values`, or that many times `fill`."""
    if isinstance(values, int):
        return np.full(values, fill, np.float64) if COMPILED else [fill] * values
    found = np.array(values if isinstance(values, np.ndarray) else list(values), np.float64)
    return found if COMPILED else found.tolist()


def whole(values: Iterable[int] | int, fill: int = 0) -> Any:
    """A mutable row of whole numbers: `values`, or that many times `fill`."""
    if isinstance(values, int):
        return np.full(values, fill, np.int64) if COMPILED else [fill] * values
    found = np.array(values if isinstance(values, np.ndarray) else list(values), np.int64)
    return found if COMPILED else found.tolist()


def records(kind: type, whole_names: Sequence[str], float_names: Sequence[str], number: int) -> Any:
    """That many records with those fields, all 0: objects of `kind` for plain Python, an array of records for compiled code."""
    if COMPILED:
        fields = [(name, np.int64) for name in whole_names] + [(name, np.float64) for name in float_names]
        return np.zeros(number, np.dtype(fields)).view(np.recarray)
    found = [kind() for _ in range(number)]
    for record in found:
        for name in (*whole_names, *float_names):
            setattr(record, name, 0)
    return found


def column(table: Any, name: str, number: int) -> list[Any]:
    """One field of the first `number` records, as plain values."""
    if COMPILED:
        found: list[Any] = table[name][:number].tolist()
        return found
    return [getattr(record, name) for record in table[:number]]


def values(table: Any, place: int, names: Sequence[str]) -> tuple[Any, ...]:
    """All fields of one record, as plain values in the order of `names`, which is that of `records`."""
    if COMPILED:
        found: tuple[Any, ...] = table[place].item()
        return found
    record = table[place]
    return tuple(getattr(record, name) for name in names)


def plain(row: Any) -> list[Any]:
    """A row, or a part of it, as plain values."""
    return row.tolist() if COMPILED else list(row)
