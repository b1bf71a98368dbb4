"""The effective policy: levels, declared pairs, what wins, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy.policy import GATES, Formats, Margins, PairRule, Policy, PolicyError, Settings, TaskRule, effective
from accuracy.types import Gate, Mode

FLOAT = Formats(weights="bf16")


def margins(**candidate: str) -> Margins:
    return effective(Settings(), reference=FLOAT, candidate=Formats(**candidate)).margins


def test_levels() -> None:
    """The design's table: alpha, beta, rate, most prompts, repeats."""
    told = {
        level: (p.alpha, p.beta, p.bad_prompt_rate, p.max_prompts, p.repeats)
        for level in ("Quick", "Standard", "Critical")
        for p in [effective(Settings(level=level))]
    }
    assert told == {
        "Quick": (0.05, 0.05, 0.02, 600, 1),
        "Standard": (0.01, 0.05, 0.02, 600, 1),
        "Critical": (0.01, 0.05, 0.005, 2000, 3),
    }
    assert effective(Settings()) == Policy()
    assert effective(Settings(level="Quick", alpha=0.02)).alpha == 0.02


@pytest.mark.parametrize(
    ("declared", "kappa", "floor", "cap", "tail", "flip", "bias", "tasks"),
    [
        ({"weights": "fp16"}, 2, 5e-4, 0.02, 0.5, 1.0, 0.02, False),
        ({"weights": "fp32", "activations": "bf16"}, 2, 5e-4, 0.02, 0.5, 1.0, 0.02, False),
        ({"kv": "int8"}, 3, 1e-3, 0.03, 0.5, 1.0, 0.03, False),
        ({"kv": "fp8"}, 6, 2e-3, 0.03, 1.0, 2.0, 0.03, False),
        ({"activations": "int8"}, 6, 2e-3, 0.03, 1.0, 2.0, 0.03, False),
        ({"weights": "w8a8"}, 12, 5e-3, 0.10, 1.5, 3.0, 0.05, True),
        ({"weights": "fp8"}, 12, 5e-3, 0.10, 1.5, 3.0, 0.05, True),
        ({"weights": "w4"}, None, 5e-3, 0.10, 3.0, math.inf, 0.10, True),
    ],
)
def test_declared_pairs(
    declared: dict[str, str], kappa: float | None, floor: float, cap: float, tail: float, flip: float, bias: float, tasks: bool
) -> None:
    """The design's rows; the squared difference's floor is twice that of the divergence, its cap four times (twice where it decides)."""
    found = margins(**declared)
    assert (found.noise_ratio, found.floor_kl, found.cap_kl, found.tail_kl) == (kappa, floor, cap, tail)
    assert (found.flip_margin_nats, found.bias, found.require_tasks) == (flip, bias, tasks)
    assert (found.floor_sq, found.cap_sq) == (pytest.approx(2 * floor), pytest.approx((4 if kappa else 2) * cap))
    assert kappa is None or kappa * floor <= cap  # else the ratio would never decide


def test_what_is_not_declared_or_not_known_is_judged_as_floating_point() -> None:
    assert margins() == margins(weights="mystery7") == Margins()
    assert effective(Settings(), reference=FLOAT).declared == ""
    assert effective(Settings(), reference=FLOAT, candidate=Formats(weights="W8A8")).declared == "bf16 -> w8a8"
    same = Formats(weights="w8a8")
    assert effective(Settings(), reference=same, candidate=same).margins == Margins()  # like with like


def test_several_differences_take_the_widest_of_each() -> None:
    both = margins(weights="w8a8", kv="fp8")
    assert (both.noise_ratio, both.cap_kl, both.tail_kl) == (12, 0.10, 1.5)
    assert margins(weights="w4", kv="int8").noise_ratio is None


def test_what_is_set_wins_and_a_pair_rule_over_it() -> None:
    rule = PairRule(
        vendors=("huawei",), declares=Formats(weights="w8a8"), margins={"noise_ratio": 9.0, "cap_kl": 0.08}, require_tasks=False
    )
    given_ = Settings(noise_ratio=4.0, bias=0.04)
    candidate = Formats(weights="w8a8")
    here = effective(given_, reference=FLOAT, candidate=candidate, pairs=(rule,), vendor="huawei").margins
    assert (here.noise_ratio, here.cap_kl, here.cap_sq, here.bias, here.require_tasks) == (9.0, 0.08, 0.32, 0.04, False)
    there = effective(given_, reference=FLOAT, candidate=candidate, pairs=(rule,), vendor="other").margins
    assert (there.noise_ratio, there.cap_kl, there.require_tasks) == (4.0, 0.10, True)
    # a rule for a difference does not apply to a candidate that does not declare it
    assert effective(given_, reference=FLOAT, pairs=(rule,), vendor="huawei").margins.noise_ratio == 4.0


def test_overrides_of_a_deployment_over_the_fleet() -> None:
    fleet = Settings(level="Standard", alpha=0.02, tasks=(TaskRule("a", 300, 3.0), TaskRule("b")))
    found = Settings(alpha=0.005, tasks=(TaskRule("b", 100, 1.0),)).over(fleet)
    assert (found.level, found.alpha) == ("Standard", 0.005)
    assert [t.name for t in found.tasks] == ["a", "b"]
    assert effective(found).margins.task_margin_points == 1.0


def test_gates_that_none_may_leave_out() -> None:
    assert effective(Settings()).gates == GATES
    least = ("Tail", "Tokens", "Contract", "HardFaults")
    assert effective(Settings(gates=least)).gates == (Gate.CONTRACT, Gate.HARD_FAULTS, Gate.TOKENS, Gate.TAIL)
    with pytest.raises(PolicyError, match=r"Tail missing.*none of them holds alone"):
        effective(Settings(gates=("Contract", "HardFaults", "Tokens")))
    with pytest.raises(PolicyError, match=r"modes: 'Guess', allowed PromptLogprobs, Stepwise"):
        effective(Settings(modes=("Guess",)))
    assert effective(Settings(modes=("Stepwise",))).modes == (Mode.STEPWISE,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("level", "Hasty"), ("alpha", 0.0), ("alpha", 0.5), ("alpha", math.nan), ("beta", -1.0), ("bad_prompt_rate", 1.0),
        ("noise_ratio", 0.0), ("cap_kl", math.inf), ("tail_kl", -0.1), ("bias", 0.5), ("flip_margin_nats", 0.0), ("min_prompts", 0),
        ("max_prompts", 59), ("positions_per_prompt", 2000), ("top_k", 0), ("repeats", 17), ("seed", -1), ("concurrency", (0,)),
        ("concurrency", (8, 8)), ("prefix_cache", ("Warm",)), ("on_inconclusive", "Promote"), ("on_unavailable", "Guess"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        effective(Settings(**{field: value}))
    name = "min_prompts" if (field, value) == ("max_prompts", 59) else field
    assert name in str(caught.value)


@given(
    st.builds(
        Settings,
        level=st.sampled_from((None, "Quick", "Critical")),
        alpha=st.none() | st.floats(1e-6, 0.49),
        noise_ratio=st.none() | st.floats(0.1, 100),
        seed=st.none() | st.integers(0, 2**31 - 1),
        concurrency=st.sampled_from(((), (1,), (1, 64))),
        tasks=st.sampled_from(((), (TaskRule("gsm8k", 300, 2.5, True),))),
    ),
    st.sampled_from(("", "w8a8", "w4", "fp16")),
)
def test_a_policy_survives_being_written_down(settings: Settings, weights: str) -> None:
    policy = effective(settings, reference=FLOAT, candidate=Formats(weights=weights))
    again = Policy.from_json(policy.to_json())
    assert again == policy
    assert again.digest == policy.digest
    assert (policy.margins.flip_margin_nats == math.inf) == (weights == "w4")


def test_the_digest_tells_every_field_apart() -> None:
    base = Policy()
    assert base.digest == Policy().digest
    for change in ({"alpha": 0.02}, {"margins": Margins(bias=0.03)}, {"seed": 1}, {"strata": ("Chat",)}, {"declared": "x"}):
        assert replace(base, **change).digest != base.digest  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"alpha": 0.01}', Policy().to_json().replace("0.01", '"x"', 1), '{"unknown": 1}']
)
def test_text_that_is_no_policy(text: str) -> None:
    with pytest.raises(PolicyError):
        Policy.from_json(text)


def test_the_hard_limit_follows_the_cap() -> None:
    assert Policy().hard_kl == 0.25
    assert Policy(margins=Margins(cap_kl=0.1)).hard_kl == 0.5
