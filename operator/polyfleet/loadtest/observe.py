"""Readings of serving replicas over a time, for `hwprofiles.learn`: nothing is sent to them but GET /metrics.

A scrape that fails, or that does not count output tokens, is left out: unknown is no sample. A replica that cannot be read at all stays in
the result with no sample, so that the answer says "observed for 0 s" and not nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hwprofiles.learn import Observed
from hwprofiles.model import Throughput
from hwprofiles.observation import Sample
from polyfleet.loadtest.driver import Clock
from polyfleet.loadtest.readings import Readings

INTERVAL_S = 10.0  # well below the 60 s for which two readings vouch for the time between them

Scrape = Callable[[], Awaitable[Readings | None]]


def sample(at_s: float, readings: Readings | None) -> Sample | None:
    """A reading as the learner takes it; None if the engine does not count its output."""
    if readings is None or readings.output_tokens is None:
        return None
    return Sample(
        at_s,
        readings.output_tokens,
        readings.running,
        readings.waiting,
        readings.prompt_tokens,
        readings.requests,
        readings.preemptions,
    )


async def observe(
    replicas: Mapping[str, Scrape],
    seconds: float,
    *,
    clock: Clock,
    stop: asyncio.Event,
    tell: Callable[[str], None] = lambda _: None,
    interval_s: float = INTERVAL_S,
) -> list[Observed]:
    """Reads every replica every `interval_s` until `seconds` are over or `stop` is set; sorted by name."""
    found: dict[str, list[Sample]] = {name: [] for name in sorted(replicas)}
    begun, told = clock(), 0.0
    while True:
        names = list(found)
        readings = await asyncio.gather(*(replicas[name]() for name in names))
        now = clock()
        for name, reading in zip(names, readings, strict=True):
            taken = sample(now, reading)
            if taken is not None:
                found[name].append(taken)
        if now - begun - told >= 60 or now - begun >= seconds:
            told = now - begun
            waiting = sum(1 for rows in found.values() if rows and (rows[-1].waiting or 0) > 0)
            tell(f"{told:.0f} of {seconds:.0f} s: {waiting} of {len(found)} replicas have a request waiting")
        left = begun + seconds - now
        if left <= 0 or stop.is_set():
            return [Observed(name, tuple(rows)) for name, rows in found.items()]
        try:
            async with asyncio.timeout(min(interval_s, left)):
                await stop.wait()
        except TimeoutError:
            continue


def renewed(raw: list[Any], learned: Throughput, merge: Callable[[list[Throughput], Throughput], tuple[Throughput, ...]]) -> list[Any]:
    """The raw entries of a profile with the learned one laid over by `merge`; every other entry stays as it was, also one that this version
    cannot read."""
    from pydantic import ValidationError

    parsed: list[Throughput | None] = []
    for item in raw:
        try:
            parsed.append(Throughput.parse(item))
        except ValidationError:
            parsed.append(None)
    kept = {id(entry) for entry in merge([entry for entry in parsed if entry is not None], learned)}
    result: list[Any] = []
    placed = False
    for item, entry in zip(raw, parsed, strict=True):
        if entry is None or id(entry) in kept:
            result.append(item)
        elif not placed:
            result.append(learned.dump_set())
            placed = True
    return result if placed else [*result, learned.dump_set()]
