"""Makes the reference record: what the reference says to each item, and how far it is from itself under another load.

A continuation is sampled once at temperature 1 with a seed of its own, so that the golden tokens are natural ones and not only favourites;
then every item is scored twice. The second time others run beside it and its prompt lies in the cache: the same request sent again would
be equal to the last bit and say nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from accuracy.golden import fits
from accuracy.http import prompts
from accuracy.http.answers import good
from accuracy.http.client import Client, HttpError, RefusedError, UnavailableError
from accuracy.http.facts import facts
from accuracy.http.probe import Agreement, agree, dialect_of
from accuracy.http.scoring import STEPS, generate, mode_of, score, together
from accuracy.measure import divergence
from accuracy.policy import Policy
from accuracy.record import Record, RecordItem, rounded
from accuracy.types import Capabilities, Condition, Fingerprint, GoldenSet, Item, Mode, Scores

BATCH = 8  # items that the replicate scores together
FEW_ALTERNATIVES = 3  # below it a sampled token is seldom among those told, so the greedy one is golden
SINGLE = Condition(1, "Miss")
CROWDED = Condition(BATCH, "Hit")
# nats and nats squared: what the order of sums in 32 bits makes of an answer (1e-13 measured), and no format that devices serve with
LEAST_NOISE = 1e-9


class NoiseUnmeasuredError(Exception):
    """The reference repeats itself to the last bit or nearly so, so that nothing says how far rounding alone may go."""


class CaptureError(Exception):
    """No item could be captured; the message says why."""


@dataclass(frozen=True, slots=True)
class Captured:
    """How far a capture is."""

    done: int
    total: int
    stratum: str
    items: tuple[RecordItem, ...] = ()  # those that it took so far


def temperature(top_k: int, mode: Mode) -> float:
    """Of the continuations. Greedy where a sampled token would not be told again."""
    return 0.0 if mode is Mode.FREE_RUN or (mode is Mode.STEPWISE and top_k < FEW_ALTERNATIVES) else 1.0


def positions_of(item: str, length: int, mode: Mode, policy: Policy) -> tuple[int, ...]:
    """Which positions of a continuation of this length are scored: all, or in Stepwise a few that the seed picks, the first among them."""
    most = min(length, policy.positions_per_prompt)
    if mode is not Mode.STEPWISE or most <= STEPS:
        return tuple(range(most))
    rest = sorted(range(1, most), key=lambda at: _draw(policy.seed, item, at))
    return tuple(sorted((0, *rest[: STEPS - 1])))


def _draw(seed: int, item: str, at: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{item}/{at}".encode()).digest()[:8], "big")


async def capture(
    client: Client,
    golden: Sequence[GoldenSet],
    policy: Policy,
    *,
    capabilities: Capabilities | None = None,
    now: str,
    on_progress: Callable[[Captured], None] | None = None,
    noise_client: Client | None = None,
    items: Sequence[Item] | None = None,
    fingerprint: Fingerprint | None = None,
    own_sets: bool = False,
    known: Sequence[RecordItem] = (),
) -> Record:
    """The record of `items` (None = all of the sets), in their order; those that the endpoint does not take are left out.

    `capabilities` are those of the side that it will be compared with (None = the reference's own). `noise_client` is another replica of
    the reference, which takes the replicate's part. `own_sets` keeps the user's own prompts inside, for an export. `known` is what an
    interrupted capture has; items up to the last of them are not asked again. Raises CaptureError, ProbeError and UnavailableError;
    unmeasured noise is not judged here (`judge_noise`).
    """
    own = dialect_of(client).capabilities
    agreed = agree(own, capabilities if capabilities is not None else own, policy.modes, policy.top_k)
    if isinstance(agreed, str):
        raise CaptureError(agreed)
    chosen = list(items) if items is not None else [item for one in golden for item in one.items]
    found: list[RecordItem] = list(known)
    have = {item.item for item in known}
    start = max((n + 1 for n, item in enumerate(chosen) if item.id in have), default=0)
    why = ""
    for low in range(start, len(chosen), BATCH):
        part = chosen[low : low + BATCH]
        made: list[tuple[Item, RecordItem]] = []
        for item, begun in zip(part, await together([_tried(client, item, agreed, policy) for item in part]), strict=True):
            if isinstance(begun, RecordItem):
                made.append((item, begun))
            else:
                why = why or f"{item.id}: {begun}"
        found += await _scored(client, noise_client or client, made, agreed, policy)
        if lost := {item.id for item, _ in made} - {item.item for item in found}:
            why = why or f"{min(lost)}: none of its positions could be scored"
        if on_progress is not None and part:
            on_progress(Captured(min(low + BATCH, len(chosen)), len(chosen), part[-1].stratum, tuple(found)))
    if not found:
        raise CaptureError(f"{client.name} took none of {len(chosen)} items" + (f" ({why})" if why else ""))
    taken = {item.item for item in found}
    record = Record(
        model=client.model,
        mode=agreed.mode,
        top_k=agreed.top_k,
        made=now,
        seed=policy.seed,
        fingerprint=fingerprint or Fingerprint(),
        golden=tuple((one.name, one.digest) for one in golden),
        policy_digest=policy.digest,
        items=tuple(found),
        facts=await facts(client, [item for item in chosen if item.id in taken]),
        capabilities=replace(
            own, notes=own.notes if len(found) == len(chosen) else (*own.notes, f"left out {len(chosen) - len(found)} items: {why}"[:300])
        ),
        sets=tuple(one for one in golden if not one.builtin) if own_sets else (),
    )
    return await asyncio.to_thread(rounded, record)


def judge_noise(items: Sequence[RecordItem], policy: Policy) -> None:
    """Raises NoiseUnmeasuredError where most items have no noise and the policy states none: no margin would be left for rounding."""
    if policy.noise_kl is not None or not items:
        return
    still = sum(1 for item in items if max(item.noise_kl or 0.0, item.noise_sq or 0.0) < LEAST_NOISE)
    if 2 * still > len(items):
        raise NoiseUnmeasuredError(
            f"the reference repeated {still} of {len(items)} items without a difference, so its noise is not known; capture with its"
            " deterministic or batch-invariant mode off, or state accuracy.noiseKL"
        )


async def _tried(client: Client, item: Item, agreed: Agreement, policy: Policy) -> RecordItem | str:
    """The item with its golden continuation, or why there is none."""
    try:
        return await _continued(client, item, agreed, policy)
    except RefusedError as error:
        return error.message


async def _continued(client: Client, item: Item, agreed: Agreement, policy: Policy) -> RecordItem | str:
    """The item with its golden continuation, or why there is none. Raises RefusedError."""
    context = dialect_of(client).capabilities.max_model_len
    ids: tuple[int, ...] = ()
    if agreed.ids:
        ids = await prompts.render(client, item, tools=True) if not item.tools else await _with_tools(client, item)
        if not ids:
            return "its prompt has no token"
    if not fits(item, context, len(ids) or None, reserve=2):
        return f"its prompt does not fit the context of {context} tokens"
    room = policy.positions_per_prompt if context is None else min(policy.positions_per_prompt, context - 1 - len(ids)) if ids else 8
    prompt = prompts.Prompt(ids=ids) if ids else prompts.Prompt(text=prompts.plain(item))
    natural = await _natural(client, item, ids, room) if item.continuation and ids else None
    if natural is not None:
        return RecordItem(item.id, prompt_ids=ids, prompt_tokens=len(ids), continuation=natural, pieces=("",) * len(natural))
    sampled = temperature(agreed.top_k, agreed.mode)
    seed = _draw(policy.seed, item.id, -1) >> 34  # engines take 31 bits, some no more
    asked = {"temperature": sampled, **({"seed": seed} if sampled else {}), **_readable(client)}
    said = await generate(client, item, prompt, max(1, room), agreed.top_k, body=asked)
    whole = [p for p in said.positions if p is not None]
    if said.events:
        return f"{said.events[0].code} {said.events[0].detail}".strip()
    if not whole:
        return "it is answered with nothing"
    if len(whole) != len(said.positions):
        return "some tokens of the answer have no log-probability"
    if len(said.generated) == len(whole):
        continuation: tuple[int | None, ...] = said.generated
    else:
        continuation = tuple(p.token.id for p in whole)
    if agreed.ids and any(i is None for i in continuation):
        return "some tokens of the answer have no id"
    pieces = tuple(p.token.text for p in whole)
    if not agreed.ids:
        continuation, pieces = _clean(continuation, pieces)
    return RecordItem(
        item.id,
        prompt_ids=ids,
        prompt_tokens=len(ids) or said.prompt_tokens,
        continuation=continuation,
        pieces=pieces,
        text=said.text,
        finish_reason=said.finish_reason,
    )


def _readable(client: Client) -> dict[str, bool]:
    """Tokens as strings, where ids come beside them."""
    return {"return_tokens_as_token_ids": False} if "return_token_ids" in dialect_of(client).tell else {}


async def _with_tools(client: Client, item: Item) -> tuple[int, ...]:
    """The ids of an item with tools; an engine that takes no tools is asked without them."""
    try:
        return await prompts.render(client, item)
    except RefusedError:
        return await prompts.render(client, item, tools=False)


async def _natural(client: Client, item: Item, ids: tuple[int, ...], room: int) -> tuple[int, ...] | None:
    """The ids of the item's own continuation, where the text cut there keeps the prompt's ids."""
    whole = await prompts.encode(client, item.text + item.continuation)
    return whole[len(ids) : len(ids) + room] if len(whole) > len(ids) and whole[: len(ids)] == ids else None


def _clean(continuation: tuple[int | None, ...], pieces: tuple[str, ...]) -> tuple[tuple[int | None, ...], tuple[str, ...]]:
    """Up to the first piece that is no whole text: half a character cannot be sent as text."""
    end = next((n for n, piece in enumerate(pieces) if not piece or "\ufffd" in piece), len(pieces))
    return continuation[:end], pieces[:end]


async def _scored(
    client: Client, other: Client, made: Sequence[tuple[Item, RecordItem]], agreed: Agreement, policy: Policy
) -> list[RecordItem]:
    """Scores and noise of a batch of items."""
    plans = [
        (item, begun, mode, at)
        for item, begun in made
        if (mode := mode_of(agreed.mode, len(begun.prompt_ids))) and (at := positions_of(item.id, len(begun.continuation), mode, policy))
    ]
    begun: list[tuple[Item, RecordItem, Mode]] = []
    first: list[Scores] = []
    for item, golden, mode, at in plans:
        said = await score(client, item, golden, mode, at, SINGLE, agreed.top_k, told_only=True)
        usable = tuple(p for p in said.positions if p is not None and not math.isnan(p.token.logprob))
        if usable and not said.events:  # what the reference itself cannot say is no golden item
            begun.append((item, replace(golden, positions=usable), mode))
            first.append(replace(said, positions=usable))
    limit = asyncio.Semaphore(BATCH)
    again = await together(
        [
            score(other, item, golden, mode, [p.index for p in golden.positions], CROWDED, agreed.top_k, limit=limit)
            for item, golden, mode in reversed(begun)
        ]
    )
    found: list[RecordItem] = []
    judged = await together([good(client, item, limit) for item, _, _ in begun])
    for (_, golden, _), one, two, answer in zip(begun, first, reversed(again), judged, strict=True):
        apart = divergence(one, two)
        found.append(replace(golden, noise_kl=apart.d_kl, noise_sq=apart.d_sq, good=answer))
    return found


__all__ = [
    "CaptureError",
    "Captured",
    "HttpError",
    "NoiseUnmeasuredError",
    "UnavailableError",
    "capture",
    "judge_noise",
    "positions_of",
]
