"""How much memory a replica needs and which sizes hold it: the order of trust, the estimator's figure by hand, and head counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polyfleet.api.modeldeployment import ModelShape
from polyfleet.decide import prepare
from polyfleet.inputs import ModelView
from polyfleet.shapes import known
from polyfleet.sizing import divides

from hwprofiles.shape import Shape
from tests.unit.operator import builders as b

H100, A3 = "nvidia-h100-sxm", "huawei-910c-752"
IMAGE = {"engine": "vllm", "image": "registry.example/vllm:v1"}
# 80 layers, 8 key-value heads of 128: 2 x 80 x 8 x 128 x 2 bytes = 327680 bytes of KV cache per token in bf16.
SEVENTY = {"paramsB": "70", "layers": 80, "hidden": 8192, "heads": 64, "kvHeads": 8, "headDim": 128}


def resolved(spec: dict[str, Any], *profiles: Any, nodes: Any = None) -> ModelView:
    base = {"runtime": IMAGE, "placement": {"profiles": [H100]}, **spec}
    observed = b.observed(models=[b.model(spec=base)], profiles=profiles or b.profiles(*b.REAL), nodes=nodes or [b.h100(), b.a3(), b.ppu()])
    return prepare(observed, now=b.NOW).models["llm/m"]


def size(view: ModelView) -> int:
    (option,) = view.resolution.options
    return option.devices


def entry(**more: Any) -> dict[str, Any]:
    return {
        "model": "example/big", "engine": "vllm", "parallelism": {"tensor": 1}, "evidence": "Published", "source": "test",
        "date": "2026-11", **more,
    }  # fmt: skip


def test_the_order_of_trust_for_memory() -> None:
    """An entry's footprint of 140 GiB, else model.footprint of 60 GiB, else 280 GB of weights in fp32 by the shape: 2, 1 and 4 devices of
    72 GiB usable (77.3 GB)."""
    shape = {"uri": "hf://example/big", "shape": SEVENTY, "precision": "fp32"}
    assert size(resolved({"model": shape})) == 4
    view = resolved({"model": {**shape, "footprint": "60Gi"}})
    assert (size(view), view.resolution.options[0].memory) == (1, "model.footprint")
    listed = b.profile(H100, throughput=[entry(footprint="140Gi")])
    view = resolved({"model": {**shape, "footprint": "60Gi"}}, listed)
    assert size(view) == 2
    assert "footprint in throughput, test" in view.resolution.options[0].memory


@pytest.mark.parametrize(("tokens", "devices"), [(1000, 2), (12_000, 2), (40_000, 4)])
def test_the_kv_cache_of_one_request_counts(tokens: int, devices: int) -> None:
    """140 GB of weights leave 154.6 - 140 - 2 x 3.5 reserve = 7.6 GB on two devices: room for 23,200 tokens of 327,680 bytes."""
    view = resolved({"model": {"uri": "hf://example/big", "shape": SEVENTY, "precision": "bf16"}, "workload": {"inputTokens": tokens}})
    assert size(view) == devices


def test_the_default_lengths_are_said() -> None:
    """Nothing is stated, so one request is 1024 + 256 tokens, the defaults of spec.workload."""
    view = resolved({"model": {"uri": "hf://example/big", "shape": SEVENTY, "precision": "bf16"}})
    assert "the KV cache of one request of 1280 tokens" in view.resolution.options[0].memory


def test_a_parameter_count_alone_is_taken_times_the_stated_factor() -> None:
    """35B in bf16 are 70 GB, times 1.2 is 84 GB: two devices of 77.3 GB usable, and the factor is named."""
    view = resolved({"model": {"uri": "hf://example/big", "shape": {"paramsB": "35"}, "precision": "bf16"}})
    assert size(view) == 2
    assert "times 1.2" in view.resolution.options[0].memory


LENGTHS: dict[str, tuple[list[str], str, int]] = {
    "the model's context": ([], "40960 tokens, the context", 2),
    "less": (["--max-model-len=31000"], "31000 tokens, as --max-model-len says", 1),
    "in two words, the last counts": (["--max-model-len=9", "--max-model-len", "32k"], "32000 tokens", 2),
    "chosen by the engine": (["--max-model-len=auto"], "1280 tokens, of spec.workload", 1),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_the_engine_keeps_room_for_the_longest_request(case: str) -> None:
    """Qwen3-32B of the catalogue: 65.5 GB in bf16 and 3.5 reserve leave 8.28 GB of one H100, 31,590 tokens of 262,144 bytes; its context is
    40,960. vLLM would not start with less."""
    args, text, devices = LENGTHS[case]
    view = resolved({"model": {"uri": "hf://Qwen/Qwen3-32B", "precision": "bf16"}, "runtime": {**IMAGE, "args": args}})
    assert size(view) == devices
    assert text in view.resolution.options[0].memory
    assert "catalogue" in view.resolution.options[0].memory


def test_an_engine_that_takes_what_there_is_needs_the_workload_only() -> None:
    view = resolved({"model": {"uri": "hf://Qwen/Qwen3-32B", "precision": "bf16"}, "runtime": {**IMAGE, "engine": "sglang"}})
    assert size(view) == 1


def test_layers_with_a_window_keep_no_more_than_it() -> None:
    """Gemma 3 27B: 10 of 62 layers grow over 131,072 tokens, 52 keep 1,024: 2 x 16 x 128 x 2 bytes x (10 x 131072 + 52 x 1024) = 11.6 GB
    beside 54 + 3.5 GB: one H100 of 77.3 GB. If all layers grew it would be 66 GB."""
    assert size(resolved({"model": {"uri": "hf://google/gemma-3-27b-it"}})) == 1


HEADS = {
    "all divide": (64, 8, 0, 8, True),
    "key-value heads are replicated": (64, 8, 0, 16, True),
    "key-value heads neither divide nor are divided": (48, 8, 0, 12, False),
    "heads do not divide": (40, 8, 0, 16, False),
    "the latent cache is replicated": (128, 1, 576, 16, True),
}


@pytest.mark.parametrize("case", HEADS)
def test_which_tensor_sizes_cut_the_attention(case: str) -> None:
    """The tensor size divides the heads; key-value heads are split, or kept on several devices each."""
    heads, kv_heads, latent, tensor, good = HEADS[case]
    shape = Shape(1, 1, layers=1, hidden=1, heads=heads, kv_heads=kv_heads, head_dim=64, kv_lora=latent)
    assert divides(shape, tensor) is good


def test_a_stated_tensor_size_that_does_not_divide_is_refused_with_the_heads() -> None:
    """40 heads on 16 dies: the values, and the sizes that the profile allows."""
    model = {"uri": "hf://example/big", "shape": {**SEVENTY, "heads": 40}}
    view = resolved({"model": model, "placement": {"profiles": [A3]}, "runtime": {**IMAGE, "parallelism": {"tensor": 16}}})
    fault = view.resolution.unresolved
    assert fault is not None
    assert fault.reason == "SizeNotAllowed"
    assert "tensor 16 does not divide 40 heads (8 key-value heads)" in fault.message
    assert "allows 1, 16 devices" in fault.message


def test_too_large_names_need_room_and_a_format_that_is_smaller() -> None:
    """671B in bf16 are 1342 GB; eight H100 have 618.5 GB (576 GiB). fp8 would halve it."""
    view = resolved({"model": {"uri": "hf://example/huge", "precision": "bf16", "shape": {**SEVENTY, "paramsB": "671"}}})
    (row,) = [item for item in view.resolution.rejected if item.profile == H100]
    assert row.reason == "ModelTooLarge"
    assert "8 x 80Gi hold 576.0 GiB usable" in row.message
    assert "671B parameters in bf16" in row.message
    assert "fp8" in row.hint


def test_oc_022_whole_cards_are_taken_where_slices_would_have_to_be_combined() -> None:
    """OC-022: 80 GiB on tp 2. Ten slices of 40 GiB do not add up; four whole cards are there, and two of them are taken."""
    slices = b.profile(
        H100, unit={"kind": "slice", "memory": "40Gi"}, allocation={"sizes": [1]}, throughput=[],
        resources=[{"name": "nvidia.com/mig-3g.40gb"}], match=[{"labels": {"mig": ["yes"]}}],
    )  # fmt: skip
    slices = b.custom("HardwareProfile", "nvidia-mig-3g-40gb", slices.spec)
    node = b.node("mig-0", "nvidia.com/mig-3g.40gb", 10, {"mig": "yes"})
    spec = {"model": {"uri": "hf://example/big", "footprint": "80Gi"}, "runtime": {**IMAGE, "parallelism": {"tensor": 2}}, "placement": {}}
    view = resolved(spec, slices, b.profile(H100), nodes=[node, b.h100(devices=4)])
    assert [(option.profile, option.devices) for option in view.resolution.options] == [(H100, 2)]
    (row,) = view.resolution.rejected
    assert (row.profile, row.reason) == ("nvidia-mig-3g-40gb", "SizeNotAllowed")
    assert "asks for 2 devices" in row.message
    assert "allows 1 devices" in row.message


def test_experts_follow_from_the_total_and_the_active_parameters() -> None:
    """30.5B, 3.3B active, 8 of 128 experts: experts = (30.5 - 3.3) / (1 - 8/128) = 29.013B."""
    stated = ModelShape.parse({"paramsB": "30.5", "activeParamsB": "3.3", "experts": 128, "expertsPerToken": 8})
    found = known("a/b", "a/b", stated).shape
    assert found is not None
    assert found.expert_params_b == pytest.approx(29.0133, abs=1e-4)


def test_a_stated_field_wins_over_the_catalogue_and_the_others_stay() -> None:
    found = known("Qwen/Qwen3-32B", "Qwen/Qwen3-32B", ModelShape.parse({"maxContext": 131072})).shape
    listed = known("Qwen/Qwen3-32B", "Qwen/Qwen3-32B", None).shape
    assert found is not None
    assert listed is not None
    assert (found.max_context, found.layers, found.params_b) == (131072, listed.layers, listed.params_b)


def test_other_weights_of_a_variant_are_the_same_architecture() -> None:
    """Weights that nobody lists: the shape and the names are those of the main ones, their number format is not."""
    found = known("team/qwen-w8a8-2", "Qwen/Qwen3-32B", None)
    assert found.shape == known("Qwen/Qwen3-32B", "Qwen/Qwen3-32B", None).shape
    assert found.names == ("team/qwen-w8a8-2", "Qwen/Qwen3-32B")
    assert found.precision is None


@settings(max_examples=60, deadline=None)
@given(footprint=st.integers(1, 700), memory=st.integers(8, 192), sizes=st.sets(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1))
def test_the_size_is_the_smallest_that_holds(footprint: int, memory: int, sizes: set[int]) -> None:
    """Against brute force: the first of the legal sizes with size x memory x 0.9 >= footprint, in whole bytes; none: ModelTooLarge."""
    unit = {"kind": "card", "perNode": 8, "memory": f"{memory}Gi", "usableFraction": "0.9"}
    given_profile = b.profile(H100, throughput=[], unit=unit, allocation={"sizes": sorted(sizes)})
    view = resolved({"model": {"uri": "hf://example/big", "footprint": f"{footprint}Gi"}}, given_profile)
    room = memory * (1 << 30) * 9 // 10
    enough = [each for each in sorted(sizes) if each * room >= footprint * (1 << 30)]
    if enough:
        assert size(view) == enough[0]
    else:
        assert view.resolution.unresolved is not None
        assert view.resolution.unresolved.reason == "ModelTooLarge"


@settings(max_examples=40, deadline=None)
@given(params=st.integers(1, 600), tokens=st.integers(1, 200_000), more=st.integers(1, 200_000))
def test_longer_requests_never_need_fewer_devices(params: int, tokens: int, more: int) -> None:
    """Monotone in the length of the one request, whatever the model's size."""

    def devices(length: int) -> int:
        model = {"uri": "hf://example/big", "precision": "fp8", "shape": {**SEVENTY, "paramsB": str(params)}}
        view = resolved({"model": model, "runtime": {**IMAGE, "args": [f"--max-model-len={length}"]}})
        return view.resolution.options[0].devices if view.resolution.options else 1000

    assert devices(tokens) <= devices(tokens + more)
