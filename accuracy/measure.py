"""From two answers to numbers: distances between log-probabilities, position by position, and the sample of one prompt. Pure.

The divergence is taken over the tokens that both sides list, and one bucket for all the others: a lower bound of the true one. It can hide
a fault (a vocabulary that is cut off disappears in the bucket), so the golden token's own log-probability is always compared beside it. A
number that is none never counts as 0: its position is left out and counted as unusable, and `accuracy.hard` makes a fault of it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from accuracy.design import stratum_of
from accuracy.policy import SQ_PER_KL, Policy
from accuracy.types import Item, Mode, Position, Sample, Scores, Token

FLOOR = -50.0  # nats; every log-probability below counts as this, however an engine writes minus infinity
CLIP = 2.0  # nats, of the difference of one golden token
REST = 1e-9  # least probability of the bucket of all other tokens


@dataclass(frozen=True, slots=True)
class Divergence:
    """Distance of one answer from another; None = cannot be said. Nats, per token where it is a mean.

    `d_kl`: mean divergence, where both list two tokens or more. `d_sq`: mean squared difference of the golden token's log-probability, each
    clipped at 2 nats; `bias`: the mean of the differences themselves, candidate less reference. `max_kl`: divergence of the position
    `worst`; it takes the golden token against all others into account as well, so it is there without alternatives too. `flip`: largest
    lead, on the reference, of its own first token over the candidate's; None = no flip, or no alternatives. `overlap`: share of the
    reference's listed probability that the candidate lists as well. `used`: positions that were compared; `unusable`: those that should
    have been and could not.
    """

    d_kl: float | None
    d_sq: float | None
    bias: float | None
    max_kl: float
    worst: int | None
    flip: float | None
    overlap: float | None
    used: int
    unusable: int


def divergence(reference: Scores, candidate: Scores) -> Divergence:
    """How far the candidate's answer is from the reference's, over the positions of the same index."""
    theirs = {p.index: p for p in candidate.positions if p is not None}
    ours = [p for p in reference.positions if p is not None]
    if candidate.mode is Mode.FREE_RUN:  # it ends where the texts part: what would come after was never asked for
        last = max(theirs, default=-1)
        ours = [p for p in ours if p.index <= last]
    kls: list[float] = []
    moves: list[float] = []
    shares: list[float] = []
    max_kl, worst, flip, used = 0.0, None, None, 0
    for one in ours:
        other = theirs.get(one.index)
        if other is None or not _same(one.token, other.token):
            continue
        p, q = one.token.logprob, other.token.logprob
        if math.isnan(p) or math.isnan(q):
            continue
        lists = _lists(one, other)
        if lists is None:
            continue  # strings that stand for two tokens
        used += 1
        p, q = max(p, FLOOR), max(q, FLOOR)
        move = max(-CLIP, min(CLIP, q - p))
        moves.append(move)
        here = _kl([(p, q)])
        if lists:
            here_top = _kl([(value, lists[1][key]) for key, value in lists[0].items() if key in lists[1]])
            kls.append(here_top)
            shares.append(_share(*lists))
            here = max(here, here_top)
            lead = _lead(*lists)
            flip = lead if flip is None else max(flip, lead if lead is not None else flip)
        if worst is None or here > max_kl:
            max_kl, worst = here, one.index
    return Divergence(
        d_kl=_mean(kls),
        d_sq=_mean([m * m for m in moves]),
        bias=_mean(moves),
        max_kl=max_kl,
        worst=worst,
        flip=flip,
        overlap=_mean(shares),
        used=used,
        unusable=len(ours) - used,
    )


def sample(
    index: int,
    item: Item,
    reference: Scores | None,
    candidate: Scores | Sequence[Scores],
    noise_kl: float | None,
    noise_sq: float | None,
    policy: Policy,
    *,
    consistent: Sequence[Scores | tuple[Scores, Scores]] | None = None,
    hard: str = "",
    intermittent: str = "",
    task: float | None = None,
) -> Sample:
    """The numbers of one prompt.

    `candidate`: its answer, or several under the same condition, which are one sample: distances are averaged, the worst position of all
    counts. `reference` None: there is no other side. `consistent`: further answers of the candidate, each compared with its first one, or
    pairs that are compared with each other. A position at which the candidate is far from itself counts as one at which it is far from the
    reference. A noise that `policy` states replaces the measured one. `hard`, `intermittent`: codes of faults; `task`: as
    `accuracy.tasks.difference`.
    """
    answers = [candidate] if isinstance(candidate, Scores) else list(candidate)
    if not answers:
        raise ValueError(f"item {item.id}: no answer of the candidate; give at least one")
    first = answers[0]
    apart = [divergence(reference, answer) for answer in answers] if reference is not None else []
    if policy.noise_kl is not None:
        noise_kl, noise_sq = policy.noise_kl, SQ_PER_KL * policy.noise_kl
    pairs = [pair if isinstance(pair, tuple) else (first, pair) for pair in consistent or ()]
    alone = [divergence(one, other) for one, other in pairs]
    bad = max(apart, key=lambda d: d.max_kl, default=None)
    if reference is None:
        bad = max(alone, key=lambda d: d.max_kl, default=None)
    return Sample(
        index=index,
        item=item.id,
        stratum=stratum_of(item),
        modality=item.modality,
        condition=first.condition,
        mode=first.mode,
        d_kl=_mean(_known(d.d_kl for d in apart)),
        d_sq=_mean(_known(d.d_sq for d in apart)),
        noise_kl=noise_kl,
        noise_sq=noise_sq,
        bias=_mean(_known(d.bias for d in apart)),
        max_kl=max((d.max_kl for d in (*apart, *alone)), default=0.0),
        worst=bad.worst if bad is not None else None,
        flip=max(_known(d.flip for d in (*apart, *alone)), default=None),
        positions=min((d.used for d in (apart or alone[:1])), default=0),
        hard=hard,
        intermittent=intermittent,
        consistent_kl=_mean(_known(d.d_kl for d in alone)),
        consistent_sq=_mean(_known(d.d_sq for d in alone)),
        task=task,
    )


Ranked = dict[Hashable, float]  # log-probabilities, most likely first


def _lists(one: Position, other: Position) -> tuple[Ranked, Ranked] | tuple[()] | None:
    """The alternatives of both sides; () where a side tells fewer than two; None where a string stands for two tokens."""
    if min(len(one.top), len(other.top)) < 2:
        return ()
    by_id = all(t.id is not None for t in (*one.top, *other.top))
    ours, theirs = _ranked(one.top, by_id), _ranked(other.top, by_id)
    return None if ours is None or theirs is None else (ours, theirs)


def _ranked(top: Sequence[Token], by_id: bool) -> Ranked | None:
    # A null after all numbers is how some engines write minus infinity; one among them is a fault and found as such.
    values = [t.logprob if t.logprob > FLOOR else FLOOR for t in top]
    keys: list[Hashable] = [t.id for t in top] if by_id else [t.text for t in top]
    found = dict(zip(keys, values, strict=True))
    if len(found) < len(keys) and any(found[key] != value for key, value in zip(keys, values, strict=True)):
        return None
    return found


def _lead(ours: Ranked, theirs: Ranked) -> float | None:
    """How far our first token leads theirs on our side; one that is not listed is at most as likely as our last. None: the same token."""
    first, leader = next(iter(ours)), next(iter(theirs))
    return None if first == leader else ours[first] - ours.get(leader, min(ours.values()))


def _share(ours: Ranked, theirs: Ranked) -> float:
    ours = dict(list(ours.items())[: len(theirs)])
    return math.fsum(math.exp(p) for key, p in ours.items() if key in theirs) / math.fsum(math.exp(p) for p in ours.values())


def _kl(pairs: Sequence[tuple[float, float]]) -> float:
    """Divergence over these tokens and one bucket for all others, nats; no log-probability is below `FLOOR`."""
    ps, qs = [math.exp(p) for p, _ in pairs], [math.exp(q) for _, q in pairs]
    p_rest, q_rest = max(REST, 1 - math.fsum(ps)), max(REST, 1 - math.fsum(qs))
    inside = math.fsum([weight * (p - q) for weight, (p, q) in zip(ps, pairs, strict=True)])
    return max(0.0, inside + p_rest * math.log(p_rest / q_rest))


def _same(one: Token, other: Token) -> bool:
    """Whether the golden token is the same one; by string where a side tells no id."""
    if one.id is not None and other.id is not None:
        return one.id == other.id
    return one.text == other.text or not one.text or not other.text


def _known(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
