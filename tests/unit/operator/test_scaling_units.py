"""The unit of work against numbers that were solved by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.decide import prepare
from polyfleet.resolve import ResolvedOption
from polyfleet.scaling import units
from polyfleet.scaling.force import Reference
from polyfleet.sizing import hardware

from autoscaling.types import Costs
from hwprofiles.estimate import Estimate, Load, estimate
from tests.unit.operator import builders as b
from tests.unit.operator.looks import A3, H100, POOLS, PPU

BASE = {
    "model": "example/big", "engine": "vllm", "parallelism": {"tensor": 1}, "concurrency": 8, "evidence": "Measured", "source": "test",
    "date": "2026-11-20",
}  # fmt: skip
ANY = {"inputTokens": {"min": 0, "max": 100000}, "outputTokens": {"min": 0, "max": 100000}, "concurrency": {"min": 0, "max": 512}}


def entry(prompt: int, output: int, rate: float, **more: Any) -> dict[str, Any]:
    return {**BASE, "inputTokens": prompt, "outputTokens": output, "outputTokensPerSecond": f"{rate:g}", "validFor": ANY, **more}


def options(rows: dict[str, list[dict[str, Any]]], spec: dict[str, Any] | None = None) -> dict[str, ResolvedOption]:
    """The model's options by profile; `rows`: throughput entries of each profile."""
    model = b.big_model(footprint="10Gi", tensor=1, spec={"scaling": {"maxReplicas": 4}, **(spec or {})})
    profiles = [b.profile(name, throughput=rows.get(name, [])) for name in b.SANDBOX]
    observed = b.observed(models=[model], profiles=profiles, pools=POOLS, nodes=(H100, A3, PPU))
    return {o.profile: o for o in prepare(observed, now=b.NOW).models[model.key].resolution.options}


def test_two_entries_of_different_shape_tell_prompt_and_output_apart() -> None:
    """100 p + 100 q = 100 / 50 = 2 s and 300 p + 100 q = 100 / 25 = 4 s give p = q = 0.01 s."""
    found = options({"sandbox-nvidia": [entry(100, 100, 50), entry(300, 100, 25)]}, {"workload": {"inputTokens": 100, "outputTokens": 100}})
    unit = units.reference(found.values(), Load(100, 100))
    assert unit is not None
    assert unit.basis == "entries"
    assert unit.costs.prompt == pytest.approx(0.01)
    assert unit.costs.output == pytest.approx(0.01)
    assert units.work_of(found["sandbox-nvidia"], Load(100, 100), unit) == pytest.approx(1.0)


@pytest.mark.parametrize("second", [entry(300, 100, 25, concurrency=16), entry(300, 100, 25, evidence="Published"), entry(200, 200, 50)])
def test_entries_that_cannot_be_compared_tell_nothing(second: dict[str, Any]) -> None:
    """Another concurrency, other evidence, or the same shape twice: the stated default ratio 0.2743 holds, as no shape is known."""
    rows = {"sandbox-nvidia": [entry(100, 100, 50), second]}
    found = options(rows, {"workload": {"inputTokens": 100, "outputTokens": 100}})
    unit = units.reference(found.values(), Load(100, 100))
    assert unit is not None
    assert unit.basis == "default"
    assert unit.costs.prompt / unit.costs.output == pytest.approx(0.30859375 / 1.125)
    # 100 p + 100 q = 2 s either way.
    assert unit.costs.of(100, 100) == pytest.approx(2.0)


def test_the_closed_form_is_asked_where_the_shape_is_known() -> None:
    shape = {"paramsB": "8", "layers": 32, "hidden": 4096, "heads": 32, "kvHeads": 8, "headDim": 128, "maxContext": 32768}
    spec = {
        "model": {"uri": "hf://example/big", "footprint": "10Gi", "precision": "bf16", "shape": shape},
        "workload": {"inputTokens": 1000, "outputTokens": 100},
    }
    model = b.big_model(tensor=1, spec={"scaling": {"maxReplicas": 4}, **spec})
    observed = b.observed(models=[model], profiles=b.profiles("nvidia-h100-sxm"), nodes=(b.h100(),))
    (option,) = prepare(observed, now=b.NOW).models[model.key].resolution.options
    unit = units.reference([option], Load(1000, 100))
    assert unit is not None
    assert unit.basis == "estimator"
    assert units.work_of(option, Load(1000, 100), unit) == pytest.approx(1.0)
    # Between the shapes that it was solved from, the two costs say what the closed form says of a request.
    wanted, found = option.wanted, option.performance
    assert found is not None
    assert wanted.known.shape is not None
    rates = {}
    for prompt in (750, 1000):
        load = Load(prompt, 100, found.concurrency)
        said = estimate(wanted.known.shape, hardware(wanted), option.layout, "bf16", load, model=wanted.model_id)
        assert isinstance(said, Estimate)
        rates[prompt] = said.output_tokens_per_s
    assert unit.costs.of(750, 100) / unit.costs.of(1000, 100) == pytest.approx(rates[1000] / rates[750], rel=0.02)


def test_other_options_are_rated_against_the_reference() -> None:
    """100 against 200 and 50 output tokens/s at one load: half, and a quarter of that again; the most trusted number is the reference."""
    rows = {
        "sandbox-ascend": [entry(128, 64, 200, evidence="Estimated", confidence="Low")],
        "sandbox-nvidia": [entry(128, 64, 100)],
        "sandbox-ppu": [entry(128, 64, 50)],
    }
    load = Load(128, 64)
    found = options(rows, {"workload": {"inputTokens": 128, "outputTokens": 64}})
    unit = units.reference(found.values(), load)
    assert unit is not None
    assert "sandbox-nvidia" in unit.option
    planned = found["sandbox-ascend"].performance
    assert planned is not None
    assert units.work_of(found["sandbox-nvidia"], load, unit) == pytest.approx(1.0)
    assert units.work_of(found["sandbox-ppu"], load, unit) == pytest.approx(0.5)
    # An estimate counts with its lower bound, as for placing.
    assert units.work_of(found["sandbox-ascend"], load, unit) == pytest.approx(planned.output_tokens_per_s / 100)
    assert planned.output_tokens_per_s < 200


def test_entries_of_different_loads_are_compared_by_work_and_not_by_tokens() -> None:
    """No load is stated. nvidia: 64 tokens per 0.64 s (128 + 64). ppu: 64 tokens/s too, but of requests of 1280 + 64 tokens, which are
    (0.2743 x 1280 + 64) / (0.2743 x 128 + 64) = 4.19 times the work."""
    found = options({"sandbox-nvidia": [entry(128, 64, 100)], "sandbox-ppu": [entry(1280, 64, 100)]})
    unit = units.reference(found.values(), None)
    assert unit is not None
    ratio = 0.30859375 / 1.125
    more = (ratio * 1280 + 64) / (ratio * 128 + 64)
    rates = {name: units.work_of(option, None, unit) for name, option in found.items() if name != "sandbox-ascend"}
    assert sorted(round(rate or 0, 6) for rate in rates.values()) in (
        [1.0, round(more, 6)],
        [round(1 / more, 6), 1.0],
    )


def test_without_a_number_there_is_no_unit_and_no_guess() -> None:
    found = options({}, {"scaling": {"maxReplicas": 4, "mode": "Advise"}, "replicas": 1})
    assert found  # placed by its memory
    assert units.reference(found.values(), None) is None
    option = found["sandbox-nvidia"]
    assert units.work_of(option, None, None) is None
    assert units.work_of(option, None, Reference("x", Costs(0.1, 0.1), "default")) is None


def test_a_unit_once_chosen_stays_and_only_its_ratio_improves() -> None:
    """The reference goes away, or its number doubles: the costs stay. Two entries appear: the ratio becomes 1, and the mean request costs
    what it cost before."""
    load = Load(100, 100)
    kept = Reference("gone", Costs(0.005, 0.015), "default")  # a request of 100 + 100 tokens is 2 work-seconds
    rows = {"sandbox-nvidia": [entry(100, 100, 100)]}
    assert units.reference(options(rows, {"workload": {"inputTokens": 100, "outputTokens": 100}}).values(), load, kept) == kept
    assert units.reference([], load, kept) == kept
    rows = {"sandbox-nvidia": [entry(100, 100, 50), entry(300, 100, 25)]}
    found = options(rows, {"workload": {"inputTokens": 100, "outputTokens": 100}})
    better = units.reference(found.values(), load, kept)
    assert better is not None
    assert (better.option, better.basis) == ("gone", "entries")
    assert (better.costs.prompt, better.costs.output) == (pytest.approx(0.01), pytest.approx(0.01))
    # 50 tokens/s are half a request/s, of 2 work-seconds.
    assert units.work_of(found["sandbox-nvidia"], load, better) == pytest.approx(1.0)
    worse = replace(better, costs=Costs(0.02, 0.02))
    assert units.reference(found.values(), load, worse) == worse
