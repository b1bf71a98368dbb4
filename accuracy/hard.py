"""G1 HardFaults: what blocks at first sight, and what is asked once more. Pure.

Divergence does not see these: with all log-probabilities NaN the truncated KL is about 0, and a vocabulary that is cut off hides in the
rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from accuracy.degenerate import degenerate
from accuracy.policy import Policy
from accuracy.types import Event, Position, Scores, Token

MOST_LOGPROB = 1e-3  # nats: what rounding may add to a certain token
MOST_MASS = 1 + 1e-3  # of all alternatives together
SENTINEL = -100.0  # nats and below: engines clamp minus infinity to values such as -9999
MOST_SENTINELS = 0.5  # share of an answer's log-probabilities
LEAST_OVERLAP = 0.5  # share of the reference's top-k mass that both lists name
# An engine whose JSON writer refuses NaN answers 500 with words like these.
_NOT_JSON = "not json compliant"


def at_sight(scores: Scores, policy: Policy, *, d_kl: float | None = None) -> tuple[Event, ...]:
    """Faults of the candidate's answer that block at once, in order of position, at most one of each code.

    `d_kl`: the prompt's mean KL from the reference, nats per token, where it is known.
    """
    return _first_of_each(_at_sight(scores, policy, d_kl))


def to_confirm(scores: Scores, reference: Scores) -> tuple[Event, ...]:
    """Faults that are asked once more, at most one of each code, and only where the reference does not show the same.

    What repeats blocks; what does not counts as a violation of Tail.
    """
    theirs = {e.code for e in reference.events}
    return tuple(e for e in _first_of_each(_to_confirm(scores, reference)) if e.code not in theirs)


def overlap(scores: Scores, reference: Scores) -> float | None:
    """Reference probability of the alternatives that both sides list, over that of all it lists; mean over positions with at least two.

    None: nothing to compare. Matched by id; by string where only one of the sides tells ids and no string stands twice.
    """
    other = {p.index: p for p in scores.positions if p is not None}
    shares: list[float] = []
    for position in reference.positions:
        theirs = other.get(position.index) if position is not None else None
        if position is None or theirs is None or min(len(position.top), len(theirs.top)) < 2:
            continue
        by_id = all(t.id is not None for t in (*position.top, *theirs.top))
        ours = [(t.id if by_id else t.text, _probability(t)) for t in position.top[: len(theirs.top)]]
        known = [t.id if by_id else t.text for t in theirs.top]
        if len(set(known)) < len(known) or len({key for key, _ in ours}) < len(ours):
            continue
        total = sum(p for _, p in ours)
        if total > 0:
            shares.append(sum(p for key, p in ours if key in set(known)) / total)
    return sum(shares) / len(shares) if shares else None


def _at_sight(scores: Scores, policy: Policy, d_kl: float | None) -> Iterator[Event]:
    for event in scores.events:
        if event.code == "ServerError" and _NOT_JSON in event.detail.lower():
            yield Event("NonFinite", f"HTTP {event.status}: {event.detail[:200]}", event.position, event.status)
        elif event.code in ("NonFinite", "PositiveLogprob", "MassAboveOne"):
            yield event
    for position in scores.positions:
        if position is not None:
            yield from _impossible(position)
    if d_kl is not None and not d_kl <= policy.hard_kl:
        yield Event("KlAboveLimit", f"mean KL {d_kl:.3g} nats per token, at most {policy.hard_kl:g} for this pair")


def _impossible(position: Position) -> Iterator[Event]:
    """What no probability distribution gives."""
    at = position.index
    own = position.token.logprob
    if not math.isfinite(own):
        yield Event("NonFinite", f"log-probability {own} of {_named(position.token)}", at)
    for number, token in enumerate(position.top):
        later = position.top[number + 1 :]
        # NaN or null after all finite ones may be how this engine writes minus infinity; in front of one it cannot be.
        if token.logprob == math.inf or (math.isnan(token.logprob) and (number == 0 or any(math.isfinite(t.logprob) for t in later))):
            yield Event("NonFinite", f"log-probability {token.logprob} of alternative {number}, {_named(token)}", at)
    for token in (position.token, *position.top):
        if math.isfinite(token.logprob) and token.logprob > MOST_LOGPROB:
            yield Event("PositiveLogprob", f"log-probability {token.logprob:.4g} of {_named(token)}", at)
    # Some engines list the chosen token twice.
    alternatives = {(t.id if t.id is not None else (t.text, t.logprob)): t for t in position.top if t.logprob <= MOST_LOGPROB}
    mass = sum(_probability(t) for t in alternatives.values())
    if mass > MOST_MASS:
        yield Event("MassAboveOne", f"the alternatives have probability {mass:.4g} together", at)


def _to_confirm(scores: Scores, reference: Scores) -> Iterator[Event]:
    for event in scores.events:
        told = event.code == "EmptyReply" or (event.code == "MissingLogprob" and any(p is not None for p in reference.positions))
        if told or (event.code == "ServerError" and _NOT_JSON not in event.detail.lower()):
            yield event
    if _sentinels(scores) > MOST_SENTINELS >= _sentinels(reference):
        yield Event("Sentinels", f"{_sentinels(scores):.0%} of the log-probabilities are at most {SENTINEL:g}, or minus infinity")
    yield from _ruled_out(scores, reference)
    share = overlap(scores, reference)
    if share is not None and share < LEAST_OVERLAP:
        yield Event("LowOverlap", f"the alternatives share {share:.0%} of the reference's mass, at least {LEAST_OVERLAP:.0%} is healthy")
    why = degenerate(scores.text)
    # Small models get stuck at temperature 0 on healthy hardware too.
    if why and not degenerate(reference.text):
        yield Event("Degenerate", why)


def _ruled_out(scores: Scores, reference: Scores) -> Iterator[Event]:
    """A golden token that cannot come on this side: a vocabulary that is cut off, too rare in the text for any mean to show."""
    ours = {p.index: p.token.logprob for p in reference.positions if p is not None}
    for position in scores.positions:
        if position is not None and position.token.logprob <= SENTINEL < ours.get(position.index, SENTINEL):
            p = math.exp(min(0.0, ours[position.index]))
            yield Event("Sentinels", f"{_named(position.token)} is impossible, its probability on the reference is {p:.2g}", position.index)


def _sentinels(scores: Scores) -> float:
    """Share of all log-probabilities that stand for minus infinity."""
    values = [t.logprob for p in scores.positions if p is not None for t in (p.token, *p.top)]
    return sum(not v > SENTINEL for v in values) / len(values) if values else 0.0


def _probability(token: Token) -> float:
    return math.exp(min(token.logprob, 0.1)) if token.logprob > -math.inf else 0.0


def _named(token: Token) -> str:
    return f"token {token.id}" if token.id is not None else f"token {token.text[:40]!r}"


def _first_of_each(events: Iterable[Event]) -> tuple[Event, ...]:
    seen: dict[str, Event] = {}
    for event in events:
        seen.setdefault(event.code, event)
    return tuple(seen.values())
