"""The throughput entries that come with polyfleet, against the published figures from which they were made."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal

import pytest

from hwprofiles import HardwareProfileSpec, load_profiles, load_shipped, match_node, validate
from hwprofiles.claims import numbers
from hwprofiles.plausible import bound
from hwprofiles.schema import SchemaError, duration_seconds
from hwprofiles.shipped_profiles import SHIPPED, parse_profile, read_objects
from hwprofiles.trust import trusted
from tools.paths import ROOT

PROFILES = load_shipped()
ENTRIES = [(name, entry) for name, spec in sorted(PROFILES.items()) for entry in spec.throughput]


def rate(name: str, model: str, **parts: object) -> Decimal:
    """The rate of the one entry of this model with these fields."""
    found = [
        entry for entry in PROFILES[name].throughput
        if entry.model == model and all(getattr(entry, key) == value for key, value in parts.items())
    ]  # fmt: skip
    assert len(found) == 1, (name, model, parts, len(found))
    assert found[0].output_tokens_per_second is not None
    return Decimal(found[0].output_tokens_per_second)


def test_nothing_shipped_is_in_doubt() -> None:
    """Rooflines, monotony, provenance, dates and keys hold over all of them on the day of this test."""
    assert trusted(PROFILES, today=datetime.datetime.now(datetime.UTC).date().isoformat()).faults == ()


UNJUDGED = {  # no peak and no bandwidth: a processor that plays a device
    (f"sandbox-{name}", model)
    for name in ("nvidia", "ascend", "ppu")
    for model in ("HuggingFaceTB/SmolLM2-135M-Instruct", "polyfleet/byte-tiny")
}


def test_every_entry_of_a_real_device_is_judged() -> None:
    """A check that does not know the model passes everything: 62 entries have a bound, and those without one are named."""
    rated = [(name, entry) for name, entry in ENTRIES if entry.output_tokens_per_second is not None]
    blank = {(name, entry.model) for name, entry in rated if bound(PROFILES[name], entry) is None}
    assert blank == UNJUDGED
    assert len(rated) - len(UNJUDGED) == 62


def test_no_limit_is_shipped_as_a_latency() -> None:
    """Predictions at the limit of 50 ms and CI runs for that target name it in their source and state no time between tokens: most of them
    are faster (an H100 with Qwen3-8B by its own numbers takes 176 / 6092 = 29 ms), and none proves that 45 ms cannot be."""
    at_limit = [entry for _, entry in ENTRIES if "limit TPOT 50 ms" in entry.source or "target TPOT 50 ms" in entry.source]
    assert len(at_limit) == 22 + 4
    assert [entry.itl for entry in at_limit] == [None] * 26
    assert [entry.model for _, entry in ENTRIES if entry.itl == "50ms"] == []


def test_every_number_and_entry_names_its_source() -> None:
    """Numbers outside throughput are covered by provenance, entries carry source, evidence and date; sources are words, not blanks."""
    for name, spec in PROFILES.items():
        covered = [field for item in spec.provenance for field in item.fields]
        for path in numbers(spec):
            assert any(path == field or path.startswith(f"{field}.") for field in covered), (name, path)
        origins = [(item.source, item.date) for item in spec.provenance] + [(item.source, item.date) for item in spec.throughput]
        for source, date in origins:
            assert len(source.strip()) > 4, name
            assert re.match(r"202[4-9]-", date), (name, date)


def test_provenance_covers_nothing_that_is_not_there() -> None:
    """A source for a field that the profile does not state would outlive the number that it was for."""
    for name, spec in PROFILES.items():
        paths = [*numbers(spec), "unit.perCard"]
        for item in spec.provenance:
            for field in item.fields:
                assert any(path == field or path.startswith(f"{field}.") for path in paths), (name, field)


def test_nothing_shipped_is_measured() -> None:
    """Measured is by an installation; nothing of polyfleet's own was measured on real silicon."""
    assert {entry.evidence for _, entry in ENTRIES} <= {"Published", "Estimated"}


@pytest.mark.parametrize(
    ("name", "model", "devices", "per_device"),
    [
        ("nvidia-h100-sxm", "Qwen/Qwen3-8B", 2, 3046),
        ("nvidia-h100-sxm", "meta-llama/Llama-3.1-8B-Instruct", 2, 3376),
        ("nvidia-h100-sxm", "Qwen/Qwen3-32B", 2, 1128),
        ("nvidia-h100-sxm", "meta-llama/Llama-3.1-70B-Instruct", 8, 551),
        ("nvidia-h100-sxm", "Qwen/Qwen3-30B-A3B", 2, 4760),
        ("nvidia-h100-sxm", "Qwen/Qwen3-235B-A22B", 8, 427),
        ("nvidia-h200-sxm", "Qwen/Qwen3-8B", 1, 4249),
        ("nvidia-h200-sxm", "meta-llama/Llama-3.1-8B-Instruct", 1, 4684),
        ("nvidia-h200-sxm", "Qwen/Qwen3-32B", 1, 1334),
        ("nvidia-h200-sxm", "meta-llama/Llama-3.1-70B-Instruct", 4, 736),
        ("nvidia-h200-sxm", "Qwen/Qwen3-30B-A3B", 1, 5438),
        ("nvidia-h200-sxm", "Qwen/Qwen3-235B-A22B", 8, 512),
        ("nvidia-h200-sxm", "deepseek-ai/DeepSeek-R1", 8, 408),
        ("nvidia-a100-sxm-80", "Qwen/Qwen3-8B", 1, 1367),
        ("nvidia-a100-sxm-80", "meta-llama/Llama-3.1-8B-Instruct", 2, 1472),
        ("nvidia-a100-sxm-80", "Qwen/Qwen3-32B", 4, 412),
        ("nvidia-a100-sxm-80", "meta-llama/Llama-3.1-70B-Instruct", 8, 185),
        ("nvidia-a100-sxm-80", "Qwen/Qwen3-30B-A3B", 4, 1395),
        ("nvidia-a100-sxm-80", "Qwen/Qwen3-235B-A22B", 8, 81),
        ("nvidia-l40s", "Qwen/Qwen3-8B", 2, 564),
        ("nvidia-l40s", "meta-llama/Llama-3.1-8B-Instruct", 2, 640),
        ("nvidia-l40s", "Qwen/Qwen3-30B-A3B", 2, 205),
    ],
)
def test_predictions_are_per_gpu_times_gpus(name: str, model: str, devices: int, per_device: int) -> None:
    """aiconfigurator 0.12.0 at 3500 + 1500 tokens and 50 ms per token: a rate per GPU; the entry is that of the replica, and Estimated.

    A request takes its time to the first token and at most 50 ms for each of 1500 more, so the rate cannot be below
    concurrency x 1500 / that time (Little's law; 5 % for rounding in the table).
    """
    assert rate(name, model, evidence="Estimated") == per_device * devices
    (entry,) = [item for item in PROFILES[name].throughput if item.model == model and item.evidence == "Estimated"]
    assert entry.parallelism.devices == devices
    assert entry.concurrency is not None
    assert entry.ttft is not None
    assert per_device * devices > 0.95 * entry.concurrency * 1500 / (duration_seconds(entry.ttft) + 1500 * 0.05)


# Output tokens/s worked out by hand, 1/21 of the total tokens/s (input and output) that the GPUStack performance lab prints.
@pytest.mark.parametrize(
    ("name", "model", "lengths", "output"),
    [
        ("nvidia-h100-sxm", "Qwen/Qwen3-14B", (2000, 100), "703.06"),  # 14764.26
        ("nvidia-h100-sxm", "Qwen/Qwen3-14B", (4000, 200), "583.70"),  # 12257.62
        ("nvidia-h100-sxm", "Qwen/Qwen3-32B", (2000, 100), "281.05"),  # 5901.95
        ("nvidia-h100-sxm", "Qwen/Qwen3-32B", (4000, 200), "234.72"),  # 4929.16
        ("nvidia-h100-sxm", "openai/gpt-oss-20b", (2000, 100), "1578.55"),  # 33149.54
        ("nvidia-h100-sxm", "openai/gpt-oss-120b", (4000, 200), "1642.43"),  # 34491.13
        ("nvidia-h100-sxm", "Qwen/Qwen3-235B-A22B-Instruct-2507", (2000, 100), "902.38"),  # 18950.04
        ("nvidia-a100-sxm-80", "Qwen/Qwen3-14B", (2000, 100), "355.90"),  # 7474.00
        ("nvidia-a100-sxm-80", "Qwen/Qwen3-32B", (4000, 200), "97.03"),  # 2037.67
        ("nvidia-h200-sxm", "deepseek-ai/DeepSeek-R1", (2000, 100), "905.92"),  # 19024.33
    ],
)
def test_total_tokens_are_converted_by_their_output_share(name: str, model: str, lengths: tuple[int, int], output: str) -> None:
    """100 of 2100 and 200 of 4200 tokens are output, exactly 1/21; the entry says that it was converted, and from what."""
    found = rate(name, model, input_tokens=lengths[0], output_tokens=lengths[1])
    assert found == Decimal(output)


def test_converted_entries_say_so() -> None:
    """Each names the total and the share in its source, and the arithmetic holds for every one of them."""
    checked = 0
    for _, entry in ENTRIES:
        if not entry.source.startswith("GPUStack"):
            continue
        said = re.search(r"converted: ([0-9.]+) total tokens/s x ([0-9]+)/([0-9]+), the output share", entry.source)
        assert said is not None, entry.source
        assert entry.output_tokens_per_second is not None
        assert (int(said[2]), int(said[3])) == (entry.output_tokens, (entry.input_tokens or 0) + (entry.output_tokens or 0))
        assert abs(Decimal(entry.output_tokens_per_second) * 21 - Decimal(said[1])) < Decimal("0.2")
        checked += 1
    assert checked == 18


@pytest.mark.parametrize(
    ("model", "parts", "expected"),
    [
        ("Qwen/Qwen3-32B", {"engine": "vllm"}, 1249),
        ("Qwen/Qwen3-30B-A3B", {"engine": "vllm"}, 812),
        ("Qwen/Qwen3.5-27B", {}, 959),
        ("Qwen/Qwen3.5-122B-A10B", {}, 1110),
        ("deepseek-ai/DeepSeek-R1", {"engine": "vllm", "concurrency": 32}, 657),
        ("deepseek-ai/DeepSeek-R1", {"engine": "vllm", "concurrency": 16}, 411),
        ("MiniMaxAI/MiniMax-M2.7", {"concurrency": 190}, 4573),
        ("MiniMaxAI/MiniMax-M2.7", {"concurrency": 48}, 2229),
        ("MiniMaxAI/MiniMax-M2.5", {}, 1116),
        ("moonshotai/Kimi-K2.6", {}, 1433),
        ("Qwen/Qwen3-32B", {"engine": "sglang"}, 1600),
        ("Qwen/Qwen3-30B-A3B", {"engine": "sglang"}, 3200),
        ("Qwen/Qwen3-235B-A22B", {"engine": "sglang"}, 6189),
        ("deepseek-ai/DeepSeek-R1", {"engine": "sglang"}, 3547),
    ],
)
def test_regression_floors_of_the_910c(model: str, parts: dict[str, object], expected: int) -> None:
    """The baselines of vllm-ascend's and SGLang's own tests on Atlas A3, of the whole instance."""
    assert rate("huawei-910c-752", model, **parts) == expected


def test_figures_of_unnamed_cards_belong_to_nobody() -> None:
    """Only Qwen3-32B is published for a 910B3 by name; rows of an "A2" or "910B" card are attached to none of the four."""
    found = {name: [entry.model for entry in PROFILES[name].throughput] for name in PROFILES if name.startswith("huawei-910b")}
    assert found == {"huawei-910b2": [], "huawei-910b3": ["Qwen/Qwen3-32B"], "huawei-910b4-32": [], "huawei-910b4-64": []}


def test_ppu_has_no_throughput_and_a_cautious_estimate() -> None:
    """Nothing is published for any PPU: no entry, an assumed bandwidth, and factors below those of every other device."""
    spec = PROFILES["alibaba-ppu-810e"]
    assert spec.throughput == ()
    for engine, derate in (spec.derate or {}).items():
        others = [(other.derate or {})[engine] for other in PROFILES.values() if other is not spec and engine in (other.derate or {})]
        assert others
        for field in ("in_node", "pd_wide_ep", "wide_moe", "cross_node"):
            assert all(Decimal(getattr(derate, field)) < Decimal(getattr(other, field)) for other in others)


def test_devices_have_the_published_numbers() -> None:
    """Memory, bandwidth and peaks of every device, from the data sheets and the vendors' device tables."""
    expected = {  # memory, TB/s, bf16, w8a8, fp8
        "nvidia-h100-sxm": ("80Gi", "3.35", "989", "1978", "1978"),
        "nvidia-h200-sxm": ("131Gi", "4.8", "989", "1978", "1978"),
        "nvidia-h20-96": ("96Gi", "4.0", "148", "296", "296"),
        "nvidia-a100-sxm-80": ("80Gi", "2.039", "312", "624", None),
        "nvidia-l40s": ("46068Mi", "0.864", "362", "733", "733"),
        "nvidia-l20": ("48Gi", "0.864", "119.5", "239", None),
        "amd-mi300x": ("192Gi", "5.3", "1307", "2615", "2615"),
        "huawei-910b2": ("64Gi", "1.76", "353.9", "752", None),
        "huawei-910b3": ("64Gi", "1.76", "294.9", "626", None),
        "huawei-910b4-32": ("32Gi", "0.8", "245.8", "560", None),
        "huawei-910b4-64": ("64Gi", "1.76", "245.8", "560", None),
        "huawei-910c-752": ("64Gi", "1.76", "353.9", "752", None),
        "huawei-910c-560": ("64Gi", "1.76", "245.8", "560", None),
        "alibaba-ppu-810e": ("96Gi", None, "118.7", None, None),
    }
    for name, numbers_ in expected.items():
        spec = PROFILES[name]
        peaks = spec.peak_tflops or {}
        assert (spec.unit.memory, spec.bandwidth_tbps, peaks.get("bf16"), peaks.get("w8a8"), peaks.get("fp8")) == numbers_, name


def test_each_engine_has_its_own_factors() -> None:
    """A derate belongs to hardware and engine: every engine that a real profile lists has one."""
    for name, spec in PROFILES.items():
        if not name.startswith("sandbox-"):
            assert set(spec.engines or {}) == set(spec.derate or {}), name


def slices() -> dict[str, HardwareProfileSpec]:
    text = (ROOT / "examples/slices.yaml").read_text(encoding="utf-8")
    return {name: parse_profile(name, item) for name, item in read_objects([("slices.yaml", text)]).items()}


def test_parts_of_devices_are_profiles_of_their_own() -> None:
    """The examples are valid, are never combined, and claim no speed: the only objection is that nothing can be estimated."""
    for name, spec in slices().items():
        assert (spec.unit.kind, spec.allocation.sizes, spec.throughput) == ("slice", (1,), ()), name
        assert {finding.reason for finding in validate(spec, today="2026-11-28")} == {"AssumptionMissing"}, name


def test_a_slice_is_matched_only_where_it_is_advertised() -> None:
    """A node that counts MIG instances in its labels is the slice's, its whole-card sister stays the card's, and vNPUs need a pool."""
    profiles = {**PROFILES, **slices()}
    whole = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    mixed = {**whole, "nvidia.com/mig-3g.40gb.count": "16"}
    assert match_node(profiles, whole, {"nvidia.com/gpu": 8}).profile == "nvidia-h100-sxm"
    assert match_node(profiles, mixed, {"nvidia.com/mig-3g.40gb": 16}).profile == "nvidia-h100-mig-3g.40gb"
    both = match_node(profiles, mixed, {"nvidia.com/gpu": 4, "nvidia.com/mig-3g.40gb": 8})
    assert both.profile is None
    npu = {"accelerator": "huawei-Ascend910", "node.kubernetes.io/npu.chip.name": "910B3"}
    assert match_node(profiles, npu, {"huawei.com/Ascend910": 8}).profile == "huawei-910b3"
    assert match_node(profiles, npu, {"huawei.com/Ascend910-10c.3cpu.32g": 16}).profile != "huawei-910b3-vnpu-10c.32g"


def test_the_chart_carries_the_same_files() -> None:
    """What helm installs is what is tested here."""
    assert load_profiles(ROOT / "charts/polyfleet/files/profiles") == load_profiles(SHIPPED)


def test_a_folder_that_is_not_there_is_empty_not_an_error() -> None:
    """No files, no profiles; a file that cannot be decoded is named."""
    assert load_profiles(SHIPPED / "nothing") == {}
    with pytest.raises(SchemaError, match=r"bad\.yaml"):
        read_objects([("bad.yaml", "{")])


def test_every_layout_can_be_requested() -> None:
    """Devices per node of each entry are a legal size of its profile."""
    for name, entry in ENTRIES:
        assert entry.parallelism.devices // entry.parallelism.span in PROFILES[name].allocation.sizes, (name, entry.model)
