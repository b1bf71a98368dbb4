"""The decision: what is tested, what promotes, what blocks and what does neither; and that nothing but the samples decides."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.decision import DecisionError, State, Tests, certified, decide, noise_means, replay, verdict
from accuracy.layout import allowed, score
from accuracy.policy import Margins, Policy
from accuracy.types import HIT, MISS, Condition, Decision, Gate, GateResult, Mode, Reason, Sample, Verdict

NOISE = 0.002  # nats
TEN = tuple(f"S{n}" for n in range(10))
POLICY = Policy()
PLAIN = (Condition(),)
CROSSED = tuple(Condition(n, state, r) for n in (1, 8, 64) for state in (MISS, HIT) for r in ("a", "b", "c"))


def laid_out(strata: tuple[str, ...] = ("Chat",), policy: Policy = POLICY, top_k: int = 5, **more: Any) -> Tests:
    each = policy.max_prompts // len(strata)
    return Tests.of(policy, dict.fromkeys(strata, each), dict.fromkeys(strata, (NOISE, 2 * NOISE)), top_k=top_k, **more)


def sample(index: int, ratio: float = 1.0, stratum: str = "Chat", **changed: Any) -> Sample:
    """A prompt at `ratio` times the reference's noise."""
    base = Sample(
        index, f"item-{index:03d}", stratum, "Text", Condition(), Mode.STEPWISE, ratio * NOISE, 2 * ratio * NOISE, NOISE, 2 * NOISE, 0.0,
        positions=8, consistent_kl=NOISE, consistent_sq=2 * NOISE,
    )  # fmt: skip
    return replace(base, **changed)


def run(tests: Tests, samples: list[Sample]) -> tuple[Decision, State]:
    """Until the verdict falls."""
    state = State.start(tests)
    found = decide(tests, state)
    for one in samples:
        state = state.advance(tests, one)
        if verdict(tests, state) is not None:
            break
    found = decide(tests, state)
    assert found.verdict == verdict(tests, state)
    return found, state


def result_of(found: Decision, gate: Gate, statistic: str, stratum: str = "") -> GateResult:
    (result,) = [g for g in found.gates if (g.gate, g.statistic, g.stratum) == (gate, statistic, stratum)]
    return result


# ---- what is tested


def test_the_tests_are_counted_before_the_first_prompt() -> None:
    one = laid_out()
    # Tokens and self-consistency in two statistics each, the rate, the bias both ways
    assert [spec.key for spec in one.specs] == [
        "Tokens|Chat|kl", "Tokens|Chat|sq", "Tail||rate", "Bias||bias+", "Bias||bias-", "SelfConsistency||kl", "SelfConsistency||sq",
    ]  # fmt: skip
    assert (one.promote_at, one.block_at) == (100.0, 7 / 0.05)
    assert [s.key for s in laid_out(top_k=1).specs if s.gate is Gate.TOKENS] == ["Tokens|Chat|sq"]
    # ten strata and the mean of them, then 3 loads, 2 states of the cache and 3 replicas, in two statistics each
    assert laid_out(TEN, conditions=CROSSED).count == 20 + 1 + 2 + 2 + 2 + 2 * (3 + 2 + 3)
    assert laid_out(conditions=(Condition(8, HIT, "a"),)).count == 7  # one value of a condition is no contrast
    short = Policy(gates=(Gate.CONTRACT, Gate.HARD_FAULTS, Gate.TOKENS, Gate.TAIL))
    assert {s.gate for s in laid_out(policy=short).specs} == {Gate.TOKENS, Gate.TAIL}


def test_without_another_side_only_consistency_is_tested() -> None:
    own = laid_out(("Chat", "Code"), conditions=CROSSED, own_reference=True)
    assert {s.gate for s in own.specs} == {Gate.SELF_CONSISTENCY, Gate.TAIL}
    assert own.count == 1 + 2 + 2 * 8
    samples = [sample(n, stratum=("Chat", "Code")[n % 2], condition=CROSSED[n % 18], d_kl=None, d_sq=None, bias=None) for n in range(600)]
    found, _ = run(own, samples)
    assert (found.verdict, found.reason) == (Verdict.PROMOTE, Reason.SELF_REFERENCE)
    # what could not be compared is not consistent
    gone = [replace(s, consistent_kl=None, consistent_sq=None) for s in samples]
    assert run(own, gone)[0].verdict is not Verdict.PROMOTE


def test_scores_by_hand() -> None:
    # B = 2 * .002, c = 1.4 B = .0056: at the noise itself 1/2 - .002/.0112
    assert allowed(POLICY, "kl", NOISE) == 0.004
    tests = laid_out()
    assert tests.scales == ((pytest.approx(0.0056), pytest.approx(0.0112)),)
    says = tests.says(sample(0, bias=0.02))
    assert says[Gate.TOKENS, "kl"].value == pytest.approx(9 / 28)
    assert says[Gate.TOKENS, "sq"].value == pytest.approx(9 / 28)
    assert says[Gate.BIAS, "bias+"].value == pytest.approx(0.625)  # the margin itself
    assert says[Gate.BIAS, "bias-"].value == pytest.approx(0.375)
    assert score(POLICY, "kl", 1.0, NOISE, 0.004) == 1.0
    assert allowed(POLICY, "kl", 1e-9) == 0.001  # the floor, 5e-4
    assert allowed(POLICY, "kl", 0.1) == 0.02  # the cap
    four_bits = Policy(margins=Margins(noise_ratio=None, cap_kl=0.1, cap_sq=0.2))
    assert allowed(four_bits, "kl", NOISE) == 0.1
    stated = Policy(noise_kl=0.003)
    assert laid_out(policy=stated).says(sample(0))[Gate.TOKENS, "kl"].allowed == 0.006
    assert laid_out(policy=stated).says(sample(0))[Gate.TOKENS, "sq"].allowed == 0.012


def test_mean_noise_of_the_strata() -> None:
    rows = [("a", 0.001, 0.002), ("a", None, 0.004), ("b", math.nan, None), ("c", None, None), ("c", None, None)]
    found = noise_means(rows, POLICY)
    assert found["a"] == (pytest.approx((0.001 + 0.0005) / 2), pytest.approx(0.003))  # unknown counts as the floor
    assert found["b"] == (0.0005, None)
    assert found["c"] == (None, None)
    assert noise_means(rows, Policy(noise_kl=0.01)) == {name: (pytest.approx(0.01), pytest.approx(0.02)) for name in "abc"}


@pytest.mark.parametrize(
    ("strata", "top_k", "says"),
    [({}, 5, "at least one stratum"), ({"a": 0}, 5, "1 prompt or more"), ({"a": 1}, 0, "without log-probabilities")],
)
def test_tests_that_cannot_be(strata: dict[str, int], top_k: int, says: str) -> None:
    with pytest.raises(DecisionError, match=says):
        Tests.of(POLICY, strata, {}, top_k=top_k)


# ---- Promote


def test_a_clean_candidate_is_promoted_when_the_rate_is_certified() -> None:
    found, _ = run(laid_out(), [sample(n) for n in range(600)])
    assert (found.verdict, found.reason, found.prompts) == (Verdict.PROMOTE, Reason.EQUIVALENT, 259)
    assert found.noise_ratio == pytest.approx(1.0)
    assert found.certified_rate is not None
    assert 0.0199 < found.certified_rate <= 0.02
    assert found.confidence == 0.99
    tail = result_of(found, Gate.TAIL, "rate")
    assert (tail.estimate, tail.boundary, tail.decision) == (0.0, 0.02, "Pass")
    assert tail.interval == (0.0, pytest.approx(1.959964**2 / (259 + 1.959964**2)))  # Wilson, by hand
    assert "at most 2 % bad prompts at 99 % confidence" in found.message


@pytest.mark.parametrize(("bad", "prompts"), [(1, 412), (2, 561)])
def test_bad_prompts_cost_more_prompts(bad: int, prompts: int) -> None:
    samples = [sample(n, max_kl=0.6 if n in (100, 200)[:bad] else 0.1) for n in range(600)]
    found, state = run(laid_out(), samples)
    assert (found.verdict, found.prompts) == (Verdict.PROMOTE, prompts)
    assert state.ledger.read == (prompts, bad)


def test_a_bad_prompt_is_a_far_position_a_swapped_token_or_a_fault_that_did_not_repeat() -> None:
    for bad in ({"max_kl": 0.51}, {"flip": 1.01}, {"intermittent": "ServerError"}):
        assert result_of(run(laid_out(), [sample(0, **bad)])[0], Gate.TAIL, "rate").estimate == 1.0
    for fine in ({"max_kl": 0.5}, {"flip": 1.0}, {"flip": None}):
        assert result_of(run(laid_out(), [sample(0, **fine)])[0], Gate.TAIL, "rate").estimate == 0.0


def test_the_least_bound_of_all_readings_is_certified() -> None:
    tests = laid_out()
    state = State.start(tests)
    for n in range(200):
        state = state.advance(tests, sample(n))
    before = certified(tests, state)
    after = certified(tests, state.advance(tests, sample(200, max_kl=0.6)))
    assert before is not None
    assert before == after


def test_evidence_that_was_reached_stays_reached() -> None:
    """Tokens passes after 29 prompts; forty others at the boundary's other side do not take that back, nor are they enough to block."""
    tests = laid_out()
    _, state = run(tests, [sample(n) for n in range(29)])
    assert result_of(decide(tests, state), Gate.TOKENS, "kl", "Chat").decision == "Pass"
    for n in range(29, 60):
        state = state.advance(tests, sample(n, 2.4))
    result = result_of(decide(tests, state), Gate.TOKENS, "kl", "Chat")
    assert result.decision == "Pass"
    assert result.evidence_promote < 100


def test_not_before_the_least_number_of_prompts() -> None:
    policy = Policy(bad_prompt_rate=0.2, min_prompts=60)
    found, _ = run(laid_out(policy=policy), [sample(n) for n in range(600)])
    assert (found.verdict, found.prompts) == (Verdict.PROMOTE, 60)


def test_ten_strata_need_each_of_them() -> None:
    samples = [sample(n, stratum=TEN[n % 10], condition=CROSSED[n % 18]) for n in range(600)]
    found, _ = run(laid_out(TEN, conditions=CROSSED), samples)
    assert (found.verdict, found.prompts) == (Verdict.PROMOTE, 260)  # the rate of bad prompts needs 259, and rounds have ten
    # one of them at 1.9 times the noise, inside the margin of 2 and so not shown to be
    near = [replace(s, d_kl=1.9 * NOISE) if s.stratum == "S7" else s for s in samples]
    found, _ = run(laid_out(TEN, conditions=CROSSED), near)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "Tokens in stratum S7 (0.0038 per token from the reference" in found.message


def test_one_statistic_alone_does_not_promote() -> None:
    """A truncated vocabulary hides from the divergence, not from the golden token."""
    found, _ = run(laid_out(), [sample(n, d_kl=0.7 * NOISE, d_sq=19.2 * NOISE) for n in range(600)])
    assert found.verdict is Verdict.BLOCK
    assert "squared difference of the golden tokens' log-probabilities" in found.message


def test_consistency_is_needed_as_soon_as_it_can_be_measured() -> None:
    never = [sample(n, consistent_kl=None, consistent_sq=None) for n in range(600)]
    found, _ = run(laid_out(), never)
    assert (found.verdict, found.prompts) == (Verdict.PROMOTE, 259)
    open_ = result_of(found, Gate.SELF_CONSISTENCY, "kl")
    assert (open_.decision, open_.prompts, open_.message) == ("Open", 0, "not measured by any prompt")
    once = [replace(never[0], consistent_kl=NOISE, consistent_sq=2 * NOISE), *never[1:]]
    assert run(laid_out(), once)[0].verdict is Verdict.INCONCLUSIVE


def test_a_pair_that_needs_tasks_is_not_promoted_without() -> None:
    policy = Policy(margins=Margins(require_tasks=True))
    found, _ = run(laid_out(policy=policy), [sample(n) for n in range(600)])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "requireTasks: false" in found.message
    assert run(laid_out(policy=policy), [sample(n, task=0.0) for n in range(600)])[0].verdict is Verdict.PROMOTE
    assert run(laid_out(policy=policy), [sample(n, task=-1.0 if n % 3 == 0 else 0.0) for n in range(600)])[0].verdict is Verdict.BLOCK


# ---- Block


def test_a_hard_fault_blocks_at_once() -> None:
    for bad in ({"hard": "NonFinite"}, {"d_kl": 0.26}):
        found, _ = run(laid_out(TEN), [sample(0, stratum="S0", **bad)])
        assert (found.verdict, found.reason, found.prompts) == (Verdict.BLOCK, Reason.HARD_FAULT, 1)
        assert found.message == f"hard fault {bad.get('hard', 'KlAboveLimit')} at prompt item-000"


def test_block_names_what_how_far_and_how_far_it_may_be() -> None:
    found, _ = run(laid_out(("Code",)), [sample(n, 20.0, stratum="Code") for n in range(600)])
    assert (found.verdict, found.reason) == (Verdict.BLOCK, Reason.NOT_EQUIVALENT)
    # x = 1 at each prompt: (1.1^n + 1.3^n + 1.5^n + 1.7^n + 1.9^n)/5 passes 140 at n = 10 (131 + 40 + ... by hand: 183)
    assert found.prompts == 10
    assert found.message.startswith(
        "Tokens in stratum Code: 0.04 per token from the reference (KL divergence in nats; allowed: 0.004, 2 times"
    )
    assert result_of(found, Gate.TOKENS, "kl", "Code").decision == "Fail"
    assert found.noise_ratio == pytest.approx(20.0)


@pytest.mark.parametrize(("way", "statistic"), [(1, "bias+"), (-1, "bias-")])
def test_a_systematic_shift_blocks(way: int, statistic: str) -> None:
    found, _ = run(laid_out(), [sample(n, bias=way * 0.06) for n in range(600)])
    assert found.verdict is Verdict.BLOCK
    result = result_of(found, Gate.BIAS, statistic)
    assert (result.decision, result.estimate, result.boundary) == ("Fail", pytest.approx(0.06, abs=1e-6), 0.02)
    assert "0.06 nats" in found.message


def test_a_fault_everywhere_is_found_long_before_each_stratum_has_its_own_evidence() -> None:
    samples = [sample(n, 20.0, stratum=TEN[n % 10]) for n in range(600)]
    found, _ = run(laid_out(TEN), samples)
    assert found.verdict is Verdict.BLOCK
    assert found.prompts == 20  # two rounds
    assert found.message.startswith("Tokens: ")


@pytest.mark.parametrize(
    ("where", "stratum", "words"),
    [
        (lambda c: c.replica == "b", "replica=b", "Tokens on replica b: "),
        (lambda c: c.concurrency == 64, "concurrency=64", "Tokens with 64 requests in flight: "),
        (lambda c: c.prefix_cache == HIT, "prefixCache=Hit", "Tokens on prefix-cache hits: "),
    ],
)
def test_a_fault_under_one_condition_only_is_found(where: Any, stratum: str, words: str) -> None:
    """At 5 times the noise the means of strata are (5 + 2)/3 or (5 + 1)/2: near the margin or a little beyond it."""
    draw = random.Random(3)
    samples = []
    for n in range(600):
        condition = draw.choice(CROSSED)
        samples.append(sample(n, 5.0 if where(condition) else 0.8, stratum=TEN[n % 10], condition=condition))
    found, _ = run(laid_out(TEN, conditions=CROSSED), samples)
    assert found.verdict is Verdict.BLOCK
    assert result_of(found, Gate.TOKENS, "kl", stratum).decision == "Fail"
    assert found.message.startswith(words)


def test_one_bad_replica_of_three_inside_the_mean_of_all_is_not_promoted() -> None:
    """2.6 times the noise on one, .8 on two: 1.4 in the mean, which every stratum passes."""
    rows = [Condition(1, MISS, r) for r in "abc"]
    samples = [sample(n, 2.6 if n % 3 == 1 else 0.8, condition=rows[n % 3]) for n in range(600)]
    found, _ = run(laid_out(conditions=tuple(rows)), samples)
    assert result_of(found, Gate.TOKENS, "kl", "Chat").decision == "Pass"
    assert found.verdict is not Verdict.PROMOTE
    assert "replica b" in found.message


# ---- Inconclusive, and what is unknown


def test_used_up_prompts_hold() -> None:
    tests = laid_out()
    found, _ = run(tests, [sample(n, 2.0) for n in range(600)])
    assert (found.verdict, found.reason, found.prompts) == (Verdict.INCONCLUSIVE, Reason.INCONCLUSIVE, 600)
    _, early = run(tests, [sample(n) for n in range(100)])
    assert decide(tests, early).verdict is None
    held = decide(tests, early, exhausted=True)
    assert held.verdict is Verdict.INCONCLUSIVE
    assert held.message.startswith("100 prompts are used up and 1 of 7 tests not decided: Tail (0 bad prompts of 100")
    longer = replace(POLICY, on_inconclusive="Extend")
    more = laid_out(policy=longer)
    _, far = run(more, [sample(n, 2.0) for n in range(700)])
    assert (far.prompts, decide(more, far).verdict) == (700, None)


def test_too_few_prompts_for_anything_say_so() -> None:
    tests = laid_out(policy=Policy(bad_prompt_rate=0.2, min_prompts=60))
    _, state = run(tests, [sample(n) for n in range(50)])
    assert decide(tests, state, exhausted=True).message == "50 prompts are used up, at least 60 are needed: add prompts to the golden sets"


NAN = math.nan


@pytest.mark.parametrize(
    "unknown",
    [
        {"d_kl": None, "d_sq": None, "bias": None},
        {"d_kl": None},
        {"d_sq": NAN},
        {"bias": NAN},
        {"max_kl": NAN},
        {"flip": NAN},
        {"d_kl": NAN, "d_sq": NAN, "bias": NAN, "max_kl": NAN},
        {"d_kl": math.inf},
        {"bias": math.inf},
        {"max_kl": math.inf},
        {"consistent_kl": NAN},
        {"consistent_sq": math.inf},
    ],
)
def test_what_is_unknown_never_promotes(unknown: dict[str, Any]) -> None:
    found, state = run(laid_out(), [sample(n, **unknown) for n in range(600)])
    if set(unknown) & {"consistent_kl"}:
        # one statistic of the two is missing: no prompt measured it, so it is open and told so
        assert result_of(found, Gate.SELF_CONSISTENCY, "kl").message == "not measured by any prompt"
    else:
        assert found.verdict is not Verdict.PROMOTE
    assert State.from_json(laid_out(), state.to_json()) == state
    for result in found.gates:
        numbers = (result.evidence_promote, result.evidence_block, result.boundary, *(result.interval or ()), result.estimate or 0.0)
        assert not any(math.isnan(n) for n in numbers)


def test_noise_that_is_no_number_is_no_excuse() -> None:
    for noise in (NAN, math.inf, -1.0, None):
        found, _ = run(laid_out(), [sample(n, noise_kl=noise, noise_sq=noise) for n in range(600)])
        assert found.verdict is Verdict.BLOCK  # at the floor: .002 where .001 is allowed


# ---- order, rounds, stops


def test_a_round_is_read_when_it_is_over() -> None:
    """Four bad prompts in the first half of the first round: nothing is said before its other half."""
    tests = laid_out(TEN)
    state = State.start(tests)
    for n in range(10):
        assert verdict(tests, state) is None
        state = state.advance(tests, sample(n, stratum=TEN[n], max_kl=0.6 if n < 4 else 0.0))
    assert verdict(tests, state) is Verdict.BLOCK
    assert decide(tests, state).message.startswith("Tail: 4 bad prompts of 10 (allowed: below 2 %)")


def test_rounds_go_on_without_the_strata_that_have_ended() -> None:
    """Of 3 + 300 prompts: from the fourth round on a round is over when its successor begins."""
    tests = Tests.of(POLICY, {"A": 3, "B": 300}, {}, top_k=1)
    order = ["A", "B"] * 3 + ["B"] * 297
    state = State.start(tests)
    reads = []
    for n, stratum in enumerate(order):
        state = state.advance(tests, sample(n, 0.1, stratum=stratum))
        reads.append(state.ledger.read.prompts)
    assert reads[:9] == [0, 2, 2, 4, 4, 6, 6, 7, 8]
    assert decide(tests, state).verdict is None  # A had three prompts


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 8), st.booleans(), st.sampled_from(CROSSED)), min_size=20, max_size=60), st.data())
def test_the_order_inside_a_round_does_not_matter(rows: list[tuple[float, bool, Condition]], data: st.DataObject) -> None:
    strata = ("A", "B", "C")
    rows = rows[: len(rows) // 3 * 3]
    tests = laid_out(strata, conditions=CROSSED)
    first = [sample(n, r, strata[n % 3], max_kl=float(bad), condition=c) for n, (r, bad, c) in enumerate(rows)]
    mixed = []
    for start in range(0, len(first), 3):
        mixed += data.draw(st.permutations(first[start : start + 3]))
    mixed = [replace(s, index=n) for n, s in enumerate(mixed)]
    states = []
    for samples in (first, mixed):
        state = State.start(tests)
        for one in samples:
            state = state.advance(tests, one)
        states.append(state.ledger)
    # which of the strata's own tests spoke first may differ, nothing else
    assert replace(states[0], blocked=0, hard=("", "")) == replace(states[1], blocked=0, hard=("", ""))
    assert (states[0].blocked < 0) == (states[1].blocked < 0)


_numbers = st.one_of(st.none(), st.floats(0, 0.2), st.just(math.nan), st.just(math.inf))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            dict, d_kl=_numbers, d_sq=_numbers, bias=st.one_of(st.none(), st.floats(-2, 2)), max_kl=st.floats(0, 3),
            hard=st.sampled_from(("",) * 9 + ("NonFinite",)), consistent_kl=_numbers, consistent_sq=_numbers,
            condition=st.sampled_from(CROSSED), noise_kl=_numbers, flip=_numbers,
        ),
        max_size=30,
    ),
    st.sampled_from((1, 5)),
)  # fmt: skip
def test_a_state_survives_being_written_down_at_any_moment(rows: list[dict[str, Any]], top_k: int) -> None:
    strata = ("A", "B", "C")
    tests = laid_out(strata, conditions=CROSSED, top_k=top_k)
    samples = [sample(n, stratum=strata[n % 3], **row) for n, row in enumerate(rows)]
    straight = stopped = State.start(tests)
    for one in samples:
        straight = straight.advance(tests, one)
        stopped = State.from_json(tests, stopped.to_json()).advance(tests, one)
        assert stopped == straight
    noise = dict.fromkeys(strata, (NOISE, 2 * NOISE))
    again = replay(POLICY, dict.fromkeys(strata, 200), noise, samples, top_k=top_k, conditions=CROSSED)
    assert again == decide(tests, stopped)
    if any(row["d_sq"] is None or math.isnan(row["d_sq"]) for row in rows):
        assert again.verdict is not Verdict.PROMOTE


def test_a_state_fits_a_status() -> None:
    """16 strata, three loads, both states of the cache and 16 replicas, after 2000 prompts."""
    strata = tuple(f"Stratum{n:02d}" for n in range(16))
    draw = random.Random(5)
    replicas = [f"qwen3-32b-huawei-910c-{n}" for n in range(16)]
    conditions = tuple(Condition(n, s, r) for n in (1, 8, 64) for s in (MISS, HIT) for r in replicas)  # type: ignore[arg-type]
    tests = laid_out(strata, conditions=conditions)
    state = State.start(tests)
    for n in range(2000):
        one = sample(n, draw.random() * 3, strata[n % 16], bias=draw.gauss(0, 0.01), condition=draw.choice(conditions))
        state = state.advance(tests, one)
    text = state.to_json()
    assert len(text.encode()) <= 8192
    assert State.from_json(tests, text) == state
    assert json.loads(text)["prompts"] == 2000


def test_a_stored_state_that_is_none() -> None:
    tests = laid_out()
    _, state = run(tests, [sample(n) for n in range(10)])
    text = state.to_json()
    raw = json.loads(text)
    broken = [
        "", "{}", "[]", "null", "x" * 100, text[:-5], json.dumps({**raw, "v": 2}), json.dumps({**raw, "state": raw["state"][:-5]}),
        json.dumps({**raw, "sum": "0" * 16}), json.dumps({**raw, "prompts": 3}), json.dumps({**raw, "prompts": "10"}),
        json.dumps({**raw, "hard": ["x"]}), json.dumps({k: v for k, v in raw.items() if k != "state"}),
    ]  # fmt: skip
    for one in broken:
        with pytest.raises(DecisionError):
            State.from_json(tests, one)
    for other in (laid_out(("Code",)), laid_out(policy=Policy(alpha=0.05)), laid_out(top_k=1), laid_out(conditions=CROSSED)):
        with pytest.raises(DecisionError, match="other tests"):
            State.from_json(other, text)
        with pytest.raises(DecisionError, match="other tests"):
            decide(other, state)


def test_a_state_goes_on_with_new_prompts() -> None:
    """The noise of other items may be another; what was fixed is what is tested."""
    tests = laid_out()
    _, state = run(tests, [sample(n) for n in range(200)])
    more = Tests.of(POLICY, {"Chat": 40}, {"Chat": (0.0021, 0.0043)}, top_k=20)
    state = State.from_json(more, state.to_json())
    for n in range(200, 259):
        assert verdict(more, state) is None
        state = state.advance(more, sample(n))
    assert verdict(more, state) is Verdict.PROMOTE


def test_no_sample_counts_twice() -> None:
    tests = laid_out()
    state = State.start(tests).advance(tests, sample(0))
    for index in (0, 2):
        with pytest.raises(DecisionError, match="is not the next one, which is 1"):
            state.advance(tests, sample(index))
    with pytest.raises(DecisionError, match="stratum 'Code' is none of these tests"):
        state.advance(tests, sample(1, stratum="Code"))
