"""G6 Tasks: behaviour that token scores do not show (tool calls, JSON, right answers, length), each paired with the reference. Pure.

Pairing is worth about four times the items. The reference's agreement with itself is the measure, never 100 %: the official endpoint of one
large model agrees with itself in 76 % of tool triggers only (`trigger_f1` of two of its own runs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from accuracy.json_schema import satisfies
from accuracy.types import Item

MARGIN_POINTS = 3.0  # percentage points of loss that are allowed
ALPHA = 0.05  # one-sided


@dataclass(frozen=True, slots=True)
class Replied:
    """What one side did with one item. None = this item does not ask for it, or it cannot be judged."""

    item: str
    called: str | None = None  # tool that was called, "" = none
    right_call: bool | None = None
    schema: bool | None = None  # the answer satisfies the item's JSON schema
    right: bool | None = None  # the answer is the item's `answer`
    tokens: int | None = None  # generated

    @property
    def good(self) -> bool | None:
        """All that was judged is as it should be; None = nothing was."""
        judged = [v for v in (self.right_call, self.schema, self.right) if v is not None]
        return all(judged) if judged else None


@dataclass(frozen=True, slots=True)
class Paired:
    """The same items on both sides. `drop` and `upper` are shares, from -1 to 1: positive = the candidate is worse.

    `passed`: the loss is below the margin with confidence 1 - alpha. `failed`: it is above it with the same confidence. Neither: more
    items are needed.
    """

    items: int
    lost: int  # good at the reference only
    gained: int  # good at the candidate only
    drop: float
    upper: float  # of the one-sided interval
    lower: float
    passed: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class Ratio:
    """Geometric mean over items of a ratio candidate to reference, and its two-sided 95 % interval."""

    items: int
    estimate: float
    low: float
    high: float


def judged(item: Item) -> bool:
    """Whether the item asks for anything that can be judged."""
    return item.expect_tool is not None or item.schema is not None or bool(item.answer)


def reply(item: Item, text: str, called: Sequence[str] | None, tokens: int | None = None) -> Replied:
    """Judges one answer. `called`: names of the tools in its `tool_calls`, in order; None = the endpoint cannot call tools."""
    first = None if called is None or item.expect_tool is None else (called[0] if called else "")
    return Replied(
        item=item.id,
        called=first,
        right_call=None if first is None else first == item.expect_tool,
        schema=None if item.schema is None else satisfies(text, item.schema),
        right=None if not item.answer else _plain(text) == _plain(item.answer),
        tokens=tokens,
    )


def difference(reference: Replied, candidate: Replied) -> float | None:
    """`Sample.task`: 1 where only the candidate is good, -1 where only the reference is, else 0. None = not judged on both sides."""
    ours, theirs = reference.good, candidate.good
    return None if ours is None or theirs is None else float(theirs) - float(ours)


def paired(differences: Sequence[float], margin_points: float = MARGIN_POINTS, alpha: float = ALPHA) -> Paired | None:
    """Non-inferiority on the same items, by the score interval for the difference of paired proportions (Tango, 1998). None without items.

    `differences`: 1, 0 or -1 per item as `difference` gives them. Chosen over the plain interval because that one promotes 6.7 % at the
    margin where 5 % are allowed (300 items, 6 % discordant; exact). With no discordant item at all it takes z^2 (1 - m) / m items to
    pass: 88 at a margin of 3 points, 133 at 2.
    """
    if not differences:
        return None
    n, lost, gained = len(differences), sum(d < 0 for d in differences), sum(d > 0 for d in differences)
    z, margin = NormalDist().inv_cdf(1 - alpha), margin_points / 100
    return Paired(
        items=n,
        lost=lost,
        gained=gained,
        drop=(lost - gained) / n,
        upper=_bound(n, lost, gained, z),
        lower=-_bound(n, gained, lost, z),
        passed=score(n, lost, gained, margin) > z,
        failed=score(n, gained, lost, -margin) > z,
    )


def score(n: int, lost: int, gained: int, drop: float) -> float:
    """Standardised distance of the data below a true `drop` (share): large = the true loss is smaller. 0 where it cannot be said."""
    delta = -drop  # of candidate over reference
    a, b = 2 * n, -gained - lost + (2 * n - gained + lost) * delta
    p_lost = (math.sqrt(max(b * b + 4 * a * lost * delta * (1 - delta), 0.0)) - b) / (2 * a)
    variance = n * (2 * p_lost + delta * (1 - delta))
    return (gained - lost - n * delta) / math.sqrt(variance) if variance > 1e-12 else 0.0


def trigger_f1(truth: Sequence[Replied], other: Sequence[Replied]) -> float | None:
    """F1 of "calls a tool" with `truth`'s calls as the truth, over items that both judged; None = neither ever calls one."""
    known = {r.item: r for r in truth if r.called is not None}
    both = [(bool(known[r.item].called), bool(r.called)) for r in other if r.called is not None and r.item in known]
    hits = sum(a and b for a, b in both)
    called = sum(a for a, _ in both) + sum(b for _, b in both)
    return 2 * hits / called if called else None


def schema_rate(replies: Sequence[Replied]) -> float | None:
    """Share of answers that satisfy their schema; None = none was judged."""
    judged = [r.schema for r in replies if r.schema is not None]
    return sum(judged) / len(judged) if judged else None


def lengths(reference: Sequence[Replied], candidate: Sequence[Replied]) -> Ratio | None:
    """How much longer the candidate's answers are, over items that both answered with at least one token; None below two items.

    The usual sign of a lost end-of-text id is a ratio far above 1.
    """
    known = {r.item: r.tokens for r in reference if r.tokens}
    logs = [math.log(r.tokens / tokens) for r in candidate if r.tokens and (tokens := known.get(r.item))]
    if len(logs) < 2:
        return None
    mean, half = fmean(logs), 1.959964 * stdev(logs) / math.sqrt(len(logs))
    return Ratio(items=len(logs), estimate=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half))


def _bound(n: int, lost: int, gained: int, z: float) -> float:
    """Largest true loss that the data do not speak against; the score grows with the loss."""
    low, high = (lost - gained) / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if score(n, lost, gained, middle) > z else (middle, high)
    return high


def _plain(text: str) -> str:
    return text.strip().strip(".!\"'`*").strip().casefold()
