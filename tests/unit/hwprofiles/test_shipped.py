"""The shipped files: valid, complete in their sources, plausible, and as the sandbox needs them."""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest

from hwprofiles import HardwareProfileSpec, Throughput, load_profiles, load_shipped, match_node, validate
from hwprofiles.schema import SchemaError, quantity_bytes

PROFILES = load_shipped()
WANTED = {
    *(f"nvidia-{name}" for name in ("h100-sxm", "h200-sxm", "h20-96", "a100-sxm-80", "l40s", "l20")),
    *(f"huawei-{name}" for name in ("910b2", "910b3", "910b4-32", "910b4-64", "910c-752", "910c-560")),
    *("alibaba-ppu-810e", "amd-mi300x", "sandbox-nvidia", "sandbox-ascend", "sandbox-ppu"),
}
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def altered(name: str, **changes: Any) -> HardwareProfileSpec:
    return HardwareProfileSpec.parse({**PROFILES[name].dump_set(), **changes})


def test_all_of_them_are_there() -> None:
    """Exactly the profiles that the interface lists are shipped; file and object have the same name."""
    assert set(PROFILES) == WANTED
    assert {path.stem for path in (Path(__file__).parents[3] / "hwprofiles/shipped").glob("*.yaml")} == WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_no_findings(name: str) -> None:
    """No size, precision, pattern or missing source is objected to: above all, no number without provenance."""
    assert validate(PROFILES[name]) == []


def test_a_number_without_source_is_found() -> None:
    """Each quantity whose provenance is taken away is named; a source for one field does not cover its neighbour."""
    fields = {f.field for f in validate(altered("nvidia-h100-sxm", provenance=[])) if f.reason == "ProvenanceMissing"}
    assert {"unit.memory", "peakTflops.bf16", "bandwidthTBps", "topology.nodeLinkGBps", "cost.perDeviceHour", "allocation.sizes"} <= fields
    one = {"fields": ["peakTflops.bf16"], "evidence": "Published", "source": "s", "date": "2026-11"}
    fields = {f.field for f in validate(altered("nvidia-h100-sxm", provenance=[one]))}
    assert "peakTflops.bf16" not in fields
    assert "peakTflops.fp16" in fields


def test_findings_of_the_rules() -> None:
    """Odd size above 1, alignTo that does not divide, Unsupported precision, layout outside sizes, broken pattern: each is found."""
    entry = PROFILES["huawei-910c-752"].throughput[0].dump_set()
    cases: dict[str, dict[str, Any]] = {
        "SizeMisaligned": {"allocation": {"sizes": [1, 3, 16], "alignTo": 2}},
        "SizeNotAllowed": {"throughput": [{**entry, "parallelism": {"tensor": 3}}]},
        "PrecisionUnsupported": {"throughput": [{**entry, "precision": "fp8"}]},
        "PatternInvalid": {"match": [{"labelPatterns": {"k": "("}}]},
    }
    for reason, change in cases.items():
        assert reason in {finding.reason for finding in validate(altered("huawei-910c-752", **change))}, reason


def test_unknown_bandwidth_needs_an_assumption() -> None:
    """The PPU has no published bandwidth; without the stated assumption nothing may be estimated, and that is said."""
    ppu = PROFILES["alibaba-ppu-810e"]
    assert ppu.bandwidth_tbps is None
    assert ppu.assume is not None
    assert ppu.assume.bandwidth_tbps == "1.6"
    without = HardwareProfileSpec.parse({k: v for k, v in ppu.dump_set().items() if k != "assume"})
    assert [f.reason for f in validate(without)] == ["AssumptionMissing"]


def test_halved_figures_of_the_910c() -> None:
    """One device is one die: 64 GiB, 16 per node, half of the card's 752 TFLOPS."""
    spec = PROFILES["huawei-910c-752"]
    assert (spec.unit.kind, spec.unit.per_card, spec.unit.per_node, spec.unit.memory) == ("die", 2, 16, "64Gi")
    assert spec.peak_tflops is not None
    assert Decimal(spec.peak_tflops["fp16"]) * 2 == 752


def test_no_fp8_where_the_silicon_has_none() -> None:
    """910B, 910C and PPU 810E refuse FP8 by name, so that no entry or plan can assume it."""
    for name, spec in PROFILES.items():
        if name.startswith(("huawei-", "alibaba-")):
            assert spec.dtypes is not None
            assert spec.dtypes["fp8"] == "Unsupported", name


def test_monotone_throughput() -> None:
    """A device that beats another in peak, bandwidth and memory is not below 0.8 of its rate per device (same model and precision)."""

    def rates(spec: HardwareProfileSpec) -> dict[tuple[str, str | None, str], float]:
        found: dict[tuple[str, str | None, str], float] = {}
        for entry in spec.throughput:
            if entry.output_tokens_per_second:
                key = (entry.model, entry.precision, entry.engine)
                found[key] = max(found.get(key, 0.0), float(entry.output_tokens_per_second) / entry.parallelism.devices)
        return found

    checked = 0
    for better, worse in permutations([spec for name, spec in PROFILES.items() if not name.startswith("sandbox-")], 2):
        if not (better.peak_tflops and worse.peak_tflops and better.bandwidth_tbps and worse.bandwidth_tbps):
            continue
        dominates = (
            all(Decimal(better.peak_tflops.get(k, "0")) >= Decimal(v) for k, v in worse.peak_tflops.items())
            and Decimal(better.bandwidth_tbps) >= Decimal(worse.bandwidth_tbps)
            and quantity_bytes(better.unit.memory) >= quantity_bytes(worse.unit.memory)
        )
        for key in set(rates(better)) & set(rates(worse)) if dominates else ():
            checked += 1
            assert rates(better)[key] >= 0.8 * rates(worse)[key], key
    assert checked > 3


# Parameters (billions) and layers; all have 8 key-value heads of width 128 (the models' config.json).
DENSE = {
    "Qwen/Qwen3-32B": (32.8, 64),
    "Qwen/Qwen3-8B": (8.2, 36),
    "meta-llama/Llama-3.1-8B-Instruct": (8.0, 32),
    "meta-llama/Llama-3.1-70B-Instruct": (70.6, 80),
}


def _bound(spec: HardwareProfileSpec, entry: Throughput) -> float:
    """Output tokens/s at full bandwidth and full compute: prefill, then decode that reads weights and KV cache."""
    assert entry.precision is not None
    assert entry.concurrency is not None
    assert entry.input_tokens is not None
    assert entry.output_tokens is not None
    assert spec.bandwidth_tbps is not None
    assert spec.peak_tflops is not None
    billions, layers = DENSE[entry.model]
    weights = billions * 1e9 * (2 if entry.precision == "bf16" else 1)
    batch, into, out = entry.concurrency, entry.input_tokens, entry.output_tokens
    cache = batch * (into + out / 2) * 2 * layers * 8 * 128 * 2
    flops = float(spec.peak_tflops[entry.precision]) * 1e12 * entry.parallelism.devices
    bandwidth = float(spec.bandwidth_tbps) * 1e12 * entry.parallelism.devices
    decode = max((weights + cache) / bandwidth, 2 * billions * 1e9 * batch / flops)
    prefill = 2 * billions * 1e9 * into / flops
    return batch * out / (out * decode + batch * prefill)


def test_roofline_of_dense_models() -> None:
    """Every entry of a dense model lies between 0.1 and 1.0 of the bound at its own load."""
    checked = 0
    for name, spec in PROFILES.items():
        for entry in spec.throughput:
            # Entries without a concurrency have no load of their own to be held against.
            if entry.model in DENSE and entry.output_tokens_per_second and entry.concurrency:
                checked += 1
                share = float(entry.output_tokens_per_second) / _bound(spec, entry)
                assert 0.1 <= share <= 1.0, (name, entry.model, share)
    assert checked >= 15


def test_sandbox_profiles_have_real_unit_sizes() -> None:
    """Memory and count of the sandbox's units are those of the silicon in whose shape they come."""
    for sandbox, real in (("nvidia", "nvidia-h100-sxm"), ("ascend", "huawei-910c-752"), ("ppu", "alibaba-ppu-810e")):
        mine, theirs = PROFILES[f"sandbox-{sandbox}"], PROFILES[real]
        assert (mine.unit.kind, mine.unit.per_card, mine.unit.per_node, mine.unit.memory) == (
            theirs.unit.kind,
            theirs.unit.per_card,
            theirs.unit.per_node,
            theirs.unit.memory,
        )
        assert mine.allocation == theirs.allocation
        assert mine.vendor == theirs.vendor


def test_sandbox_prices_and_models() -> None:
    """PPU is the cheapest and NVIDIA the dearest; each profile has both models with a footprint, all of it Estimated."""
    prices = {name: Decimal(spec.cost.per_device_hour) for name, spec in PROFILES.items() if name.startswith("sandbox-") and spec.cost}
    assert sorted(prices, key=prices.__getitem__) == ["sandbox-ppu", "sandbox-ascend", "sandbox-nvidia"]
    for name in prices:
        entries = {entry.model: entry for entry in PROFILES[name].throughput}
        assert set(entries) == {SMOL, "polyfleet/byte-tiny"}
        assert {entry.footprint for entry in entries.values()} == {"1Gi"}
        assert {entry.evidence for entry in entries.values()} == {"Estimated"}
        assert {entry.engine for entry in entries.values()} == {"sandbox"}


def test_vendors_differ_in_number_formats() -> None:
    """The sandbox's three engines run different arithmetic, as mixed fleets do."""
    formats = {
        tuple(engine.args) for name in ("nvidia", "ascend", "ppu") for engine in (PROFILES[f"sandbox-{name}"].engines or {}).values()
    }
    assert formats == {("--backend=llamacpp",), ("--backend=numpy", "--dtype=fp16"), ("--backend=numpy", "--dtype=bf16")}


def test_profiles_do_not_tie_on_one_node() -> None:
    """No two match entries of different profiles are the same, except where the resource name tells the chip (HAMi's one label)."""
    for (a, one), (b, two) in combinations(sorted(PROFILES.items()), 2):
        same = {e.model_dump_json() for e in one.match} & {e.model_dump_json() for e in two.match}
        assert all('"labels":{"ascend":["on"]}' in text for text in same), (a, b)
    for name, spec in PROFILES.items():
        if name.startswith("huawei-") and spec.match:
            (own,) = [alias.name for alias in spec.resources if "hami" in alias.schedulers]
            assert match_node(PROFILES, {"ascend": "on"}, {own: spec.unit.per_node or 8}).profile == name


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("kind: Pod\n", "HardwareProfile"),
        ("a: [\n", "not YAML"),
        ("{apiVersion: polyfleet.io/v1alpha1, kind: HardwareProfile}\n", "metadata.name"),
        ("{apiVersion: polyfleet.io/v1alpha1, kind: HardwareProfile, metadata: {name: p}, spec: {vendor: v}}\n", "spec.family"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str, part: str) -> None:
    """A file that is no profile says which file and what is wrong with it."""
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(SchemaError, match=part):
        load_profiles(tmp_path)
