"""What a ModelDeployment declares of number formats reaches the check of the pair, and with it the margins of accuracy.md §9."""

from __future__ import annotations

from typing import Any

from polyfleet.clearance.formats import declared
from polyfleet.decide import prepare

from accuracy.policy import Formats, Settings, effective
from tests.unit.operator import builders as b
from tests.unit.operator.test_gate import KEY, World, promote_first, world


def checked(model: dict[str, Any], *variants: dict[str, Any]) -> World:
    w = world(1, reference={"profile": "sandbox-nvidia"})
    spec = {**w.model.spec, "model": {**w.model.spec["model"], **model}, "variants": list(variants)}
    w.model = b.model(spec=spec)
    return w


def formats(w: World) -> dict[str, Formats]:
    view = prepare(w.seen(), now=b.NOW).models[KEY]
    return {option.profile: declared(view, option.profile, option.wanted.variant) for option in view.resolution.options}


def test_the_models_own_words_hold_for_every_pair() -> None:
    found = formats(checked({"kvPrecision": "int8", "activationPrecision": "int8"}))
    assert set(found) == {"sandbox-nvidia", "sandbox-ascend", "sandbox-ppu"}
    assert set(found.values()) == {Formats(kv="int8", activations="int8")}


def test_a_variants_word_is_in_place_of_the_models() -> None:
    """llama.cpp on one vendor rounds activations to int8, the same weights elsewhere are not rounded."""
    own = {"name": "cpp", "match": {"vendors": ["nvidia"]}, "model": {"activationPrecision": "int8", "kvPrecision": "fp8"}}
    found = formats(checked({"kvPrecision": "int8"}, own))
    assert found == {
        "sandbox-nvidia": Formats(kv="fp8", activations="int8"),
        "sandbox-ascend": Formats(kv="int8"),
        "sandbox-ppu": Formats(kv="int8"),
    }


def test_the_check_is_given_them() -> None:
    """The reference rounds activations, the candidate states that it does not: the row of accuracy.md §9 for such an engine, κ 6."""
    own = {"name": "cpp", "match": {"vendors": ["nvidia"]}, "model": {"activationPrecision": "int8"}}
    w = checked({"activationPrecision": "fp16"}, own)
    promote_first(w)
    w.model = b.model(spec={**w.model.spec, "placement": {"profiles": ["sandbox-ascend"]}}, status=w.model.status)
    w.turn()
    w.with_reports()
    (work,) = [item for item in w.checks().work.certify if item.profile == "sandbox-ascend"]
    assert (work.reference_formats, work.candidate_formats) == (Formats(activations="int8"), Formats(activations="fp16"))
    policy = effective(Settings(), reference=work.reference_formats, candidate=work.candidate_formats)
    assert (policy.margins.noise_ratio, policy.margins.floor_kl, policy.declared) == (6.0, 0.002, "activations int8 -> fp16")
