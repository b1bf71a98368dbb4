"""Which concurrency is measured next, and when there is nothing more to learn. Pure.

Rising concurrency: doubling from 1 finds the neighbourhood of the limit in few stages; once a stage breaks the SLO, the limit is halved in
between the last that held and the first that did not, until they are an eighth apart (each stage costs its duration, and the rate changes
by less than that). Without an SLO, or before it breaks, a doubling that brings less than 3 % more tokens ends it: the engine is full, and
more requests only wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEAST_GAIN = 0.03
MOST_ERRORS = 0.01
MOST_CONCURRENCY = 1024


class Stop(StrEnum):
    DONE = "Done"  # all asked stages were measured
    SLO_BROKEN = "SloBroken"
    SATURATED = "Saturated"
    ERRORS = "Errors"
    LIMIT = "ConcurrencyLimit"
    TIME = "TimeLimit"
    REQUESTS = "RequestLimit"
    INTERRUPTED = "Interrupted"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the search needs of a stage."""

    concurrency: int
    tokens_per_s: float
    holds_slo: bool  # True without an SLO
    error_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Next:
    """The concurrency to measure, or why there is none."""

    concurrency: int | None
    stop: Stop | None = None
    why: str = ""


def from_list(asked: Sequence[int], seen: Sequence[Seen]) -> Next:
    """The asked stages in their order. Only errors end it early: a stage that breaks the SLO is still what somebody asked for."""
    if broken := _errors(seen):
        return broken
    if len(seen) < len(asked):
        return Next(asked[len(seen)])
    return Next(None, Stop.DONE, "all stages are measured")


def until_slo(seen: Sequence[Seen], most: int = MOST_CONCURRENCY) -> Next:
    """Doubling, then halving the gap around the break."""
    if broken := _errors(seen):
        return broken
    if not seen:
        return Next(1)
    held = [s for s in seen if s.holds_slo]
    failed = [s.concurrency for s in seen if not s.holds_slo]
    if failed:
        low, high = max((s.concurrency for s in held), default=0), min(failed)
        if high - low <= max(1, low // 8):
            limit = f"{low} in flight hold the SLO, {high} do not" if low else "not even 1 in flight holds the SLO"
            return Next(None, Stop.SLO_BROKEN, limit)
        return Next((low + high) // 2)
    last = seen[-1]
    if len(seen) > 1:
        gain = last.tokens_per_s / max(seen[-2].tokens_per_s, 1e-9) - 1
        if gain < LEAST_GAIN:
            why = f"{seen[-2].concurrency} → {last.concurrency} in flight bring {gain:+.1%} tokens/s, less than {LEAST_GAIN:.0%}"
            return Next(None, Stop.SATURATED, why)
    if last.concurrency >= most:
        return Next(None, Stop.LIMIT, f"{most} in flight are the most that was allowed")
    return Next(min(most, last.concurrency * 2))


def _errors(seen: Sequence[Seen]) -> Next | None:
    if seen and seen[-1].error_share > MOST_ERRORS:
        share = f"{seen[-1].error_share:.1%} of the requests failed at {seen[-1].concurrency} in flight, more than {MOST_ERRORS:.0%}"
        return Next(None, Stop.ERRORS, share)
    return None
