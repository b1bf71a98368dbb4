"""Where two endpoints first say something else: both asked the same, greedily, token by token side by side. For people; it decides nothing.

A difference alone is no fault: rounding turns close calls, so the reference's margin at that place is what matters. Texts after the first
difference are two different stories and are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from accuracy.http import prompts
from accuracy.http.client import Client, RefusedError
from accuracy.http.probe import dialect_of
from accuracy.http.prompts import Prompt
from accuracy.http.scoring import generate, together
from accuracy.types import Event, Item, Position, Scores, Token

MOST_TOKENS = 1024
Kind = Literal["Same", "Token", "Length", "Failed"]


@dataclass(frozen=True, slots=True)
class Side:
    """One side's answer. `alternatives` are those at the first difference, most likely first; () = not told."""

    text: str
    prompt_tokens: int | None
    finish_reason: str
    alternatives: tuple[Token, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """`place`: of the first token that differs, from 0; None = none does. `agreed`: the text before it. `margin`: by how much the
    reference prefers its own token there to the candidate's, in nats; a lower bound if `at_least`; None = not told."""

    item: str
    kind: Kind
    reference: Side
    candidate: Side
    place: int | None = None
    agreed: str = ""
    margin: float | None = None
    at_least: bool = False
    rendered: str = ""  # how the two rendered the prompt, where that differs already


async def first_difference(reference: Client, candidate: Client, item: Item, tokens: int = 64, top_k: int = 5) -> Difference:
    """Asks both (already probed) for `tokens` tokens. Each side gets the item as a user would send it: chat where both chat, else text.

    Raises UnavailableError and RefusedError.
    """
    known = min(top_k, dialect_of(reference).capabilities.top_k, dialect_of(candidate).capabilities.top_k)
    sides = (reference, candidate)
    ids = await together([_rendered(side, item) for side in sides])
    asked = [Prompt(ids=own) if all(ids) else Prompt(text=prompts.plain(item)) for own in ids]
    both = await together([generate(side, item, prompt, tokens, known) for side, prompt in zip(sides, asked, strict=True)])
    return compared(item.id, both[0], both[1], rendered=_rendering(ids[0], ids[1]))


async def _rendered(client: Client, item: Item) -> tuple[int, ...]:
    """The prompt's ids as this side makes them; () where it does not tell them, or does not take ids."""
    if not dialect_of(client).capabilities.token_ids_in:
        return ()
    try:
        return await prompts.render(client, item)
    except RefusedError:
        return await prompts.render(client, item, tools=False)


def _rendering(reference: Sequence[int], candidate: Sequence[int]) -> str:
    if not reference or not candidate or tuple(reference) == tuple(candidate):
        return ""
    place = next((n for n, (a, b) in enumerate(zip(reference, candidate, strict=False)) if a != b), min(len(reference), len(candidate)))
    told = [str(side[place]) if place < len(side) else "nothing" for side in (reference, candidate)]
    return (
        f"the prompt is rendered to {len(reference)} and {len(candidate)} tokens; token {place} is {told[0]} on the reference, "
        f"{told[1]} on the candidate"
    )


def compared(item: str, reference: Scores, candidate: Scores, rendered: str = "") -> Difference:
    """Two greedy answers to one item. Pure."""
    sides = (
        Side(reference.text, reference.prompt_tokens, reference.finish_reason, (), reference.events),
        Side(candidate.text, candidate.prompt_tokens, candidate.finish_reason, (), candidate.events),
    )
    if reference.events or candidate.events:
        return Difference(item, "Failed", *sides, rendered=rendered)
    ours, theirs = reference.positions, candidate.positions
    if not ours or not theirs:  # texts only: letters instead of tokens
        return _texts(item, *sides, rendered)
    agreed = ""
    for place, (left, right) in enumerate(zip(ours, theirs, strict=False)):
        if left is None or right is None:
            continue
        if not _same(left.token, right.token):
            margin, at_least = _margin(left, right.token)
            mine, other = (_with(side, at) for side, at in zip(sides, (left, right), strict=True))
            return Difference(item, "Token", mine, other, place, agreed, margin, at_least, rendered)
        agreed += left.token.text
    if len(ours) != len(theirs):
        return Difference(item, "Length", *sides, min(len(ours), len(theirs)), agreed, rendered=rendered)
    return Difference(item, "Same", *sides, agreed=agreed, rendered=rendered)


def _texts(item: str, reference: Side, candidate: Side, rendered: str) -> Difference:
    if reference.text == candidate.text:
        return Difference(item, "Same", reference, candidate, agreed=reference.text, rendered=rendered)
    pairs = zip(reference.text, candidate.text, strict=False)
    place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(reference.text), len(candidate.text)))
    return Difference(item, "Token", reference, candidate, None, reference.text[:place], rendered=rendered)


def _with(side: Side, place: Position) -> Side:
    alternatives = place.top if any(_same(place.token, token) for token in place.top) else (place.token, *place.top)
    return Side(side.text, side.prompt_tokens, side.finish_reason, tuple(alternatives), side.events)


def _same(a: Token, b: Token) -> bool:
    """By id where both tell it: two tokens may have one string."""
    return a.id == b.id if a.id is not None and b.id is not None else a.text == b.text


def _margin(reference: Position, other: Token) -> tuple[float | None, bool]:
    """(how much less likely the other's token is on the reference, whether that is a lower bound)."""
    known = [token for token in reference.top if _same(token, other)]
    if known:
        return reference.token.logprob - known[0].logprob, False
    if reference.top:
        return max(reference.token.logprob - min(token.logprob for token in reference.top), 0.0), True
    return None, False
