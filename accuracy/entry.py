"""Whether one new replica of a verified fingerprint may take traffic: a few prompts against the stored record.

It opens when the evidence of Tokens for promotion is at least `entry_evidence` (20) after 32 prompts or more, in each statistic that can be
measured, and no hard fault was seen; up to 96 prompts are asked, then it stays out. The evidence is over all strata. A replica that is
plainly different is not asked to the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from accuracy.evidence import Logs, added, block_bets, promote_bets
from accuracy.layout import KL, SCORE_BOUNDARY, SQ, allowed, noise_of, score
from accuracy.layout import WIDTH as _WIDTH
from accuracy.policy import Policy
from accuracy.types import Sample

_PROMOTE, _BLOCK = promote_bets(SCORE_BOUNDARY), block_bets(SCORE_BOUNDARY)


@dataclass(frozen=True, slots=True)
class EntryDecision:
    """`opens` None: it goes on."""

    opens: bool | None
    message: str
    evidence: float
    prompts: int


@dataclass(frozen=True, slots=True)
class EntryState:
    """`scales`: c of kl and sq per stratum; the other tuples are by statistic, in the order of `statistics`."""

    policy: Policy
    statistics: tuple[str, ...]
    scales: Mapping[str, tuple[float, float]]
    promote: tuple[Logs, ...]
    block: tuple[Logs, ...]
    far: tuple[float, ...]  # sums for people
    limit: tuple[float, ...]
    prompts: int = 0
    unknown: int = 0
    hard: str = ""

    @staticmethod
    def start(policy: Policy, noise: Mapping[str, tuple[float | None, float | None]], *, top_k: int) -> EntryState:
        """`noise` as `accuracy.decision.noise_means` gives it; a stratum that it lacks is judged by the floor."""
        names = (KL, SQ) if top_k > 1 else (SQ,)
        n = len(names)
        scales = {
            stratum: (_WIDTH * allowed(policy, KL, kl or 0.0), _WIDTH * allowed(policy, SQ, sq or 0.0))
            for stratum, (kl, sq) in noise.items()
        }
        return EntryState(policy, names, scales, (_PROMOTE.start(),) * n, (_BLOCK.start(),) * n, (0.0,) * n, (0.0,) * n)


def advance(state: EntryState, sample: Sample) -> EntryState:
    """One more prompt. A number that is missing, and a fault that did not repeat, count as the worst score against opening."""
    policy = state.policy
    plain = _WIDTH * allowed(policy, KL, 0.0), _WIDTH * allowed(policy, SQ, 0.0)
    scales = state.scales.get(sample.stratum, plain)
    promote, block, far, limit, unknown = list(state.promote), list(state.block), list(state.far), list(state.limit), False
    for at, name in enumerate(state.statistics):
        distance, measured, scale = (sample.d_kl, sample.noise_kl, scales[0]) if name == KL else (sample.d_sq, sample.noise_sq, scales[1])
        noise = noise_of(policy, name, measured)
        if distance is None or distance != distance or sample.intermittent:
            promote[at], unknown = added(promote[at], _PROMOTE.steps(1.0)), True
            continue
        x = score(policy, name, distance, noise, scale)
        promote[at], block[at] = added(promote[at], _PROMOTE.steps(x)), added(block[at], _BLOCK.steps(x))
        far[at] += distance
        limit[at] += allowed(policy, name, noise)
    return replace(
        state,
        promote=tuple(promote),
        block=tuple(block),
        far=tuple(far),
        limit=tuple(limit),
        prompts=state.prompts + 1,
        unknown=state.unknown + unknown,
        hard=state.hard or sample.hard or ("KlAboveLimit" if sample.d_kl is not None and sample.d_kl > policy.hard_kl else ""),
    )


def decide_entry(state: EntryState, policy: Policy) -> EntryDecision:
    """Where the check stands."""
    evidence = min(_PROMOTE.evidence(logs) for logs in state.promote)
    n = state.prompts

    def told(opens: bool | None, message: str) -> EntryDecision:
        return EntryDecision(opens, message, evidence, n)

    if state.hard:
        return told(False, f"hard fault {state.hard} within {n} prompts")
    threshold = len(state.statistics) / policy.beta
    worst = max(range(len(state.statistics)), key=lambda at: _BLOCK.evidence(state.block[at]))
    far = _far(state, worst)
    if _BLOCK.evidence(state.block[worst]) >= threshold:
        return told(False, f"not as the record: {far} after {n} prompts")
    if n >= policy.entry_prompts and evidence >= policy.entry_evidence:
        return told(True, f"as the record: {far} after {n} prompts; evidence {evidence:.3g}, {policy.entry_evidence:.3g} are enough")
    if n >= policy.entry_max_prompts:
        return told(
            False, f"not shown to be as the record after {n} prompts: {far}; evidence {evidence:.3g} of {policy.entry_evidence:.3g}"
        )
    return told(None, f"{n} of {policy.entry_prompts} to {policy.entry_max_prompts} prompts, evidence {evidence:.3g}")


def _far(state: EntryState, at: int) -> str:
    known = state.prompts - state.unknown
    missing = f", {state.unknown} prompts told nothing" if state.unknown else ""
    if known <= 0 or state.limit[at] <= 0:
        return f"nothing could be compared{missing}"
    return f"{state.far[at] / known:.3g} nats per token away, allowed {state.limit[at] / known:.3g}{missing}"
