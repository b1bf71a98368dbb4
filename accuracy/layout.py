"""Which tests a run makes, fixed before its first prompt, and what one sample says to each of them.

A test bets on numbers in [0, 1], of which a candidate beyond the margins has a mean of at least the boundary:

- Tokens: the score 1/2 + (d - B)/(2 c) of a prompt at distance d, clipped, at 1/2. B = min(kappa max(n, floor), cap) with n the
  reference's own noise at this prompt, c = 1.4 times the B of the stratum's mean noise, so that scores go from 1/7 at no distance to 1 at
  2.4 B. What lies beyond counts no more: a wider score sees more of a fault that few prompts carry, a narrower one promotes with fewer
  prompts (docs/benchmarks-accuracy.md, widths). One test per stratum and statistic: KL divergence, and the squared difference of the
  golden token's log-probability, which finds what a truncated divergence cannot see. Both where alternatives are told.
- Tail: 1 for a bad prompt, at the rate that is to be certified.
- Bias: 1/2 +- b/(8 margin), clipped, both ways, at 5/8.
- SelfConsistency: as Tokens, on the distance of the candidate from itself.
- Tasks, where asked for: (1 - t)/2 of a task score t, at (1 + allowed loss)/2.

Beside these the scores are tested over all strata, and under each condition of the design that has more than one value (requests in flight,
state of the cache, replica): a fault that only shows there must not hide in the mean of a stratum. All are counted before the first prompt,
and all are needed for promotion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, isfinite
from typing import ClassVar

from accuracy.evidence import Bets, block_bets, promote_bets, rate_bets
from accuracy.policy import SQ_PER_KL, Policy
from accuracy.types import Condition, Gate, Sample

KL, SQ, RATE, BIAS_UP, BIAS_DOWN, TASK = "kl", "sq", "rate", "bias+", "bias-", "task"
SCORE_BOUNDARY, BIAS_BOUNDARY = 0.5, 0.625
WIDTH = 1.4  # c over B at the mean noise; docs/benchmarks-accuracy.md, ways and widths, has what others cost and hold
RULES = 2  # what the numbers of prompts decide: another one with every change of WIDTH, of a boundary, of a bet (1: WIDTH was 1)
MOST_STRATA = 256


class DecisionError(ValueError):
    """Input that does not belong to these tests, or a stored state that is none."""


class OtherRulesError(DecisionError):
    """What was judged by other `RULES`: its prompts still count, its evidence does not."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One test. `stratum` as in `GateResult`; `pooled` ones are read at the end of a round only."""

    gate: Gate
    stratum: str
    statistic: str
    promote: Bets
    block: Bets
    pooled: bool
    needed: bool = True  # False: only once some prompt measured it

    @property
    def key(self) -> str:
        return f"{self.gate}|{self.stratum}|{self.statistic}"


@dataclass(frozen=True, slots=True)
class Said:
    """What one sample says to the tests of one statistic. None = nothing. `far` and `allowed` are for people (nats)."""

    value: float | None
    far: float = 0.0
    allowed: float = 0.0


@dataclass(frozen=True, slots=True)
class Tests:
    """The tests of one run; see `of`."""

    __test__: ClassVar[bool] = False

    policy: Policy
    strata: tuple[tuple[str, int], ...]  # name, prompts that are planned; sorted
    scales: tuple[tuple[float, float], ...]  # c of kl and of sq, per stratum
    specs: tuple[Spec, ...]
    top_k: int
    own_reference: bool
    identity: str  # of everything that a stored state must agree with
    place: Mapping[str, int] = field(compare=False)  # of a stratum
    by_stratum: tuple[tuple[int, ...], ...] = field(compare=False)  # tests of each
    by_condition: Mapping[tuple[str, object], tuple[int, ...]] = field(compare=False)
    always: tuple[int, ...] = field(compare=False)

    @property
    def count(self) -> int:
        """M."""
        return len(self.specs)

    @property
    def promote_at(self) -> float:
        return 1 / self.policy.alpha

    @property
    def block_at(self) -> float:
        return self.count / self.policy.beta

    @staticmethod
    def of(
        policy: Policy,
        strata: Mapping[str, int],
        noise: Mapping[str, tuple[float | None, float | None]],
        *,
        top_k: int,
        conditions: Sequence[Condition] = (),
        own_reference: bool = False,
    ) -> Tests:
        """Lays out the tests.

        `strata`: planned prompts of each; a run that goes on with new prompts names those it had before as well. `noise`: per stratum the
        reference's mean noise (kl, sq) as `noise_means` gives it; None or absent counts as the floor. `top_k`: alternatives that both sides
        tell; with 1 there is no divergence. `conditions`: those that the plan has. `own_reference`: there is no other side, so what can be
        tested is whether the candidate agrees with itself.

        Raises DecisionError.
        """
        if not strata or any(not isinstance(n, int) or n < 1 for n in strata.values()):
            raise DecisionError(f"strata: {dict(strata)!r}, must name at least one stratum, each with 1 prompt or more")
        if len(strata) > MOST_STRATA:
            raise DecisionError(f"strata: {len(strata)}, must be at most {MOST_STRATA}; merge some")
        if top_k < 1:
            raise DecisionError(f"top_k: {top_k}, must be 1 or more: without log-probabilities nothing can be tested")
        names = tuple(sorted(strata))
        statistics = (KL, SQ) if top_k > 1 else (SQ,)
        specs = _specs(policy, names, statistics, conditions, own_reference)
        rows = ";".join(spec.key for spec in specs)
        identity = hashlib.sha256(f"{policy.digest};{','.join(names)};{top_k > 1};{own_reference};{rows}".encode()).hexdigest()[:24]
        by_condition: dict[tuple[str, object], tuple[int, ...]] = {}
        for at, spec in enumerate(specs):
            if spec.pooled and spec.stratum:
                name, _, value = spec.stratum.partition("=")
                key = (name, int(value) if name == "concurrency" else value)
                by_condition[key] = (*by_condition.get(key, ()), at)
        apart = {at for row in by_condition.values() for at in row}
        return Tests(
            policy=policy,
            strata=tuple((name, strata[name]) for name in names),
            scales=tuple(_scales(policy, noise.get(name, (None, None))) for name in names),
            specs=specs,
            top_k=top_k,
            own_reference=own_reference,
            identity=identity,
            place={name: at for at, name in enumerate(names)},
            by_stratum=tuple(tuple(at for at, s in enumerate(specs) if not s.pooled and s.stratum == name) for name in names),
            by_condition=by_condition,
            always=tuple(at for at, s in enumerate(specs) if s.pooled and at not in apart),
        )

    def touched(self, sample: Sample) -> tuple[int, ...]:
        """Places of the tests that this sample belongs to. Raises DecisionError for a stratum that is not tested."""
        at = self.place.get(sample.stratum)
        if at is None:
            raise DecisionError(f"sample {sample.index} ({sample.item}): stratum {sample.stratum!r} is none of these tests")
        under = sample.condition
        found = self.by_stratum[at] + self.always
        for key in (("concurrency", under.concurrency), ("prefixCache", under.prefix_cache), ("replica", under.replica)):
            found += self.by_condition.get(key, ())
        return found

    def says(self, sample: Sample) -> dict[tuple[Gate, str], Said]:
        """The numbers of one sample, by gate and statistic."""
        policy = self.policy
        scale = self.scales[self.place[sample.stratum]]
        consistent = {
            KL: _score(policy, KL, sample.consistent_kl, sample.noise_kl, scale[0]),
            SQ: _score(policy, SQ, sample.consistent_sq, sample.noise_sq, scale[1]),
        }
        found = {(Gate.SELF_CONSISTENCY, name): said for name, said in consistent.items()}
        found[Gate.TAIL, RATE] = Said(_violation(policy, sample, self.own_reference))
        if self.own_reference:
            return found
        found[Gate.TOKENS, KL] = _score(policy, KL, sample.d_kl, sample.noise_kl, scale[0])
        found[Gate.TOKENS, SQ] = _score(policy, SQ, sample.d_sq, sample.noise_sq, scale[1])
        bias = sample.bias if sample.bias is not None and isfinite(sample.bias) else None
        up = None if bias is None else _clip(0.5 + bias / (8 * policy.margins.bias))
        found[Gate.BIAS, BIAS_UP] = Said(up)
        found[Gate.BIAS, BIAS_DOWN] = Said(None if up is None else 1 - up)
        task = sample.task if sample.task is not None and isfinite(sample.task) else None
        found[Gate.TASKS, TASK] = Said(None if task is None else _clip((1 - task) / 2))
        return found


def _specs(
    policy: Policy, strata: Sequence[str], statistics: Sequence[str], conditions: Sequence[Condition], own_reference: bool
) -> tuple[Spec, ...]:
    def scored(gate: Gate, name: str, pooled: bool, needed: bool = True) -> list[Spec]:
        bets = promote_bets(SCORE_BOUNDARY), block_bets(SCORE_BOUNDARY)
        return [Spec(gate, name, statistic, *bets, pooled, needed) for statistic in statistics]

    rate, bias = policy.bad_prompt_rate, BIAS_BOUNDARY
    found: list[Spec] = []
    if not own_reference:
        found += [spec for name in strata for spec in scored(Gate.TOKENS, name, pooled=False)]
    found.append(Spec(Gate.TAIL, "", RATE, rate_bets(rate), block_bets(rate), pooled=True))
    if Gate.BIAS in policy.gates and not own_reference:
        found += [Spec(Gate.BIAS, "", s, promote_bets(bias), block_bets(bias), pooled=True) for s in (BIAS_UP, BIAS_DOWN)]
    if Gate.SELF_CONSISTENCY in policy.gates or own_reference:
        found += scored(Gate.SELF_CONSISTENCY, "", pooled=True, needed=own_reference)
    if (Gate.TASKS in policy.gates or policy.margins.require_tasks) and not own_reference:
        loss = (1 + policy.margins.task_margin_points / 100) / 2
        found.append(Spec(Gate.TASKS, "", TASK, promote_bets(loss), block_bets(loss), pooled=True))
    gate = Gate.SELF_CONSISTENCY if own_reference else Gate.TOKENS
    if len(strata) > 1 and not own_reference:
        found += scored(gate, "", pooled=True)
    for name in _margins(conditions):
        found += scored(gate, name, pooled=True)
    return tuple(found)


def _margins(conditions: Sequence[Condition]) -> list[str]:
    """The values of each condition that has more than one."""
    loads = sorted({c.concurrency for c in conditions})
    caches = sorted({c.prefix_cache for c in conditions})
    replicas = sorted({c.replica for c in conditions if c.replica})
    return [
        *(f"concurrency={n}" for n in loads if len(loads) > 1),
        *(f"prefixCache={s}" for s in caches if len(caches) > 1),
        *(f"replica={r}" for r in replicas if len(replicas) > 1),
    ]


def noise_means(entries: Iterable[tuple[str, float | None, float | None]], policy: Policy) -> dict[str, tuple[float | None, float | None]]:
    """Per stratum the mean of max(noise, floor) of the planned items, (kl, sq); None where no item tells it. `entries`: stratum, noise_kl,
    noise_sq of each item. A noise that the policy states replaces what was measured."""
    groups: dict[str, tuple[tuple[list[float], list[float]], list[bool]]] = {}
    for stratum, kl, sq in entries:
        rows, known = groups.setdefault(stratum, (([], []), [False, False]))
        for at, (name, value) in enumerate(((KL, kl), (SQ, sq))):
            known[at] |= value is not None or policy.noise_kl is not None
            rows[at].append(max(noise_of(policy, name, value), _floor(policy, name)))
    return {
        stratum: (
            fsum(rows[0]) / len(rows[0]) if known[0] else None,
            fsum(rows[1]) / len(rows[1]) if known[1] else None,
        )
        for stratum, (rows, known) in sorted(groups.items())
    }


def noise_of(policy: Policy, statistic: str, measured: float | None) -> float:
    """The reference's own distance that counts for one prompt; what is unknown, or no number, counts as none, so that the floor decides."""
    if policy.noise_kl is not None:
        return policy.noise_kl if statistic == KL else SQ_PER_KL * policy.noise_kl
    return measured if measured is not None and isfinite(measured) and measured > 0 else 0.0


def allowed(policy: Policy, statistic: str, noise: float) -> float:
    """B: how far one prompt may be on average, nats (kl) or nats squared (sq)."""
    cap = policy.margins.cap_kl if statistic == KL else policy.margins.cap_sq
    ratio = policy.margins.noise_ratio
    return cap if ratio is None else min(ratio * max(noise, _floor(policy, statistic)), cap)


def score(policy: Policy, statistic: str, distance: float, noise: float, scale: float) -> float:
    """x of one prompt, for numbers that are known."""
    return _clip(0.5 + (distance - allowed(policy, statistic, noise)) / (2 * scale))


def violates(policy: Policy, sample: Sample) -> bool:
    """Whether this is a bad prompt: a position too far off, a confident token swapped, or a fault."""
    margins = policy.margins
    flipped = sample.flip is not None and sample.flip > margins.flip_margin_nats
    return flipped or sample.max_kl > margins.tail_kl or bool(sample.hard or sample.intermittent)


def _violation(policy: Policy, sample: Sample, own_reference: bool) -> float | None:
    """1 or 0; None where the prompt says nothing: no position could be compared, or what was compared is no number."""
    if violates(policy, sample):
        return 1.0
    if sample.max_kl != sample.max_kl or (sample.flip is not None and sample.flip != sample.flip):
        return None
    known = (sample.consistent_kl, sample.consistent_sq) if own_reference else (sample.d_kl, sample.d_sq)
    return 0.0 if any(value is not None and value == value for value in known) else None


def _score(policy: Policy, statistic: str, distance: float | None, measured: float | None, scale: float) -> Said:
    if distance is None or distance != distance:
        return Said(None)
    noise = noise_of(policy, statistic, measured)
    return Said(score(policy, statistic, distance, noise, scale), distance, allowed(policy, statistic, noise))


def _scales(policy: Policy, noise: tuple[float | None, float | None]) -> tuple[float, float]:
    def scale(statistic: str, mean: float | None) -> float:
        known = mean if mean is not None and isfinite(mean) else 0.0
        return WIDTH * allowed(policy, statistic, known)

    return scale(KL, noise[0]), scale(SQ, noise[1])


def _floor(policy: Policy, statistic: str) -> float:
    return policy.margins.floor_kl if statistic == KL else policy.margins.floor_sq


def _clip(value: float) -> float:
    return 0.0 if value < 0.0 else 1.0 if value > 1.0 else value
