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
    """2 measured and 8 published: 4 is answered by the published one alone; entries of other lengths are not mixed in. One entry of 90 at 8
    vouches for 45 at 4: see test_fewer_requests_than_the_entry_had."""
    found = rated(spec(entry(50, 2), entry(90, 8, evidence="Published")), Load(1000, 500, 4))
    assert (found.point, found.evidence) == (45, "Published")
    found = rated(spec(entry(50, 2), entry(90, 8, inputTokens=1001)), Load(1000, 500, 4))
    (note,) = found.assumptions
    assert found.point == 45
    assert note.startswith("entry at concurrency 8 used for 4: the share 4/8 of its rate, a lower bound")


@pytest.mark.parametrize(
    ("wanted", "changes", "expected", "why"),
    [
        (1, {}, 2256 / 112, "the share 1/112 of its rate"),
        (56, {}, 1128, "the share 56/112 of its rate"),
        (112, {}, 2256, ""),
        (1, {"itl": "20ms"}, 2256 / 112, "the share 1/112 of its rate"),  # 1 / 20 ms = 50 is more than is certain
        (1, {"itl": "100ms"}, 10, "1 requests at 100 ms per token"),  # what no request can beat
        (1, {"concurrency": None, "itl": "50ms"}, 20, "1 requests at 50 ms per token"),
        (1, {"concurrency": None, "itl": "50ms", "ttft": "25s"}, 10, "1 requests at 100 ms per token"),  # 25 s / 500 tokens = 50 ms
        (1000, {"concurrency": None, "itl": "50ms"}, 2256, ""),  # 1000 / 50 ms is above the full server
    ],
)
def test_fewer_requests_than_the_entry_had(wanted: int, changes: dict[str, Any], expected: float, why: str) -> None:
    """2256 tokens/s of 112 requests: one request alone cannot get them. It gets at least its share, and where only the time per token is
    known, what that leaves; both are said, trusted less, and bound from below only."""
    made = {"concurrency": 112, "errorPercent": "5", **changes}
    found = rated(spec(entry(2256, made.pop("concurrency"), **made)), Load(1000, 500, wanted))
    assert found.point == pytest.approx(expected)
    notes = [note for note in found.assumptions if "a lower bound" in note]
    if not why:
        assert (notes, found.confidence) == ([], "High")
    else:
        assert f"used for {wanted}: {why}, a lower bound as long as fewer requests are not slower" in notes[0]
        assert (found.upper, found.confidence, found.concurrency) == (None, "Medium", wanted)


@settings(max_examples=200)
@given(
    st.integers(1, 500), st.one_of(st.none(), st.integers(1, 500)), st.integers(1, 9999), st.one_of(st.none(), st.integers(1, 500)),
)  # fmt: skip
def test_never_faster_than_its_time_per_token(wanted: int, own: int | None, rate: int, itl: int | None) -> None:
    """Fewer requests than the entry's never get more than concurrency / itl, nor more than the full server."""
    found = ask(spec(entry(rate, own, itl=None if itl is None else f"{itl}ms")), Load(1000, 500, wanted))
    if isinstance(found, Refusal):
        assert found.reason == "LoadOutsideProfileRange"
        return
    assert found.point <= rate * (1 + 1e-9)
    if itl is not None and wanted != own:
        assert found.point <= wanted / (itl / 1e3) * (1 + 1e-9)
    if own is not None:
        assert found.point <= rate * min(1.0, wanted / own) * (1 + 1e-9)


def test_an_end_that_excludes_the_load_is_no_neighbour() -> None:
    """2 and 8 are known, but the one at 2 says that it speaks for 1 to 2 only: 4 is not between them; it has its share of 8."""
    low = entry(50, 2, validFor={"concurrency": {"min": 1, "max": 2}})
    assert rated(spec(low, entry(90, 8)), Load(1000, 500, 4)).point == 45
    wide = entry(50, 2, validFor={"concurrency": {"min": 1, "max": 4}})
    assert rated(spec(wide, entry(90, 8)), Load(1000, 500, 4)).assumptions == ("interpolated between concurrency 2 and 8",)
    high = entry(90, 8, validFor={"concurrency": {"min": 6, "max": 8}})
    assert refused(spec(entry(50, 2), high), Load(1000, 500, 4)).reason == "LoadOutsideProfileRange"
    assert rated(spec(wide, high), Load(1000, 500, 4)).assumptions == ("entry at concurrency 2 used for 4",)


@pytest.mark.parametrize("load", [None, LOAD, Load(1000, 500), Load(1000, 500, 4)])
def test_of_two_measurements_of_one_day_the_slower_counts(load: Load | None) -> None:
    """One key and one date: which stands first in the list decides nothing."""
    one, two = entry(100), entry(80)
    assert rated(spec(one, two), load).point == rated(spec(two, one), load).point
    assert rated(spec(one, two), load).source == "bench 80"
    assert rated(spec(entry(100, date="2026-11-02"), two), load).source == "bench 100"


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
    """A bare rate answers any length, with a note; it is that of a full server, and at 99 requests nobody knows whether it is full."""
    bare = spec(entry(100, None, inputTokens=None, outputTokens=None))
    assert rated(bare, Load(7, 7)).assumptions == (
        "throughput[0] states no inputTokens and no outputTokens",
        "throughput[0] at saturation, its concurrency is not stated",
    )
    found = refused(bare, Load(7, 7, 99))
    assert found.reason == "LoadOutsideProfileRange"
    assert "covers a saturated server, at a concurrency that is not stated" in found.message
    said = entry(100, None, validFor={"concurrency": {"min": 50, "max": 200}})
    assert rated(spec(said), Load(1000, 500, 99)).point == 100


def test_an_estimate_that_is_too_slow_gives_way_to_the_formula() -> None:
    """Somebody's prediction at its own limit of 50 ms proves nothing of 45 ms: the closed form answers, and says so. The limit is found in
    its own numbers where it is not stated: 112 / 2256 is 49.6 ms per token. A measurement that is too slow stays a refusal."""
    slo, load = Slo(itl_s=0.045), Load(1000, 500)
    for slow in (entry(900, 8, evidence="Estimated", itl="50ms"), entry(2256, 112, evidence="Estimated")):
        found = rated(spec(slow), load, slo=slo)
        own = estimate(SHAPE, hardware_of(spec(), "vllm"), Layout(), "bf16", load, slo)
        assert not isinstance(own, Refusal)
        assert (found.entry, found.output_tokens_per_s, found.itl_s) == (None, own.lower, own.itl_s)
        assert "throughput[0] (Estimated) is too slow for the SLO, the closed form stands in" in found.assumptions
        assert rated(spec(slow), load, slo=Slo(itl_s=0.051)).entry == 0
        assert refused(spec(slow), load, slo=slo, shape=None).reason == "SloUnreachable"
        both = spec(slow, entry(800, 8, itl="60ms"))
        assert refused(both, load, slo=slo).reason == "SloUnreachable"


def test_a_goal_below_what_the_numbers_leave_is_said() -> None:
    """A published rate without a latency counts under any goal, but 100 requests at 1600 tokens/s wait 62.5 ms for each token."""
    found = rated(spec(entry(1600, 100, evidence="Published")), Load(1000, 500), slo=Slo(itl_s=0.05))
    assert found.point == 1600
    assert found.assumptions == ("throughput[0] states no itl: concurrency and rate make it 62.5 ms, the SLO is 50 ms",)
    assert rated(spec(entry(1600, 100, evidence="Published")), Load(1000, 500), slo=Slo(itl_s=0.063)).assumptions == ()
