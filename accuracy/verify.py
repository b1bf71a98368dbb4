"""Computes the verdict of a report again from its per-prompt numbers and compares it bit for bit: the run need not be believed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from accuracy.decision import DecisionError, replay
from accuracy.layout import RULES
from accuracy.report.model import Report
from accuracy.types import Decision, Gate, GateResult, Reason, Verdict

# Verdicts that the samples decide. The others rest on what an endpoint did (or on nothing at all), which no file can repeat.
FROM_SAMPLES = frozenset({Reason.EQUIVALENT, Reason.SELF_REFERENCE, Reason.NOT_EQUIVALENT, Reason.INCONCLUSIVE, Reason.RUNNING})
OUTSIDE = frozenset({Gate.CONTRACT, Gate.TASKS, Gate.SHADOW})  # gates with inputs of their own beside the samples


@dataclass(frozen=True, slots=True)
class Check:
    """`ok`: everything that can be computed again came out the same. `differences` name what did not."""

    ok: bool
    message: str
    decision: Decision | None = None  # as computed again
    differences: tuple[str, ...] = ()


def verify(report: Report) -> tuple[bool, str]:
    """(whether it holds, in words)."""
    done = check(report)
    return done.ok, done.message


def check(report: Report) -> Check:
    """The whole comparison; never raises."""
    if not report.strata and not report.samples and not report.decision.gates and report.decision.verdict is not Verdict.PROMOTE:
        return Check(
            True, f"{_told(report.decision)} rests on what an endpoint answered before the first prompt, which a file cannot repeat"
        )
    if report.rules != RULES:
        return Check(
            False,
            f"{_told(report.decision)} was judged by rules {report.rules} and this version judges by rules {RULES}, which says nothing "
            "against it; verify it with the version of polyfleet that wrote it, or repeat the run",
        )
    try:
        again = replay(
            report.policy,
            dict(report.strata),
            {stratum: (kl, sq) for stratum, kl, sq in report.noise},
            report.samples,
            top_k=report.top_k,
            conditions=report.conditions,
            own_reference=report.own_reference,
            exhausted=report.exhausted,
        )
    except DecisionError as error:
        return Check(False, f"the samples do not belong to the tests of this report: {error}")
    stored = report.decision
    found = tuple(_gates(stored, again))
    if stored.reason in FROM_SAMPLES or (stored.reason is again.reason is Reason.HARD_FAULT):
        found = (*_heads(stored, again), *found)
        if found:
            return Check(False, f"not reproduced: {'; '.join(found[:3])}", again, found)
        return Check(True, f"{_told(stored)} is reproduced bit for bit from {_prompts(report)}", again)
    if stored.verdict is Verdict.PROMOTE:
        found = (f"Promote for the reason {stored.reason}, which no sample shows", *found)
    if found:
        return Check(False, f"not reproduced: {'; '.join(found[:3])}", again, found)
    beside = f"{_prompts(report)} are consistent with it" if report.samples else "no prompt was scored"
    return Check(True, f"{_told(stored)} rests on what an endpoint answered, which a file cannot repeat; {beside}", again)


def _heads(stored: Decision, again: Decision) -> list[str]:
    """What the two say as a whole. The message is prose and not compared."""
    names = ("verdict", "reason", "prompts", "noise_ratio", "certified_rate", "confidence")
    pairs = [(name, getattr(stored, name), getattr(again, name)) for name in names]
    return [
        f"{name} is {_word(there)} in the report and {_word(here)} from its samples"
        for name, there, here in pairs
        if not _same(there, here)
    ]


def _gates(stored: Decision, again: Decision) -> list[str]:
    mine, theirs = {_key(gate): gate for gate in again.gates}, {_key(gate): gate for gate in stored.gates}
    found = []
    for key in sorted(set(mine) | set(theirs)):
        if key not in mine:
            gate = theirs[key]
            if gate.gate not in OUTSIDE:
                found.append(f"gate {_name(gate)} does not follow from the samples")
            elif gate.decision != "Pass" and stored.verdict is Verdict.PROMOTE:
                found.append(f"gate {_name(gate)} is {gate.decision}, and the verdict is Promote")
        elif key not in theirs:
            if mine[key].prompts:  # a run that ended before the first prompt lists no gate
                found.append(f"gate {_name(mine[key])} is missing in the report")
        else:
            found += _numbers(theirs[key], mine[key])
    return found


def _numbers(stored: GateResult, again: GateResult) -> list[str]:
    names = ("prompts", "estimate", "interval", "boundary", "evidence_promote", "evidence_block", "decision")
    return [
        f"gate {_name(stored)}: {name} is {_word(getattr(stored, name))} in the report and {_word(getattr(again, name))} from its samples"
        for name in names
        if not _same(getattr(stored, name), getattr(again, name))
    ]


def _same(a: object, b: object) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and a != a and b != b)  # NaN is the same as NaN here


def _key(gate: GateResult) -> tuple[str, str, str]:
    return gate.gate, gate.stratum, gate.statistic


def _name(gate: GateResult) -> str:
    return " ".join(part for part in (gate.gate, gate.stratum or "pooled", gate.statistic) if part)


def _word(value: object) -> str:
    return "absent" if value is None else repr(value) if isinstance(value, float) else str(value)


def _told(decision: Decision) -> str:
    return f"{decision.verdict or 'no verdict'} ({decision.reason})"


def _prompts(report: Report) -> str:
    return "1 prompt" if len(report.samples) == 1 else f"{len(report.samples)} prompts"
