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
    scaled: bool = False  # down to fewer requests than the entry's: a lower bound

    @property
    def nearest(self) -> Point:
        return self.points[-1]

    @property
    def token_s(self) -> float | None:
        """Time per output token of one request: itl where it is stated, else what concurrency and rate leave for it (Little's law: a
        request gets a token every concurrency / rate seconds, its time to the first one included). None = neither is known."""
        if self.itl_s is not None:
            return self.itl_s
        if self.concurrency is None:
            return None
        first = (self.ttft_s or 0.0) / (self.nearest.entry.output_tokens or math.inf)
        return max(self.concurrency / self.rate - first, 0.0)


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


def answers(point: Point, concurrency: int) -> bool:
    """Whether one entry by itself says anything of so many requests in flight: it covers them and states how many it was taken at, or the
    time per token. A rate alone is that of a saturated server, and nobody knows from where on it is saturated."""
    covered = covered_concurrency(point.entry)
    return point.itl_s is not None if covered is None else covered[0] <= concurrency <= covered[1]


def describe_cover(point: Point) -> str:
    """The allowed range of one entry in words."""
    into, out = covered_tokens(point.entry)
    requests = covered_concurrency(point.entry)
    parts = [
        f"{name} {span[0]} to {span[1]}" for name, span in (("input", into), ("output", out), ("concurrency", requests)) if span is not None
    ]
    if requests is None:
        parts.append("a saturated server, at a concurrency that is not stated")
    return f"throughput[{point.index}] ({point.entry.evidence}) covers {', '.join(parts)}"


def as_it_is(point: Point) -> Reading:
    """The entry at its own load."""
    return Reading(point.rate, point.ttft_s, point.itl_s, point.concurrency, (point,), _gaps(point))


def at_other(point: Point, wanted: int) -> Reading:
    """One entry at another number of requests in flight.

    More than its own, which only `validFor` allows: its rate as it is. Fewer: the rate cannot be that of the full server. A request gets a
    token every concurrency / rate seconds (Little's law), and not more slowly with fewer neighbours, so that `wanted` of them get at least
    rate * wanted / concurrency. Where the concurrency is not stated, a request takes at most itl and its part of ttft per token.
    """
    own, notes = point.concurrency, _gaps(point)
    if own is not None and own <= wanted:
        note = f"entry at concurrency {own} used for {wanted}"
        return Reading(point.rate, point.ttft_s, point.itl_s, own, (point,), notes if own == wanted else (*notes, note))
    rate, why = point.rate, ""
    if own is not None:
        rate, why = rate * wanted / own, f"the share {wanted}/{own} of its rate"
    if point.itl_s:
        each = point.itl_s + (point.ttft_s or 0.0) / (point.entry.output_tokens or math.inf)
        if wanted / each < rate:
            rate, why = wanted / each, f"{wanted} requests at {each * 1e3:.3g} ms per token"
    if not why:
        return Reading(rate, point.ttft_s, point.itl_s, own, (point,), notes)
    taken = "at a concurrency that is not stated" if own is None else f"at concurrency {own}"
    note = f"entry {taken} used for {wanted}: {why}, a lower bound as long as fewer requests are not slower"
    return Reading(rate, point.ttft_s, point.itl_s, wanted, (point,), (*notes, note), scaled=True)


def _gaps(point: Point) -> tuple[str, ...]:
    entry, where = point.entry, f"throughput[{point.index}]"
    missing = [name for name, value in (("inputTokens", entry.input_tokens), ("outputTokens", entry.output_tokens)) if not value]
    notes = [f"{where} states no {' and no '.join(missing)}"] if missing else []
    if entry.concurrency is None:
        notes.append(f"{where} at saturation, its concurrency is not stated")
    return tuple(notes)


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
