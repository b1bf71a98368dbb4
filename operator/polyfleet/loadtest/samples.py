"""From the requests of one phase to its figures: rate with interval, waiting times, what was really in flight. Pure.

All times are seconds on the driver's clock. The rate counts tokens when they arrive, inside a window that begins after the warm-up and ends
with the phase, whether or not their request ends inside it: counting finished requests would favour the short ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from polyfleet.loadtest.statistics import F64, LEAST_BATCHES, MOST_BATCHES, batch_means, mser5, percentile

BINS = 200  # of the series that the warm-up is cut by
BUNDLED = 1.5  # tokens per piece from which on the gaps between pieces are not those between tokens


@dataclass(slots=True)
class Record:
    """One request while it runs. `pieces` are the arrival times of text; `ended` None means that the phase ended first."""

    index: int
    wanted: float  # when it was due; earlier than `sent` if it had to wait for a free place
    sent: float
    pieces: list[float] = field(default_factory=list)
    ended: float | None = None
    input_tokens: int | None = None  # both as the endpoint counted them
    output_tokens: int | None = None
    error: str = ""

    @property
    def finished(self) -> bool:
        return self.ended is not None and not self.error


@dataclass(frozen=True, slots=True)
class Phase:
    """Everything that was sent between `started` and `ended`, and why it ended (TimeUp, RequestLimit, Errors, Interrupted)."""

    started: float
    ended: float
    records: tuple[Record, ...]
    reason: str = "TimeUp"


@dataclass(frozen=True, slots=True)
class Figures:
    """`tokens_per_s` ± `half_width` (95 %). Waiting times are the asked percentile; None = nothing was seen.

    `unsettled` says why the rate may not be published ("" = it may).
    """

    tokens_per_s: float
    half_width: float | None
    batches: int
    seconds: float
    warm_up_s: float
    requests: int  # finished inside the window
    errors: Counter[str]
    in_flight: float
    request_s: float | None
    ttft_s: float | None
    ttft_count: int
    itl_s: float | None
    itl_of: str  # gaps | requests
    input_tokens: float | None  # means of the finished requests
    output_tokens: float | None
    counted_by: str  # usage | pieces
    unsettled: str = ""

    @property
    def relative(self) -> float | None:
        """Half width of the interval as a share of the rate."""
        return None if self.half_width is None else self.half_width / max(self.tokens_per_s, 1e-9)

    @property
    def error_share(self) -> float:
        return sum(self.errors.values()) / max(1, self.requests + sum(self.errors.values()))


def figures(phase: Phase, percent: int, *, arrivals: bool = False) -> Figures:
    """`arrivals`: an open loop, whose rate is chance and no property of the engine. The warm-up is then twice the time until the first
    request ended (the system starts empty), and what has to be enough is the number of first tokens: two beyond the percentile."""
    records = phase.records
    times, weights, ratio, by_usage = _tokens(records)
    cut, settled = _warm_up(phase, None if arrivals else times, weights)
    begin, end = phase.started + cut, phase.ended
    seconds = max(end - begin, 1e-9)
    done = [r for r in records if r.finished and r.ended is not None and begin <= r.ended <= end]
    lasted = [r.ended - r.wanted for r in done if r.ended is not None]
    request_s = math.fsum(lasted) / len(lasted) if lasted else None
    inside = (times >= begin) & (times <= end)
    rate = float(weights[inside].sum()) / seconds
    count = min(MOST_BATCHES, int(seconds / request_s)) if request_s else 0
    interval = None
    if count >= LEAST_BATCHES:
        sums, _ = np.histogram(times[inside], bins=count, range=(begin, end), weights=weights[inside])
        interval = batch_means(sums * count / seconds)
    first = [r.pieces[0] - r.wanted for r in records if r.pieces and begin <= r.pieces[0] <= end]
    gaps, of = _gaps(records, begin, end, ratio)
    errors = Counter(r.error for r in records if r.error)
    return Figures(
        tokens_per_s=rate,
        half_width=interval.half_width if interval else None,
        batches=interval.batches if interval else count,
        seconds=seconds,
        warm_up_s=cut,
        requests=len(done),
        errors=errors,
        in_flight=_in_flight(records, begin, end),
        request_s=request_s,
        ttft_s=percentile(first, percent),
        ttft_count=len(first),
        itl_s=percentile(gaps, percent),
        itl_of=of,
        input_tokens=_mean([r.input_tokens for r in done if r.input_tokens is not None]),
        output_tokens=_mean([r.output_tokens if r.output_tokens is not None else len(r.pieces) for r in done]),
        counted_by="usage" if by_usage else "pieces",
        unsettled=_few(len(first), percent)
        if arrivals
        else _unsettled(settled, request_s, phase.ended - phase.started, interval is not None),
    )


def _few(count: int, percent: int) -> str:
    least = math.ceil(200 / (100 - percent))
    return "" if count >= least else f"{count} first tokens, {least} are needed for a {percent}th percentile"


def _unsettled(settled: bool, request_s: float | None, seconds: float, enough: bool) -> str:
    if request_s is None:
        return f"no request ended within {seconds:.0f} s"
    if not settled:
        return f"the rate did not settle within {seconds:.0f} s"
    if not enough:
        return f"{seconds:.0f} s with the warm-up hold fewer than {LEAST_BATCHES} batches of a mean request ({request_s:.1f} s)"
    return ""


def _tokens(records: Sequence[Record]) -> tuple[F64, F64, float, bool]:
    """Arrival times and token weights of all pieces, tokens per piece, and whether the endpoint counted them.

    A piece may hold several tokens (engines bundle under load) or part of one: the endpoint's own count of a request is spread evenly
    over its pieces. Requests that were cut off get the mean of the others.
    """
    told = [r for r in records if r.finished and r.output_tokens is not None and r.pieces]
    pieces = sum(len(r.pieces) for r in told)
    ratio = sum(r.output_tokens or 0 for r in told) / pieces if pieces else 1.0
    times = np.fromiter((t for r in records for t in r.pieces), np.float64)
    weights = np.concatenate([np.full(len(r.pieces), _weight(r, ratio)) for r in records]) if records else np.zeros(0)
    return times, weights, ratio, bool(told)


def _weight(record: Record, ratio: float) -> float:
    counted = record.finished and record.output_tokens is not None and record.pieces
    return (record.output_tokens or 0) / len(record.pieces) if counted else ratio


def _warm_up(phase: Phase, times: F64 | None, weights: F64) -> tuple[float, bool]:
    """Seconds to leave out, and whether the rate settled. At least until the first request ended: until then all of them start at once."""
    length = phase.ended - phase.started
    ends = [r.ended - phase.started for r in phase.records if r.finished and r.ended is not None]
    least = min(ends, default=length)
    if length <= 0 or least >= length / 2:
        return min(least, length / 2), False
    if times is None:
        return min(2 * least, length / 2), True
    series, _ = np.histogram(times, bins=BINS, range=(phase.started, phase.ended), weights=weights)
    found = mser5(series)
    if found is None:
        return max(least, length / 2), False
    return max(least, found * length / BINS), True


def _gaps(records: Sequence[Record], begin: float, end: float, ratio: float) -> tuple[list[float], str]:
    """Times between tokens. Where pieces hold several tokens, the mean of each request, because the gaps inside a piece are not seen."""
    if ratio < BUNDLED:
        gaps = [b - a for r in records for a, b in zip(r.pieces, r.pieces[1:], strict=False) if begin <= a and b <= end]
        return gaps, "gaps"
    per_request = [
        (r.pieces[-1] - r.pieces[0]) / (r.output_tokens - 1)
        for r in records
        if r.finished and r.pieces and r.output_tokens is not None and r.output_tokens > 1 and begin <= r.pieces[0] and r.pieces[-1] <= end
    ]
    return per_request, "requests"


def _in_flight(records: Sequence[Record], begin: float, end: float) -> float:
    """Mean number of requests between their due time and their end, over the window (the L of Little's law)."""
    total = math.fsum(max(0.0, min(end, end if r.ended is None else r.ended) - max(begin, r.wanted)) for r in records)
    return total / max(end - begin, 1e-9)


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None
