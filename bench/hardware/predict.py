"""Do entries that `polyfleet bench` measured at 1, 2 and 8 in flight predict 4? Target: within 15 %, median of five repetitions.

Each repetition starts the sandbox engine anew and measures 1, 2, 8 and 4 in several short rounds, each in an order of its own; of each
concurrency the round with the median rate counts. (One long stage each is not enough where the machine does other things as well: its
speed then changes by a factor of two within a minute, and 2 in flight were slower than 1.) Of the first three the command's own functions
make entries, `hwprofiles.performance` is asked for 4, and the answer compared with the fourth. `python -m bench.hardware.predict --help`;
about eight minutes.

Engines: `byte` (default) computes a small model with the engine's own continuous batching, sixteen sequences at once, hundreds of requests
in seconds. `llamacpp` is the real small model with eight slots, about twenty times slower: with its default of four slots, eight requests
in flight are four that run and four that wait, which is another law on both sides of 4 (`four-slots` shows it). `paced` sleeps 30 ms +
0.5 ms per sequence and iteration, so its law is known, and an error there is the load test's own.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import random
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from polyfleet.loadtest import client, identify
from polyfleet.loadtest.entries import Subject, entries
from polyfleet.loadtest.measure import Settings, Stage, measure
from polyfleet.loadtest.stages import from_list
from polyfleet.loadtest.workload import Lengths, Workload

from bench.engine import _free_port
from bench.hardware.results import RESULTS, store
from hwprofiles import load_shipped
from hwprofiles.estimate import Load, Refusal
from hwprofiles.model import Layout, Throughput
from hwprofiles.performance import performance
from tools.paths import ROOT

KNOWN, WANTED = (1, 2, 8), 4
TARGET = 0.15
MODEL, PROFILE = "HuggingFaceTB/SmolLM2-135M-Instruct", "sandbox-nvidia"
LENGTHS = Lengths(20, 20)  # the byte model's context is 64
ENGINES = {
    "byte": ["--backend=byte"],
    "llamacpp": ["--backend=llamacpp", "--max-num-seqs=8"],
    "four-slots": ["--backend=llamacpp"],
    "paced": ["--backend=byte", "--paced"],
}
START_S = 120.0


def started(flags: list[str]) -> tuple[subprocess.Popen[bytes], str]:
    """The engine as a process on loopback, ready to answer."""
    port = _free_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sandbox.engine", f"--model={MODEL}", "--served-model-name=m", "--host=127.0.0.1", f"--port={port}"]
    environ = {**os.environ, "POLYFLEET_THREADS": "1"}
    process = subprocess.Popen([*command, *flags], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begin = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=5) as answer:
                if answer.status == 200:
                    return process, base
        except (urllib.error.URLError, OSError):
            pass
        if process.poll() is not None or time.monotonic() - begin > START_S:
            process.kill()
            raise RuntimeError(f"the engine with {flags} did not become ready in {START_S:g} s (exit {process.poll()})")
        time.sleep(0.05)


def middle(found: Sequence[Stage], concurrency: int) -> Stage:
    """The stage with the median rate among those of this concurrency that give an entry (the lower of two)."""
    rates = sorted((s for s in found if s.concurrency == concurrency and not s.unusable), key=lambda s: s.held.tokens_per_s)
    if not rates:
        raise RuntimeError(f"no stage of {concurrency} in flight gives an entry; repeat with a longer --seconds")
    return rates[(len(rates) - 1) // 2]


async def stages(base: str, order: list[int], seconds: float, seed: int) -> tuple[Stage, ...]:
    """The stages in this order, closed loop: the rate at a number in flight is what is predicted."""
    where = client.Where(base)
    async with client.session(where, max(order)) as http:
        api, scale = await identify.probe(http, where, "m", LENGTHS, f"predict {seed}", 600.0)
        sender = client.Client(where, api, http)
        loop = asyncio.get_running_loop()
        settings = Settings("concurrency", seconds, 3600.0)
        workload = Workload(LENGTHS, seed, f"{time.time_ns()}", scale)
        outcome = await measure(
            sender.send,
            workload,
            settings,
            lambda seen: from_list(order, seen),
            clock=loop.time,
            sleep=asyncio.sleep,
            stop=asyncio.Event(),
            tell=lambda text: print(f"   {text}", flush=True),
        )
    return outcome.stages


def predicted(measured: list[Throughput]) -> float:
    """What the planner makes of a sandbox profile whose only entries are these."""
    spec = load_shipped()[PROFILE].model_copy(update={"throughput": tuple(measured)})
    first = measured[0]
    assert first.input_tokens is not None
    assert first.output_tokens is not None
    found = performance(
        PROFILE,
        spec,
        model_id=MODEL,
        shape=None,
        precision="fp32",
        engine="sandbox",
        engine_version="dev",
        layout=Layout(),
        load=Load(first.input_tokens, first.output_tokens, WANTED),
    )
    if isinstance(found, Refusal):
        raise RuntimeError(f"{found.reason}: {found.message}")
    return found.output_tokens_per_s


def repetition(flags: list[str], seconds: float, rounds: int, seed: int) -> dict[str, object]:
    chance = random.Random(seed)
    order = [c for _ in range(rounds) for c in chance.sample([*KNOWN, WANTED], len(KNOWN) + 1)]
    process, base = started(flags)
    try:
        found = asyncio.run(stages(base, order, seconds, seed))
    finally:
        process.terminate()
        process.wait(timeout=60)
    subject = Subject(PROFILE, MODEL, "fp32", "sandbox", "dev", Layout(), "this machine", False)
    chosen = {c: middle(found, c) for c in (*KNOWN, WANTED)}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    guess = predicted(entries(subject, [chosen[c] for c in KNOWN], Settings("concurrency", seconds), LENGTHS, today))
    real = chosen[WANTED].held.tokens_per_s
    rates = {str(c): round(stage.held.tokens_per_s, 2) for c, stage in sorted(chosen.items())}
    return {"rates": rates, "predicted": round(guess, 2), "error": round(guess / real - 1, 4)}


def repeated(engine: str, repetitions: int, seconds: float, rounds: int) -> dict[str, Any]:
    """The repetitions and their median error, as a share."""
    lines = []
    for number in range(repetitions):
        print(f"repetition {number + 1} of {repetitions}, engine {engine}", flush=True)
        lines.append(repetition(ENGINES[engine], seconds, rounds, number))
        print(f"   rates {lines[-1]['rates']}, predicted {lines[-1]['predicted']}, error {lines[-1]['error']:+.1%}", flush=True)
    errors = [abs(float(str(line["error"]))) for line in lines]
    median = statistics.median(errors)
    met = median <= TARGET
    print(f"errors {', '.join(f'{e:.1%}' for e in errors)}; median {median:.1%}, target {TARGET:.0%}: {'met' if met else 'NOT MET'}")
    return {"median": round(median, 4), "met": met, "repetitions": lines}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.hardware.predict", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="byte")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="least time of one stage")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--record", action="store_true", help=f"write to {RESULTS.relative_to(ROOT)}")
    args = parser.parse_args()
    found = repeated(args.engine, args.repetitions, args.seconds, args.rounds)
    met = bool(found["met"])
    if args.record:
        store(f"predict-{args.engine}", found)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
