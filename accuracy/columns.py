"""Columns of numbers and strings as bytes, for `accuracy.record`: each kind of number lies together, byte by byte, so that gzip shrinks it.

A number is stored as its four bytes in four planes (all lowest bytes, then the next, ...): the high planes are nearly all zero. Strings
stand once in a table and are named by number, the most frequent with the lowest. All lengths are checked when read.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from accuracy.types import Token

STEP = 1e-4  # nats
MOST_NUMBERS = 20_000_000  # of one column
_NAN, _MINUS, _PLUS = 2**32 - 1, 2**32 - 2, 2**32 - 3  # what is no step: NaN and the infinities
_POSITIVE = 2**31  # a log-probability above 0 (a fault worth keeping) is stored with this bit
_MOST = 2**32 - 1
T = TypeVar("T")


class Writer:
    """Collects columns in the order of the calls. `sizes` goes beside the bytes: the reader needs it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.sizes: list[list[str | int]] = []  # name, bytes

    def numbers(self, name: str, values: Sequence[int]) -> None:
        """Whole numbers from 0 to 2**32 - 1. Raises OverflowError."""
        for value in values:
            if not 0 <= value <= _MOST:
                raise OverflowError(f"{name} {value} is outside 0 to {_MOST}")
        self._add(name, _planes(np.asarray(values, dtype=np.uint32)))

    def optional(self, name: str, values: Sequence[int | None]) -> None:
        """The same or None."""
        self.numbers(name, [0 if v is None else v + 1 for v in values])

    def strings(self, name: str, values: Sequence[str]) -> None:
        table = [s for s, _ in Counter(values).most_common()]
        self._table(name, table)
        at = {s: n for n, s in enumerate(table)}
        self.numbers(f"{name}#", [at[s] for s in values])

    def tokens(self, name: str, values: Sequence[Token]) -> None:
        """Ids and strings through a table, log-probabilities in steps of `STEP`, NaN and infinities as they are."""
        pairs = [(t.id, t.text) for t in values]
        table = [p for p, _ in Counter(pairs).most_common()]
        self.optional(f"{name}.ids", [i for i, _ in table])
        self._table(name, [s for _, s in table])
        at = {p: n for n, p in enumerate(table)}
        self.numbers(f"{name}#", [at[p] for p in pairs])
        self.numbers(f"{name}.logprobs", [coded(t.logprob) for t in values])

    def joined(self) -> bytes:
        return b"".join(self._parts)

    def _table(self, name: str, values: Sequence[str]) -> None:
        # Escaped: half a surrogate pair, which an engine may send, has no UTF-8 form.
        self._add(f"{name}.table", json.dumps(values, separators=(",", ":")).encode())

    def _add(self, name: str, data: bytes) -> None:
        self.sizes.append([name, len(data)])
        self._parts.append(data)


class Tokens:
    """A long row of tokens, kept as numbers: as objects a whole record would take 25 MB."""

    def __init__(self, table: list[tuple[int | None, str]], which: npt.NDArray[np.uint32], codes: npt.NDArray[np.uint32]) -> None:
        self._table, self._which, self._codes = table, which, codes

    def __len__(self) -> int:
        return len(self._which)

    def between(self, start: int, end: int) -> list[Token]:
        pairs = (self._table[n] for n in self._which[start:end].tolist())
        return [Token(i, s, decoded(code)) for (i, s), code in zip(pairs, self._codes[start:end].tolist(), strict=True)]


class Reader:
    """The columns of `body`, by name. Raises ValueError or KeyError for what does not fit together."""

    def __init__(self, body: bytes, sizes: Sequence[Sequence[str | int]]) -> None:
        self._columns: dict[str, bytes] = {}
        start = 0
        for name, size in sizes:
            if not isinstance(name, str) or not isinstance(size, int) or not 0 <= size <= len(body) - start:
                raise ValueError(f"column {name!r} of {size!r} bytes does not fit")
            self._columns[name] = body[start : start + size]
            start += size
        if start != len(body):
            raise ValueError(f"{len(body) - start} bytes are left over")

    def numbers(self, name: str) -> list[int]:
        return [int(n) for n in self._whole(name).tolist()]

    def optional(self, name: str) -> list[int | None]:
        return [n - 1 if n else None for n in self.numbers(name)]

    def strings(self, name: str) -> list[str]:
        table = self._table(name)
        return [table[n] for n in self.numbers(f"{name}#")]

    def tokens(self, name: str) -> Tokens:
        """What `Writer.tokens` wrote; single tokens are made when they are asked for."""
        table = list(zip(self.optional(f"{name}.ids"), self._table(name), strict=True))
        which, codes = self._whole(f"{name}#"), self._whole(f"{name}.logprobs")
        if len(which) != len(codes) or (len(which) and int(which.max()) >= len(table)):
            raise ValueError(f"column {name} names a token that is not there")
        return Tokens(table, which, codes)

    def _whole(self, name: str) -> npt.NDArray[np.uint32]:
        data = self._columns[name]
        if len(data) % 4 or len(data) > 4 * MOST_NUMBERS:
            raise ValueError(f"column {name} has {len(data)} bytes")
        planes = np.frombuffer(data, dtype=np.uint8).reshape(4, -1)
        return np.ascontiguousarray(planes.T).view("<u4").ravel()

    def _table(self, name: str) -> list[str]:
        table = json.loads(self._columns[f"{name}.table"])
        if not isinstance(table, list) or not all(isinstance(s, str) for s in table):
            raise ValueError(f"the table of {name} is no list of strings")
        return table


def cut(values: Sequence[T], lengths: Sequence[int], count: int | None) -> list[Sequence[T]]:
    """`values` in pieces of these lengths, which must use them up; `count` pieces, None = any number."""
    if sum(lengths) != len(values) or (count is not None and len(lengths) != count):
        raise ValueError(f"{len(values)} values in {len(lengths)} pieces, {sum(lengths)} and {count} expected")
    out, start = [], 0
    for length in lengths:
        out.append(values[start : start + length])
        start += length
    return out


def _planes(values: npt.NDArray[np.uint32]) -> bytes:
    return np.ascontiguousarray(values.astype("<u4").view(np.uint8).reshape(-1, 4).T).tobytes()


def coded(value: float) -> int:
    """A log-probability as a whole number. Raises OverflowError beyond 214748 nats."""
    if not math.isfinite(value):
        return _NAN if math.isnan(value) else _MINUS if value < 0 else _PLUS
    steps = round(abs(value) / STEP)
    if steps >= _POSITIVE:
        raise OverflowError(f"log-probability {value!r} is beyond {_POSITIVE * STEP:.0f}")
    return steps | (_POSITIVE if value > 0 and steps else 0)


def decoded(code: int) -> float:
    """The log-probability that `coded` stored."""
    if code >= _PLUS:
        return {_NAN: math.nan, _MINUS: -math.inf, _PLUS: math.inf}[code]
    # Divided, not multiplied: 0.0003 and not 0.00030000000000000003.
    value = (code & (_POSITIVE - 1)) / round(1 / STEP)
    return value if code & _POSITIVE else 0.0 - value  # and not -0.0
