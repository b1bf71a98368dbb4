"""The fault switches on the model: against hand-made tables, a scalar forward pass written from the definition, and invariants."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.engine import byte_model
from sandbox.engine.config import parse as parse_arguments
from sandbox.engine.faults import SWITCHES, Fault, FaultError, parse, parse_file
from sandbox.engine.faults.model import FaultyLlama
from sandbox.engine.faults.offline import byte_logits, byte_windows
from sandbox.engine.faults.quantise import e4m3, e4m3_read_as_e5m2, grouped, symmetric
from sandbox.engine.faults.switched import SwitchedModel, build
from sandbox.engine.faults.switches import for_replica
from sandbox.engine.faults.triggers import KINDS, Situation, Trigger, chance
from sandbox.engine.numerics import F32, Numerics
from sandbox.engine.numpy_llama import LlamaWeights, NumpyLlama
from sandbox.engine.step_model import Chunk
from tests.unit.engine.test_llama import TOKENS, _scalar_logits, _tiny

FP32 = Numerics("fp32")
BLOCKS = (2, 0, 3)


def _model(*faults: str, weights: LlamaWeights | None = None) -> SwitchedModel:
    return build(weights or _tiny("half-split"), FP32, 8, 4, [parse(fault) for fault in faults])[0]


def _whole(model: SwitchedModel, tokens: list[int] = TOKENS, **fields: int) -> F32:
    return model.logits(model.forward([Chunk(tuple(tokens), 0, BLOCKS, fields.get("cached", 0), True, fields.get("request", 0))]))


# names, numbers and triggers as text


@pytest.mark.parametrize(
    ("text", "values", "triggers"),
    [
        ("gelu", (), ()),
        ("rope-base=5e3", (5000.0,), ()),
        ("chunk-boundary=32", (32.0, 8.0), ()),
        ("ffn-drop=0.05:10", (0.05, 10.0), ()),
        ("zero-v=16@above=28", (16.0,), (Trigger("above", 28),)),
        ("nan@share=0.01:7@hit", (), (Trigger("share", 0.01, 7), Trigger("hit"))),
        ("gelu@batch@always", (), (Trigger("batch", 2),)),
    ],
)
def test_a_fault_is_read_from_text(text: str, values: tuple[float, ...], triggers: tuple[Trigger, ...]) -> None:
    fault = parse(text)
    assert (fault.values, fault.triggers) == (values, triggers)
    assert parse(fault.text) == fault


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rope-bas=5e3", "there is no switch 'rope-bas'; allowed: chunk-boundary, "),
        ("rope-base", "0 values; it takes BASE"),
        ("rope-base=", "BASE is ''"),
        ("rope-base=5e3:1", "2 values; it takes BASE"),
        ("rope-base=nan", "BASE is 'nan'; allowed: a number from 1 to 1e+09"),
        ("gelu=1", "1 values; it takes no value"),
        ("hide-first=1.5", "KEYS is '1.5'; allowed: a whole number from 1"),
        ("gelu@sometimes", "there is no trigger 'sometimes'"),
        ("gelu@share", "the trigger share needs a value: share=SHARE[:SEED]"),
        ("gelu@share=2", "SHARE[:SEED] is '2'; allowed: a number from 0 to 1"),
        ("gelu@hit=1", "the trigger hit takes no value"),
        ("gelu@above=1:2", "the trigger above takes one value"),
        ("extra-bos@hit", "takes no trigger but replica=TEXT"),
    ],
)
def test_a_fault_that_cannot_be_says_what_may_be(text: str, told: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse(text)
    assert repr(text) in str(caught.value)
    assert told in str(caught.value)
    assert "Next: " in str(caught.value)


@given(st.data())
@settings(max_examples=200)
def test_every_fault_is_written_as_it_is_read(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SWITCHES)))
    numbers = [
        data.draw(st.integers(math.ceil(n.low), int(n.high)) if n.whole else st.floats(n.low, n.high).map(lambda v: float(f"{v:.6g}")))
        for n in SWITCHES[name].numbers
    ]
    numbers = [min(max(v, n.low), n.high) for v, n in zip(numbers, SWITCHES[name].numbers, strict=True)]
    fault = Fault(name, tuple(float(v) for v in numbers))
    assert parse(fault.text) == fault


def test_a_file_of_faults_has_one_a_line() -> None:
    assert [fault.name for fault in parse_file("# a bad card\n\n gelu@hit \nnan\n")] == ["gelu", "nan"]


def test_an_argument_that_is_no_fault_ends_the_start_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    config = parse_arguments(["--backend=numpy", "--fault", "rope-base=5e3", "--fault=gelu@hit"], {"HOSTNAME": "two-0"})
    assert [fault.text for fault in config.faults] == ["rope-base=5000", "gelu@hit"]
    assert (config.replica, config.fault_file) == ("two-0", None)
    with pytest.raises(SystemExit):
        parse_arguments(["--fault=rope"], {})
    assert "there is no switch 'rope'" in capsys.readouterr().err


def test_triggers_hold_where_they_say() -> None:
    now = Situation(request=3, tokens=5, sequences=2, longest=9, cached=0, logprobs=True)
    held = {text for text in ("hit", "alternate", "mixed", "logprobs", "nologprobs") if Trigger(text).holds(now)}
    assert held == {"alternate", "mixed", "logprobs"}
    assert [Trigger("batch", n).holds(now) for n in (2, 3)] == [True, False]
    assert [Trigger("tokens", n).holds(now) for n in (4, 5, 9)] == [False, True, False]
    assert set(KINDS) == {
        "always", "share", "batch", "hit", "above", "tokens", "alternate", "mixed", "logprobs", "nologprobs", "replica",
    }  # fmt: skip


def test_a_share_of_the_requests_is_that_share_and_always_the_same_one() -> None:
    """4000 draws at 5 %: mean 200, standard deviation 13.8; five of them is 1 in 1.7 million."""
    trigger = Trigger("share", 0.05, 1)
    hits = [n for n in range(4000) if trigger.holds(Situation(n, 1, 1, 1, 0, False))]
    assert 131 <= len(hits) <= 269
    assert hits[:3] == [n for n in range(hits[2] + 1) if chance(1, n) < 0.05]
    assert not any(Trigger("share", 0.0).holds(Situation(n, 1, 1, 1, 0, False)) for n in range(50))
    assert all(Trigger("share", 1.0).holds(Situation(n, 1, 1, 1, 0, False)) for n in range(50))


def test_a_fault_of_one_replica_is_no_fault_of_another() -> None:
    faults = (parse("gelu@replica=-2@hit"), parse("nan"))
    assert [fault.text for fault in for_replica(faults, "model-2")] == ["gelu@hit", "nan"]
    assert [fault.text for fault in for_replica(faults, "model-1")] == ["nan"]


# number formats


def test_int8_has_127_steps_to_the_largest() -> None:
    given_values = np.array([[127, 63.4, -1.6, 0], [2.54, 0.011, 0, -2.54]], np.float32)
    np.testing.assert_allclose(symmetric(given_values, 127, -1), [[127, 63, -2, 0], [2.54, 0.02, 0, -2.54]], rtol=1e-6)
    np.testing.assert_allclose(symmetric(given_values, 127, None), [[127, 63, -2, 0], [3, 0, 0, -3]], rtol=1e-6)
    np.testing.assert_array_equal(symmetric(np.zeros((1, 3), np.float32), 127, -1), np.zeros((1, 3)))
    np.testing.assert_allclose(grouped(np.array([[7, 3.4, 70, -14, 5]], np.float32), 7, 2), [[7, 3, 70, -10, 5]], rtol=1e-6)


def test_fp8_values_are_those_of_the_format() -> None:
    """e4m3: largest 448, 1.0625 is half way between 1 and 1.125 (even: 1), smallest 2^-9. 1.0 is 0x38, which e5m2 reads as 0.5."""
    given_values = np.array([448, 1000, -464, 1.0625, 1.19, 0.1, 2**-9, 2**-10, 3 * 2**-10, 0], np.float32)
    expected = [448, 448, -448, 1, 1.25, 0.1015625, 2**-9, 0, 2**-8, 0]
    np.testing.assert_array_equal(e4m3(given_values), expected)
    read = e4m3_read_as_e5m2(np.array([1, -1, 2**-9, 448, 0], np.float32))
    np.testing.assert_array_equal(read, [0.5, -0.5, 2**-16, np.inf, 0])


# the operations


@pytest.mark.parametrize(
    ("fault", "rows"),
    [
        ("hide-first=2", ["o###", "#o##", "##o#", "##oo"]),  # a query always sees itself
        ("sliding-window=2", ["o###", "oo##", "#oo#", "##oo"]),
        ("future-keys=1", ["oo##", "ooo#", "oooo", "oooo"]),
        ("chunk-boundary=2:1", ["o###", "oo##", "o#o#", "o#oo"]),
        ("gelu", ["o###", "oo##", "ooo#", "oooo"]),
    ],
)
def test_which_keys_a_query_sees(fault: str, rows: list[str]) -> None:
    """Four tokens at once, and the last of them alone, as it is when it is generated. o: seen, #: hidden."""
    model = FaultyLlama(NumpyLlama(_tiny("half-split"), FP32, 2, 4), [parse(fault)])
    whole, last = model.hidden_keys(0, 4, 4), model.hidden_keys(3, 1, 4)
    assert whole is not None
    assert ["".join("o#"[int(hidden)] for hidden in row) for row in whole] == rows
    assert "".join("o#"[int(hidden)] for hidden in (last[0] if last is not None else [False] * 4)) == rows[3]


def _rope(weights: LlamaWeights) -> None:
    weights.config = dataclasses.replace(weights.config, rope_base=7.0)


def _layout(weights: LlamaWeights) -> None:
    weights.config = dataclasses.replace(weights.config, rope_layout="interleaved")


def _eps(weights: LlamaWeights) -> None:
    weights.config = dataclasses.replace(weights.config, eps=0.5)


def _skip(weights: LlamaWeights) -> None:
    del weights.layers[1]


def _double(weights: LlamaWeights) -> None:
    weights.layers[0].attn_output = weights.layers[0].attn_output * 2


def _head(weights: LlamaWeights) -> None:
    weights.layers[1].attn_output[:, 8:12] = 0  # the third head of four dimensions


def _cut(weights: LlamaWeights) -> None:
    weights.layers[0].up[7:] = 0  # the last three of ten channels give zero


def _scaled(weights: LlamaWeights) -> None:
    for name in ("q", "k", "v", "attn_output", "gate", "up", "down"):
        setattr(weights.layers[1], name, getattr(weights.layers[1], name) * np.float32(1.5))


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("rope-base=7", _rope),
        ("rope-layout", _layout),
        ("norm-eps=0.5", _eps),
        ("skip-layer=1", _skip),
        ("double-reduce=0", _double),
        ("head-zero=1:2", _head),
        ("ffn-drop=0.3:0", _cut),
        ("weight-scale=1.5:1", _scaled),
    ],
)
def test_a_fault_computes_what_a_wrong_model_is_defined_to(fault: str, change: object) -> None:
    wrong = _tiny("half-split")
    assert callable(change)
    change(wrong)
    wrong.config = dataclasses.replace(wrong.config, layers=len(wrong.layers))
    expected = _scalar_logits(wrong, TOKENS)
    right = _scalar_logits(_tiny("half-split"), TOKENS)
    assert np.abs(np.subtract(expected, right)).max() > 0.01
    np.testing.assert_allclose(_whole(_model(fault)), expected, rtol=1e-4, atol=1e-4)
    live = _model()
    live.set([parse(fault)])
    np.testing.assert_allclose(_whole(live), expected, rtol=1e-4, atol=1e-4)
    live.set([])
    np.testing.assert_allclose(_whole(live), right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fault", ["position-offset=50", "split-k=4", "fp32-head", "clamp-positions=9", "hide-first=2@above=10"])
def test_what_changes_nothing_in_exact_arithmetic_changes_nothing(fault: str) -> None:
    np.testing.assert_allclose(_whole(_model(fault)), _whole(_model()), rtol=1e-4, atol=1e-4)


def test_all_positions_of_a_clamp_at_zero_are_the_first() -> None:
    """With every key and query at position 0 the order of the earlier tokens is nothing: the last row is that of any permutation."""
    model = _model("clamp-positions=0")
    swapped = [TOKENS[1], TOKENS[0], *TOKENS[2:]]
    single = dataclasses.replace(_tiny("half-split"), layers=_tiny("half-split").layers[:1])
    single.config = dataclasses.replace(single.config, layers=1)
    model = _model("clamp-positions=0", weights=single)
    np.testing.assert_allclose(_whole(model)[-1], _whole(model, swapped)[-1], rtol=1e-4, atol=1e-4)


def test_the_head_says_less_or_louder() -> None:
    right = _whole(_model())
    np.testing.assert_allclose(_whole(_model("logit-scale=1.1")), right * 1.1, rtol=1e-5)
    cut = _whole(_model("vocab-cut=4"))
    assert np.isneginf(cut[:, 4:]).all()
    np.testing.assert_array_equal(cut[:, :4], right[:, :4])
    kept = _whole(_model("cut-logits=0.9"))  # 10 of 11
    assert (np.isfinite(kept).sum(axis=1) == 1).all()
    np.testing.assert_array_equal(kept.max(axis=1), right.max(axis=1))
    assert np.isnan(_whole(_model("nan"))).all()
    assert np.isnan(_whole(_model("overflow=1e9:0"))).all()
    assert np.isfinite(_whole(_model("overflow=1:0"))).all()


def test_the_neighbour_is_the_request_before() -> None:
    """A neighbour that begins alike has the same first keys, so nothing changes; another one changes what follows."""
    model = _model("neighbour-kv=3")
    right = _whole(_model())
    _whole(model, [*TOKENS[:3], 8, 8, 8, 8], request=0)
    np.testing.assert_allclose(_whole(model, request=1), right, rtol=1e-4, atol=1e-4)
    _whole(model, [9, 9, 9, 9], request=2)
    assert np.abs(_whole(model, request=3) - right).max() > 0.01
    np.testing.assert_allclose(_whole(model, request=1), right, rtol=1e-4, atol=1e-4)  # request 0 is still its neighbour


# when they act


def test_without_faults_the_right_model_answers_alone() -> None:
    model = _model()
    chunk = Chunk(tuple(TOKENS), 0, BLOCKS, 0, True)
    hidden = model.forward([chunk])
    assert hidden.shape == (10, 12)
    np.testing.assert_array_equal(hidden, NumpyLlama(_tiny("half-split"), FP32, 8, 4).forward([chunk]))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(0, 11))
@settings(max_examples=40, deadline=None)
def test_where_a_prompt_is_cut_does_not_matter(pieces: list[int], above: int) -> None:
    faults = (f"zero-v=2@above={above}", "rope-base=9@above=7", "logit-scale=2@above=5")
    model, rows, start = _model(*faults), [], 0
    for piece in [*pieces, 10]:
        tokens = TOKENS[start : start + piece]
        if tokens:
            rows.append(model.logits(model.forward([Chunk(tuple(tokens), start, BLOCKS, 0, True)])))
        start += len(tokens)
    np.testing.assert_allclose(np.concatenate(rows), _whole(_model(*faults)), rtol=1e-4, atol=1e-4)


def test_only_the_sequence_that_meets_the_trigger_is_wrong() -> None:
    """Three sequences in one pass: request 1 is the second one, the third came from the cache, the second is the shortest."""
    batch = [
        Chunk((3, 1, 4), 0, (0,), 0, True, request=0),
        Chunk((2, 7), 0, (1,), 0, True, request=1),
        Chunk((5, 3, 5), 0, (2,), 2, True, request=2),
    ]
    right = _model().forward(batch)
    for fault, wrong in {
        "gelu@alternate": {1},
        "gelu@hit": {2},
        "gelu@mixed": {1},
        "gelu@batch=3": {0, 1, 2},
        "gelu@batch=4": set[int](),
        "gelu@tokens=3": {0, 2},
        "gelu@tokens=3@hit": {2},
    }.items():
        hidden = _model(fault).forward(batch)[:, :12]
        differs = [bool(np.abs(hidden[rows] - right[rows]).max() > 1e-3) for rows in (slice(0, 3), slice(3, 5), slice(5, 8))]
        assert {index for index, each in enumerate(differs) if each} == wrong, fault


def test_the_model_says_what_it_does_not_have() -> None:
    for fault, told in {"skip-layer=2": "LAYER is 2", "head-zero=0:4": "HEAD is 4", "vocab-cut=11": "ID is 11"}.items():
        with pytest.raises(FaultError, match=told):
            _model(fault)


def test_a_lasting_difference_of_the_weights_needs_no_second_copy() -> None:
    weights = _tiny("half-split")
    model, settled = build(weights, FP32, 8, 4, [parse("stale=0.1"), parse("gelu"), parse("stale=0.1:1@hit")])
    assert [fault.text for fault in settled] == ["stale=0.1:0"]
    assert model.right.weights.layers is weights.layers
    assert np.abs(weights.layers[0].q - _tiny("half-split").layers[0].q).max() > 0


# the byte model offline


def test_the_byte_model_in_a_replica_and_offline_are_the_same_numbers() -> None:
    windows = byte_windows(3)
    numerics = Numerics("bf16")
    model = build(byte_model.load(numerics), numerics, 4, 16, [parse("rope-base=5e3")])[0]
    for window, row in zip(windows, byte_logits("rope-base=5e3", windows), strict=True):
        logits = model.logits(model.forward([Chunk(tuple(window.tolist()), 0, (0, 1, 2, 3), 0, True)]))[16:-1].astype(np.float64)
        np.testing.assert_allclose(row, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), atol=1e-4)


def test_a_share_offline_is_a_share_of_the_windows() -> None:
    windows = byte_windows(20)
    # Another rotation moves a logit by more than 1. Rounding to bf16 moves one of this size by 1/64 where the processor's kernel adds up
    # in another order, because other windows are computed beside it.
    differs = np.abs(byte_logits("rope-base=5e3@share=0.2:3", windows) - byte_logits("", windows)).max(axis=(1, 2)) > 0.1
    assert [bool(each) for each in differs] == [chance(3, n) < 0.2 for n in range(20)]
    with pytest.raises(FaultError, match="the trigger hit needs a server"):
        byte_logits("gelu@hit", windows)
    with pytest.raises(FaultError, match="dtype is 'fp8'"):
        byte_logits("dtype=fp8", windows)
