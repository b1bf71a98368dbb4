"""Sends a few planned prompts, each under its condition: alone or with others in flight, its prompt cached or not, on its replica.

Results come back in the order of the plan, whatever ran beside what: the decision must not depend on who answered first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from accuracy.design import Planned
from accuracy.http.client import Client, HttpError
from accuracy.http.examine import Examined, Examiner
from accuracy.http.probe import GREEDY, dialect_of
from accuracy.http.prompts import prompt_of
from accuracy.http.scoring import STEPS, mode_of, together
from accuracy.record import RecordItem
from accuracy.types import Item, Mode

FIRST = 4  # prompts of the first window: an engine that talks nonsense is found before more is spent
MOST = 64
FILLER_TOKENS, FILLER_PROMPT = 8, 64


def windows(start: int, end: int, round_size: int) -> Iterator[range]:
    """Ranges of the plan: a few prompts, then up to the next end of a round, then whole rounds, growing."""
    low, rounds = start, 1
    if start == 0 and round_size > FIRST and end > FIRST:
        yield range(FIRST)
        low = FIRST
    while low < end:
        high = min(end, (low // round_size + rounds) * round_size)
        yield range(low, high)
        low = high
        rounds = min(rounds * 2, max(1, MOST // round_size))


async def send(
    examiner: Examiner,
    clients: Mapping[str, Client],
    planned: Sequence[Planned],
    record: Mapping[str, RecordItem],
) -> list[Examined]:
    """Examines these prompts. `clients` by replica name. Raises UnavailableError, RefusedError."""
    groups: dict[tuple[str, int], list[Planned]] = {}
    for one in planned:
        groups.setdefault((one.condition.replica, one.condition.concurrency), []).append(one)
    found: dict[int, Examined] = {}
    for (replica, concurrency), group in sorted(groups.items()):
        client = clients[replica] if replica in clients else next(iter(clients.values()))
        if concurrency == 1:
            results = [await examiner.examine(client, one, record[one.item.id], None) for one in group]
        else:
            results = await _crowded(examiner, client, group, record, concurrency)
        found.update({one.index: result for one, result in zip(group, results, strict=True)})
    return [found[index] for index in sorted(found)]


async def _crowded(
    examiner: Examiner, client: Client, group: Sequence[Planned], record: Mapping[str, RecordItem], concurrency: int
) -> list[Examined]:
    """All of the group at once, and beside them short requests, one after the other, so that `concurrency` are in flight throughout."""
    limit = asyncio.Semaphore(concurrency)
    each = [STEPS if mode_of(examiner.mode, len(record[one.item.id].prompt_ids)) is Mode.STEPWISE else 1 for one in group]
    missing = max(0, concurrency - sum(each))
    beside = [group[n % len(group)].item for n in range(missing)]
    fillers = [asyncio.create_task(_fill(client, item, record[item.id])) for item in beside]
    try:
        return await together([examiner.examine(client, one, record[one.item.id], limit) for one in group])
    finally:
        for filler in fillers:
            filler.cancel()
        await asyncio.gather(*fillers, return_exceptions=True)


async def _fill(client: Client, item: Item, golden: RecordItem) -> None:
    """Short requests for company; what they answer does not matter. Backwards, so that they leave no golden prompt in the cache."""
    if not dialect_of(client).capabilities.completions:
        return
    told = dialect_of(client).capabilities.max_model_len
    length = FILLER_PROMPT if told is None else max(1, min(FILLER_PROMPT, told - FILLER_TOKENS - 1))
    backwards = prompt_of(item, golden.prompt_ids).wire[:length][::-1]
    try:
        while True:
            await client.complete({"prompt": backwards, "max_tokens": FILLER_TOKENS, **GREEDY})
    except HttpError:
        pass  # it is the scored requests that count
