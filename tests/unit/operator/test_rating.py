"""What the numbers of a profile decide: where a number is demanded, which one is used, and what is said where there is none."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from polyfleet import rating
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.decide import prepare
from polyfleet.inputs import ModelView
from polyfleet.resolve import ResolvedOption

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.looks import A3 as A3_NODE
from tests.unit.operator.looks import H100 as H100_NODE
from tests.unit.operator.looks import PPU as PPU_NODE
from tests.unit.operator.looks import children

H100 = "nvidia-h100-sxm"
BENCH = "polyfleet bench --profile nvidia-h100-sxm --model example/big"
LOAD = {"inputTokens": 1000, "outputTokens": 200}


def entry(rate: str = "1000", tensor: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "model": "example/big", "precision": "bf16", "engine": "vllm", "parallelism": {"tensor": tensor}, "inputTokens": 1000,
        "outputTokens": 200, "concurrency": 32, "outputTokensPerSecond": rate, "ttft": "400ms", "itl": "30ms", "evidence": "Measured",
        "confidence": "High", "source": "our bench", "date": "2026-11-20", **more,
    }  # fmt: skip


def profile(*throughput: dict[str, Any], **more: Any) -> Any:
    """An H100 with these entries and nothing that an estimate could be made of, unless it is given back."""
    bare = {"peakTflops": {}, "bandwidthTBps": None, "engines": {"vllm": {"image": "i:v1", "version": "0.23.0"}}}
    return b.profile(H100, throughput=list(throughput), **{**bare, **more})


def resolved(spec: dict[str, Any], *profiles: Any, policy: dict[str, Any] | None = None, now: str = b.NOW) -> ModelView:
    base = {"model": {"uri": "hf://example/big", "precision": "bf16", "footprint": "40Gi"}, **spec}
    observed = b.observed(models=[b.model(spec=base)], profiles=profiles, nodes=[b.h100()], policy=b.policy(policy) if policy else None)
    return prepare(observed, now=now).models["llm/m"]


def option(view: ModelView) -> ResolvedOption:
    (found,) = view.resolution.options
    return found


def fault(view: ModelView) -> tuple[str, str]:
    assert view.resolution.unresolved is not None
    return view.resolution.unresolved.reason, view.resolution.unresolved.message


# ---- where a number is demanded


def test_a_fixed_size_without_a_goal_needs_no_speed() -> None:
    """Nothing rests on the speed: it is placed by its memory, and nothing is claimed of the speed."""
    found = option(resolved({"replicas": 2}, profile()))
    assert (found.devices, found.performance, found.evidence) == (1, None, "Estimated")


DEMANDS: dict[str, tuple[dict[str, Any], str]] = {
    "a workload": ({"workload": LOAD}, "spec.workload"),
    "a goal": ({"slo": {"ttft": "2s"}}, "spec.slo"),
    "automatic scaling": ({"scaling": {"maxReplicas": 4}}, "spec.scaling"),
}


@pytest.mark.parametrize("case", DEMANDS)
def test_who_states_a_load_or_a_goal_gets_a_number_or_the_reason(case: str) -> None:
    """No entry and neither peak nor bandwidth: refused, with the field that asks for it and the command that measures."""
    spec, field = DEMANDS[case]
    reason, message = fault(resolved(spec, profile()))
    assert reason == "NoPerformanceData"
    assert field in message
    assert BENCH in message


@pytest.mark.parametrize("mode", ["Advise", "External"])
def test_a_size_that_somebody_else_decides_needs_no_speed(mode: str) -> None:
    assert option(resolved({"replicas": 1, "scaling": {"maxReplicas": 4, "mode": mode}}, profile())).performance is None


def test_the_defaults_of_the_schema_are_nobodys_word() -> None:
    """The API server writes 1024 and 256 into every object: no range is checked. A request rate beside them makes them a statement."""
    far = entry(inputTokens=50_000, outputTokens=9_000)
    view = resolved({"workload": {"inputTokens": 1024, "outputTokens": 256}}, profile(far))
    assert option(view).evidence == "Measured"
    reason, _ = fault(resolved({"workload": {"inputTokens": 1024, "outputTokens": 256, "requestRate": "5"}}, profile(far)))
    assert reason == "LoadOutsideProfileRange"


# ---- which number


@pytest.mark.parametrize(("tokens", "covered"), [(500, True), (2000, True), (499, False), (2001, False)])
def test_an_entry_covers_half_to_double_its_lengths(tokens: int, covered: bool) -> None:
    """interface.md, throughput: outside is LoadOutsideProfileRange with the bench command, never clamped."""
    view = resolved({"workload": {**LOAD, "inputTokens": tokens}}, profile(entry()))
    if covered:
        found = option(view)
        assert found.performance is not None
        assert (found.performance.output_tokens_per_s, found.evidence) == (1000, "Measured")
        assert (found.performance.ttft_s, found.performance.itl_s) == (pytest.approx(0.4), pytest.approx(0.03))
    else:
        reason, message = fault(view)
        assert reason == "LoadOutsideProfileRange"
        assert BENCH in message
        assert str(tokens) in message


def test_a_load_outside_is_not_bought_off_with_more_devices() -> None:
    """Data for another load on one device, none on two: an estimate of two is no answer. Data that covers the load on two is."""
    capable = {"peakTflops": {"bf16": "989"}, "bandwidthTBps": "3.35"}
    spec = {"model": {"uri": "hf://Qwen/Qwen3-8B", "precision": "bf16"}, "workload": LOAD}
    far = entry(model="Qwen/Qwen3-8B", inputTokens=50_000)
    assert fault(resolved(spec, profile(far, **capable)))[0] == "LoadOutsideProfileRange"
    near = entry("3000", 2, model="Qwen/Qwen3-8B")
    found = option(resolved(spec, profile(far, near, **capable)))
    assert found.performance is not None
    assert (found.devices, found.performance.output_tokens_per_s) == (2, 3000)


CAPABLE = {"peakTflops": {"bf16": "989", "fp8": "1978"}, "bandwidthTBps": "3.35"}
QWEN = {"model": {"uri": "hf://Qwen/Qwen3-32B", "precision": "fp8"}, "workload": {"inputTokens": 2000, "outputTokens": 300}}


def qwen(evidence: str, tensor: int, rate: str = "1200") -> dict[str, Any]:
    known = {"model": "Qwen/Qwen3-32B", "precision": "fp8", "inputTokens": 2000, "outputTokens": 300, "evidence": evidence}
    return entry(rate, tensor, **known)


@pytest.mark.parametrize("evidence", ["Measured", "Published", "Estimated"])
def test_data_on_two_devices_beats_our_own_formula_on_one(evidence: str) -> None:
    """Qwen3-32B in FP8 fits on one H100, where only the formula speaks: an entry for two is trusted first, of whatever evidence."""
    found = option(resolved(QWEN, profile(**CAPABLE)))
    assert (found.devices, found.evidence) == (1, "Estimated")
    found = option(resolved(QWEN, profile(qwen(evidence, 2), **CAPABLE)))
    assert found.performance is not None
    assert (found.devices, found.evidence, found.performance.entry, found.performance.point) == (2, evidence, 0, 1200)


def test_among_data_the_smallest_size_of_the_better_kind() -> None:
    """Estimates on one, published on two and measured on four: two. The kinds that somebody saw happen do not outbid each other in size."""
    entries = [qwen("Estimated", 1), qwen("Published", 2), qwen("Measured", 4)]
    assert option(resolved(QWEN, profile(*entries, **CAPABLE))).devices == 2
    assert option(resolved(QWEN, profile(entries[0], **CAPABLE))).devices == 1
    assert option(resolved(QWEN, profile(entries[2], **CAPABLE))).devices == 4


def test_data_that_does_not_cover_the_load_moves_nothing() -> None:
    """A measurement on two devices at other lengths: the formula on one stands."""
    far = {**qwen("Measured", 2), "inputTokens": 50_000}
    assert option(resolved(QWEN, profile(far, **CAPABLE))).devices == 1


def test_without_a_goal_the_memory_decides() -> None:
    """Nobody asked for a speed: the size does not grow because somebody measured a larger one."""
    fixed = {"model": QWEN["model"], "replicas": 2}
    for spec in (profile(qwen("Measured", 2), **CAPABLE), profile(qwen("Measured", 2))):
        assert option(resolved(fixed, spec)).devices == 1
    policy = {"profiles": {"minEvidence": "Measured"}}
    assert option(resolved(fixed, profile(qwen("Measured", 2), **CAPABLE), policy=policy)).devices == 2


def test_a_prediction_at_its_limit_does_not_double_the_hardware() -> None:
    """A planner's 2256 tokens/s of two devices at its limit of 50 ms: a goal of 45 ms is met by fewer requests on two, not by four."""
    slow = {**qwen("Estimated", 2, "2256"), "concurrency": 112, "itl": "50ms"}
    two = {"runtime": {"parallelism": {"tensorChoices": [2, 4]}}, "slo": {"itl": "45ms"}}
    found = option(resolved({**QWEN, **two}, profile(slow, **CAPABLE)))
    assert found.performance is not None
    assert (found.devices, found.performance.entry) == (2, None)
    assert found.performance.itl_s is not None
    assert found.performance.itl_s <= 0.045
    assert "the closed form stands in" in found.caveat


def test_the_smallest_size_that_reaches_the_goal() -> None:
    """30 ms between tokens on one device, 18 on two, 12 on four: a goal of 20 ms takes two, one of 10 ms none."""
    entries = [entry("1000", 1), entry("1800", 2, itl="18ms"), entry("3000", 4, itl="12ms")]
    assert option(resolved({"workload": LOAD}, profile(*entries))).devices == 1
    assert option(resolved({"workload": LOAD, "slo": {"itl": "20ms"}}, profile(*entries))).devices == 2
    reason, _ = fault(resolved({"workload": LOAD, "slo": {"itl": "10ms"}}, profile(*entries)))
    assert reason == "SloUnreachable"


def test_an_estimate_is_planned_on_its_lower_bound_with_its_assumptions() -> None:
    """hardware.md 8: in a node the lower bound is the point / 1.4; the PPU's bandwidth is an assumption and is said."""
    spec = {"model": {"uri": "hf://Qwen/Qwen3-8B", "precision": "bf16"}, "workload": LOAD}
    observed = b.observed(models=[b.model(spec=spec)], profiles=b.profiles("alibaba-ppu-810e"), nodes=[b.ppu()])
    found = option(prepare(observed, now=b.NOW).models["llm/m"])
    assert found.performance is not None
    assert found.evidence == "Estimated"
    assert found.performance.output_tokens_per_s == pytest.approx(found.performance.point / 1.4)
    assert "bandwidthTBps 1.6" in found.caveat


def test_the_engine_with_data_for_the_load_wins() -> None:
    """Twice the rate at other lengths loses against an entry that covers the load."""
    engines = {"vllm": {"image": "v:1"}, "sglang": {"image": "s:1"}}
    found = option(resolved({"workload": LOAD}, profile(entry("2000", inputTokens=50_000), entry("900", engine="sglang"), engines=engines)))
    assert found.wanted.engine == "sglang"


ENGINES = {"vllm": {"image": "v:1"}, "sglang": {"image": "s:1"}}


@pytest.mark.parametrize(
    ("vllm", "sglang", "policy", "expected"),
    [
        # An estimate of 5000 is worth less than a measurement of 900; among equals the higher rate per device, not of the replica.
        (entry("5000", evidence="Estimated"), entry("900", engine="sglang"), {}, "sglang"),
        (entry("5000", evidence="Published"), entry("900", engine="sglang"), {}, "sglang"),
        (entry("900"), entry("3000", 4, engine="sglang"), {}, "vllm"),
        (entry("900"), entry("3700", 4, engine="sglang"), {}, "sglang"),
        (entry("900"), entry("900", engine="sglang"), {}, "vllm"),
        # What the policy does not let count does not vote either.
        (entry("900"), entry("5000", engine="sglang", evidence="Published"), {"profiles": {"minEvidence": "Measured"}}, "vllm"),
        (entry("900", evidence="Published"), entry("5000", engine="sglang", evidence="Published"), {}, "sglang"),
    ],
)
def test_the_engine_with_the_best_data_wins(vllm: dict[str, Any], sglang: dict[str, Any], policy: dict[str, Any], expected: str) -> None:
    found = option(resolved({"workload": LOAD}, profile(vllm, sglang, engines=ENGINES), policy=policy or None))
    assert found.wanted.engine == expected


# ---- age and evidence


def test_a_month_counts_from_its_last_day() -> None:
    """Nothing is called older than is certain; a date in the future is 0 days old."""
    today = date(2026, 11, 24)
    assert [rating.age_days(day, today) for day in ("2026-11-21", "2026-08", "2026-08-21", "2026-12")] == [3, 85, 95, 0]


def test_old_measurements_are_used_and_said() -> None:
    """maxAge 720h = 30 days. The day before the 30 days are over nothing is said."""
    for day, old in (("2026-10-26", False), ("2026-10-25", True)):
        view = resolved({"workload": LOAD}, profile(entry(date=day)), now="2026-11-25T08:00:00Z")
        found = option(view)
        assert found.performance is not None
        assert bool(found.stale) is old
        if old:
            assert "2026-10-25" in found.caveat
            assert "720h" in found.caveat
    published = entry(date="2024-01-01", evidence="Published")
    assert option(resolved({"workload": LOAD}, profile(published))).stale == ""


def test_where_only_measured_data_counts_an_old_one_does_not() -> None:
    """minEvidence Measured: refused as ProfileStale, with the command; on a profile where the model runs it stays."""
    policy = {"profiles": {"minEvidence": "Measured", "maxAge": "24h"}}
    spec = {"model": {"uri": "hf://example/big", "precision": "bf16", "footprint": "40Gi"}, "workload": LOAD}
    fresh, old = profile(entry(date="2026-11-25")), profile(entry(date="2026-11-01"))
    view = resolved(spec, old, policy=policy)
    assert fault(view)[0] == "ProfileStale"
    assert BENCH in fault(view)[1]
    model = b.model(spec=spec)
    (child,) = b.applied(cycle(b.observed(models=[model], profiles=[fresh], nodes=[b.h100()])).actions, "Deployment")
    deployment = b.child(child)
    pod = b.replica(deployment, "pod-1", node="h100-0", serving=True)
    observed = b.observed(models=[model], profiles=[old], nodes=[b.h100()], policy=b.policy(policy), deployments=[deployment], pods=[pod])
    assert option(prepare(observed, now=b.NOW).models["llm/m"]).stale


def test_weaker_data_is_not_used_under_a_higher_demand() -> None:
    """An estimate would be there; minEvidence Published refuses it although the model fits."""
    capable = {"peakTflops": {"bf16": "989"}, "bandwidthTBps": "3.35"}
    spec = {"model": {"uri": "hf://Qwen/Qwen3-8B", "precision": "bf16"}, "workload": LOAD}
    assert option(resolved(spec, profile(**capable))).evidence == "Estimated"
    reason, _ = fault(resolved(spec, profile(**capable), policy={"profiles": {"minEvidence": "Published"}}))
    assert reason == "NoPerformanceData"


# ---- engines


TOO_OLD = {"models": [{"model": "example/*", "minVersion": "0.10"}, {"model": "example/small", "minVersion": "0.8"}]}


@pytest.mark.parametrize(
    ("version", "uri", "good"),
    [
        ("0.9.1", "hf://example/big", False),
        ("0.10.0", "hf://example/big", True),
        ("0.9.1", "hf://example/small", True),
        ("nightly", "hf://example/big", True),
        ("0.9.1", "hf://other/big", True),
    ],
)
def test_an_engine_that_is_too_old_for_the_model(version: str, uri: str, good: bool) -> None:
    """Refused before placing, with both versions; an exact name beats a prefix, and what is no number is not judged."""
    engines = {"vllm": {"image": "i:v1", "version": version, **TOO_OLD}}
    view = resolved({"model": {"uri": uri, "footprint": "40Gi"}}, profile(engines=engines))
    assert bool(view.resolution.options) is good
    if not good:
        reason, message = fault(view)
        assert reason == "EngineTooOld"
        assert "engine vllm 0.9.1 is too old for example/big, which needs 0.10" in message


def test_an_image_of_the_users_is_not_judged_by_the_profiles_version() -> None:
    engines = {"vllm": {"image": "i:v1", "version": "0.9.1", **TOO_OLD}}
    view = resolved({"runtime": {"engine": "vllm", "image": "mine:v2"}}, profile(engines=engines))
    assert option(view).wanted.engine_version is None


# ---- what status says


def test_status_shows_speed_evidence_and_what_it_rests_on() -> None:
    """Two replicas of 1000 tokens/s each; the entry is 31 days old and says so."""
    spec = {"model": {"uri": "hf://example/big", "precision": "bf16", "footprint": "40Gi"}, "workload": LOAD, "replicas": 2}
    model, profiles = b.model(spec=spec), [profile(entry(date="2026-10-25"))]
    first = cycle(b.observed(models=[model], profiles=profiles, nodes=[b.h100()]))
    (manifest,) = b.applied(first.actions, "Deployment")
    child = b.child(manifest)
    pods = [b.replica(child, f"pod-{n}", node="h100-0", serving=True) for n in range(2)]
    pools = [b.pool(H100, H100)]
    done = cycle(b.observed(models=[model], profiles=profiles, nodes=[b.h100()], pools=pools, deployments=[child], pods=pods))
    status = done.status("ModelDeployment", "m")
    (row,) = status["placements"]
    assert (row["tokensPerSecond"], row["evidence"]) == ("2000", "Measured")
    assert "measured 2026-10-25" in row["message"]
    word, reason, message = b.condition(status, "ProfilesResolved")
    assert (word, reason) == ("True", "ProfileStale")
    assert BENCH in message
    assert b.condition(status, "Ready")[0] == "True"


def test_a_goal_out_of_reach_is_told_by_placed() -> None:
    """The data is usable and says no: ProfilesResolved holds, Placed does not, and the profile is rejected with the numbers."""
    spec = {"model": {"uri": "hf://example/big", "precision": "bf16", "footprint": "40Gi"}, "workload": LOAD, "slo": {"itl": "10ms"}}
    done = cycle(b.observed(models=[b.model(spec=spec)], profiles=[profile(entry())], nodes=[b.h100()]))
    status = done.status("ModelDeployment", "m")
    assert b.condition(status, "ProfilesResolved") == ("True", "Resolved", H100)
    assert b.condition(status, "Placed")[:2] == ("False", "SloUnreachable")
    assert b.condition(status, "Ready")[1] == "SloUnreachable"
    (row,) = status["rejected"]
    assert (row["profile"], row["reason"]) == (H100, "SloUnreachable")
    assert "bench" in row["hint"]


def test_a_faulty_entry_is_left_out_and_kept_in_sight() -> None:
    """A published rate of 10 million tokens/s breaks the roofline: planning estimates instead, and the inputs carry the fault."""
    absurd = entry("9999999", model="Qwen/Qwen3-8B", evidence="Published")
    spec = {"model": {"uri": "hf://Qwen/Qwen3-8B", "precision": "bf16"}, "workload": LOAD}
    observed = b.observed(models=[b.model(spec=spec)], profiles=[b.profile(H100, throughput=[absurd])], nodes=[b.h100()])
    inputs = prepare(observed, now=b.NOW)
    assert option(inputs.models["llm/m"]).evidence == "Estimated"
    assert [(item.profile, item.reason, item.ignored) for item in inputs.profile_faults if item.field.startswith("throughput")] == [
        (H100, "RooflineBroken", True)
    ]
    (stored,) = inputs.objects.profiles
    assert stored.spec is not None
    assert len(stored.spec.throughput) == 1


# ---- profiles that go


def test_a_deleted_profile_leaves_its_replicas_alone_and_says_so() -> None:
    """Two vendors serve; the profile of one is deleted: nothing is moved, nothing is added, both replicas count, and status says why."""
    model = b.model("m", {"replicas": 2, "placement": {"spread": {"minVendors": 2}, "profiles": ["sandbox-nvidia", "sandbox-ppu"]}})
    found = children(model)
    nodes = {"sandbox-nvidia": "h100-0", "sandbox-ppu": "ppu-0"}
    pods = tuple(b.replica(found[name], f"pod-{name}", node=node, serving=True) for name, node in nodes.items())
    free = b.model("m", {"replicas": 2}, generation=2)
    observed = b.observed(
        models=[free], profiles=b.profiles("sandbox-nvidia", "sandbox-ascend"), nodes=[H100_NODE, A3_NODE, PPU_NODE],
        pools=[b.pool(name, name) for name in b.SANDBOX], deployments=tuple(found[name] for name in nodes), pods=pods,
    )  # fmt: skip
    done = cycle(observed)
    assert (done.plan.starts, done.plan.stop) == ((), ())
    assert not [act for act in done.actions.deletes if act.kind in ("Pod", "Deployment")]
    assert b.sizes(done.actions) == {found[name].name: 1 for name in nodes}
    status = done.status("ModelDeployment", "m")
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    row = next(item for item in status["placements"] if item["profile"] == "sandbox-ppu")
    assert "HardwareProfile sandbox-ppu does not exist any more" in row["message"]
    gone = next(item for item in status["rejected"] if item["profile"] == "sandbox-ppu")
    assert gone["reason"] == "NoMatchingProfile"


# ---- properties


def test_a_policy_and_a_spec_give_the_question() -> None:
    """What is asked: the stated lengths, the goals in seconds, and the field that makes them necessary."""
    goal = {"ttft": "1500ms", "itl": "50ms"}
    spec = ModelDeploymentSpec.parse({"model": {"uri": "hf://a/b"}, "workload": {"inputTokens": 7}, "slo": goal})
    found = rating.asked(spec, FleetPolicySpec(), None)
    assert found.load is not None
    assert (found.load.input_tokens, found.load.output_tokens, found.because) == (7, 256, "spec.workload")
    assert (found.slo.ttft_s, found.slo.itl_s) == (1.5, 0.05)
    assert found.tokens == 263
