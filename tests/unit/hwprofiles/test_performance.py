"""The order of trust: which entry speaks, between which two is interpolated, when the closed form may, and when nobody does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles import HardwareProfileSpec, Layout
from hwprofiles.estimate import Load, Refusal, Slo, estimate, hardware_of
from hwprofiles.performance import ASSUMED_LOAD, Performance, performance
from hwprofiles.shape import Shape

MODEL = "m/x"
SHAPE = Shape(8.0, 8.0, 32, 4096, 32, 8, 128)
LOAD = Load(1000, 500, 8)


def entry(rate: float, concurrency: int | None = 8, **changes: Any) -> dict[str, Any]:
    made = {
        "model": MODEL,
        "precision": "bf16",
        "engine": "vllm",
        "engineVersion": "1.0",
        "inputTokens": 1000,
        "outputTokens": 500,
        "concurrency": concurrency,
        "outputTokensPerSecond": str(rate),
        "evidence": "Measured",
        "confidence": "High",
        "source": f"bench {rate}",
        "date": "2026-11-01",
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def spec(*entries: dict[str, Any], **changes: Any) -> HardwareProfileSpec:
    base = {
        "vendor": "acme",
        "family": "x",
        "unit": {"kind": "card", "perNode": 8, "memory": "80Gi", "usableFraction": "0.9"},
        "resources": [{"name": "acme.com/x"}],
        "allocation": {"sizes": [1, 2, 4, 8]},
        "peakTflops": {"bf16": "989"},
        "bandwidthTBps": "3.35",
        "efficiency": {"mfu": "0.5", "mbu": "0.7", "stepOverheadMs": "4"},
        "throughput": list(entries),
    }
    return HardwareProfileSpec.parse({**base, **changes})


def ask(profile: HardwareProfileSpec, load: Load | None = LOAD, **changes: Any) -> Performance | Refusal:
    asked: dict[str, Any] = {
        "model_id": MODEL, "shape": SHAPE, "precision": "bf16", "engine": "vllm", "engine_version": "1.0", "layout": Layout(),
    }  # fmt: skip
    return performance("p", profile, load=load, **{**asked, **changes})


def rated(*args: Any, **changes: Any) -> Performance:
    found = ask(*args, **changes)
    assert isinstance(found, Performance), found
    return found


def refused(*args: Any, **changes: Any) -> Refusal:
    found = ask(*args, **changes)
    assert isinstance(found, Refusal), found
    assert "polyfleet bench --profile p --model m/x" in found.hint
    return found


def test_measured_before_published_before_estimated_before_the_formula() -> None:
    """With all four at hand the most trusted one that covers the load is used, whatever it says; an estimate on its lower bound."""
    estimated, published, measured = entry(300, evidence="Estimated"), entry(200, evidence="Published"), entry(100)
    assert rated(spec(estimated, published, measured)).output_tokens_per_s == 100
    found = rated(spec(estimated, published))
    assert (found.output_tokens_per_s, found.evidence, found.entry, found.source) == (200, "Published", 1, "bench 200")
    found = rated(spec(estimated))
    assert (found.output_tokens_per_s, found.point) == (pytest.approx(300 / 1.4), 300)
    assert found.upper == pytest.approx(300 * 1.4)
    formula = rated(spec())
    own = estimate(SHAPE, hardware_of(spec(), "vllm"), Layout(), "bf16", LOAD)
    assert not isinstance(own, Refusal)
    assert (formula.output_tokens_per_s, formula.point, formula.entry) == (own.lower, own.output_tokens_per_s, None)


def test_a_less_trusted_entry_speaks_where_the_measured_one_does_not_reach() -> None:
    """A measurement at other lengths does not hide a published figure that covers the load."""
    found = rated(spec(entry(100, inputTokens=100), entry(200, evidence="Published")))
    assert (found.entry, found.evidence) == (1, "Published")


def test_covered_is_half_to_double_and_up_to_the_concurrency() -> None:
    """Default range of an entry at 1000/500/8: input 500 to 2000, output 250 to 1000, concurrency 1 to 8, borders included."""
    only = spec(entry(100))
    for load in (Load(500, 250, 1), Load(2000, 1000, 8), Load(1000, 500)):
        assert rated(only, load).entry == 0
    for load in (Load(499, 500, 8), Load(2001, 500, 8), Load(1000, 249, 8), Load(1000, 1001, 8), Load(1000, 500, 9)):
        found = refused(only, load)
        assert found.reason == "LoadOutsideProfileRange"
        assert "throughput[0] (Measured) covers input 500 to 2000, output 250 to 1000, concurrency 1 to 8" in found.message
        assert f"--input-tokens {load.input_tokens} --output-tokens {load.output_tokens} --concurrency {load.concurrency}" in found.hint


def test_valid_for_replaces_the_default() -> None:
    """A stated range is taken as it is, wider or narrower."""
    wide = spec(entry(100, validFor={"inputTokens": {"min": 1, "max": 9000}, "concurrency": {"min": 0, "max": 64}}))
    assert rated(wide, Load(8000, 500, 60)).point == 100
    assert "entry at concurrency 8 used for 60" in rated(wide, Load(8000, 500, 60)).assumptions
    narrow = spec(entry(100, validFor={"outputTokens": {"min": 500, "max": 500}}))
    assert refused(narrow, Load(1000, 501, 8)).reason == "LoadOutsideProfileRange"


def test_only_entries_of_exactly_this_key_close_the_formula() -> None:
    """Another layout, engine, precision or model has its own figures: they neither answer nor refuse."""
    others = [
        entry(100, parallelism={"tensor": 2}),
        entry(100, engine="sglang"),
        entry(100, precision="w8a8"),
        entry(100, model="m/y"),
        entry(100, outputTokensPerSecond=None, footprint="20Gi"),
    ]
    assert rated(spec(*others), Load(9999, 9999, 1)).entry is None
    assert rated(spec(entry(100, parallelism={"expert": 1}))).entry == 0  # expert 1 and none are the same
    assert rated(spec(entry(100, precision=None))).entry == 0


@pytest.mark.parametrize(("a", "b"), [(0.02, 0.001), (0.004, 0.004), (0.05, 0.0)])
def test_interpolation_is_exact_for_a_server_with_fixed_and_proportional_cost(a: float, b: float) -> None:
    """A server that takes a + b*c seconds per token at concurrency c: measured at 1, 2 and 8, predicted at 4 within 0.01 %."""

    def law(c: int) -> float:
        return c / (a + b * c)

    profile = spec(*(entry(round(law(c), 6), c) for c in (1, 2, 8)))
    found = rated(profile, Load(1000, 500, 4))
    assert found.point == pytest.approx(law(4), rel=1e-4)
    assert found.assumptions == ("interpolated between concurrency 2 and 8",)
    assert (found.entry, found.concurrency) == (2, 4)


def test_a_linear_rule_would_miss_it() -> None:
    """Why not linear in the rate: for a = 20 ms, b = 4 ms that is more than 8 % off at 4, where the rule above is exact."""
    a, b = 0.020, 0.004
    law = {c: c / (a + b * c) for c in (2, 4, 8)}
    linear = law[2] + (law[8] - law[2]) * (4 - 2) / (8 - 2)
    assert abs(linear / law[4] - 1) > 0.08


KIMI = {1: 17.0, 2: 33.0, 4: 57.0, 8: 90.0, 16: 53.0}


def test_a_series_that_falls_stays_between_its_neighbours() -> None:
    """Published series of Kimi-K2 (vllm-ascend documentation) that falls at 16: exact at its points, else between the neighbours."""
    profile = spec(*(entry(rate, c) for c, rate in KIMI.items()))
    for c in range(1, 17):
        found = rated(profile, Load(1000, 500, c)).point
        low, high = max(k for k in KIMI if k <= c), min(k for k in KIMI if k >= c)
        assert min(KIMI[low], KIMI[high]) <= found <= max(KIMI[low], KIMI[high])
        assert c not in KIMI or found == KIMI[c]
    assert refused(profile, Load(1000, 500, 17)).reason == "LoadOutsideProfileRange"
    assert rated(profile, Load(1000, 500)).point == 90.0  # concurrency left free: the best of the series


@settings(max_examples=100)
@given(st.dictionaries(st.integers(1, 200), st.integers(1, 100_000), min_size=2, max_size=6), st.data())
def test_interpolation_never_leaves_its_neighbours(series: dict[int, int], data: st.DataObject) -> None:
    """For any series at all, and never beyond its ends."""
    profile = spec(*(entry(rate, c) for c, rate in series.items()))
    wanted = data.draw(st.integers(min(series), max(series)))
    low, high = max(k for k in series if k <= wanted), min(k for k in series if k >= wanted)
    found = rated(profile, Load(1000, 500, wanted)).point
    assert min(series[low], series[high]) * (1 - 1e-9) <= found <= max(series[low], series[high]) * (1 + 1e-9)
    assert refused(profile, Load(1000, 500, max(series) + 1)).reason == "LoadOutsideProfileRange"


def test_no_interpolation_across_evidence_or_lengths() -> None:
    """2 measured and 8 published: 4 is answered by the published one as it stands; entries of other lengths are not mixed in."""
    found = rated(spec(entry(50, 2), entry(90, 8, evidence="Published")), Load(1000, 500, 4))
    assert (found.point, found.evidence) == (90, "Published")
    found = rated(spec(entry(50, 2), entry(90, 8, inputTokens=1001)), Load(1000, 500, 4))
    assert (found.point, found.assumptions) == (90, ("entry at concurrency 8 used for 4",))


def test_the_nearest_lengths_win() -> None:
    """Of two covering entries the one whose lengths are closer is used, not the one that promises more."""
    profile = spec(entry(100, inputTokens=1100), entry(500, inputTokens=1900))
    assert rated(profile).point == 100


def test_another_engine_version_counts_only_without_this_one_and_less() -> None:
    """Confidence falls by one and the reason is written beside the result; with an entry of this version the other is silent."""
    old = entry(100, engineVersion="0.9")
    found = rated(spec(old))
    assert (found.point, found.confidence, found.assumptions) == (100, "Medium", ("entry of vllm 0.9, not 1.0",))
    both = rated(spec(old, entry(80)))
    assert (both.point, both.confidence) == (80, "High")
    assert refused(spec(old, entry(80, inputTokens=100))).reason == "LoadOutsideProfileRange"
    assert rated(spec(old), engine_version=None).confidence == "High"


def test_without_a_load_the_best_entry_as_it_is() -> None:
    """No range check: highest rate of the most trusted class; without entries the closed form at a load that is named."""
    found = rated(spec(entry(100), entry(120, inputTokens=9000), entry(999, evidence="Published")), None)
    assert (found.point, found.entry) == (120, 1)
    assert (
        f"load of {ASSUMED_LOAD.input_tokens} + {ASSUMED_LOAD.output_tokens} tokens per request assumed" in rated(spec(), None).assumptions
    )


def test_min_evidence_leaves_weaker_data_out() -> None:
    """Nothing measured: refused with what there is; the closed form never passes for more than Estimated."""
    found = refused(spec(entry(100, evidence="Published")), min_evidence="Measured")
    assert found.reason == "NoPerformanceData"
    assert "the best that is known is Published" in found.message
    assert refused(spec(), min_evidence="Published").reason == "NoPerformanceData"
    assert rated(spec(entry(100, evidence="Published")), min_evidence="Published").point == 100
    with pytest.raises(ValueError, match="allowed: Measured, Published, Estimated"):
        ask(spec(), min_evidence="Guessed")


def test_entries_that_break_the_slo() -> None:
    """An entry slower than the limit is passed over for one that keeps it; alone it is a refusal with both figures."""
    slow, fast = entry(900, 64, itl="80ms"), entry(400, 16, itl="30ms")
    slo = Slo(itl_s=0.05)
    assert rated(spec(slow, fast), Load(1000, 500), slo=slo).point == 400
    found = refused(spec(slow), Load(1000, 500), slo=slo)
    assert found.reason == "SloUnreachable"
    assert "throughput[0] at concurrency 64 has time between tokens 80 ms, allowed 50 ms" in found.message
    assert rated(spec(entry(900, 64)), Load(1000, 500), slo=slo).point == 900  # unknown latency breaks nothing


def test_measured_error_becomes_bounds() -> None:
    """The stated half width is the interval; the value itself is what is planned with."""
    found = rated(spec(entry(100, errorPercent="5")))
    assert (found.output_tokens_per_s, found.lower, found.upper) == (100, pytest.approx(95), pytest.approx(105))
    assert rated(spec(entry(100))).lower is None


def test_unsupported_precision_and_unknown_shape() -> None:
    """An Unsupported precision is refused although an entry claims it; without shape or entry the shape is asked for, with an entry not."""
    found = refused(spec(entry(100), dtypes={"bf16": "Native", "fp8": "Unsupported"}), precision="fp8")
    assert found.reason == "PrecisionUnsupported"
    assert rated(spec(entry(100)), shape=None).point == 100
    assert refused(spec(), shape=None).reason == "ModelShapeUnknown"
    assert refused(spec(bandwidthTBps=None), shape=None).reason == "NoPerformanceData"
    assert refused(spec(bandwidthTBps=None)).reason == "NoPerformanceData"


def test_lengths_that_an_entry_does_not_state_are_said() -> None:
    """A bare rate answers any length, with a note."""
    found = rated(spec(entry(100, None, inputTokens=None, outputTokens=None)), Load(7, 7, 99))
    assert found.assumptions == ("throughput[0] states no inputTokens and no outputTokens",)
