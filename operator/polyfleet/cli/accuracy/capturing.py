"""`polyfleet accuracy capture`: the reference's answers in a file, for places that the reference cannot be reached from."""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TextIO

from accuracy import costs
from accuracy.design import plan_order
from accuracy.golden import combine
from accuracy.http.capture import Captured, CaptureError, NoiseUnmeasuredError, capture, judge_noise
from accuracy.http.client import HttpError, connect
from accuracy.http.endpoint import Endpoint, EndpointError
from accuracy.http.probe import ProbeError, probe
from accuracy.policy import Policy
from accuracy.record import Record, RecordError, digest, encode
from accuracy.report import words
from accuracy.types import GoldenSet, Item, Mode
from polyfleet.cli.accuracy import asked
from polyfleet.cli.accuracy.folder import put
from polyfleet.cli.accuracy.progress import Bar
from polyfleet.cli.accuracy.running import agreed, interrupting, moment, say
from polyfleet.cli.failure import FINE, INCONCLUSIVE, Failure


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    golden = asked.sets(chosen)
    policy = asked.policy(chosen, golden)
    reference = asked.endpoint("reference", chosen.reference, chosen, os.environ)
    replicate = asked.endpoint("reference", chosen.replicate, chosen, os.environ, "replicate") if chosen.replicate else None
    items = [planned.item for planned in plan_order(combine(golden), policy)][: chosen.items or policy.max_prompts]
    where = Path(chosen.out)
    if not where.parent.is_dir():
        raise Failure(f"cannot write --out {where}", f"{where.parent} is no folder", "give another file with --out")
    names = ", ".join(one.name for one in golden)
    cost, steps = (costs.reference(items, policy, mode) for mode in (Mode.PROMPT_LOGPROBS, Mode.STEPWISE))
    more = f", {words.about(steps.requests)} where it cannot score a prompt at once" if Mode.STEPWISE in policy.modes else ""
    say(err, f"{len(items)} items of {names}: about {words.about(cost.requests)} requests to {reference.label}{more}")
    if not agreed(chosen, err):
        say(err, "nothing was sent")
        return FINE
    record = asyncio.run(_capture(reference, replicate, golden, policy, items, err))
    try:
        content = encode(record)
        put(where, content)
    except (OSError, RecordError) as error:
        raise Failure(f"cannot write {where}", str(error), "give another file with --out") from error
    print(
        f"{where}: {len(record.items)} items, {record.mode}, {record.top_k} alternatives, {len(content) >> 10} KiB, {digest(content)}",
        file=out,
    )
    try:
        judge_noise(record.items, policy)
    except NoiseUnmeasuredError as error:
        raise Failure(
            f"{where} is written, and a run with it will hold", str(error), "capture again, or run with --noise-kl", INCONCLUSIVE
        ) from error
    say(
        err, f"next: polyfleet accuracy run --record {where} --candidate URL; into a cluster: polyfleet accuracy import {where} --name NAME"
    )
    return FINE


async def _capture(
    reference: Endpoint, replicate: Endpoint | None, golden: tuple[GoldenSet, ...], policy: Policy, items: list[Item], err: TextIO
) -> Record:
    bar = Bar(err)

    def progress(now: Captured) -> None:
        bar.show(now.done, now.total, now.stratum)

    async def work() -> Record:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connect(reference))
            other = await stack.enter_async_context(connect(replicate)) if replicate is not None else None
            for one in (client, other):
                if one is not None:
                    await probe(one)
            return await capture(client, golden, policy, now=moment(), on_progress=progress, noise_client=other, items=items, own_sets=True)

    task = asyncio.ensure_future(work())
    try:
        with interrupting(task.cancel):
            return await task
    except asyncio.CancelledError:
        raise Failure("interrupted", "a capture is only written when it is whole", "repeat the command") from None
    except (HttpError, ProbeError, CaptureError, EndpointError) as error:
        raise Failure(
            f"{reference.label} cannot be captured", str(error), f"curl {reference.base}/v1/models  # whether it answers at all"
        ) from error
    finally:
        bar.close()
