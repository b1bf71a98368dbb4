"""What a decision says to people: which test, how far, how far it may be. Pure; no decision reads it."""

from __future__ import annotations

from collections.abc import Sequence

from accuracy.ledger import FINE, Tally
from accuracy.policy import Policy
from accuracy.types import Gate, GateResult

NAMED = 3  # tests that a message names
_WAYS = {"kl": "KL divergence in nats", "sq": "squared difference of the golden tokens' log-probabilities"}


def hard(code: str, item: str) -> str:
    return f"hard fault {code} at prompt {item}"


def block(result: GateResult, threshold: float) -> str:
    evidence = figure(result.evidence_block)
    return f"{name(result)}: {result.message}; evidence {evidence} against it, {figure(threshold)} are enough"


def promote(tests: int, prompts: int, ratio: float | None, rate: float | None, policy: Policy, own_reference: bool) -> str:
    what = "consistent with itself" if own_reference else "equivalent to the reference"
    parts = [f"{what}: all {tests} tests passed after {prompts} prompts"]
    if ratio is not None:
        parts.append(f"distance {figure(ratio)} times the reference's own noise")
    if rate is not None:
        parts.append(f"at most {figure(100 * rate)} % bad prompts at {figure(100 * (1 - policy.alpha))} % confidence")
    return "; ".join(parts)


def inconclusive(open_: Sequence[GateResult], tests: int, prompts: int, policy: Policy) -> str:
    if not open_:
        return f"{prompts} prompts are used up, at least {policy.min_prompts} are needed: add prompts to the golden sets"
    left = _named(open_, policy)
    return f"{prompts} prompts are used up and {len(open_)} of {tests} tests not decided: {left}"


def running(open_: Sequence[GateResult], tests: int, prompts: int, policy: Policy) -> str:
    passed = f"{prompts} of at most {policy.max_prompts} prompts, {tests - len(open_)} of {tests} tests passed"
    return passed if not open_ or not prompts else f"{passed}; slowest: {_named(open_, policy, 1)}"


def gate(result: GateResult, tally: Tally, policy: Policy) -> str:
    """One test in one sentence, without its name."""
    if not tally.prompts:
        told = "not measured by any prompt"
        if result.gate is Gate.TASKS:
            told += "; add task items to the golden sets, or set requireTasks: false for this pair"
        return told
    unknown = f", {tally.unknown} prompts told nothing" if tally.unknown else ""
    estimate = result.estimate if result.estimate is not None else 0.0
    if result.gate is Gate.TAIL:
        bad = round(estimate * tally.prompts)
        limits = f"a position beyond {figure(policy.margins.tail_kl)} nats, a confident token swapped, or an error"
        return f"{bad} bad prompts of {tally.prompts} (allowed: below {figure(100 * result.boundary)} %): {limits}{unknown}"
    if result.gate is Gate.BIAS:
        way = "more" if result.statistic == "bias+" else "less"
        allowed = f"(allowed: below {figure(result.boundary)})"
        return f"gives the golden tokens {figure(estimate)} nats {way} than the reference on average {allowed}{unknown}"
    if result.gate is Gate.TASKS:
        points = 100 * (2 * estimate - 1)
        return (
            f"{figure(points)} points below the reference in the mean (allowed: below {figure(policy.margins.task_margin_points)}){unknown}"
        )
    far, limit = tally.far / tally.prompts / FINE, tally.allowed / tally.prompts / FINE
    other = "from itself under another condition" if result.gate is Gate.SELF_CONSISTENCY else "from the reference"
    times = f", {figure(policy.margins.noise_ratio)} times its noise" if policy.margins.noise_ratio is not None else ""
    measure = _WAYS.get(result.statistic, result.statistic)
    return f"{figure(far)} per token {other} ({measure}; allowed: {figure(limit)}{times}){unknown}"


def name(result: GateResult) -> str:
    """`Tokens in stratum Code`, `Tokens on replica b`, `Tail`."""
    kind, _, value = result.stratum.partition("=")
    where = {
        "concurrency": f" with {value} requests in flight",
        "prefixCache": f" on prefix-cache {'hits' if value == 'Hit' else 'misses'}",
        "replica": f" on replica {value}",
    }
    if value and kind in where:
        return f"{result.gate}{where[kind]}"
    return f"{result.gate} in stratum {result.stratum}" if result.stratum else str(result.gate)


def figure(value: float) -> str:
    """Three digits: 0.0044, 23, 1.3e+04."""
    return f"{value:.3g}"


def _named(open_: Sequence[GateResult], policy: Policy, most: int = NAMED) -> str:
    rows = sorted(open_, key=lambda r: (r.evidence_promote, r.gate, r.stratum, r.statistic))[:most]
    told = [f"{name(r)} ({r.message}; evidence {figure(r.evidence_promote)} of {figure(1 / policy.alpha)})" for r in rows]
    return "; ".join(told) + ("; ..." if len(open_) > most and most > 1 else "")
