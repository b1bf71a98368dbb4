"""Figures of a report that people look at and no decision reads: ratios by group, states of gates, evidence prompt by prompt. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal

from accuracy import layout
from accuracy.decision import DecisionError, OtherRulesError, State, Tests
from accuracy.policy import Policy
from accuracy.report.model import Report
from accuracy.suspects import violates
from accuracy.types import Gate, GateResult, Reason, Sample, Verdict

GateState = Literal["Pass", "Fail", "Open", "NotRun"]
_BY_CONTRACT = (Reason.INPUTS_DIFFER, Reason.CONTRACT_MISMATCH)
_NORMAL_95 = 1.959964  # two-sided


@dataclass(frozen=True, slots=True)
class Ratio:
    """The mean distance of one group of prompts over the reference's own mean noise there."""

    name: str
    statistic: str  # kl or sq
    prompts: int
    bad: int  # prompts that count against the rate of bad ones
    ratio: float | None  # None: no prompt, or no noise to divide by
    low: float | None  # of its 95 % interval (normal approximation over prompts); None: fewer than two prompts
    high: float | None
    boundary: float | None  # kappa x max(noise, floor), at most the cap, over the noise
    distance: float | None  # mean, nats (kl) or nats squared (sq)
    noise: float | None


def statistic(report: Report) -> str:
    """`kl` where alternatives were told, else `sq`."""
    return "kl" if any(sample.d_kl is not None for sample in report.samples) or not report.samples else "sq"


def ratios(report: Report, group: Callable[[Sample], str], which: str = "") -> tuple[Ratio, ...]:
    """One per group, in the order in which the groups appear in `report.strata`, others by name."""
    which = which or statistic(report)
    order = {name: place for place, (name, _) in enumerate(report.strata)}
    groups: dict[str, list[Sample]] = {}
    for sample in report.samples:
        groups.setdefault(group(sample), []).append(sample)
    names = sorted(groups, key=lambda name: (order.get(name, len(order)), name))
    return tuple(ratio(name, groups[name], report.policy, which) for name in names)


def ratio(name: str, samples: Sequence[Sample], policy: Policy, which: str) -> Ratio:
    bad = sum(violates(sample, policy) for sample in samples)
    known = [(distance(sample, which), noise_of(sample, policy, which)) for sample in samples]
    rows = [(far, own) for far, own in known if far is not None and isfinite(far)]
    if not rows:
        return Ratio(name, which, len(samples), bad, None, None, None, None, None, None)
    mean = sum(far for far, _ in rows) / len(rows)
    noise = sum(own for _, own in rows) / len(rows)
    limit = sum(limit_of(own, policy, which) for _, own in rows) / len(rows)
    if noise <= 0:
        return Ratio(name, which, len(samples), bad, None, None, None, None, mean, noise)
    low = high = None
    if len(rows) > 1:
        half = _NORMAL_95 * sqrt(sum((far - mean) ** 2 for far, _ in rows) / (len(rows) - 1) / len(rows))
        low, high = max(mean - half, 0.0) / noise, (mean + half) / noise
    return Ratio(name, which, len(samples), bad, mean / noise, low, high, limit / noise, mean, noise)


def distance(sample: Sample, which: str) -> float | None:
    return sample.d_kl if which == "kl" else sample.d_sq


def noise_of(sample: Sample, policy: Policy, which: str) -> float:
    """The reference's own, as the decision takes it; unknown counts as none, so the floor decides."""
    return layout.noise_of(policy, which, sample.noise_kl if which == "kl" else sample.noise_sq)


def limit_of(noise: float, policy: Policy, which: str) -> float:
    """B of one prompt: kappa x max(noise, floor), at most the cap."""
    return layout.allowed(policy, which, noise)


@dataclass(frozen=True, slots=True)
class GateLine:
    """One gate as a whole."""

    gate: Gate
    state: GateState
    tests: tuple[GateResult, ...]
    open: int  # tests that have not passed


def gate_lines(report: Report) -> tuple[GateLine, ...]:
    """G0 to G7, those that the policy asks for or that have a result."""
    results: dict[Gate, list[GateResult]] = {}
    for result in report.decision.gates:
        results.setdefault(result.gate, []).append(result)
    wanted = [gate for gate in Gate if gate in results or gate in report.policy.gates or gate in (Gate.CONTRACT, Gate.HARD_FAULTS)]
    return tuple(
        GateLine(g, _state(g, results.get(g, []), report), tuple(results.get(g, ())), sum(r.decision != "Pass" for r in results.get(g, ())))
        for g in wanted
    )


def _state(gate: Gate, results: Sequence[GateResult], report: Report) -> GateState:
    if any(result.prompts for result in results):
        found = {result.decision for result in results}
        return "Fail" if "Fail" in found else "Open" if "Open" in found else "Pass"
    if gate is Gate.CONTRACT and report.decision.reason in _BY_CONTRACT:
        return "Fail" if report.decision.verdict is Verdict.BLOCK else "Open"
    if gate is Gate.HARD_FAULTS and (any(sample.hard for sample in report.samples) or report.decision.reason is Reason.HARD_FAULT):
        return "Fail"
    if gate in (Gate.CONTRACT, Gate.HARD_FAULTS) and report.samples:
        return "Pass"
    return "NotRun"


@dataclass(frozen=True, slots=True)
class Curve:
    """Evidence of one test: a point wherever it changed, and one at the end of the run."""

    gate: Gate
    stratum: str
    statistic: str
    points: tuple[tuple[int, float, float], ...]  # (prompts of the whole run, for Promote, for Block)


def curves(report: Report) -> tuple[Curve, ...]:
    """The run again, in its order; () where the samples do not belong to the tests.

    A test over several strata has a point at the end of each round only, because only there it is read, and one at the end of the run.
    """
    try:
        tests = tests_of(report)
        state = State.start(tests)
        points: list[list[tuple[int, float, float]]] = [[] for _ in tests.specs]
        for number, sample in enumerate(report.samples, 1):
            state = state.advance(tests, sample)
            whole = state.ledger.round == 0 or number == len(report.samples)
            for at, (spec, tally, row) in enumerate(zip(tests.specs, state.ledger.tallies, points, strict=True)):
                if not tally.prompts + tally.unknown or (spec.pooled and not whole and at != state.ledger.blocked):
                    continue
                told = (spec.promote.evidence(tally.promote), spec.block.evidence(tally.block))
                if not row or row[-1][1:] != told or number == len(report.samples):
                    row.append((number, *told))
    except DecisionError:
        return ()
    return tuple(Curve(spec.gate, spec.stratum, spec.statistic, tuple(row)) for spec, row in zip(tests.specs, points, strict=True) if row)


def thresholds(report: Report) -> tuple[float, float]:
    """(evidence that each test needs for Promote, evidence of any one that is enough for Block): 1/alpha and M/beta."""
    try:
        tests = tests_of(report)
    except DecisionError:
        return 1 / report.policy.alpha, max(len(report.decision.gates), 1) / report.policy.beta
    return tests.promote_at, tests.block_at


def tests_of(report: Report) -> Tests:
    """The tests that the run was laid out for. Raises DecisionError, also where it was judged by other rules than those of today."""
    if report.rules != layout.RULES:
        raise OtherRulesError(f"rules: {report.rules}, these are {layout.RULES}")
    return Tests.of(
        report.policy,
        dict(report.strata),
        {stratum: (kl, sq) for stratum, kl, sq in report.noise},
        top_k=report.top_k,
        conditions=report.conditions,
        own_reference=report.own_reference,
    )


def margins_of_design(report: Report) -> tuple[tuple[str, Callable[[Sample], str]], ...]:
    """The ways in which the prompts can be grouped beside the stratum, those with more than one group."""
    ways: tuple[tuple[str, Callable[[Sample], str]], ...] = (
        ("concurrency", lambda sample: f"{sample.condition.concurrency} in flight"),
        ("prefix cache", lambda sample: f"cache {sample.condition.prefix_cache.lower()}"),
        ("replica", lambda sample: sample.condition.replica),
        ("modality", lambda sample: sample.modality),
    )
    return tuple((name, way) for name, way in ways if len({way(sample) for sample in report.samples}) > 1)
