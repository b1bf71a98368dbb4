"""Cold starts as they were measured, per option and state of its caches: how long a replica that is asked for now takes to serve.

The answer is the P90 of the measured times, each weighted by its age with a half-life of a week, and of at most 64 per key. Nothing is
assumed of an option that was never started: its answer is None, and the caller says what stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

KEEP = 64
HALF_LIFE_S = 7.0 * 86_400.0  # images, weights and compilers change within weeks
QUANTILE = 0.9
LONGEST_S = 86_400.0  # a longer start was no start

Key = tuple[str, str]  # (option, cache state: "hot" | "cold" or as the caller names it)


class ColdStartFault(ValueError):  # noqa: N818 - named as the other faults of the project
    """A stored list that cannot be read, or a time that cannot be. Names the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """(key, ((stamp in s since 1970, seconds), oldest first)), by key."""

    measured: tuple[tuple[Key, tuple[tuple[float, float], ...]], ...] = ()


def add(starts: ColdStarts, option: str, cache: str, at: float, seconds: float) -> ColdStarts:
    """With one more start, measured at `at`. Raises ColdStartFault unless 0 < seconds <= a day."""
    if not isfinite(seconds) or not 0.0 < seconds <= LONGEST_S or not isfinite(at):
        raise ColdStartFault(f"seconds: {seconds!r} of {option} at {at!r} is no cold start; it must be above 0 and at most {LONGEST_S:g} s")
    table = dict(starts.measured)
    table[option, cache] = tuple(sorted((*table.get((option, cache), ()), (at, seconds))))[-KEEP:]
    return ColdStarts(tuple(sorted(table.items())))


def p90(starts: ColdStarts, option: str, cache: str, now: float) -> float | None:
    """Weighted P90 in s; None if no such start was measured. With few starts it is the longest of them."""
    entries = dict(starts.measured).get((option, cache), ())
    if not entries:
        return None
    weighted = sorted((seconds, 0.5 ** (max(0.0, now - at) / HALF_LIFE_S)) for at, seconds in entries)
    total = sum(weight for _, weight in weighted)
    if total <= 0.0:  # all so old that no weight is left
        return weighted[-1][0]
    reached = 0.0
    for seconds, weight in weighted:
        reached += weight
        if reached >= QUANTILE * total - 1e-12:
            return seconds
    return weighted[-1][0]


def stored(starts: ColdStarts) -> dict[str, list[list[float]]]:
    """As plain JSON values; the key is "option|cache"."""
    return {f"{option}|{cache}": [[round(at, 1), round(s, 1)] for at, s in entries] for (option, cache), entries in starts.measured}


def restored(value: Mapping[str, object]) -> ColdStarts:
    """The inverse of `stored`. Raises ColdStartFault."""
    if not isinstance(value, Mapping):
        raise ColdStartFault(f"cold starts: {value!r} is not a mapping; delete the learned state, it is learned anew")
    starts = ColdStarts()
    for key in sorted(value):
        option, mark, cache = key.rpartition("|")
        entries = value[key]
        if not mark or not isinstance(entries, list) or len(entries) > KEEP:
            raise ColdStartFault(f"cold starts {key!r}: must be 'option|cache' with at most {KEEP} pairs; delete the learned state")
        for entry in entries:
            if not isinstance(entry, list) or len(entry) != 2 or any(isinstance(x, bool) or not isinstance(x, int | float) for x in entry):
                raise ColdStartFault(f"cold starts {key!r}: {entry!r} is not a pair of numbers [stamp, seconds]; delete the learned state")
            starts = add(starts, option, cache, float(entry[0]), float(entry[1]))
    return starts
