"""Reports made by hand or by seed, for tests of everything that reads one."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from accuracy.decision import State, Tests, decide, noise_means, verdict
from accuracy.policy import Policy
from accuracy.report.model import Report, Side, Worst
from accuracy.types import (
    HIT,
    MISS,
    Capabilities,
    Condition,
    Cost,
    Decision,
    Fingerprint,
    Gate,
    GateResult,
    Mode,
    Reason,
    Sample,
    Suspect,
    Verdict,
)

NOISE = 0.002  # nats
POLICY = Policy()


def sample(index: int = 0, **changed: Any) -> Sample:
    """A clean prompt: as far from the reference as the reference is from itself."""
    base = Sample(
        index, f"item-{index:03d}", "Chat", "Text", Condition(), Mode.STEPWISE, NOISE, 2 * NOISE, NOISE, 2 * NOISE, 0.0, max_kl=0.01,
        worst=3, positions=8,
    )  # fmt: skip
    return replace(base, **changed)


def crossed(count: int, seed: int = 1, **fault: Any) -> tuple[Sample, ...]:
    """Prompts under every combination of load, cache state, replica and stratum, in a seeded order. A prompt is bad where its condition has
    all of `fault` (stratum, prefix_cache, concurrency, replica); `fault={}` leaves all clean."""
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        condition = Condition(draw.choice((1, 8, 64)), draw.choice((MISS, HIT)), draw.choice(("a", "b", "c")))
        stratum = ("Chat", "Code", "LongContext", "Tools")[index % 4]
        seen = {
            "stratum": stratum,
            "prefix_cache": condition.prefix_cache,
            "concurrency": condition.concurrency,
            "replica": condition.replica,
        }
        bad = bool(fault) and all(seen[name] in value if isinstance(value, tuple) else seen[name] == value for name, value in fault.items())
        spread = math.exp(draw.gauss(0, 0.3))
        far = NOISE * spread * (40 if bad else 1)
        rows.append(sample(index, stratum=stratum, condition=condition, d_kl=far, d_sq=2 * far, max_kl=20 * far, bias=draw.gauss(0, 0.001)))
    return tuple(rows)


def decided(samples: tuple[Sample, ...], policy: Policy = POLICY, **changed: Any) -> Report:
    """A report whose decision follows from its samples. Those after the verdict are left out, as in a run."""
    strata = {name: sum(s.stratum == name for s in samples) for name in {s.stratum for s in samples}}
    conditions = tuple(dict.fromkeys(s.condition for s in samples))
    noise = noise_means(((s.stratum, s.noise_kl, s.noise_sq) for s in samples), policy)
    tests = Tests.of(policy, strata, noise, top_k=5, conditions=conditions)
    state = State.start(tests)
    while state.prompts < len(samples) and verdict(tests, state) is None:
        state = state.advance(tests, samples[state.prompts])
    left = state.prompts == len(samples)
    return report(
        decision=decide(tests, state, exhausted=left), policy=policy, strata=tuple(sorted(strata.items())), exhausted=left,
        samples=samples[: state.prompts], conditions=conditions, noise=tuple((name, *pair) for name, pair in sorted(noise.items())),
        **changed,
    )  # fmt: skip


def gate(**changed: Any) -> GateResult:
    return replace(GateResult(Gate.TOKENS, "Chat", "kl", 30, 0.4, (0.3, 0.5), 0.5, 120.0, 0.01, "Pass"), **changed)


def report(**changed: Any) -> Report:
    """A small Promote with everything filled in."""
    print_ = Fingerprint("nvidia-h100-sxm", weights="sha256:" + "ab" * 32, driver="570.1", extra={"python": "3.11"})
    base = Report(
        made="2026-11-28T12:00:00Z",
        decision=Decision(Verdict.PROMOTE, Reason.EQUIVALENT, "every test passed", 60, (gate(),), 1.06, 0.02, 0.99),
        policy=POLICY,
        reference=Side("nvidia-h100-sxm", "qwen3-32b", print_),
        candidate=Side("huawei-910c-752", "qwen3-32b", replace(print_, profile="huawei-910c-752")),
        golden=(("core", "sha256:" + "77" * 32, 720),),
        mode=Mode.STEPWISE,
        strata=(("Chat", 30), ("Code", 30), ("LongContext", 30), ("Tools", 30)),
        noise=(("Chat", NOISE, 2 * NOISE), ("Code", NOISE, None)),
        samples=crossed(60),
        uncovered=("images: the golden sets have none",),
        suspects=(Suspect("Batching", 0.75, "3 of 4"),),
        worst=(Worst("item-003", 5, 0.25, "text"),),
        cost=(Cost(), Cost(480, 90_000, 480, 61.5)),
        capabilities=(Capabilities(20, engine="vllm"), Capabilities(5, engine="mindie", notes=("slow",))),
        top_k=5,
        replicas=("a", "b", "c"),
        record_digest="sha256:" + "99" * 32,
        seed=7,
        conditions=(Condition(), Condition(8, HIT, "a")),
    )
    return replace(base, **changed)


def blocked() -> Report:
    """A Block with a failed test, and bad prompts on cache hits only."""
    gates = (
        gate(decision="Fail", estimate=0.9, evidence_promote=0.001, evidence_block=1e4, message="too far"),
        gate(stratum="Code", decision="Open"),
    )
    decision = Decision(Verdict.BLOCK, Reason.NOT_EQUIVALENT, "Tokens in Chat: 20 times the noise, allowed is 2", 60, gates, 20.0)
    return report(decision=decision, samples=crossed(60, prefix_cache=HIT))
