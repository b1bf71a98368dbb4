"""The catalogue against figures from outside: parameters that publishers state, cache sizes worked out by hand, ids known before."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles import catalogue
from hwprofiles.catalogue import CatalogueEntry
from hwprofiles.schema import SchemaError

ENTRIES = catalogue.entries()
OWN = [entry for entry in ENTRIES if entry.same_as is None]
PRECISIONS = {"bf16", "fp16", "fp32", "fp8", "fp4", "awq", "gptq", "w8a8", "w4a16", "int4"}

# Ids and billions of parameters that earlier versions knew (read from the model cards, 2026-11).
BEFORE = {
    "HuggingFaceTB/SmolLM2-135M": 0.135,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 0.135,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 0.362,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1.71,
    "Qwen/Qwen2.5-7B-Instruct": 7.61,
    "Qwen/Qwen2.5-72B-Instruct": 72.7,
    "Qwen/Qwen3-0.6B": 0.6,
    "Qwen/Qwen3-1.7B": 1.7,
    "Qwen/Qwen3-4B": 4.0,
    "Qwen/Qwen3-8B": 8.2,
    "Qwen/Qwen3-14B": 14.8,
    "Qwen/Qwen3-32B": 32.8,
    "Qwen/Qwen3-30B-A3B": 30.5,
    "Qwen/Qwen3-235B-A22B": 235,
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "meta-llama/Llama-3.1-70B-Instruct": 70.6,
    "meta-llama/Llama-3.3-70B-Instruct": 70.6,
    "mistralai/Mistral-7B-Instruct-v0.3": 7.25,
    "deepseek-ai/DeepSeek-V3": 671,
    "deepseek-ai/DeepSeek-R1": 671,
}


def known(model: str) -> CatalogueEntry:
    entry = catalogue.find(model)
    assert entry is not None, model
    return entry


@pytest.mark.parametrize("entry", [entry for entry in OWN if entry.published_params_b], ids=lambda entry: entry.model)
def test_counted_parameters_agree_with_the_published_ones(entry: CatalogueEntry) -> None:
    """Counted from the layers: within 1.5 % of the published figure, 3 % for mixtures of experts (Kimi K2 is stated as "1 trillion")."""
    allowed = 0.03 if entry.shape.experts else 0.015
    assert entry.published_params_b is not None
    assert entry.shape.params_b == pytest.approx(entry.published_params_b, rel=allowed)


@pytest.mark.parametrize("model", sorted(BEFORE))
def test_every_id_of_the_earlier_table_is_there(model: str) -> None:
    assert known(model).shape.params_b == pytest.approx(BEFORE[model], rel=0.015)


@pytest.mark.parametrize(
    ("model", "bytes_per_token"),
    [
        # layers x 2 x key-value heads x head size x 2 bytes, or layers x (latent 512 + rope 64) x 2 bytes
        ("meta-llama/Llama-3.1-8B-Instruct", 32 * 2 * 8 * 128 * 2),
        ("meta-llama/Llama-3.1-70B-Instruct", 80 * 2 * 8 * 128 * 2),
        ("meta-llama/Llama-3.1-405B-Instruct", 126 * 2 * 8 * 128 * 2),
        ("meta-llama/Llama-2-7b-hf", 32 * 2 * 32 * 128 * 2),
        ("Qwen/Qwen2.5-7B-Instruct", 28 * 2 * 4 * 128 * 2),
        ("Qwen/Qwen3-32B", 64 * 2 * 8 * 128 * 2),
        ("Qwen/Qwen3-30B-A3B", 48 * 2 * 4 * 128 * 2),
        ("mistralai/Mistral-Nemo-Instruct-2407", 40 * 2 * 8 * 128 * 2),
        ("zai-org/glm-4-9b-chat", 40 * 2 * 2 * 128 * 2),
        ("deepseek-ai/DeepSeek-V3", 70_272),  # 61 x 576 x 2
        ("moonshotai/Kimi-K2-Instruct", 70_272),
        ("deepseek-ai/DeepSeek-V3.2", 61 * (576 + 128) * 2),  # and the indexer's key
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 12 * 2 * 2 * 256 * 2),  # 12 of 48 layers attend to everything
        ("google/gemma-3-27b-it", 10 * 2 * 16 * 128 * 2),  # 10 of 62
        ("openai/gpt-oss-120b", 18 * 2 * 8 * 64 * 2),  # 18 of 36
        ("BAAI/bge-m3", 0),  # an encoder keeps nothing
    ],
)
def test_cache_per_token_by_hand(model: str, bytes_per_token: int) -> None:
    assert known(model).shape.kv_bytes_per_token() == bytes_per_token


def test_llama_8b_as_everybody_knows_it() -> None:
    assert known("meta-llama/Llama-3.1-8B-Instruct").shape.kv_bytes_per_token() == 131_072


@pytest.mark.parametrize("entry", [entry for entry in OWN if entry.shape.experts], ids=lambda entry: entry.model)
def test_active_parameters_as_published(entry: CatalogueEntry) -> None:
    """A token passes all but the experts that it skips. Publishers count with or without the embedding table and the tower, and round."""
    shape = entry.shape
    skipped = shape.expert_params_b * (1 - shape.experts_per_token / shape.experts)
    most = shape.params_b - skipped
    table = 0.65 + (2.5 if entry.kind == "Vision" else 0)  # the largest here: 248320 x 4096 twice with a tower of 0.6; else 151936 x 4096
    least = most - (1.8 if shape.params_b > 300 else table)
    assert least * 0.93 <= shape.active_params_b <= most * 1.06


def test_enough_models_of_every_kind() -> None:
    """The issue asks for thirty that teams serve today, embedding and vision models among them."""
    kinds = [entry.kind for entry in OWN]
    assert len(OWN) >= 90
    assert kinds.count("Embedding") >= 6
    assert kinds.count("Vision") >= 10
    assert set(kinds) <= set(catalogue.KINDS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.model)
def test_every_entry_is_whole(entry: CatalogueEntry) -> None:
    shape = entry.shape
    assert shape.complete
    assert shape.max_context is not None
    assert entry.precision in PRECISIONS
    assert entry.source.startswith("config.json of ")
    assert len(entry.source) > 30
    assert entry.date == "2026-11"
    assert 0 < shape.active_params_b <= shape.params_b
    assert (shape.experts > 0) == (0 < shape.expert_params_b < shape.params_b)
    assert shape.window_layers + shape.stateless_layers <= (shape.layers or 0)
    assert (shape.window is None) == (shape.window_layers == 0)


def test_quantised_twins_have_the_layers_of_the_model_and_their_own_format() -> None:
    twin, model = known("vllm-ascend/Qwen3-32B-W8A8"), known("Qwen/Qwen3-32B")
    assert twin.shape == model.shape
    assert (twin.precision, model.precision, twin.same_as) == ("w8a8", "bf16", "Qwen/Qwen3-32B")
    assert known("Qwen/Qwen3-30B-A3B-FP8").precision == "fp8"
    assert known("openai/gpt-oss-20b").precision == "fp4"
    assert known("deepseek-ai/DeepSeek-V3").precision == "fp8"


@pytest.mark.parametrize("given_id", ["qwen/qwen3-32b", "QWEN/QWEN3-32B", "Qwen/qwen3-32B"])
def test_letters_may_differ_in_case(given_id: str) -> None:
    found = catalogue.find(given_id)
    assert found is not None
    assert found.model == "Qwen/Qwen3-32B"


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "Qwen3-32B",
        "Qwen/",
        "Qwen/Qwen3-33B",
        "../shipped/x",
        "qwen/../x",
        "nobody/Qwen3-32B",
        "Qwen/Qwen3-32B ",
        "/x",
        "a" * 5000 + "/b",
    ],
)
def test_what_is_not_listed_is_not_found(odd: str) -> None:
    assert catalogue.find(odd) is None


@given(st.text(max_size=60))
def test_no_name_makes_it_fail(name: str) -> None:
    entry = catalogue.find(name)
    assert entry is None or entry.model.lower() == name.lower()


def test_entries_are_sorted_and_each_is_found_under_its_name() -> None:
    names = [entry.model for entry in ENTRIES]
    assert names == sorted(names)
    assert len({name.lower() for name in names}) == len(names)
    for entry in ENTRIES:
        assert catalogue.find(entry.model) == entry


def test_each_model_stands_in_the_file_of_its_publisher() -> None:
    """Otherwise find() would look into the wrong file."""
    for path in sorted(Path(catalogue.MODELS).glob("*.yaml")):
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
        models, aliases = body.get("models") or {}, body.get("aliases") or {}
        listed = [*models, *aliases, *(alias for model in models.values() for alias in model.get("aliases") or {})]
        assert {name.partition("/")[0].lower() for name in listed} == {path.stem}
        assert set(body) <= {"date", "models", "aliases"}
        for model in models.values():
            assert set(model) <= {"kind", "published", "active", "like", "config", "seen", "aliases"}


def test_an_alias_of_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lonely.yaml").write_text('date: "2026-11"\naliases:\n  lonely/x: {model: nobody/y}\n')
    monkeypatch.setattr(catalogue, "MODELS", tmp_path)
    for cached in (catalogue.publishers, catalogue._publisher, catalogue._folded):
        cached.cache_clear()
    try:
        with pytest.raises(SchemaError, match="nobody/y"):
            catalogue.find("lonely/x")
    finally:
        for cached in (catalogue.publishers, catalogue._publisher, catalogue._folded):
            cached.cache_clear()
