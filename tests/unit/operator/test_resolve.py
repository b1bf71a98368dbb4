"""From a spec to options: which profiles, which engine, which size, and the reason where there is none."""

from __future__ import annotations

from typing import Any

import pytest
from polyfleet.decide import prepare
from polyfleet.inputs import ModelView
from polyfleet.state import CustomState

from tests.unit.operator import builders as b

A3 = "huawei-910c-752"
H100 = "nvidia-h100-sxm"
VOLCANO = b.pool("a3", A3, {"scheduler": "volcano"})


def resolved(model: CustomState, *, pools: tuple[CustomState, ...] = (), profiles: tuple[CustomState, ...] | None = None) -> ModelView:
    observed = b.observed(
        models=[model], profiles=b.profiles(*b.REAL) if profiles is None else profiles, nodes=[b.h100(), b.a3(), b.ppu()], pools=pools
    )
    return prepare(observed).models[model.key]


def sizes(view: ModelView) -> dict[str, int]:
    return {option.profile: option.devices for option in view.resolution.options}


def why_not(view: ModelView, profile: str) -> tuple[str, str, str]:
    found = next(item for item in view.resolution.rejected if item.profile == profile)
    return found.reason, found.message, found.hint


SIZES: dict[str, tuple[dict[str, Any], int]] = {
    # footprint on 910C dies of 64 GiB with 0.9 usable = 57.6 GiB each, under Volcano
    "OC-017 fits one die": ({"footprint": "40Gi"}, 1),
    "OC-019 needs two": ({"footprint": "80Gi"}, 2),
    "exactly two": ({"footprint": "115Gi"}, 2),
    "three would do, four is legal": ({"footprint": "170Gi"}, 4),
    "the whole node": ({"footprint": "900Gi"}, 16),
}


@pytest.mark.parametrize("case", SIZES)
def test_the_smallest_legal_size_that_holds_the_model(case: str) -> None:
    """usable memory of one device x size >= footprint, over the sizes that the pool's scheduler allows."""
    given, size = SIZES[case]
    view = resolved(b.big_model(**given, spec={"placement": {"profiles": [A3]}}), pools=(VOLCANO,))
    assert sizes(view) == {A3: size}


def test_oc_017_choices_give_the_smallest_that_fits() -> None:
    """OC-017: 40 GiB with tensorChoices 1, 2, 4, 8 on an empty node takes 1, never 8."""
    runtime = {"engine": "vllm", "image": "i:v1", "parallelism": {"tensorChoices": [8, 4, 2, 1]}}
    view = resolved(b.big_model(spec={"runtime": runtime, "placement": {"profiles": [A3]}}), pools=(VOLCANO,))
    assert sizes(view) == {A3: 1}


def test_the_default_scheduler_leaves_only_single_dies_and_whole_nodes() -> None:
    """80 GiB need two dies, but the kubelet might pick them from two cards: the whole node is taken instead."""
    assert sizes(resolved(b.big_model(footprint="80Gi", spec={"placement": {"profiles": [A3]}}))) == {A3: 16}


def test_pools_with_different_schedulers_give_different_options() -> None:
    """One profile, two pools: each size names the pools where it is legal."""
    pools = (b.pool("b-default", A3, {"nodeSelector": {"sched": "d"}}), b.pool("a-volcano", A3, {"scheduler": "volcano"}))
    nodes = [b.a3("n1"), b.a3("n2", labels={"sched": "d"})]
    model = b.big_model(footprint="80Gi")
    view = prepare(b.observed(models=[model], profiles=b.profiles(A3), nodes=nodes, pools=pools)).models["llm/m"]
    assert [(option.devices, option.pools) for option in view.resolution.options] == [(16, ("b-default",)), (2, ("a-volcano",))]


def test_oc_020_an_odd_size_is_refused_with_the_allowed_ones() -> None:
    """OC-020: tensor 3 on dies that are taken in pairs."""
    view = resolved(b.big_model(tensor=3, spec={"placement": {"profiles": [A3]}}), pools=(VOLCANO,))
    fault = view.resolution.unresolved
    assert fault is not None
    assert fault.reason == "SizeNotAllowed"
    assert "3 devices" in fault.message
    assert "1, 2, 4, 6, 8" in fault.message


def test_oc_022_a_slice_profile_serves_one_device_only() -> None:
    """OC-022: slices are never combined, so tensor 2 on a profile of slices is no legal size."""
    spec = b.profile(H100, unit={"kind": "slice", "memory": "40Gi"}, allocation={"sizes": [1]}, throughput=[])
    view = resolved(b.big_model(tensor=2), profiles=(spec,))
    assert view.resolution.unresolved is not None
    assert view.resolution.unresolved.reason == "SizeNotAllowed"


UNRESOLVED = {
    "too large for every node": (b.big_model(footprint="4000Gi"), "ModelTooLarge", "4000.0 GiB"),
    "nothing is known of its memory": (
        b.model(spec={"model": {"uri": "hf://who/knows"}, "runtime": {"engine": "vllm", "image": "i:v1"}}),
        "ModelShapeUnknown",
        "polyfleet bench --profile",
    ),
    "a number format that none of the allowed has": (
        b.big_model(spec={"model": {"uri": "hf://example/big", "precision": "fp8"}, "placement": {"profiles": [A3]}}),
        "PrecisionUnsupported",
        "fp8",
    ),
    "several nodes per replica": (
        b.big_model(spec={"runtime": {"engine": "vllm", "image": "i:v1", "parallelism": {"tensor": 8, "span": 2}}}),
        "SizeNotAllowed",
        "span",
    ),
    "the head count does not divide": (
        b.big_model(spec={"model": {"uri": "hf://a/b", "shape": {"paramsB": "70", "heads": 7}}}),
        "ModelTooLarge",
        "GiB",
    ),
}


@pytest.mark.parametrize("case", UNRESOLVED)
def test_a_model_without_an_option_says_why_and_what_to_do(case: str) -> None:
    """ProfilesResolved=False with the reason of the interface, the value at fault and a way out."""
    model, reason, part = UNRESOLVED[case]
    fault = resolved(model).resolution.unresolved
    assert fault is not None
    assert fault.reason == reason
    assert part in fault.message


def test_an_explicit_tensor_needs_no_memory_figure() -> None:
    """Who states the size knows the model; the figure is only needed to choose one."""
    model = b.model(spec={"model": {"uri": "hf://who/knows"}, "runtime": {"engine": "vllm", "image": "i:v1", "parallelism": {"tensor": 2}}})
    assert sizes(resolved(model))[H100] == 2


@pytest.mark.parametrize(("field", "kind", "known"), [("profiles", "UnknownProfile", H100), ("pools", "UnknownPool", "alibaba-ppu-810e")])
def test_unknown_names_list_the_known_ones(field: str, kind: str, known: str) -> None:
    """Accepted=False names the field, the wrong value, what exists and the next command."""
    view = resolved(b.big_model(spec={"placement": {field: ["nope"]}}))
    assert view.accepted is not None
    assert view.accepted.reason == kind
    for part in (f"spec.placement.{field}", "nope", known, "kubectl get"):
        assert part in view.accepted.message


def test_allow_and_exclude_lists() -> None:
    """What the lists leave out is rejected as Excluded, with the list at fault."""
    view = resolved(b.big_model(spec={"placement": {"profiles": [H100, A3], "excludeProfiles": []}}))
    assert sorted(sizes(view)) == sorted([H100, A3])
    assert why_not(view, "alibaba-ppu-810e")[:2] == ("Excluded", "not in spec.placement.profiles")
    view = resolved(b.big_model(spec={"placement": {"excludeProfiles": [H100]}}))
    assert why_not(view, H100)[:2] == ("Excluded", "in spec.placement.excludeProfiles")
    assert H100 not in sizes(view)


def test_variants_override_weights_and_add_arguments() -> None:
    """Profile, then spec, then variant: arguments append, environment merges by name, single values override."""
    engines = {
        "vllm": {"image": "profile:v1", "args": ["--profile"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]},
    }
    spec = {
        "model": {"uri": "hf://example/big", "footprint": "40Gi"},
        "runtime": {"engine": "vllm", "args": ["--user"], "env": [{"name": "B", "value": "2"}]},
        "variants": [
            {
                "name": "w8a8",
                "match": {"vendors": ["huawei"]},
                "model": {"uri": "ms://example/big-w8a8", "precision": "w8a8"},
                "runtime": {"args": ["--variant"], "image": "variant:v1", "env": [{"name": "C", "value": "3"}]},
            }
        ],
    }
    profiles = (b.profile(A3, engines=engines), b.profile(H100, engines=engines))
    options = {option.profile: option for option in resolved(b.model(spec=spec), profiles=profiles).resolution.options}
    ascend, nvidia = options[A3].wanted, options[H100].wanted
    assert ascend.args == ("--profile", "--user", "--variant")
    assert [(item.name, item.value) for item in ascend.env] == [("A", "1"), ("B", "2"), ("C", "3")]
    assert (ascend.variant, ascend.image, ascend.uri, ascend.precision) == ("w8a8", "variant:v1", "ms://example/big-w8a8", "w8a8")
    assert (nvidia.variant, nvidia.image, nvidia.args) == ("default", "profile:v1", ("--profile", "--user"))


def entry(engine: str, rate: str) -> dict[str, Any]:
    return {
        "model": "example/big", "engine": engine, "parallelism": {"tensor": 1}, "outputTokensPerSecond": rate,
        "evidence": "Published", "source": "test", "date": "2026-11",
    }  # fmt: skip


AUTO = {
    "best data wins": ([entry("b-engine", "200"), entry("a-engine", "100")], "b-engine"),
    "a tie goes to the first name": ([entry("b-engine", "100"), entry("a-engine", "100")], "a-engine"),
    "no data: the first name": ([], "a-engine"),
}


@pytest.mark.parametrize("case", AUTO)
def test_engine_auto(case: str) -> None:
    """`auto` takes the engine with the best throughput entry for this model; one without an image is never taken."""
    throughput, engine = AUTO[case]
    engines = {"b-engine": {"image": "b:v1"}, "a-engine": {"image": "a:v1"}, "0-engine": {}}
    profile = b.profile(H100, engines=engines, throughput=throughput)
    spec = {"model": {"uri": "hf://example/big", "footprint": "40Gi"}}
    (option,) = resolved(b.model(spec=spec), profiles=(profile,)).resolution.options
    assert option.wanted.engine == engine


def test_an_engine_that_the_profile_lacks_needs_an_image() -> None:
    """Without an image the rejection lists the profile's engines; with one the user's engine runs."""
    spec = {"model": {"uri": "hf://example/big", "footprint": "40Gi"}, "runtime": {"engine": "mine"}}
    view = resolved(b.model(spec=spec), profiles=(b.profile(H100, engines={"vllm": {"image": "i:v1"}}),))
    reason, message, hint = why_not(view, H100)
    assert (reason, "vllm" in message, "runtime.image" in hint) == ("EngineMissing", True, True)
    spec["runtime"] = {"engine": "mine", "image": "mine:v1"}
    assert sizes(resolved(b.model(spec=spec), profiles=(b.profile(H100),))) == {H100: 1}


def test_oc_033_the_footprint_is_keyed_by_the_engines_version() -> None:
    """OC-033: 70 GiB under version A fits one device of 72 usable, 75 GiB under version B takes two."""
    throughput = [
        {**entry("vllm", "1"), "engineVersion": version, "footprint": footprint} for version, footprint in (("A", "70Gi"), ("B", "75Gi"))
    ]
    for version, size in (("A", 1), ("B", 2)):
        engines = {"vllm": {"image": "i:v1", "version": version}}
        unit = {"kind": "card", "perNode": 8, "memory": "80Gi", "usableFraction": "0.9"}
        profile = b.profile(H100, engines=engines, throughput=throughput, unit=unit)
        spec = {"model": {"uri": "hf://example/big"}, "runtime": {"parallelism": {"tensorChoices": [1, 2]}}}
        assert sizes(resolved(b.model(spec=spec), profiles=(profile,))) == {H100: size}


RULES: dict[str, tuple[dict[str, Any], str]] = {
    "both sizes": ({"replicas": 1, "scaling": {"maxReplicas": 2}}, "use replicas for a fixed size"),
    "external without a first value": ({"scaling": {"maxReplicas": 2, "mode": "External"}}, "first value in replicas"),
    "more vendors than replicas": ({"placement": {"spread": {"minVendors": 3}}}, "minVendors 3"),
    "OC-090 minimum over maximum": ({"scaling": {"minReplicas": 5, "maxReplicas": 2}}, "minReplicas 5 must not exceed maxReplicas 2"),
    "zero without a rule for it": ({"scaling": {"minReplicas": 0, "maxReplicas": 2}}, "minReplicas 0 needs a scaleToZero block"),
    "a rule for zero and a minimum": ({"scaling": {"maxReplicas": 2, "scaleToZero": {}}}, "scaleToZero needs minReplicas 0, it is 1"),
    "asleep too soon": (
        {"scaling": {"minReplicas": 0, "maxReplicas": 2, "scaleToZero": {"idleAfter": "1m"}}},
        "idleAfter 1m must be at least 10m",
    ),
    "a metric without a target": ({"scaling": {"maxReplicas": 2, "metric": "InFlight"}}, "metric InFlight needs targetPerReplica"),
    "a target of nothing": (
        {"scaling": {"maxReplicas": 2, "metric": "InFlight", "targetPerReplica": "0"}},
        'targetPerReplica "0" must be above 0',
    ),
    "a fallback over the maximum": (
        {"scaling": {"maxReplicas": 2, "fallback": {"replicas": 9}}},
        "fallback.replicas 9 must not exceed maxReplicas 2",
    ),
    "allowed and excluded": ({"placement": {"profiles": [H100], "excludeProfiles": [H100]}}, "both allowed and excluded"),
    "two kinds of tensor": ({"runtime": {"parallelism": {"tensor": 1, "tensorChoices": [1]}}}, "not both"),
    "a variant for nothing": ({"variants": [{"name": "v", "match": {}}]}, "vendors or profiles"),
    "visible devices by hand": ({"runtime": {"env": [{"name": "CUDA_VISIBLE_DEVICES", "value": "0"}]}}, "CUDA_VISIBLE_DEVICES"),
    "unknown field": ({"replicsa": 1}, "replicsa"),
    "wrong type": ({"runtime": {"parallelism": {"tensor": "four"}}}, "tensor"),
}


@pytest.mark.parametrize("case", RULES)
def test_an_object_from_before_the_rules_is_not_accepted(case: str) -> None:
    """What the API server would refuse today: Accepted=False (InvalidSpec), nothing is planned for it."""
    spec, part = RULES[case]
    observed = b.observed(models=[b.model(spec=spec)], profiles=b.profiles(*b.REAL), nodes=[b.h100()])
    view = prepare(observed).models["llm/m"]
    assert view.accepted is not None
    assert view.accepted.reason == "InvalidSpec"
    assert part in view.accepted.message
    assert (view.hold, view.target) == (True, 0)


def test_oc_090_all_faults_are_told_at_once() -> None:
    """OC-090: min 5 over max 2 and tensor 3 on 910C only: both in one message."""
    spec = {"scaling": {"minReplicas": 5, "maxReplicas": 2}, "runtime": {"engine": "vllm", "image": "i:v1", "parallelism": {"tensor": 3}}}
    view = resolved(b.big_model(spec={**spec, "placement": {"profiles": [A3]}}), pools=(VOLCANO,))
    assert view.accepted is not None
    assert "minReplicas 5" in view.accepted.message
    assert "3 devices" in view.accepted.message


TARGETS: dict[str, tuple[dict[str, Any], int]] = {
    "nothing said": ({}, 1),
    "replicas": ({"replicas": 3}, 3),
    "zero": ({"replicas": 0}, 0),
    "scaling: the minimum": ({"scaling": {"minReplicas": 2, "maxReplicas": 9}}, 2),
    "scaling to zero waits for load to be known": ({"scaling": {"minReplicas": 0, "maxReplicas": 9, "scaleToZero": {}}}, 1),
    "external, clamped": ({"replicas": 20, "scaling": {"maxReplicas": 9, "mode": "External"}}, 9),
    "advice": ({"replicas": 4, "scaling": {"maxReplicas": 9, "mode": "Advise"}}, 4),
    "suspended": ({"replicas": 3, "suspend": True}, 0),
}


@pytest.mark.parametrize("case", TARGETS)
def test_how_many_replicas_are_wanted(case: str) -> None:
    """`replicas: n` is exactly n; without any size one; with scaling the minimum, and never none by an unknown load."""
    spec, target = TARGETS[case]
    assert resolved(b.big_model(spec=spec)).target == target
