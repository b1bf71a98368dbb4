"""Single statements of the estimator: hand-calculated memory, precisions, refusals with their numbers, assumptions, layout classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hwprofiles import HardwareProfileSpec, Layout, catalogue, load_shipped
from hwprofiles.estimate import (
    Estimate,
    Hardware,
    LayoutClass,
    Load,
    Refusal,
    Slo,
    bytes_per_parameter,
    estimate,
    hardware_of,
    kv_capacity,
    memory_need,
    speed_of_light,
)
from hwprofiles.estimate.formats import compute, loaded_as, support
from hwprofiles.shape import Shape

LLAMA_8B = Shape(8.0, 8.0, 32, 4096, 32, 8, 128, max_context=131072)
DEEPSEEK = Shape(671.0, 37.0, 61, 7168, 128, 128, 128, experts=256, experts_per_token=8, expert_params_b=654.0, kv_lora=576)
LOAD = Load(1000, 500)
DEVICE = Hardware(memory_bytes=80e9, bandwidth=3e12, peaks={"bf16": 1e15}, profile="p", sizes=(1, 2, 4, 8))


def got(shape: Shape, hardware: Hardware, layout: Layout = Layout(), precision: str | None = "bf16", **more: Any) -> Estimate:  # noqa: B008
    found = estimate(shape, hardware, layout, precision, more.pop("load", LOAD), **more)
    assert isinstance(found, Estimate), found
    return found


def refused(shape: Shape, hardware: Hardware, layout: Layout = Layout(), precision: str | None = "bf16", **more: Any) -> Refusal:  # noqa: B008
    found = estimate(shape, hardware, layout, precision, more.pop("load", LOAD), **more)
    assert isinstance(found, Refusal), found
    assert found.hint.count("polyfleet bench --profile p --model ") == 1
    return found


def profile(**changes: Any) -> HardwareProfileSpec:
    base = {
        "vendor": "acme",
        "family": "x",
        "unit": {"kind": "card", "perNode": 8, "memory": "64Gi"},
        "resources": [{"name": "acme.com/x"}],
        "allocation": {"sizes": [1, 2, 4, 8]},
    }
    return HardwareProfileSpec.parse({**base, **changes})


def test_memory_by_hand() -> None:
    """Llama-3.1-8B in bf16: 16 GB of weights; a token takes 32 layers x 2 x 8 heads x 128 x 2 bytes = 131072 bytes, half of it per unit
    at tensor 2; 80 GB x 0.9 - 16 - 3.5 = 52.5 GB hold 400543 tokens."""
    assert memory_need(LLAMA_8B, DEVICE, Layout(), "bf16", kv_tokens=0) == 19_500_000_000
    assert memory_need(LLAMA_8B, DEVICE, Layout(), "bf16", kv_tokens=1000) == 19_500_000_000 + 131_072_000
    assert memory_need(LLAMA_8B, DEVICE, Layout(tensor=2), "bf16", kv_tokens=1000) == 11_500_000_000 + 65_536_000
    assert kv_capacity(LLAMA_8B, DEVICE, Layout(), "bf16") == 400_543
    assert kv_capacity(LLAMA_8B, DEVICE, Layout(), "bf16", kv_precision="fp8") == 801_086
    assert got(LLAMA_8B, DEVICE).kv_tokens == 400_543
    assert got(LLAMA_8B, DEVICE).weight_bytes_per_unit == 16_000_000_000


def test_latent_cache_is_not_cut_by_tensor_parallelism() -> None:
    """DeepSeek: 61 x 576 x 2 = 70272 bytes per token on every unit of a group; attention groups share the tokens out."""
    one = memory_need(DEEPSEEK, DEVICE, Layout(tensor=8), "fp8", kv_tokens=0)
    assert one is not None
    assert memory_need(DEEPSEEK, DEVICE, Layout(tensor=8), "fp8", kv_tokens=8000) == one + 8000 * 70272
    groups = Layout(data=8)
    base = memory_need(DEEPSEEK, DEVICE, groups, "fp8", kv_tokens=0)
    assert base is not None
    assert base > one  # dense weights once per group
    assert memory_need(DEEPSEEK, DEVICE, groups, "fp8", kv_tokens=8000) == base + 1000 * 70272


def test_windows_and_layers_without_cache_leave_room() -> None:
    """24 of 32 layers with a window of 1000, 4 without cache: 11000 tokens are 4 x 11000 + 24 x 1000 layer-tokens."""
    load = Load(10_000, 2_000)
    plain = got(LLAMA_8B, DEVICE, load=load).max_concurrency
    mixed = got(replace(LLAMA_8B, window=1000, window_layers=24, stateless_layers=4), DEVICE, load=load).max_concurrency
    free = 80e9 * 0.9 - 16e9 - 3.5e9
    assert plain == int(free / (32 * 11_000 * 4096))
    assert mixed == int(free / ((4 * 11_000 + 24 * 1_000) * 4096))
    assert kv_capacity(replace(LLAMA_8B, stateless_layers=32), DEVICE, Layout(), "bf16") is None
    assert got(replace(LLAMA_8B, stateless_layers=32), DEVICE).max_concurrency == 1024  # only the engine limits


def test_one_request_by_hand() -> None:
    """Batch 1, no links: a step reads 16 GB + 1250 tokens x 131072 bytes at 3 TB/s x 0.6, plus 10 ms; a prompt costs 16 GFLOP per token
    and 2 x 1000^2 x 4096 x 32 of attention at 1000 TFLOPS x 0.4."""
    step = (16e9 + 1250 * 131072) / (3e12 * 0.6) + 0.010
    prefill = 16e9 * 1000 / (1e15 * 0.4) + 2 * 1000**2 * 4096 * 32 / (1e15 * 0.4)
    found = got(LLAMA_8B, DEVICE, load=Load(1000, 500, 1))
    assert found.itl_s == pytest.approx(step + prefill / 500)
    assert found.ttft_s == pytest.approx(step + prefill)
    assert found.output_tokens_per_s == pytest.approx(500 / (500 * step + prefill))
    assert (found.lower, found.upper) == (pytest.approx(found.output_tokens_per_s / 1.4), pytest.approx(found.output_tokens_per_s * 1.4))


def test_requests_above_memory_wait() -> None:
    """Twice as many requests as memory holds: the same throughput, and the first token comes a whole answer later."""
    most = got(LLAMA_8B, DEVICE).max_concurrency
    full, over = got(LLAMA_8B, DEVICE, load=Load(1000, 500, most)), got(LLAMA_8B, DEVICE, load=Load(1000, 500, 2 * most))
    assert over.output_tokens_per_s == full.output_tokens_per_s
    assert over.concurrency == most
    assert over.ttft_s == pytest.approx(full.ttft_s + 500 * full.itl_s)
    assert over.assumptions == (f"concurrency {most} of {2 * most}: more do not fit into memory and wait",)


def test_largest_concurrency_under_a_limit_is_that_of_brute_force() -> None:
    """Without a concurrency the answer is the last one, counting up one by one, that keeps the limits."""
    slo = Slo(ttft_s=2.0, itl_s=0.030)
    most = got(LLAMA_8B, DEVICE).max_concurrency
    kept = [n for n in range(1, most + 1) if isinstance(estimate(LLAMA_8B, DEVICE, Layout(), "bf16", Load(1000, 500, n), slo), Estimate)]
    assert 1 < kept[-1] < most
    assert kept == list(range(1, kept[-1] + 1))
    assert got(LLAMA_8B, DEVICE, slo=slo).concurrency == kept[-1]


def test_slo_unreachable_names_the_limit() -> None:
    """At the asked concurrency, or alone: both latencies in the message, the largest number that would do, and the command."""
    text = refused(LLAMA_8B, DEVICE, load=Load(1000, 500, 200), slo=Slo(itl_s=0.022)).message
    assert "at concurrency 200: time between tokens" in text
    assert "allowed 22 ms; the largest that keeps the SLO is " in text
    alone = refused(LLAMA_8B, DEVICE, slo=Slo(itl_s=0.001))
    assert alone.reason == "SloUnreachable"
    assert "not even one request at a time keeps it" in alone.message


def test_unknown_bandwidth_is_a_refusal_and_an_assumption_a_note() -> None:
    """A device without bandwidth: NoPerformanceData with the command. With `assume`: a number, the assumption beside it, and no bound."""
    spec = load_shipped()["alibaba-ppu-810e"]
    bare = spec.model_copy(update={"assume": None})
    found = estimate(LLAMA_8B, hardware_of(bare, "vllm", profile="alibaba-ppu-810e"), Layout(), "bf16", LOAD, model="m/x")
    assert isinstance(found, Refusal)
    assert found.reason == "NoPerformanceData"
    assert "lacks bandwidthTBps" in found.message
    assert "polyfleet bench --profile alibaba-ppu-810e --model m/x --input-tokens 1000 --output-tokens 500" in found.hint
    hardware = hardware_of(spec, "vllm", profile="alibaba-ppu-810e")
    assert "bandwidthTBps 1.6 assumed" in got(LLAMA_8B, hardware).assumptions
    assert hardware.bandwidth == 1.6e12
    assert speed_of_light(LLAMA_8B, hardware, Layout(), "bf16", LOAD) is None
    peakless = estimate(LLAMA_8B, replace(DEVICE, peaks={"fp8": 1e15}), Layout(), "bf16", LOAD)
    assert isinstance(peakless, Refusal)
    assert "a peak for bf16 (known peaks: fp8)" in peakless.message


def test_precision_unsupported() -> None:
    """What the profile marks Unsupported is refused with what it serves instead; synonyms of it too, unless they are listed themselves."""
    hardware = replace(DEVICE, dtypes={"bf16": "Native", "w8a8": "Native", "fp8": "Unsupported", "fp4": "Unsupported"})
    found = refused(LLAMA_8B, hardware, precision="fp8")
    assert (found.reason, found.message) == ("PrecisionUnsupported", "p marks precision fp8 Unsupported; it serves bf16, w8a8")
    assert refused(LLAMA_8B, hardware, precision="mxfp4").reason == "PrecisionUnsupported"
    assert support("mxfp4", {"fp4": "Unsupported", "mxfp4": "Native"}) == "Native"
    assert support("int8", {"w8a8": "Native"}) == "Native"
    assert support("w8a8", {}) is None


def test_model_too_large_names_the_numbers() -> None:
    """70 B in bf16 on 80 GB: what it needs, what there is, which size would do; with sizes up to 1: none."""
    big = replace(LLAMA_8B, params_b=70.0, active_params_b=70.0)
    found = refused(big, DEVICE, model="m")
    assert found.reason == "ModelTooLarge"
    assert "70 billion parameters in bf16 need 130.4 GiB per unit over 1 units plus 3.3 GiB reserve" in found.message
    assert "67.1 GiB usable of 74.5 GiB" in found.message
    assert "of the sizes 1, 2, 4, 8 the smallest that holds it is 4" in found.message
    assert "none of the sizes 1 holds it" in refused(big, replace(DEVICE, sizes=(1,))).message
    request = refused(LLAMA_8B, replace(DEVICE, memory_bytes=22e9), load=Load(100_000, 10))
    assert request.reason == "ModelTooLarge"
    assert "one request of 100000 + 10 tokens needs 12.2 GiB" in request.message


def test_shape_and_context_refusals() -> None:
    """An incomplete shape names what it lacks; a request longer than the context names both lengths; a zero load is a fault."""
    found = refused(Shape(8.0, 8.0), DEVICE, model="m")
    assert found.reason == "ModelShapeUnknown"
    assert "lacks headDim, heads, hidden, kvHeads, layers" in found.message
    longer = refused(LLAMA_8B, DEVICE, load=Load(131_000, 500))
    assert longer.reason == "LoadOutsideProfileRange"
    assert "131000 + 500 = 131500 tokens exceeds the context of the model, 131072 tokens" in longer.message
    with pytest.raises(ValueError, match=r"load\.output_tokens is 0; it must be at least 1"):
        estimate(LLAMA_8B, DEVICE, Layout(), "bf16", Load(10, 0))


def test_peaks_of_formats() -> None:
    """w8a8 and int8 take the 8-bit integer peak, fp8 its own, weight-only formats the 16-bit one with fewer bytes; stand-ins are named."""
    peaks = {"bf16": 1.0, "fp16": 1.1, "w8a8": 2.0, "fp8": 2.1}
    used = {name: compute(name, {}, peaks) for name in ("bf16", "fp16", "w8a8", "int8", "w4a8", "fp8", "awq", "gptq", "w4a16", "w8a16")}
    assert {name: found and found.peak for name, found in used.items()} == {
        "bf16": 1.0, "fp16": 1.1, "w8a8": 2.0, "int8": 2.0, "w4a8": 2.0, "fp8": 2.1, "awq": 1.0, "gptq": 1.0, "w4a16": 1.0, "w8a16": 1.0,
    }  # fmt: skip
    assert all(found is not None and found.native and not found.assumptions for found in used.values())
    only = compute("fp8", {"fp8": "WeightOnly"}, peaks)
    assert only is not None
    assert (only.peak, only.native) == (1.0, True)
    unknown = compute("mxfp4", {}, peaks)
    assert unknown is not None
    assert unknown.assumptions == ("peak of mxfp4 unknown, the lower bf16 peak assumed",)
    assert [bytes_per_parameter(name) for name in ("awq", "w8a16", "mxfp4", None, "new")] == [0.5, 1.0, 0.53125, 2.0, 2.0]


def test_a_word_that_nobody_explains_is_named() -> None:
    """bf61: two bytes and the 16-bit peak are assumptions and are said; a word of the list is not, and nothing is bounded by a guess."""
    found = got(LLAMA_8B, DEVICE, Layout(), "bf61")
    known = got(LLAMA_8B, DEVICE, Layout(), "bf16")
    assert found.output_tokens_per_s == known.output_tokens_per_s
    assert {"bytes of bf61 unknown, 2 assumed", "peak of bf61 unknown, the bf16 peak assumed"} <= set(found.assumptions)
    assert not [note for note in known.assumptions if "unknown" in note]
    assert speed_of_light(LLAMA_8B, DEVICE, Layout(), "bf61", Load(1000, 1000, 8)) is None


def test_fp32_weights_run_as_16_bit_where_there_is_no_fp32_peak() -> None:
    """As engines load them: the estimate is that of 16 bit, memory included, and says so. With an fp32 peak they stay what they are; a
    device without bf16 takes fp16; without any 16-bit peak there is no number."""
    found = got(LLAMA_8B, DEVICE, Layout(), "fp32")
    known = got(LLAMA_8B, DEVICE, Layout(), "bf16")
    assert (found.output_tokens_per_s, found.weight_bytes_per_unit) == (known.output_tokens_per_s, known.weight_bytes_per_unit)
    assert "fp32 weights, loaded as 16 bit" in found.assumptions
    wide = replace(DEVICE, peaks={**DEVICE.peaks, "fp32": 67e12})
    assert got(LLAMA_8B, wide, Layout(), "fp32").weight_bytes_per_unit == 2 * known.weight_bytes_per_unit
    assert loaded_as("fp32", {"bf16": "Unsupported"}, {"fp16": 1.0}) == "fp16"
    assert loaded_as("fp32", {}, {"fp8": 1.0}) == "fp32"


def test_every_catalogue_model_in_fp32_has_an_estimate() -> None:
    """bge-m3 and the e5 models are published in fp32; no shipped device states an fp32 peak."""
    models = [entry for entry in catalogue.entries() if entry.precision == "fp32"]
    assert "BAAI/bge-m3" in {entry.model for entry in models}
    for name, spec in load_shipped(sandbox=False).items():
        for entry in models:
            load = Load(min(256, (entry.shape.max_context or 512) // 2), 16)
            found = estimate(entry.shape, hardware_of(spec, "vllm"), Layout(), entry.precision, load)
            assert not isinstance(found, Refusal), (name, entry.model, found)


def test_a_defaulted_derate_is_named_where_it_counts() -> None:
    """0.45 for a wide mixture that the profile does not state: said. Not the default of 1 in a node, and not a stated factor."""
    raw = load_shipped()["huawei-910c-752"]
    moe = replace(LLAMA_8B, experts=64, experts_per_token=8, expert_params_b=7.0)
    wide = Layout(tensor=8, data=2)
    stated, silent = hardware_of(raw, "vllm"), hardware_of(raw, "another")
    assert "derate.another.wideMoE 0.45 assumed" in got(moe, silent, wide, "bf16").assumptions
    assert not [note for note in got(moe, stated, wide, "bf16").assumptions if "derate" in note]
    assert not [note for note in got(LLAMA_8B, silent, Layout(), "bf16").assumptions if "derate" in note]


def test_fp16_stands_in_for_bf16_only_where_that_is_honest() -> None:
    """Native without a peak of its own: named. Emulated or Unsupported: no number; attention of 8-bit weights may still run in fp16."""
    peaks = {"fp16": 1.0, "w8a8": 2.0}
    found = compute("bf16", {"bf16": "Native"}, peaks)
    assert found is not None
    assert (found.peak, found.assumptions, found.native) == (1.0, ("bf16 peak unknown, the fp16 peak assumed",), False)
    assert compute("bf16", {"bf16": "Emulated"}, peaks) is None
    assert compute("fp32", {}, peaks) is None
    eight = compute("w8a8", {"bf16": "Unsupported"}, peaks)
    assert eight is not None
    assert (eight.peak, eight.attention, eight.assumptions) == (2.0, 1.0, ())


def test_layout_classes_and_derates() -> None:
    """More than 8 units or 200 B of a mixture: wideMoE; across nodes: crossNode; both: the lower factor. Dense in a node: none."""
    moe = replace(LLAMA_8B, experts=64, experts_per_token=8, expert_params_b=7.0)
    cases = [
        (LLAMA_8B, Layout(tensor=8), LayoutClass.IN_NODE, 1.0),
        (moe, Layout(tensor=8), LayoutClass.IN_NODE, 1.0),
        (moe, Layout(tensor=8, data=2), LayoutClass.WIDE_MOE, 0.45),
        (LLAMA_8B, Layout(tensor=8, data=2, span=2), LayoutClass.CROSS_NODE, 0.35),
        (moe, Layout(tensor=8, data=2, span=2), LayoutClass.CROSS_NODE, 0.35),
    ]
    for shape, layout, kind, factor in cases:
        found = got(shape, DEVICE, layout)
        assert (found.layout_class, found.derate) == (kind, factor)
        assert found.output_tokens_per_s == pytest.approx(found.underated * factor)
        if kind is not LayoutClass.IN_NODE:
            assert found.lower == pytest.approx(min(found.output_tokens_per_s / 1.4, found.underated / 3))
            assert found.upper is None
    own = hardware_of(load_shipped()["huawei-910c-752"], "sglang")
    assert own.derate[LayoutClass.WIDE_MOE] == 0.8


def test_unknown_links_are_assumed_low_and_named() -> None:
    """Two units without a known link: 32 GB/s inside the node, 25 between nodes, in words; one unit needs none."""
    assert "topology.nodeLinkGBps 32 assumed" in got(LLAMA_8B, DEVICE, Layout(tensor=2)).assumptions
    assert "topology.crossNodeLinkGBps 25 assumed" in got(LLAMA_8B, DEVICE, Layout(tensor=16, span=2)).assumptions
    assert got(LLAMA_8B, DEVICE).assumptions == ()


def test_planning_defaults_are_named() -> None:
    """A profile with nothing but a peak and a bandwidth is estimated on the lower vendors' parameters, each named."""
    spec = profile(peakTflops={"bf16": "100"}, bandwidthTBps="1")
    assert hardware_of(spec, "vllm").assumptions == (
        "efficiency.mfu 0.4 assumed",
        "efficiency.mbu 0.6 assumed",
        "efficiency.stepOverheadMs 10 assumed",
        "unit.usableFraction 0.9 assumed",
    )
    assert hardware_of(profile(vendor="nvidia"), "vllm").mfu == 0.5
    assert "precision bf16 assumed" in got(LLAMA_8B, hardware_of(spec, "vllm"), precision=None).assumptions


def test_bound_by_hand() -> None:
    """One request of an 8 B model cannot beat 16 GB read per token at full bandwidth; a stood-in peak gives no bound."""
    bound = speed_of_light(LLAMA_8B, DEVICE, Layout(), "bf16", Load(1, 1000, 1))
    assert bound == pytest.approx(3e12 / 16e9, rel=0.01)
    assert speed_of_light(LLAMA_8B, DEVICE, Layout(), "fp8", LOAD) is None
    assert speed_of_light(Shape(8.0, 8.0), DEVICE, Layout(), "bf16", LOAD) is None
