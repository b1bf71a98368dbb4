"""What must hold for any model, device and load: monotony, bounds, and one arithmetic behind both doors."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles import Layout
from hwprofiles.estimate import Estimate, Hardware, Load, Question, Refusal, Slo, estimate, estimate_many, kv_capacity, speed_of_light
from hwprofiles.shape import Shape

# Sums in another order differ in the last bits; monotony is meant above that.
SLACK = 1 + 1e-9


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    layers = draw(st.integers(1, 128))
    heads = 2 ** draw(st.integers(0, 7))
    moe = draw(st.booleans())
    params = draw(st.floats(0.1, 400))
    windowed = draw(st.integers(0, layers))
    count = 2 ** draw(st.integers(1, 8)) if moe else 0
    return Shape(
        params_b=params,
        active_params_b=params * (draw(st.floats(0.02, 1.0)) if moe else 1.0),
        layers=layers,
        hidden=128 * draw(st.integers(1, 128)),
        heads=heads,
        kv_heads=2 ** draw(st.integers(0, heads.bit_length() - 1)),
        head_dim=draw(st.sampled_from([64, 128, 256])),
        experts=count,
        experts_per_token=draw(st.integers(1, count)) if moe else 0,
        expert_params_b=params * 0.9 if moe else 0.0,
        kv_lora=draw(st.sampled_from([0, 0, 576])),
        window=draw(st.sampled_from([None, 512, 4096])),
        window_layers=windowed,
        stateless_layers=draw(st.integers(0, layers - windowed)),
    )


@st.composite
def devices(draw: st.DrawFn) -> Hardware:
    peak = draw(st.floats(50e12, 3e15))
    return Hardware(
        memory_bytes=draw(st.floats(16, 300)) * 1e9,
        bandwidth=draw(st.floats(0.2e12, 9e12)),
        peaks={"bf16": peak, "fp8": 2 * peak},
        mfu=draw(st.floats(0.1, 1.0)),
        mbu=draw(st.floats(0.1, 1.0)),
        step_overhead_s=draw(st.floats(0.0005, 0.02)),
        node_link=draw(st.none() | st.floats(10e9, 900e9)),
        cross_link=draw(st.none() | st.floats(10e9, 400e9)),
    )


LAYOUTS = st.builds(
    Layout,
    tensor=st.sampled_from([1, 2, 4, 8]),
    pipeline=st.sampled_from([1, 1, 2]),
    data=st.sampled_from([1, 2, 8]),
    expert=st.sampled_from([None, 2]),
    span=st.sampled_from([1, 2]),
)
LOADS = st.builds(
    Load, input_tokens=st.integers(1, 100_000), output_tokens=st.integers(1, 20_000), concurrency=st.none() | st.integers(1, 3000)
)
SLOS = st.builds(Slo, ttft_s=st.none() | st.floats(0.05, 30), itl_s=st.none() | st.floats(0.005, 0.5))
PRECISIONS = st.sampled_from([None, "bf16", "fp8", "awq"])
QUESTIONS = st.builds(
    Question,
    shape=shapes(),
    hardware=devices(),
    layout=LAYOUTS,
    precision=PRECISIONS,
    load=LOADS,
    slo=SLOS,
    kv_precision=st.sampled_from([None, "fp8"]),
    split=st.booleans(),
)


def answer(q: Question) -> Estimate | Refusal:
    return estimate(q.shape, q.hardware, q.layout, q.precision, q.load, q.slo, kv_precision=q.kv_precision, split=q.split)


def rate(q: Question) -> float:
    found = answer(q)
    return found.output_tokens_per_s if isinstance(found, Estimate) else 0.0


@settings(max_examples=30)
@given(st.lists(QUESTIONS, min_size=1, max_size=25))
def test_both_doors_agree_bit_for_bit(questions: list[Question]) -> None:
    """Many at once give exactly what each alone gives, refusals with their words included, in the order asked."""
    assert estimate_many(questions) == [answer(q) for q in questions]


@settings(max_examples=80)
@given(QUESTIONS)
def test_bounds_enclose_the_point(q: Question) -> None:
    """lower <= point <= upper, all positive; no more run at once than memory holds or the load has."""
    found = answer(q)
    if isinstance(found, Refusal):
        assert found.message
        assert "polyfleet bench --profile" in found.hint
        return
    assert 0 < found.lower <= found.output_tokens_per_s <= (found.upper if found.upper is not None else float("inf"))
    assert 1 <= found.concurrency <= found.max_concurrency
    assert q.load.concurrency is None or found.concurrency <= q.load.concurrency
    assert q.slo.itl_s is None or found.itl_s <= q.slo.itl_s
    assert q.slo.ttft_s is None or found.ttft_s <= q.slo.ttft_s


@settings(max_examples=80)
@given(QUESTIONS, st.sampled_from(["bandwidth", "peaks", "memory_bytes"]), st.floats(1.0, 4.0))
def test_better_silicon_never_does_less(q: Question, field: str, factor: float) -> None:
    """More bandwidth, peak or memory: throughput does not fall, and what ran does not become a refusal."""
    old = getattr(q.hardware, field)
    new = {name: value * factor for name, value in old.items()} if isinstance(old, dict) else old * factor
    better = replace(q, hardware=replace(q.hardware, **{field: new}))
    assert rate(better) * SLACK >= rate(q)


@settings(max_examples=80)
@given(QUESTIONS, st.integers(1, 50_000))
def test_longer_prompts_never_do_more(q: Question, more: int) -> None:
    """More input tokens: throughput does not rise."""
    longer = replace(q, load=replace(q.load, input_tokens=q.load.input_tokens + more))
    assert rate(longer) <= rate(q) * SLACK


@settings(max_examples=80)
@given(QUESTIONS, st.integers(1, 50_000))
def test_time_to_first_token_rises_with_the_prompt(q: Question, more: int) -> None:
    """At the same number of requests a longer prompt never brings the first token earlier."""
    base = replace(q, slo=Slo(), load=replace(q.load, concurrency=q.load.concurrency or 1))
    first, second = answer(base), answer(replace(base, load=replace(base.load, input_tokens=base.load.input_tokens + more)))
    if isinstance(first, Estimate) and isinstance(second, Estimate):
        assert second.ttft_s * SLACK >= first.ttft_s


@settings(max_examples=100)
@given(shapes(), devices(), LAYOUTS, PRECISIONS, st.floats(0.1, 500))
def test_kv_capacity_falls_with_weights(shape: Shape, hardware: Hardware, layout: Layout, precision: str | None, more: float) -> None:
    """More parameters leave room for fewer tokens, never for more."""
    heavier = replace(shape, params_b=shape.params_b + more)
    before, after = kv_capacity(shape, hardware, layout, precision), kv_capacity(heavier, hardware, layout, precision)
    assert (before is None) == (after is None)
    assert before is None or after is None or after <= before


@settings(max_examples=80)
@given(QUESTIONS)
def test_nothing_is_faster_than_light(q: Question) -> None:
    """The closed form stays below the bound at its own concurrency: the bound is the form without losses."""
    found = answer(replace(q, slo=Slo(), split=False))
    if isinstance(found, Estimate):
        bound = speed_of_light(q.shape, q.hardware, q.layout, q.precision, replace(q.load, concurrency=found.concurrency))
        assert bound is None or found.underated <= bound * SLACK
