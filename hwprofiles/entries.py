"""Throughput entries as data: which speak about a question, which loads they cover, and what lies between two of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwprofiles.estimate.values import Load
from hwprofiles.model import Layout, Range, Throughput
from hwprofiles.schema import decimal_float, duration_seconds

# Without validFor an entry speaks for half to double of each of its token counts (interface, throughput entries).
LESS, MORE = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Point:
    """One entry with a rate, as numbers: output tokens/s, seconds."""

    index: int  # place in spec.throughput
    entry: Throughput
    rate: float
    ttft_s: float | None
    itl_s: float | None

    @property
    def concurrency(self) -> int | None:
        return self.entry.concurrency


@dataclass(frozen=True, slots=True)
class Reading:
    """What entries say about one load."""

    rate: float
    ttft_s: float | None
    itl_s: float | None
    concurrency: int | None
    points: tuple[Point, ...]  # one, or the two neighbours in concurrency
    notes: tuple[str, ...] = ()

    @property
    def nearest(self) -> Point:
        return self.points[-1]


def same_layout(a: Layout, b: Layout) -> bool:
    """Expert parallel 1 and none are the same thing."""
    return (a.tensor, a.pipeline, a.data, a.span, a.expert or 1) == (b.tensor, b.pipeline, b.data, b.span, b.expert or 1)


def points_for(entries: Sequence[Throughput], *, model_id: str, precision: str | None, engine: str, layout: Layout | None) -> list[Point]:
    """Entries with a rate for this model, precision, engine and layout, in the profile's order.

    A side that names no precision fits any; `layout` None fits any.
    """
    found = []
    for index, entry in enumerate(entries):
        if entry.model != model_id or entry.engine != engine or entry.output_tokens_per_second is None:
            continue
        if precision is not None and entry.precision is not None and entry.precision != precision:
            continue
        if layout is not None and not same_layout(entry.parallelism, layout):
            continue
        rate = decimal_float(entry.output_tokens_per_second)
        if rate > 0:
            ttft = None if entry.ttft is None else duration_seconds(entry.ttft)
            itl = None if entry.itl is None else duration_seconds(entry.itl)
            found.append(Point(index, entry, rate, ttft, itl))
    return found


def covered_tokens(entry: Throughput) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(lowest, highest) input tokens and output tokens that the entry speaks for; None = it does not say for which."""
    valid = entry.valid_for
    return (
        _tokens(entry.input_tokens, valid.input_tokens if valid is not None else None),
        _tokens(entry.output_tokens, valid.output_tokens if valid is not None else None),
    )


def covered_concurrency(entry: Throughput) -> tuple[int, int] | None:
    """(lowest, highest) requests in flight that the entry speaks for; None = it does not say for which."""
    if entry.valid_for is not None and entry.valid_for.concurrency is not None:
        return entry.valid_for.concurrency.min, entry.valid_for.concurrency.max
    return None if entry.concurrency is None else (1, entry.concurrency)


def _tokens(own: int | None, stated: Range | None) -> tuple[int, int] | None:
    if stated is not None:
        return stated.min, stated.max
    return None if own is None else (math.ceil(own * LESS), math.floor(own * MORE))


def covers(entry: Throughput, load: Load) -> bool:
    """The entry speaks for this load. A dimension that the entry does not state, or the load does not, is not restricted."""
    into, out = covered_tokens(entry)
    requests = covered_concurrency(entry)
    return (
        (into is None or into[0] <= load.input_tokens <= into[1])
        and (out is None or out[0] <= load.output_tokens <= out[1])
        and (requests is None or load.concurrency is None or requests[0] <= load.concurrency <= requests[1])
    )


def describe_cover(point: Point) -> str:
    """The allowed range of one entry in words."""
    into, out = covered_tokens(point.entry)
    requests = covered_concurrency(point.entry)
    parts = [
        f"{name} {span[0]} to {span[1]}" for name, span in (("input", into), ("output", out), ("concurrency", requests)) if span is not None
    ]
    return f"throughput[{point.index}] ({point.entry.evidence}) covers {', '.join(parts) or 'any load'}"


def between(low: Point, high: Point, concurrency: int) -> Reading:
    """A load between two entries that differ in concurrency c only.

    Interpolated is the time per output token of one request, c / throughput, linearly in c. For a server that takes a + b*c per token
    (a step costs a fixed part and a part per request) this is exact: throughput c / (a + b*c). For any two neighbours the result lies
    between them, also where throughput falls, since c / (a + b*c) is monotone between two points where both are positive.
    """
    first, last = low.concurrency, high.concurrency
    if first is None or last is None or not first <= concurrency <= last or first == last:
        raise ValueError(f"concurrency {concurrency} is not between two different entries ({first}, {last})")
    share = (concurrency - first) / (last - first)

    def mix(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a + (b - a) * share

    per_token = first / low.rate + (last / high.rate - first / low.rate) * share
    note = f"interpolated between concurrency {first} and {last}"
    return Reading(concurrency / per_token, mix(low.ttft_s, high.ttft_s), mix(low.itl_s, high.itl_s), concurrency, (low, high), (note,))
