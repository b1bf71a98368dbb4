"""The sequential decision: where the tests of a run stand after each prompt, and what follows.

Promote when every test that is needed has reached 1/alpha, each at some moment (reached is reached), after `min_prompts` at least. All
of them are needed, so none has to share alpha with the others. Block when any of the M tests has reached M/beta for it, or at a hard fault.
One may look after every prompt: that costs nothing (`accuracy.evidence`).

A round is one prompt of each stratum that still has some. Inside a round the strata differ, so a test over several of them is read when
the round is over: when every stratum had its turn, or when the first prompt of the next round comes (strata end at different times). A
round that the end of the plan cuts off is not read. What is shown then is that the rounds' mixes are within the margins in the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple

from accuracy import ledger as ledgers
from accuracy import wording
from accuracy.evidence import Logs, added, rate_bound
from accuracy.layout import BIAS_DOWN, BIAS_UP, KL, RATE, SQ, DecisionError, OtherRulesError, Said, Spec, Tests, noise_means, noise_of
from accuracy.ledger import COARSE, Certified, Ledger, Tally, fine
from accuracy.policy import Policy
from accuracy.types import Condition, Decision, Gate, GateResult, Reason, Sample, Verdict

__all__ = ["DecisionError", "OtherRulesError", "State", "Tests", "decide", "noise_means", "replay"]

EXTEND = "Extend"
_NORMAL_95 = 1.959964
_EITHER = frozenset({Gate.SELF_CONSISTENCY, Gate.TASKS})  # not every prompt can measure these


class _Step(NamedTuple):
    """What one sample adds to each test of one statistic. `block` None: it told no number."""

    promote: Logs
    block: Logs | None
    total: int
    squares: int
    far: int
    allowed: int


@dataclass(frozen=True, slots=True)
class State:
    """After `prompts` prompts. Two runs that saw the same samples in the same order have equal states, whatever stops lay between."""

    ledger: Ledger

    @property
    def prompts(self) -> int:
        return self.ledger.prompts

    @staticmethod
    def start(tests: Tests) -> State:
        return State(ledgers.fresh(tests))

    def advance(self, tests: Tests, sample: Sample) -> State:
        """One more prompt. Raises DecisionError for a sample that is not the next one, or is of no stratum of the tests."""
        old = self.ledger
        _same(tests, old)
        if sample.index != old.prompts:
            raise DecisionError(f"sample {sample.index} ({sample.item}) is not the next one, which is {old.prompts}: none counts twice")
        touched = tests.touched(sample)
        bit = 1 << tests.place[sample.stratum]
        tallies = list(old.tallies)
        blocked, read, best, turn = old.blocked, old.read, old.best, old.round
        if turn & bit:  # the next round begins: the last one was over before
            blocked, read = _read(tests, tallies, blocked, read)
            turn = 0
        says = tests.says(sample)
        steps: dict[tuple[Gate, str], _Step] = {}
        for at in touched:
            tallies[at] = _advanced(tests.specs[at], tallies[at], says, steps, tests.own_reference)
        if says[Gate.TAIL, RATE].value != 0.0:
            best = _better(best, read, tests.policy)
        for at in touched:
            if not tests.specs[at].pooled:
                tallies[at], blocked = _judged(tests, at, tallies[at], blocked)
        turn |= bit
        if turn == (1 << len(tests.strata)) - 1:
            blocked, read = _read(tests, tallies, blocked, read)
            turn = 0
        return State(
            Ledger(
                old.identity,
                old.prompts + 1,
                tuple(tallies),
                turn,
                blocked,
                old.hard if old.hard[0] else _hard(tests.policy, sample),
                _noise(tests, old.noise, sample),
                read,
                best,
            )
        )

    def to_json(self) -> str:
        """At most 8 KiB for 16 strata and 16 replicas."""
        return ledgers.dumps(self.ledger)

    @staticmethod
    def from_json(tests: Tests, text: str) -> State:
        """The state again; raises DecisionError if it is none of these tests, OtherRulesError if only what it was judged by differs."""
        return State(ledgers.loads(tests, text))

    @staticmethod
    def again(tests: Tests, samples: Iterable[Sample]) -> State:
        """Where these prompts would stand. Raises DecisionError."""
        state = State.start(tests)
        for sample in samples:
            state = state.advance(tests, sample)
        return state


def decide(tests: Tests, state: State, *, exhausted: bool = False) -> Decision:
    """What follows. `exhausted`: no prompt is left. Raises DecisionError if the state is none of these tests."""
    now, policy = state.ledger, tests.policy
    _same(tests, now)
    gates = tuple(_result(tests, at, now) for at in range(len(tests.specs)))
    open_ = tuple(result for at, result in enumerate(gates) if result.decision != "Pass" and needed(tests, now, at))
    verdict: Verdict | None = None
    reason = Reason.RUNNING
    ratio, rate = _ratio(tests, now), certified(tests, state)
    if now.hard[0]:
        verdict, reason = Verdict.BLOCK, Reason.HARD_FAULT
        message = wording.hard(*now.hard)
    elif now.blocked >= 0:
        verdict, reason = Verdict.BLOCK, Reason.NOT_EQUIVALENT
        message = wording.block(gates[now.blocked], tests.block_at)
    elif not open_ and now.prompts >= policy.min_prompts:
        verdict, reason = Verdict.PROMOTE, Reason.SELF_REFERENCE if tests.own_reference else Reason.EQUIVALENT
        message = wording.promote(len(gates), now.prompts, ratio, rate, policy, tests.own_reference)
    elif exhausted or (now.prompts >= policy.max_prompts and policy.on_inconclusive != EXTEND):
        verdict, reason = Verdict.INCONCLUSIVE, Reason.INCONCLUSIVE
        message = wording.inconclusive(open_, len(gates), now.prompts, policy)
    else:
        message = wording.running(open_, len(gates), now.prompts, policy)
    known = rate is not None
    return Decision(verdict, reason, message, now.prompts, gates, ratio, rate, 1 - policy.alpha if known else None)


def replay(
    policy: Policy,
    strata: Mapping[str, int],
    noise: Mapping[str, tuple[float | None, float | None]],
    samples: Iterable[Sample],
    *,
    top_k: int,
    conditions: Sequence[Condition] = (),
    own_reference: bool = False,
    exhausted: bool = False,
) -> Decision:
    """The decision again from the numbers of a report, equal in every bit. Raises DecisionError."""
    tests = Tests.of(policy, strata, noise, top_k=top_k, conditions=conditions, own_reference=own_reference)
    return decide(tests, State.again(tests, samples), exhausted=exhausted)


def verdict(tests: Tests, state: State, *, exhausted: bool = False) -> Verdict | None:
    """`decide(...).verdict` alone, without words: for simulations of many runs."""
    now, policy = state.ledger, tests.policy
    if now.hard[0] or now.blocked >= 0:
        return Verdict.BLOCK
    if now.prompts >= policy.min_prompts and all(t.passed or not needed(tests, now, at) for at, t in enumerate(now.tallies)):
        return Verdict.PROMOTE
    over = exhausted or (now.prompts >= policy.max_prompts and policy.on_inconclusive != EXTEND)
    return Verdict.INCONCLUSIVE if over else None


def needed(tests: Tests, now: Ledger, at: int) -> bool:
    """Whether promotion waits for this test. Self-consistency beside a reference is needed as soon as one prompt could measure it: some
    endpoints take no token ids, and then nothing of theirs can be asked again."""
    return tests.specs[at].needed or now.tallies[at].prompts > 0


def certified(tests: Tests, state: State) -> float | None:
    """Upper bound of the rate of bad prompts, with confidence 1 - alpha however often one looked; None while it says nothing (above 1/2).

    The least bound of all moments at which the rate was read; `accuracy.evidence.rate_bound` says what it is.
    """
    now = state.ledger
    bounds = [rate_bound(c.prompts, c.bad, 1 - tests.policy.alpha) for c in (now.read, now.best) if c.prompts]
    least = min(bounds, default=1.0)
    return least if least <= 0.5 else None


def _same(tests: Tests, now: Ledger) -> None:
    if now.identity != tests.identity:
        raise DecisionError("the state belongs to other tests: the policy, the strata, the conditions or the replicas have changed")


def _advanced(
    spec: Spec, tally: Tally, says: Mapping[tuple[Gate, str], Said], steps: dict[tuple[Gate, str], _Step], own_reference: bool
) -> Tally:
    """`steps` are shared between the tests of one statistic."""
    what = spec.gate, spec.statistic
    said = says[what]
    if said.value is None and spec.gate in _EITHER and not (own_reference and spec.gate is Gate.SELF_CONSISTENCY):
        return tally
    step = steps.get(what)
    if step is None:
        step = steps[what] = _step(spec, said)
    promote = added(tally.promote, step.promote)
    if step.block is None:
        return tally._replace(unknown=tally.unknown + 1, promote=promote)
    return Tally(
        tally.prompts + 1,
        tally.unknown,
        tally.total + step.total,
        tally.squares + step.squares,
        tally.far + step.far,
        tally.allowed + step.allowed,
        tally.passed,
        promote,
        added(tally.block, step.block),
    )


def _step(spec: Spec, said: Said) -> _Step:
    x = said.value
    if x is None:
        return _Step(spec.promote.steps(1.0), None, 0, 0, 0, 0)
    return _Step(spec.promote.steps(x), spec.block.steps(x), round(x * COARSE), round(x * x * COARSE), fine(said.far), fine(said.allowed))


def _read(tests: Tests, tallies: list[Tally], blocked: int, read: Certified) -> tuple[int, Certified]:
    """Reads the pooled tests, at the end of a round."""
    for at, spec in enumerate(tests.specs):
        if spec.pooled:
            tallies[at], blocked = _judged(tests, at, tallies[at], blocked)
            if spec.gate is Gate.TAIL:
                read = Certified(tallies[at].prompts + tallies[at].unknown, tallies[at].total // COARSE + tallies[at].unknown)
    return blocked, read


def _judged(tests: Tests, at: int, tally: Tally, blocked: int) -> tuple[Tally, int]:
    spec = tests.specs[at]
    if not tally.passed and spec.promote.reaches(tally.promote, tests.promote_at):
        tally = tally._replace(passed=True)
    if blocked < 0 and spec.block.reaches(tally.block, tests.block_at):
        blocked = at
    return tally, blocked


def _better(best: Certified, read: Certified, policy: Policy) -> Certified:
    """Without a further bad prompt every later reading certifies more, so only what a bad prompt ends has to be remembered."""
    sure = 1 - policy.alpha
    if not read.prompts or (best.prompts and rate_bound(best.prompts, best.bad, sure) <= rate_bound(read.prompts, read.bad, sure)):
        return best
    return read


def _hard(policy: Policy, sample: Sample) -> tuple[str, str]:
    if sample.hard:
        return sample.hard, sample.item
    if sample.d_kl is not None and sample.d_kl > policy.hard_kl:
        return "KlAboveLimit", sample.item
    return "", ""


def _noise(tests: Tests, sums: tuple[int, int, int, int], sample: Sample) -> tuple[int, int, int, int]:
    """Sums behind the noise ratio, over the prompts that tell both."""
    own = tests.own_reference
    out = list(sums)
    rows = (
        (KL, sample.consistent_kl if own else sample.d_kl, sample.noise_kl),
        (SQ, sample.consistent_sq if own else sample.d_sq, sample.noise_sq),
    )
    for at, (name, far, noise) in enumerate(rows):
        if far is not None and far == far:
            out[2 * at] += fine(far)
            out[2 * at + 1] += fine(noise_of(tests.policy, name, noise))
    return out[0], out[1], out[2], out[3]


def _ratio(tests: Tests, now: Ledger) -> float | None:
    """Mean distance over mean noise; None where there is nothing to divide by."""
    far, noise = now.noise[:2] if tests.top_k > 1 else now.noise[2:]
    return far / noise if noise > 0 else None


def _result(tests: Tests, at: int, now: Ledger) -> GateResult:
    spec, tally = tests.specs[at], now.tallies[at]
    estimate, interval = _estimate(spec, tally, tests.policy)
    failed = at == now.blocked
    result = GateResult(
        gate=spec.gate,
        stratum=spec.stratum,
        statistic=spec.statistic,
        prompts=tally.prompts + tally.unknown,
        estimate=estimate,
        interval=interval,
        boundary=tests.policy.margins.bias if spec.gate is Gate.BIAS else spec.promote.boundary,
        evidence_promote=spec.promote.evidence(tally.promote),
        evidence_block=spec.block.evidence(tally.block),
        decision="Fail" if failed else "Pass" if tally.passed else "Open",
    )
    return replace(result, message=wording.gate(result, tally, tests.policy))


def _estimate(spec: Spec, tally: Tally, policy: Policy) -> tuple[float | None, tuple[float, float] | None]:
    """Mean over the prompts that told a number, with its 95 % interval: Wilson's for a rate, else the normal one. For people; no decision
    reads it. A bias is told in nats, its margin as well."""
    n = tally.prompts
    if not n:
        return None, None
    mean = tally.total / n / COARSE
    if spec.statistic == RATE:
        z2 = _NORMAL_95**2
        middle, half = mean + z2 / (2 * n), _NORMAL_95 * sqrt(mean * (1 - mean) / n + z2 / (4 * n * n))
        return mean, (max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n)))
    low = high = mean
    if n > 1:
        spread = max(0.0, tally.squares / n / COARSE - mean * mean) * n / (n - 1)
        half = _NORMAL_95 * sqrt(spread / n)
        low, high = max(0.0, mean - half), min(1.0, mean + half)
    if spec.statistic in (BIAS_UP, BIAS_DOWN):
        wide = 8 * policy.margins.bias
        mean, low, high = ((value - 0.5) * wide for value in (mean, low, high))
    return mean, (low, high) if n > 1 else None
